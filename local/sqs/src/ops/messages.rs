//! Operations on messages other than receiving: send, delete, change visibility, and batches.

use serde_json::{Map, Value, json};

use super::{BatchRequest, MessageRequest, required, run_batch, run_one};
use crate::Sqs;
use crate::attributes::MAX_VISIBILITY_SECONDS;
use crate::errors::{Code, SqsError};
use crate::message::{
    MAX_MESSAGE_BYTES, Message, Place, Receipt, WireMessage, attributes_md5, md5_hex,
};
use crate::state::{Change, State};

pub(crate) fn send_message(
    sqs: &Sqs,
    request: MessageRequest<WireMessage>,
) -> Result<Value, SqsError> {
    run_one(sqs, request, send)
}

pub(crate) fn send_message_batch(
    sqs: &Sqs,
    request: BatchRequest<WireMessage>,
) -> Result<Value, SqsError> {
    let (queue, entries) = request.check("SendMessage")?;
    let bytes: usize = entries.iter().map(|entry| entry.content.size()).sum();
    if bytes > MAX_MESSAGE_BYTES {
        return Err(SqsError::new(
            Code::BatchRequestTooLong,
            format!(
                "Batch requests cannot be longer than {MAX_MESSAGE_BYTES} bytes. You have sent \
                 {bytes} bytes."
            ),
        ));
    }
    run_batch(sqs, &queue, entries, send)
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
    let mut result = Map::new();
    let mut put = |name: &str, value: String| result.insert(name.to_owned(), json!(value));
    put("MessageId", id.clone());
    put("MD5OfMessageBody", md5_hex(content.body.as_bytes()));
    let attributes = content.attributes.iter().map(|(name, value)| (name.as_str(), value));
    if let Some(md5) = attributes_md5(attributes) {
        put("MD5OfMessageAttributes", md5);
    }
    let trace = content.trace.iter().map(|trace| ("AWSTraceHeader", trace));
    if let Some(md5) = attributes_md5(trace) {
        put("MD5OfMessageSystemAttributes", md5);
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
    Ok(result)
}

request!(DeleteEntry { receipt_handle: String });

pub(crate) fn delete_message(
    sqs: &Sqs,
    request: MessageRequest<DeleteEntry>,
) -> Result<Value, SqsError> {
    run_one(sqs, request, delete)
}

pub(crate) fn delete_message_batch(
    sqs: &Sqs,
    request: BatchRequest<DeleteEntry>,
) -> Result<Value, SqsError> {
    let (queue, entries) = request.check("DeleteMessage")?;
    run_batch(sqs, &queue, entries, delete)
}

/// Deletes the message of a handle. Deleting one that is gone or was received again since is not an
/// error and changes nothing.
fn delete(
    state: &mut State,
    queue: &str,
    entry: DeleteEntry,
    _now: u64,
) -> Result<Map<String, Value>, SqsError> {
    let found = state.queue(queue)?;
    let receipt = Receipt::decode(queue, &required(entry.receipt_handle, "ReceiptHandle")?)?;
    if found.message(receipt.seq).is_some_and(|message| receipt.is_current(message)) {
        state.record(Change::Deleted { queue: queue.to_owned(), seq: receipt.seq })?;
    }
    Ok(Map::new())
}

request!(VisibilityEntry { receipt_handle: String, visibility_timeout: i64 });

pub(crate) fn change_message_visibility(
    sqs: &Sqs,
    request: MessageRequest<VisibilityEntry>,
) -> Result<Value, SqsError> {
    run_one(sqs, request, change_visibility)
}

pub(crate) fn change_message_visibility_batch(
    sqs: &Sqs,
    request: BatchRequest<VisibilityEntry>,
) -> Result<Value, SqsError> {
    let (queue, entries) = request.check("ChangeMessageVisibility")?;
    run_batch(sqs, &queue, entries, change_visibility)
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
    // On AWS some of the 12 hours has always passed, so a change to all of them is refused.
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
