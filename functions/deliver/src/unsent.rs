//! Deliveries that are postponed or end without an attempt.

use std::time::Duration;

use webhooks_core::breaker::park_until;
use webhooks_core::delivery::{Delivery, EndReason, Status};
use webhooks_core::ports::{Chain, Consistency, DeliveryWrite, Expect, StoreError};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::Deliver;
use crate::batch::Batch;
use crate::disposition::{Disposition, Handled, wait};
use crate::effects::Effect;
use crate::load::Loaded;
use crate::telemetry::log_unsent;

/// The most that is added to the time for which a delivery is parked, in milliseconds, so that a
/// backlog does not come at one moment.
const PARK_JITTER_MS: u64 = 30_000;

impl Deliver {
    /// Puts a delivery off without an attempt, because its endpoint is known to be down.
    pub(crate) async fn park(
        &self,
        loaded: Loaded,
        open_until: Timestamp,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let (mut delivery, expect, was) = self.unleased(loaded, now);
        let jitter = Duration::from_millis(self.random.up_to(PARK_JITTER_MS));
        let at = park_until(delivery.created_at(), open_until, now).plus(jitter);
        let disposition = wait(&mut delivery, at, now);
        self.write_unsent(&delivery, (expect, was), disposition, batch, now).await
    }

    /// Puts a delivery off until its slot of the rate limit begins. It uses up no retry.
    pub(crate) async fn wait_for_slot(
        &self,
        loaded: Loaded,
        slot: Timestamp,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let (mut delivery, expect, was) = self.unleased(loaded, now);
        let disposition = wait(&mut delivery, slot, now);
        delivery.has_slot = true;
        self.write_unsent(&delivery, (expect, was), disposition, batch, now).await
    }

    /// Ends a delivery without an attempt.
    pub(crate) async fn end_unsent(
        &self,
        loaded: Loaded,
        reason: EndReason,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let (mut delivery, expect, was) = self.unleased(loaded, now);
        delivery.end_reason = Some(reason);
        delivery.end(Status::Failed, now);
        self.write_unsent(&delivery, (expect, was), Disposition::Ack, batch, now).await
    }

    /// Holds a delivery of a webhook that its owner has paused.
    ///
    /// The recovery that delivers what is held begins after the webhook is active again. So the webhook
    /// is read once more when the record is written: if it is active then, the recovery may have missed
    /// the record, and the message comes back to deliver it.
    pub(crate) async fn hold(
        &self,
        loaded: Loaded,
        subscription: &Subscription,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        if loaded.is_held() {
            return Ok(loaded.done_before());
        }
        let (mut delivery, expect, was) = self.unleased(loaded, now);
        delivery.hold(now);
        let handled =
            self.write_unsent(&delivery, (expect, was), Disposition::Ack, batch, now).await?;
        if handled.disposition != Disposition::Ack {
            return Ok(handled);
        }
        let (user_id, id) = (&subscription.user_id, &subscription.id);
        let disposition = match self.subscriptions.get(user_id, id, Consistency::Strong).await {
            Ok(Some(current)) if current.is_active => Disposition::RetryAfter(Duration::ZERO),
            Ok(_) => Disposition::Ack,
            // The record is written, so it is counted all the same.
            Err(error) => {
                let error = Chain(&error);
                tracing::error!(subscription_id = %id, %error, "the webhook was not read again");
                Disposition::Nack
            }
        };
        Ok(Handled { disposition, ..handled })
    }

    /// The record for a write without an attempt, which must not take the lease from a copy of the
    /// task that makes one.
    fn unleased(&self, loaded: Loaded, now: Timestamp) -> (Delivery, Expect, Option<Status>) {
        let was = loaded.status();
        let (delivery, expect) = loaded.into_record(now, self.retention);
        let expect = match expect {
            Expect::Unchanged(version) => Expect::Free { version, now },
            other => other,
        };
        (delivery, expect, was)
    }

    async fn write_unsent(
        &self,
        delivery: &Delivery,
        (expect, was): (Expect, Option<Status>),
        disposition: Disposition,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let written = self.deliveries.put(delivery, expect).await;
        log_unsent(delivery);
        batch.measure(|metrics| metrics.add_write(delivery, expect, disposition, &written));
        if let DeliveryWrite::Refused(refusal) = written? {
            tracing::warn!(delivery_id = %delivery.id, "another copy of the task was faster");
            return Ok(Handled::after_refusal(&refusal, delivery, now));
        }
        let effect = Effect::new(delivery, was, now);
        Ok(Handled { disposition, effect: Some(effect) })
    }
}
