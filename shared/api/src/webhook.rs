//! The bodies of requests that create and change webhooks.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};
use webhooks_core::delivery::cut;
use webhooks_core::event_type_selector::EventTypeSelector;
use webhooks_core::filter::Filter;
use webhooks_core::limits::{
    DESCRIPTION_CHARS, EVENT_TYPES_MAX, RATE_LIMIT_MAX, RETRY_COUNT_DEFAULT, RETRY_COUNT_MAX,
    TIMEOUT_SECONDS_DEFAULT, TIMEOUT_SECONDS_MAX,
};
use webhooks_core::rate_limit::RateLimit;
use webhooks_core::request_headers::{HeaderName, HeaderValue, check_total};
use webhooks_core::schedule::RetrySchedule;
use webhooks_core::secret::SecretSealer;
use webhooks_core::signing_key::SigningKey;
use webhooks_core::subscription::{
    KeepPayload, NewSubscription, Patch, SignatureChange, SignatureScheme, Subscription,
    WhileInactive,
};
use webhooks_core::target::{TargetPolicy, TargetUrl};
use webhooks_core::time::Timestamp;

use crate::fields::{Fields, boolean, string, whole_number};
use crate::problem::{FieldError, Problem};

/// The part of a header's name that an error repeats, in bytes.
const HEADER_ERROR_BYTES: usize = 128;
/// An error about a list of event types or headers, in bytes.
const EVENT_TYPES_ERROR_BYTES: usize = 512;

/// Reads the body of a request to create a webhook. It has the default schedule if the body names
/// neither a schedule nor a `retry_count`.
pub fn new_subscription(
    mut fields: Fields<Value>,
    policy: TargetPolicy,
    default_schedule: &RetrySchedule,
) -> Result<NewSubscription, Problem> {
    let url = fields.required("url", |value| url(value, policy));
    let event_types = fields.required("event_types", event_types);
    let filter = filter(&mut fields);
    let description = fields.nullable("description", description);
    let retry_count = fields.nullable("retry_count", retry_count);
    let retry_schedule = retry_schedule(&mut fields, retry_count);
    let timeout_seconds = fields.optional("timeout_seconds", timeout_seconds);
    let headers = fields.optional("headers", new_headers);
    let rate_limit = fields.nullable("rate_limit", rate_limit);
    let while_inactive = fields.optional("while_inactive", while_inactive);
    let auto_recover = fields.optional("auto_recover", boolean);
    let signature = fields.optional("signature", signature);
    let keep_payload = fields.optional("keep_payload", keep_payload);
    let retry_schedule = retry_schedule.unwrap_or_else(|| match retry_count {
        None => default_schedule.clone(),
        Some(retry_count) => {
            RetrySchedule::Exponential { retry_count: retry_count.unwrap_or(RETRY_COUNT_DEFAULT) }
        }
    });
    if let Err(message) = fits(retry_count, &retry_schedule) {
        fields.refuse("retry_count", message);
    }
    fields.finish()?;
    Ok(NewSubscription {
        url: url.expect("it is required"),
        event_types: event_types.expect("it is required"),
        filter: filter.flatten(),
        description: description.flatten(),
        retry_schedule,
        timeout_seconds: timeout_seconds.unwrap_or(TIMEOUT_SECONDS_DEFAULT),
        headers: headers.unwrap_or_default(),
        rate_limit: rate_limit.flatten(),
        while_inactive: while_inactive.unwrap_or_default(),
        auto_recover: auto_recover.unwrap_or_default(),
        signature: signature.unwrap_or_default(),
        keep_payload: keep_payload.unwrap_or_default(),
    })
}

/// The body of a request to change a webhook: a client may send back all of what it was shown.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchBody {
    /// The changes.
    pub patch: Patch,
    /// `retry_count` as it was given, also as null.
    #[expect(clippy::option_option, reason = "absent, null and given are three cases")]
    retry_count: Option<Option<u32>>,
    headers: Option<BTreeMap<HeaderName, Option<HeaderValue>>>,
    signature: Option<SignatureScheme>,
    read_only: Vec<(&'static str, Value)>,
}

impl PatchBody {
    /// Reads a body.
    pub fn read(mut fields: Fields<Value>, policy: TargetPolicy) -> Result<Self, Problem> {
        let url = fields.optional("url", |value| url(value, policy));
        let event_types = fields.optional("event_types", event_types);
        let filter = filter(&mut fields);
        let description = fields.nullable("description", description);
        let retry_count = fields.nullable("retry_count", retry_count);
        let headers = fields.optional("headers", headers);
        let signature = fields.optional("signature", signature);
        let patch = Patch {
            url,
            event_types,
            filter,
            description,
            retry_count: retry_count.flatten(),
            retry_schedule: retry_schedule(&mut fields, retry_count),
            timeout_seconds: fields.optional("timeout_seconds", timeout_seconds),
            rate_limit: fields.nullable("rate_limit", rate_limit),
            while_inactive: fields.optional("while_inactive", while_inactive),
            auto_recover: fields.optional("auto_recover", boolean),
            keep_payload: fields.optional("keep_payload", keep_payload),
            is_active: fields.optional("is_active", boolean),
            ..Patch::default()
        };
        let read_only = ["id", "disabled_reason", "public_key", "created_at", "updated_at"]
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
        Ok(Self { patch, retry_count, headers, signature, read_only })
    }

    /// Seals what the webhook is to have sealed. Responds with the key that a change of `signature`
    /// needs.
    pub fn seal(
        &mut self,
        sealer: &dyn SecretSealer,
        webhook: &Subscription,
        new_key: impl FnOnce(SignatureScheme) -> SigningKey,
    ) -> Option<SigningKey> {
        let Subscription { user_id, id, .. } = webhook;
        let seal = |(name, value): (&HeaderName, &Option<HeaderValue>)| {
            let value = value.as_ref().map(|value| sealer.seal_header((name, value), user_id, id));
            (name.clone(), value)
        };
        self.patch.headers =
            self.headers.as_ref().map(|headers| headers.iter().map(seal).collect());
        let scheme = self.signature?;
        let key = new_key(scheme);
        let sealed = sealer.seal(&key, user_id, id);
        self.patch.signature = Some(SignatureChange { scheme, key: sealed });
        Some(key)
    }

    /// Changes the webhook, unless `retry_count` does not fit the schedule that it would have, or
    /// `headers` does not fit the headers that it has.
    pub fn apply(&self, webhook: &mut Subscription, now: Timestamp) -> Result<(), Problem> {
        // A number alone selects the exponential schedule.
        let schedule = match (&self.patch.retry_schedule, self.patch.retry_count) {
            (Some(schedule), _) => schedule,
            (None, Some(retry_count)) => &RetrySchedule::Exponential { retry_count },
            (None, None) => &webhook.retry_schedule,
        };
        let fits = [
            ("retry_count", fits(self.retry_count, schedule)),
            ("headers", self.headers_fit(webhook)),
        ];
        let errors: Vec<FieldError> = fits
            .into_iter()
            .filter_map(|(name, fits)| Some(FieldError::new(name, fits.err()?)))
            .collect();
        if !errors.is_empty() {
            return Err(Problem::InvalidFields(errors));
        }
        webhook.apply(self.patch.clone(), now);
        Ok(())
    }

    /// Checks the limits of the headers, of which those that are null have the webhook's values.
    fn headers_fit(&self, webhook: &Subscription) -> Result<(), String> {
        let Some(headers) = &self.headers else { return Ok(()) };
        let stored = |name| webhook.headers.get(name).map(|header| header.bytes as usize);
        let lengths = headers.iter().map(|(name, value)| {
            let length = value.as_ref().map(|value| value.expose().len()).or_else(|| stored(name));
            let length = length.ok_or_else(|| {
                format!("{:?} is null, and the webhook has no value of it", name.as_str())
            });
            length.map(|length| (name.as_str().len(), length))
        });
        let lengths: Vec<(usize, usize)> = lengths.collect::<Result<_, String>>()?;
        check_total(lengths.into_iter()).map_err(|error| error.to_string())
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
        "public_key" => *value == json!(webhook.secrets.current.public_key()),
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

#[expect(clippy::option_option, reason = "absent, null and given are three cases")]
fn filter(fields: &mut Fields<Value>) -> Option<Option<Filter>> {
    let text = fields.text_of("filter").unwrap_or_default();
    fields.nullable("filter", |_| Filter::parse(&text).map_err(|error| error.to_string()))
}

/// Reads the schedule. Its retries, if it is exponential, are those of `retry_count`.
#[expect(clippy::option_option, reason = "absent, null and given are three cases")]
fn retry_schedule(
    fields: &mut Fields<Value>,
    retry_count: Option<Option<u32>>,
) -> Option<RetrySchedule> {
    let retry_count = retry_count.flatten().unwrap_or(RETRY_COUNT_DEFAULT);
    fields.optional("retry_schedule", |value| {
        RetrySchedule::parse(value, retry_count).map_err(|error| error.to_string())
    })
}

/// Checks that `retry_count`, if it is given, is a number with an exponential schedule and null with
/// any other: as the webhook is shown.
#[expect(clippy::option_option, reason = "absent, null and given are three cases")]
fn fits(retry_count: Option<Option<u32>>, schedule: &RetrySchedule) -> Result<(), String> {
    match (retry_count, schedule.retry_count()) {
        (Some(Some(_)), None) => {
            Err("goes with the `retry_schedule` \"exponential\" only".to_owned())
        }
        (Some(None), Some(_)) => Err(format!("must be a whole number from 0 to {RETRY_COUNT_MAX}")),
        _ => Ok(()),
    }
}

fn event_types(value: &Value) -> Result<Vec<EventTypeSelector>, String> {
    let Some(items) = value.as_array() else {
        return Err("must be a list of event types".to_owned());
    };
    if !(1..=EVENT_TYPES_MAX).contains(&items.len()) {
        return Err(format!("must name 1 to {EVENT_TYPES_MAX} event types"));
    }
    let mut event_types: Vec<EventTypeSelector> = Vec::with_capacity(items.len());
    let mut bad = Vec::new();
    for item in items {
        match item.as_str().map(str::parse::<EventTypeSelector>) {
            None => bad.push(format!("{item} is not an event type of the catalogue")),
            Some(Err(error)) => bad.push(format!("{item} {error}")),
            Some(Ok(selector)) if selector.selected().next().is_none() => {
                bad.push(format!("{item} matches no event type of the catalogue"));
            }
            Some(Ok(selector)) if event_types.contains(&selector) => {
                bad.push(format!("{item} is repeated"));
            }
            Some(Ok(selector)) => event_types.push(selector),
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
    if text.chars().any(is_unprintable) {
        return Err(
            "must not have control characters, except tabs and line breaks, or characters \
                    that change the direction of text"
                .to_owned(),
        );
    }
    Ok(text)
}

/// A control character, or one that makes text look like other text (Unicode, UAX 9, section 2).
fn is_unprintable(c: char) -> bool {
    (c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn retry_count(value: &Value) -> Result<u32, String> {
    whole_number(value, 0..=RETRY_COUNT_MAX)
}

fn timeout_seconds(value: &Value) -> Result<u32, String> {
    whole_number(value, 1..=TIMEOUT_SECONDS_MAX)
}

/// Reads the headers of a new webhook, which all have a value.
fn new_headers(value: &Value) -> Result<BTreeMap<HeaderName, HeaderValue>, String> {
    let headers = headers(value)?.into_iter().map(|(name, value)| {
        let value = value.ok_or_else(|| format!("{:?} must have a value", name.as_str()))?;
        Ok((name, value))
    });
    let headers: BTreeMap<HeaderName, HeaderValue> = headers.collect::<Result<_, String>>()?;
    let lengths = headers.iter().map(|(name, value)| (name.as_str().len(), value.expose().len()));
    check_total(lengths).map_err(|error| error.to_string())?;
    Ok(headers)
}

/// Reads headers, of which those that are null keep their value.
fn headers(value: &Value) -> Result<BTreeMap<HeaderName, Option<HeaderValue>>, String> {
    let object = value.as_object().ok_or("must be an object of header names and values")?;
    let mut headers = BTreeMap::new();
    for (name, value) in object {
        let wrong = |what: &dyn fmt::Display| {
            cut(&format!("{:?} {what}", cut(name, HEADER_ERROR_BYTES)), EVENT_TYPES_ERROR_BYTES)
                .to_owned()
        };
        let parsed: HeaderName = name.parse().map_err(|error| wrong(&error))?;
        let value = match value {
            Value::Null => None,
            Value::String(text) => {
                Some(text.parse::<HeaderValue>().map_err(|error| wrong(&error))?)
            }
            _ => return Err(wrong(&"must be a string")),
        };
        if headers.insert(parsed, value).is_some() {
            return Err(wrong(&"is repeated: names of headers are not case-sensitive"));
        }
    }
    Ok(headers)
}

fn rate_limit(value: &Value) -> Result<RateLimit, String> {
    let per_second = whole_number(value, 1..=RATE_LIMIT_MAX)?;
    RateLimit::new(per_second).map_err(|error| error.to_string())
}

fn while_inactive(value: &Value) -> Result<WhileInactive, String> {
    one_of(value, WhileInactive::ALL, WhileInactive::as_str)
}

fn signature(value: &Value) -> Result<SignatureScheme, String> {
    one_of(value, SignatureScheme::ALL, SignatureScheme::as_str)
}

/// Reads one of these values by its name.
fn one_of<T: Copy>(value: &Value, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().copied().find(|one| value == name(*one));
    found.ok_or_else(|| {
        let names: Vec<String> = all.iter().map(|one| format!("{:?}", name(*one))).collect();
        format!("must be {}", names.join(" or "))
    })
}

fn keep_payload(value: &Value) -> Result<KeepPayload, String> {
    one_of(value, KeepPayload::ALL, KeepPayload::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use webhooks_core::catalogue::EventType;

    fn fields(body: &Value) -> Fields<Value> {
        let mut fields = Fields::empty("field");
        for (name, value) in body.as_object().unwrap() {
            fields.insert(name.clone(), value.clone());
        }
        fields
    }

    fn create(body: &Value) -> Result<NewSubscription, Vec<String>> {
        new_subscription(fields(body), TargetPolicy::Development, &RetrySchedule::default())
            .map_err(named)
    }

    fn named(problem: Problem) -> Vec<String> {
        let Problem::InvalidFields(errors) = problem else { panic!("{problem:?}") };
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let new = create(&json!({"url": "https://example.com/h", "event_types": ["task.created"]}))
            .unwrap();
        assert_eq!((new.retry_schedule.retry_count(), new.timeout_seconds), (Some(3), 10));
        assert_eq!((new.description, new.filter), (None, None));
    }

    #[test]
    fn default_schedule_is_that_of_the_operator_unless_the_owner_says() {
        let with = |more: Value| {
            let mut body = json!({"url": "https://example.com/", "event_types": ["*"]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let policy = TargetPolicy::Development;
            new_subscription(fields(&body), policy, &RetrySchedule::Standard)
                .unwrap()
                .retry_schedule
        };
        let exponential = |retry_count| RetrySchedule::Exponential { retry_count };
        assert_eq!(with(json!({})), RetrySchedule::Standard);
        assert_eq!(with(json!({"retry_count": 5})), exponential(5));
        assert_eq!(with(json!({"retry_schedule": "exponential"})), exponential(3));
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
        let bad = json!({"url": null, "is_active": 1, "retry_count": 11, "name": "x"});
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
            ("description", json!("a\tb\r\nc — é 😀")),
            ("event_types", json!(["*", "task.*", "calendar.event.*", "task.created"])),
            ("filter", json!(null)),
            ("filter", json!({"a": {"b": [{"prefix": "x"}]}})),
            ("retry_schedule", json!("exponential")),
            ("retry_schedule", json!("standard")),
            ("retry_schedule", json!([1, 86_400])),
            ("headers", json!({})),
            ("rate_limit", json!(null)),
            ("rate_limit", json!(1)),
            ("rate_limit", json!(1_000)),
            ("while_inactive", json!("drop")),
            ("while_inactive", json!("hold")),
            ("auto_recover", json!(false)),
            ("auto_recover", json!(true)),
            ("signature", json!("hmac")),
            ("signature", json!("ed25519")),
            ("headers", json!({"X-Key": "a", "authorization": "Bearer b"})),
            ("keep_payload", json!("retention")),
            ("keep_payload", json!("until_success")),
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
            ("description", json!("a\0b")),
            ("description", json!("a\u{1b}[31mb")),
            ("description", json!("a\u{202e}b")),
            ("description", json!("a\u{2066}b")),
            ("description", json!("a\u{85}b")),
            ("event_types", json!("task.created")),
            ("event_types", json!(["task.created", "task.created"])),
            ("event_types", json!([7])),
            ("event_types", json!(["task.eaten"])),
            ("event_types", json!(["eaten.*"])),
            ("event_types", json!(["task*"])),
            ("event_types", json!(["*", "*"])),
            ("filter", json!({"a": "x"})),
            ("filter", json!([])),
            ("retry_schedule", json!("linear")),
            ("retry_schedule", json!([0])),
            ("retry_schedule", json!(null)),
            ("headers", json!(null)),
            ("headers", json!([])),
            ("headers", json!({"x-key": null})),
            ("headers", json!({"x-key": 7})),
            ("headers", json!({"x-key": "a", "X-KEY": "b"})),
            ("headers", json!({"host": "example.com"})),
            ("headers", json!({"x-key": "a\r\nb: c"})),
            ("headers", json!({"x-key": "v".repeat(4_092)})),
            ("rate_limit", json!(0)),
            ("rate_limit", json!(1_001)),
            ("rate_limit", json!(0.5)),
            ("while_inactive", json!(null)),
            ("while_inactive", json!("keep")),
            ("auto_recover", json!("false")),
            ("signature", json!("rsa")),
            ("keep_payload", json!("never")),
            ("is_active", json!(true)),
            ("url", json!(null)),
        ] {
            assert!(!with(field, bad.clone()), "{field} {bad}");
        }
    }

    #[test]
    fn header_errors_name_the_header_and_never_show_a_value() {
        for (bad, says) in [
            (json!({"Content-Type": "my-secret"}), "\"Content-Type\" is set by"),
            (json!({"x-key": "my-secret\n"}), "\"x-key\" has a value with"),
            (json!({"x-key": " my-secret"}), "\"x-key\" has a value that"),
        ] {
            let message = headers(&bad).unwrap_err();
            assert!(message.starts_with(says) && !message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn filter_keeps_the_spelling_of_numbers() {
        let mut with_text = fields(&json!({
            "url": "https://example.com/", "event_types": ["*"], "filter": {"a": [1e3]},
        }));
        with_text.set_texts([("filter".to_owned(), r#"{"a": [1e3]}"#.to_owned())].into());
        let new = new_subscription(with_text, TargetPolicy::Development, &RetrySchedule::default())
            .unwrap();
        assert_eq!(new.filter.unwrap().as_str(), r#"{"a":[1e3]}"#);
    }

    #[test]
    fn retry_count_is_null_exactly_when_the_schedule_is_not_exponential() {
        let with = |retry_count: Value, schedule: Value| {
            create(&json!({
                "url": "https://example.com/", "event_types": ["*"], "retry_count": retry_count,
                "retry_schedule": schedule,
            }))
            .map(|new| new.retry_schedule.retry_count())
        };
        assert_eq!(with(json!(7), json!("exponential")), Ok(Some(7)));
        assert_eq!(with(json!(null), json!("standard")), Ok(None));
        for (retry_count, schedule) in [
            (json!(7), json!("standard")),
            (json!(7), json!([1])),
            (json!(null), json!("exponential")),
        ] {
            assert_eq!(with(retry_count, schedule), Err(vec!["retry_count".to_owned()]));
        }
    }
}
