//! A table that others use at the same time, or that does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use test_support::{MemorySubscriptions, Overlaid};
use webhooks_core::breaker::Health;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::{Consistency, StoreError, SubscriptionWrite, Subscriptions};
use webhooks_core::subscription::{Patch, Subscription};

/// What others do just before an update.
#[derive(Clone, Copy)]
pub(super) enum Meddler {
    /// They change the description, in this many updates.
    Changes(usize),
    /// The endpoint fails, before the first update.
    Fails,
    /// They delete the webhook.
    Deletes,
    /// The table does not answer.
    Unplugs,
    /// The row cannot be read.
    Garbles,
}

pub(super) struct Meddling {
    pub(super) inner: MemorySubscriptions,
    pub(super) meddler: Meddler,
    pub(super) updates: AtomicUsize,
}

impl Meddling {
    async fn meddle(&self, seen: &Subscription) -> Result<(), StoreError> {
        let number = self.updates.fetch_add(1, Ordering::SeqCst) + 1;
        match self.meddler {
            Meddler::Changes(times) if number <= times => {
                let now = self.inner.get(&seen.user_id, &seen.id, Consistency::Strong).await?;
                let mut row = now.unwrap();
                let version = row.version;
                let description = Some(Some(format!("change {number} of others")));
                row.apply(Patch { description, ..Patch::default() }, row.updated_at);
                assert!(self.inner.update(&row, version).await?.is_applied());
            }
            Meddler::Fails if number == 1 => {
                let health = Health { consecutive_failures: 7, ..Health::default() };
                let (user, id, before) = (&seen.user_id, &seen.id, &seen.health);
                let set = self.inner.set_health(user, id, before, &health).await?;
                assert!(set.is_applied());
            }
            Meddler::Deletes => assert!(self.inner.delete(&seen.user_id, &seen.id).await?),
            _ => {}
        }
        Ok(())
    }
}

#[async_trait]
impl Overlaid for Meddling {
    fn table(&self) -> &dyn Subscriptions {
        &self.inner
    }

    async fn get(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError> {
        match self.meddler {
            Meddler::Unplugs => Err(StoreError::Unavailable("throttled at 10.0.0.1".into())),
            Meddler::Garbles => Err(StoreError::Undecodable {
                key: format!("{user_id}/{id}"),
                reason: "at 10.0.0.1".to_owned(),
            }),
            _ => self.inner.get(user_id, id, consistency).await,
        }
    }

    async fn update(
        &self,
        subscription: &Subscription,
        expected_version: u64,
    ) -> Result<SubscriptionWrite, StoreError> {
        self.meddle(subscription).await?;
        self.inner.update(subscription, expected_version).await
    }
}
