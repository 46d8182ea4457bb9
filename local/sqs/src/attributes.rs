//! The attributes of a queue, parsed and checked when they are set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::errors::{Code, SqsError};
use crate::message::MAX_MESSAGE_BYTES;

/// Longest delay of a message, in seconds.
pub(crate) const MAX_DELAY_SECONDS: u32 = 900;
/// Longest long poll, in seconds.
pub(crate) const MAX_WAIT_SECONDS: u32 = 20;
/// Longest time that one receive can hide a message, in seconds: 12 hours.
pub(crate) const MAX_VISIBILITY_SECONDS: u32 = 43_200;
/// Most receives that a redrive policy can allow.
const MAX_RECEIVE_COUNT: u32 = 1_000;

/// Attributes that SQS computes and nobody sets.
pub(crate) const READ_ONLY: [&str; 6] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];
const SETTABLE: [&str; 6] = [
    "DelaySeconds",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "ReceiveMessageWaitTimeSeconds",
    "RedrivePolicy",
    "VisibilityTimeout",
];
/// Attributes that are stored and shown without effect: nothing is encrypted or denied.
const STORED_ONLY: [&str; 5] = [
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "Policy",
    "RedriveAllowPolicy",
    "SqsManagedSseEnabled",
];

/// Where messages go that were received too often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Redrive {
    /// ARN of the dead-letter queue.
    pub(crate) target_arn: String,
    /// Receives after which a message moves there.
    pub(crate) max_receive_count: u32,
}

/// The settable attributes. Durations are in seconds, as on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    pub(crate) delay: u32,
    pub(crate) maximum_message_size: u32,
    pub(crate) retention: u32,
    pub(crate) receive_wait: u32,
    pub(crate) visibility: u32,
    pub(crate) redrive: Option<Redrive>,
    stored: BTreeMap<String, String>,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            delay: 0,
            maximum_message_size: to_u32(MAX_MESSAGE_BYTES),
            retention: 345_600,
            receive_wait: 0,
            visibility: 30,
            redrive: None,
            stored: BTreeMap::from([("SqsManagedSseEnabled".to_owned(), "true".to_owned())]),
        }
    }
}

impl Attributes {
    /// Sets one attribute from its spelling on the wire.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), SqsError> {
        match name {
            "DelaySeconds" => self.delay = number(name, value, 0, MAX_DELAY_SECONDS)?,
            "MaximumMessageSize" => {
                self.maximum_message_size = number(name, value, 1_024, to_u32(MAX_MESSAGE_BYTES))?;
            }
            "MessageRetentionPeriod" => self.retention = number(name, value, 60, 1_209_600)?,
            "ReceiveMessageWaitTimeSeconds" => {
                self.receive_wait = number(name, value, 0, MAX_WAIT_SECONDS)?;
            }
            "VisibilityTimeout" => {
                self.visibility = number(name, value, 0, MAX_VISIBILITY_SECONDS)?;
            }
            "RedrivePolicy" => self.redrive = redrive_policy(value)?,
            _ if STORED_ONLY.contains(&name) && value.is_empty() => {
                self.stored.remove(name);
            }
            _ if STORED_ONLY.contains(&name) => {
                self.stored.insert(name.to_owned(), value.to_owned());
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// All settable attributes that have a value, spelled for the wire.
    pub(crate) fn to_wire(&self) -> BTreeMap<String, String> {
        let mut wire = self.stored.clone();
        let mut put = |name: &str, value: String| wire.insert(name.to_owned(), value);
        for (name, number) in [
            ("DelaySeconds", self.delay),
            ("MaximumMessageSize", self.maximum_message_size),
            ("MessageRetentionPeriod", self.retention),
            ("ReceiveMessageWaitTimeSeconds", self.receive_wait),
            ("VisibilityTimeout", self.visibility),
        ] {
            put(name, number.to_string());
        }
        if let Some(redrive) = &self.redrive {
            let policy = json!({
                "deadLetterTargetArn": redrive.target_arn,
                "maxReceiveCount": redrive.max_receive_count,
            });
            put("RedrivePolicy", policy.to_string());
        }
        wire
    }
}

/// Whether `GetQueueAttributes` of a standard queue knows the name.
pub(crate) fn is_known(name: &str) -> bool {
    SETTABLE.contains(&name) || READ_ONLY.contains(&name) || STORED_ONLY.contains(&name)
}

pub(crate) fn unknown(name: &str) -> SqsError {
    SqsError::new(Code::InvalidAttributeName, format!("Unknown Attribute {name}."))
}

fn bad_value(name: &str) -> SqsError {
    SqsError::new(Code::InvalidAttributeValue, format!("Invalid value for the parameter {name}."))
}

fn number(name: &str, value: &str, least: u32, most: u32) -> Result<u32, SqsError> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(bad_value(name)),
    }
}

fn redrive_policy(value: &str) -> Result<Option<Redrive>, SqsError> {
    if value.is_empty() {
        return Ok(None);
    }
    let refuse = |reason: &str| SqsError::parameter(value, "RedrivePolicy", reason);
    let policy: Value = serde_json::from_str(value)
        .map_err(|_| refuse("Redrive policy is not a valid JSON map."))?;
    let missing = |name: &str| {
        refuse(&format!("Redrive policy does not contain mandatory attribute: {name}."))
    };
    let target = policy.get("deadLetterTargetArn").ok_or_else(|| missing("deadLetterTargetArn"))?;
    let target = target
        .as_str()
        .filter(|arn| arn.starts_with("arn:aws"))
        .ok_or_else(|| refuse("Invalid value for deadLetterTargetArn."))?;
    let count = policy.get("maxReceiveCount").ok_or_else(|| missing("maxReceiveCount"))?;
    // Templates and the console write the number as a string as often as not.
    let count = count
        .as_u64()
        .or_else(|| count.as_str().and_then(|text| text.parse().ok()))
        .and_then(|count| u32::try_from(count).ok())
        .filter(|count| (1..=MAX_RECEIVE_COUNT).contains(count))
        .ok_or_else(|| {
            refuse("Invalid value for maxReceiveCount, valid values are from 1 to 1000 both inclusive.")
        })?;
    Ok(Some(Redrive { target_arn: target.to_owned(), max_receive_count: count }))
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
