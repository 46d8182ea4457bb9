//! A history of which one read finds little, as a filter leaves it in a large table.

use async_trait::async_trait;
use test_support::MemoryDeliveries;
use webhooks_core::delivery::Delivery;
use webhooks_core::ids::{DeliveryId, SubscriptionId};
use webhooks_core::ports::{
    Consistency, Deliveries, DeliveryFilter, DeliveryWrite, Expect, Lease, Page, StoreError,
};
use webhooks_core::rate_limit::{SlotUpdate, Update};
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

    async fn put(&self, _: &Delivery, _: Expect) -> Result<DeliveryWrite, StoreError> {
        unused()
    }

    async fn update_next_slot(
        &self,
        _: &SubscriptionId,
        _: Update,
        _: Timestamp,
    ) -> Result<SlotUpdate, StoreError> {
        unused()
    }

    async fn lease(
        &self,
        _: &SubscriptionId,
        _: &DeliveryId,
        _: u32,
        _: &Lease,
    ) -> Result<DeliveryWrite, StoreError> {
        unused()
    }
}

fn unused<T>() -> Result<T, StoreError> {
    Err(StoreError::Rejected("only pages are read here".into()))
}
