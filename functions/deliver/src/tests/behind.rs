//! A replica of the Subscriptions table that has not seen the last writes yet.

use std::sync::Arc;

use async_trait::async_trait;
use test_support::{MemorySubscriptions, Overlaid, Overlay};
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::{Consistency, StoreError, Subscriptions};
use webhooks_core::subscription::Subscription;

use super::{Came, Harness};

/// Eventually consistent reads see `then`, everything else the table as it is.
struct Behind {
    table: MemorySubscriptions,
    disposition: MemorySubscriptions,
}

#[async_trait]
impl Overlaid for Behind {
    fn table(&self) -> &dyn Subscriptions {
        &self.table
    }

    async fn get(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError> {
        let seen = if consistency == Consistency::Strong { &self.table } else { &self.disposition };
        seen.get(user_id, id, consistency).await
    }
}

#[tokio::test]
async fn a_webhook_that_a_replica_does_not_know_yet_gets_its_event() {
    let mut world = Harness::new().await;
    let then = MemorySubscriptions::default();
    let behind = Behind { table: world.subscriptions.clone(), disposition: then.clone() };
    world.deliver.subscriptions = Arc::new(Overlay(behind));
    assert_eq!(world.run(&world.task(1)).await, Came::Acknowledged);

    // Nor is one lost that was resumed a moment ago.
    let paused = Subscription { is_active: false, ..world.subscription.clone() };
    then.create(&paused).await.unwrap();
    assert_eq!(world.run(&world.task(2)).await, Came::Acknowledged);
    assert_eq!(world.sender.take().len(), 2);
}
