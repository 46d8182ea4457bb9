//! Deliver: makes the attempts that the deliveries queue asks for.
//!
//! A *task* is a message of the queue, or a part of one; it asks for an attempt of a *delivery*, whose *record* in
//! the Deliveries table says what has been tried. The queue says nothing about that: a message may
//! come twice, late, or after its delivery has ended.
//!
//! A message may have several tasks, for the deliveries of one event to several webhooks. It is acknowledged when all of
//! them are done; one that is to be tried again gets a message of its own.
//!
//! For each task of a batch, concurrently and isolated from the others (an error or a panic in one
//! never fails another):
//!
//! 1. `load` reads the record and the subscription, which is read once for each batch, and together with those of other
//!    tasks where that is possible; a task of an ended delivery is dropped;
//! 2. `slot` waits for the webhook's rate limit, if it has one;
//! 3. `host_concurrency` puts the task off when the host has enough attempts of the owner already;
//! 4. `reserve` asks the endpoint's breaker and takes a short lease on the record, so that two
//!    copies of a task do not both POST;
//! 5. `attempt` signs, sends, decides and writes the record once; `unsent` writes it when the
//!    delivery is postponed or ends without an attempt;
//! 6. `disposition` says whether the message is acknowledged or received again.
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
mod host_concurrency;
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
use futures::future::{join, join_all};
use futures::stream::FuturesOrdered;
use futures::{FutureExt as _, StreamExt as _};
use webhooks_core::block_list::BlockListSender;
use webhooks_core::delivery::DeliveryTask;
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
use crate::host_concurrency::HostConcurrency;
use crate::task::{Origin, tasks_of};
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
    host_concurrency: HostConcurrency,
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
            host_concurrency: HostConcurrency::default(),
            nobody_asks: NobodyAsks::default(),
            event_bus: None,
        }
    }

    /// The same function, with at most so many redeliveries in a page of a recovery.
    #[must_use]
    pub fn with_recovery_page(self, recovery_page: usize) -> Self {
        Self { recovery_page, ..self }
    }

    /// The same function, with at most so many concurrent attempts at one host for one owner.
    #[must_use]
    pub fn with_host_concurrency(self, most: usize) -> Self {
        Self { host_concurrency: HostConcurrency::new(most), ..self }
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
            batch.records.iter().flat_map(|message| tasks(message, &shared)).collect();
        self.load_together(&tasks, &shared).await;
        let tasks = tasks.into_iter().map(|task| self.isolated(task, &shared));
        let handled: Vec<_> = tasks.collect::<FuturesOrdered<_>>().collect().await;

        log_failed_tasks(&handled);
        let mut effects = Effects::default();
        let mut failed: Vec<(&SqsMessage, Disposition)> = Vec::new();
        for (message, Handled { disposition, effect }) in handled {
            effects.add(effect);
            match failed.last_mut() {
                _ if disposition == Disposition::Ack => {}
                Some((last, of_last)) if std::ptr::eq(*last, message) => {
                    *of_last = of_last.and(disposition);
                }
                _ => failed.push((message, disposition)),
            }
        }
        let mut response = SqsBatchResponse::default();
        let mut soon = Vec::new();
        for (message, disposition) in failed {
            response.add_failure(message.message_id.clone().unwrap_or_default());
            if let Disposition::NackFor(wait) = disposition {
                soon.push(self.change_visibility(message, wait));
            }
        }
        shared.log();
        join(join_all(soon), effects.write(self, &shared)).await;
        response
    }

    /// Handles a task, and says which message it was of.
    async fn isolated<'a>(&self, task: Task<'a>, batch: &Batch) -> (&'a SqsMessage, Handled) {
        let Task { asks, from, undecided } = task;
        let Origin { message, is_shared } = from;
        let Some(task) = asks else { return (message, Disposition::Nack.into()) };
        let handled = AssertUnwindSafe(self.handle_task(task, from, batch, undecided));
        let handled = handled.catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(message_id = message.message_id, "the task panicked");
            Disposition::Nack.into()
        });
        // Immediately, while others of the batch may still wait for their endpoints: its own wait does not
        // depend on theirs.
        if let Disposition::RetryAfter(wait) = handled.disposition
            && !is_shared
        {
            self.change_visibility(message, wait).await;
        }
        (message, handled)
    }

    /// Sets the visibility timeout of a message.
    async fn change_visibility(&self, message: &SqsMessage, timeout: Duration) {
        let receipt = message.receipt_handle.clone().unwrap_or_default();
        let queue = self.queue_of(message);
        // Without this it is received again when its visibility timeout ends: late, not lost.
        if let Err(error) = queue.change_visibility(&[(receipt, timeout)]).await {
            tracing::warn!(message_id = message.message_id, error = %Chain(&error), "the visibility timeout was not changed");
        }
    }

    /// The queue that a message came from.
    fn queue_of(&self, message: &SqsMessage) -> &Arc<dyn TaskQueue> {
        match queue_of(message) {
            DeliveryQueue::Fast => &self.queue,
            DeliveryQueue::Slow => &self.slow_queue,
        }
    }
}

/// One task of a batch.
struct Task<'a> {
    /// Nothing when the message has none that can be read.
    asks: Option<DeliveryTask>,
    from: Origin<'a>,
    undecided: Undecided<'a>,
}

/// The tasks of a message.
fn tasks<'a>(message: &'a SqsMessage, batch: &'a Batch) -> Vec<Task<'a>> {
    let tasks = tasks_of(message).unwrap_or_else(|error| {
        // Only our own functions write to this queue. It ends in the dead-letter queue.
        tracing::error!(
            message_id = message.message_id,
            error = %Chain(&error),
            "the message is not a delivery task"
        );
        Vec::new()
    });
    let from = Origin { message, is_shared: tasks.len() > 1 };
    let task = |asks| Task { asks, from, undecided: batch.undecided() };
    if tasks.is_empty() {
        return vec![task(None)];
    }
    tasks.into_iter().map(Some).map(task).collect()
}

/// Which queue a message came from.
fn queue_of(message: &SqsMessage) -> DeliveryQueue {
    DeliveryQueue::of_arn(message.event_source_arn.as_deref().unwrap_or_default())
}
