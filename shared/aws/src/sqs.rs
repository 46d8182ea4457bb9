//! The queues on SQS.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue,
    SendMessageBatchRequestEntry,
};
use tracing::warn;
use webhooks_core::limits::QUEUE_BATCH_ENTRIES;
use webhooks_core::ports::{DeadLetterQueue, Outgoing, QueueError, RejectedEvent, TaskQueue};

use crate::error::fault;

/// A client that is made when it is first used. To make one takes a part of the init that is worth
/// sparing a function whose usual event needs no queue.
#[derive(Clone)]
pub struct SqsClient(Arc<LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>>);

impl SqsClient {
    /// Is made like this.
    pub fn lazy(make: impl FnOnce() -> Client + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }

    /// Is made now.
    pub(crate) fn make(&self) {
        LazyLock::force(&self.0);
    }
}

impl From<Client> for SqsClient {
    fn from(client: Client) -> Self {
        Self::lazy(|| client)
    }
}

impl Deref for SqsClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl fmt::Debug for SqsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsClient").finish_non_exhaustive()
    }
}

/// The deliveries queue.
///
/// It is a standard queue; each message carries its subscription as the message group, so that
/// SQS fair queues keep a noisy endpoint from starving the rest. A delay for a single message is
/// refused together with a group on FIFO queues only.
#[derive(Clone, Debug)]
pub struct SqsTaskQueue {
    client: SqsClient,
    url: String,
}

impl SqsTaskQueue {
    /// The queue of this URL.
    pub fn new(client: impl Into<SqsClient>, queue_url: String) -> Self {
        Self { client: client.into(), url: queue_url }
    }

    async fn change_visibility_batch(
        &self,
        messages: &[(String, Duration)],
    ) -> Result<(), QueueError> {
        let entries = messages
            .iter()
            .enumerate()
            .map(|(index, (handle, timeout))| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(handle)
                    .visibility_timeout(whole_seconds(*timeout))
                    .build()
                    .map_err(ours)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let answer = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(fault)?;
        // The message comes back by the visibility timeout that it has, which is soon enough.
        report(answer.failed(), "a visibility timeout was not changed");
        Ok(())
    }
}

#[async_trait]
impl TaskQueue for SqsTaskQueue {
    async fn send(&self, tasks: &[Outgoing]) -> Result<Vec<usize>, QueueError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let entries = tasks.iter().enumerate().map(|(index, outgoing)| entry(index, outgoing));
        let answer = self
            .client
            .send_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.collect::<Result<_, _>>()?))
            .send()
            .await
            .map_err(fault)?;
        report(answer.failed(), "a task was not sent");
        Ok(answer.failed().iter().filter_map(|failed| failed.id().parse().ok()).collect())
    }

    async fn change_visibility(&self, messages: &[(String, Duration)]) -> Result<(), QueueError> {
        for batch in messages.chunks(QUEUE_BATCH_ENTRIES) {
            self.change_visibility_batch(batch).await?;
        }
        Ok(())
    }
}

fn entry(index: usize, outgoing: &Outgoing) -> Result<SendMessageBatchRequestEntry, QueueError> {
    let (subscription_id, _) = outgoing.task.key();
    SendMessageBatchRequestEntry::builder()
        .id(index.to_string())
        .message_body(outgoing.task.to_json()?)
        .message_group_id(subscription_id.as_str())
        .delay_seconds(whole_seconds(outgoing.delay))
        .build()
        .map_err(ours)
}

/// The dead-letter queue of the events.
#[derive(Clone, Debug)]
pub struct SqsDeadLetterQueue {
    client: SqsClient,
    url: String,
}

impl SqsDeadLetterQueue {
    /// The queue of this URL.
    pub fn new(client: impl Into<SqsClient>, queue_url: String) -> Self {
        Self { client: client.into(), url: queue_url }
    }
}

#[async_trait]
impl DeadLetterQueue for SqsDeadLetterQueue {
    async fn send(&self, event: &RejectedEvent) -> Result<(), QueueError> {
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(&event.body)
            .message_attributes("reason", attribute(event.reason)?)
            .message_attributes("detail", attribute(&event.detail)?)
            .message_attributes("message_id", attribute(&event.message_id)?)
            .send()
            .await
            .map(drop)
            .map_err(|error| fault(error).into())
    }
}

fn attribute(text: &str) -> Result<MessageAttributeValue, QueueError> {
    MessageAttributeValue::builder().data_type("String").string_value(text).build().map_err(ours)
}

fn report(failed: &[BatchResultErrorEntry], what: &str) {
    for entry in failed {
        warn!(
            sqs.code = entry.code(),
            sqs.sender_fault = entry.sender_fault(),
            sqs.message = entry.message(),
            "{what}"
        );
    }
}

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn ours(error: BuildError) -> QueueError {
    QueueError::Rejected(error.into())
}
