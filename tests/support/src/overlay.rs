//! A Subscriptions table of which some requests go another way.

use async_trait::async_trait;
use webhooks_core::breaker::Health;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::{
    Consistency, Creation, Page, StoreError, SubscriptionKey, SubscriptionWrite, Subscriptions,
};
use webhooks_core::subscription::Subscription;

/// What [`Overlay`] does differently from the table below it: each method does what the table
/// does, unless it is written anew.
#[async_trait]
pub trait Overlaid: Send + Sync {
    /// The table below.
    fn table(&self) -> &dyn Subscriptions;

    /// See [`Subscriptions::get`].
    async fn get(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError> {
        self.table().get(user_id, id, consistency).await
    }

    /// See [`Subscriptions::update`].
    async fn update(
        &self,
        subscription: &Subscription,
        expected_version: u64,
    ) -> Result<SubscriptionWrite, StoreError> {
        self.table().update(subscription, expected_version).await
    }

    /// See [`Subscriptions::set_health`].
    async fn set_health(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        expected: &Health,
        health: &Health,
    ) -> Result<SubscriptionWrite, StoreError> {
        self.table().set_health(user_id, id, expected, health).await
    }
}

/// A table with something laid over it.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<T>(pub T);

#[async_trait]
impl<T: Overlaid> Subscriptions for Overlay<T> {
    async fn create(&self, subscription: &Subscription) -> Result<Creation, StoreError> {
        self.0.table().create(subscription).await
    }

    async fn get(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError> {
        self.0.get(user_id, id, consistency).await
    }

    async fn page(
        &self,
        user_id: &UserId,
        limit: usize,
        before: Option<&SubscriptionId>,
    ) -> Result<Page<Subscription, SubscriptionId>, StoreError> {
        self.0.table().page(user_id, limit, before).await
    }

    async fn list_by_user(&self, user_id: &UserId) -> Result<Vec<Subscription>, StoreError> {
        self.0.table().list_by_user(user_id).await
    }

    async fn update(
        &self,
        subscription: &Subscription,
        expected_version: u64,
    ) -> Result<SubscriptionWrite, StoreError> {
        self.0.update(subscription, expected_version).await
    }

    async fn set_health(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        expected: &Health,
        health: &Health,
    ) -> Result<SubscriptionWrite, StoreError> {
        self.0.set_health(user_id, id, expected, health).await
    }

    async fn delete(&self, user_id: &UserId, id: &SubscriptionId) -> Result<bool, StoreError> {
        self.0.table().delete(user_id, id).await
    }

    async fn scan_keys(
        &self,
        limit: usize,
        after: Option<&SubscriptionKey>,
    ) -> Result<Page<SubscriptionKey, SubscriptionKey>, StoreError> {
        self.0.table().scan_keys(limit, after).await
    }

    async fn delete_tombstone(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<(), StoreError> {
        self.0.table().delete_tombstone(user_id, id).await
    }
}
