//! The operations: each takes its parsed request, checks it, and acts in one transaction.

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

use crate::ACCOUNT;
use crate::errors::{Code, SqsError};

/// Most entries of a batch.
const MAX_BATCH_ENTRIES: usize = 10;
/// Longest id of a batch entry.
const MAX_ENTRY_ID_LENGTH: usize = 80;

/// A request about a queue and nothing else.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct QueueRequest {
    queue_url: Option<String>,
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
    /// The name of the queue and the entries, which are as many as they may be and have ids
    /// that tell them apart.
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

/// Acts on each entry by itself. A list that is empty is left out of the answer, as on AWS.
fn run_batch<E>(
    entries: Vec<Entry<E>>,
    mut act: impl FnMut(E) -> Result<Map<String, Value>, SqsError>,
) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in entries {
        match act(entry.content) {
            Ok(mut answer) => {
                answer.insert("Id".to_owned(), json!(entry.id));
                successful.push(Value::Object(answer));
            }
            Err(error) => failed.push(json!({
                "Id": entry.id,
                "Code": error.code.entry_code(),
                "SenderFault": error.code.sender_fault(),
                "Message": error.message,
            })),
        }
    }
    let mut answer = Map::new();
    for (name, list) in [("Successful", successful), ("Failed", failed)] {
        if !list.is_empty() {
            answer.insert(name.to_owned(), Value::Array(list));
        }
    }
    Value::Object(answer)
}

fn required<T>(value: Option<T>, parameter: &str) -> Result<T, SqsError> {
    value.ok_or_else(|| SqsError::missing(parameter))
}

/// The queue that a URL means. Host and port do not matter, so that a URL stays good when the
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

/// A number of a request that has to lie in a range; what is not given is not checked.
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
