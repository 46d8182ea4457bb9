//! One attempt: sent, decided, written.

use std::time::Duration;

use webhooks_core::attempt;
use webhooks_core::breaker::{Failures, LastError};
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::ports::{DeliveryWrite, StoreError};
use webhooks_core::retry::{GiveUp, JITTER_MAX_PER_MILLE, Next};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::Deliver;
use crate::batch::Batch;
use crate::disposition::{Disposition, Handled, wait};
use crate::effects::{Effect, Speed, Verdict};
use crate::load::Loaded;
use crate::telemetry::log_attempt;

impl Deliver {
    /// Makes the attempt and writes the record once.
    pub(crate) async fn attempt(
        &self,
        loaded: Loaded,
        subscription: &Subscription,
        slot: Option<Timestamp>,
        batch: &Batch,
    ) -> Result<Handled, StoreError> {
        let began = self.clock.now();
        let (mut delivery, expect) = loaded.into_record(began, self.retention);
        let outcome = attempt::send(
            &mut delivery,
            subscription,
            subscription.timeout(),
            slot,
            self.opener.as_ref(),
            self.sender.as_ref(),
            self.clock.as_ref(),
        )
        .await
        .map_err(|error| subscription.undecodable(error))?;
        let now = self.clock.now();
        let jitter = self.random.up_to(JITTER_MAX_PER_MILLE);
        let next =
            subscription.retry_policy().decide(delivery.attempt_count(), &outcome, now, jitter);
        let disposition = match next {
            Next::Done => {
                delivery.succeed(subscription.keep_payload, now);
                Disposition::Ack
            }
            Next::GiveUp(_) => {
                delivery.end(Status::Failed, now);
                Disposition::Ack
            }
            Next::RetryAt(at) => wait(&mut delivery, at, now),
        };
        let written = self.deliveries.put(&delivery, expect).await;
        log_attempt(&delivery, &outcome);
        batch.measure(|metrics| {
            metrics.add_attempt(&delivery, began);
            metrics.add_write(&delivery, expect, disposition, &written);
        });
        if let DeliveryWrite::Refused(refusal) = written? {
            tracing::warn!(delivery_id = %delivery.id, "another copy of the task wrote first");
            return Ok(Disposition::after_refusal(&refusal, now).into());
        }
        let verdict = match next {
            Next::Done => Verdict::Healthy,
            Next::GiveUp(GiveUp::Gone) => Verdict::Gone,
            Next::GiveUp(_) | Next::RetryAt(_) => {
                let (longest, last_error) = (took(&delivery), LastError::from(&outcome));
                Verdict::Failing(Failures { count: 1, began, longest, last_error })
            }
        };
        let effect = Effect::new(&delivery, expect, now)
            .with_attempt(&delivery)
            .with_verdict(subscription, verdict)
            .with_speed(Speed::new(&outcome, took(&delivery)));
        Ok(Handled { disposition, effect: Some(effect) })
    }
}

/// How long the last attempt took, by a clock that nobody sets.
fn took(delivery: &Delivery) -> Duration {
    Duration::from_millis(delivery.attempts.last().map_or(0, |attempt| attempt.duration_ms))
}
