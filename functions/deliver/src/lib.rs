//! Deliver: makes the attempts that the deliveries queue asks for.
//!
//! A *task* is a message of the queue; it asks for an attempt of a *delivery*, whose *record* in
//! the Deliveries table says what has been tried. The queue says nothing about that: a message may
//! come twice, late, or after its delivery has ended.
//!
//! For each task of a batch, concurrently and isolated from the others (an error or a panic in one
//! never fails another):
//!
//! 1. `load` reads the record and the subscription, which is read once for each batch; a task of an
//!    ended delivery is dropped;
//! 2. `slot` waits for the webhook's rate limit, if it has one;
//! 3. `reserve` asks the endpoint's breaker and takes a short lease on the record, so that two
//!    copies of a task do not both POST;
//! 4. `attempt` signs, sends, decides and writes the record once; `unsent` writes it when the
//!    delivery is postponed or ends without an attempt;
//! 5. `disposition` says whether the message is acknowledged or received again.
//!
//! A message of the slow queue may ask for a page of a recovery instead; see `recovery`.
//!
//! A task of the fast queue whose endpoint is slow moves to the slow queue.
//!
//! The tasks share a `batch`. `effects` writes the counters and the endpoints' health last, at most once per batch and
//! subscription. `tell` sends the operational events about what they have changed.
//!
//! A crash between any two steps leaves the message in the queue, which brings it back; the record
//! then says what is left to do. A crash before the effects loses counts, never a delivery.

mod attempt;
mod batch;
mod disposition;
mod effects;
mod load;
mod recovery;
mod reserve;
mod slot;
mod task;
mod telemetry;
mod tell;
#[cfg(test)]
mod tests;
mod unsent;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures::FutureExt as _;
use futures::future::join_all;
use webhooks_core::block_list::BlockListSender;
use webhooks_core::delivery_queue::DeliveryQueue;
use webhooks_core::limits::RECOVERY_PAGE_MAX;
use webhooks_core::ports::{
    Chain, Clock, Deliveries, EventBus, Random, Recoveries, Sender, Statistics, Subscriptions,
    TaskQueue, Timer,
};
use webhooks_core::secret::SecretOpener;

use crate::batch::{Batch, Undecided};
use crate::disposition::{Disposition, Handled};
use crate::effects::Effects;
use crate::telemetry::log_failed_tasks;
use crate::tell::NobodyAsks;

/// The function and its ports.
pub struct Deliver {
    subscriptions: Arc<dyn Subscriptions>,
    opener: Arc<dyn SecretOpener>,
    deliveries: Arc<dyn Deliveries>,
    statistics: Arc<dyn Statistics>,
    recoveries: Arc<dyn Recoveries>,
    queue: Arc<dyn TaskQueue>,
    slow_queue: Arc<dyn TaskQueue>,
    sender: Arc<dyn Sender>,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
    random: Arc<dyn Random>,
    retention: Duration,
    recovery_page: usize,
    nobody_asks: NobodyAsks,
    event_bus: Option<Arc<dyn EventBus>>,
}

impl Deliver {
    /// The function over these ports. `queue` is the fast deliveries queue; `retention` says how
    /// long records are kept, counted from the event.
    #[expect(clippy::too_many_arguments, reason = "each is another port or setting")]
    pub fn new(
        subscriptions: Arc<dyn Subscriptions>,
        opener: Arc<dyn SecretOpener>,
        deliveries: Arc<dyn Deliveries>,
        statistics: Arc<dyn Statistics>,
        recoveries: Arc<dyn Recoveries>,
        queue: Arc<dyn TaskQueue>,
        slow_queue: Arc<dyn TaskQueue>,
        sender: Arc<dyn Sender>,
        clock: Arc<dyn Clock>,
        timer: Arc<dyn Timer>,
        random: Arc<dyn Random>,
        retention: Duration,
    ) -> Self {
        let sender = BlockListSender::new(sender, subscriptions.clone(), clock.clone());
        let sender = Arc::new(sender);
        Self {
            subscriptions,
            opener,
            deliveries,
            statistics,
            recoveries,
            queue,
            slow_queue,
            sender,
            clock,
            timer,
            random,
            retention,
            recovery_page: RECOVERY_PAGE_MAX,
            nobody_asks: NobodyAsks::default(),
            event_bus: None,
        }
    }

    /// The same function, with at most so many redeliveries in a page of a recovery.
    #[must_use]
    pub fn with_recovery_page(self, recovery_page: usize) -> Self {
        Self { recovery_page, ..self }
    }

    /// The same function, which tells the operator, too, if there is a bus for that.
    #[must_use]
    pub fn with_event_bus(self, event_bus: Option<Arc<dyn EventBus>>) -> Self {
        Self { event_bus, ..self }
    }

    /// Handles one batch; returns the batch item failures: the messages to receive again.
    pub async fn handle(&self, batch: SqsEvent) -> SqsBatchResponse {
        let shared = Batch::new();
        let tasks: Vec<_> =
            batch.records.iter().map(|record| (record, shared.undecided())).collect();
        let tasks = tasks.into_iter();
        let handled =
            join_all(tasks.map(|(record, task)| self.isolated(record, &shared, task))).await;

        let mut response = SqsBatchResponse::default();
        let mut effects = Effects::default();
        log_failed_tasks(&batch, &handled);
        for (record, handled) in batch.records.iter().zip(handled) {
            effects.add(handled.effect);
            if handled.disposition != Disposition::Ack {
                response.add_failure(record.message_id.clone().unwrap_or_default());
            }
        }
        shared.log();
        effects.write(self, &shared).await;
        response
    }

    async fn isolated(
        &self,
        message: &SqsMessage,
        batch: &Batch,
        undecided: Undecided<'_>,
    ) -> Handled {
        let handled =
            AssertUnwindSafe(self.message(message, batch, undecided)).catch_unwind().await;
        let handled = handled.unwrap_or_else(|_| {
            tracing::error!(message_id = message.message_id, "the task panicked");
            Disposition::Nack.into()
        });
        if let Disposition::RetryAfter(wait) = handled.disposition {
            self.change_visibility(message, wait).await;
        }
        handled
    }

    /// Sets the visibility timeout of a message immediately, while others of the batch may still wait
    /// for their endpoints: its own wait does not depend on theirs.
    async fn change_visibility(&self, message: &SqsMessage, timeout: Duration) {
        let receipt = message.receipt_handle.clone().unwrap_or_default();
        let queue = match queue_of(message) {
            DeliveryQueue::Fast => &self.queue,
            DeliveryQueue::Slow => &self.slow_queue,
        };
        // Without this it is received again when its visibility timeout ends: late, not lost.
        if let Err(error) = queue.change_visibility(&[(receipt, timeout)]).await {
            tracing::warn!(message_id = message.message_id, error = %Chain(&error), "the visibility timeout was not changed");
        }
    }
}

/// The queue that a message came from.
fn queue_of(message: &SqsMessage) -> DeliveryQueue {
    DeliveryQueue::of_arn(message.event_source_arn.as_deref().unwrap_or_default())
}
