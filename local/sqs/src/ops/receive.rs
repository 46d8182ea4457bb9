//! `ReceiveMessage`, with long polling.
//!
//! A waiting receive reserves no message: it tries again whenever one may have become visible. So a
//! client that disconnects, which drops the future, loses nothing.

use serde_json::{Map, Value, json};
use tokio::sync::futures::OwnedNotified;

use super::{in_range, queue_name};
use crate::attributes::{self, MAX_VISIBILITY_SECONDS, MAX_WAIT_SECONDS};
use crate::errors::{Code, SqsError};
use crate::message::{Attribute, Message, Receipt, attributes_md5, md5_hex};
use crate::queue::MAX_IN_FLIGHT;
use crate::state::{Change, State};
use crate::{ACCOUNT, Sqs};

/// Most messages of one receive.
const MAX_RECEIVED: u32 = 10;

const SYSTEM_ATTRIBUTES: [&str; 10] = [
    "AWSTraceHeader",
    "All",
    "ApproximateFirstReceiveTimestamp",
    "ApproximateReceiveCount",
    "DeadLetterQueueSourceArn",
    // These two belong to FIFO queues; they may be requested and are absent.
    "MessageDeduplicationId",
    "SequenceNumber",
    "MessageGroupId",
    "SenderId",
    "SentTimestamp",
];

request!(ReceiveMessage {
   queue_url: String,
   max_number_of_messages: i64,
   visibility_timeout: i64,
   wait_time_seconds: i64,
   /// The older name of `message_system_attribute_names`; both are honoured.
   attribute_names: Vec<String>,
   message_system_attribute_names: Vec<String>,
   message_attribute_names: Vec<String>,
});

/// A checked request.
struct Receive {
    queue: String,
    most: usize,
    visibility: Option<u32>,
    wait: Option<u32>,
    system_attributes: Vec<String>,
    attributes: Vec<String>,
}

impl Receive {
    fn check(request: ReceiveMessage) -> Result<Self, SqsError> {
        let queue = queue_name(request.queue_url)?;
        let most = request.max_number_of_messages;
        let most = in_range(most, "MaxNumberOfMessages", 1, MAX_RECEIVED)?.unwrap_or(1);
        let visibility = request.visibility_timeout;
        let visibility = in_range(visibility, "VisibilityTimeout", 0, MAX_VISIBILITY_SECONDS)?;
        let wait = in_range(request.wait_time_seconds, "WaitTimeSeconds", 0, MAX_WAIT_SECONDS)?;
        let mut system_attributes = request.attribute_names.unwrap_or_default();
        system_attributes.extend(request.message_system_attribute_names.unwrap_or_default());
        let known = |name: &&String| SYSTEM_ATTRIBUTES.contains(&name.as_str());
        if let Some(unknown) = system_attributes.iter().find(|name| !known(name)) {
            return Err(attributes::unknown(unknown));
        }
        Ok(Self {
            queue,
            most: usize::try_from(most).unwrap_or(usize::MAX),
            visibility,
            wait,
            system_attributes,
            attributes: request.message_attribute_names.unwrap_or_default(),
        })
    }
}

/// The result of one try.
enum Try {
    Done(Value),
    Wait { queue: OwnedNotified, timers: OwnedNotified, until: u64 },
}

pub(crate) async fn receive_message(sqs: &Sqs, request: ReceiveMessage) -> Result<Value, SqsError> {
    let receive = Receive::check(request)?;
    let mut deadline = None;
    loop {
        match sqs.transact(|state, now| try_receive(state, &receive, &mut deadline, now))? {
            Try::Done(response) => return Ok(response),
            Try::Wait { queue, timers, until } => tokio::select! {
                () = queue => {}
                () = timers => {}
                () = sqs.clock.sleep_until(until) => {}
            },
        }
    }
}

/// Receives visible messages, or returns what to wait for. The notifications are created under the
/// lock, so no change is missed between the try and the wait.
fn try_receive(
    state: &mut State,
    receive: &Receive,
    deadline: &mut Option<u64>,
    now: u64,
) -> Result<Try, SqsError> {
    let queue = state.queue(&receive.queue)?;
    let wait = receive.wait.unwrap_or(queue.config.attributes.receive_wait);
    let deadline = *deadline.get_or_insert(now + u64::from(wait) * 1_000);
    let room = MAX_IN_FLIGHT.saturating_sub(queue.depth().in_flight);
    if room == 0 && wait == 0 {
        return Err(SqsError::new(
            Code::OverLimit,
            format!("The queue has {MAX_IN_FLIGHT} messages in flight, which is the most."),
        ));
    }
    let messages = take(state, receive, room.min(receive.most), now)?;
    if !messages.is_empty() {
        return Ok(Try::Done(json!({"Messages": messages})));
    }
    if now >= deadline {
        return Ok(Try::Done(json!({})));
    }
    Ok(Try::Wait {
        queue: state.queue(&receive.queue)?.wake.clone().notified_owned(),
        timers: state.timers.clone().notified_owned(),
        until: state.next_due().map_or(deadline, |due| due.min(deadline)),
    })
}

fn take(
    state: &mut State,
    receive: &Receive,
    most: usize,
    now: u64,
) -> Result<Vec<Value>, SqsError> {
    let mut taken = Vec::new();
    while taken.len() < most {
        let queue = state.queue(&receive.queue)?;
        let Some(seq) = queue.next_visible().map(|message| message.seq) else { break };
        let visibility = receive.visibility.unwrap_or(queue.config.attributes.visibility);
        if state.dead_letter(&receive.queue, seq, now)? {
            continue;
        }
        state.record(Change::Received {
            queue: receive.queue.clone(),
            seq,
            at: now,
            visible_at: now + u64::from(visibility) * 1_000,
        })?;
        let message = state.queue(&receive.queue)?.message(seq);
        taken.extend(message.map(|message| render(receive, message)));
    }
    Ok(taken)
}

fn render(receive: &Receive, message: &Message) -> Value {
    let mut result = json!({
        "MessageId": message.id,
        "ReceiptHandle": Receipt::encode(&receive.queue, message),
        "MD5OfBody": md5_hex(message.body.as_bytes()),
        "Body": message.body,
    });
    let system = system_attributes(message, &receive.system_attributes);
    if !system.is_empty() {
        result["Attributes"] = Value::Object(system);
    }
    let wanted = |name: &str| receive.attributes.iter().any(|pattern| matches(pattern, name));
    let attributes: Vec<(&str, &Attribute)> = message
        .attributes
        .iter()
        .map(|(name, attribute)| (name.as_str(), attribute))
        .filter(|(name, _)| wanted(name))
        .collect();
    // The digest covers the returned attributes, which are those that the client can check.
    if let Some(md5) = attributes_md5(attributes.iter().copied()) {
        result["MD5OfMessageAttributes"] = json!(md5);
        result["MessageAttributes"] =
            attributes.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    }
    result
}

/// A pattern is `All` or `.*` for all, `prefix.*` for a prefix, or a whole name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == "All" || pattern == name,
    }
}

fn system_attributes(message: &Message, wanted: &[String]) -> Map<String, Value> {
    let all = [
        ("AWSTraceHeader", message.trace.as_ref().and_then(Attribute::text).map(str::to_owned)),
        ("ApproximateFirstReceiveTimestamp", message.first_received_at.map(|at| at.to_string())),
        ("ApproximateReceiveCount", Some(message.receive_count.to_string())),
        ("DeadLetterQueueSourceArn", message.source_arn.clone()),
        ("MessageGroupId", message.group.clone()),
        ("SenderId", Some(ACCOUNT.to_owned())),
        ("SentTimestamp", Some(message.sent_at.to_string())),
    ];
    let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == "All" || wanted == name);
    all.into_iter()
        .filter(|(name, _)| is_wanted(name))
        .filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?))))
        .collect()
}
