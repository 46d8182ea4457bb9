//! An event before it is sent.

use std::fmt;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use webhooks_core::event::{Event as CoreEvent, EventError};
use webhooks_core::ids::EventId;
use webhooks_core::json::{Data, escape_for_queue};
use webhooks_core::time::Timestamp;
use webhooks_core::traceparent::Traceparent;

use crate::error::Reason;

/// The `data` of one event type. The structs in [`crate::data`] implement it.
pub trait EventData: Serialize {
    /// The event type's name in the catalogue.
    const EVENT_TYPE: &'static str;
}

/// Something that happened to a user.
#[derive(Clone)]
#[expect(clippy::struct_field_names, reason = "these are the names in the message")]
pub struct Event {
    event_type: String,
    user_id: String,
    data: Result<Data, Reason>,
    pub(crate) event_id: Option<String>,
    pub(crate) occurred_at: Option<Timestamp>,
    pub(crate) traceparent: Option<Traceparent>,
}

/// The message body, see docs/PUBLISHING.md.
#[derive(Serialize)]
struct Wire<'a> {
    event_type: &'a str,
    user_id: &'a str,
    event_id: Option<&'a str>,
    occurred_at: Option<Timestamp>,
    data: &'a RawValue,
}

impl Event {
    /// An event with typed data.
    pub fn new<D: EventData>(user_id: impl Into<String>, data: &D) -> Self {
        Self::of_type(D::EVENT_TYPE, user_id, data)
    }

    /// An event with any data that serialises to a JSON object. Whether `event_type` is in the
    /// catalogue is checked when it is published.
    pub fn of_type<D: Serialize + ?Sized>(
        event_type: impl Into<String>,
        user_id: impl Into<String>,
        data: &D,
    ) -> Self {
        Self {
            event_type: event_type.into(),
            user_id: user_id.into(),
            data: read_data(data),
            event_id: None,
            occurred_at: None,
            traceparent: None,
        }
    }

    /// Names the event: 1 to 256 characters without control characters. Without a name the
    /// publisher draws one.
    ///
    /// A name that follows from what happened (`task-7-completed-3`) makes one delivery of an event
    /// that two processes publish, provided that they give the same [`Event::with_occurred_at`].
    #[must_use]
    pub fn with_id(mut self, event_id: impl Into<String>) -> Self {
        self.event_id = Some(event_id.into());
        self
    }

    /// Says when it happened. Without it, the event happened when it was published.
    ///
    /// The service uses it when it lies between 24 hours before and 60 seconds after the queue accepts
    /// the event, and the moment of acceptance otherwise.
    #[must_use]
    pub fn with_occurred_at(mut self, moment: Timestamp) -> Self {
        self.occurred_at = Some(moment);
        self
    }

    /// Says where it belongs in a trace: the `traceparent` of W3C Trace Context, which its deliveries
    /// carry. One that is not valid is left out.
    #[must_use]
    pub fn with_traceparent(mut self, traceparent: &str) -> Self {
        self.traceparent = traceparent.parse().ok();
        self
    }

    /// The event type's name.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The event's name; nothing before it was given one or was published.
    pub fn event_id(&self) -> Option<&str> {
        self.event_id.as_deref()
    }

    /// The event's name, the message body and the message group, where the service will accept it.
    pub(crate) fn encode(&self) -> Result<(EventId, String, String), Reason> {
        let data = self.data.as_ref().map_err(Clone::clone)?;
        let wire = Wire {
            event_type: &self.event_type,
            user_id: &self.user_id,
            event_id: self.event_id.as_deref(),
            occurred_at: self.occurred_at,
            data: serde_json::from_str(data.as_str()).map_err(not_json)?,
        };
        let body = escape_for_queue(serde_json::to_string(&wire).map_err(not_json)?);
        // The message id and the moment of sending are not known yet and do not matter: the
        // publisher gives every event its own.
        let event = CoreEvent::parse(&body, "", Timestamp::EPOCH).map_err(Reason::Invalid)?;
        Ok((event.id, body, event.owner.message_group()))
    }
}

impl fmt::Debug for Event {
    /// Leaves the data out, which may be personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("event_type", &self.event_type)
            .field("event_id", &self.event_id)
            .field("occurred_at", &self.occurred_at)
            .finish_non_exhaustive()
    }
}

fn read_data<D: Serialize + ?Sized>(data: &D) -> Result<Data, Reason> {
    let raw = to_raw_value(data).map_err(not_json)?;
    Data::from_raw(&raw).map_err(|error| Reason::Invalid(EventError::InvalidData(error)))
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn not_json(error: serde_json::Error) -> Reason {
    Reason::NotJson(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::HashMap;
    use webhooks_core::limits::{EVENT_DATA_BYTES, QUEUE_BATCH_BYTES};

    fn event(data: &impl Serialize) -> Event {
        Event::of_type("task.created", "u1", data).with_id("e1")
    }

    fn reason(event: &Event) -> &'static str {
        match event.encode().unwrap_err() {
            Reason::Invalid(error) => error.reason(),
            Reason::NotJson(_) => "not_json",
            other => panic!("{other}"),
        }
    }

    #[test]
    fn body_is_what_the_service_reads() {
        let happened = Timestamp::from_seconds(1_800_000_000);
        let event = event(&json!({"a": "é\u{FFFF}\u{FFFE}\u{7}"})).with_occurred_at(happened);
        let (id, body, group) = event.encode().unwrap();
        assert_eq!(group, "u1");
        assert_eq!(
            body,
            r#"{"event_type":"task.created","user_id":"u1","event_id":"e1","occurred_at":"2027-01-15T08:00:00.000Z","data":{"a":"é\uffff\ufffe\u0007"}}"#
        );
        let read = CoreEvent::parse(&body, "m1", happened.plus_seconds(9)).unwrap();
        assert_eq!((read.id, read.owner.as_str(), read.time), (id, "u1", happened));
    }

    #[test]
    fn raw_json_keeps_its_order_and_spelling_and_loses_its_white_space() {
        let raw = RawValue::from_string(r#"{"b": 1.50, "a": 1e3}"#.to_owned()).unwrap();
        let (_, body, _) = event(&raw).encode().unwrap();
        assert!(body.ends_with(r#""data":{"b":1.50,"a":1e3}}"#), "{body}");
    }

    #[test]
    fn events_invalid_for_the_service_are_refused() {
        let good = json!({});
        assert_eq!(
            reason(&Event::of_type("task.eaten", "u1", &good).with_id("e1")),
            "unknown_event_type"
        );
        assert_eq!(
            reason(&Event::of_type("task.created", "", &good).with_id("e1")),
            "invalid_owner"
        );
        assert_eq!(reason(&event(&good).with_id("a\nb")), "invalid_event_id");
        assert_eq!(reason(&event(&json!([]))), "invalid_data");
        assert_eq!(reason(&event(&HashMap::from([((1, 2), 3)]))), "not_json");
    }

    #[test]
    fn data_may_have_256_kib_exactly_and_then_fits_a_batch() {
        let of_size = |bytes: usize| event(&json!({"k": "x".repeat(bytes - r#"{"k":""}"#.len())}));
        assert!(of_size(EVENT_DATA_BYTES).encode().unwrap().1.len() < QUEUE_BATCH_BYTES);
        assert_eq!(reason(&of_size(EVENT_DATA_BYTES + 1)), "data_too_large");
    }

    #[test]
    fn data_is_not_printed() {
        assert!(!format!("{:?}", event(&json!({"name": "Jane"}))).contains("Jane"));
    }
}
