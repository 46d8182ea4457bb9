//! One task: from its message to what becomes of it.

use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use webhooks_core::breaker::BreakerState;
use webhooks_core::delivery::{DeliveryTask, EndReason, TaskError};
use webhooks_core::delivery_queue::DeliveryQueue;
use webhooks_core::limits::FAST_WAIT_MAX_SECONDS;
use webhooks_core::ports::{Chain, Outgoing, StoreError, TaskQueue};
use webhooks_core::rate_limit::{NEAR, SLOT_LENGTH};
use webhooks_core::subscription::Subscription;
use webhooks_core::task_batch::send_tasks;
use webhooks_core::time::Timestamp;

use crate::batch::{Batch, Undecided};
use crate::disposition::{Disposition, Handled};
use crate::effects::Effect;
use crate::load::Loaded;
use crate::reserve::Reservation;
use crate::telemetry::receives;
use crate::{Deliver, queue_of};

/// A message that arrives this little before its moment is handled immediately: visibility timeouts
/// count whole seconds.
const EARLY: Duration = Duration::from_secs(1);

/// How long a task is put off whose host is busy: 3 to 8 s.
const POSTPONED_MIN: Duration = Duration::from_secs(3);
const POSTPONED_JITTER_SECONDS: u64 = 5;

/// The tasks of a message, each of one delivery.
pub(crate) fn tasks_of(message: &SqsMessage) -> Result<Vec<DeliveryTask>, TaskError> {
    DeliveryTask::from_json(message.body.as_deref().unwrap_or_default()).map(DeliveryTask::split)
}

impl Deliver {
    /// Handles one task of a message. A failure on our side brings the message back.
    pub(crate) async fn handle_task(
        &self,
        task: DeliveryTask,
        from: Origin<'_>,
        batch: &Batch,
        undecided: Undecided<'_>,
    ) -> Handled {
        if let DeliveryTask::RecoveryPage { subscription_id, recovery_id, page } = &task {
            drop(undecided);
            return self.recovery_page(subscription_id, recovery_id, *page).await;
        }
        let (subscription_id, delivery_id) =
            (task.subscription_id().cloned(), task.delivery_id().cloned());
        self.task(task, from, batch, undecided).await.unwrap_or_else(|failed| {
            let Failed { error, disposition, effect } = failed;
            let disposition = match (&error, disposition) {
                (StoreError::Unavailable(_), Disposition::Nack) => {
                    Disposition::unavailable(receives(from.message), self.random.as_ref())
                }
                _ => disposition,
            };
            let error = Chain(&error);
            tracing::error!(?subscription_id, ?delivery_id, %error, "the delivery task failed");
            Handled { disposition, effect }
        })
    }

    async fn task(
        &self,
        task: DeliveryTask,
        from: Origin<'_>,
        batch: &Batch,
        undecided: Undecided<'_>,
    ) -> Result<Handled, Failed> {
        let start_at = task.start_at();
        let message = from.message;
        let loaded = self.load(task, message, batch).await.map_err(Failed::nack)?;
        let Some((loaded, subscription)) = loaded else {
            return Ok(Disposition::Ack.into());
        };
        if loaded.has_ended() {
            return Ok(loaded.done_before());
        }
        let now = self.clock.now();
        // The retry function sends another message for an overdue record, so this one need not come
        // back. If it did, each outage would leave many messages behind it. No message returns then if a
        // write ended the record and its response was lost, so the hour is counted again.
        let Handled { disposition, effect } =
            if loaded.is_overdue(now) { loaded.done_before() } else { Disposition::Nack.into() };
        let copy = loaded.retry();
        let step = self
            .next_step(loaded, subscription, (message, start_at), (batch, undecided), now)
            .await;
        let handled = step.map_err(|error| Failed { error, disposition, effect })?;
        let (queue, wait) = match handled.disposition {
            Disposition::Delay(wait) if wait.as_secs() > FAST_WAIT_MAX_SECONDS => {
                (&self.slow_queue, wait)
            }
            Disposition::Delay(wait) => (self.queue_of(message), wait),
            Disposition::RetryAfter(wait) if from.is_shared => (self.queue_of(message), wait),
            _ => return Ok(handled),
        };
        let disposition = send_copy(queue.as_ref(), Outgoing { delay: wait, ..copy }).await;
        Ok(Handled { disposition, ..handled })
    }

    /// Sends the task to the slow queue; `false` when the queue does not take it.
    async fn move_to_slow_queue(&self, loaded: &Loaded) -> bool {
        send_tasks(self.slow_queue.as_ref(), &[loaded.task()]).await.is_empty()
    }

    /// Puts off a task whose host has as many attempts of its owner as it may have. It uses up no retry, and
    /// nothing is written: a copy of the task comes in some seconds.
    async fn postpone(&self, loaded: &Loaded, message: &SqsMessage, now: Timestamp) -> Disposition {
        if loaded.is_overdue(now) {
            return Disposition::Ack;
        }
        let delay =
            POSTPONED_MIN + Duration::from_secs(self.random.up_to(POSTPONED_JITTER_SECONDS));
        let task = Outgoing { delay, ..loaded.task() };
        if send_tasks(self.slow_queue.as_ref(), &[task]).await.is_empty() {
            Disposition::Ack
        } else {
            Disposition::unavailable(receives(message), self.random.as_ref())
        }
    }

    /// Does what is next for a delivery that has not ended.
    async fn next_step(
        &self,
        loaded: Loaded,
        subscription: Option<Subscription>,
        (message, start_at): (&SqsMessage, Option<Timestamp>),
        (batch, undecided): (&Batch, Undecided<'_>),
        now: Timestamp,
    ) -> Result<Handled, StoreError> {
        let Some(mut subscription) = subscription else {
            return self.end_unsent(loaded, EndReason::WebhookDeleted, batch, now).await;
        };
        if subscription.is_holding() {
            return self.hold(loaded, &subscription, batch, now).await;
        }
        if !subscription.is_active {
            return self.end_unsent(loaded, EndReason::EndpointDisabled, batch, now).await;
        }
        if let Some(at) = loaded.not_before()
            && now.until(at) > EARLY
        {
            return Ok(Disposition::until(at, now).into());
        }
        let is_misplaced = queue_of(message) == DeliveryQueue::Fast
            && DeliveryQueue::for_endpoint(&subscription, now) == DeliveryQueue::Slow
            && subscription.health.state(now) == BreakerState::Closed;
        if is_misplaced && self.move_to_slow_queue(&loaded).await {
            return Ok(Disposition::Ack.into());
        }
        let slot = self.slot(&loaded, &subscription, (batch, undecided), now).await?;
        if let Some(slot) = slot.filter(|slot| now.until(*slot) > NEAR) {
            return self.wait_for_slot(loaded, slot, batch, now).await;
        }
        let (owner, host) = (&subscription.user_id, batch.host(&subscription.url));
        let permit = self.host_concurrency.permit(owner, host, self.timer.as_ref()).await;
        let now = self.clock.now();
        let is_in_time = slot.is_none_or(|slot| now <= slot.plus(SLOT_LENGTH));
        let Some(permit) = permit.filter(|_| is_in_time) else {
            return Ok(self.postpone(&loaded, message, now).await.into());
        };
        match self.reserve(&loaded, &mut subscription, message, batch, now).await? {
            Reservation::Granted => {
                let start = slot.or(start_at.filter(|start| now.until(*start) <= NEAR));
                self.attempt(loaded, &subscription, start, permit, batch).await
            }
            Reservation::BreakerOpen { until } => self.park(loaded, until, batch, now).await,
            Reservation::Refused(refusal) => Ok(Disposition::after_refusal(&refusal, now).into()),
        }
    }
}

/// Where a task came from.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) message: &'a SqsMessage,
    /// Whether the message has other tasks, which must not wait for the moment of this one.
    pub(crate) is_shared: bool,
}

/// Sends a delayed copy of a task. When the queue does not take it, the message itself waits.
async fn send_copy(queue: &dyn TaskQueue, copy: Outgoing) -> Disposition {
    let wait = copy.delay;
    let refused = send_tasks(queue, &[copy]).await;
    if refused.is_empty() { Disposition::Ack } else { Disposition::RetryAfter(wait) }
}

/// A task that failed on our side.
struct Failed {
    error: StoreError,
    disposition: Disposition,
    effect: Option<Effect>,
}

impl Failed {
    fn nack(error: StoreError) -> Self {
        Self { error, disposition: Disposition::Nack, effect: None }
    }
}
