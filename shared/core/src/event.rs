//! Events as they come from the events queue.
//!
//! An event is parsed once, here; what cannot be handled however often it is tried is an
//! [`EventError`] and goes to the dead-letter queue with its reason.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::catalogue::EventType;
use crate::ids::{EventId, IdError, UserId};
use crate::json::{Data, DataError, write_ascii_string};
use crate::limits::{OCCURRED_AT_AHEAD_MS, OCCURRED_AT_WINDOW_MS};
use crate::time::Timestamp;
use crate::traceparent::Traceparent;

/// Something that happened, published once, immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name: the publisher's, or that of the SQS message.
    pub id: EventId,
    /// What kind of thing happened.
    pub event_type: EventType,
    /// The user whose webhooks get it.
    pub owner: UserId,
    /// When it happened, see [`Event::parse`].
    pub time: Timestamp,
    /// What the publisher says of it.
    pub data: Data,
    /// Its place in the publisher's trace. It is not a part of the body.
    pub traceparent: Option<Traceparent>,
}

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `event_type`.
    EventType,
    /// `user_id`.
    UserId,
    /// `event_id`.
    EventId,
    /// `occurred_at`.
    OccurredAt,
    /// `data`.
    Data,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 5] =
        [Self::EventType, Self::UserId, Self::EventId, Self::OccurredAt, Self::Data];

    /// Its name in the message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EventType => "event_type",
            Self::UserId => "user_id",
            Self::EventId => "event_id",
            Self::OccurredAt => "occurred_at",
            Self::Data => "data",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What another service has wrapped an event in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// A notification of Amazon SNS.
    Sns,
    /// An event of Amazon EventBridge.
    EventBridge,
    /// A CloudEvent in its structured form.
    CloudEvents,
}

impl Envelope {
    /// The fields by which each envelope is known.
    const KNOWN_BY: [(Self, &'static [&'static str]); 3] = [
        (Self::Sns, &["Type", "TopicArn", "Message"]),
        (Self::EventBridge, &["detail-type", "source", "detail"]),
        (Self::CloudEvents, &["specversion", "type", "source"]),
    ];

    fn of(fields: &Fields<'_>) -> Option<Self> {
        let has_all = |names: &[&str]| names.iter().all(|name| fields.0.contains_key(*name));
        Self::KNOWN_BY.into_iter().find(|(_, names)| has_all(names)).map(|(envelope, _)| envelope)
    }
}

/// Names the envelope, and what its sender can do.
impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sns => "an SNS notification: turn on raw message delivery on the subscription",
            Self::EventBridge => {
                "an EventBridge event: give the target an input transformer or an input path"
            }
            Self::CloudEvents => "a CloudEvent: send its data as an event of this service",
        })
    }
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
    /// A field is given more than once: which one counts would depend on who reads it.
    #[error("`{0}` must be given only once")]
    Duplicate(Field),
    /// The event is wrapped in something else.
    #[error("the event is wrapped in {0}")]
    Wrapped(Envelope),
    /// There is no type.
    #[error("`event_type` is missing")]
    MissingType,
    /// There is no owner.
    #[error("`user_id` is missing")]
    MissingOwner,
    /// There is no data.
    #[error("`data` is missing")]
    MissingData,
    /// A field is no string.
    #[error("`{0}` must be a string")]
    NotAString(Field),
    /// The catalogue does not have the type.
    #[error("`event_type` is not an event type of the catalogue")]
    UnknownType,
    /// The type tells about webhooks, which only the service itself does.
    #[error("`event_type` is an operational type, which only this service sends")]
    OperationalType,
    /// The owner's or the event's id is not usable.
    #[error("`{0}` {1}")]
    InvalidId(Field, IdError),
    /// The data is not usable.
    #[error("`data` {0}")]
    InvalidData(#[from] DataError),
    /// The data is not valid against the schema of its type. Only a stack that checks it finds out.
    #[error("`data` is not valid against the schema of its event type: {0}")]
    SchemaViolation(String),
    /// The moment cannot be read.
    #[error("`occurred_at` must be an RFC 3339 date and time")]
    InvalidOccurredAt,
}

impl EventError {
    /// The stable name that is on the dead-lettered message and in the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidJson | Self::NotAnObject => "invalid_json",
            Self::Duplicate(_) => "duplicate_field",
            Self::Wrapped(Envelope::Sns) => "sns_envelope",
            Self::Wrapped(Envelope::EventBridge) => "eventbridge_envelope",
            Self::Wrapped(Envelope::CloudEvents) => "cloudevents_envelope",
            Self::MissingType => "missing_event_type",
            Self::MissingOwner => "missing_owner",
            Self::MissingData => "missing_data",
            Self::UnknownType => "unknown_event_type",
            Self::OperationalType => "operational_event_type",
            Self::InvalidOccurredAt => "invalid_occurred_at",
            Self::InvalidData(DataError::TooLarge) => "data_too_large",
            Self::InvalidData(_) => "invalid_data",
            Self::SchemaViolation(_) => "schema_violation",
            Self::NotAString(field) | Self::InvalidId(field, _) => match field {
                Field::EventType => "unknown_event_type",
                Field::UserId => "invalid_owner",
                Field::EventId => "invalid_event_id",
                Field::OccurredAt => "invalid_occurred_at",
                Field::Data => "invalid_data",
            },
        }
    }
}

impl Event {
    /// Reads the body of an SQS message.
    ///
    /// Without an `event_id` the event is named by `message_id`. Its time is `occurred_at` when
    /// that lies between 24 hours before and 60 seconds after `sent` (the message's `SentTimestamp`),
    /// else `sent` itself: retention counts from acceptance, and an event published twice with the same id
    /// and time is one delivery. Fields that are not known are ignored, so that a publisher may
    /// be ahead of this service.
    pub fn parse(body: &str, message_id: &str, sent: Timestamp) -> Result<Self, EventError> {
        let raw: &RawValue = serde_json::from_str(body).map_err(|_| EventError::InvalidJson)?;
        let fields: Fields<'_> =
            serde_json::from_str(raw.get()).map_err(|_| EventError::NotAnObject)?;
        if let Some(field) = Field::ALL.into_iter().find(|field| fields.has_twice(*field)) {
            return Err(EventError::Duplicate(field));
        }

        let Some(event_type) = fields.text(Field::EventType)? else {
            return Err(Envelope::of(&fields).map_or(EventError::MissingType, EventError::Wrapped));
        };
        let event_type: EventType = event_type.parse().map_err(|_| EventError::UnknownType)?;
        if event_type.is_operational() {
            return Err(EventError::OperationalType);
        }
        let owner = fields.text(Field::UserId)?.ok_or(EventError::MissingOwner)?;
        let id = fields.text(Field::EventId)?.unwrap_or_else(|| message_id.to_owned());
        let time = match fields.text(Field::OccurredAt)? {
            Some(moment) => {
                event_time(Timestamp::parse(&moment).ok_or(EventError::InvalidOccurredAt)?, sent)
            }
            None => sent,
        };
        let data = fields.raw(Field::Data).ok_or(EventError::MissingData)?;
        Ok(Self {
            id: id.parse().map_err(|error| EventError::InvalidId(Field::EventId, error))?,
            event_type,
            owner: owner.parse().map_err(|error| EventError::InvalidId(Field::UserId, error))?,
            time,
            data: Data::from_raw(data)?,
            traceparent: None,
        })
    }
}

/// The fields of a JSON object, and every value of each.
struct Fields<'a>(HashMap<String, Vec<&'a RawValue>>);

impl<'a> Fields<'a> {
    fn has_twice(&self, field: Field) -> bool {
        self.0.get(field.as_str()).is_some_and(|values| values.len() > 1)
    }

    fn raw(&self, field: Field) -> Option<&'a RawValue> {
        self.0.get(field.as_str())?.first().copied()
    }

    /// The field's string; a `null` counts as absent.
    fn text(&self, field: Field) -> Result<Option<String>, EventError> {
        self.raw(field).map_or(Ok(None), |raw| {
            serde_json::from_str(raw.get()).map_err(|_| EventError::NotAString(field))
        })
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields<'de>, M::Error> {
                let mut fields = Fields(HashMap::new());
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    fields.0.entry(name).or_default().push(value);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
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
    if (-OCCURRED_AT_AHEAD_MS..=OCCURRED_AT_WINDOW_MS).contains(&age) { occurred } else { sent }
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
    fn event_with_required_fields_only_is_accepted() {
        let event = parse(r#"{"event_type":"task.created","user_id":"u1","data":{}}"#).unwrap();
        assert_eq!(event.id.as_str(), "message-1");
        assert_eq!(event.time.millis(), SENT);
    }

    #[test]
    fn payload_is_compact_ascii_in_the_order_of_the_contract() {
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
    fn time_is_that_of_the_event_only_near_acceptance() {
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
        assert_eq!(at(OCCURRED_AT_AHEAD_MS), OCCURRED_AT_AHEAD_MS);
        assert_eq!(at(OCCURRED_AT_AHEAD_MS + 1), 0);
    }

    #[test]
    fn invalid_event_names_its_reason() {
        let cases = [
            ("", "invalid_json"),
            ("{", "invalid_json"),
            ("[]", "invalid_json"),
            (r#"{"user_id":"u","data":{}}"#, "missing_event_type"),
            (r#"{"event_type":7,"user_id":"u","data":{}}"#, "unknown_event_type"),
            (r#"{"event_type":"task.eaten","user_id":"u","data":{}}"#, "unknown_event_type"),
            (
                r#"{"event_type":"webhook.disabled","user_id":"u","data":{}}"#,
                "operational_event_type",
            ),
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
        let wrapped = [
            (
                r#"{"Type":"Notification","TopicArn":"arn:aws:sns:x","Message":"{}","MessageId":"m"}"#,
                "sns_envelope",
            ),
            (
                r#"{"version":"0","id":"i","detail-type":"task.created","source":"app","detail":{}}"#,
                "eventbridge_envelope",
            ),
            (
                r#"{"specversion":"1.0","type":"task.created","source":"app","id":"i","data":{}}"#,
                "cloudevents_envelope",
            ),
            (
                r#"{"event_type":"task.created","user_id":"u","user_id":"v","data":{}}"#,
                "duplicate_field",
            ),
            (
                r#"{"event_type":"task.created","user_id":"u","user\u005fid":"u","data":{}}"#,
                "duplicate_field",
            ),
            (
                r#"{"event_type":"task.created","user_id":"u","data":{},"data":{}}"#,
                "duplicate_field",
            ),
        ];
        for (body, reason) in cases.into_iter().chain(wrapped) {
            assert_eq!(parse(body).map_err(|error| error.reason()), Err(reason), "{body}");
        }
        let large = format!(
            r#"{{"event_type":"task.created","user_id":"u","data":{{"k":"{}"}}}}"#,
            "x".repeat(crate::limits::EVENT_DATA_BYTES)
        );
        assert_eq!(parse(&large).unwrap_err().reason(), "data_too_large");
    }

    #[test]
    fn fields_that_are_not_known_may_be_given_twice() {
        let body =
            r#"{"event_type":"task.created","user_id":"u","data":{"a":1,"a":2},"x":1,"x":2}"#;
        assert_eq!(parse(body).unwrap().data.as_str(), r#"{"a":1,"a":2}"#);
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in ".{0,200}") {
            let _ = parse(&body);
            let _ = parse(&format!(r#"{{"event_type":"task.created","user_id":"u","data":{body}}}"#));
        }
    }
}
