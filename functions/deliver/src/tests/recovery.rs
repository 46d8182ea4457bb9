//! Pages of a recovery.

use std::time::Duration;

use test_support::sample;
use webhooks_core::breaker::OPEN_AFTER_FAILURES;
use webhooks_core::delivery::{Delivery, DeliveryTask, NewDelivery, Status, Trigger};
use webhooks_core::ids::RecoveryId;
use webhooks_core::ports::{Deliveries as _, Expect, Recoveries as _, Subscriptions as _};
use webhooks_core::recovery::{Recovery, RecoveryStatus, Selection};

use super::{Came, Harness, RETENTION};

/// Redeliveries of a page.
const PAGE: usize = 2;

impl Harness {
    async fn failed(&self, n: u64) -> Delivery {
        let mut delivery = sample::delivery(&self.subscription.id, n);
        delivery.end(Status::Failed, sample::at(n));
        self.deliveries.put(&delivery, Expect::Absent).await.unwrap();
        delivery
    }

    /// Has a recovery of what failed in the first 50 seconds; it is 100 now.
    async fn recovery(&self) -> Recovery {
        let selection = Selection {
            since: sample::at(0),
            until: sample::at(50),
            status: Status::Failed,
            event_types: Vec::new(),
            ended_since: None,
        };
        let id = RecoveryId::new(sample::at(100), [7; 10]);
        let recovery = Recovery::new(id, &self.subscription, selection, RETENTION);
        self.deliveries.create_recovery(&recovery).await.unwrap();
        recovery
    }

    fn stored(&self) -> Recovery {
        self.deliveries.all_recoveries().remove(0)
    }

    fn page(&self, page: Option<u32>) -> DeliveryTask {
        let (subscription_id, recovery_id) = (self.subscription.id.clone(), self.stored().id);
        DeliveryTask::RecoveryPage { subscription_id, recovery_id, page }
    }

    /// The redeliveries and the page that a page sent.
    fn sent(&self) -> (Vec<NewDelivery>, Option<u32>) {
        let (mut redeliveries, mut next) = (Vec::new(), None);
        for outgoing in self.queue.take() {
            match outgoing.task {
                DeliveryTask::FirstAttempt(new) => redeliveries.push(new),
                DeliveryTask::RecoveryPage { page, .. } => {
                    assert_eq!(outgoing.delay, Duration::from_secs(1));
                    next = page;
                }
                other => panic!("{other:?}"),
            }
        }
        (redeliveries, next)
    }
}

fn originals(redeliveries: &[NewDelivery]) -> Vec<&webhooks_core::ids::DeliveryId> {
    redeliveries.iter().filter_map(|new| new.redelivery_of.as_ref()).collect()
}

async fn harness() -> Harness {
    let mut harness = Harness::new().await;
    harness.deliver = harness.deliver.with_recovery_page(PAGE);
    harness
}

#[tokio::test]
async fn pages_redeliver_what_failed_oldest_first_until_none_is_left() {
    let harness = harness().await;
    let mut all = Vec::new();
    for n in [3, 1, 2] {
        all.push(harness.failed(n).await);
    }
    harness.failed(60).await;
    all.sort_by_key(|delivery| delivery.id.clone());
    let recovery = harness.recovery().await;

    assert_eq!(harness.run(&harness.page(Some(0))).await, Came::Acknowledged);
    let (first, next) = harness.sent();
    assert_eq!(originals(&first), [&all[0].id, &all[1].id]);
    assert_eq!((next, harness.stored().page, harness.stored().sent), (Some(1), 1, 2));

    assert_eq!(harness.run(&harness.page(Some(1))).await, Came::Acknowledged);
    let (second, next) = harness.sent();
    assert_eq!(originals(&second), [&all[2].id]);
    let stored = harness.stored();
    assert_eq!((next, stored.status, stored.sent), (None, RecoveryStatus::Done, 3));
    assert_eq!((stored.due_at, harness.waiting().await), (None, 0));

    let new = &second[0];
    assert_eq!((new.trigger, new.delivery_id.moment()), (Trigger::Recovery, recovery.created_at()));
    let record = Delivery::new(new, sample::at(100), sample::at(100));
    assert_eq!((record.message_id(), record.body()), (all[2].message_id(), all[2].body()));
    assert_eq!(harness.run(&DeliveryTask::FirstAttempt(new.clone())).await, Came::Acknowledged);
    let outcomes = harness.deliveries.outcomes(&recovery.subscription_id, recovery.created_at());
    assert_eq!(outcomes.await.unwrap().succeeded, 1);
}

#[tokio::test]
async fn page_whose_message_comes_twice_is_sent_once() {
    let harness = harness().await;
    for n in 1..=3 {
        harness.failed(n).await;
    }
    harness.recovery().await;
    let page = harness.page(Some(0));
    harness.run(&page).await;
    harness.sent();
    assert_eq!(harness.run(&page).await, Came::Acknowledged);
    assert_eq!((harness.sent(), harness.stored().sent), ((Vec::new(), None), 2));
}

#[tokio::test]
async fn page_that_crashed_before_its_row_was_written_sends_the_same_redeliveries() {
    let harness = harness().await;
    for n in 1..=3 {
        harness.failed(n).await;
    }
    let recovery = harness.recovery().await;
    harness.run(&harness.page(Some(0))).await;
    let (first, _) = harness.sent();
    // The row as it was: the function died before its write.
    let fresh = super::Harness { deliveries: harness.deliveries.clone(), ..harness };
    let mut undone = recovery.clone();
    undone.page = 0;
    fresh.deliveries.put_recovery(&undone, 1).await.unwrap();
    // The message of the next page has been sent already and is ahead of the row: it comes back.
    assert_eq!(fresh.run(&fresh.page(Some(1))).await, Came::BackIn(5));
    fresh.run(&fresh.page(Some(0))).await;
    let (again, next) = fresh.sent();
    assert_eq!((again, next), (first, Some(1)));
}

#[tokio::test]
async fn refused_redelivery_brings_the_page_back() {
    let harness = harness().await;
    harness.failed(1).await;
    harness.recovery().await;
    harness.queue.refuse_all();
    assert_eq!(harness.run(&harness.page(Some(0))).await, Came::Back);
    assert_eq!((harness.stored().page, harness.stored().sent), (0, 0));
}

#[tokio::test]
async fn page_without_a_number_is_the_next_one() {
    let harness = harness().await;
    for n in 1..=3 {
        harness.failed(n).await;
    }
    harness.recovery().await;
    harness.run(&harness.page(None)).await;
    harness.run(&harness.page(None)).await;
    let stored = harness.stored();
    assert_eq!((stored.status, stored.sent), (RecoveryStatus::Done, 3));
}

#[tokio::test]
async fn recovery_waits_while_the_breaker_is_open() {
    let harness = harness().await;
    harness.failed(1).await;
    harness.recovery().await;
    harness.fails(9, Some(160)).await;
    assert_eq!(harness.run(&harness.page(Some(0))).await, Came::Acknowledged);
    let sent = harness.queue.take();
    assert_eq!((sent.len(), sent[0].delay), (1, Duration::from_mins(1)));
    assert_eq!(sent[0].task, harness.page(Some(0)));
    assert!(harness.stored().is_running());
}

#[tokio::test]
async fn recovery_of_a_paused_webhook_is_cancelled() {
    let harness = harness().await;
    harness.failed(1).await;
    harness.recovery().await;
    let mut paused = harness.current().await;
    paused.is_active = false;
    harness.subscriptions.update(&paused, 1).await.unwrap();
    assert_eq!(harness.run(&harness.page(Some(0))).await, Came::Acknowledged);
    assert_eq!(harness.stored().status, RecoveryStatus::Cancelled);
    assert_eq!(harness.sent(), (Vec::new(), None));
}

/// A harness whose webhook recovers by itself, with the failed deliveries 1 to 5 of an outage that
/// began at 0, and one that failed before it.
async fn outage() -> Harness {
    let harness = harness().await;
    let mut webhook = harness.current().await;
    webhook.auto_recover = true;
    harness.subscriptions.update(&webhook, webhook.version).await.unwrap();
    for n in 1..=5 {
        harness.failed(n).await;
    }
    let mut before = sample::delivery(&harness.subscription.id, 6);
    before.end(Status::Failed, sample::at(0).minus(Duration::from_secs(1)));
    harness.deliveries.put(&before, Expect::Absent).await.unwrap();
    harness.fails(OPEN_AFTER_FAILURES, Some(50)).await;
    harness
}

#[tokio::test]
async fn outage_is_recovered_once_when_the_endpoint_is_back() {
    let harness = outage().await;
    harness.run(&harness.task(90)).await;
    let recovery = harness.stored();
    assert!(recovery.is_automatic && recovery.is_running());
    assert_eq!(harness.queue.take_tasks(), [harness.page(Some(0))]);
    harness.run(&harness.task(91)).await;
    assert_eq!(harness.deliveries.all_recoveries(), [recovery]);

    let mut again = Vec::new();
    for number in 0..3 {
        harness.run(&harness.page(Some(number))).await;
        again.extend(harness.sent().0);
    }
    assert_eq!(
        originals(&again),
        [1, 2, 3, 4, 5].map(|n| harness.id(n)).iter().collect::<Vec<_>>()
    );
    assert!(!harness.stored().is_running());
}

#[tokio::test]
async fn outage_whose_recovery_was_stored_before_a_crash_is_not_recovered_twice() {
    let harness = outage().await;
    let webhook = harness.current().await;
    let health = webhook.health.with_probe_claimed(sample::at(98));
    let id = RecoveryId::new(sample::at(99), [1; 10]);
    let stored = Recovery::of_outage(id, &webhook, &health, RETENTION).unwrap();
    harness.deliveries.create_recovery(&stored).await.unwrap();
    harness.run(&harness.task(90)).await;
    assert_eq!(harness.deliveries.all_recoveries(), [stored]);
    assert_eq!(harness.queue.take_tasks(), [harness.page(Some(0))]);
    assert_eq!(harness.current().await.health.open_until, None);
}

#[tokio::test]
async fn outage_of_a_webhook_without_auto_recover_is_not_recovered() {
    let harness = outage().await;
    let mut webhook = harness.current().await;
    webhook.auto_recover = false;
    harness.subscriptions.update(&webhook, webhook.version).await.unwrap();
    harness.run(&harness.task(90)).await;
    assert_eq!(harness.current().await.health.open_until, None);
    assert_eq!(harness.deliveries.all_recoveries(), []);
}
