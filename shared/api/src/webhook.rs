//! The bodies of requests that create and change webhooks.

use serde_json::{Value, json};
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::cut;
use webhooks_core::limits::{
    DESCRIPTION_CHARS, EVENT_TYPES_MAX, RETRY_COUNT_DEFAULT, RETRY_COUNT_MAX,
    TIMEOUT_SECONDS_DEFAULT, TIMEOUT_SECONDS_MAX,
};
use webhooks_core::subscription::{NewSubscription, Patch, Subscription};
use webhooks_core::target::{TargetPolicy, TargetUrl};
use webhooks_core::time::Timestamp;

use crate::fields::{Fields, boolean, string, whole_number};
use crate::problem::{FieldError, Problem};

/// An error about a list of event types, in bytes.
const EVENT_TYPES_ERROR_BYTES: usize = 512;

/// Reads the body of a request to create a webhook.
pub fn new_subscription(
    mut fields: Fields<Value>,
    policy: TargetPolicy,
) -> Result<NewSubscription, Problem> {
    let url = fields.required("url", |value| url(value, policy));
    let event_types = fields.required("event_types", event_types);
    let description = fields.nullable("description", description);
    let retry_count = fields.optional("retry_count", retry_count);
    let timeout_seconds = fields.optional("timeout_seconds", timeout_seconds);
    fields.finish()?;
    Ok(NewSubscription {
        url: url.expect("it is required"),
        event_types: event_types.expect("it is required"),
        description: description.flatten(),
        retry_count: retry_count.unwrap_or(RETRY_COUNT_DEFAULT),
        timeout_seconds: timeout_seconds.unwrap_or(TIMEOUT_SECONDS_DEFAULT),
    })
}

/// The body of a request to change a webhook: a client may send back all of what it was shown.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchBody {
    /// The changes.
    pub patch: Patch,
    read_only: Vec<(&'static str, Value)>,
}

impl PatchBody {
    /// Reads a body.
    pub fn read(mut fields: Fields<Value>, policy: TargetPolicy) -> Result<Self, Problem> {
        let patch = Patch {
            url: fields.optional("url", |value| url(value, policy)),
            event_types: fields.optional("event_types", event_types),
            description: fields.nullable("description", description),
            retry_count: fields.optional("retry_count", retry_count),
            timeout_seconds: fields.optional("timeout_seconds", timeout_seconds),
            is_active: fields.optional("is_active", boolean),
        };
        let read_only = ["id", "disabled_reason", "created_at", "updated_at"]
            .into_iter()
            .filter_map(|name| Some((name, fields.optional(name, |value| Ok(value.clone()))?)))
            .collect();
        // These change with deliveries and with time, so they are not compared.
        for name in ["statistics", "health"] {
            fields.optional(name, |value| match value {
                Value::Object(_) => Ok(()),
                _ => Err("must be an object".to_owned()),
            });
        }
        fields.optional("signing_secrets", |value| match value {
            Value::Array(_) => Ok(()),
            _ => Err("must be a list".to_owned()),
        });
        fields.finish()?;
        Ok(Self { patch, read_only })
    }

    /// Refuses read-only fields that differ from what the webhook has.
    pub fn check_read_only(&self, webhook: &Subscription) -> Result<(), Problem> {
        let differs = self.read_only.iter().filter(|(name, value)| !has(webhook, name, value));
        let errors: Vec<FieldError> = differs
            .map(|(name, _)| FieldError::new(*name, "is read-only and differs from the webhook's"))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(Problem::InvalidFields(errors)) }
    }
}

fn has(webhook: &Subscription, name: &str, value: &Value) -> bool {
    let is = |time: Timestamp| value.as_str().and_then(Timestamp::parse) == Some(time);
    match name {
        "id" => value == webhook.id.as_str(),
        "disabled_reason" => *value == json!(webhook.disabled_reason),
        "created_at" => is(webhook.created_at),
        "updated_at" => is(webhook.updated_at),
        _ => false,
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
    let text = format!("must name event types of the catalogue, each once: {}", bad.join(", "));
    Err(cut(&text, EVENT_TYPES_ERROR_BYTES).to_owned())
}

fn description(value: &Value) -> Result<String, String> {
    let text = string(value).map_err(|message| message + " or null")?;
    if text.chars().count() > DESCRIPTION_CHARS {
        return Err(format!("must be at most {DESCRIPTION_CHARS} characters"));
    }
    Ok(text)
}

fn retry_count(value: &Value) -> Result<u32, String> {
    whole_number(value, 0..=RETRY_COUNT_MAX)
}

fn timeout_seconds(value: &Value) -> Result<u32, String> {
    whole_number(value, 1..=TIMEOUT_SECONDS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &Value) -> Fields<Value> {
        let mut fields = Fields::empty("field");
        for (name, value) in body.as_object().unwrap() {
            fields.insert(name.clone(), value.clone());
        }
        fields
    }

    fn create(body: &Value) -> Result<NewSubscription, Vec<String>> {
        new_subscription(fields(body), TargetPolicy::Development).map_err(named)
    }

    fn named(problem: Problem) -> Vec<String> {
        let Problem::InvalidFields(errors) = problem else { panic!("{problem:?}") };
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let new = create(&json!({"url": "https://example.com/h", "event_types": ["task.created"]}))
            .unwrap();
        assert_eq!((new.retry_count, new.timeout_seconds, new.description), (3, 10, None));
    }

    #[test]
    fn every_bad_field_is_named() {
        let bad = create(&json!({
            "url": "ftp://example.com", "event_types": [], "description": 7, "retry_count": 11,
            "timeout_seconds": 0, "secret": "mine",
        }));
        assert_eq!(
            bad.unwrap_err(),
            ["url", "event_types", "description", "retry_count", "timeout_seconds", "secret"]
        );
        assert_eq!(create(&json!({})).unwrap_err(), ["url", "event_types"]);
        let bad = json!({"url": null, "is_active": 1, "retry_count": null, "name": "x"});
        let bad = PatchBody::read(fields(&bad), TargetPolicy::Development).map_err(named);
        assert_eq!(bad.unwrap_err(), ["url", "retry_count", "is_active", "name"]);
    }

    #[test]
    fn limits_are_exact() {
        let with = |field: &str, value: Value| {
            let mut body = json!({"url": "https://example.com/", "event_types": ["task.created"]});
            body[field] = value;
            create(&body).is_ok()
        };
        let long = "é".repeat(DESCRIPTION_CHARS);
        for (field, good) in [
            ("retry_count", json!(0)),
            ("retry_count", json!(10)),
            ("retry_count", json!(3.0)),
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
}
