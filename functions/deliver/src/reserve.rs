//! Whether an attempt may be made now: the breaker of the endpoint, and the lease on the record.

use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use webhooks_core::breaker::{BreakerState, PROBE_SECONDS};
use webhooks_core::host_health::HostHealth;
use webhooks_core::limits::TIMEOUT_SECONDS_MAX;
use webhooks_core::ports::{DeliveryWrite, HostWrite, Lease, Refusal, StoreError, Version};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::Deliver;
use crate::batch::Batch;
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
    /// Asks the breakers of the webhook and of its host, then takes the lease.
    pub(crate) async fn reserve(
        &self,
        loaded: &Loaded,
        subscription: &mut Subscription,
        message: &SqsMessage,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Reservation, StoreError> {
        let state = subscription.health.state(now);
        if let BreakerState::Open(until) = state {
            return Ok(Reservation::BreakerOpen { until });
        }
        if let Some(until) = self.host_open_until(subscription, batch, now).await? {
            return Ok(Reservation::BreakerOpen { until });
        }
        match state {
            BreakerState::Closed | BreakerState::Open(_) => {}
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

    /// Until when the breaker of the webhook's host keeps this attempt away. Claims its probe when it
    /// is half open.
    async fn host_open_until(
        &self,
        subscription: &Subscription,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        if !HostHealth::concerns(&subscription.health) {
            return Ok(None);
        }
        let (user_id, host) = (&subscription.user_id, batch.host(&subscription.url));
        let read = batch.host_read(user_id, &host);
        let found = read.get_or_try_init(|| self.subscriptions.host_health(user_id, &host)).await?;
        match found.state(now) {
            BreakerState::Closed => Ok(None),
            BreakerState::Open(until) => Ok(Some(until)),
            BreakerState::HalfOpen => {
                let claimed = found.with_probe_claimed(now);
                match self.subscriptions.set_host_health(user_id, &host, &claimed).await? {
                    HostWrite::Applied => {
                        batch.note_host_probe(user_id, &host, claimed);
                        Ok(None)
                    }
                    HostWrite::Conflict(_) => Ok(Some(now.plus_seconds(PROBE_SECONDS))),
                }
            }
        }
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
        let version = Version::of(delivery);
        self.deliveries.lease(&delivery.subscription_id, &delivery.id, version, &lease).await
    }
}
