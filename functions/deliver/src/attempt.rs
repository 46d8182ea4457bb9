//! One attempt: sent, decided, written.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, join, select};
use tokio::sync::OwnedSemaphorePermit;
use webhooks_core::attempt;
use webhooks_core::breaker::{Failures, LastError, SLOW_SECONDS};
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::operational::OperationalEvent;
use webhooks_core::ports::{Chain, DeliveryWrite, StoreError, SubscriptionWrite};
use webhooks_core::retry::{GiveUp, JITTER_MAX_PER_MILLE, Next};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::Deliver;
use crate::batch::Batch;
use crate::disposition::{Disposition, Handled, wait};
use crate::effects::{Effect, Speed, TRIES, Verdict};
use crate::load::Loaded;
use crate::telemetry::log_attempt;

impl Deliver {
    /// Makes the attempt and writes the record once. Another attempt may begin at the host when the response is
    /// there.
    pub(crate) async fn attempt(
        &self,
        loaded: Loaded,
        subscription: &Subscription,
        slot: Option<Timestamp>,
        permit: OwnedSemaphorePermit,
        batch: &Batch,
    ) -> Result<Handled, StoreError> {
        let began = self.clock.now();
        let was = loaded.status();
        let (mut delivery, expect) = loaded.into_record(began, self.retention);
        let send = async {
            let outcome = attempt::send(
                &mut delivery,
                subscription,
                subscription.timeout(),
                slot,
                self.opener.as_ref(),
                self.sender.as_ref(),
                self.clock.as_ref(),
            )
            .await;
            drop(permit);
            // A mark that takes long to write does not move the retry.
            (outcome, self.clock.now())
        };
        let waits = slot.map_or(Duration::ZERO, |at| began.until(at));
        let (outcome, now) = self.marking_slow(send, waits, subscription, batch).await;
        let outcome = outcome.map_err(|error| subscription.undecodable(error))?;
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
            return Ok(Handled::after_refusal(&refusal, &delivery, now));
        }
        let verdict = match next {
            Next::Done => Verdict::Healthy,
            Next::GiveUp(GiveUp::Gone) => Verdict::Gone,
            Next::GiveUp(_) | Next::RetryAt(_) => {
                let (longest, last_error) = (took(&delivery), LastError::from(&outcome));
                Verdict::Failing(Failures { count: 1, began, longest, last_error })
            }
        };
        let effect = Effect::new(&delivery, was, now)
            .with_attempt(&delivery)
            .with_verdict(subscription, verdict)
            .with_speed(Speed::new(&outcome, took(&delivery)));
        let effect = match next {
            Next::GiveUp(_) => effect.with_exhausted(OperationalEvent::exhausted(&delivery)),
            Next::Done | Next::RetryAt(_) => effect,
        };
        Ok(Handled { disposition, effect: Some(effect) })
    }
}

impl Deliver {
    /// Marks the endpoint as slow as soon as the attempt is, so that its tasks leave the fast queue
    /// while the attempt goes on. An attempt that waits for its slot is not slow by that.
    async fn marking_slow<T>(
        &self,
        attempt: impl Future<Output = T>,
        waits: Duration,
        subscription: &Subscription,
        batch: &Batch,
    ) -> T {
        let mut attempt = pin!(attempt);
        let slow = self.timer.sleep(waits + Duration::from_secs(SLOW_SECONDS));
        match select(attempt.as_mut(), slow).await {
            Either::Left((ended, _)) => ended,
            Either::Right(_) if batch.claims_mark(&subscription.id) => {
                join(attempt, self.mark_slow(subscription, batch)).await.0
            }
            Either::Right(_) => attempt.await,
        }
    }

    /// Without the mark the endpoint is found slow when the attempt has ended.
    async fn mark_slow(&self, subscription: &Subscription, batch: &Batch) {
        let Subscription { user_id, id, url, .. } = subscription;
        let mut before = subscription.health;
        for _ in 0..TRIES {
            let after = before.record_slow_attempt(self.clock.now());
            if after == before {
                return;
            }
            match self.subscriptions.set_health(user_id, id, &before, &after).await {
                Ok(SubscriptionWrite::Applied) => return batch.note_mark(id, after),
                Ok(SubscriptionWrite::Conflict(current)) if current.url == *url => {
                    before = current.health;
                }
                Ok(SubscriptionWrite::Conflict(_) | SubscriptionWrite::Missing) => return,
                Err(error) => {
                    let error = Chain(&error);
                    tracing::warn!(subscription_id = %id, %error, "the endpoint was not marked as slow");
                    return;
                }
            }
        }
    }
}

/// How long the last attempt took, by a clock that nobody sets.
fn took(delivery: &Delivery) -> Duration {
    Duration::from_millis(delivery.attempts.last().map_or(0, |attempt| attempt.duration_ms))
}
