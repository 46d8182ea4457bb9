//! The operations: each takes its parsed request, checks it, and acts in one transaction.

/// The parameters of an operation. Each may be missing on the wire; the operation checks that.
macro_rules! request {
    ($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? }) => {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub(crate) struct $name { $($(#[$meta])* $field: Option<$type>),* }
    };
}

mod messages;
mod moves;
mod queues;
mod receive;

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(crate) use messages::*;
pub(crate) use moves::*;
pub(crate) use queues::*;
pub(crate) use receive::*;

use crate::errors::{Code, SqsError};
use crate::state::State;
use crate::{ACCOUNT, Sqs};

/// Most entries of a batch.
const MAX_BATCH_ENTRIES: usize = 10;
/// Longest id of a batch entry.
const MAX_ENTRY_ID_LENGTH: usize = 80;

request!(QueueRequest { queue_url: String });

/// A request about one message of a queue.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MessageRequest<E> {
    queue_url: Option<String>,
    #[serde(flatten)]
    content: E,
}

/// A request about several messages of a queue.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BatchRequest<E> {
    queue_url: Option<String>,
    entries: Option<Vec<Entry<E>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Entry<E> {
    id: Option<String>,
    #[serde(flatten)]
    content: E,
}

impl<E> BatchRequest<E> {
    /// The name of the queue and the entries, once their number and their ids are valid.
    fn check(self, kind: &str) -> Result<(String, Vec<Entry<E>>), SqsError> {
        let queue = queue_name(self.queue_url)?;
        let entries = self.entries.unwrap_or_default();
        if entries.is_empty() {
            return Err(SqsError::new(
                Code::EmptyBatchRequest,
                format!("There should be at least one {kind}BatchRequestEntry in the request."),
            ));
        }
        if entries.len() > MAX_BATCH_ENTRIES {
            return Err(SqsError::new(
                Code::TooManyEntriesInBatchRequest,
                format!(
                    "Maximum number of entries per request are {MAX_BATCH_ENTRIES}. You have sent \
                     {}.",
                    entries.len()
                ),
            ));
        }
        let mut seen = HashSet::new();
        for entry in &entries {
            let id = entry.id.as_deref().unwrap_or_default();
            if !is_entry_id(id) {
                return Err(SqsError::new(
                    Code::InvalidBatchEntryId,
                    "A batch entry id can only contain alphanumeric characters, hyphens and \
                     underscores. It can be at most 80 letters long.",
                ));
            }
            if !seen.insert(id) {
                return Err(SqsError::new(
                    Code::BatchEntryIdsNotDistinct,
                    format!("Id {id} repeated."),
                ));
            }
        }
        Ok((queue, entries))
    }
}

fn is_entry_id(id: &str) -> bool {
    (1..=MAX_ENTRY_ID_LENGTH).contains(&id.len())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// What an operation does with one message at a given time.
type Act<E> = fn(&mut State, &str, E, u64) -> Result<Map<String, Value>, SqsError>;

fn run_one<E>(sqs: &Sqs, request: MessageRequest<E>, act: Act<E>) -> Result<Value, SqsError> {
    let queue = queue_name(request.queue_url)?;
    sqs.transact(|state, now| act(state, &queue, request.content, now)).map(Value::Object)
}

/// Acts on each entry independently. An empty list is absent from the response, as on AWS.
fn run_batch<E>(
    sqs: &Sqs,
    queue: &str,
    entries: Vec<Entry<E>>,
    act: Act<E>,
) -> Result<Value, SqsError> {
    sqs.transact(|state, now| {
        state.queue(queue)?;
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for Entry { id, content } in entries {
            match act(state, queue, content, now) {
                Ok(mut result) => {
                    result.insert("Id".to_owned(), json!(id));
                    successful.push(Value::Object(result));
                }
                Err(error) => failed.push(json!({
                    "Id": id,
                    "Code": error.code.entry_code(),
                    "SenderFault": error.code.is_sender_fault(),
                    "Message": error.message,
                })),
            }
        }
        let lists = [("Successful", successful), ("Failed", failed)].into_iter();
        let lists = lists.filter(|(_, list)| !list.is_empty());
        Ok(lists.map(|(name, list)| (name.to_owned(), Value::Array(list))).collect())
    })
}

fn required<T>(value: Option<T>, parameter: &str) -> Result<T, SqsError> {
    value.ok_or_else(|| SqsError::missing(parameter))
}

/// The name of the queue in a URL. Host and port do not matter, so that a URL stays valid when the
/// endpoint moves; a bare name is accepted too.
fn queue_name(url: Option<String>) -> Result<String, SqsError> {
    let url = required(url.filter(|url| !url.is_empty()), "QueueUrl")?;
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => &url,
    };
    let mut segments = path.trim_matches('/').rsplit('/');
    let name = segments.next().unwrap_or_default();
    match segments.next() {
        None | Some(ACCOUNT) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(SqsError::no_queue()),
    }
}

/// Checks that a parameter, if given, lies in a range.
fn in_range(
    value: Option<i64>,
    parameter: &str,
    least: u32,
    most: u32,
) -> Result<Option<u32>, SqsError> {
    let Some(value) = value else { return Ok(None) };
    match u32::try_from(value) {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => Err(SqsError::parameter(
            value,
            parameter,
            format!("Must be between {least} and {most}, if provided."),
        )),
    }
}
