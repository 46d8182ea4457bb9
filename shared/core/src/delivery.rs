//! Deliveries, their attempts, and the queue messages that ask for an attempt.
//!
//! A delivery has no record until its first attempt has been made (or was postponed): the queue
//! message carries the event until then. From the first write on, the record is what counts: its
//! attempts, its status and the moment of the next one. How often the queue has handed a message
//! out says nothing, because that also rises on throttles and crashes.
//!
//! States: (no record) → `retrying` → `success` | `failed`. A terminal record never changes again. A
//! delivery that meets a paused webhook with `while_inactive: "hold"` is `held` until its owner resumes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::breaker::LastError;
use crate::catalogue::EventType;
use crate::event::{Event, payload};
use crate::failure_class::FailureClass;
use crate::ids::{DeliveryId, EventId, RecoveryId, SubscriptionId, UserId};
use crate::json::{Data, escape_for_queue};
use crate::kept_headers::KeptHeaders;
use crate::limits::{ERROR_KEEP_BYTES, RESPONSE_KEEP_BYTES};
use crate::outbound::{Failure, HttpResult, Outcome};
use crate::subscription::KeepPayload;
use crate::time::Timestamp;
use crate::traceparent::Traceparent;

/// Declares an enum whose values are stored and shown by a stable name.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        $(#[$doc])*
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name that is stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or(UnknownName)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use named;

/// A text that names none of the values there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not one of the known values")]
pub struct UnknownName;

named! {
    /// How far a delivery has come.
    Status {
        /// Another attempt will follow.
        Retrying = "retrying",
        /// Its owner has paused the webhook; it is delivered after the webhook is resumed.
        Held = "held",
        /// A receiver returned 2xx.
        Success = "success",
        /// It has ended without a 2xx.
        Failed = "failed",
    }
}

named! {
    /// What a delivery came from.
    Trigger {
        /// An event that was published.
        Event = "event",
        /// The owner asked for a test.
        Test = "test",
        /// The owner asked for a delivery to be repeated.
        Redelivery = "redelivery",
        /// A recovery repeats a delivery.
        Recovery = "recovery",
    }
}

/// One HTTP try of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The HTTP status, where a complete response was had.
    pub response_status: Option<u16>,
    /// Why there was no complete response, where there was none.
    pub no_response: Option<NoResponse>,
    /// The headers that were sent; of attempts that failed and of tests.
    pub request_headers: Option<KeptHeaders>,
    /// The headers of the response; of attempts that failed and of tests.
    pub response_headers: Option<KeptHeaders>,
    /// The first part of the response's body; of attempts that failed and of tests.
    pub response_excerpt: String,
}

/// Why an attempt got no complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoResponse {
    /// The class of the failure.
    pub failure: Failure,
    /// One sentence for the user.
    pub detail: String,
}

impl Attempt {
    /// Why it failed, without its details; nothing of a success.
    pub fn last_error(&self) -> Option<LastError> {
        match (self.response_status, &self.no_response) {
            (Some(200..=299), _) | (None, None) => None,
            (Some(status), _) => Some(LastError::Status(status)),
            (None, Some(no_response)) => Some(LastError::NoResponse(no_response.failure)),
        }
    }

    /// What is kept of an exchange. Of a success that is no test only the status is, so that its record
    /// costs one write unit.
    pub fn new(
        started_at: Timestamp,
        trigger: Trigger,
        request_headers: KeptHeaders,
        result: &HttpResult,
    ) -> Self {
        let (response_status, no_response, excerpt) = match &result.outcome {
            Outcome::Response { status, excerpt, .. } => (Some(*status), None, excerpt.as_str()),
            Outcome::NoResponse { failure, detail } => {
                let detail = cut(detail, ERROR_KEEP_BYTES).to_owned();
                (None, Some(NoResponse { failure: *failure, detail }), "")
            }
        };
        let mut attempt = Self {
            started_at,
            duration_ms: result.duration_ms,
            response_status,
            no_response,
            request_headers: None,
            response_headers: None,
            response_excerpt: String::new(),
        };
        if attempt.failure().is_some() || trigger == Trigger::Test {
            attempt.request_headers = Some(request_headers);
            attempt.response_headers.clone_from(&result.response_headers);
            cut(excerpt, RESPONSE_KEEP_BYTES).clone_into(&mut attempt.response_excerpt);
        }
        attempt
    }

    /// The class of its failure; nothing on success.
    pub fn failure(&self) -> Option<FailureClass> {
        self.last_error().and_then(LastError::class)
    }

    /// Why it failed, for the user; nothing on success.
    pub fn error(&self) -> Option<String> {
        match (self.response_status, &self.no_response) {
            (Some(200..=299), _) | (None, None) => None,
            (Some(status @ 300..=399), _) => {
                Some(format!("redirect: HTTP {status} is not followed"))
            }
            // A test does not disable the webhook, nor does the late response of an old URL.
            (Some(410), _) => Some("http: HTTP 410, the endpoint says that it is gone".to_owned()),
            (Some(status), _) => Some(format!("http: HTTP {status}")),
            (None, Some(NoResponse { failure, detail })) => Some(format!("{failure}: {detail}")),
        }
    }
}

/// The longest beginning of `text` that has at most `most` bytes and ends between characters.
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// One event for one subscription, as it is in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its name, the same for each attempt.
    pub id: DeliveryId,
    /// The subscription it is for.
    pub subscription_id: SubscriptionId,
    /// The owner of both.
    pub user_id: UserId,
    /// The event's name.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// When the event happened: the moment of the id, but for redeliveries.
    pub event_time: Timestamp,
    /// What the publisher said of it.
    pub data: Data,
    /// Its place in the publisher's trace.
    pub traceparent: Option<Traceparent>,
    /// Whether the payload is not kept any more, because its owner asked for that; `data` is empty then.
    pub is_payload_erased: bool,
    /// Whether the table has the payload in a row of its own, because it is large.
    pub has_payload_row: bool,
    /// What it came from.
    pub trigger: Trigger,
    /// The delivery that its owner asked to repeat.
    pub redelivery_of: Option<DeliveryId>,
    /// How far it has come.
    pub status: Status,
    /// Every HTTP try, oldest first.
    pub attempts: Vec<Attempt>,
    /// Why it ended, where no attempt of its own says so (the webhook was deleted or disabled).
    pub end_reason: Option<EndReason>,
    /// When the record was last written.
    pub updated_at: Timestamp,
    /// The earliest moment of the next attempt; set exactly while `retrying`.
    pub next_retry_at: Option<Timestamp>,
    /// Whether `next_retry_at` is the slot of the rate limit that it has reserved.
    pub has_slot: bool,
    /// When the retry function must look at it; set exactly while `retrying`.
    pub due_at: Option<Timestamp>,
    /// When the record may be deleted.
    pub expires_at: Timestamp,
}

named! {
    /// Why a delivery ended without an attempt that says so.
    EndReason {
        /// The webhook was deleted while the delivery waited.
        WebhookDeleted = "webhook_deleted",
        /// The webhook was paused or disabled while the delivery waited.
        EndpointDisabled = "endpoint_disabled",
    }
}

impl Delivery {
    /// The delivery that a task asks for, before anything was tried.
    pub fn new(task: &NewDelivery, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            id: task.delivery_id.clone(),
            subscription_id: task.subscription_id.clone(),
            user_id: task.user_id.clone(),
            event_id: task.event_id.clone(),
            event_type: task.event_type,
            event_time: task.event_time,
            data: task.data.clone(),
            is_payload_erased: false,
            has_payload_row: false,
            traceparent: task.traceparent.clone(),
            trigger: task.trigger,
            redelivery_of: task.redelivery_of.clone(),
            status: Status::Retrying,
            attempts: Vec::new(),
            end_reason: None,
            updated_at: now,
            next_retry_at: None,
            has_slot: false,
            due_at: None,
            expires_at,
        }
    }

    /// What the `webhook-id` header carries: the same for every delivery of one event to one
    /// subscription, so that a receiver can tell a redelivery from another event. It is the id of the
    /// first delivery.
    pub fn message_id(&self) -> DeliveryId {
        DeliveryId::of(&self.event_id, &self.subscription_id, self.event_time)
    }

    /// The moment the history sorts by: when its event happened, or a redelivery was asked for.
    pub fn created_at(&self) -> Timestamp {
        self.id.moment()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.status, Status::Success | Status::Failed)
    }

    /// The attempts made so far.
    pub fn attempt_count(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    /// The bytes that every attempt signs and sends.
    pub fn body(&self) -> String {
        payload(&self.event_id, self.event_type, self.event_time, &self.data)
    }

    /// Why it has failed so far, for the user.
    pub fn error(&self) -> Option<String> {
        match self.end_reason {
            Some(EndReason::WebhookDeleted) => {
                Some("webhook_deleted: the webhook was deleted".to_owned())
            }
            Some(EndReason::EndpointDisabled) => {
                Some("endpoint_disabled: the webhook is not active".to_owned())
            }
            None => self.attempts.last().and_then(Attempt::error),
        }
    }

    /// Ends it with a success, and erases the payload if that is not kept then.
    pub fn succeed(&mut self, keep_payload: KeepPayload, now: Timestamp) {
        self.end(Status::Success, now);
        if keep_payload == KeepPayload::UntilSuccess {
            self.data = Data::empty();
            self.is_payload_erased = true;
        }
    }

    /// Gives it a status in which it waits for no moment.
    pub fn end(&mut self, status: Status, now: Timestamp) {
        self.status = status;
        self.updated_at = now;
        self.next_retry_at = None;
        self.has_slot = false;
        self.due_at = None;
    }

    /// Holds it until its owner resumes the webhook.
    pub fn hold(&mut self, now: Timestamp) {
        self.end(Status::Held, now);
    }

    /// Puts the next attempt off until `at`; the retry function looks at it from `due_at` on.
    pub fn wait(&mut self, at: Timestamp, due_at: Timestamp, now: Timestamp) {
        self.status = Status::Retrying;
        self.updated_at = now;
        self.next_retry_at = Some(at);
        self.has_slot = false;
        self.due_at = Some(due_at);
    }
}

/// The message of a deliveries queue: it asks for an attempt, or for a page of a recovery.
///
/// A first attempt carries the event, because there is no record yet; a later one only names the
/// record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryTask {
    /// The first attempt of a delivery.
    FirstAttempt(NewDelivery),
    /// The first attempts of one event's deliveries to several webhooks. They differ only in the
    /// webhook and in the id that follows from it, so the message has the payload once.
    FirstAttempts(Vec<NewDelivery>),
    /// A later attempt of a delivery that has a record.
    Retry {
        /// The subscription.
        subscription_id: SubscriptionId,
        /// The delivery.
        delivery_id: DeliveryId,
        /// The earliest moment of the attempt, which is near: a recovery spreads its tasks in order.
        start_at: Option<Timestamp>,
    },
    /// A page of a recovery.
    RecoveryPage {
        /// The subscription.
        subscription_id: SubscriptionId,
        /// The recovery.
        recovery_id: RecoveryId,
        /// The number of the page; that of the row's next page when there is none.
        page: Option<u32>,
    },
}

/// A delivery that has no record yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// The owner.
    pub user_id: UserId,
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// The delivery.
    pub delivery_id: DeliveryId,
    /// The event's name.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// When the event happened.
    pub event_time: Timestamp,
    /// What the publisher said of it.
    pub data: Data,
    /// Its place in the publisher's trace.
    pub traceparent: Option<Traceparent>,
    /// What it came from.
    pub trigger: Trigger,
    /// The delivery that its owner asked to repeat.
    pub redelivery_of: Option<DeliveryId>,
    /// The earliest moment of the attempt, which is near: a recovery spreads its tasks in order.
    pub start_at: Option<Timestamp>,
}

impl NewDelivery {
    /// The same event for the same subscription once more, under a name of its own.
    pub fn redelivery_of(of: &Delivery, delivery_id: DeliveryId) -> Self {
        Self {
            user_id: of.user_id.clone(),
            subscription_id: of.subscription_id.clone(),
            delivery_id,
            event_id: of.event_id.clone(),
            event_type: of.event_type,
            event_time: of.event_time,
            data: of.data.clone(),
            traceparent: of.traceparent.clone(),
            trigger: Trigger::Redelivery,
            redelivery_of: Some(of.id.clone()),
            start_at: None,
        }
    }

    /// The delivery of this event to this subscription; the same whenever it is asked again.
    pub fn of_event(event: &Event, subscription_id: &SubscriptionId) -> Self {
        Self {
            user_id: event.owner.clone(),
            subscription_id: subscription_id.clone(),
            delivery_id: DeliveryId::of(&event.id, subscription_id, event.time),
            event_id: event.id.clone(),
            event_type: event.event_type,
            event_time: event.time,
            data: event.data.clone(),
            traceparent: event.traceparent.clone(),
            trigger: Trigger::Event,
            redelivery_of: None,
            start_at: None,
        }
    }
}

/// A message on the deliveries queue that is no task.
#[derive(Debug, thiserror::Error)]
#[error("the message is not a delivery task: {0}")]
pub struct TaskError(#[from] serde_json::Error);

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subscription_id: Option<SubscriptionId>,
    /// Those of several first attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subscription_ids: Option<Vec<SubscriptionId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivery_id: Option<DeliveryId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery_id: Option<RecoveryId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_at: Option<Timestamp>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    first: Option<WireFirst<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WireFirst<'a> {
    user_id: UserId,
    event_id: EventId,
    event_type: EventType,
    event_time: Timestamp,
    trigger: Trigger,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redelivery_of: Option<DeliveryId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<Traceparent>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl DeliveryTask {
    /// The first attempts of one event's deliveries.
    pub fn first_attempts(mut deliveries: Vec<NewDelivery>) -> Self {
        if deliveries.len() == 1 {
            Self::FirstAttempt(deliveries.remove(0))
        } else {
            Self::FirstAttempts(deliveries)
        }
    }

    /// The same as tasks of one delivery each.
    pub fn split(self) -> Vec<Self> {
        match self {
            Self::FirstAttempts(deliveries) => {
                deliveries.into_iter().map(Self::FirstAttempt).collect()
            }
            one => vec![one],
        }
    }

    /// The subscription that it is for; the first one of several.
    pub fn subscription_id(&self) -> Option<&SubscriptionId> {
        match self {
            Self::FirstAttempt(new) => Some(&new.subscription_id),
            Self::FirstAttempts(deliveries) => deliveries.first().map(|new| &new.subscription_id),
            Self::Retry { subscription_id, .. } | Self::RecoveryPage { subscription_id, .. } => {
                Some(subscription_id)
            }
        }
    }

    /// The delivery whose attempt it asks for; the first one of several.
    pub fn delivery_id(&self) -> Option<&DeliveryId> {
        match self {
            Self::FirstAttempt(new) => Some(&new.delivery_id),
            Self::FirstAttempts(deliveries) => deliveries.first().map(|new| &new.delivery_id),
            Self::Retry { delivery_id, .. } => Some(delivery_id),
            Self::RecoveryPage { .. } => None,
        }
    }

    /// The earliest moment of its attempt, which is near.
    pub fn start_at(&self) -> Option<Timestamp> {
        match self {
            Self::FirstAttempt(new) => new.start_at,
            Self::Retry { start_at, .. } => *start_at,
            Self::FirstAttempts(_) | Self::RecoveryPage { .. } => None,
        }
    }

    /// The body of the queue message.
    pub fn to_json(&self) -> Result<String, TaskError> {
        let none = Wire {
            subscription_id: None,
            subscription_ids: None,
            delivery_id: None,
            recovery_id: None,
            page: None,
            start_at: self.start_at(),
            first: None,
        };
        let subscription_id = self.subscription_id().cloned();
        let delivery_id = self.delivery_id().cloned();
        let wire = match self {
            Self::FirstAttempt(new) => {
                Wire { subscription_id, delivery_id, first: Some(WireFirst::of(new)?), ..none }
            }
            Self::FirstAttempts(deliveries) => {
                let ids = deliveries.iter().map(|new| new.subscription_id.clone()).collect();
                let first = deliveries.first().map(WireFirst::of).transpose()?;
                Wire { subscription_ids: Some(ids), first, ..none }
            }
            Self::Retry { .. } => Wire { subscription_id, delivery_id, ..none },
            Self::RecoveryPage { recovery_id, page, .. } => {
                let recovery_id = Some(recovery_id.clone());
                Wire { subscription_id, recovery_id, page: *page, ..none }
            }
        };
        Ok(escape_for_queue(serde_json::to_string(&wire)?))
    }

    /// Reads the body of a queue message.
    pub fn from_json(body: &str) -> Result<Self, TaskError> {
        fn present<T>(field: Option<T>, name: &'static str) -> Result<T, serde_json::Error> {
            field.ok_or_else(|| <serde_json::Error as serde::de::Error>::missing_field(name))
        }
        let wire: Wire<'_> = serde_json::from_str(body)?;
        let Wire {
            subscription_id,
            subscription_ids,
            delivery_id,
            recovery_id,
            page,
            start_at,
            first,
        } = wire;
        if let Some(ids) = subscription_ids.filter(|ids| !ids.is_empty()) {
            let first = present(first, "first")?;
            let data = first.data()?;
            let named = |id| {
                let delivery_id = DeliveryId::of(&first.event_id, &id, first.event_time);
                first.delivery(id, delivery_id, data.clone(), None)
            };
            return Ok(Self::first_attempts(ids.into_iter().map(named).collect()));
        }
        let subscription_id = present(subscription_id, "subscription_id")?;
        if let Some(recovery_id) = recovery_id {
            return Ok(Self::RecoveryPage { subscription_id, recovery_id, page });
        }
        let delivery_id = present(delivery_id, "delivery_id")?;
        let Some(first) = first else {
            return Ok(Self::Retry { subscription_id, delivery_id, start_at });
        };
        let data = first.data()?;
        Ok(Self::FirstAttempt(first.delivery(subscription_id, delivery_id, data, start_at)))
    }
}

impl<'a> WireFirst<'a> {
    fn of(new: &'a NewDelivery) -> Result<Self, serde_json::Error> {
        Ok(Self {
            user_id: new.user_id.clone(),
            event_id: new.event_id.clone(),
            event_type: new.event_type,
            event_time: new.event_time,
            trigger: new.trigger,
            redelivery_of: new.redelivery_of.clone(),
            traceparent: new.traceparent.clone(),
            data: serde_json::from_str(new.data.as_str())?,
        })
    }

    fn data(&self) -> Result<Data, serde_json::Error> {
        Data::from_raw(self.data).map_err(<serde_json::Error as serde::de::Error>::custom)
    }

    fn delivery(
        &self,
        subscription_id: SubscriptionId,
        delivery_id: DeliveryId,
        data: Data,
        start_at: Option<Timestamp>,
    ) -> NewDelivery {
        NewDelivery {
            user_id: self.user_id.clone(),
            subscription_id,
            delivery_id,
            event_id: self.event_id.clone(),
            event_type: self.event_type,
            event_time: self.event_time,
            data,
            traceparent: self.traceparent.clone(),
            trigger: self.trigger,
            redelivery_of: self.redelivery_of.clone(),
            start_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::RetryAfter;

    fn task() -> NewDelivery {
        let event = Event::parse(
            r#"{"event_type":"task.created","user_id":"u1","data":{"b":1.0,"a":"é\ud800"}}"#,
            "m1",
            Timestamp::from_seconds(1_800_000_000),
        )
        .unwrap();
        let subscription = SubscriptionId::new(Timestamp::EPOCH, [1; 10]);
        NewDelivery::of_event(&event, &subscription)
    }

    #[test]
    fn a_task_survives_the_queue() {
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
        assert!(traceparent.is_some());
        let start_at = Some(Timestamp::from_millis(1_800_000_000_123));
        let new = NewDelivery { traceparent, start_at, ..task() };
        let again = DeliveryTask::Retry {
            subscription_id: new.subscription_id.clone(),
            delivery_id: new.delivery_id.clone(),
            start_at,
        };
        let page = |page| DeliveryTask::RecoveryPage {
            subscription_id: new.subscription_id.clone(),
            recovery_id: RecoveryId::new(Timestamp::EPOCH, [2; 10]),
            page,
        };
        let (page, present) = (page(Some(3)), page(None));
        let at = |n: u8| {
            let subscription_id = SubscriptionId::new(Timestamp::EPOCH, [n; 10]);
            let delivery_id = DeliveryId::of(&new.event_id, &subscription_id, new.event_time);
            NewDelivery { subscription_id, delivery_id, start_at: None, ..new.clone() }
        };
        let several = DeliveryTask::first_attempts((1..=3).map(at).collect());
        assert_eq!(several.clone().split(), [1, 2, 3].map(|n| DeliveryTask::FirstAttempt(at(n))));
        assert_eq!(several.to_json().unwrap().matches("\"data\"").count(), 1);
        for task in [DeliveryTask::first_attempts(vec![new]), several, again, page, present] {
            assert_eq!(DeliveryTask::from_json(&task.to_json().unwrap()).unwrap(), task);
        }
        let nameless = r#"{"subscription_id":"wh_00000000000000000000000000"}"#;
        let eventless = r#"{"subscription_ids":["wh_00000000000000000000000000"]}"#;
        for bad in
            ["", "{}", "[]", nameless, eventless, r#"{"subscription_id":"x","delivery_id":"y"}"#]
        {
            assert!(DeliveryTask::from_json(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_with_characters_that_a_queue_refuses_are_escaped() {
        let odd = "\u{FFFE}e\u{FFFF}";
        let new =
            NewDelivery { event_id: odd.parse().unwrap(), user_id: odd.parse().unwrap(), ..task() };
        let task = DeliveryTask::FirstAttempt(new);
        let body = task.to_json().unwrap();
        assert!(!body.contains(['\u{FFFE}', '\u{FFFF}']), "{body}");
        assert_eq!(DeliveryTask::from_json(&body).unwrap(), task);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(*status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert_eq!("Success".parse::<Status>(), Err(UnknownName));
    }

    #[test]
    fn an_attempt_says_what_was_wrong() {
        let error = |outcome| attempt(Trigger::Event, outcome).error();
        assert_eq!(error(response(204)), None);
        assert!(error(response(302)).unwrap().starts_with("redirect: HTTP 302"));
        assert!(error(response(500)).unwrap().contains("HTTP 500"));
        let timeout = Outcome::NoResponse { failure: Failure::Timeout, detail: "x".repeat(9000) };
        let timeout = attempt(Trigger::Event, timeout);
        assert!(timeout.error().unwrap().starts_with("timeout: xx"));
        assert_eq!(timeout.no_response.unwrap().detail.len(), ERROR_KEEP_BYTES);
    }

    fn response(status: u16) -> Outcome {
        let retry_after = Some(RetryAfter::Seconds(1));
        Outcome::Response { status, retry_after, excerpt: "body".to_owned() }
    }

    fn attempt(trigger: Trigger, outcome: Outcome) -> Attempt {
        let response_headers = Some(KeptHeaders::new([("via", "a")]));
        let result = HttpResult { outcome, response_headers, duration_ms: 1 };
        Attempt::new(Timestamp::EPOCH, trigger, KeptHeaders::default(), &result)
    }

    #[test]
    fn exchange_is_kept_of_failures_and_of_tests() {
        for (trigger, status, is_kept) in [
            (Trigger::Event, 200, false),
            (Trigger::Redelivery, 204, false),
            (Trigger::Event, 500, true),
            (Trigger::Recovery, 302, true),
            (Trigger::Test, 200, true),
        ] {
            let attempt = attempt(trigger, response(status));
            assert_eq!(attempt.request_headers.is_some(), is_kept, "{trigger} {status}");
            assert_eq!(attempt.response_headers.is_some(), is_kept, "{trigger} {status}");
            assert_eq!(attempt.response_excerpt == "body", is_kept, "{trigger} {status}");
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aé", 9), "aé");
    }

    #[test]
    fn a_delivery_that_ended_waits_for_nothing() {
        let mut delivery = Delivery::new(&task(), Timestamp::EPOCH, Timestamp::from_seconds(1));
        let later = Timestamp::from_seconds(9);
        delivery.wait(later, later, Timestamp::EPOCH);
        assert_eq!(delivery.next_retry_at, Some(later));
        delivery.end(Status::Failed, later);
        assert_eq!((delivery.next_retry_at, delivery.due_at), (None, None));
        assert!(delivery.has_ended());
    }
}
