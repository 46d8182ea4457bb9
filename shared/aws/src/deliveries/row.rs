//! A delivery as a row, small enough that most cost one write unit (1 KB).
//!
//! Most rows are written once, when the first attempt succeeds, so the names of the attributes are
//! short, nothing is stored that can be derived (the moment of the event is in the id), and the
//! payload and the attempts are deflated where that saves a write unit.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::{Attempt, Delivery, EndReason, NoResponse, Status, Trigger};
use webhooks_core::ids::{DeliveryId, EventId, SubscriptionId, UserId};
use webhooks_core::json::Data;
use webhooks_core::kept_headers::KeptHeaders;
use webhooks_core::limits::DUE_SHARDS;
use webhooks_core::outbound::Failure;
use webhooks_core::ports::StoreError;
use webhooks_core::time::Timestamp;
use webhooks_core::traceparent::Traceparent;

use super::status_index::status_key;
use super::{DELIVERY_ID, SUBSCRIPTION_ID};
use crate::dynamo::{
    Item, from_item, millis, optional_millis, seconds, shown_key, to_item, write_units,
};
use crate::packed::Packed;

/// The schema version of the rows that are written. Rows of version 1 have their attempts as
/// [`EarlierAttempt`].
const SCHEMA: u32 = 2;
const SCHEMAS: RangeInclusive<u32> = 1..=SCHEMA;

#[derive(Clone, Serialize, Deserialize)]
struct Row {
    subscription_id: SubscriptionId,
    delivery_id: DeliveryId,
    #[serde(rename = "v")]
    schema: u32,
    #[serde(rename = "u")]
    user_id: UserId,
    #[serde(rename = "e")]
    event_id: EventId,
    #[serde(rename = "t")]
    event_type: EventType,
    /// Absent when it is the moment of the delivery's id, as nearly always.
    #[serde(
        rename = "o",
        default,
        with = "optional_millis",
        skip_serializing_if = "Option::is_none"
    )]
    event_time: Option<Timestamp>,
    /// Absent when it is `event`, as nearly always.
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    trigger: Option<Trigger>,
    /// On redeliveries only.
    #[serde(rename = "ro", skip_serializing_if = "Option::is_none")]
    redelivery_of: Option<DeliveryId>,
    /// Where the publisher sent one.
    #[serde(rename = "tp", default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<Traceparent>,
    #[serde(rename = "s")]
    status: Status,
    #[serde(rename = "n")]
    attempt_count: u32,
    /// The event's data, compact JSON.
    #[serde(rename = "p")]
    payload: Packed,
    /// Whether the payload is not kept any more; it is `{}` then, which earlier versions read.
    #[serde(rename = "pe", default, skip_serializing_if = "std::ops::Not::not")]
    is_payload_erased: bool,
    /// Whether the payload is in a [`PayloadRow`]; it is `{}` here then.
    #[serde(rename = "pr", default, skip_serializing_if = "std::ops::Not::not")]
    has_separate_payload: bool,
    /// A JSON list of [`StoredAttempt`]; the rows of version 1 have [`EarlierAttempt`].
    #[serde(rename = "a")]
    attempts: Packed,
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    end_reason: Option<EndReason>,
    #[serde(rename = "m", with = "millis")]
    updated_at: Timestamp,
    #[serde(
        rename = "x",
        default,
        with = "optional_millis",
        skip_serializing_if = "Option::is_none"
    )]
    next_retry_at: Option<Timestamp>,
    /// Whether the moment of the next attempt is a reserved slot of the rate limit.
    #[serde(rename = "rs", default, skip_serializing_if = "std::ops::Not::not")]
    has_slot: bool,
    /// There together with `due_at`, while the delivery waits: the key of the due index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_shard: Option<u8>,
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
    /// There while the delivery is in the index `by-status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status_key: Option<String>,
    #[serde(with = "seconds")]
    expires_at: Timestamp,
}

/// An attempt.
#[derive(Serialize, Deserialize)]
struct StoredAttempt {
    #[serde(rename = "t", with = "millis")]
    started_at: Timestamp,
    #[serde(rename = "d")]
    duration_ms: u64,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    response_status: Option<u16>,
    /// Together with `detail`, when there was no response.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(rename = "m", default, skip_serializing_if = "String::is_empty")]
    detail: String,
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    request_headers: Option<KeptHeaders>,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    response_headers: Option<KeptHeaders>,
    #[serde(rename = "x", default, skip_serializing_if = "String::is_empty")]
    response_excerpt: String,
}

/// An attempt of schema version 1: start, duration in milliseconds, HTTP status, error, response
/// excerpt. The error of an attempt without a response begins with the name of its failure.
#[derive(Deserialize)]
struct EarlierAttempt(
    #[serde(with = "millis")] Timestamp,
    u64,
    Option<u16>,
    Option<String>,
    String,
);

#[derive(Deserialize)]
#[serde(untagged)]
enum ReadAttempt {
    Stored(StoredAttempt),
    Earlier(EarlierAttempt),
}

/// What every sort key of a payload begins with.
pub(super) const PAYLOAD_PREFIX: &str = "payload#";
/// The schema version of the payloads that are written.
const PAYLOAD_SCHEMA: u32 = 1;
/// The packed size from which a payload has a row of its own, in bytes. Every attempt writes the record again,
/// and every list reads it, so a large payload costs its weight each time; a row of its own costs one
/// write unit more, once.
const PAYLOAD_ROW_BYTES: usize = 4 * 1024;

/// The payload of a delivery: what the publisher said of the event, compact JSON.
#[derive(Serialize, Deserialize)]
struct PayloadRow {
    subscription_id: SubscriptionId,
    delivery_id: String,
    #[serde(rename = "v")]
    schema: u32,
    #[serde(rename = "p")]
    payload: Packed,
    #[serde(with = "seconds")]
    expires_at: Timestamp,
}

/// The sort key of a delivery's payload.
pub(super) fn payload_key(id: &DeliveryId) -> String {
    format!("{PAYLOAD_PREFIX}{id}")
}

/// The delivery of a sort key, when it is one of a payload.
pub(super) fn payload_of(sort_key: &str) -> Option<DeliveryId> {
    sort_key.strip_prefix(PAYLOAD_PREFIX)?.parse().ok()
}

/// Lies above the sort keys of all payloads.
pub(super) fn above_payloads() -> String {
    format!("{PAYLOAD_PREFIX}~")
}

/// The row of a delivery's payload, when it is large enough for one.
pub(super) fn encode_payload(of: &Delivery) -> Result<Option<Item>, StoreError> {
    if of.data.as_str().len() < PAYLOAD_ROW_BYTES {
        return Ok(None);
    }
    let payload = Packed::Plain(of.data.as_str().to_owned()).packed();
    if payload.len() < PAYLOAD_ROW_BYTES {
        return Ok(None);
    }
    payload_row(of, payload).map(Some)
}

/// The row that takes the place of a payload which is not kept.
pub(super) fn encode_erased_payload(of: &Delivery) -> Result<Item, StoreError> {
    payload_row(of, Packed::Plain("{}".to_owned()))
}

fn payload_row(of: &Delivery, payload: Packed) -> Result<Item, StoreError> {
    to_item(&PayloadRow {
        subscription_id: of.subscription_id.clone(),
        delivery_id: payload_key(&of.id),
        schema: PAYLOAD_SCHEMA,
        payload,
        expires_at: of.expires_at,
    })
}

/// The payload of a row.
pub(super) fn decode_payload(item: Item) -> Result<Data, StoreError> {
    let key = shown_key(&item, [SUBSCRIPTION_ID, DELIVERY_ID]);
    read_payload(item).map_err(|reason| StoreError::Undecodable { key, reason })
}

fn read_payload(item: Item) -> Result<Data, String> {
    let row: PayloadRow = from_item(item, PAYLOAD_SCHEMA..=PAYLOAD_SCHEMA)?;
    let payload = row.payload.into_text().ok_or("has a payload that does not inflate")?;
    Data::parse(&payload).map_err(|error| format!("has a payload that {error}"))
}

/// The shard of the due index that a delivery is in. The end of its id is a hash, so the
/// shards fill evenly.
pub(super) fn due_shard(id: &DeliveryId) -> u8 {
    shard_of(id.as_str())
}

/// The shard of the due index that the row of this id stands in.
pub(super) fn shard_of(id: &str) -> u8 {
    id.bytes().fold(0, u8::wrapping_add) % DUE_SHARDS
}

/// The row of a delivery: of the plain one, the one with its payload deflated, and the one with its
/// attempts deflated too, the first that costs the least.
pub(super) fn encode(of: &Delivery) -> Result<Item, StoreError> {
    let mut row = plain(of)?;
    let mut best = to_item(&row)?;
    for deflate in [deflate_payload, deflate_attempts] {
        if write_units(&best) == 1 {
            break;
        }
        deflate(&mut row);
        let item = to_item(&row)?;
        if write_units(&item) < write_units(&best) {
            best = item;
        }
    }
    Ok(best)
}

fn deflate_payload(row: &mut Row) {
    row.payload = row.payload.deflated();
}

fn deflate_attempts(row: &mut Row) {
    row.attempts = row.attempts.deflated();
}

fn plain(of: &Delivery) -> Result<Row, StoreError> {
    let attempts: Vec<StoredAttempt> = of.attempts.iter().map(stored).collect();
    let attempts =
        serde_json::to_string(&attempts).map_err(|error| StoreError::Rejected(error.into()))?;
    let payload = if of.has_payload_row { "{}" } else { of.data.as_str() };
    Ok(Row {
        subscription_id: of.subscription_id.clone(),
        delivery_id: of.id.clone(),
        schema: SCHEMA,
        user_id: of.user_id.clone(),
        event_id: of.event_id.clone(),
        event_type: of.event_type,
        event_time: Some(of.event_time).filter(|time| *time != of.id.moment()),
        trigger: Some(of.trigger).filter(|trigger| *trigger != Trigger::Event),
        redelivery_of: of.redelivery_of.clone(),
        traceparent: of.traceparent.clone(),
        status: of.status,
        attempt_count: of.attempt_count(),
        is_payload_erased: of.is_payload_erased,
        has_separate_payload: of.has_payload_row,
        payload: Packed::Plain(payload.to_owned()),
        attempts: Packed::Plain(attempts),
        end_reason: of.end_reason,
        updated_at: of.updated_at,
        next_retry_at: of.next_retry_at,
        has_slot: of.has_slot,
        due_shard: of.due_at.map(|_| due_shard(&of.id)),
        due_at: of.due_at,
        status_key: status_key(of.status, &of.subscription_id),
        expires_at: of.expires_at,
    })
}

/// The delivery of a row.
pub(super) fn decode(item: Item) -> Result<Delivery, StoreError> {
    let key = shown_key(&item, [SUBSCRIPTION_ID, DELIVERY_ID]);
    read(item).map_err(|reason| StoreError::Undecodable { key, reason })
}

/// When the lease on a row ends by itself.
pub(super) fn lease_until(item: &Item) -> Option<Timestamp> {
    let until = item.get("lease_until")?.as_n().ok()?;
    until.parse().ok().map(Timestamp::from_millis)
}

fn read(item: Item) -> Result<Delivery, String> {
    let row: Row = from_item(item, SCHEMAS)?;
    let payload = row.payload.into_text().ok_or("has a payload that does not inflate")?;
    let attempts = row.attempts.into_text().ok_or("has attempts that do not inflate")?;
    let attempts: Vec<ReadAttempt> =
        serde_json::from_str(&attempts).map_err(|_| "has attempts that cannot be read")?;
    Ok(Delivery {
        event_time: row.event_time.unwrap_or_else(|| row.delivery_id.moment()),
        id: row.delivery_id,
        subscription_id: row.subscription_id,
        user_id: row.user_id,
        event_id: row.event_id,
        event_type: row.event_type,
        data: Data::parse(&payload).map_err(|error| format!("has a payload that {error}"))?,
        is_payload_erased: row.is_payload_erased,
        has_payload_row: row.has_separate_payload,
        trigger: row.trigger.unwrap_or(Trigger::Event),
        redelivery_of: row.redelivery_of,
        traceparent: row.traceparent,
        status: row.status,
        attempts: attempts
            .into_iter()
            .map(attempt)
            .collect::<Option<_>>()
            .ok_or("has an attempt without a result")?,
        end_reason: row.end_reason,
        updated_at: row.updated_at,
        next_retry_at: row.next_retry_at,
        has_slot: row.has_slot,
        due_at: row.due_at,
        expires_at: row.expires_at,
    })
}

fn stored(attempt: &Attempt) -> StoredAttempt {
    let no_response = attempt.no_response.clone();
    let (failure, detail) = no_response.map(|none| (none.failure, none.detail)).unzip();
    StoredAttempt {
        started_at: attempt.started_at,
        duration_ms: attempt.duration_ms,
        response_status: attempt.response_status,
        failure,
        detail: detail.unwrap_or_default(),
        request_headers: attempt.request_headers.clone(),
        response_headers: attempt.response_headers.clone(),
        response_excerpt: attempt.response_excerpt.clone(),
    }
}

/// The attempt; nothing when it has neither a status nor a failure.
fn attempt(read: ReadAttempt) -> Option<Attempt> {
    let stored = match read {
        ReadAttempt::Stored(stored) => stored,
        ReadAttempt::Earlier(earlier) => from_earlier(earlier),
    };
    let no_response = match (stored.response_status, stored.failure) {
        (Some(_), _) => None,
        (None, failure) => Some(NoResponse { failure: failure?, detail: stored.detail }),
    };
    Some(Attempt {
        started_at: stored.started_at,
        duration_ms: stored.duration_ms,
        response_status: stored.response_status,
        no_response,
        request_headers: stored.request_headers,
        response_headers: stored.response_headers,
        response_excerpt: stored.response_excerpt,
    })
}

fn from_earlier(earlier: EarlierAttempt) -> StoredAttempt {
    let EarlierAttempt(started_at, duration_ms, response_status, error, response_excerpt) = earlier;
    let named = error.as_deref().and_then(|error| error.split_once(": "));
    let failure = named.and_then(|(name, _)| name.parse().ok());
    let detail = named.map(|(_, detail)| detail.to_owned()).filter(|_| failure.is_some());
    StoredAttempt {
        started_at,
        duration_ms,
        response_status,
        failure,
        detail: detail.unwrap_or_default(),
        request_headers: None,
        response_headers: None,
        response_excerpt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::{item_size, number, text};
    use aws_sdk_dynamodb::types::AttributeValue;
    use test_support::sample;
    use webhooks_core::failure_class::FailureClass;
    use webhooks_core::subscription::KeepPayload;

    fn waiting() -> Delivery {
        let mut delivery = sample::delivery(&sample::subscription_id("u", 1), 1);
        delivery.attempts = vec![sample::attempt(3), sample::attempt(4)];
        delivery.trigger = Trigger::Redelivery;
        delivery.event_time = sample::at(0);
        delivery.traceparent = sample::traceparent();
        delivery.wait(sample::at(9), sample::at(8), sample::at(7));
        delivery.has_slot = true;
        delivery
    }

    fn ended() -> Delivery {
        let mut delivery = waiting();
        delivery.end(Status::Failed, sample::at(9));
        delivery.end_reason = Some(EndReason::WebhookDeleted);
        delivery
    }

    /// Text that deflate cannot shrink by much.
    fn noise(bytes: usize) -> String {
        let mut state = 1u64;
        let next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'0' + u8::try_from(state >> 58).unwrap())
        };
        std::iter::repeat_with(next).filter(|c| *c != '\\').take(bytes).collect()
    }

    #[test]
    fn delivery_survives_its_row() {
        let mut erased = waiting();
        erased.succeed(KeepPayload::UntilSuccess, sample::at(9));
        assert_eq!(erased.data, Data::empty());
        for delivery in
            [sample::delivery(&waiting().subscription_id, 2), waiting(), ended(), erased]
        {
            assert_eq!(decode(encode(&delivery).unwrap()).unwrap(), delivery);
        }
    }

    #[test]
    fn large_delivery_round_trips_and_is_compressed_when_smaller() {
        let mut delivery = waiting();
        delivery.data = sample::data(&format!(r#"{{"k":"{}"}}"#, "größe ".repeat(20_000)));
        delivery.attempts[0].response_excerpt = "<html>".repeat(600);
        let item = encode(&delivery).unwrap();
        assert!(matches!(item["p"], AttributeValue::B(_)));
        assert!(matches!(item["a"], AttributeValue::B(_)));
        assert_eq!(write_units(&item), 1, "{} bytes", item_size(&item));
        assert_eq!(decode(item).unwrap(), delivery);

        delivery.data = sample::data(&format!(r#"{{"k":"{}"}}"#, noise(1500)));
        delivery.attempts.truncate(1);
        delivery.attempts[0].response_excerpt.clear();
        let item = encode(&delivery).unwrap();
        assert!(matches!(item["p"], AttributeValue::S(_)), "deflating it saves nothing");
        assert_eq!(decode(item).unwrap(), delivery);
    }

    #[test]
    fn attempt_costs_what_it_weighs_when_the_payload_is_large() {
        let mut delivery = sample::delivery(&sample::subscription_id("u", 1), 1);
        delivery.data = sample::data(&format!(r#"{{"k":"{}"}}"#, noise(213 * 1024)));
        let payload = encode_payload(&delivery).unwrap().unwrap();
        assert_eq!(decode_payload(payload.clone()).unwrap(), delivery.data);
        delivery.has_payload_row = true;
        let mut units = write_units(&payload);
        assert!(units <= 170, "{units}");
        for n in 0..11 {
            delivery.attempts.push(sample::attempt(n));
            let item = encode(&delivery).unwrap();
            units += write_units(&item);
            assert_eq!(decode(item).unwrap().data, Data::empty());
        }
        // It was 2,343 when every attempt wrote the payload again.
        assert!(units <= 200, "{units}");
    }

    #[test]
    fn small_payload_has_no_row_of_its_own() {
        let mut delivery = sample::delivery(&sample::subscription_id("u", 1), 1);
        for (text, has_row) in
            [(noise(3 * 1024), false), ("a".repeat(200 * 1024), false), (noise(8 * 1024), true)]
        {
            delivery.data = sample::data(&format!(r#"{{"k":"{text}"}}"#));
            assert_eq!(encode_payload(&delivery).unwrap().is_some(), has_row, "{}", text.len());
        }
    }

    #[test]
    fn rows_of_version_1_are_read() {
        let mut item = encode(&ended()).unwrap();
        item.insert("v".to_owned(), number(1));
        item.insert(
            "a".to_owned(),
            text(
                r#"[[1000,7,null,"timeout: No response arrived: none.",""],
                   [2000,8,500,"http: HTTP 500","oops"],[3000,9,200,null,"ok"]]"#,
            ),
        );
        let attempts = decode(item).unwrap().attempts;
        let errors: Vec<_> = attempts.iter().map(Attempt::error).collect();
        let timeout = "timeout: No response arrived: none.".to_owned();
        assert_eq!(errors, [Some(timeout), Some("http: HTTP 500".to_owned()), None]);
        assert_eq!(attempts[0].failure(), Some(FailureClass::Timeout));
        assert_eq!(attempts[1].response_excerpt, "oops");
        assert_eq!(attempts[2].started_at, Timestamp::from_millis(3000));
    }

    #[test]
    fn waiting_delivery_is_in_the_due_index_and_ended_one_is_not() {
        let item = encode(&waiting()).unwrap();
        assert_eq!(item["due_at"], number(sample::at(8).millis()));
        assert_eq!(item["due_shard"], number(due_shard(&waiting().id)));
        let item = encode(&ended()).unwrap();
        assert!(!item.contains_key("due_at") && !item.contains_key("due_shard"));
    }

    #[test]
    fn delivery_that_failed_or_waits_is_in_the_index_by_status_and_success_is_not() {
        assert_eq!(
            encode(&waiting()).unwrap()["status_key"],
            text(format!("retrying#{}", waiting().subscription_id))
        );
        assert_eq!(
            encode(&ended()).unwrap()["status_key"],
            text(format!("failed#{}", ended().subscription_id))
        );
        assert!(!encode(&typical()).unwrap().contains_key("status_key"));
    }

    #[test]
    fn row_that_cannot_be_read_is_an_error_with_its_key() {
        let delivery = waiting();
        let good = encode(&delivery).unwrap();
        let key = format!("{} / {}", delivery.subscription_id, delivery.id);
        for (name, value) in [
            ("v", number(3)),
            ("s", text("lost")),
            ("t", text("task.eaten")),
            ("p", text("[]")),
            ("p", AttributeValue::B(vec![0xFF; 9].into())),
            ("a", text(r#"{"secret":1}"#)),
            ("a", text(r#"[[1,2,null,"strange: secret",""]]"#)),
            ("a", text(r#"[{"t":1,"d":2}]"#)),
            ("due_at", text("soon")),
        ] {
            let mut item = good.clone();
            item.insert(name.to_owned(), value);
            let error = decode(item).unwrap_err().to_string();
            assert!(error.contains(&key) && !error.contains("secret"), "{error}");
        }
    }

    /// A success at the first attempt, with ids as long as UUIDs and a short response.
    fn typical() -> Delivery {
        let mut delivery = sample::delivery(&sample::subscription_id("u", 1), 1);
        delivery.user_id = sample::user("0b7f3a52-6f0e-4b53-9a57-3f0a8f6de1c2");
        delivery.event_id = "d9428888-122b-41e1-b85d-6a1c2b3d4e5f".parse().unwrap();
        delivery.event_type = sample::event_type("email.received");
        delivery.data = sample::data(include_str!("../../tests/data/payload-1kb.json"));
        delivery.attempts = vec![Attempt {
            duration_ms: 142,
            response_status: Some(200),
            request_headers: None,
            response_headers: None,
            response_excerpt: String::new(),
            ..sample::attempt(2)
        }];
        delivery.end(Status::Success, sample::at(2));
        delivery
    }

    #[test]
    fn success_with_a_typical_payload_of_1_kb_costs_one_write_unit() {
        let delivery = typical();
        let payload = delivery.data.as_str().len();
        assert!((1000..=1024).contains(&payload), "{payload} bytes");
        let item = encode(&delivery).unwrap();
        assert!(matches!(item["p"], AttributeValue::B(_)), "it does not fit as it is");
        assert_eq!(write_units(&item), 1, "{} bytes", item_size(&item));
        // Room for a response that says more, and for longer ids.
        assert!(item_size(&item) <= 900, "{} bytes", item_size(&item));
        assert_eq!(decode(item).unwrap(), delivery);
    }

    #[test]
    fn small_payload_stays_readable() {
        let mut delivery = typical();
        delivery.data = sample::data(r#"{"task_id":"task-7","title":"Write the report"}"#);
        let item = encode(&delivery).unwrap();
        assert!(matches!(item["p"], AttributeValue::S(_)));
        assert!(matches!(item["a"], AttributeValue::S(_)));
    }
}
