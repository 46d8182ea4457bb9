//! A replica of the Subscriptions table that has not seen the last writes yet.

use std::sync::Arc;

use test_support::MemorySubscriptions;
use webhooks_core::ports::Subscriptions as _;
use webhooks_core::subscription::Subscription;

use super::{Came, Harness};

#[tokio::test]
async fn webhook_missing_on_a_stale_replica_gets_its_event() {
    let mut harness = Harness::new().await;
    let then = MemorySubscriptions::default();
    harness.deliver.subscriptions = Arc::new(harness.subscriptions.with_replica(&then));
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);

    // Nor is one lost that was resumed a moment ago.
    let paused = Subscription { is_active: false, ..harness.subscription.clone() };
    then.create(&paused).await.unwrap();
    assert_eq!(harness.run(&harness.task(2)).await, Came::Acknowledged);
    assert_eq!(harness.sender.take().len(), 2);
}
