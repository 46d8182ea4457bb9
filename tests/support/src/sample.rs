//! Domain values for tests. The same arguments build the same value; another `n` or owner builds
//! one with another id, and a higher `n` is newer.

use webhooks_core::breaker::Health;
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::{Attempt, Delivery, NewDelivery, Status, Trigger};
use webhooks_core::event::Event;
use webhooks_core::ids::{DeliveryId, EventId, SubscriptionId, UserId};
use webhooks_core::json::Data;
use webhooks_core::kept_headers::KeptHeaders;
use webhooks_core::maybe_known::MaybeKnown;
use webhooks_core::request_headers::SealedHeaders;
use webhooks_core::schedule::RetrySchedule;
use webhooks_core::secret::{Secret, SecretSealer as _, SubscriptionSecrets};
use webhooks_core::statistics::{Addition, Counts};
use webhooks_core::subscription::{KeepPayload, SignatureScheme, Subscription, WhileInactive};
use webhooks_core::time::Timestamp;
use webhooks_core::traceparent::Traceparent;

use crate::TestSealer;

use crate::random::SeededRandom;

/// The moment that the samples count from: 2027-01-15T08:00:00.000Z, the start of an hour.
pub fn start() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000)
}

/// So many seconds after [`start`].
pub fn at(seconds: u64) -> Timestamp {
    start().plus_seconds(seconds)
}

/// The user of this id.
pub fn user(id: &str) -> UserId {
    id.parse().expect("a user id")
}

/// The event type of this name.
pub fn event_type(name: &str) -> EventType {
    name.parse().expect("an event type of the catalogue")
}

/// The data of this JSON object.
pub fn data(json: &str) -> Data {
    Data::parse(json).expect("the data of an event")
}

/// The id of the `n`th subscription of a user, made `n` seconds after [`start`].
pub fn subscription_id(user: &str, n: u64) -> SubscriptionId {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&mix(user, n).to_be_bytes());
    SubscriptionId::new(at(n), random)
}

/// The secret of [`subscription`].
pub fn secret(user: &str, n: u64) -> Secret {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&mix(user, n).to_be_bytes());
    Secret::from_random(&bytes)
}

/// The `n`th subscription of a user, sealed by [`TestSealer`]: active, wants every event type, at
/// `https://receiver.example/<n>`.
pub fn subscription(user: &str, n: u64) -> Subscription {
    let (user_id, id) = (self::user(user), subscription_id(user, n));
    let secret = TestSealer.seal(&secret(user, n).into(), &user_id, &id);
    Subscription {
        user_id,
        id,
        url: format!("https://receiver.example/{n}"),
        event_types: EventType::all().map(MaybeKnown::from).collect(),
        filter: None,
        description: None,
        is_active: true,
        disabled_reason: None,
        verification: None,
        retry_schedule: RetrySchedule::default(),
        timeout_seconds: 10,
        headers: SealedHeaders::default(),
        rate_limit: None,
        while_inactive: WhileInactive::default(),
        may_have_held: false,
        auto_recover: false,
        signature: SignatureScheme::default(),
        keep_payload: KeepPayload::default(),
        secrets: SubscriptionSecrets::new(secret),
        created_at: at(n),
        updated_at: at(n),
        version: 1,
        health: Health::default(),
    }
}

/// The `n`th event of a user: `task.created`, happened `n` seconds after [`start`].
pub fn event(user: &str, n: u64) -> Event {
    Event {
        id: event_id(n),
        event_type: event_type("task.created"),
        owner: self::user(user),
        time: at(n),
        data: data(&format!(r#"{{"n":{n}}}"#)),
        traceparent: None,
    }
}

/// A `traceparent`.
pub fn traceparent() -> Option<Traceparent> {
    let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    Some(text.parse().expect("it is the example of the recommendation"))
}

/// The body of the SQS message that publishes [`event`].
pub fn event_body(user: &str, n: u64) -> String {
    let Event { id, event_type, data, time, .. } = event(user, n);
    let (user, data) = (json_string(user), data.as_str());
    format!(
        r#"{{"event_type":"{event_type}","user_id":{user},"data":{data},"event_id":"{id}","occurred_at":"{time}"}}"#
    )
}

/// What a task asks for: the `n`th event to this subscription.
pub fn new_delivery(subscription: &Subscription, n: u64) -> NewDelivery {
    NewDelivery::of_event(&event(subscription.user_id.as_str(), n), &subscription.id)
}

/// The record of the `n`th event to a subscription of `u`: `retrying`, without attempts, not in
/// the due index, kept for 30 days.
pub fn delivery(subscription_id: &SubscriptionId, n: u64) -> Delivery {
    Delivery {
        id: delivery_id(subscription_id, n),
        subscription_id: subscription_id.clone(),
        user_id: user("u"),
        event_id: event_id(n),
        event_type: event_type("task.created"),
        event_time: at(n),
        data: data(&format!(r#"{{"n":{n}}}"#)),
        traceparent: None,
        is_payload_erased: false,
        has_payload_row: false,
        trigger: Trigger::Event,
        redelivery_of: None,
        status: Status::Retrying,
        attempts: Vec::new(),
        end_reason: None,
        updated_at: at(n),
        next_retry_at: None,
        has_slot: false,
        due_at: None,
        expires_at: at(n + 30 * 24 * 60 * 60),
    }
}

/// The id of the `n`th event's delivery to a subscription.
pub fn delivery_id(subscription_id: &SubscriptionId, n: u64) -> DeliveryId {
    DeliveryId::of(&event_id(n), subscription_id, at(n))
}

/// An attempt that began `n` seconds after [`start`] and met a 500.
pub fn attempt(n: u64) -> Attempt {
    Attempt {
        started_at: at(n),
        duration_ms: n,
        response_status: Some(500),
        no_response: None,
        request_headers: Some(KeptHeaders::new([
            ("webhook-id", "dlv_1"),
            ("webhook-signature", "v1"),
        ])),
        response_headers: Some(KeptHeaders::new([("content-type", "text/plain")])),
        response_excerpt: "oops".to_owned(),
    }
}

/// The id of the `n`th event.
pub fn event_id(n: u64) -> EventId {
    format!("event-{n}").parse().expect("an event id")
}

fn json_string(text: &str) -> String {
    let mut out = String::new();
    webhooks_core::json::write_ascii_string(text, &mut out);
    out
}

/// Bits that differ for each user and number.
fn mix(user: &str, n: u64) -> u64 {
    let seed = user.bytes().fold(n, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3).rotate_left(5)
    });
    SeededRandom::new(seed).bits()
}

/// An addition to the counters.
pub fn addition(counts: Counts, last_attempt_at: Timestamp) -> Addition {
    Addition { counts, last_attempt_at, expires_at: at(10_000_000), recount_at: None }
}
