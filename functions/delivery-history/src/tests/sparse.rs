//! A history of which one read finds little, as a filter leaves it in a large table.

use async_trait::async_trait;
use test_support::MemoryDeliveries;
use webhooks_core::delivery::Delivery;
use webhooks_core::ids::{DeliveryId, SubscriptionId};
use webhooks_core::ports::{
    Consistency, Deliveries, DeliveryFilter, Due, Expect, Lease, Page, RowKey, StoreError,
    SubscriptionKey, Written,
};
use webhooks_core::statistics::{Counts, HourCounts};
use webhooks_core::time::Timestamp;

/// Looks at two records in one read, and filters afterwards.
pub(super) struct Sparse(pub(super) MemoryDeliveries);

const READ: usize = 2;

#[async_trait]
impl Deliveries for Sparse {
    async fn page(
        &self,
        subscription_id: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        before: Option<&DeliveryId>,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        assert!(limit > 0, "a read for nothing");
        let all = DeliveryFilter::default();
        let read = limit.min(READ);
        let mut page = self.0.page(subscription_id, &all, read, before, now).await?;
        page.items.retain(|row| filter.status.is_none_or(|status| row.status == status));
        Ok(page)
    }

    async fn get(
        &self,
        _: &SubscriptionId,
        _: &DeliveryId,
        _: Consistency,
    ) -> Result<Option<Delivery>, StoreError> {
        unused()
    }

    async fn put(&self, _: &Delivery, _: Expect) -> Result<Written, StoreError> {
        unused()
    }

    async fn lease(
        &self,
        _: &SubscriptionId,
        _: &DeliveryId,
        _: u32,
        _: &Lease,
    ) -> Result<Written, StoreError> {
        unused()
    }

    async fn due(
        &self,
        _: u8,
        _: Timestamp,
        _: usize,
        _: Option<&Due>,
    ) -> Result<Page<Due, Due>, StoreError> {
        unused()
    }

    async fn postpone(&self, _: &Due, _: Timestamp) -> Result<Written, StoreError> {
        unused()
    }

    async fn count(
        &self,
        _: &SubscriptionId,
        _: Timestamp,
        _: Counts,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<(), StoreError> {
        unused()
    }

    async fn counters(
        &self,
        _: &SubscriptionId,
        _: Timestamp,
    ) -> Result<Vec<HourCounts>, StoreError> {
        unused()
    }

    async fn keys(
        &self,
        _: &SubscriptionId,
        _: Option<Timestamp>,
        _: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        unused()
    }

    async fn delete(&self, _: &SubscriptionId, _: &[RowKey]) -> Result<Vec<RowKey>, StoreError> {
        unused()
    }

    async fn cleanup_position(&self) -> Result<Option<SubscriptionKey>, StoreError> {
        unused()
    }

    async fn set_cleanup_position(&self, _: Option<&SubscriptionKey>) -> Result<(), StoreError> {
        unused()
    }
}

fn unused<T>() -> Result<T, StoreError> {
    Err(StoreError::Rejected("only pages are read here".to_owned()))
}
