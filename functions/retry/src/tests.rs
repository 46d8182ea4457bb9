//! What the retry function sends, and what it leaves alone.

use std::sync::Arc;

use test_support::{Failing, Intercepted, ManualClock, MemoryDeliveries, MemoryTaskQueue, sample};
use webhooks_core::delivery::Delivery;
use webhooks_core::ids::DeliveryId;
use webhooks_core::ports::{Consistency, Deliveries as _, Expect};

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
        let retry = Retry {
            due_index: Arc::new(deliveries.clone()),
            queue: Arc::new(queue.clone()),
            clock: Arc::new(clock.clone()),
        };
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
            .map(|outgoing| (outgoing.task.key().1.clone(), outgoing.delay.as_secs()))
            .collect();
        sent.sort_by_key(|(_, delay)| *delay);
        (report, sent)
    }
}

#[tokio::test]
async fn rows_due_within_the_look_ahead_are_sent_to_the_second() {
    let world = Harness::new();
    let soon = world.waits(1, NOW + 1).await;
    let last = world.waits(2, NOW + LOOK_AHEAD_SECONDS).await;
    world.waits(3, NOW + LOOK_AHEAD_SECONDS + 1).await;
    let (report, sent) = world.run().await;
    assert_eq!(sent, [(soon.id, 1), (last.id, 660)]);
    assert_eq!(report, Report { sent: 2, sent_again: 0, refused: 0 });
}

#[tokio::test]
async fn row_due_between_a_run_and_a_late_one_after_a_failed_one_is_sent_on_time() {
    let world = Harness::new();
    for due in 1..=2 * PERIOD_SECONDS + 60 {
        world.waits(due, NOW + due).await;
    }
    let (_, sent) = world.run().await;
    // The next run fails, and the one after that begins a minute late.
    assert_eq!(sent.len() as u64, 2 * PERIOD_SECONDS + 60);
}

#[tokio::test]
async fn what_was_just_sent_is_left_alone_and_what_was_lost_is_sent_again_once() {
    let world = Harness::new();
    world.waits(1, NOW).await;
    world.waits(2, NOW - GRACE_SECONDS + 1).await;
    let lost = world.waits(3, NOW - GRACE_SECONDS).await;
    let (report, sent) = world.run().await;
    assert_eq!(sent, [(lost.id.clone(), 0)]);
    assert_eq!(report, Report { sent: 0, sent_again: 1, refused: 0 });

    // Its moment is the same; only the index was told that it has been seen to.
    let stored = world.deliveries.get(&lost.subscription_id, &lost.id, Consistency::Strong);
    let stored = stored.await.unwrap().unwrap();
    assert_eq!((stored.next_retry_at, stored.due_at), (lost.next_retry_at, Some(sample::at(NOW))));
    assert!(!world.run().await.1.iter().any(|(id, _)| *id == lost.id));

    // Lost once more: again after the grace.
    world.clock.set(sample::at(NOW + GRACE_SECONDS));
    assert_eq!(world.run().await.0.sent_again, 3);
}

#[tokio::test]
async fn a_refused_task_is_sent_by_a_later_run() {
    let mut world = Harness::new();
    world.waits(1, NOW + 1).await;
    let lost = world.waits(2, NOW - GRACE_SECONDS).await;
    world.queue.refuse_all();
    let (report, sent) = world.run().await;
    assert_eq!((report, sent), (Report { sent: 0, sent_again: 0, refused: 2 }, vec![]));
    let (queue, full) = (MemoryTaskQueue::default(), world.queue);
    world.retry.queue = Arc::new(queue.clone());
    world.queue = queue;
    assert_eq!(full.take(), []);
    assert_eq!(world.run().await.0, Report { sent: 1, sent_again: 0, refused: 0 });
    world.clock.set(sample::at(NOW + GRACE_SECONDS));
    assert!(world.run().await.1.iter().any(|(id, _)| *id == lost.id));
}

#[tokio::test]
async fn while_rows_cannot_be_moved_no_run_adds_to_the_backlog() {
    let mut world = Harness::new();
    let soon = world.waits(1, NOW + 1).await;
    let lost = world.waits(2, NOW - GRACE_SECONDS).await;
    let failing = Failing::call("due_index.postpone");
    world.retry.due_index = Arc::new(Intercepted::new(world.deliveries.clone(), failing.clone()));
    assert!(world.retry.handle().await.is_err());
    let sent: Vec<_> = world.queue.take().iter().map(|one| one.task.key().1.clone()).collect();
    assert!(!sent.contains(&lost.id), "{sent:?}");
    failing.stop();
    let (report, sent) = world.run().await;
    assert_eq!(report, Report { sent: 1, sent_again: 1, refused: 0 });
    assert_eq!(sent, [(lost.id, 0), (soon.id, 1)]);
}

#[tokio::test]
async fn a_thousand_rows_are_all_sent() {
    let world = Harness::new();
    for n in 0..1000 {
        world.waits(n, NOW + 1 + n % 300).await;
    }
    let (report, sent) = world.run().await;
    assert_eq!((report.sent, sent.len()), (1000, 1000));
}
