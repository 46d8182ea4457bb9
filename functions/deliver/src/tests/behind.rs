//! A replica of the Subscriptions table that has not seen the last writes yet.

use std::sync::Arc;

use async_trait::async_trait;
use webhooks_core::breaker::Health;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::{Consistency, Created, Page, StoreError, Subscriptions, Swept, Written};
use webhooks_core::subscription::Subscription;
use webhooks_testing::MemorySubscriptions;

use super::{Came, World};

/// Eventually consistent reads see `then`, everything else the table as it is.
struct Behind {
    table: MemorySubscriptions,
    then: MemorySubscriptions,
}

#[async_trait]
impl Subscriptions for Behind {
    async fn create(&self, subscription: &Subscription) -> Result<Created, StoreError> {
        self.table.create(subscription).await
    }

    async fn get(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError> {
        let seen = if consistency == Consistency::Strong { &self.table } else { &self.then };
        seen.get(user_id, id, consistency).await
    }

    async fn page(
        &self,
        user_id: &UserId,
        limit: usize,
        before: Option<&SubscriptionId>,
    ) -> Result<Page<Subscription, SubscriptionId>, StoreError> {
        self.table.page(user_id, limit, before).await
    }

    async fn all_of(&self, user_id: &UserId) -> Result<Vec<Subscription>, StoreError> {
        self.table.all_of(user_id).await
    }

    async fn update(
        &self,
        subscription: &Subscription,
        expected_version: u64,
    ) -> Result<Written, StoreError> {
        self.table.update(subscription, expected_version).await
    }

    async fn set_health(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        expected: &Health,
        health: &Health,
    ) -> Result<Written, StoreError> {
        self.table.set_health(user_id, id, expected, health).await
    }

    async fn delete(&self, user_id: &UserId, id: &SubscriptionId) -> Result<bool, StoreError> {
        self.table.delete(user_id, id).await
    }

    async fn sweep(
        &self,
        limit: usize,
        after: Option<&Swept>,
    ) -> Result<Page<Swept, Swept>, StoreError> {
        self.table.sweep(limit, after).await
    }

    async fn forget(&self, user_id: &UserId, id: &SubscriptionId) -> Result<(), StoreError> {
        self.table.forget(user_id, id).await
    }
}

#[tokio::test]
async fn a_webhook_that_a_replica_does_not_know_yet_gets_its_event() {
    let mut world = World::new().await;
    let then = MemorySubscriptions::default();
    let behind = Behind { table: world.subscriptions.clone(), then: then.clone() };
    world.deliver.subscriptions = Arc::new(behind);
    assert_eq!(world.run(&world.task(1)).await, Came::Acknowledged);

    // Nor is one lost that was resumed a moment ago.
    let paused = Subscription { is_active: false, ..world.subscription.clone() };
    then.create(&paused).await.unwrap();
    assert_eq!(world.run(&world.task(2)).await, Came::Acknowledged);
    assert_eq!(world.sender.take().len(), 2);
}
