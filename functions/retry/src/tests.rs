//! What the retry function sends, and what it leaves alone.

use std::sync::Arc;

use test_support::{Failing, Intercepted, ManualClock, MemoryDeliveries, MemoryTaskQueue, sample};
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::ids::DeliveryId;
use webhooks_core::ports::{Consistency, Deliveries as _, Expect, Statistics as _};
use webhooks_core::statistics::{Addition, Counts};

use crate::{GRACE_SECONDS, LOOK_AHEAD_SECONDS, PERIOD_SECONDS, Report, Retry};

const NOW: u64 = 100_000;

struct Harness {
    clock: ManualClock,
    deliveries: MemoryDeliveries,
    queue: MemoryTaskQueue,
    retry: Retry,
}

impl Harness {
    fn new() -> Self {
        let clock = ManualClock::at(sample::at(NOW));
        let deliveries = MemoryDeliveries::new(Arc::new(clock.clone()));
        let queue = MemoryTaskQueue::default();
        let store = Arc::new(deliveries.clone());
        let retry = Retry::new(
            store.clone(),
            store.clone(),
            store,
            Arc::new(queue.clone()),
            Arc::new(clock.clone()),
        );
        Self { clock, deliveries, queue, retry }
    }

    async fn waits(&self, n: u64, due: u64) -> Delivery {
        let mut delivery = sample::delivery(&sample::subscription_id("u", 1), n);
        delivery.wait(sample::at(due), sample::at(due), sample::at(n));
        self.deliveries.put(&delivery, Expect::Absent).await.unwrap();
        delivery
    }

    async fn run(&self) -> (Report, Vec<(DeliveryId, u64)>) {
        let report = self.retry.handle().await.unwrap();
        let mut sent: Vec<_> = self
            .queue
            .take()
            .into_iter()
            .map(|outgoing| {
                (outgoing.task.delivery_id().unwrap().clone(), outgoing.delay.as_secs())
            })
            .collect();
        sent.sort_by_key(|(_, delay)| *delay);
        (report, sent)
    }
}

#[tokio::test]
async fn rows_due_within_the_look_ahead_are_sent_with_an_exact_delay() {
    let harness = Harness::new();
    let soon = harness.waits(1, NOW + 1).await;
    let last = harness.waits(2, NOW + LOOK_AHEAD_SECONDS).await;
    harness.waits(3, NOW + LOOK_AHEAD_SECONDS + 1).await;
    let (report, sent) = harness.run().await;
    assert_eq!(sent, [(soon.id, 1), (last.id, 660)]);
    assert_eq!(report, Report { sent: 2, ..Report::default() });
}

#[tokio::test]
async fn row_due_during_a_failed_and_a_late_run_is_sent_on_time() {
    let harness = Harness::new();
    for due in 1..=2 * PERIOD_SECONDS + 60 {
        harness.waits(due, NOW + due).await;
    }
    let (_, sent) = harness.run().await;
    // The next run fails, and the one after that begins a minute late.
    assert_eq!(sent.len() as u64, 2 * PERIOD_SECONDS + 60);
}

#[tokio::test]
async fn recently_sent_row_is_skipped_and_lost_row_is_sent_once() {
    let harness = Harness::new();
    harness.waits(1, NOW).await;
    harness.waits(2, NOW - GRACE_SECONDS + 1).await;
    let lost = harness.waits(3, NOW - GRACE_SECONDS).await;
    let (report, sent) = harness.run().await;
    assert_eq!(sent, [(lost.id.clone(), 0)]);
    assert_eq!(report, Report { sent_again: 1, ..Report::default() });

    // The time of the retry is unchanged; only its place in the index has moved.
    let stored = harness.deliveries.get(&lost.subscription_id, &lost.id, Consistency::Strong);
    let stored = stored.await.unwrap().unwrap();
    assert_eq!((stored.next_retry_at, stored.due_at), (lost.next_retry_at, Some(sample::at(NOW))));
    assert!(!harness.run().await.1.iter().any(|(id, _)| *id == lost.id));

    // Lost once more: again after the grace.
    harness.clock.set(sample::at(NOW + GRACE_SECONDS));
    assert_eq!(harness.run().await.0.sent_again, 3);
}

#[tokio::test]
async fn refused_task_is_sent_by_a_later_run() {
    let mut harness = Harness::new();
    harness.waits(1, NOW + 1).await;
    let lost = harness.waits(2, NOW - GRACE_SECONDS).await;
    harness.queue.refuse_all();
    let (report, sent) = harness.run().await;
    assert_eq!((report, sent), (Report { refused: 2, ..Report::default() }, vec![]));
    let (queue, full) = (MemoryTaskQueue::default(), harness.queue);
    harness.retry.queue = Arc::new(queue.clone());
    harness.queue = queue;
    assert_eq!(full.take(), []);
    assert_eq!(harness.run().await.0, Report { sent: 1, ..Report::default() });
    harness.clock.set(sample::at(NOW + GRACE_SECONDS));
    assert!(harness.run().await.1.iter().any(|(id, _)| *id == lost.id));
}

#[tokio::test]
async fn unwritable_rows_are_not_sent_again_by_each_run() {
    let mut harness = Harness::new();
    let soon = harness.waits(1, NOW + 1).await;
    let lost = harness.waits(2, NOW - GRACE_SECONDS).await;
    let failing = Failing::call("due_index.postpone");
    harness.retry.due_index =
        Arc::new(Intercepted::new(harness.deliveries.clone(), failing.clone()));
    assert!(harness.retry.handle().await.is_err());
    let sent: Vec<_> =
        harness.queue.take().iter().map(|one| one.task.delivery_id().unwrap().clone()).collect();
    assert!(!sent.contains(&lost.id), "{sent:?}");
    failing.stop();
    let (report, sent) = harness.run().await;
    assert_eq!(report, Report { sent: 1, sent_again: 1, ..Report::default() });
    assert_eq!(sent, [(lost.id, 0), (soon.id, 1)]);
}

#[tokio::test]
async fn thousand_rows_are_all_sent() {
    let harness = Harness::new();
    for n in 0..1000 {
        harness.waits(n, NOW + 1 + n % 300).await;
    }
    let (report, sent) = harness.run().await;
    assert_eq!((report.sent, sent.len()), (1000, 1000));
}

/// A success that was recorded at this moment.
async fn recorded(harness: &Harness, n: u64, at: u64) -> Delivery {
    let mut delivery = sample::delivery(&sample::subscription_id("u", 1), n);
    delivery.attempts.push(sample::attempt(n));
    delivery.end(Status::Success, sample::at(at));
    harness.deliveries.put(&delivery, Expect::Absent).await.unwrap();
    delivery
}

/// Puts the hour of a delivery into the due index, with no counts.
async fn asks_for_recount(harness: &Harness, of: &Delivery) {
    let addition = Addition {
        recount_at: Some(sample::at(NOW)),
        ..sample::addition(Counts::default(), of.updated_at)
    };
    let (id, hour) = (&of.subscription_id, of.created_at().hour());
    harness.deliveries.count(id, hour, &addition).await.unwrap();
}

async fn counted(harness: &Harness, of: &Delivery) -> Counts {
    let hour = of.created_at().hour();
    harness.deliveries.hour(&of.subscription_id, hour).await.unwrap().unwrap().counts
}

#[tokio::test]
async fn hour_that_was_left_alone_is_counted_from_its_records() {
    let harness = Harness::new();
    let first = recorded(&harness, 1, NOW - 500).await;
    let second = recorded(&harness, 2, NOW - 500).await;
    recorded(&harness, 3_700, NOW - 500).await;
    asks_for_recount(&harness, &first).await;
    let (report, sent) = harness.run().await;
    assert_eq!((report.recounted, sent), (1, vec![]));
    let mut expected = Counts::of(&first);
    expected.add(Counts::of(&second));
    assert_eq!((expected.total, expected.success, expected.attempts), (2, 2, 2));
    assert_eq!(counted(&harness, &first).await, expected);
    assert_eq!(harness.deliveries.first_recount(), None);
}

#[tokio::test]
async fn hour_with_a_recent_change_waits_for_a_later_run() {
    let harness = Harness::new();
    let first = recorded(&harness, 1, NOW - 500).await;
    recorded(&harness, 2, NOW - 119).await;
    asks_for_recount(&harness, &first).await;
    assert_eq!(harness.run().await.0.recounted, 0);
    assert_eq!(counted(&harness, &first).await, Counts::default());
    let next = harness.deliveries.first_recount().unwrap();
    harness.clock.set(next);
    assert_eq!(harness.run().await.0.recounted, 1);
    assert_eq!(counted(&harness, &first).await.total, 2);
}

#[tokio::test]
async fn erased_records_stay_counted() {
    let harness = Harness::new();
    let first = recorded(&harness, 1, NOW - 500).await;
    let counts = Counts { total: 3, success: 3, ..Counts::default() };
    let addition = sample::addition(counts, first.updated_at);
    let (id, hour) = (&first.subscription_id, first.created_at().hour());
    harness.deliveries.count(id, hour, &addition).await.unwrap();
    asks_for_recount(&harness, &first).await;
    harness.run().await;
    assert_eq!(counted(&harness, &first).await, counts);
    assert_eq!(harness.deliveries.first_recount(), None);
}
