//! The slot of a delivery whose webhook has a rate limit.

use webhooks_core::breaker::BreakerState;
use webhooks_core::ports::StoreError;
use webhooks_core::rate_limit::{self, SLOT_LENGTH};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::Deliver;
use crate::batch::{Batch, Undecided};
use crate::load::Loaded;

impl Deliver {
    /// The beginning of the slot in which the attempt may be made; nothing when there is no limit. A
    /// delivery that waited for its slot uses it, unless it comes too late. The probe of an endpoint
    /// that is down needs none.
    pub(crate) async fn slot(
        &self,
        loaded: &Loaded,
        subscription: &Subscription,
        (batch, undecided): (&Batch, Undecided<'_>),
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let is_closed = subscription.health.state(now) == BreakerState::Closed;
        let Some(limit) = subscription.rate_limit.filter(|_| is_closed) else { return Ok(None) };
        if let Some(own) = loaded.slot().filter(|own| now <= own.plus(SLOT_LENGTH)) {
            return Ok(Some(own));
        }
        let id = &subscription.id;
        let reserve = |count| async move {
            let now = self.clock.now();
            rate_limit::reserve(self.deliveries.as_ref(), id, limit, count, now).await
        };
        batch.slot(undecided, id, reserve).await.map(Some)
    }
}
