//! Deliver: one task in, one signed attempt out, and the next step decided.
//!
//! Every record of a batch is handled by itself, all at once: an error or a panic in one never
//! fails another. What has been tried stands in the delivery's record, never in the queue:
//!
//! 1. read the subscription and the record; drop the task when the delivery has ended;
//! 2. a later attempt takes a short lease, so that two copies of a task do not both POST;
//! 3. sign, POST, decide, write once;
//! 4. acknowledge, or hide the message until the next attempt.
//!
//! A crash between any two steps leaves the message in the queue, which brings it back; the
//! record then says what is still to be done. Counters and the endpoint's health are written last
//! and at most once per batch and subscription; losing them loses no delivery.

mod effects;
mod record;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures::FutureExt as _;
use futures::future::join_all;
use webhooks_core::ports::{
    Chain, Clock, Deliveries, Random, Sender, Statistics, Subscriptions, TaskQueue,
};
use webhooks_core::target::TargetPolicy;

use crate::effects::Effects;
use crate::record::{Disposition, Handled};

/// The function and what it may touch.
pub struct Deliver {
    /// Where to, how, signed with what.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// The records.
    pub deliveries: Arc<dyn Deliveries>,
    /// The counters.
    pub statistics: Arc<dyn Statistics>,
    /// The queue the tasks come from.
    pub queue: Arc<dyn TaskQueue>,
    /// The way out.
    pub sender: Arc<dyn Sender>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The jitter.
    pub random: Arc<dyn Random>,
    /// Where deliveries may go.
    pub policy: TargetPolicy,
    /// How long records are kept, counted from the event.
    pub retention: Duration,
}

impl Deliver {
    /// Handles one batch; answers with the records that are to come back.
    pub async fn handle(&self, batch: SqsEvent) -> SqsBatchResponse {
        let handled = join_all(batch.records.iter().map(|record| self.isolated(record))).await;

        let mut response = SqsBatchResponse::default();
        let mut effects = Effects::default();
        for (record, handled) in batch.records.iter().zip(handled) {
            effects.add(handled.effect);
            if handled.disposition != Disposition::Ack {
                response.add_failure(record.message_id.clone().unwrap_or_default());
            }
        }
        effects.write(self).await;
        response
    }

    async fn isolated(&self, message: &SqsMessage) -> Handled {
        let handled = AssertUnwindSafe(self.record(message)).catch_unwind().await;
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
        // Without this it comes back when its visibility runs out: late, not lost.
        if let Err(error) = self.queue.change_visibility(&[(receipt, timeout)]).await {
            tracing::warn!(message_id = message.message_id, error = %Chain(&error), "the visibility timeout was not changed");
        }
    }
}
