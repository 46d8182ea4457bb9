//! Operations on queues: create, find, list, describe, change, tag, empty, delete.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{QueueRequest, in_range, queue_name, required};
use crate::attributes::{self, Attributes, READ_ONLY};
use crate::errors::{Code, SqsError};
use crate::queue::{Queue, QueueConfig};
use crate::state::{Change, State};
use crate::{ACCOUNT, Sqs};

/// Longest name of a queue.
const MAX_NAME_LENGTH: usize = 80;
/// Most tags of a queue.
const MAX_TAGS: usize = 50;
/// Most queues in one response.
const MAX_LISTED: u32 = 1_000;
/// The minimum time between two purges, in milliseconds.
const PURGE_PAUSE_MS: u64 = 60_000;

request!(CreateQueue {
   queue_name: String,
   attributes: BTreeMap<String, String>,
   /// In lower case on the wire, unlike everything else.
   #[serde(rename = "tags")]
   tags: BTreeMap<String, String>,
});

pub(crate) fn create_queue_request(
    sqs: &Sqs,
    base: &str,
    request: CreateQueue,
) -> Result<Value, SqsError> {
    let name = required(request.queue_name, "QueueName")?;
    let attributes = request.attributes.unwrap_or_default();
    let tags = request.tags.unwrap_or_default();
    sqs.transact(|state, now| create_queue(state, &name, &attributes, tags, now))?;
    Ok(json!({"QueueUrl": format!("{base}/{name}")}))
}

/// Creates a queue; one that exists must have all of these attributes.
pub(crate) fn create_queue(
    state: &mut State,
    name: &str,
    given: &BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    now: u64,
) -> Result<(), SqsError> {
    check_name(name)?;
    if let Some(queue) = state.queues.get(name) {
        return check_same(&queue.config.attributes, given);
    }
    check_tag_count(tags.len())?;
    let mut attributes = Attributes::default();
    for (attribute, value) in given {
        attributes.set(attribute, value)?;
    }
    check_redrive(state, name, &attributes)?;
    state.record(Change::QueuePut(QueueConfig {
        name: name.to_owned(),
        created_at: now,
        modified_at: now,
        purged_at: None,
        attributes,
        tags,
    }))
}

fn check_name(name: &str) -> Result<(), SqsError> {
    if name.strip_suffix(".fifo").is_some() {
        return Err(SqsError::new(
            Code::UnsupportedOperation,
            "This local SQS has standard queues only; FIFO queues (names in .fifo) are not \
             supported.",
        ));
    }
    let valid = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if valid && (1..=MAX_NAME_LENGTH).contains(&name.len()) {
        return Ok(());
    }
    Err(SqsError::invalid(
        "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
    ))
}

fn check_same(existing: &Attributes, given: &BTreeMap<String, String>) -> Result<(), SqsError> {
    for (name, value) in given {
        let mut wanted = existing.clone();
        wanted.set(name, value)?;
        if wanted != *existing {
            return Err(SqsError::new(
                Code::QueueNameExists,
                format!(
                    "A queue already exists with the same name and a different value for \
                     attribute {name}"
                ),
            ));
        }
    }
    Ok(())
}

/// Checks that the dead-letter queue exists.
fn check_redrive(state: &State, name: &str, attributes: &Attributes) -> Result<(), SqsError> {
    let Some(redrive) = &attributes.redrive else { return Ok(()) };
    let refuse = |reason: &str| {
        let policy = attributes.to_wire().remove("RedrivePolicy").unwrap_or_default();
        Err(SqsError::parameter(policy, "RedrivePolicy", reason))
    };
    let Some(target) = state.queue_by_arn(&redrive.target_arn) else {
        return refuse("Dead letter target does not exist.");
    };
    if target == name {
        return refuse("Dead letter target and source queue must differ.");
    }
    Ok(())
}

request!(GetQueueUrl {
    queue_name: String,
    #[serde(rename = "QueueOwnerAWSAccountId")]
    owner: String,
});

pub(crate) fn get_queue_url(
    sqs: &Sqs,
    base: &str,
    request: GetQueueUrl,
) -> Result<Value, SqsError> {
    let name = required(request.queue_name, "QueueName")?;
    if request.owner.is_some_and(|owner| owner != ACCOUNT) {
        return Err(SqsError::no_queue());
    }
    sqs.transact(|state, _| state.queue(&name).map(|_| ()))?;
    Ok(json!({"QueueUrl": format!("{base}/{name}")}))
}

request!(ListQueues { queue_name_prefix: String, next_token: String, max_results: i64 });

pub(crate) fn list_queues(sqs: &Sqs, base: &str, request: ListQueues) -> Result<Value, SqsError> {
    let prefix = request.queue_name_prefix.unwrap_or_default();
    let names = sqs.transact(|state, _| {
        let names = state.queues.keys().filter(|name| name.starts_with(&prefix));
        Ok(names.cloned().collect())
    })?;
    page(base, names, request.next_token, request.max_results)
}

/// One page of the URLs of sorted names. The token of the next page is the last name of this one;
/// as on AWS, only a caller that names a page size gets it.
fn page(
    base: &str,
    mut names: Vec<String>,
    token: Option<String>,
    max_results: Option<i64>,
) -> Result<Value, SqsError> {
    let size = in_range(max_results, "MaxResults", 1, MAX_LISTED)?;
    if let Some(token) = token {
        let last =
            URL_SAFE_NO_PAD.decode(&token).ok().and_then(|name| String::from_utf8(name).ok());
        let last =
            last.ok_or_else(|| SqsError::parameter(token, "NextToken", "Not a token of ours."))?;
        names.retain(|name| *name > last);
    }
    let limit = size.unwrap_or(MAX_LISTED) as usize;
    let more = names.len() > limit;
    names.truncate(limit);
    // An empty list is absent, as on AWS.
    let Some(last) = names.last() else { return Ok(json!({})) };
    let urls: Vec<String> = names.iter().map(|name| format!("{base}/{name}")).collect();
    let mut result = json!({"QueueUrls": urls});
    if more && size.is_some() {
        result["NextToken"] = URL_SAFE_NO_PAD.encode(last).into();
    }
    Ok(result)
}

pub(crate) fn delete_queue(sqs: &Sqs, request: QueueRequest) -> Result<Value, SqsError> {
    let queue = queue_name(request.queue_url)?;
    sqs.transact(|state, _| {
        state.queue(&queue)?;
        state.record(Change::QueueDeleted { queue })
    })?;
    Ok(json!({}))
}

pub(crate) fn purge_queue(sqs: &Sqs, request: QueueRequest) -> Result<Value, SqsError> {
    let queue = queue_name(request.queue_url)?;
    sqs.transact(|state, now| {
        let purged_at = state.queue(&queue)?.config.purged_at;
        if purged_at.is_some_and(|at| now < at.saturating_add(PURGE_PAUSE_MS)) {
            return Err(SqsError::new(
                Code::PurgeQueueInProgress,
                format!("Only one PurgeQueue operation on {queue} is allowed every 60 seconds."),
            ));
        }
        state.record(Change::Purged { queue, at: now })
    })?;
    Ok(json!({}))
}

request!(GetQueueAttributes { queue_url: String, attribute_names: Vec<String> });

pub(crate) fn get_queue_attributes(
    sqs: &Sqs,
    request: GetQueueAttributes,
) -> Result<Value, SqsError> {
    let name = queue_name(request.queue_url)?;
    let wanted = request.attribute_names.unwrap_or_default();
    let unknown = wanted.iter().find(|wanted| *wanted != "All" && !attributes::is_known(wanted));
    if let Some(unknown) = unknown {
        return Err(attributes::unknown(unknown));
    }
    let mut all = sqs.transact(|state, _| Ok(describe(state.queue(&name)?, state.arn(&name))))?;
    if !wanted.iter().any(|wanted| wanted == "All") {
        all.retain(|name, _| wanted.contains(name));
    }
    Ok(if all.is_empty() { json!({}) } else { json!({"Attributes": all}) })
}

fn describe(queue: &Queue, arn: String) -> BTreeMap<String, String> {
    let depth = queue.depth();
    let computed = [
        depth.visible.to_string(),
        depth.delayed.to_string(),
        depth.in_flight.to_string(),
        (queue.config.created_at / 1_000).to_string(),
        (queue.config.modified_at / 1_000).to_string(),
        arn,
    ];
    let mut all = queue.config.attributes.to_wire();
    all.extend(READ_ONLY.iter().map(|name| (*name).to_owned()).zip(computed));
    all
}

request!(SetQueueAttributes { queue_url: String, attributes: BTreeMap<String, String> });

pub(crate) fn set_queue_attributes(
    sqs: &Sqs,
    request: SetQueueAttributes,
) -> Result<Value, SqsError> {
    let queue = queue_name(request.queue_url)?;
    let attributes = required(request.attributes, "Attributes")?;
    sqs.transact(|state, now| set_attributes(state, &queue, &attributes, now))?;
    Ok(json!({}))
}

/// Sets all of the attributes or, if one is bad, none.
pub(crate) fn set_attributes(
    state: &mut State,
    queue: &str,
    given: &BTreeMap<String, String>,
    now: u64,
) -> Result<(), SqsError> {
    let mut config = state.queue(queue)?.config.clone();
    let before = config.attributes.clone();
    for (attribute, value) in given {
        config.attributes.set(attribute, value)?;
    }
    if config.attributes.redrive != before.redrive {
        check_redrive(state, queue, &config.attributes)?;
    }
    config.modified_at = now;
    state.record(Change::QueuePut(config))
}

request!(TagQueue { queue_url: String, tags: BTreeMap<String, String> });

pub(crate) fn tag_queue(sqs: &Sqs, request: TagQueue) -> Result<Value, SqsError> {
    let tags = required(request.tags, "Tags")?;
    change_tags(sqs, request.queue_url, |all| all.extend(tags))
}

request!(UntagQueue { queue_url: String, tag_keys: Vec<String> });

pub(crate) fn untag_queue(sqs: &Sqs, request: UntagQueue) -> Result<Value, SqsError> {
    let keys = required(request.tag_keys, "TagKeys")?;
    change_tags(sqs, request.queue_url, |all| all.retain(|key, _| !keys.contains(key)))
}

fn change_tags(
    sqs: &Sqs,
    queue_url: Option<String>,
    change: impl FnOnce(&mut BTreeMap<String, String>),
) -> Result<Value, SqsError> {
    let queue = queue_name(queue_url)?;
    sqs.transact(|state, _| {
        let mut config = state.queue(&queue)?.config.clone();
        change(&mut config.tags);
        check_tag_count(config.tags.len())?;
        state.record(Change::QueuePut(config))
    })?;
    Ok(json!({}))
}

pub(crate) fn list_queue_tags(sqs: &Sqs, request: QueueRequest) -> Result<Value, SqsError> {
    let queue = queue_name(request.queue_url)?;
    let tags = sqs.transact(|state, _| Ok(state.queue(&queue)?.config.tags.clone()))?;
    Ok(if tags.is_empty() { json!({}) } else { json!({"Tags": tags}) })
}

fn check_tag_count(count: usize) -> Result<(), SqsError> {
    if count <= MAX_TAGS {
        return Ok(());
    }
    Err(SqsError::invalid(format!("Too many tags added for queue: {count}, at most {MAX_TAGS}.")))
}
