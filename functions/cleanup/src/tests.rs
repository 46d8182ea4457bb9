//! What the cleanup deletes, what it keeps, and where it continues.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use test_support::{
    Effect, Intercepted, Interceptor, ManualClock, MemoryDeliveries, MemorySubscriptions, sample,
};
use webhooks_core::delivery::Status;
use webhooks_core::ids::SubscriptionId;
use webhooks_core::ports::{
    CleanupState as _, Deliveries as _, Expect, Statistics as _, StoreError, Subscriptions as _,
};
use webhooks_core::statistics::Counts;
use webhooks_core::subscription::Subscription;

use crate::{Cleanup, Error, Report, Request};

const DAY: u64 = 24 * 3600;

struct Harness {
    subscriptions: MemorySubscriptions,
    deliveries: MemoryDeliveries,
    cleanup: Cleanup,
}

impl Harness {
    fn at_day(day: u64) -> Self {
        let clock = ManualClock::at(sample::at(day * DAY));
        let subscriptions = MemorySubscriptions::default();
        // The store's own expiry must not hide what the cleanup is to find.
        let start = ManualClock::at(sample::start());
        let deliveries = MemoryDeliveries::new(Arc::new(start));
        let cleanup = Cleanup::new(
            Arc::new(subscriptions.clone()),
            Arc::new(deliveries.clone()),
            Arc::new(clock),
            30,
        );
        Self { subscriptions, deliveries, cleanup }
    }

    async fn subscribe(&self, user: &str, n: u64) -> Subscription {
        let subscription = sample::subscription(user, n);
        self.subscriptions.create(&subscription).await.unwrap();
        subscription
    }

    async fn delivery(&self, id: &SubscriptionId, second: u64, status: Status) {
        let mut delivery = sample::delivery(id, second);
        if status == Status::Retrying {
            delivery.wait(sample::at(second), sample::at(second), sample::at(second));
        } else {
            delivery.end(status, sample::at(second));
        }
        self.deliveries.put(&delivery, Expect::Absent).await.unwrap();
        let counts = Counts { total: 1, success: 1, failed: 0, ..Counts::default() };
        let hour = sample::at(second).hour();
        let addition = sample::addition(counts, sample::at(second));
        self.deliveries.count(id, hour, &addition).await.unwrap();
    }

    async fn rows(&self, id: &SubscriptionId) -> usize {
        self.deliveries.all_keys(id, 10_000).await.unwrap().len()
    }

    async fn run(&self, days: Option<u32>) -> Report {
        let deadline = sample::at(1000 * DAY);
        self.cleanup.handle(Request { days }, deadline).await.unwrap()
    }
}

#[tokio::test]
async fn row_older_than_the_retention_is_deleted() {
    let harness = Harness::at_day(31);
    let kept = harness.subscribe("u", 1).await.id;
    harness.delivery(&kept, 0, Status::Success).await;
    harness.delivery(&kept, 1, Status::Retrying).await;
    harness.delivery(&kept, DAY + 1, Status::Failed).await;
    let report = harness.run(None).await;
    // One record and the counters of its hour; what still waits stays, and so does what is young.
    assert_eq!(report, Report { deleted: 2, subscriptions: 1, finished: true });
    assert_eq!(harness.rows(&kept).await, 3);
    assert_eq!(harness.run(Some(29)).await.deleted, 2);
    assert_eq!(harness.run(Some(29)).await.deleted, 0);
}

#[tokio::test]
async fn deleted_subscription_loses_all_rows() {
    let harness = Harness::at_day(1);
    let Subscription { user_id, id, .. } = harness.subscribe("u", 1).await;
    harness.delivery(&id, 1, Status::Success).await;
    harness.delivery(&id, 2, Status::Retrying).await;
    harness.subscriptions.delete(&user_id, &id).await.unwrap();
    assert!(harness.run(None).await.finished);
    assert_eq!(harness.rows(&id).await, 0);
    assert!(harness.subscriptions.scan_keys(10, None).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn unfinished_run_is_continued_by_the_next() {
    let harness = Harness::at_day(40);
    for n in 1..=5 {
        let id = harness.subscribe("u", n).await.id;
        harness.delivery(&id, 1, Status::Success).await;
    }
    let past = sample::start();
    let stopped = harness.cleanup.handle(Request::default(), past).await.unwrap();
    assert_eq!(stopped, Report { deleted: 0, subscriptions: 0, finished: false });
    let report = harness.run(None).await;
    assert_eq!(report, Report { deleted: 10, subscriptions: 5, finished: true });
}

/// Lets one call of a name fail, by its number.
struct FailsOnce {
    call: &'static str,
    number: u32,
    calls: AtomicU32,
}

#[async_trait]
impl Interceptor for FailsOnce {
    async fn before(&self, call: &'static str) -> Result<Effect, StoreError> {
        if call == self.call && self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.number {
            return Err(StoreError::Unavailable("throttled".into()));
        }
        Ok(Effect::Done)
    }
}

#[tokio::test]
async fn failed_run_saves_its_position() {
    let mut harness = Harness::at_day(40);
    for n in 1..=3 {
        let id = harness.subscribe("u", n).await.id;
        harness.delivery(&id, 1, Status::Success).await;
    }
    let fails = FailsOnce { call: "cleanup_state.delete", number: 3, calls: AtomicU32::new(0) };
    harness.cleanup.state = Arc::new(Intercepted::new(harness.deliveries.clone(), fails));
    let failed = harness.cleanup.handle(Request::default(), sample::at(1000 * DAY)).await;
    assert!(matches!(failed, Err(Error::Store(_))));
    assert_eq!(harness.run(None).await, Report { deleted: 2, subscriptions: 1, finished: true });
}

#[tokio::test]
async fn saved_position_is_continued() {
    let harness = Harness::at_day(40);
    for n in 1..=3 {
        let id = harness.subscribe("u", n).await.id;
        harness.delivery(&id, 1, Status::Success).await;
    }
    let first = harness.subscriptions.scan_keys(1, None).await.unwrap().items.remove(0);
    harness.deliveries.set_position(Some(&first)).await.unwrap();
    assert_eq!(harness.run(None).await.subscriptions, 2);
    assert_eq!(harness.deliveries.position().await.unwrap(), None);
    assert_eq!(harness.run(None).await.subscriptions, 3, "the run after that starts anew");
}

#[tokio::test]
async fn invalid_retention_is_refused() {
    let harness = Harness::at_day(1);
    let refused = harness.cleanup.handle(Request { days: Some(3651) }, sample::start()).await;
    assert!(matches!(refused, Err(Error::Days)));
}
