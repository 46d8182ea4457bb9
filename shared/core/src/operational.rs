//! Operational events: what the service tells about a user's webhooks.
//!
//! An *operational event* is *about* one webhook. It goes to those of the owner's other webhooks that
//! name its type, as deliveries like any other, and to the operator's event bus where there is one.
//! deliver, which finds out what there is to tell, sends the deliveries itself: nothing of this passes
//! the events queue, where nobody may publish an operational type.
//!
//! No event goes to the webhook that it is about, and what a delivery of an operational event does to
//! its own webhook is told to the operator only, unless it disables the webhook. So no two webhooks can
//! keep each other busy.
//!
//! Deliberately absent: a record of the events that were sent. deliver sends `webhook.disabled` and
//! `webhook.recovered` before the write of the state, and `delivery.exhausted` again when its message comes
//! back, so that a crash loses none of them. A crash after the write that opens the breaker loses
//! `webhook.failing`; the API shows the state itself.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::breaker::{DISABLE_AFTER_SECONDS, Health, LastError};
use crate::catalogue::EventType;
use crate::delivery::{Delivery, NewDelivery, Status};
use crate::event::Event;
use crate::failure_class::FailureClass;
use crate::ids::{EventId, SubscriptionId, UserId};
use crate::json::Data;
use crate::ports::{Outgoing, UserSubscriptions};
use crate::subscription::{DisabledReason, Subscription};
use crate::time::Timestamp;

/// How long before a webhook is disabled its owner is told, in seconds: a day.
pub const DISABLING_SOON_SECONDS: u64 = 24 * 3_600;

/// The delay of an event that is sent again. By then the deliveries of the first time, if there are any, have
/// their records.
const AGAIN_AFTER: Duration = Duration::from_mins(5);

/// Something to tell about a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationalEvent {
    /// The webhook that it is about.
    pub about: SubscriptionId,
    /// What is told.
    pub event: Event,
    /// Who gets it.
    pub audience: Audience,
}

/// Who gets an operational event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The owner's other webhooks, and the operator.
    All,
    /// The operator: a delivery of an operational event has brought it about.
    Operator,
    /// The owner's other webhooks: it is sent again, because a crash may have lost it.
    Owner,
}

/// The webhook in the `data` of an event.
#[derive(Serialize)]
struct About<'a> {
    webhook_id: &'a SubscriptionId,
    /// Without the rest of the URL, which may be a secret.
    host: String,
    description: Option<&'a str>,
}

impl<'a> About<'a> {
    fn of(subscription: &'a Subscription) -> Self {
        let host = Url::parse(&subscription.url).ok();
        let host = host.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned();
        let description = subscription.description.as_deref();
        Self { webhook_id: &subscription.id, host, description }
    }
}

/// What happened to a webhook.
#[derive(Serialize)]
struct Change<'a, T> {
    #[serde(flatten)]
    webhook: About<'a>,
    #[serde(flatten)]
    change: T,
}

#[derive(Serialize)]
struct BreakerOpened {
    failing_since: Timestamp,
    consecutive_failures: u32,
    last_error: String,
    next_attempt_at: Timestamp,
}

#[derive(Serialize)]
struct DisablingSoon {
    reason: DisabledReason,
    failing_since: Timestamp,
    last_error: String,
    advice: &'static str,
    disables_at: Timestamp,
}

#[derive(Serialize)]
struct Deactivation {
    reason: DisabledReason,
    failing_since: Option<Timestamp>,
    last_error: String,
    disabled_at: Timestamp,
}

#[derive(Serialize)]
struct BreakerClosed {
    failing_since: Timestamp,
    recovered_at: Timestamp,
}

#[derive(Serialize)]
struct Exhausted<'a> {
    webhook_id: &'a SubscriptionId,
    delivery_id: &'a str,
    event_id: &'a EventId,
    event_type: EventType,
    attempt_count: u32,
    last_error: String,
}

#[derive(Serialize)]
struct Detail<'a> {
    event_id: &'a EventId,
    event_type: EventType,
    timestamp: Timestamp,
    user_id: &'a UserId,
    data: &'a RawValue,
}

impl OperationalEvent {
    /// What a failed attempt tells that has changed the health of a webhook from `before` to `after`.
    ///
    /// `webhook.disabling_soon` is told by each attempt that fails on the last day, always as the same
    /// event, so that it is delivered once and no crash loses it.
    pub fn of_health(
        subscription: &Subscription,
        before: &Health,
        after: &Health,
        now: Timestamp,
    ) -> Vec<Self> {
        let mut events = Vec::new();
        if let (None, Some(next_attempt_at), Some(failing_since)) =
            (before.open_until, after.open_until, after.failing_since)
        {
            let change = BreakerOpened {
                failing_since,
                consecutive_failures: after.consecutive_failures,
                last_error: text(after.last_error),
                next_attempt_at,
            };
            events.push(Self::of_change("webhook.failing", subscription, now, change));
        }
        if let Some(failing_since) = after.failing_since {
            let disables_at = failing_since.plus_seconds(DISABLE_AFTER_SECONDS);
            let told_at =
                failing_since.plus_seconds(DISABLE_AFTER_SECONDS - DISABLING_SOON_SECONDS);
            if told_at <= now {
                let change = DisablingSoon {
                    reason: DisabledReason::EndpointFailing,
                    failing_since,
                    last_error: text(after.last_error),
                    advice: advice(after.last_error),
                    disables_at,
                };
                let name = "webhook.disabling_soon";
                events.push(Self::of_change(name, subscription, told_at, change));
            }
        }
        events
    }

    /// A success closes the breaker of a webhook whose health was this one; nothing when it is closed.
    pub fn recovered(
        subscription: &Subscription,
        (before, after): (&Health, &Health),
        now: Timestamp,
    ) -> Option<Self> {
        if before.open_until.is_none() || after.open_until.is_some() {
            return None;
        }
        let failing_since = before.failing_since.unwrap_or(now);
        let change = BreakerClosed { failing_since, recovered_at: now };
        Some(Self::of_change("webhook.recovered", subscription, now, change))
    }

    /// The service disables a webhook whose health is this one.
    pub fn disabled(
        subscription: &Subscription,
        reason: DisabledReason,
        health: &Health,
        now: Timestamp,
    ) -> Self {
        let last_error = match reason {
            DisabledReason::EndpointGone => Some(LastError::Status(410)),
            _ => health.last_error,
        };
        let change = Deactivation {
            reason,
            failing_since: health.failing_since,
            last_error: text(last_error),
            disabled_at: now,
        };
        Self::of_change("webhook.disabled", subscription, now, change)
    }

    /// A delivery has failed and is not tried again; nothing when it is of an operational event itself.
    /// What ended without an attempt, because its webhook was deleted or disabled, is not told one by one.
    pub fn exhausted(delivery: &Delivery) -> Option<Self> {
        let is_exhausted = delivery.status == Status::Failed && delivery.end_reason.is_none();
        if delivery.event_type.is_operational() || !is_exhausted {
            return None;
        }
        let last_error = delivery.attempts.last()?.last_error()?;
        let data = Exhausted {
            webhook_id: &delivery.subscription_id,
            delivery_id: delivery.id.as_str(),
            event_id: &delivery.event_id,
            event_type: delivery.event_type,
            attempt_count: delivery.attempt_count(),
            last_error: last_error.to_string(),
        };
        let id = event_id(&[delivery.subscription_id.as_str(), delivery.id.as_str()]);
        let (user_id, about) = (&delivery.user_id, &delivery.subscription_id);
        Some(Self::new("delivery.exhausted", id, (user_id, about), delivery.updated_at, &data))
    }

    fn of_change<T: Serialize>(
        name: &str,
        subscription: &Subscription,
        time: Timestamp,
        change: T,
    ) -> Self {
        let Subscription { user_id, id: about, .. } = subscription;
        let id = event_id(&[about.as_str(), name, &time.millis().to_string()]);
        let data = Change { webhook: About::of(subscription), change };
        Self::new(name, id, (user_id, about), time, &data)
    }

    fn new<T: Serialize>(
        name: &str,
        id: EventId,
        (user_id, about): (&UserId, &SubscriptionId),
        time: Timestamp,
        data: &T,
    ) -> Self {
        let data = serde_json::to_string(data).expect("strings and numbers are JSON");
        let event = Event {
            id,
            event_type: name.parse().expect("a file of this crate names it"),
            owner: user_id.clone(),
            time,
            data: Data::parse(&data).expect("it is a small object"),
            traceparent: None,
        };
        Self { about: about.clone(), event, audience: Audience::All }
    }

    /// What the operator's event bus gets: the body of a delivery, and the user.
    pub fn detail(&self) -> String {
        let Event { id, event_type, owner, time, data, .. } = &self.event;
        let (event_type, timestamp) = (*event_type, *time);
        let data = serde_json::from_str(data.as_str()).expect("it is an object");
        let detail = Detail { event_id: id, event_type, timestamp, user_id: owner, data };
        serde_json::to_string(&detail).expect("strings are JSON")
    }

    /// The deliveries to those of the owner's webhooks that want it, the one that it is about excepted.
    pub fn tasks(&self, webhooks: &UserSubscriptions) -> Vec<Outgoing> {
        if self.audience == Audience::Operator || webhooks.is_blocked {
            return Vec::new();
        }
        let wanting = webhooks.items.iter().filter_map(|listed| match listed {
            Ok(readable) => readable.wants(&self.event).then_some(&readable.id),
            Err(unreadable) => unreadable.may_want(self.event.event_type).then_some(&unreadable.id),
        });
        let others = wanting.filter(|id| **id != self.about);
        let delay = if self.audience == Audience::Owner { AGAIN_AFTER } else { Duration::ZERO };
        let task = |id| Outgoing::first_attempt(NewDelivery::of_event(&self.event, id));
        others.map(|id| Outgoing { delay, ..task(id) }).collect()
    }
}

/// The same for the same parts, so that an event that is told twice is one.
fn event_id(parts: &[&str]) -> EventId {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut text = hex::encode(hash.finalize());
    text.truncate(32);
    format!("op_{text}").parse().expect("it is short and has no control characters")
}

fn text(error: Option<LastError>) -> String {
    error.map_or_else(|| "unknown".to_owned(), |error| error.to_string())
}

fn advice(error: Option<LastError>) -> &'static str {
    let class = error.and_then(LastError::class);
    class.map_or("Look at the latest deliveries of the webhook.", FailureClass::advice)
}
