//! A subscription as a row. Its secrets are sealed.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use webhooks_core::breaker::Health;
use webhooks_core::event_type_selector::EventTypeSelector;
use webhooks_core::filter::Filter;
use webhooks_core::host_health::HostHealth;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::limits::RETRY_COUNT_DEFAULT;
use webhooks_core::maybe_known::MaybeKnown;
use webhooks_core::ports::{ListedSubscription, StoreError, SubscriptionKey};
use webhooks_core::rate_limit::RateLimit;
use webhooks_core::request_headers::{HeaderName, SealedHeader};
use webhooks_core::schedule::RetrySchedule;
use webhooks_core::secret::{PreviousSecret, SealedSecret, SubscriptionSecrets};
use webhooks_core::subscription::{
    DisabledReason, KeepPayload, SignatureScheme, Subscription, UnreadableSubscription,
    WhileInactive,
};
use webhooks_core::time::Timestamp;
use webhooks_core::verification::VerificationToken;

use super::{SUBSCRIPTION_ID, USER_ID};
use crate::dynamo::{Item, from_item, millis, optional_millis, shown_key, to_item};
use crate::packed::Bytes;

/// The schema version of the rows that are written.
const SCHEMA: u32 = 2;
/// The oldest schema version that is read. In it each part of the health is an attribute of its own.
const SCHEMA_OLDEST: u32 = 1;
/// What older schema versions have and this one does not.
const OBSOLETE: [&str; 3] = ["failures", "failing_since", "open_until"];
/// What a row need not have.
const OPTIONAL: [&str; 12] = [
    "verification",
    "description",
    "disabled_reason",
    "filter",
    "retry_schedule",
    "headers",
    "rate_limit",
    "while_inactive",
    "may_have_held",
    "auto_recover",
    "signature",
    "keep_payload",
];

#[derive(Serialize, Deserialize)]
struct Row {
    user_id: UserId,
    subscription_id: SubscriptionId,
    #[serde(rename = "v")]
    schema: u32,
    url: String,
    event_types: Vec<MaybeKnown<EventTypeSelector>>,
    /// The JSON of an event pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    is_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<MaybeKnown<DisabledReason>>,
    /// The token that its endpoint has to return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verification: Option<String>,
    /// That of an exponential schedule. With another schedule it is the default, which earlier
    /// versions of the service go by.
    retry_count: u32,
    /// The JSON of a schedule that is not exponential.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_schedule: Option<String>,
    timeout_seconds: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    while_inactive: WhileInactive,
    #[serde(default, skip_serializing_if = "is_default")]
    may_have_held: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    auto_recover: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    signature: SignatureScheme,
    #[serde(default, skip_serializing_if = "is_default")]
    keep_payload: KeepPayload,
    secrets: Vec<SecretRow>,
    #[serde(with = "millis")]
    created_at: Timestamp,
    #[serde(with = "millis")]
    updated_at: Timestamp,
    version: u64,
    /// One attribute, so that a condition compares it as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthRow>,
    /// The health of schema version 1.
    #[serde(flatten, skip_serializing)]
    old_health: HealthRow,
}

#[derive(Default, Serialize, Deserialize)]
struct HealthRow {
    #[serde(default)]
    failures: u32,
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    failing_since: Option<Timestamp>,
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    open_until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    proven: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    slow_periods: u32,
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    slow_until: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl From<&Health> for HealthRow {
    fn from(health: &Health) -> Self {
        Self {
            failures: health.consecutive_failures,
            failing_since: health.failing_since,
            open_until: health.open_until,
            last_error: health.last_error.map(|error| error.to_string()),
            proven: health.proven,
            slow_periods: health.slow_periods,
            slow_until: health.slow_until,
        }
    }
}

impl From<HealthRow> for Health {
    fn from(row: HealthRow) -> Self {
        Self {
            consecutive_failures: row.failures,
            failing_since: row.failing_since,
            open_until: row.open_until,
            // A later version may know other errors.
            last_error: row.last_error.and_then(|name| name.parse().ok()),
            proven: row.proven,
            slow_periods: row.slow_periods,
            slow_until: row.slow_until,
        }
    }
}

/// A request header that the owner sets.
#[derive(Serialize, Deserialize)]
struct HeaderRow {
    name: HeaderName,
    sealed: Bytes,
    /// The length of the value.
    bytes: u32,
}

impl HeaderRow {
    fn new((name, value): (&HeaderName, &SealedHeader)) -> Self {
        let sealed = Bytes(value.sealed.as_bytes().to_vec());
        Self { name: name.clone(), sealed, bytes: value.bytes }
    }
}

fn header(row: HeaderRow) -> (HeaderName, SealedHeader) {
    let HeaderRow { name, sealed, bytes } = row;
    (name, SealedHeader { sealed: SealedSecret::new(sealed.0), bytes })
}

/// Whether a value is the default, which a row does not hold.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Serialize, Deserialize)]
struct SecretRow {
    sealed: Bytes,
    /// The public half of a key pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

impl SecretRow {
    fn new(sealed: &SealedSecret, expires_at: Option<Timestamp>) -> Self {
        let public_key = sealed.public_key().map(str::to_owned);
        Self { sealed: Bytes(sealed.as_bytes().to_vec()), public_key, expires_at }
    }

    fn into_sealed(self) -> SealedSecret {
        SealedSecret::new(self.sealed.0).with_public_key(self.public_key)
    }
}

/// The secrets, newest first. Only the newest one does not expire.
fn secrets(rows: Vec<SecretRow>) -> Result<SubscriptionSecrets, String> {
    let mut rows = rows.into_iter();
    let current = rows.next().ok_or("has no secret")?;
    if current.expires_at.is_some() {
        return Err("has a newest secret that expires".to_owned());
    }
    let previous = rows.map(|row| {
        let expires_at = row.expires_at.ok_or("has an old secret that does not expire")?;
        Ok(PreviousSecret { sealed: row.into_sealed(), expires_at })
    });
    Ok(SubscriptionSecrets {
        current: current.into_sealed(),
        previous: previous.collect::<Result<_, String>>()?,
    })
}

/// The JSON of a schedule; nothing for an exponential one.
fn schedule_text(schedule: &RetrySchedule) -> Result<Option<String>, StoreError> {
    if schedule.retry_count().is_some() {
        return Ok(None);
    }
    serde_json::to_string(schedule).map(Some).map_err(|error| StoreError::Rejected(error.into()))
}

fn schedule(text: Option<String>, retry_count: u32) -> Result<RetrySchedule, String> {
    let Some(text) = text else { return Ok(RetrySchedule::Exponential { retry_count }) };
    let value = serde_json::from_str(&text).map_err(|_| "has a retry schedule that is not JSON")?;
    RetrySchedule::parse(&value, retry_count)
        .map_err(|error| format!("has a retry schedule that {error}"))
}

/// The row of a subscription.
pub(super) fn encode(of: &Subscription) -> Result<Item, StoreError> {
    let current = SecretRow::new(&of.secrets.current, None);
    let previous = of.secrets.previous.iter();
    let previous = previous.map(|old| SecretRow::new(&old.sealed, Some(old.expires_at)));
    to_item(&Row {
        user_id: of.user_id.clone(),
        subscription_id: of.id.clone(),
        schema: SCHEMA,
        url: of.url.clone(),
        event_types: of.event_types.clone(),
        filter: of.filter.as_ref().map(|filter| filter.as_str().to_owned()),
        description: of.description.clone(),
        is_active: of.is_active,
        disabled_reason: of.disabled_reason.clone(),
        verification: of.verification.as_ref().map(|token| token.expose().to_owned()),
        retry_count: of.retry_schedule.retry_count().unwrap_or(RETRY_COUNT_DEFAULT),
        retry_schedule: schedule_text(&of.retry_schedule)?,
        timeout_seconds: of.timeout_seconds,
        headers: of.headers.iter().map(HeaderRow::new).collect(),
        rate_limit: of.rate_limit.map(RateLimit::per_second),
        while_inactive: of.while_inactive,
        may_have_held: of.may_have_held,
        auto_recover: of.auto_recover,
        signature: of.signature,
        keep_payload: of.keep_payload,
        secrets: std::iter::once(current).chain(previous).collect(),
        created_at: of.created_at,
        updated_at: of.updated_at,
        version: of.version,
        health: Some((&of.health).into()),
        old_health: HealthRow::default(),
    })
}

/// The health as an attribute.
pub(super) fn encode_health(health: &Health) -> Result<AttributeValue, StoreError> {
    serde_dynamo::to_attribute_value(HealthRow::from(health))
        .map_err(|error| StoreError::Rejected(error.into()))
}

#[derive(Serialize, Deserialize)]
struct HostRow {
    version: u64,
    health: HealthRow,
    failing: BTreeSet<SubscriptionId>,
}

/// The attributes of a host's health.
pub(super) fn encode_host(host: &HostHealth) -> Result<Item, StoreError> {
    let health = HealthRow::from(&host.health);
    to_item(&HostRow { version: host.version, health, failing: host.failing.clone() })
}

/// Reads the row of a host.
pub(super) fn decode_host(item: Item) -> Result<HostHealth, StoreError> {
    let key = shown_key(&item, [USER_ID, SUBSCRIPTION_ID]);
    let HostRow { version, health, failing } = serde_dynamo::from_item(item)
        .map_err(|error| StoreError::Undecodable { key, reason: error.to_string() })?;
    Ok(HostHealth { version, health: health.into(), failing })
}

/// Turns a row into an update of everything in it but its key. An update leaves alone what this
/// version does not know; a put would delete it.
pub(super) fn update_of(row: Item, mut update: UpdateItemFluentBuilder) -> UpdateItemFluentBuilder {
    let mut set = Vec::new();
    let mut remove: Vec<&str> = OBSOLETE.into();
    remove.extend(OPTIONAL.iter().filter(|name| !row.contains_key(**name)));
    for (name, value) in row {
        if name != USER_ID && name != SUBSCRIPTION_ID {
            set.push(format!("#{name} = :{name}"));
            update = update
                .expression_attribute_names(format!("#{name}"), &name)
                .expression_attribute_values(format!(":{name}"), value);
        }
    }
    // `filter`, for one, is a reserved word of update expressions.
    for name in &remove {
        update = update.expression_attribute_names(format!("#{name}"), *name);
    }
    update.update_expression(format!("SET {} REMOVE #{}", set.join(", "), remove.join(", #")))
}

/// The subscription of a row.
pub(super) fn decode(item: Item) -> Result<Subscription, StoreError> {
    let key = shown_key(&item, [USER_ID, SUBSCRIPTION_ID]);
    read(item).map_err(|reason| StoreError::Undecodable { key, reason })
}

/// The subscription of a row of a list, or what can be read of it. The key belongs to a
/// subscription in any case.
pub(super) fn decode_listed(item: Item, key: SubscriptionKey) -> ListedSubscription {
    let event_types = match item.get("event_types") {
        Some(AttributeValue::L(names)) => names.iter().map(event_type).collect(),
        _ => None,
    };
    let is_paused = match item.get("is_active") {
        Some(AttributeValue::Bool(is_active)) => {
            let keeps_events = ["disabled_reason", "while_inactive"];
            Some(!is_active && !keeps_events.iter().any(|name| item.contains_key(*name)))
        }
        _ => None,
    };
    let SubscriptionKey { user_id, subscription_id: id, .. } = key;
    read(item).map_err(|reason| UnreadableSubscription {
        user_id,
        id,
        reason,
        event_types,
        is_paused,
    })
}

fn event_type(name: &AttributeValue) -> Option<MaybeKnown<EventTypeSelector>> {
    let AttributeValue::S(name) = name else { return None };
    Some(name.parse().map_or_else(|_| MaybeKnown::Unknown(name.clone()), MaybeKnown::Known))
}

fn read(item: Item) -> Result<Subscription, String> {
    let row: Row = from_item(item, SCHEMA_OLDEST..=SCHEMA)?;
    let secrets = secrets(row.secrets)?;
    let filter = row.filter.as_deref().map(Filter::parse).transpose();
    let rate_limit = row.rate_limit.map(RateLimit::new).transpose();
    Ok(Subscription {
        user_id: row.user_id,
        id: row.subscription_id,
        url: row.url,
        event_types: row.event_types,
        filter: filter.map_err(|error| format!("has a filter that {error}"))?,
        description: row.description,
        is_active: row.is_active,
        disabled_reason: row.disabled_reason,
        verification: row.verification.map(VerificationToken::new),
        retry_schedule: schedule(row.retry_schedule, row.retry_count)?,
        timeout_seconds: row.timeout_seconds,
        headers: row.headers.into_iter().map(header).collect(),
        rate_limit: rate_limit.map_err(|error| format!("has a rate limit that {error}"))?,
        while_inactive: row.while_inactive,
        may_have_held: row.may_have_held,
        auto_recover: row.auto_recover,
        signature: row.signature,
        keep_payload: row.keep_payload,
        secrets,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: row.version,
        health: row.health.unwrap_or(row.old_health).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamo::{number, text};
    use test_support::sample;
    use webhooks_core::breaker::LastError;
    use webhooks_core::outbound::Failure;

    fn full() -> Subscription {
        let mut subscription = sample::subscription("u1", 1);
        let old = subscription.secrets.current.clone();
        let old = old.with_public_key(Some("whpk_1".to_owned()));
        let old = PreviousSecret { sealed: old, expires_at: sample::at(60) };
        subscription.secrets.previous.push(old);
        subscription.description = Some("größe".to_owned());
        subscription.event_types.push(MaybeKnown::Known(EventTypeSelector::All));
        subscription.filter = Some(Filter::parse(r#"{"a":[{"prefix":"é"}]}"#).unwrap());
        subscription.retry_schedule = RetrySchedule::Standard;
        let sealed = SealedSecret::new(vec![3; 60]);
        let header = SealedHeader { sealed, bytes: 7 };
        subscription.headers = [("x-key".parse().unwrap(), header)].into_iter().collect();
        subscription.rate_limit = Some(RateLimit::new(5).unwrap());
        subscription.while_inactive = WhileInactive::Hold;
        subscription.auto_recover = true;
        subscription.signature = SignatureScheme::Ed25519;
        subscription.keep_payload = KeepPayload::UntilSuccess;
        subscription.is_active = false;
        subscription.disabled_reason = Some(DisabledReason::EndpointGone.into());
        subscription.verification = Some(VerificationToken::from_random(&[1; 24]));
        subscription.health = Health {
            consecutive_failures: 3,
            failing_since: Some(sample::at(1)),
            open_until: Some(sample::at(2)),
            last_error: Some(LastError::NoResponse(Failure::Timeout)),
            ..Health::default()
        };
        subscription
    }

    /// What a list makes of the row of [`full`] with these attributes changed.
    fn listed(changes: &[(&str, AttributeValue)]) -> ListedSubscription {
        let mut item = encode(&full()).unwrap();
        item.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let (user_id, subscription_id) = (full().user_id, full().id);
        decode_listed(item, SubscriptionKey { user_id, subscription_id, deleted: false })
    }

    fn names(names: &[&str]) -> AttributeValue {
        AttributeValue::L(names.iter().map(|name| text(*name)).collect())
    }

    #[test]
    fn subscription_survives_its_row() {
        for subscription in [sample::subscription("u1", 1), full()] {
            assert_eq!(decode(encode(&subscription).unwrap()).unwrap(), subscription);
        }
    }

    #[test]
    fn row_that_cannot_be_read_is_an_error_with_its_key() {
        let good = encode(&full()).unwrap();
        let secrets = good["secrets"].as_l().unwrap();
        let only = |secret: usize| AttributeValue::L(vec![secrets[secret].clone()]);
        for (name, value, reason) in [
            ("v", number(9), "schema version 9"),
            ("retry_count", text("many"), "unexpected form"),
            ("filter", text(r#"{"a":[{"newer":1}]}"#), "filter"),
            ("retry_schedule", text("\"linear\""), "retry schedule"),
            ("rate_limit", number(1_001), "rate limit"),
            ("signature", text("rsa"), "unexpected form"),
            ("secrets", AttributeValue::L(Vec::new()), "no secret"),
            ("secrets", only(1), "expires"),
            ("secrets", AttributeValue::L(vec![secrets[0].clone(); 2]), "does not expire"),
        ] {
            let mut item = good.clone();
            item.insert(name.to_owned(), value);
            let error = decode(item).unwrap_err().to_string();
            let key = format!("u1 / {}", full().id);
            assert!(error.contains(&key) && error.contains(reason), "{error}");
            assert!(!error.contains("many"), "{error}");
        }
    }

    #[test]
    fn names_of_another_version_are_kept() {
        let read = listed(&[
            ("event_types", names(&["task.archived", "task.created"])),
            ("disabled_reason", text("moved")),
            ("region", text("north")),
        ]);
        let read = read.unwrap();
        let unknown = MaybeKnown::Unknown("task.archived".to_owned());
        assert_eq!(read.event_types, [unknown, sample::event_type("task.created").into()]);
        assert_eq!(read.disabled_reason, Some(MaybeKnown::Unknown("moved".to_owned())));
        assert_eq!(decode(encode(&read).unwrap()).unwrap(), read);
    }

    #[test]
    fn unreadable_row_may_want_what_it_does_not_rule_out() {
        let [created, deleted] = ["task.created", "task.deleted"].map(sample::event_type);
        let may_want = |changes: &[(&str, AttributeValue)]| {
            let next_version = [changes, &[("v", number(3))]].concat();
            let unreadable = listed(&next_version).unwrap_err();
            [created, deleted].map(|event_type| unreadable.may_want(event_type))
        };
        let wants = ("event_types", names(&["task.created", "task.archived"]));
        assert_eq!(may_want(std::slice::from_ref(&wants)), [true, false]);
        assert_eq!(may_want(&[("event_types", text("task.*"))]), [true, true]);
        let active = ("is_active", AttributeValue::Bool(true));
        assert_eq!(may_want(&[active, wants]), [true, false]);
        for (while_inactive, may_want) in
            [(WhileInactive::Drop, false), (WhileInactive::Hold, true)]
        {
            let paused = Subscription { disabled_reason: None, while_inactive, ..full() };
            let mut paused = encode(&paused).unwrap();
            paused.insert("v".to_owned(), number(3));
            let (user_id, subscription_id) = (full().user_id, full().id);
            let key = SubscriptionKey { user_id, subscription_id, deleted: false };
            let unreadable = decode_listed(paused, key).unwrap_err();
            assert_eq!(unreadable.may_want(created), may_want);
        }
    }
}
