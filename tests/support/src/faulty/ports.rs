//! The ports, passed through the plan one by one.

use std::time::Duration;

use async_trait::async_trait;
use webhooks_core::breaker::Health;
use webhooks_core::delivery::Delivery;
use webhooks_core::ids::{DeliveryId, SubscriptionId, UserId};
use webhooks_core::ports::{
    CleanupState, Consistency, Creation, DeadLetterQueue, Deliveries, DeliveryFilter, Due,
    DueIndex, Expect, Lease, Outgoing, Page, QueueError, RejectedEvent, RowKey, Statistics,
    StoreError, SubscriptionKey, SubscriptionWrite, Subscriptions, TaskQueue, Written,
};
use webhooks_core::statistics::{Counts, HourCounts};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use super::Faulty;

#[async_trait]
impl<S: Subscriptions> Subscriptions for Faulty<S> {
    async fn create(&self, subscription: &Subscription) -> Result<Creation, StoreError> {
        self.call("create", self.inner.create(subscription)).await
    }

    async fn get(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError> {
        self.call("get", self.inner.get(user_id, id, consistency)).await
    }

    async fn page(
        &self,
        user_id: &UserId,
        limit: usize,
        before: Option<&SubscriptionId>,
    ) -> Result<Page<Subscription, SubscriptionId>, StoreError> {
        self.call("page", self.inner.page(user_id, limit, before)).await
    }

    async fn list_by_user(&self, user_id: &UserId) -> Result<Vec<Subscription>, StoreError> {
        self.call("list_by_user", self.inner.list_by_user(user_id)).await
    }

    async fn update(
        &self,
        subscription: &Subscription,
        expected_version: u64,
    ) -> Result<SubscriptionWrite, StoreError> {
        self.call("update", self.inner.update(subscription, expected_version)).await
    }

    async fn set_health(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        expected: &Health,
        health: &Health,
    ) -> Result<SubscriptionWrite, StoreError> {
        self.call("set_health", self.inner.set_health(user_id, id, expected, health)).await
    }

    async fn delete(&self, user_id: &UserId, id: &SubscriptionId) -> Result<bool, StoreError> {
        self.call("delete", self.inner.delete(user_id, id)).await
    }

    async fn scan_keys(
        &self,
        limit: usize,
        after: Option<&SubscriptionKey>,
    ) -> Result<Page<SubscriptionKey, SubscriptionKey>, StoreError> {
        self.call("scan_keys", self.inner.scan_keys(limit, after)).await
    }

    async fn delete_tombstone(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<(), StoreError> {
        self.call("delete_tombstone", self.inner.delete_tombstone(user_id, id)).await
    }
}

#[async_trait]
impl<S: Deliveries> Deliveries for Faulty<S> {
    async fn get(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        consistency: Consistency,
    ) -> Result<Option<Delivery>, StoreError> {
        self.call("get", self.inner.get(subscription_id, id, consistency)).await
    }

    async fn put(&self, delivery: &Delivery, expect: Expect) -> Result<Written, StoreError> {
        self.call("put", self.inner.put(delivery, expect)).await
    }

    async fn lease(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        attempts: u32,
        lease: &Lease,
    ) -> Result<Written, StoreError> {
        self.call("lease", self.inner.lease(subscription_id, id, attempts, lease)).await
    }

    async fn page(
        &self,
        subscription_id: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        before: Option<&DeliveryId>,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        self.call("page", self.inner.page(subscription_id, filter, limit, before, now)).await
    }
}

#[async_trait]
impl<S: DueIndex> DueIndex for Faulty<S> {
    async fn due(
        &self,
        shard: u8,
        until: Timestamp,
        limit: usize,
        after: Option<&Due>,
    ) -> Result<Page<Due, Due>, StoreError> {
        self.call("due", self.inner.due(shard, until, limit, after)).await
    }

    async fn postpone(&self, due: &Due, due_at: Timestamp) -> Result<Written, StoreError> {
        self.call("postpone", self.inner.postpone(due, due_at)).await
    }
}

#[async_trait]
impl<S: Statistics> Statistics for Faulty<S> {
    async fn count(
        &self,
        subscription_id: &SubscriptionId,
        hour: Timestamp,
        counts: Counts,
        last_attempt_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let count = self.inner.count(subscription_id, hour, counts, last_attempt_at, expires_at);
        self.call("count", count).await
    }

    async fn counters(
        &self,
        subscription_id: &SubscriptionId,
        since: Timestamp,
    ) -> Result<Vec<HourCounts>, StoreError> {
        self.call("counters", self.inner.counters(subscription_id, since)).await
    }
}

#[async_trait]
impl<S: CleanupState> CleanupState for Faulty<S> {
    async fn expired_keys(
        &self,
        subscription_id: &SubscriptionId,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        let keys = self.inner.expired_keys(subscription_id, before, limit);
        self.call("expired_keys", keys).await
    }

    async fn all_keys(
        &self,
        subscription_id: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        self.call("all_keys", self.inner.all_keys(subscription_id, limit)).await
    }

    async fn delete(
        &self,
        subscription_id: &SubscriptionId,
        keys: &[RowKey],
    ) -> Result<Vec<RowKey>, StoreError> {
        self.call("delete", self.inner.delete(subscription_id, keys)).await
    }

    async fn position(&self) -> Result<Option<SubscriptionKey>, StoreError> {
        self.call("position", self.inner.position()).await
    }

    async fn set_position(&self, position: Option<&SubscriptionKey>) -> Result<(), StoreError> {
        self.call("set_position", self.inner.set_position(position)).await
    }
}

#[async_trait]
impl<S: TaskQueue> TaskQueue for Faulty<S> {
    async fn send(&self, tasks: &[Outgoing]) -> Result<Vec<usize>, QueueError> {
        self.call("send", self.inner.send(tasks)).await
    }

    async fn change_visibility(&self, messages: &[(String, Duration)]) -> Result<(), QueueError> {
        self.call("change_visibility", self.inner.change_visibility(messages)).await
    }
}

#[async_trait]
impl<S: DeadLetterQueue> DeadLetterQueue for Faulty<S> {
    async fn send(&self, event: &RejectedEvent) -> Result<(), QueueError> {
        self.call("dead_letter_queue.send", self.inner.send(event)).await
    }
}
