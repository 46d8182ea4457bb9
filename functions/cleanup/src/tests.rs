//! What the cleanup deletes, what it keeps, and where it continues.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use test_support::{
    Effect, Intercepted, Interceptor, ManualClock, MemoryDeliveries, MemorySubscriptions,
    SeededRandom, sample,
};
use webhooks_aws::Sealer;
use webhooks_core::delivery::Status;
use webhooks_core::ids::SubscriptionId;
use webhooks_core::ports::{
    CleanupState as _, Deliveries as _, Expect, Statistics as _, StoreError, Subscriptions as _,
};
use webhooks_core::secret::{Secret, SecretSealer as _, SubscriptionSecrets};
use webhooks_core::statistics::Counts;
use webhooks_core::subscription::Subscription;

use crate::{Cleanup, Error, Report, Request, Reseal, ResealReport, ResealRequest};

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
        self.cleanup.handle(Request { days, ..Request::default() }, deadline).await.unwrap()
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
    let refused = harness
        .cleanup
        .handle(Request { days: Some(3651), ..Request::default() }, sample::start())
        .await;
    assert!(matches!(refused, Err(Error::Days)));
}

/// Three webhooks whose secrets are sealed with the key `old`, and a deleted one.
async fn sealed_with_an_old_key() -> MemorySubscriptions {
    let store = MemorySubscriptions::default();
    let old = sealer(&[("old", 1)]);
    for n in 1..=4 {
        let mut subscription = sample::subscription("u1", n);
        let key = Secret::from_random(&[9; 32]).into();
        subscription.secrets =
            SubscriptionSecrets::new(old.seal(&key, &subscription.user_id, &subscription.id));
        store.create(&subscription).await.unwrap();
        if n == 4 {
            store.delete(&subscription.user_id, &subscription.id).await.unwrap();
        }
    }
    store
}

fn sealer(keys: &[(&str, u8)]) -> Sealer {
    let all = keys.iter().map(|(id, byte)| ((*id).to_owned(), [*byte; 32]));
    Sealer::from_keys(keys[0].0, all, Arc::new(SeededRandom::new(1))).unwrap()
}

async fn reseal(store: &MemorySubscriptions, request: Value, now: u64) -> ResealReport {
    let keys = Arc::new(sealer(&[("new", 2), ("old", 1)]));
    let clock = Arc::new(ManualClock::at(sample::at(now)));
    let reseal = Reseal::new(Arc::new(store.clone()), keys, clock);
    let request: Request = serde_json::from_value(json!({ "reseal": request })).unwrap();
    reseal.handle(request.reseal.unwrap(), sample::at(10)).await.unwrap()
}

#[tokio::test]
async fn resealing_moves_every_secret_to_the_current_key() {
    let store = sealed_with_an_old_key().await;
    let counted = reseal(&store, json!({ "dry_run": true }), 0).await;
    assert_eq!((counted.subscriptions, counted.resealed), (3, 0));
    assert_eq!(counted.secrets_by_key, [("old".to_owned(), 3)].into());
    let first = reseal(&store, json!({}), 0).await;
    assert_eq!((first.subscriptions, first.resealed, first.next), (3, 3, None));
    assert_eq!(first.secrets_by_key, [("new".to_owned(), 3)].into());
    let second = reseal(&store, json!({}), 0).await;
    assert_eq!((second.subscriptions, second.resealed), (3, 0));
}

#[tokio::test]
async fn resealing_continues_where_the_time_ran_out() {
    let store = sealed_with_an_old_key().await;
    assert_eq!(reseal(&store, json!({}), 10).await, ResealReport::default());
    let second = sample::subscription("u1", 2).id;
    let after = json!({ "after": { "user_id": "u1", "subscription_id": second } });
    let rest = reseal(&store, after, 0).await;
    assert_eq!((rest.subscriptions, rest.resealed), (1, 1));
}

#[test]
fn unknown_field_of_a_reseal_request_is_refused() {
    let refused = serde_json::from_value::<ResealRequest>(json!({ "dryrun": true }));
    assert!(refused.unwrap_err().to_string().contains("dryrun"));
}
