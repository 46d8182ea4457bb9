//! Whether an attempt may be made now: the breaker of the endpoint, and the lease on the record.

use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use webhooks_core::breaker::{BreakerState, PROBE_SECONDS};
use webhooks_core::limits::TIMEOUT_SECONDS_MAX;
use webhooks_core::ports::{DeliveryWrite, Lease, Refusal, StoreError};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::Deliver;
use crate::load::Loaded;

/// How long a lease lasts: longer than any attempt, so that it never ends during one.
pub(crate) const LEASE: Duration = Duration::from_secs(TIMEOUT_SECONDS_MAX as u64 + 15);

/// Whether an attempt may be made now.
pub(crate) enum Reservation {
    /// It may, by this task alone.
    Granted,
    /// The endpoint is known to be down.
    BreakerOpen {
        /// When it may be tried again.
        until: Timestamp,
    },
    /// Another copy of the task makes the attempt, or has made it.
    Refused(Refusal),
}

impl Deliver {
    /// Asks the breaker, then takes the lease.
    pub(crate) async fn reserve(
        &self,
        loaded: &Loaded,
        subscription: &mut Subscription,
        message: &SqsMessage,
        now: Timestamp,
    ) -> Result<Reservation, StoreError> {
        match subscription.health.state(now) {
            BreakerState::Closed => {}
            BreakerState::Open(until) => return Ok(Reservation::BreakerOpen { until }),
            BreakerState::HalfOpen => {
                if !self.claim_probe(subscription, now).await? {
                    let until = now.plus_seconds(PROBE_SECONDS);
                    return Ok(Reservation::BreakerOpen { until });
                }
            }
        }
        Ok(match self.take_lease(loaded, message, now).await? {
            DeliveryWrite::Applied => Reservation::Granted,
            DeliveryWrite::Refused(refusal) => Reservation::Refused(refusal),
        })
    }

    /// Claims the one probe of a breaker that is half open; `false` when another task has it.
    async fn claim_probe(
        &self,
        subscription: &mut Subscription,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let before = subscription.health;
        subscription.health = before.with_probe_claimed(now);
        let claimed = self
            .subscriptions
            .set_health(&subscription.user_id, &subscription.id, &before, &subscription.health)
            .await?;
        Ok(claimed.is_applied())
    }

    /// Takes the lease of a delivery that has a record. The condition of its first write guards one
    /// that has none.
    async fn take_lease(
        &self,
        loaded: &Loaded,
        message: &SqsMessage,
        now: Timestamp,
    ) -> Result<DeliveryWrite, StoreError> {
        let Loaded::Existing(delivery) = loaded else { return Ok(DeliveryWrite::Applied) };
        let lease = Lease {
            // A receipt handle names one receive of one message, so nobody else can take this
            // lease, and a request that is repeated because its response was lost still can.
            holder: message.receipt_handle.clone().unwrap_or_default(),
            now,
            until: now.plus(LEASE),
        };
        let attempts = delivery.attempt_count();
        self.deliveries.lease(&delivery.subscription_id, &delivery.id, attempts, &lease).await
    }
}
