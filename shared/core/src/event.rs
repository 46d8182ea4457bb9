//! Events as they come from the events queue.
//!
//! An event is parsed once, here; what cannot be handled however often it is tried is an
//! [`EventError`] and goes to the dead-letter queue with its reason.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::catalogue::EventType;
use crate::ids::{EventId, IdError, UserId};
use crate::json::{Data, DataError, write_ascii_string};
use crate::limits::OCCURRED_AT_WINDOW_MS;
use crate::time::Timestamp;

/// Something that happened, published once, immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name: the publisher's, or that of the SQS message.
    pub id: EventId,
    /// What kind of thing happened.
    pub event_type: EventType,
    /// Whose webhooks are told.
    pub owner: UserId,
    /// When it happened, see [`Event::parse`].
    pub time: Timestamp,
    /// What the publisher says of it.
    pub data: Data,
}

/// Why a message can never become an event. [`EventError::reason`] is the stable name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The body is not JSON.
    #[error("the message body is not valid JSON")]
    InvalidJson,
    /// The body is JSON, but no object.
    #[error("the message body must be a JSON object")]
    NotAnObject,
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field is no string.
    #[error("`{0}` must be a string")]
    NotAString(&'static str),
    /// The type does not stand in the catalogue.
    #[error("`event_type` is not an event type of the catalogue")]
    UnknownType,
    /// The owner's or the event's id is not usable.
    #[error("`{0}` {1}")]
    InvalidId(&'static str, IdError),
    /// The data is not usable.
    #[error("`data` {0}")]
    InvalidData(#[from] DataError),
    /// The moment cannot be read.
    #[error("`occurred_at` must be an RFC 3339 date and time")]
    InvalidOccurredAt,
}

impl EventError {
    /// The stable name that stands on the dead-lettered message and in the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidJson | Self::NotAnObject => "invalid_json",
            Self::Missing("event_type") => "missing_event_type",
            Self::Missing("user_id") => "missing_owner",
            Self::Missing(_) => "missing_data",
            Self::NotAString("event_type") | Self::UnknownType => "unknown_event_type",
            Self::NotAString("user_id") | Self::InvalidId("user_id", _) => "invalid_owner",
            Self::NotAString("occurred_at") | Self::InvalidOccurredAt => "invalid_occurred_at",
            Self::NotAString(_) | Self::InvalidId(..) => "invalid_event_id",
            Self::InvalidData(DataError::TooLarge) => "data_too_large",
            Self::InvalidData(_) => "invalid_data",
        }
    }
}

impl Event {
    /// Reads the body of an SQS message.
    ///
    /// Without an `event_id` the event is named by `message_id`. Its time is `occurred_at` when
    /// that lies within the 24 hours before `sent` (the message's `SentTimestamp`), else `sent`
    /// itself: retention counts from acceptance, and an event published twice with the same id
    /// and time is one delivery. Fields that are not known are ignored, so that a publisher may
    /// be ahead of this service.
    pub fn parse(body: &str, message_id: &str, sent: Timestamp) -> Result<Self, EventError> {
        let raw: &RawValue = serde_json::from_str(body).map_err(|_| EventError::InvalidJson)?;
        let fields: HashMap<String, &RawValue> =
            serde_json::from_str(raw.get()).map_err(|_| EventError::NotAnObject)?;
        let text = |name: &'static str| optional_text(&fields, name);

        let event_type = text("event_type")?
            .ok_or(EventError::Missing("event_type"))?
            .parse()
            .map_err(|_| EventError::UnknownType)?;
        let owner = text("user_id")?.ok_or(EventError::Missing("user_id"))?;
        let id = text("event_id")?.unwrap_or_else(|| message_id.to_owned());
        let time = match text("occurred_at")? {
            Some(moment) => {
                event_time(Timestamp::parse(&moment).ok_or(EventError::InvalidOccurredAt)?, sent)
            }
            None => sent,
        };
        let data = fields.get("data").ok_or(EventError::Missing("data"))?;
        Ok(Self {
            id: id.parse().map_err(|error| EventError::InvalidId("event_id", error))?,
            event_type,
            owner: owner.parse().map_err(|error| EventError::InvalidId("user_id", error))?,
            time,
            data: Data::from_raw(data)?,
        })
    }
}

/// The body that every attempt signs and sends: compact ASCII JSON.
pub fn payload(id: &EventId, event_type: EventType, time: Timestamp, data: &Data) -> String {
    let mut body = String::with_capacity(data.as_str().len() + 160);
    body.push_str(r#"{"event_id":"#);
    write_ascii_string(id.as_str(), &mut body);
    body.push_str(r#","event_type":"#);
    write_ascii_string(event_type.name(), &mut body);
    body.push_str(r#","timestamp":"#);
    write_ascii_string(&time.to_string(), &mut body);
    body.push_str(r#","data":"#);
    data.write_ascii(&mut body);
    body.push('}');
    body
}

fn event_time(occurred: Timestamp, sent: Timestamp) -> Timestamp {
    let age = sent.millis() - occurred.millis();
    if (0..=OCCURRED_AT_WINDOW_MS).contains(&age) { occurred } else { sent }
}

/// The field's string; a `null` counts as absent.
fn optional_text(
    fields: &HashMap<String, &RawValue>,
    name: &'static str,
) -> Result<Option<String>, EventError> {
    fields.get(name).map_or(Ok(None), |raw| {
        serde_json::from_str(raw.get()).map_err(|_| EventError::NotAString(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SENT: i64 = 1_800_000_000_000;

    fn parse(body: &str) -> Result<Event, EventError> {
        Event::parse(body, "message-1", Timestamp::from_millis(SENT))
    }

    #[test]
    fn the_least_an_event_needs() {
        let event = parse(r#"{"event_type":"task.created","user_id":"u1","data":{}}"#).unwrap();
        assert_eq!(event.id.as_str(), "message-1");
        assert_eq!(event.time.millis(), SENT);
    }

    #[test]
    fn the_payload_is_compact_ascii_in_the_order_of_the_contract() {
        let event = parse(
            r#"{"data":{"b": 1.50, "a":"é"},"event_id":"ev\"1","user_id":"u1","event_type":"task.created","new":1}"#,
        )
        .unwrap();
        assert_eq!(
            payload(&event.id, event.event_type, event.time, &event.data),
            r#"{"event_id":"ev\"1","event_type":"task.created","timestamp":"2027-01-15T08:00:00.000Z","data":{"b":1.50,"a":"\u00e9"}}"#
        );
    }

    #[test]
    fn the_time_is_that_of_the_event_only_within_the_day_before_acceptance() {
        let at = |offset_ms: i64| {
            let occurred = Timestamp::from_millis(SENT + offset_ms);
            let body = format!(
                r#"{{"event_type":"task.created","user_id":"u1","data":{{}},"occurred_at":"{occurred}"}}"#
            );
            parse(&body).unwrap().time.millis() - SENT
        };
        assert_eq!(at(-1), -1);
        assert_eq!(at(-OCCURRED_AT_WINDOW_MS), -OCCURRED_AT_WINDOW_MS);
        assert_eq!(at(-OCCURRED_AT_WINDOW_MS - 1), 0);
        assert_eq!(at(1), 0);
    }

    #[test]
    fn what_can_never_be_handled_says_why() {
        let cases = [
            ("", "invalid_json"),
            ("{", "invalid_json"),
            ("[]", "invalid_json"),
            (r#"{"user_id":"u","data":{}}"#, "missing_event_type"),
            (r#"{"event_type":7,"user_id":"u","data":{}}"#, "unknown_event_type"),
            (r#"{"event_type":"task.eaten","user_id":"u","data":{}}"#, "unknown_event_type"),
            (r#"{"event_type":"task.created","data":{}}"#, "missing_owner"),
            (r#"{"event_type":"task.created","user_id":null,"data":{}}"#, "missing_owner"),
            (r#"{"event_type":"task.created","user_id":"","data":{}}"#, "invalid_owner"),
            (r#"{"event_type":"task.created","user_id":42,"data":{}}"#, "invalid_owner"),
            (r#"{"event_type":"task.created","user_id":"u"}"#, "missing_data"),
            (r#"{"event_type":"task.created","user_id":"u","data":[]}"#, "invalid_data"),
            (r#"{"event_type":"task.created","user_id":"u","data":null}"#, "invalid_data"),
            (
                r#"{"event_type":"task.created","user_id":"u","data":{},"event_id":""}"#,
                "invalid_event_id",
            ),
            (
                r#"{"event_type":"task.created","user_id":"u","data":{},"event_id":1}"#,
                "invalid_event_id",
            ),
            (
                r#"{"event_type":"task.created","user_id":"u","data":{},"occurred_at":"today"}"#,
                "invalid_occurred_at",
            ),
            (
                r#"{"event_type":"task.created","user_id":"u","data":{},"occurred_at":1}"#,
                "invalid_occurred_at",
            ),
        ];
        for (body, reason) in cases {
            assert_eq!(parse(body).map_err(|error| error.reason()), Err(reason), "{body}");
        }
        let large = format!(
            r#"{{"event_type":"task.created","user_id":"u","data":{{"k":"{}"}}}}"#,
            "x".repeat(crate::limits::EVENT_DATA_BYTES)
        );
        assert_eq!(parse(&large).unwrap_err().reason(), "data_too_large");
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in ".{0,200}") {
            let _ = parse(&body);
            let _ = parse(&format!(r#"{{"event_type":"task.created","user_id":"u","data":{body}}}"#));
        }
    }
}
