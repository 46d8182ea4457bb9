//! The JSON that is shown. What is not listed here is not shown: a webhook's secrets have no field,
//! except in the one response to the request that made a secret.

use std::collections::BTreeMap;

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use webhooks_core::breaker::{self, BreakerState};
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::{Attempt, Delivery, Status, Trigger};
use webhooks_core::event_type_selector::EventTypeSelector;
use webhooks_core::failure_class::FailureClass;
use webhooks_core::filter::Filter;
use webhooks_core::ids::{DeliveryId, EventId, RecoveryId, SubscriptionId};
use webhooks_core::kept_headers::KeptHeaders;
use webhooks_core::latency::Percentiles;
use webhooks_core::maybe_known::MaybeKnown;
use webhooks_core::rate_limit::RateLimit;
use webhooks_core::recovery::{Outcomes, Recovery, RecoveryStatus};
use webhooks_core::request_headers::HeaderName;
use webhooks_core::schedule::RetrySchedule;
use webhooks_core::secret::{Secret, SubscriptionSecrets};
use webhooks_core::signing_key::SigningKey;
use webhooks_core::statistics;
use webhooks_core::subscription::{
    DisabledReason, KeepPayload, SignatureScheme, Subscription, WhileInactive,
};
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
    event_types: &'a [MaybeKnown<EventTypeSelector>],
    filter: Option<&'a Filter>,
    description: Option<&'a str>,
    is_active: bool,
    disabled_reason: Option<&'a MaybeKnown<DisabledReason>>,
    /// Null when the schedule is not exponential.
    retry_count: Option<u32>,
    retry_schedule: &'a RetrySchedule,
    timeout_seconds: u32,
    /// Only the names: the values are sealed.
    #[expect(clippy::zero_sized_map_values, reason = "each name has the value null in JSON")]
    headers: BTreeMap<&'a HeaderName, ()>,
    rate_limit: Option<u32>,
    while_inactive: WhileInactive,
    auto_recover: bool,
    signature: SignatureScheme,
    /// Null when a secret signs.
    public_key: Option<&'a str>,
    keep_payload: KeepPayload,
    created_at: Timestamp,
    updated_at: Timestamp,
    health: Health,
    signing_secrets: Vec<SigningSecret<'a>>,
}

/// How the attempts at the endpoint went.
#[derive(Debug, Serialize)]
struct Health {
    breaker: &'static str,
    open_until: Option<Timestamp>,
    consecutive_failures: u32,
    failing_since: Option<Timestamp>,
    last_error: Option<String>,
}

impl Health {
    fn new(health: &breaker::Health, now: Timestamp) -> Self {
        Self {
            breaker: match health.state(now) {
                BreakerState::Closed => "closed",
                BreakerState::HalfOpen => "half_open",
                BreakerState::Open(_) => "open",
            },
            open_until: health.open_until.filter(|until| now < *until),
            consecutive_failures: health.consecutive_failures,
            failing_since: health.failing_since,
            last_error: health.last_error.map(|error| error.to_string()),
        }
    }
}

/// A secret or key pair that signs, without its value.
#[derive(Debug, Serialize)]
struct SigningSecret<'a> {
    /// The public half of a key pair; a secret has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<&'a str>,
    /// When it stops signing; null for the current one.
    expires_at: Option<Timestamp>,
}

fn signing_secrets(secrets: &SubscriptionSecrets, now: Timestamp) -> Vec<SigningSecret<'_>> {
    let previous = secrets.previous_signing_at(now);
    let previous = previous.map(|secret| (&secret.sealed, Some(secret.expires_at)));
    std::iter::once((&secrets.current, None))
        .chain(previous)
        .map(|(sealed, expires_at)| SigningSecret { public_key: sealed.public_key(), expires_at })
        .collect()
}

impl<'a> Webhook<'a> {
    /// A subscription as it is at `now`.
    pub fn new(subscription: &'a Subscription, now: Timestamp) -> Self {
        Self {
            id: &subscription.id,
            url: &subscription.url,
            event_types: &subscription.event_types,
            filter: subscription.filter.as_ref(),
            description: subscription.description.as_deref(),
            is_active: subscription.is_active,
            disabled_reason: subscription.disabled_reason.as_ref(),
            retry_count: subscription.retry_schedule.retry_count(),
            retry_schedule: &subscription.retry_schedule,
            timeout_seconds: subscription.timeout_seconds,
            headers: subscription.headers.keys().map(|name| (name, ())).collect(),
            rate_limit: subscription.rate_limit.map(RateLimit::per_second),
            while_inactive: subscription.while_inactive,
            auto_recover: subscription.auto_recover,
            signature: subscription.signature,
            public_key: subscription.secrets.current.public_key(),
            keep_payload: subscription.keep_payload,
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
            health: Health::new(&subscription.health, now),
            signing_secrets: signing_secrets(&subscription.secrets, now),
        }
    }
}

/// A subscription and its new secret, which is shown in this one response only. A private key is never
/// shown: `secret` is null then.
#[derive(Serialize)]
pub struct WebhookWithSecret<'a> {
    #[serde(flatten)]
    webhook: Webhook<'a>,
    secret: Option<&'a str>,
}

impl<'a> WebhookWithSecret<'a> {
    /// A subscription and the key that has just been made for it.
    pub fn new(subscription: &'a Subscription, key: &'a SigningKey, now: Timestamp) -> Self {
        let secret = key.secret().map(Secret::expose);
        Self { webhook: Webhook::new(subscription, now), secret }
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
    held_deliveries: u64,
    success_rate: Option<f64>,
    last_delivery_at: Option<Timestamp>,
}

impl<'a> WebhookWithStatistics<'a> {
    /// A subscription and the totals of its counters.
    pub fn new(
        subscription: &'a Subscription,
        statistics: &statistics::Totals,
        now: Timestamp,
    ) -> Self {
        let counts = statistics.counts;
        Self {
            webhook: Webhook::new(subscription, now),
            statistics: Statistics {
                total_deliveries: counts.total,
                successful_deliveries: counts.success,
                failed_deliveries: counts.failed,
                retrying_deliveries: counts.retrying(),
                held_deliveries: counts.held(),
                success_rate: counts.success_rate(),
                last_delivery_at: statistics.last_delivery_at,
            },
        }
    }
}

/// The counters of a webhook over time.
#[derive(Debug, Serialize)]
pub struct StatsSeries {
    /// The buckets with counters, oldest first.
    pub items: Vec<StatsBucket>,
}

/// The counters of one hour or day.
#[derive(Debug, Serialize)]
pub struct StatsBucket {
    start: Timestamp,
    total: u64,
    success: u64,
    failed: u64,
    attempts: u64,
    latency_ms: Latency,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: Option<u128>,
    p90: Option<u128>,
    p99: Option<u128>,
}

impl From<(Timestamp, statistics::Counts)> for StatsBucket {
    fn from((start, counts): (Timestamp, statistics::Counts)) -> Self {
        let percentiles = counts.latency.percentiles();
        let ms =
            |of: fn(&Percentiles) -> Duration| percentiles.as_ref().map(|all| of(all).as_millis());
        Self {
            start,
            total: counts.total,
            success: counts.success,
            failed: counts.failed,
            attempts: counts.attempts,
            latency_ms: Latency { p50: ms(|p| p.p50), p90: ms(|p| p.p90), p99: ms(|p| p.p99) },
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
    error: Option<String>,
    duration_ms: Option<u64>,
    created_at: Timestamp,
    updated_at: Timestamp,
    next_retry_at: Option<Timestamp>,
    waiting_for: Option<&'static str>,
    redelivery_of: Option<&'a DeliveryId>,
}

/// What a waiting delivery waits for; nothing when it has ended.
fn waiting_for(delivery: &Delivery, webhook: &Subscription) -> Option<&'static str> {
    let waits = delivery.status == Status::Retrying;
    // An open breaker makes every delivery of the webhook wait, also one whose retry is due earlier.
    let reason = match (webhook.health.open_until, delivery.has_slot) {
        (Some(_), _) => "breaker",
        (None, true) => "rate_limit",
        (None, false) => "retry",
    };
    waits.then_some(reason)
}

impl<'a> DeliverySummary<'a> {
    /// A delivery of a webhook.
    pub fn new(delivery: &'a Delivery, webhook: &Subscription) -> Self {
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
            waiting_for: waiting_for(delivery, webhook),
            redelivery_of: delivery.redelivery_of.as_ref(),
        }
    }
}

/// A recovery and how far it has come.
#[derive(Debug, Serialize)]
pub struct RecoveryView<'a> {
    id: &'a RecoveryId,
    webhook_id: &'a SubscriptionId,
    status: RecoveryStatus,
    since: Timestamp,
    until: Timestamp,
    delivery_status: Status,
    event_types: &'a [EventType],
    automatic: bool,
    matched: u64,
    sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    succeeded: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u64>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> RecoveryView<'a> {
    /// A recovery and what became of its redeliveries.
    pub fn new(recovery: &'a Recovery, outcomes: Outcomes) -> Self {
        let Outcomes { succeeded, failed } = outcomes;
        let succeeded = Some(succeeded);
        Self { succeeded, failed: Some(failed), ..Self::without_outcomes(recovery) }
    }

    /// A recovery, as lists show it: the outcomes are many rows.
    pub fn without_outcomes(recovery: &'a Recovery) -> Self {
        Self {
            id: &recovery.id,
            webhook_id: &recovery.subscription_id,
            status: recovery.status,
            since: recovery.selection.since,
            until: recovery.selection.until,
            delivery_status: recovery.selection.status,
            event_types: &recovery.selection.event_types,
            automatic: recovery.is_automatic,
            // What it has found it has sent: there is no page that is found and not sent.
            matched: recovery.sent,
            sent: recovery.sent,
            succeeded: None,
            failed: None,
            created_at: recovery.created_at(),
            updated_at: recovery.updated_at,
        }
    }
}

/// A delivery with its attempts and what was sent.
#[derive(Debug, Serialize)]
pub struct DeliveryDetail<'a> {
    #[serde(flatten)]
    summary: DeliverySummary<'a>,
    attempts: Vec<AttemptDetail<'a>>,
    /// Null when it is not kept.
    payload: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct AttemptDetail<'a> {
    number: usize,
    started_at: Timestamp,
    duration_ms: u64,
    response_status: Option<u16>,
    failure: Option<FailureClass>,
    error: Option<String>,
    advice: Option<&'static str>,
    /// Null when they are not kept.
    request_headers: Option<BTreeMap<&'a str, String>>,
    /// Null when they are not kept.
    response_headers: Option<BTreeMap<&'a str, String>>,
    response_excerpt: &'a str,
}

impl<'a> DeliveryDetail<'a> {
    /// All of a delivery. The payload is in the response byte for byte as it was signed and sent.
    pub fn new(delivery: &'a Delivery, webhook: &Subscription) -> Result<Self, serde_json::Error> {
        let attempts = delivery.attempts.iter().enumerate();
        Ok(Self {
            summary: DeliverySummary::new(delivery, webhook),
            attempts: attempts.map(|(index, attempt)| detail(index + 1, attempt)).collect(),
            payload: (!delivery.is_payload_erased)
                .then(|| RawValue::from_string(delivery.body()))
                .transpose()?,
        })
    }
}

fn detail(number: usize, attempt: &Attempt) -> AttemptDetail<'_> {
    AttemptDetail {
        number,
        started_at: attempt.started_at,
        duration_ms: attempt.duration_ms,
        response_status: attempt.response_status,
        failure: attempt.failure(),
        error: attempt.error(),
        advice: attempt.failure().map(FailureClass::advice),
        request_headers: attempt.request_headers.as_ref().map(KeptHeaders::by_name),
        response_headers: attempt.response_headers.as_ref().map(KeptHeaders::by_name),
        response_excerpt: &attempt.response_excerpt,
    }
}
