//! A replica of the Subscriptions table that has not seen the last writes yet.

use std::sync::Arc;

use test_support::MemorySubscriptions;
use webhooks_core::ports::Subscriptions as _;
use webhooks_core::subscription::Subscription;

use super::{Came, Harness};

#[tokio::test]
async fn a_webhook_that_a_replica_does_not_know_yet_gets_its_event() {
    let mut world = Harness::new().await;
    let then = MemorySubscriptions::default();
    world.deliver.subscriptions = Arc::new(world.subscriptions.with_replica(&then));
    assert_eq!(world.run(&world.task(1)).await, Came::Acknowledged);

    // Nor is one lost that was resumed a moment ago.
    let paused = Subscription { is_active: false, ..world.subscription.clone() };
    then.create(&paused).await.unwrap();
    assert_eq!(world.run(&world.task(2)).await, Came::Acknowledged);
    assert_eq!(world.sender.take().len(), 2);
}
