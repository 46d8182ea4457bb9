//! The queues on SQS.

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue,
    QueueAttributeName, SendMessageBatchRequestEntry,
};
use tracing::warn;
use webhooks_core::limits::QUEUE_BATCH_ENTRIES;
use webhooks_core::ports::{DeadLetter, DeadLetters, Outgoing, QueueError, TaskQueue};

use crate::error::fault;

/// The deliveries queue.
///
/// It is a standard queue; each message carries its subscription as the message group, so that
/// SQS fair queues keep a noisy endpoint from starving the rest. A delay for a single message is
/// refused together with a group on FIFO queues only.
#[derive(Clone, Debug)]
pub struct SqsTaskQueue {
    client: Client,
    url: String,
}

impl SqsTaskQueue {
    /// The queue of this URL.
    pub fn new(client: Client, queue_url: String) -> Self {
        Self { client, url: queue_url }
    }

    /// Opens the connection to the queue. Where that fails, the first real request tries again and
    /// says why.
    pub async fn open_connection(&self) {
        let ask = self.client.get_queue_attributes().queue_url(&self.url);
        let _ = ask.attribute_names(QueueAttributeName::QueueArn).send().await;
    }

    async fn hide_batch(&self, messages: &[(String, u32)]) -> Result<(), QueueError> {
        let entries = messages
            .iter()
            .enumerate()
            .map(|(index, (handle, seconds))| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(handle)
                    .visibility_timeout(whole(*seconds))
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
            .map_err(|error| fault(&error))?;
        // A message that is not hidden comes back by the queue's own timeout, which is soon enough.
        report(answer.failed(), "a message was not hidden");
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
            .map_err(|error| fault(&error))?;
        report(answer.failed(), "a task was not sent");
        Ok(answer.failed().iter().filter_map(|failed| failed.id().parse().ok()).collect())
    }

    async fn hide(&self, messages: &[(String, u32)]) -> Result<(), QueueError> {
        for batch in messages.chunks(QUEUE_BATCH_ENTRIES) {
            self.hide_batch(batch).await?;
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
        .delay_seconds(whole(outgoing.delay_seconds))
        .build()
        .map_err(ours)
}

/// The dead-letter queue of the events.
#[derive(Clone, Debug)]
pub struct SqsDeadLetters {
    client: Client,
    url: String,
}

impl SqsDeadLetters {
    /// The queue of this URL.
    pub fn new(client: Client, queue_url: String) -> Self {
        Self { client, url: queue_url }
    }
}

#[async_trait]
impl DeadLetters for SqsDeadLetters {
    async fn bury(&self, letter: &DeadLetter) -> Result<(), QueueError> {
        self.client
            .send_message()
            .queue_url(&self.url)
            .message_body(&letter.body)
            .message_attributes("reason", attribute(letter.reason)?)
            .message_attributes("detail", attribute(&letter.detail)?)
            .message_attributes("message_id", attribute(&letter.message_id)?)
            .send()
            .await
            .map(drop)
            .map_err(|error| fault(&error).into())
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

fn whole(seconds: u32) -> i32 {
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

#[expect(clippy::needless_pass_by_value, reason = "it is the function `map_err` wants")]
fn ours(error: BuildError) -> QueueError {
    QueueError::Rejected(error.to_string())
}
