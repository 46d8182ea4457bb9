//! Stands in for Lambda's event source mapping between a queue and a function.
//!
//! A poller receives batches from a [`Source`] by long polling, invokes the deployed handler with the
//! JSON event of Lambda, and deletes the messages that the handler did not report as failed. Failed
//! messages stay hidden until their visibility timeout ends; then the queue's redrive policy applies.
//! Batches are handled concurrently, up to a limit, so a slow endpoint in one batch does not delay
//! the others. While several are, a poller waits some milliseconds before it receives the next, because a
//! batch of ten messages needs hardly more requests to the tables and queues than a batch of one.
//!
//! Deliberately absent: the batching windows of event source mappings, filters, and the scaling of Lambda's
//! pollers.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use webhooks_aws::clients;

/// How long one receive waits for a message, in seconds (AWS quota).
const WAIT_SECONDS: i32 = 20;
/// The batches that may be under way before a poller waits for more messages, ...
const BATCHES_WITHOUT_PAUSE: usize = 2;
/// ... for a millisecond for each batch above that, up to this many.
const PAUSE_MAX_MS: usize = 8;
/// The pause after a receive that failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// The result of an invocation; an error when it failed as a whole.
pub type Invoked = Result<SqsBatchResponse, String>;

/// A deployed handler of queue events.
pub type Handler = Arc<dyn Fn(SqsEvent) -> BoxFuture<'static, Invoked> + Send + Sync>;

/// A queue and how it is read.
#[derive(Clone, Debug)]
pub struct Source {
    /// The queue's URL.
    pub url: String,
    /// The queue's ARN; its fourth part is the region.
    pub arn: String,
    /// Messages in one batch, at most 10.
    pub batch_size: i32,
    /// The most batches that are handled concurrently.
    pub concurrency: usize,
    /// How long one invocation may take.
    pub timeout: Duration,
}

/// A client of the SQS endpoint at this URL without timeouts, as a long poll is longer than them.
pub fn client(endpoint_url: &str) -> Client {
    let shared = clients::local(endpoint_url);
    let config = aws_sdk_sqs::config::Builder::from(&shared)
        .timeout_config(aws_sdk_sqs::config::timeout::TimeoutConfig::disabled());
    Client::from_conf(config.build())
}

/// Polls until `stop`, then finishes the batches that have begun.
pub async fn run(sqs: Client, source: Source, handler: Handler, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(source.concurrency));
    let source = Arc::new(source);
    let mut batches = JoinSet::new();
    loop {
        while batches.try_join_next().is_some() {}
        let pause = batches.len().saturating_sub(BATCHES_WITHOUT_PAUSE).min(PAUSE_MAX_MS);
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            received = async {
                if pause > 0 {
                    tokio::time::sleep(Duration::from_millis(pause as u64)).await;
                }
                receive(&sqs, &source, &slots).await
            } => received,
        };
        let Some((messages, slot)) = received else { continue };
        let (sqs, source, handler) = (sqs.clone(), Arc::clone(&source), Arc::clone(&handler));
        batches.spawn(async move {
            process(&sqs, &source, &handler, &messages).await;
            drop(slot);
        });
    }
    while batches.join_next().await.is_some() {}
}

/// Receives the next batch, once one may be handled.
async fn receive(
    sqs: &Client,
    source: &Source,
    slots: &Arc<Semaphore>,
) -> Option<(Vec<Message>, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let received = sqs
        .receive_message()
        .queue_url(&source.url)
        .max_number_of_messages(source.batch_size)
        .wait_time_seconds(WAIT_SECONDS)
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .message_attribute_names("All")
        .send()
        .await;
    match received {
        Ok(output) => {
            output.messages.filter(|messages| !messages.is_empty()).map(|messages| (messages, slot))
        }
        Err(error) => {
            let error = aws_sdk_sqs::error::DisplayErrorContext(&error);
            tracing::warn!(queue = source.url, %error, "receiving messages failed");
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            None
        }
    }
}

async fn process(sqs: &Client, source: &Source, handler: &Handler, messages: &[Message]) {
    let response = invoke(source, handler, messages).await;
    let done = acknowledged(messages, response.as_ref());
    if done.is_empty() {
        return;
    }
    let entries = done.iter().enumerate().filter_map(|(index, message)| {
        DeleteMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(message.receipt_handle.as_deref()?)
            .build()
            .ok()
    });
    let request = sqs.delete_message_batch().queue_url(&source.url);
    let deleted = request.set_entries(Some(entries.collect())).send().await;
    // A message that is not deleted is received again; the handlers are idempotent.
    match deleted {
        Ok(output) if output.failed.is_empty() => {}
        Ok(output) => {
            tracing::warn!(
                queue = source.url,
                failed = output.failed.len(),
                "deleting messages failed"
            );
        }
        Err(error) => {
            let error = aws_sdk_sqs::error::DisplayErrorContext(&error);
            tracing::warn!(queue = source.url, %error, "deleting messages failed");
        }
    }
}

/// Invokes the handler; `None` if the invocation failed.
async fn invoke(
    source: &Source,
    handler: &Handler,
    messages: &[Message],
) -> Option<SqsBatchResponse> {
    let event = match serde_json::from_value(event(source, messages)) {
        Ok(event) => event,
        Err(error) => {
            tracing::error!(queue = source.url, %error, "the event of a batch cannot be parsed");
            return None;
        }
    };
    // In a task of its own, so that a panic only fails the invocation.
    let invocation = AbortOnDropHandle::new(tokio::spawn(handler(event)));
    match tokio::time::timeout(source.timeout, invocation).await {
        Ok(Ok(Ok(response))) => Some(response),
        Ok(Ok(Err(error))) => {
            tracing::error!(queue = source.url, error, "an invocation failed");
            None
        }
        Ok(Err(error)) => {
            tracing::error!(queue = source.url, %error, "an invocation failed");
            None
        }
        Err(_) => {
            tracing::error!(queue = source.url, "an invocation timed out");
            None
        }
    }
}

/// The messages to delete, by Lambda's rules: all but the reported ones; none if the invocation
/// failed or reported an id that is not in the batch
/// (<https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>).
fn acknowledged<'a>(
    messages: &'a [Message],
    response: Option<&SqsBatchResponse>,
) -> Vec<&'a Message> {
    let Some(response) = response else { return Vec::new() };
    let failed: HashSet<&str> = response
        .batch_item_failures
        .iter()
        .map(|failure| failure.item_identifier.as_str())
        .collect();
    let ids: HashSet<&str> = messages.iter().map(id).collect();
    if !failed.is_subset(&ids) {
        tracing::error!("an invocation reported messages that are not in its batch");
        return Vec::new();
    }
    messages.iter().filter(|message| !failed.contains(id(message))).collect()
}

fn id(message: &Message) -> &str {
    message.message_id.as_deref().unwrap_or_default()
}

fn event(source: &Source, messages: &[Message]) -> Value {
    let records: Vec<Value> = messages.iter().map(|message| record(source, message)).collect();
    json!({ "Records": records })
}

fn record(source: &Source, message: &Message) -> Value {
    let attributes: BTreeMap<&str, &str> = message
        .attributes
        .iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let message_attributes: BTreeMap<&str, Value> = message
        .message_attributes
        .iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), message_attribute(value)))
        .collect();
    let mut record = json!({
        "messageId": message.message_id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": attributes,
        "messageAttributes": message_attributes,
        "md5OfBody": message.md5_of_body,
        "eventSource": "aws:sqs",
        "eventSourceARN": source.arn,
        "awsRegion": source.arn.split(':').nth(3),
    });
    if let Some(md5) = &message.md5_of_message_attributes {
        record["md5OfMessageAttributes"] = json!(md5);
    }
    record
}

fn message_attribute(value: &MessageAttributeValue) -> Value {
    json!({
        "stringValue": value.string_value,
        "binaryValue": value.binary_value.as_ref().map(|blob| STANDARD.encode(blob)),
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": value.data_type,
    })
}

#[cfg(test)]
mod tests;
