//! The JSON that is shown. What is not listed here never leaves: a webhook's secrets and its
//! endpoint's health have no field, but for the one moment a secret is new.

use serde::Serialize;
use serde_json::value::RawValue;
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::{Attempt, Delivery, Status, Trigger};
use webhooks_core::ids::{DeliveryId, EventId, SubscriptionId};
use webhooks_core::maybe_known::MaybeKnown;
use webhooks_core::secret::Secret;
use webhooks_core::statistics;
use webhooks_core::subscription::{DisabledReason, Subscription};
use webhooks_core::time::Timestamp;

/// One page of a list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// The rows, newest first.
    pub items: Vec<T>,
    /// Where the next page begins; null at the end.
    pub next_cursor: Option<String>,
}

/// A subscription.
#[derive(Debug, Serialize)]
pub struct Webhook<'a> {
    id: &'a SubscriptionId,
    url: &'a str,
    event_types: &'a [MaybeKnown<EventType>],
    description: Option<&'a str>,
    is_active: bool,
    disabled_reason: Option<&'a MaybeKnown<DisabledReason>>,
    retry_count: u32,
    timeout_seconds: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> From<&'a Subscription> for Webhook<'a> {
    fn from(subscription: &'a Subscription) -> Self {
        Self {
            id: &subscription.id,
            url: &subscription.url,
            event_types: &subscription.event_types,
            description: subscription.description.as_deref(),
            is_active: subscription.is_active,
            disabled_reason: subscription.disabled_reason.as_ref(),
            retry_count: subscription.retry_count,
            timeout_seconds: subscription.timeout_seconds,
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
        }
    }
}

/// A subscription and its new secret, which is shown in this one response only.
#[derive(Serialize)]
pub struct WebhookWithSecret<'a> {
    #[serde(flatten)]
    webhook: Webhook<'a>,
    secret: &'a str,
}

impl<'a> WebhookWithSecret<'a> {
    /// A subscription and the secret that has just been made for it.
    pub fn new(subscription: &'a Subscription, secret: &'a Secret) -> Self {
        Self { webhook: subscription.into(), secret: secret.expose() }
    }
}

/// A subscription and how its deliveries went.
#[derive(Debug, Serialize)]
pub struct WebhookWithStatistics<'a> {
    #[serde(flatten)]
    webhook: Webhook<'a>,
    statistics: Statistics,
}

#[derive(Debug, Serialize)]
struct Statistics {
    total_deliveries: u64,
    successful_deliveries: u64,
    failed_deliveries: u64,
    retrying_deliveries: u64,
    success_rate: Option<f64>,
    last_delivery_at: Option<Timestamp>,
}

impl<'a> WebhookWithStatistics<'a> {
    /// A subscription and the secret that has just been made for it.
    pub fn new(subscription: &'a Subscription, statistics: &statistics::Totals) -> Self {
        let counts = statistics.counts;
        Self {
            webhook: subscription.into(),
            statistics: Statistics {
                total_deliveries: counts.total,
                successful_deliveries: counts.success,
                failed_deliveries: counts.failed,
                retrying_deliveries: counts.retrying(),
                success_rate: counts.success_rate(),
                last_delivery_at: statistics.last_delivery_at,
            },
        }
    }
}

/// A delivery, as lists show it.
#[derive(Debug, Serialize)]
pub struct DeliverySummary<'a> {
    id: &'a DeliveryId,
    webhook_id: &'a SubscriptionId,
    event_id: &'a EventId,
    event_type: EventType,
    status: Status,
    trigger: Trigger,
    attempt_count: u32,
    response_status: Option<u16>,
    error: Option<&'a str>,
    duration_ms: Option<u64>,
    created_at: Timestamp,
    updated_at: Timestamp,
    next_retry_at: Option<Timestamp>,
}

impl<'a> From<&'a Delivery> for DeliverySummary<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        let last = delivery.attempts.last();
        Self {
            id: &delivery.id,
            webhook_id: &delivery.subscription_id,
            event_id: &delivery.event_id,
            event_type: delivery.event_type,
            status: delivery.status,
            trigger: delivery.trigger,
            attempt_count: delivery.attempt_count(),
            response_status: last.and_then(|attempt| attempt.response_status),
            error: delivery.error(),
            duration_ms: last.map(|attempt| attempt.duration_ms),
            created_at: delivery.created_at(),
            updated_at: delivery.updated_at,
            next_retry_at: delivery.next_retry_at,
        }
    }
}

/// A delivery with its attempts and what was sent.
#[derive(Debug, Serialize)]
pub struct DeliveryDetail<'a> {
    #[serde(flatten)]
    summary: DeliverySummary<'a>,
    attempts: Vec<AttemptDetail<'a>>,
    payload: Box<RawValue>,
}

#[derive(Debug, Serialize)]
struct AttemptDetail<'a> {
    number: usize,
    started_at: Timestamp,
    duration_ms: u64,
    response_status: Option<u16>,
    error: Option<&'a str>,
    response_excerpt: &'a str,
}

impl<'a> DeliveryDetail<'a> {
    /// All of a delivery. The payload stands in the answer byte for byte as it was signed and sent.
    pub fn new(delivery: &'a Delivery) -> Result<Self, serde_json::Error> {
        let attempts = delivery.attempts.iter().enumerate();
        Ok(Self {
            summary: delivery.into(),
            attempts: attempts.map(|(index, attempt)| detail(index + 1, attempt)).collect(),
            payload: RawValue::from_string(delivery.body())?,
        })
    }
}

fn detail(number: usize, attempt: &Attempt) -> AttemptDetail<'_> {
    AttemptDetail {
        number,
        started_at: attempt.started_at,
        duration_ms: attempt.duration_ms,
        response_status: attempt.response_status,
        error: attempt.error.as_deref(),
        response_excerpt: &attempt.response_excerpt,
    }
}
