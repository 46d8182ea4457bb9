//! One task: from the message to what becomes of it.

use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use webhooks_core::attempt;
use webhooks_core::breaker::{BreakerState, Failures, PROBE_SECONDS, park_until};
use webhooks_core::delivery::{Delivery, DeliveryTask, EndReason, NewDelivery, Status, Trigger};
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::limits::{QUEUE_WAIT_MAX_SECONDS, TIMEOUT_SECONDS_MAX};
use webhooks_core::outbound::Outcome;
use webhooks_core::ports::{Chain, Consistency, Expect, Lease, Outgoing, StoreError, Written};
use webhooks_core::retry::{GiveUp, JITTER_MAX_PER_MILLE, Next};
use webhooks_core::subscription::Subscription;
use webhooks_core::task_batch::send_tasks;
use webhooks_core::time::Timestamp;

use crate::Deliver;
use crate::effects::{Effect, Verdict};

/// A message that arrives this little before its moment is handled immediately: visibility timeouts
/// count whole seconds.
const EARLY: Duration = Duration::from_secs(1);
/// How long a lease lasts: longer than any attempt, so that it never ends under one.
pub(crate) const LEASE: Duration = Duration::from_secs(TIMEOUT_SECONDS_MAX as u64 + 15);
/// A delivery that waits in the queue is looked at by the retry function this long after its moment:
/// by then its message has been lost.
const LOST_AFTER_SECONDS: u64 = 900;
/// The most that is added to the time for which a delivery is parked, in milliseconds, so that a
/// backlog does not come at one moment.
const PARK_JITTER_MS: u64 = 30_000;

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Nothing is left to do with it.
    Ack,
    /// It comes back after this time.
    RetryAfter(Duration),
    /// It comes back when its visibility runs out.
    Nack,
}

/// What became of a task.
pub(crate) struct Handled {
    /// What becomes of the message.
    pub(crate) disposition: Disposition,
    /// What is to be counted.
    pub(crate) effect: Option<Effect>,
}

impl From<Disposition> for Handled {
    fn from(disposition: Disposition) -> Self {
        Self { disposition, effect: None }
    }
}

impl Deliver {
    /// Handles one message. Whatever fails on our side brings it back.
    pub(crate) async fn record(&self, message: &SqsMessage) -> Handled {
        let body = message.body.as_deref().unwrap_or_default();
        let task = match DeliveryTask::from_json(body) {
            Ok(task) => task,
            Err(error) => {
                // Only our own functions write to this queue. It ends in the dead-letter queue.
                tracing::error!(message_id = message.message_id, error = %Chain(&error), "the message is not a delivery task");
                return Disposition::Nack.into();
            }
        };
        self.task(&task, message).await.unwrap_or_else(|error| {
            let (subscription_id, delivery_id) = task.key();
            tracing::error!(%subscription_id, %delivery_id, error = %Chain(&error), "the task failed");
            Disposition::Nack.into()
        })
    }

    async fn task(&self, task: &DeliveryTask, message: &SqsMessage) -> Result<Handled, StoreError> {
        let Some((delivery, subscription)) = self.read(task, message).await? else {
            return Ok(Disposition::Ack.into());
        };
        if delivery.has_ended() {
            return Ok(Disposition::Ack.into());
        }
        let now = self.clock.now();
        // The retry function counts the message of an overdue record as lost and sends another, so
        // this one need not come back. If it did, each outage would leave many behind it.
        let is_replaced = delivery.due_at.is_some_and(|at| at <= now);
        let delivery_id = delivery.id.clone();
        match self.next_step(delivery, subscription, message, now).await {
            Err(error) if is_replaced => {
                tracing::error!(%delivery_id, error = %Chain(&error), "the task failed, and is left to the retry function");
                Ok(Disposition::Ack.into())
            }
            handled => handled,
        }
    }

    /// Does what is next for a delivery that has not ended.
    async fn next_step(
        &self,
        delivery: Delivery,
        subscription: Option<Subscription>,
        message: &SqsMessage,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let Some(mut subscription) = subscription else {
            return self.end_unsent(delivery, EndReason::WebhookDeleted, now).await;
        };
        if !subscription.is_active {
            return self.end_unsent(delivery, EndReason::EndpointDisabled, now).await;
        }
        if let Some(at) = delivery.next_retry_at
            && now.until(at) > EARLY
        {
            return Ok(not_yet(now, at).into());
        }
        match subscription.health.state(now) {
            BreakerState::Closed => {}
            BreakerState::Open(until) => return self.park(delivery, until, now).await,
            BreakerState::HalfOpen => {
                if !self.claim_probe(&mut subscription, now).await? {
                    return self.park(delivery, now.plus_seconds(PROBE_SECONDS), now).await;
                }
            }
        }
        if !self.take_lease(&delivery, message, now).await? {
            // Another copy is at it. Should its function have died, this message takes over.
            return Ok(Disposition::RetryAfter(LEASE).into());
        }
        self.attempt(delivery, &subscription).await
    }

    /// Reads the record, or makes the one that a first attempt begins with, and the subscription.
    /// Nothing when the task is for a record that does not exist any more.
    async fn read(
        &self,
        task: &DeliveryTask,
        message: &SqsMessage,
    ) -> Result<Option<(Delivery, Option<Subscription>)>, StoreError> {
        match task {
            DeliveryTask::FirstAttempt(new) => {
                let consistency = consistency(message);
                let (record, subscription) = futures::future::join(
                    self.deliveries.get(&new.subscription_id, &new.delivery_id, consistency),
                    self.subscription(&new.user_id, &new.subscription_id, consistency),
                )
                .await;
                let delivery = record?.unwrap_or_else(|| self.first(new));
                let subscription = subscription?;
                if subscription.is_none() && is_new(&delivery) {
                    // Nothing was ever sent, and nobody is left to look at a record of it.
                    let dropped = (new.trigger == Trigger::Event).then_some(1);
                    tracing::info!(
                        metric.deliveries_dropped = dropped,
                        delivery_id = %new.delivery_id,
                        "the webhook is gone"
                    );
                    return Ok(None);
                }
                Ok(Some((delivery, subscription)))
            }
            DeliveryTask::Retry { subscription_id, delivery_id } => {
                let record =
                    self.deliveries.get(subscription_id, delivery_id, Consistency::Strong).await?;
                let Some(delivery) = record else { return Ok(None) };
                let subscription = self
                    .subscriptions
                    .get(&delivery.user_id, subscription_id, Consistency::Strong)
                    .await?;
                Ok(Some((delivery, subscription)))
            }
        }
    }

    /// Reads a subscription. A read that may be behind is believed only when it finds an active one:
    /// what it misses, or sees paused, may have been made or resumed just before its event was
    /// dispatched.
    async fn subscription(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError> {
        let found = self.subscriptions.get(user_id, id, consistency).await?;
        let is_active = found.as_ref().is_some_and(|subscription| subscription.is_active);
        if is_active || consistency == Consistency::Strong {
            return Ok(found);
        }
        self.subscriptions.get(user_id, id, Consistency::Strong).await
    }

    fn first(&self, new: &NewDelivery) -> Delivery {
        let expires_at = new.delivery_id.moment().plus(self.retention);
        Delivery::new(new, self.clock.now(), expires_at)
    }

    /// Claims the one probe of a breaker that is half open; `false` when somebody else has it.
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

    /// Takes the lease of a delivery that has a record. One without is guarded by the condition
    /// under which its first write happens.
    async fn take_lease(
        &self,
        delivery: &Delivery,
        message: &SqsMessage,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if is_new(delivery) {
            return Ok(true);
        }
        let lease = Lease {
            // A receipt names one receive of one message, so nobody else can take this lease, and
            // a request that is repeated because its answer was lost still can.
            holder: message.receipt_handle.clone().unwrap_or_default(),
            now,
            until: now.plus(LEASE),
        };
        let taken = self
            .deliveries
            .lease(&delivery.subscription_id, &delivery.id, delivery.attempt_count(), &lease)
            .await?;
        Ok(taken == Written::Applied)
    }

    async fn attempt(
        &self,
        mut delivery: Delivery,
        subscription: &Subscription,
    ) -> Result<Handled, StoreError> {
        let expect = expect(&delivery);
        let began = self.clock.now();
        let outcome = attempt::send(
            &mut delivery,
            subscription,
            subscription.timeout(),
            self.policy,
            self.sender.as_ref(),
            self.clock.as_ref(),
        )
        .await;
        let now = self.clock.now();
        let jitter = self.random.up_to(JITTER_MAX_PER_MILLE);
        let next =
            subscription.retry_policy().decide(delivery.attempt_count(), &outcome, now, jitter);
        let disposition = match next {
            Next::Done => {
                delivery.end(Status::Success, now);
                Disposition::Ack
            }
            Next::GiveUp(_) => {
                delivery.end(Status::Failed, now);
                Disposition::Ack
            }
            Next::RetryAt(at) => wait(&mut delivery, at, now),
        };
        let written = self.deliveries.put(&delivery, expect).await;
        log(&delivery, &outcome, began, &Measured::new(&delivery, expect, disposition, &written));
        if written? == Written::ConditionFailed {
            return self.overtaken(&delivery, now).await;
        }
        let verdict = match next {
            Next::Done => Verdict::Healthy,
            Next::GiveUp(GiveUp::Gone) => Verdict::Gone,
            Next::GiveUp(_) | Next::RetryAt(_) => {
                Verdict::Failing(Failures { count: 1, began, longest: took(&delivery) })
            }
        };
        let effect = Effect::new(&delivery, expect, now).with_verdict(subscription, verdict);
        Ok(Handled { disposition, effect: Some(effect) })
    }

    /// Another copy of the task wrote first, or our own write was repeated because its answer was
    /// lost. Either way the record says what is to be done with this message.
    async fn overtaken(&self, ours: &Delivery, now: Timestamp) -> Result<Handled, StoreError> {
        tracing::warn!(delivery_id = %ours.id, "another copy of the task wrote first");
        let record =
            self.deliveries.get(&ours.subscription_id, &ours.id, Consistency::Strong).await?;
        Ok(match record.and_then(|theirs| theirs.next_retry_at) {
            // It is at it now, as the lease says.
            Some(at) if at <= now => Disposition::RetryAfter(LEASE).into(),
            Some(at) => not_yet(now, at).into(),
            None => Disposition::Ack.into(),
        })
    }

    /// Puts a delivery off without an attempt, because its endpoint is known to be down. A delayed
    /// message brings it back, which unlike a hidden one does not count as in flight; after longer
    /// than a message can be delayed, the retry function does.
    async fn park(
        &self,
        mut delivery: Delivery,
        open_until: Timestamp,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let expect = expect_free(&delivery, now);
        let jitter = Duration::from_millis(self.random.up_to(PARK_JITTER_MS));
        let at = park_until(delivery.created_at(), open_until, now).plus(jitter);
        let waits = wait(&mut delivery, at, now);
        let again = DeliveryTask::Retry {
            subscription_id: delivery.subscription_id.clone(),
            delivery_id: delivery.id.clone(),
        };
        let handled = self.write_unsent(delivery, expect, now).await?;
        let (Some(_), Disposition::RetryAfter(delay)) = (&handled.effect, waits) else {
            return Ok(handled);
        };
        let delayed = [Outgoing { task: again, delay }];
        if send_tasks(self.queue.as_ref(), &delayed).await.is_empty() {
            return Ok(handled);
        }
        // Then this message comes back instead.
        Ok(Handled { disposition: waits, ..handled })
    }

    /// Ends a delivery without an attempt.
    async fn end_unsent(
        &self,
        mut delivery: Delivery,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let expect = expect_free(&delivery, now);
        delivery.end_reason = Some(reason);
        delivery.end(Status::Failed, now);
        self.write_unsent(delivery, expect, now).await
    }

    async fn write_unsent(
        &self,
        delivery: Delivery,
        expect: Expect,
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let written = self.deliveries.put(&delivery, expect).await;
        log_unsent(&delivery, &Measured::new(&delivery, expect, Disposition::Ack, &written));
        if written? == Written::ConditionFailed {
            return self.overtaken(&delivery, now).await;
        }
        let effect = Effect::new(&delivery, expect, now);
        Ok(Handled { disposition: Disposition::Ack, effect: Some(effect) })
    }
}

/// A first receive reads cheaply: a record that the read misses is met again by the condition of
/// the write. Every later one must see what an earlier one wrote.
fn consistency(message: &SqsMessage) -> Consistency {
    let count = message.attributes.get("ApproximateReceiveCount").map(String::as_str);
    if count == Some("1") { Consistency::Eventual } else { Consistency::Strong }
}

/// Whether the delivery has no record yet.
fn is_new(delivery: &Delivery) -> bool {
    delivery.next_retry_at.is_none()
}

fn expect(delivery: &Delivery) -> Expect {
    if is_new(delivery) {
        Expect::Absent
    } else {
        Expect::Retrying { attempts: delivery.attempt_count() }
    }
}

/// For a write without an attempt: it must not take the lease from a copy that is making one.
fn expect_free(delivery: &Delivery, now: Timestamp) -> Expect {
    match expect(delivery) {
        Expect::Retrying { attempts } => Expect::Free { attempts, now },
        other => other,
    }
}

/// Notes when the next attempt is made: by this message, if the queue can hold it that long, else
/// by one that the retry function sends.
fn wait(delivery: &mut Delivery, at: Timestamp, now: Timestamp) -> Disposition {
    let disposition = not_yet(now, at);
    let due_at = match disposition {
        Disposition::RetryAfter(_) => at.plus_seconds(LOST_AFTER_SECONDS),
        Disposition::Ack | Disposition::Nack => at,
    };
    delivery.wait(at, due_at, now);
    disposition
}

/// What becomes of a message whose moment has not come. The wait is cut to whole seconds, which is
/// never less than what a receiver asked for, because that is whole seconds before the jitter.
fn not_yet(now: Timestamp, at: Timestamp) -> Disposition {
    match now.until(at).as_secs() {
        seconds @ 0..=QUEUE_WAIT_MAX_SECONDS => {
            Disposition::RetryAfter(Duration::from_secs(seconds))
        }
        _ => Disposition::Ack,
    }
}

/// How long the last attempt took, by a clock that nobody sets.
fn took(delivery: &Delivery) -> Duration {
    Duration::from_millis(delivery.attempts.last().map_or(0, |attempt| attempt.duration_ms))
}

/// What the write of a record adds to the metrics; nothing when it was not written.
#[derive(Default)]
struct Measured {
    begun: Option<u64>,
    succeeded: Option<u64>,
    failed: Option<u64>,
    parked: Option<u64>,
}

impl Measured {
    fn new(
        delivery: &Delivery,
        expect: Expect,
        disposition: Disposition,
        written: &Result<Written, StoreError>,
    ) -> Self {
        if !matches!(written, Ok(Written::Applied)) {
            return Self::default();
        }
        let is_event = delivery.trigger == Trigger::Event;
        let one_if = |condition: bool| condition.then_some(1);
        Self {
            begun: one_if(is_event && expect == Expect::Absent),
            succeeded: one_if(delivery.status == Status::Success),
            failed: one_if(delivery.status == Status::Failed),
            parked: one_if(delivery.status == Status::Retrying && disposition == Disposition::Ack),
        }
    }
}

/// One line for each attempt, without body, secret or address.
fn log(delivery: &Delivery, outcome: &Outcome, began: Timestamp, measured: &Measured) {
    let (status, failure) = match outcome {
        Outcome::Response { status, .. } => (Some(*status), None),
        Outcome::NoResponse { failure, .. } => (None, Some(failure.as_str())),
    };
    let is_first = delivery.attempt_count() == 1 && delivery.trigger == Trigger::Event;
    let latency = delivery.created_at().until(began).as_millis();
    tracing::info!(
        metric.attempts = 1,
        metric.deliveries_begun = measured.begun,
        metric.deliveries_succeeded = measured.succeeded,
        metric.deliveries_failed = measured.failed,
        metric.retries_parked = measured.parked,
        metric.first_attempt_latency_ms = is_first.then(|| u64::try_from(latency).ok()).flatten(),
        delivery_id = %delivery.id,
        subscription_id = %delivery.subscription_id,
        event_type = %delivery.event_type,
        attempt = delivery.attempt_count(),
        response_status = status,
        failure,
        duration_ms = delivery.attempts.last().map(|attempt| attempt.duration_ms),
        delivery_status = %delivery.status,
        "attempt"
    );
}

/// One line for each delivery that was put off or ended without an attempt.
fn log_unsent(delivery: &Delivery, measured: &Measured) {
    tracing::info!(
        metric.deliveries_begun = measured.begun,
        metric.deliveries_failed = measured.failed,
        metric.retries_parked = measured.parked,
        delivery_id = %delivery.id,
        subscription_id = %delivery.subscription_id,
        event_type = %delivery.event_type,
        delivery_status = %delivery.status,
        "no attempt"
    );
}
