//! Deliveries of a webhook that its owner has paused to hold what arrives.

use webhooks_core::delivery::{DeliveryTask, Status};
use webhooks_core::ids::RecoveryId;
use webhooks_core::ports::{Recoveries as _, Subscriptions as _};
use webhooks_core::recovery::{Recovery, RecoveryStatus};
use webhooks_core::statistics::Totals;
use webhooks_core::subscription::{Patch, WhileInactive};

use super::*;

impl Harness {
    async fn patch(&self, patch: Patch) {
        let mut webhook = self.current().await;
        let version = webhook.version;
        webhook.apply(patch, sample::at(100));
        assert!(self.subscriptions.update(&webhook, version).await.unwrap().is_applied());
    }

    async fn held_count(&self) -> u64 {
        let id = &self.subscription.id;
        let hours = self.deliveries.counters(id, Timestamp::EPOCH).await.unwrap();
        Totals::of(&hours).counts.held()
    }
}

#[tokio::test]
async fn paused_webhook_holds_deliveries_and_gets_them_oldest_first_after_resume() {
    let harness = Harness::new().await;
    harness.replies(&[sender::status(500)]);
    assert_eq!(harness.run(&harness.task(1)).await, Came::CopyIn(2));
    harness.queue.take();
    let hold = Patch {
        is_active: Some(false),
        while_inactive: Some(WhileInactive::Hold),
        ..Patch::default()
    };
    harness.patch(hold).await;
    for task in [harness.again(1), harness.task(3), harness.task(2), harness.task(2)] {
        assert_eq!(harness.run(&task).await, Came::Acknowledged);
    }
    for n in 1..=3 {
        assert_eq!(harness.record(n).await.unwrap().status, Status::Held);
    }
    assert_eq!((harness.waiting().await, harness.held_count().await), (0, 3));

    let id = RecoveryId::new(sample::at(100), [7; 10]);
    let recovery = Recovery::of_held(id, &harness.current().await, RETENTION);
    harness.deliveries.create_recovery(&recovery).await.unwrap();
    harness.patch(Patch { is_active: Some(true), ..Patch::default() }).await;
    let (subscription_id, recovery_id) = (harness.subscription.id.clone(), recovery.id);
    let page = DeliveryTask::RecoveryPage { subscription_id, recovery_id, page: Some(0) };
    assert_eq!(harness.run(&page).await, Came::Acknowledged);
    assert_eq!(harness.deliveries.all_recoveries()[0].status, RecoveryStatus::Done);
    let tasks = harness.queue.take_tasks();
    let ids = [1, 2, 3].map(|n| harness.id(n));
    assert!(tasks.iter().map(|task| task.delivery_id().unwrap()).eq(&ids));
    assert!(tasks.is_sorted_by(|a, b| a.start_at().unwrap() < b.start_at().unwrap()));
    for task in tasks {
        assert_eq!(harness.run(&task).await, Came::Acknowledged);
    }
    for n in 1..=3 {
        let record = harness.record(n).await.unwrap();
        assert_eq!(
            (record.status, record.attempt_count()),
            (Status::Success, 1 + u32::from(n == 1))
        );
    }
    assert_eq!((harness.statistics().await, harness.held_count().await), ((3, 3, 0), 0));
}

#[tokio::test]
async fn service_disabled_webhook_holds_nothing() {
    let harness = Harness::new().await;
    harness.patch(Patch { while_inactive: Some(WhileInactive::Hold), ..Patch::default() }).await;
    let mut webhook = harness.current().await;
    let version = webhook.version;
    webhook.disable(DisabledReason::EndpointGone, sample::at(100));
    assert!(harness.subscriptions.update(&webhook, version).await.unwrap().is_applied());
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    assert_eq!(harness.record(1).await.unwrap().status, Status::Failed);
}
