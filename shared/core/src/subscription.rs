//! Subscriptions, which the API calls webhooks: what a user may ask for, and what is kept.
//!
//! Bodies are parsed once, here, into types that cannot be wrong; every bad field is named at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::breaker::Health;
use crate::catalogue::EventType;
use crate::delivery::{UnknownName, named};
use crate::ids::{SubscriptionId, UserId};
use crate::limits::{
    DESCRIPTION_CHARS, EVENT_TYPES_MAX, RETRY_COUNT_DEFAULT, RETRY_COUNT_MAX, SECRETS_MAX,
    TIMEOUT_SECONDS_DEFAULT, TIMEOUT_SECONDS_MAX,
};
use crate::problem::FieldError;
use crate::retry::RetryPolicy;
use crate::secret::{Secret, SigningSecret};
use crate::target::{TargetPolicy, TargetUrl};
use crate::time::Timestamp;

use std::fmt;
use std::str::FromStr;

/// A user's wish for events.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The owner.
    pub user_id: UserId,
    /// Its name.
    pub id: SubscriptionId,
    /// Where deliveries go. It was checked when it was given, and is checked again at each
    /// attempt, by the rules of that moment.
    pub url: String,
    /// The events it wants, without repeats.
    pub event_types: Vec<EventType>,
    /// What the owner says of it.
    pub description: Option<String>,
    /// Whether deliveries are made.
    pub is_active: bool,
    /// Why the service, not its owner, made it inactive.
    pub disabled_reason: Option<DisabledReason>,
    /// Retries after the first attempt.
    pub retry_count: u32,
    /// How long one attempt may take.
    pub timeout_seconds: u32,
    /// What deliveries are signed with, newest first.
    pub secrets: Vec<SigningSecret>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Rises with each change, so that no change overwrites another unseen.
    pub version: u64,
    /// How its endpoint has been doing.
    pub health: Health,
}

named! {
    /// Why the service made a subscription inactive.
    DisabledReason {
        /// The endpoint answered 410.
        EndpointGone = "endpoint_gone",
        /// The endpoint failed for days on end.
        EndpointFailing = "endpoint_failing",
    }
}

impl Subscription {
    /// A new subscription.
    pub fn new(
        user_id: UserId,
        id: SubscriptionId,
        wish: NewSubscription,
        secret: Secret,
        now: Timestamp,
    ) -> Self {
        Self {
            user_id,
            id,
            url: wish.url,
            event_types: wish.event_types,
            description: wish.description,
            is_active: true,
            disabled_reason: None,
            retry_count: wish.retry_count,
            timeout_seconds: wish.timeout_seconds,
            secrets: vec![SigningSecret { secret, expires_at: None }],
            created_at: now,
            updated_at: now,
            version: 1,
            health: Health::default(),
        }
    }

    /// Whether an event of this type makes a delivery. One that the service disabled still gets
    /// them, as failed ones that its owner can repeat; one that its owner paused does not.
    pub fn wants(&self, event_type: EventType) -> bool {
        (self.is_active || self.disabled_reason.is_some()) && self.event_types.contains(&event_type)
    }

    /// How often its deliveries are tried again.
    pub fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy { retry_count: self.retry_count }
    }

    /// How long one attempt may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout_seconds))
    }

    /// Makes the changes a user asked for. Activating it again forgets why it was disabled and how
    /// its endpoint did until now.
    pub fn apply(&mut self, patch: Patch, now: Timestamp) {
        let Patch { url, event_types, description, retry_count, timeout_seconds, is_active } =
            patch;
        self.url = url.unwrap_or_else(|| std::mem::take(&mut self.url));
        self.event_types = event_types.unwrap_or_else(|| std::mem::take(&mut self.event_types));
        self.description = description.unwrap_or_else(|| self.description.take());
        self.retry_count = retry_count.unwrap_or(self.retry_count);
        self.timeout_seconds = timeout_seconds.unwrap_or(self.timeout_seconds);
        if let Some(active) = is_active {
            self.is_active = active;
            if active {
                self.disabled_reason = None;
                self.health = Health::default();
            }
        }
        self.touch(now);
    }

    /// Makes it inactive because of what its endpoint did.
    pub fn disable(&mut self, reason: DisabledReason, now: Timestamp) {
        self.is_active = false;
        self.disabled_reason = Some(reason);
        self.touch(now);
    }

    /// Signs with `secret` from now on, and with those before it until `overlap_end`.
    pub fn rotate(&mut self, secret: Secret, overlap_end: Timestamp, now: Timestamp) {
        self.secrets.retain(|old| old.signs_at(now));
        for old in &mut self.secrets {
            old.expires_at = Some(old.expires_at.map_or(overlap_end, |end| end.min(overlap_end)));
        }
        self.secrets.insert(0, SigningSecret { secret, expires_at: None });
        self.secrets.truncate(SECRETS_MAX);
        self.touch(now);
    }

    fn touch(&mut self, now: Timestamp) {
        // A clock that runs behind does not turn time back.
        self.updated_at = self.updated_at.max(now);
        self.version += 1;
    }
}

/// What a user asks for when creating a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubscription {
    /// Where deliveries go.
    pub url: String,
    /// The events it wants.
    pub event_types: Vec<EventType>,
    /// What the owner says of it.
    pub description: Option<String>,
    /// Retries after the first attempt.
    pub retry_count: u32,
    /// How long one attempt may take.
    pub timeout_seconds: u32,
}

/// What a user asks to change; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Where deliveries go.
    pub url: Option<String>,
    /// The events it wants.
    pub event_types: Option<Vec<EventType>>,
    /// What the owner says of it; an inner `None` removes it.
    pub description: Option<Option<String>>,
    /// Retries after the first attempt.
    pub retry_count: Option<u32>,
    /// How long one attempt may take.
    pub timeout_seconds: Option<u32>,
    /// Whether deliveries are made.
    pub is_active: Option<bool>,
}

impl NewSubscription {
    /// Reads the body of a request to create a webhook.
    pub fn parse(body: Map<String, Value>, policy: TargetPolicy) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::new(body);
        let url = fields.required("url", |value| url(value, policy));
        let event_types = fields.required("event_types", event_types);
        let description = fields.nullable("description", description);
        let retry_count = fields.optional("retry_count", retry_count);
        let timeout_seconds = fields.optional("timeout_seconds", timeout_seconds);
        fields.finish()?;
        // Where `finish` found nothing wrong, the required fields are there.
        let (Some(url), Some(event_types)) = (url, event_types) else {
            return Err(Vec::new());
        };
        Ok(Self {
            url,
            event_types,
            description: description.flatten(),
            retry_count: retry_count.unwrap_or(RETRY_COUNT_DEFAULT),
            timeout_seconds: timeout_seconds.unwrap_or(TIMEOUT_SECONDS_DEFAULT),
        })
    }
}

impl Patch {
    /// Reads the body of a request to change a webhook.
    pub fn parse(body: Map<String, Value>, policy: TargetPolicy) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::new(body);
        let patch = Self {
            url: fields.optional("url", |value| url(value, policy)),
            event_types: fields.optional("event_types", event_types),
            description: fields.nullable("description", description),
            retry_count: fields.optional("retry_count", retry_count),
            timeout_seconds: fields.optional("timeout_seconds", timeout_seconds),
            is_active: fields.optional("is_active", boolean),
        };
        fields.finish()?;
        Ok(patch)
    }
}

/// The fields of a body, taken out one by one; what is wrong with them is collected.
struct Fields {
    body: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    fn new(body: Map<String, Value>) -> Self {
        Self { body, errors: Vec::new() }
    }

    fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        if !self.body.contains_key(name) {
            self.errors.push(FieldError::new(name, "is required"));
        }
        self.optional(name, read)
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.body.remove(name)?;
        read(&value).map_err(|message| self.errors.push(FieldError::new(name, message))).ok()
    }

    /// A field that may be `null`, which is not the same as its absence.
    #[expect(clippy::option_option, reason = "absent, null and given are three answers")]
    fn nullable<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<Option<T>> {
        if self.body.get(name).is_some_and(Value::is_null) {
            self.body.remove(name);
            return Some(None);
        }
        self.optional(name, read).map(Some)
    }

    /// Whatever was not taken out is not known.
    fn finish(mut self) -> Result<(), Vec<FieldError>> {
        for name in self.body.keys() {
            self.errors.push(FieldError::new(name.as_str(), "is not a known field"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}

fn url(value: &Value, policy: TargetPolicy) -> Result<String, String> {
    let text = string(value)?;
    TargetUrl::parse(&text, policy).map_err(|error| error.to_string())?;
    Ok(text)
}

fn event_types(value: &Value) -> Result<Vec<EventType>, String> {
    let Some(items) = value.as_array() else {
        return Err("must be a list of event types".to_owned());
    };
    if !(1..=EVENT_TYPES_MAX).contains(&items.len()) {
        return Err(format!("must name 1 to {EVENT_TYPES_MAX} event types"));
    }
    let mut event_types = Vec::with_capacity(items.len());
    let mut bad = Vec::new();
    for item in items {
        match item.as_str().and_then(|name| name.parse::<EventType>().ok()) {
            None => bad.push(format!("{item} is not an event type of the catalogue")),
            Some(known) if event_types.contains(&known) => {
                bad.push(format!("{item} is repeated"));
            }
            Some(known) => event_types.push(known),
        }
    }
    if bad.is_empty() {
        return Ok(event_types);
    }
    let mut text = format!("must name event types of the catalogue, each once: {}", bad.join(", "));
    text.truncate(crate::delivery::cut(&text, 512).len());
    Err(text)
}

fn description(value: &Value) -> Result<String, String> {
    let text = string(value).map_err(|message| message + " or null")?;
    if text.chars().count() > DESCRIPTION_CHARS {
        return Err(format!("must be at most {DESCRIPTION_CHARS} characters"));
    }
    Ok(text)
}

fn retry_count(value: &Value) -> Result<u32, String> {
    number(value, 0, RETRY_COUNT_MAX)
}

fn timeout_seconds(value: &Value) -> Result<u32, String> {
    number(value, 1, TIMEOUT_SECONDS_MAX)
}

fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "must be true or false".to_owned())
}

fn string(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "must be a string".to_owned())
}

fn number(value: &Value, least: u32, most: u32) -> Result<u32, String> {
    value
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("must be a whole number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn create(body: Value) -> Result<NewSubscription, Vec<String>> {
        let Value::Object(body) = body else { panic!("not an object") };
        NewSubscription::parse(body, TargetPolicy::Development)
            .map_err(|errors| errors.into_iter().map(|error| error.field).collect())
    }

    fn patch(body: Value) -> Result<Patch, Vec<String>> {
        let Value::Object(body) = body else { panic!("not an object") };
        Patch::parse(body, TargetPolicy::Development)
            .map_err(|errors| errors.into_iter().map(|error| error.field).collect())
    }

    fn subscription() -> Subscription {
        let wish = create(json!({"url": "http://example.com/", "event_types": ["task.created"]}));
        Subscription::new(
            "u1".parse().unwrap(),
            SubscriptionId::new(Timestamp::EPOCH, [0; 10]),
            wish.unwrap(),
            Secret::from_random(&[0; 32]),
            Timestamp::EPOCH,
        )
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let wish = create(json!({"url": "https://example.com/h", "event_types": ["task.created"]}))
            .unwrap();
        assert_eq!((wish.retry_count, wish.timeout_seconds, wish.description), (3, 10, None));
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let bad = create(json!({
            "url": "ftp://example.com", "event_types": [], "description": 7, "retry_count": 11,
            "timeout_seconds": 0, "secret": "mine",
        }));
        assert_eq!(
            bad.unwrap_err(),
            ["url", "event_types", "description", "retry_count", "timeout_seconds", "secret"]
        );
        assert_eq!(create(json!({})).unwrap_err(), ["url", "event_types"]);
    }

    #[test]
    fn limits_are_exact() {
        let with = |field: &str, value: Value| {
            let mut body = json!({"url": "https://example.com/", "event_types": ["task.created"]});
            body[field] = value;
            create(body).is_ok()
        };
        let long = "é".repeat(DESCRIPTION_CHARS);
        for (field, good) in [
            ("retry_count", json!(0)),
            ("retry_count", json!(10)),
            ("timeout_seconds", json!(1)),
            ("timeout_seconds", json!(60)),
            ("description", json!(long)),
            ("description", json!(null)),
            ("event_types", json!(EventType::all().map(EventType::name).collect::<Vec<_>>())),
        ] {
            assert!(with(field, good.clone()), "{field} {good}");
        }
        for (field, bad) in [
            ("retry_count", json!(-1)),
            ("retry_count", json!(3.5)),
            ("retry_count", json!("3")),
            ("retry_count", json!(null)),
            ("timeout_seconds", json!(61)),
            ("timeout_seconds", json!(1e3)),
            ("description", json!(format!("{long}x"))),
            ("event_types", json!("task.created")),
            ("event_types", json!(["task.created", "task.created"])),
            ("event_types", json!([7])),
            ("event_types", json!(["task.eaten"])),
            ("is_active", json!(true)),
            ("url", json!(null)),
        ] {
            assert!(!with(field, bad.clone()), "{field} {bad}");
        }
    }

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let mut subscription = subscription();
        subscription.description = Some("mine".to_owned());
        let before = subscription.clone();
        subscription.apply(patch(json!({"retry_count": 5})).unwrap(), Timestamp::from_seconds(9));
        assert_eq!(subscription.retry_count, 5);
        assert_eq!(
            (&subscription.url, &subscription.description),
            (&before.url, &before.description)
        );
        assert_eq!((subscription.version, subscription.updated_at.seconds()), (2, 9));
        subscription.apply(patch(json!({"description": null})).unwrap(), Timestamp::EPOCH);
        assert_eq!((subscription.description, subscription.updated_at.seconds()), (None, 9));
        assert_eq!(
            patch(json!({"url": null, "is_active": 1, "id": "x"})).unwrap_err(),
            ["url", "is_active", "id"]
        );
    }

    #[test]
    fn activating_forgets_why_it_was_disabled() {
        let mut subscription = subscription();
        subscription.disable(DisabledReason::EndpointGone, Timestamp::EPOCH);
        assert!(!subscription.is_active);
        subscription.apply(patch(json!({"is_active": true})).unwrap(), Timestamp::EPOCH);
        assert!(subscription.is_active);
        assert_eq!(subscription.disabled_reason, None);
    }

    #[test]
    fn a_pause_makes_no_deliveries_but_a_disabled_endpoint_gets_them_as_failed() {
        let mut subscription = subscription();
        let event_type = "task.created".parse().unwrap();
        assert!(subscription.wants(event_type));
        assert!(!subscription.wants("task.deleted".parse().unwrap()));
        subscription.disable(DisabledReason::EndpointFailing, Timestamp::EPOCH);
        assert!(subscription.wants(event_type));
        subscription.apply(patch(json!({"is_active": true})).unwrap(), Timestamp::EPOCH);
        subscription.apply(patch(json!({"is_active": false})).unwrap(), Timestamp::EPOCH);
        assert!(!subscription.wants(event_type));
    }

    #[test]
    fn a_rotated_secret_signs_until_the_overlap_ends() {
        let mut subscription = subscription();
        let now = Timestamp::from_seconds(100);
        for n in 1..=9u8 {
            subscription.rotate(Secret::from_random(&[n; 32]), now.plus_seconds(60), now);
        }
        assert_eq!(subscription.secrets.len(), SECRETS_MAX);
        assert_eq!(subscription.secrets[0].expires_at, None);
        let later = now.plus_seconds(60);
        assert_eq!(subscription.secrets.iter().filter(|s| s.signs_at(later)).count(), 1);
    }
}
