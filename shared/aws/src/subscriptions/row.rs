//! A subscription as a row. Its secrets are sealed.

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use webhooks_core::breaker::Health;
use webhooks_core::catalogue::EventType;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::StoreError;
use webhooks_core::secret::SigningSecret;
use webhooks_core::subscription::{DisabledReason, Subscription};
use webhooks_core::time::Timestamp;

use super::{SUBSCRIPTION_ID, USER_ID};
use crate::dynamo::{Item, from_item, millis, optional_millis, shown_key, to_item};
use crate::packed::Bytes;
use crate::seal::Sealer;

/// The schema version of the rows that are written.
const SCHEMA: u32 = 2;
/// The oldest schema version that is read. In it each part of the health is an attribute of its own.
const SCHEMA_OLDEST: u32 = 1;
/// The attribute with the health.
pub(super) const HEALTH: &str = "health";
/// What older schema versions have and this one does not.
const OBSOLETE: [&str; 3] = ["failures", "failing_since", "open_until"];
/// What a row need not have.
const OPTIONAL: [&str; 2] = ["description", "disabled_reason"];

#[derive(Serialize, Deserialize)]
struct Row {
    user_id: UserId,
    subscription_id: SubscriptionId,
    #[serde(rename = "v")]
    schema: u32,
    url: String,
    event_types: Vec<EventType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    is_active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<DisabledReason>,
    retry_count: u32,
    timeout_seconds: u32,
    secrets: Vec<SealedSecret>,
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
}

impl From<&Health> for HealthRow {
    fn from(health: &Health) -> Self {
        Self {
            failures: health.consecutive_failures,
            failing_since: health.failing_since,
            open_until: health.open_until,
        }
    }
}

impl From<HealthRow> for Health {
    fn from(row: HealthRow) -> Self {
        Self {
            consecutive_failures: row.failures,
            failing_since: row.failing_since,
            open_until: row.open_until,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct SealedSecret {
    sealed: Bytes,
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// The row of a subscription.
pub(super) fn encode(of: &Subscription, sealer: &Sealer) -> Result<Item, StoreError> {
    let seal = |secret: &SigningSecret| {
        let sealed = sealer.seal(&secret.secret, &of.user_id, &of.id)?;
        Some(SealedSecret { sealed: Bytes(sealed), expires_at: secret.expires_at })
    };
    let secrets = if sealer.has_keys() { of.secrets.iter().map(seal).collect() } else { None };
    to_item(&Row {
        user_id: of.user_id.clone(),
        subscription_id: of.id.clone(),
        schema: SCHEMA,
        url: of.url.clone(),
        event_types: of.event_types.clone(),
        description: of.description.clone(),
        is_active: of.is_active,
        disabled_reason: of.disabled_reason,
        retry_count: of.retry_count,
        timeout_seconds: of.timeout_seconds,
        secrets: secrets.ok_or_else(|| StoreError::Rejected("a secret cannot be sealed".into()))?,
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
    update.update_expression(format!("SET {} REMOVE {}", set.join(", "), remove.join(", ")))
}

/// The subscription of a row.
pub(super) fn decode(item: Item, sealer: &Sealer) -> Result<Subscription, StoreError> {
    let key = shown_key(&item, [USER_ID, SUBSCRIPTION_ID]);
    read(item, sealer).map_err(|reason| StoreError::Undecodable { key, reason })
}

fn read(item: Item, sealer: &Sealer) -> Result<Subscription, String> {
    let row: Row = from_item(item, SCHEMA_OLDEST..=SCHEMA)?;
    let open = |sealed: &SealedSecret| {
        let secret = sealer
            .open(&sealed.sealed.0, &row.user_id, &row.subscription_id)
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(SigningSecret { secret, expires_at: sealed.expires_at })
    };
    let secrets = if sealer.has_keys() {
        row.secrets.iter().map(open).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    Ok(Subscription {
        user_id: row.user_id,
        id: row.subscription_id,
        url: row.url,
        event_types: row.event_types,
        description: row.description,
        is_active: row.is_active,
        disabled_reason: row.disabled_reason,
        retry_count: row.retry_count,
        timeout_seconds: row.timeout_seconds,
        secrets,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: row.version,
        health: row.health.unwrap_or(row.old_health).into(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::SystemRandom;
    use crate::dynamo::{number, text};
    use test_support::sample;

    fn sealer(byte: u8) -> Sealer {
        Sealer::from_keys("k", [("k".to_owned(), [byte; 32])], Arc::new(SystemRandom)).unwrap()
    }

    fn full() -> Subscription {
        let mut subscription = sample::subscription("u1", 1);
        let old = subscription.secrets[0].clone();
        subscription.secrets.push(SigningSecret { expires_at: Some(sample::at(60)), ..old });
        subscription.description = Some("größe".to_owned());
        subscription.is_active = false;
        subscription.disabled_reason = Some(DisabledReason::EndpointGone);
        subscription.health = Health {
            consecutive_failures: 3,
            failing_since: Some(sample::at(1)),
            open_until: Some(sample::at(2)),
        };
        subscription
    }

    /// All of it, the secrets too: nothing else of a subscription is hidden from `Debug`.
    fn shown(subscription: &Subscription) -> String {
        let secrets: Vec<&str> =
            subscription.secrets.iter().map(|secret| secret.secret.expose()).collect();
        format!("{subscription:?} {secrets:?}")
    }

    #[test]
    fn a_subscription_survives_its_row() {
        for subscription in [sample::subscription("u1", 1), full()] {
            let item = encode(&subscription, &sealer(1)).unwrap();
            assert_eq!(shown(&decode(item, &sealer(1)).unwrap()), shown(&subscription));
        }
    }

    #[test]
    fn no_secret_stands_in_a_row_in_the_clear() {
        let subscription = full();
        let item = format!("{:?}", encode(&subscription, &sealer(1)).unwrap());
        assert!(!item.contains("whsec_"));
        let bytes = format!("{:?}", subscription.secrets[0].secret.expose().as_bytes());
        assert!(!item.contains(bytes.trim_matches(['[', ']'])));
    }

    #[test]
    fn a_row_that_cannot_be_read_is_an_error_with_its_key() {
        let subscription = full();
        let good = encode(&subscription, &sealer(1)).unwrap();
        let key = format!("u1 / {}", subscription.id);
        let error =
            |item: &Item, sealer: &Sealer| decode(item.clone(), sealer).unwrap_err().to_string();

        let wrong_key = error(&good, &sealer(2));
        assert!(wrong_key.contains(&key) && wrong_key.contains("another key"), "{wrong_key}");

        let mut moved = good.clone();
        moved.insert("user_id".to_owned(), text("u2"));
        assert!(error(&moved, &sealer(1)).contains("does not belong to this row"));

        let mut newer = good.clone();
        newer.insert("v".to_owned(), number(9));
        assert!(error(&newer, &sealer(1)).contains("schema version 9"));

        let mut broken = good;
        broken.insert("retry_count".to_owned(), text("many"));
        let error = error(&broken, &sealer(1));
        assert!(error.contains(&key) && !error.contains("many"), "{error}");
    }
}
