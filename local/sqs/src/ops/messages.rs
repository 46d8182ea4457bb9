//! Operations on messages other than receiving: send, delete, change visibility, and batches.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{BatchRequest, queue_name, required, run_batch};
use crate::Sqs;
use crate::attributes::MAX_VISIBILITY_SECONDS;
use crate::errors::{Code, SqsError};
use crate::message::{
    MAX_MESSAGE_BYTES, Message, Place, Receipt, WireMessage, attributes_md5, md5_hex,
};
use crate::state::{Change, State};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SendMessage {
    queue_url: Option<String>,
    #[serde(flatten)]
    message: WireMessage,
}

pub(crate) fn send_message(sqs: &Sqs, request: SendMessage) -> Result<Value, SqsError> {
    let queue = queue_name(request.queue_url)?;
    let answer = sqs.transact(|state, now| send(state, &queue, request.message, now))?;
    Ok(Value::Object(answer))
}

pub(crate) fn send_message_batch(
    sqs: &Sqs,
    request: BatchRequest<WireMessage>,
) -> Result<Value, SqsError> {
    let (queue, entries) = request.check("SendMessage")?;
    sqs.transact(|state, now| {
        state.queue(&queue)?;
        let bytes: usize = entries.iter().map(|entry| entry.content.size()).sum();
        if bytes > MAX_MESSAGE_BYTES {
            return Err(SqsError::new(
                Code::BatchRequestTooLong,
                format!(
                    "Batch requests cannot be longer than {MAX_MESSAGE_BYTES} bytes. You have \
                     sent {bytes} bytes."
                ),
            ));
        }
        Ok(run_batch(entries, |message| send(state, &queue, message, now)))
    })
}

fn send(
    state: &mut State,
    queue: &str,
    message: WireMessage,
    now: u64,
) -> Result<Map<String, Value>, SqsError> {
    let attributes = &state.queue(queue)?.config.attributes;
    let content = message.check(attributes.maximum_message_size)?;
    let delay_ms = u64::from(content.delay.unwrap_or(attributes.delay)) * 1_000;
    let (seq, id) = state.next_id();
    let mut answer = Map::new();
    answer.insert("MessageId".to_owned(), json!(id));
    answer.insert("MD5OfMessageBody".to_owned(), json!(md5_hex(content.body.as_bytes())));
    let attributes = content.attributes.iter().map(|(name, value)| (name.as_str(), value));
    if let Some(md5) = attributes_md5(attributes) {
        answer.insert("MD5OfMessageAttributes".to_owned(), json!(md5));
    }
    let trace = content.trace.iter().map(|trace| ("AWSTraceHeader", trace));
    if let Some(md5) = attributes_md5(trace) {
        answer.insert("MD5OfMessageSystemAttributes".to_owned(), json!(md5));
    }
    let message = Message {
        seq,
        id,
        body: content.body,
        attributes: content.attributes,
        group: content.group,
        trace: content.trace,
        sent_at: now,
        first_received_at: None,
        received_at: 0,
        receive_count: 0,
        visible_at: now + delay_ms,
        place: if delay_ms == 0 { Place::Visible } else { Place::Delayed },
        source_arn: None,
    };
    state.record(Change::Sent { queue: queue.to_owned(), message })?;
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeleteMessage {
    queue_url: Option<String>,
    #[serde(flatten)]
    content: DeleteEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeleteEntry {
    receipt_handle: Option<String>,
}

pub(crate) fn delete_message(sqs: &Sqs, request: DeleteMessage) -> Result<Value, SqsError> {
    let queue = queue_name(request.queue_url)?;
    let answer = sqs.transact(|state, _| delete(state, &queue, request.content))?;
    Ok(Value::Object(answer))
}

pub(crate) fn delete_message_batch(
    sqs: &Sqs,
    request: BatchRequest<DeleteEntry>,
) -> Result<Value, SqsError> {
    let (queue, entries) = request.check("DeleteMessage")?;
    sqs.transact(|state, _| {
        state.queue(&queue)?;
        Ok(run_batch(entries, |entry| delete(state, &queue, entry)))
    })
}

/// Deletes the message of a handle. One that is gone, or that was received again since, is
/// left alone without a word: deleting twice is not an error.
fn delete(
    state: &mut State,
    queue: &str,
    entry: DeleteEntry,
) -> Result<Map<String, Value>, SqsError> {
    let found = state.queue(queue)?;
    let receipt = Receipt::decode(queue, &required(entry.receipt_handle, "ReceiptHandle")?)?;
    if found.message(receipt.seq).is_some_and(|message| receipt.is_current(message)) {
        state.record(Change::Deleted { queue: queue.to_owned(), seq: receipt.seq })?;
    }
    Ok(Map::new())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ChangeMessageVisibility {
    queue_url: Option<String>,
    #[serde(flatten)]
    content: VisibilityEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VisibilityEntry {
    receipt_handle: Option<String>,
    visibility_timeout: Option<i64>,
}

pub(crate) fn change_message_visibility(
    sqs: &Sqs,
    request: ChangeMessageVisibility,
) -> Result<Value, SqsError> {
    let queue = queue_name(request.queue_url)?;
    let answer =
        sqs.transact(|state, now| change_visibility(state, &queue, request.content, now))?;
    Ok(Value::Object(answer))
}

pub(crate) fn change_message_visibility_batch(
    sqs: &Sqs,
    request: BatchRequest<VisibilityEntry>,
) -> Result<Value, SqsError> {
    let (queue, entries) = request.check("ChangeMessageVisibility")?;
    sqs.transact(|state, now| {
        state.queue(&queue)?;
        Ok(run_batch(entries, |entry| change_visibility(state, &queue, entry, now)))
    })
}

fn change_visibility(
    state: &mut State,
    queue: &str,
    entry: VisibilityEntry,
    now: u64,
) -> Result<Map<String, Value>, SqsError> {
    let found = state.queue(queue)?;
    let handle = required(entry.receipt_handle, "ReceiptHandle")?;
    let receipt = Receipt::decode(queue, &handle)?;
    let seconds = required(entry.visibility_timeout, "VisibilityTimeout")?;
    let refuse = |reason: String| Err(SqsError::parameter(seconds, "VisibilityTimeout", reason));
    let Some(timeout_ms) = u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds <= u64::from(MAX_VISIBILITY_SECONDS))
        .map(|seconds| seconds * 1_000)
    else {
        return refuse(format!("Must be between 0 and {MAX_VISIBILITY_SECONDS}."));
    };
    let message = found.message(receipt.seq).filter(|message| receipt.is_current(message));
    let message = message.ok_or_else(|| {
        SqsError::parameter(
            &handle,
            "ReceiptHandle",
            "Message does not exist or is not available for visibility timeout change.",
        )
    })?;
    if message.place != Place::InFlight {
        return Err(SqsError::new(
            Code::MessageNotInflight,
            "The message referred to isn't in flight.",
        ));
    }
    // Some of the 12 hours has always passed on AWS, so all of them are never left.
    let total_ms = now.saturating_sub(message.received_at) + timeout_ms;
    if timeout_ms > 0 && total_ms >= u64::from(MAX_VISIBILITY_SECONDS) * 1_000 {
        return refuse(format!(
            "Total VisibilityTimeout for the message is beyond the limit \
             [{MAX_VISIBILITY_SECONDS} seconds]"
        ));
    }
    let visible_at = now + timeout_ms;
    state.record(Change::Hidden { queue: queue.to_owned(), seq: receipt.seq, visible_at })?;
    Ok(Map::new())
}
