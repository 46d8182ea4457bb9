//! One message: its checked content and its place in the queue.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::attributes::MAX_DELAY_SECONDS;
use crate::errors::{Code, SqsError};

/// Most bytes of a message, and of all messages of a batch together: 1 MiB.
pub(crate) const MAX_MESSAGE_BYTES: usize = 1_048_576;
/// Most attributes of a message.
const MAX_ATTRIBUTES: usize = 10;
/// Longest name and longest type of an attribute.
const MAX_NAME_LENGTH: usize = 256;
/// Longest message group id.
const MAX_GROUP_LENGTH: usize = 128;

/// An attribute as it is on the wire, in both directions and in the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WireAttribute {
    pub(crate) data_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) string_value: Option<String>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) binary_value: Option<String>,
}

/// A checked attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireAttribute", into = "WireAttribute")]
pub(crate) struct Attribute {
    data_type: String,
    value: AttributeValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AttributeValue {
    Text(String),
    Binary(Vec<u8>),
}

impl From<Attribute> for WireAttribute {
    fn from(attribute: Attribute) -> Self {
        let (string_value, binary_value) = match attribute.value {
            AttributeValue::Text(text) => (Some(text), None),
            AttributeValue::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        Self { data_type: Some(attribute.data_type), string_value, binary_value }
    }
}

impl TryFrom<WireAttribute> for Attribute {
    type Error = String;

    /// The error says what is wrong with the attribute; the caller adds its name.
    fn try_from(wire: WireAttribute) -> Result<Self, String> {
        let data_type = wire.data_type.unwrap_or_default();
        let kind = data_type.split('.').next().unwrap_or_default();
        if data_type.len() > MAX_NAME_LENGTH {
            return Err("has a type that is longer than 256 characters".to_owned());
        }
        let empty = || format!("must contain a non-empty value of type '{kind}'");
        let value = match (kind, wire.string_value, wire.binary_value) {
            ("String" | "Number", Some(text), None) if !text.is_empty() => {
                if kind == "Number" && !is_number(&text) {
                    return Err("has a value that can't be cast to a number".to_owned());
                }
                if !text.chars().all(is_valid_char) {
                    return Err("contains invalid characters".to_owned());
                }
                AttributeValue::Text(text)
            }
            ("Binary", None, Some(encoded)) if !encoded.is_empty() => {
                let bytes = STANDARD.decode(encoded).map_err(|_| "is not base64".to_owned())?;
                AttributeValue::Binary(bytes)
            }
            ("String" | "Number" | "Binary", _, _) => return Err(empty()),
            ("", _, _) => return Err("must contain a non-empty type".to_owned()),
            _ => {
                return Err(format!(
                    "has an invalid message attribute type '{data_type}', the set of supported \
                     type prefixes is Binary, Number, and String"
                ));
            }
        };
        Ok(Self { data_type, value })
    }
}

pub(crate) type AttributeMap = BTreeMap<String, Attribute>;

/// The unchecked message of `SendMessage` or of an entry of its batch.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct WireMessage {
    message_body: Option<String>,
    delay_seconds: Option<i64>,
    message_attributes: Option<BTreeMap<String, WireAttribute>>,
    message_system_attributes: Option<BTreeMap<String, WireAttribute>>,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

impl WireMessage {
    /// The size that counts against the limits: body, and names, types and values of attributes.
    pub(crate) fn size(&self) -> usize {
        let attributes = self.message_attributes.iter().flatten().map(|(name, attribute)| {
            let text = attribute.string_value.as_ref().map_or(0, String::len);
            let encoded = attribute.binary_value.as_deref().unwrap_or_default();
            let binary = encoded.trim_end_matches('=').len() * 3 / 4;
            name.len() + attribute.data_type.as_ref().map_or(0, String::len) + text + binary
        });
        self.message_body.as_ref().map_or(0, String::len) + attributes.sum::<usize>()
    }

    /// Checks the content against all rules of a queue that takes `max_size` bytes.
    pub(crate) fn check(self, max_size: u32) -> Result<Content, SqsError> {
        if self.size() > usize::try_from(max_size).unwrap_or(usize::MAX) {
            return Err(SqsError::invalid(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than \
                 {max_size} bytes."
            )));
        }
        let body = self
            .message_body
            .filter(|body| !body.is_empty())
            .ok_or_else(|| SqsError::missing("MessageBody"))?;
        if !body.chars().all(is_valid_char) {
            return Err(SqsError::new(
                Code::InvalidMessageContents,
                "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | \
                 #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF.",
            ));
        }
        if let Some(id) = self.message_deduplication_id {
            return Err(SqsError::parameter(
                id,
                "MessageDeduplicationId",
                "The request include parameter that is not valid for this queue type.",
            ));
        }
        Ok(Content {
            body,
            delay: self.delay_seconds.map(check_delay).transpose()?,
            attributes: check_attributes(self.message_attributes.unwrap_or_default())?,
            group: self.message_group_id.map(check_group).transpose()?,
            trace: check_trace(self.message_system_attributes.unwrap_or_default())?,
        })
    }
}

/// A checked message.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) body: String,
    /// Seconds; `None` means the delay of the queue.
    pub(crate) delay: Option<u32>,
    pub(crate) attributes: AttributeMap,
    pub(crate) group: Option<String>,
    pub(crate) trace: Option<Attribute>,
}

fn check_delay(seconds: i64) -> Result<u32, SqsError> {
    u32::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_DELAY_SECONDS).ok_or_else(|| {
        SqsError::parameter(
            seconds,
            "DelaySeconds",
            format!("DelaySeconds must be >= 0 and <= {MAX_DELAY_SECONDS}."),
        )
    })
}

fn check_group(group: String) -> Result<String, SqsError> {
    let valid = group.chars().all(|c| c.is_ascii_graphic());
    if valid && (1..=MAX_GROUP_LENGTH).contains(&group.len()) {
        return Ok(group);
    }
    Err(SqsError::parameter(
        group,
        "MessageGroupId",
        "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in \
         length.",
    ))
}

fn check_attributes(wire: BTreeMap<String, WireAttribute>) -> Result<AttributeMap, SqsError> {
    if wire.len() > MAX_ATTRIBUTES {
        return Err(SqsError::invalid(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{MAX_ATTRIBUTES}].",
            wire.len()
        )));
    }
    wire.into_iter()
        .map(|(name, attribute)| {
            let refuse =
                |why: &str| SqsError::invalid(format!("Message (user) attribute '{name}' {why}."));
            if !is_attribute_name(&name) {
                return Err(refuse(
                    "has an invalid name: 1 to 256 of A-Z, a-z, 0-9, underscore, hyphen and single \
                     inner dots, not starting with AWS. or Amazon.",
                ));
            }
            let attribute = Attribute::try_from(attribute).map_err(|why| refuse(&why))?;
            Ok((name, attribute))
        })
        .collect()
}

fn check_trace(wire: BTreeMap<String, WireAttribute>) -> Result<Option<Attribute>, SqsError> {
    let mut trace = None;
    for (name, attribute) in wire {
        let refuse =
            |why: &str| SqsError::invalid(format!("Message (system) attribute '{name}' {why}."));
        if name != "AWSTraceHeader" {
            return Err(refuse("is not supported; only AWSTraceHeader can be sent"));
        }
        if attribute.data_type.as_deref() != Some("String") {
            return Err(refuse("must be of type String"));
        }
        trace = Some(Attribute::try_from(attribute).map_err(|why| refuse(&why))?);
    }
    Ok(trace)
}

fn is_attribute_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && !lower.starts_with("aws.")
        && !lower.starts_with("amazon.")
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..")
}

/// Decimal with optional sign, fraction and exponent, at most 38 digits.
fn is_number(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let plain = text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    plain && (1..=38).contains(&digits) && text.parse::<f64>().is_ok()
}

/// The characters that SQS allows: those of XML 1.0.
fn is_valid_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..)
}

/// Lower-case hex MD5, as SQS returns it for a body.
pub(crate) fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

/// MD5 of attributes, as clients compute it; `None` for no attributes.
///
/// Source: "Calculating the MD5 message digest for message attributes" in the SQS developer
/// guide: by name; each of name, type and value with its length before it, and a byte for the
/// kind of value.
pub(crate) fn attributes_md5<'a>(
    attributes: impl IntoIterator<Item = (&'a str, &'a Attribute)>,
) -> Option<String> {
    let mut hasher = Md5::new();
    let mut any = false;
    let part = |hasher: &mut Md5, bytes: &[u8]| {
        hasher.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        hasher.update(bytes);
    };
    for (name, attribute) in attributes {
        any = true;
        part(&mut hasher, name.as_bytes());
        part(&mut hasher, attribute.data_type.as_bytes());
        match &attribute.value {
            AttributeValue::Text(text) => {
                hasher.update([1]);
                part(&mut hasher, text.as_bytes());
            }
            AttributeValue::Binary(bytes) => {
                hasher.update([2]);
                part(&mut hasher, bytes);
            }
        }
    }
    any.then(|| hex::encode(hasher.finalize()))
}

impl Attribute {
    /// The value of a text attribute.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            AttributeValue::Text(text) => Some(text),
            AttributeValue::Binary(_) => None,
        }
    }
}

/// Where a message is in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Can be received.
    Visible,
    /// Sent with a delay that is not over.
    Delayed,
    /// Received, hidden until its visibility timeout is over.
    InFlight,
}

/// A message in a queue. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// Its number, unique in the whole engine and never used again.
    pub(crate) seq: u64,
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) attributes: AttributeMap,
    pub(crate) group: Option<String>,
    pub(crate) trace: Option<Attribute>,
    pub(crate) sent_at: u64,
    pub(crate) first_received_at: Option<u64>,
    pub(crate) received_at: u64,
    pub(crate) receive_count: u32,
    /// When it becomes visible, or became so.
    pub(crate) visible_at: u64,
    pub(crate) place: Place,
    /// In a dead-letter queue, the ARN of its source queue.
    pub(crate) source_arn: Option<String>,
}

/// The content of a receipt handle: a message, its queue, and one of its receives.
///
/// Handles survive a restart, because all they name is in the journal. The checksum detects mistakes,
/// not forgery: nothing here is secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) seq: u64,
    id: String,
    receive_count: u32,
}

impl Receipt {
    pub(crate) fn encode(queue: &str, message: &Message) -> String {
        let text = format!("{queue}/{}/{}/{}", message.id, message.seq, message.receive_count);
        let check = md5_hex(text.as_bytes());
        URL_SAFE_NO_PAD.encode(format!("{text}/{check}"))
    }

    /// Parses a handle of `queue`; that of another queue is invalid.
    pub(crate) fn decode(queue: &str, handle: &str) -> Result<Self, SqsError> {
        Self::read(queue, handle).ok_or_else(|| {
            SqsError::new(
                Code::ReceiptHandleIsInvalid,
                format!("The input receipt handle \"{handle}\" is not a valid receipt handle."),
            )
        })
    }

    fn read(queue: &str, handle: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(handle).ok()?).ok()?;
        let (text, check) = text.rsplit_once('/')?;
        if check != md5_hex(text.as_bytes()) {
            return None;
        }
        let mut parts = text.split('/');
        let named = parts.next()?;
        let id = parts.next()?.to_owned();
        let seq = parts.next()?.parse().ok()?;
        let receive_count = parts.next()?.parse().ok()?;
        (named == queue).then_some(Self { seq, id, receive_count })
    }

    /// Whether this is the handle of the message's most recent receive.
    pub(crate) fn is_current(&self, message: &Message) -> bool {
        self.id == message.id && self.receive_count == message.receive_count
    }
}
