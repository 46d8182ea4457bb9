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
use webhooks_core::delivery::cut;
use webhooks_core::limits::{QUEUE_BATCH_BYTES, QUEUE_BATCH_ENTRIES};
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
/// It is a standard queue; each message carries its owner as the message group, so that SQS fair
/// queues keep one user from delaying the others. A delay for a single message is
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
        let response = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(fault)?;
        // The message becomes visible when its present timeout ends, which is soon enough.
        report(response.failed(), "a visibility timeout was not changed");
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
        let response = self
            .client
            .send_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.collect::<Result<_, _>>()?))
            .send()
            .await
            .map_err(fault)?;
        report(response.failed(), "a task was not sent");
        Ok(response.failed().iter().filter_map(|failed| failed.id().parse().ok()).collect())
    }

    async fn change_visibility(&self, messages: &[(String, Duration)]) -> Result<(), QueueError> {
        for batch in messages.chunks(QUEUE_BATCH_ENTRIES) {
            self.change_visibility_batch(batch).await?;
        }
        Ok(())
    }
}

fn entry(index: usize, outgoing: &Outgoing) -> Result<SendMessageBatchRequestEntry, QueueError> {
    SendMessageBatchRequestEntry::builder()
        .id(index.to_string())
        .message_body(outgoing.task.to_json()?)
        .message_group_id(&outgoing.group)
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
    /// Sends the event with its reason as message attributes. Both together must fit into a message,
    /// so the body of an event that is nearly as large as a message can be is cut, which the
    /// attribute `body_bytes` tells: its size before.
    async fn send(&self, event: &RejectedEvent) -> Result<(), QueueError> {
        let mut attributes = vec![
            ("reason", sendable(event.reason)),
            ("detail", sendable(&event.detail)),
            (RejectedEvent::MESSAGE_ID, sendable(&event.message_id)),
            (RejectedEvent::SENT_TIMESTAMP, event.sent.millis().to_string()),
        ];
        let mut body = sendable(&event.body);
        let bytes = body.len() + attributes_size(&attributes);
        if bytes > QUEUE_BATCH_BYTES {
            attributes.push(("body_bytes", event.body.len().to_string()));
            let room = QUEUE_BATCH_BYTES - attributes_size(&attributes);
            body.truncate(cut(&body, room).len());
        }
        let mut message = self.client.send_message().queue_url(&self.url).message_body(body);
        for (name, value) in attributes {
            message = message.message_attributes(name, attribute(value)?);
        }
        message.send().await.map(drop).map_err(|error| fault(error).into())
    }
}

const ATTRIBUTE_TYPE: &str = "String";

fn attribute(text: String) -> Result<MessageAttributeValue, QueueError> {
    MessageAttributeValue::builder()
        .data_type(ATTRIBUTE_TYPE)
        .string_value(text)
        .build()
        .map_err(ours)
}

/// What attributes add to the size of a message: names, types and values.
fn attributes_size(attributes: &[(&str, String)]) -> usize {
    attributes.iter().map(|(name, value)| name.len() + ATTRIBUTE_TYPE.len() + value.len()).sum()
}

/// A text that SQS takes: not empty, and with U+FFFD in place of each character that is not allowed
/// ([SendMessage](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html)).
fn sendable(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let allowed = |c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    text.chars().map(|c| if allowed(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
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
