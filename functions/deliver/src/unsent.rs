//! Deliveries that are postponed or end without an attempt.

use std::time::Duration;

use webhooks_core::breaker::park_until;
use webhooks_core::delivery::{Delivery, EndReason, Status};
use webhooks_core::ports::{DeliveryWrite, Expect, StoreError};
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
        let (mut delivery, expect) = self.unleased(loaded, now);
        let jitter = Duration::from_millis(self.random.up_to(PARK_JITTER_MS));
        let at = park_until(delivery.created_at(), open_until, now).plus(jitter);
        let disposition = wait(&mut delivery, at, now);
        self.write_unsent(&delivery, expect, disposition, batch, now).await
    }

    /// Puts a delivery off until its slot of the rate limit begins. It uses up no retry.
    pub(crate) async fn wait_for_slot(
        &self,
        loaded: Loaded,
        slot: Timestamp,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let (mut delivery, expect) = self.unleased(loaded, now);
        let disposition = wait(&mut delivery, slot, now);
        delivery.has_slot = true;
        self.write_unsent(&delivery, expect, disposition, batch, now).await
    }

    /// Ends a delivery without an attempt.
    pub(crate) async fn end_unsent(
        &self,
        loaded: Loaded,
        reason: EndReason,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let (mut delivery, expect) = self.unleased(loaded, now);
        delivery.end_reason = Some(reason);
        delivery.end(Status::Failed, now);
        self.write_unsent(&delivery, expect, Disposition::Ack, batch, now).await
    }

    /// The record for a write without an attempt, which must not take the lease from a copy of the
    /// task that makes one.
    fn unleased(&self, loaded: Loaded, now: Timestamp) -> (Delivery, Expect) {
        let (delivery, expect) = loaded.into_record(now, self.retention);
        let expect = match expect {
            Expect::Retrying { attempts } => Expect::Free { attempts, now },
            other => other,
        };
        (delivery, expect)
    }

    async fn write_unsent(
        &self,
        delivery: &Delivery,
        expect: Expect,
        disposition: Disposition,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let written = self.deliveries.put(delivery, expect).await;
        log_unsent(delivery);
        batch.measure(|metrics| metrics.add_write(delivery, expect, disposition, &written));
        if let DeliveryWrite::Refused(refusal) = written? {
            tracing::warn!(delivery_id = %delivery.id, "another copy of the task was faster");
            return Ok(Disposition::after_refusal(&refusal, now).into());
        }
        let effect = Effect::new(delivery, expect, now);
        Ok(Handled { disposition, effect: Some(effect) })
    }
}
