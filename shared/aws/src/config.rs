//! The configuration: environment variables, read once, at init, in one place.

use std::fmt;
use std::sync::Arc;

use webhooks_core::limits::{RETENTION_DAYS_DEFAULT, RETENTION_DAYS_MAX};
use webhooks_core::ports::Random;
use webhooks_core::schedule::RetrySchedule;
use webhooks_core::target::TargetPolicy;
use webhooks_core::verification::EndpointVerification;

use crate::seal::Sealer;

/// The name of the Subscriptions table.
pub const SUBSCRIPTIONS_TABLE: &str = "SUBSCRIPTIONS_TABLE";
/// The name of the Deliveries table.
pub const DELIVERIES_TABLE: &str = "DELIVERIES_TABLE";
/// The URL of the deliveries queue.
pub const DELIVERIES_QUEUE_URL: &str = "DELIVERIES_QUEUE_URL";
/// The URL of the slow deliveries queue.
pub const DELIVERIES_SLOW_QUEUE_URL: &str = "DELIVERIES_SLOW_QUEUE_URL";
/// The URL of the dead-letter queue of the events.
pub const EVENTS_DLQ_URL: &str = "EVENTS_DLQ_URL";
/// How long deliveries are kept, in days.
pub const RETENTION_DAYS: &str = "RETENTION_DAYS";
/// The keys that seal signing secrets, see [`Sealer::parse`]; or `secret:NAME`, the secret of AWS
/// Secrets Manager that holds them.
pub const SECRETS_KEYS: &str = "SECRETS_KEYS";
/// What the operator calls the content of that secret. Another version restarts the functions, which
/// read the secret when they start.
pub const SECRETS_KEYS_VERSION: &str = "SECRETS_KEYS_VERSION";
/// Where deliveries may go: `strict` or `development`.
pub const TARGET_POLICY: &str = "TARGET_POLICY";
/// The address of `docs/PROBLEMS.md`, to which the `type` of problems leads.
pub const PROBLEM_BASE_URL: &str = "PROBLEM_BASE_URL";

/// The `retry_schedule` of new webhooks whose owner does not say: `exponential` or `standard`.
pub const DEFAULT_RETRY_SCHEDULE: &str = "DEFAULT_RETRY_SCHEDULE";

/// Whether endpoints have to prove that they want a webhook: `off` or `required`.
pub const ENDPOINT_VERIFICATION: &str = "ENDPOINT_VERIFICATION";

/// Whether the `data` of events is checked against its schema: `off` or `on`.
pub const STRICT_EVENT_DATA: &str = "STRICT_EVENT_DATA";

/// The name of the event bus that gets operational events; none when it is empty.
pub const OPERATIONAL_EVENT_BUS: &str = "OPERATIONAL_EVENT_BUS";

/// Every variable of the service, required or not.
pub const NAMES: [&str; 14] = [
    SUBSCRIPTIONS_TABLE,
    DELIVERIES_TABLE,
    DELIVERIES_QUEUE_URL,
    DELIVERIES_SLOW_QUEUE_URL,
    EVENTS_DLQ_URL,
    RETENTION_DAYS,
    SECRETS_KEYS,
    TARGET_POLICY,
    DEFAULT_RETRY_SCHEDULE,
    ENDPOINT_VERIFICATION,
    STRICT_EVENT_DATA,
    OPERATIONAL_EVENT_BUS,
    SECRETS_KEYS_VERSION,
    PROBLEM_BASE_URL,
];

/// A variable that is missing or cannot be read. It does not show the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name} must be {must}")]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// What it must be.
    pub must: String,
}

const SECRETS_KEYS_FORM: &str = "`id:key,…` with base64 keys of 32 bytes, the current one first";

/// The keys that seal signing secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretsKeys {
    /// As they are in the variable.
    Inline(String),
    /// In the parameter of Parameter Store that has this name.
    Parameter(String),
}

/// What seals the signing secrets, from the text of the keys.
pub fn sealer(keys: &str, random: Arc<dyn Random>) -> Result<Sealer, ConfigError> {
    Sealer::parse(keys, random)
        .map_err(|reason| error(SECRETS_KEYS, format!("{SECRETS_KEYS_FORM}: {reason}")))
}

type Read = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Reads the variables. Each function asks only for those it needs.
pub struct Settings(Box<Read>);

impl Settings {
    /// Reads through `read`; an empty value counts as missing.
    pub fn new(read: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Box::new(read))
    }

    /// Reads the environment of this process.
    pub fn from_env() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
        Self::new(|name| std::env::var(name).ok())
    }

    /// The name of the Subscriptions table.
    pub fn subscriptions_table(&self) -> Result<String, ConfigError> {
        self.required(SUBSCRIPTIONS_TABLE, "the name of the Subscriptions table")
    }

    /// The name of the Deliveries table.
    pub fn deliveries_table(&self) -> Result<String, ConfigError> {
        self.required(DELIVERIES_TABLE, "the name of the Deliveries table")
    }

    /// The URL of the deliveries queue.
    pub fn deliveries_queue_url(&self) -> Result<String, ConfigError> {
        self.url(DELIVERIES_QUEUE_URL, "the URL of the deliveries queue")
    }

    /// The URL of the slow deliveries queue.
    pub fn deliveries_slow_queue_url(&self) -> Result<String, ConfigError> {
        self.url(DELIVERIES_SLOW_QUEUE_URL, "the URL of the slow deliveries queue")
    }

    /// The URL of the dead-letter queue of the events.
    pub fn events_dlq_url(&self) -> Result<String, ConfigError> {
        self.url(EVENTS_DLQ_URL, "the URL of the events' dead-letter queue")
    }

    /// How long deliveries are kept, in days.
    pub fn retention_days(&self) -> Result<u32, ConfigError> {
        let Some(text) = self.optional(RETENTION_DAYS) else {
            return Ok(RETENTION_DAYS_DEFAULT);
        };
        text.parse().ok().filter(|days| (1..=RETENTION_DAYS_MAX).contains(days)).ok_or_else(|| {
            error(RETENTION_DAYS, format!("a whole number from 1 to {RETENTION_DAYS_MAX}"))
        })
    }

    /// The schedule of new webhooks whose owner does not say.
    pub fn default_retry_schedule(&self) -> Result<RetrySchedule, ConfigError> {
        match self.optional(DEFAULT_RETRY_SCHEDULE).as_deref() {
            None | Some("exponential") => Ok(RetrySchedule::default()),
            Some("standard") => Ok(RetrySchedule::Standard),
            Some(_) => Err(error(DEFAULT_RETRY_SCHEDULE, "`exponential` or `standard`".to_owned())),
        }
    }

    /// The keys that seal the signing secrets, or where they are kept.
    pub fn secrets_keys(&self) -> Result<SecretsKeys, ConfigError> {
        let text = self.required(SECRETS_KEYS, SECRETS_KEYS_FORM)?;
        Ok(match text.strip_prefix("parameter:") {
            Some(name) => SecretsKeys::Parameter(name.to_owned()),
            None => SecretsKeys::Inline(text),
        })
    }

    /// The version of the keys, for the log.
    pub fn secrets_keys_version(&self) -> Option<String> {
        self.optional(SECRETS_KEYS_VERSION)
    }

    /// Where deliveries may go.
    pub fn target_policy(&self) -> Result<TargetPolicy, ConfigError> {
        match self.optional(TARGET_POLICY).as_deref() {
            None | Some("strict") => Ok(TargetPolicy::Strict),
            Some("development") => Ok(TargetPolicy::Development),
            Some(_) => Err(error(TARGET_POLICY, "`strict` or `development`")),
        }
    }

    /// The address of the documentation of problems; nothing when they have none.
    pub fn problem_base_url(&self) -> Result<Option<String>, ConfigError> {
        let must = "the address of docs/PROBLEMS.md, or empty";
        self.optional(PROBLEM_BASE_URL).map(|_| self.url(PROBLEM_BASE_URL, must)).transpose()
    }

    /// Whether endpoints have to prove that they want a webhook.
    pub fn endpoint_verification(&self) -> Result<EndpointVerification, ConfigError> {
        match self.optional(ENDPOINT_VERIFICATION).as_deref() {
            None | Some("off") => Ok(EndpointVerification::Off),
            Some("required") => Ok(EndpointVerification::Required),
            Some(_) => Err(error(ENDPOINT_VERIFICATION, "`off` or `required`")),
        }
    }

    /// Whether the `data` of events is checked against the schema of its type.
    pub fn strict_event_data(&self) -> Result<bool, ConfigError> {
        match self.optional(STRICT_EVENT_DATA).as_deref() {
            None | Some("off") => Ok(false),
            Some("on") => Ok(true),
            Some(_) => Err(error(STRICT_EVENT_DATA, "`off` or `on`")),
        }
    }

    /// The name of the event bus that gets operational events, if there is one.
    pub fn operational_event_bus(&self) -> Option<String> {
        self.optional(OPERATIONAL_EVENT_BUS)
    }

    /// A variable that need not be there.
    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|text| !text.is_empty())
    }

    fn required(&self, name: &'static str, must: &str) -> Result<String, ConfigError> {
        self.optional(name).ok_or_else(|| error(name, must))
    }

    fn url(&self, name: &'static str, must: &str) -> Result<String, ConfigError> {
        let text = self.required(name, must)?;
        let is_url = text.starts_with("https://") || text.starts_with("http://");
        is_url.then_some(text).ok_or_else(|| error(name, must))
    }
}

impl fmt::Debug for SecretsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretsKeys(…)")
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settings(…)")
    }
}

fn error(name: &'static str, must: impl Into<String>) -> ConfigError {
    ConfigError { name, must: must.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;

    fn with(name: &'static str, value: &'static str) -> Settings {
        Settings::new(move |asked| (asked == name).then(|| value.to_owned()))
    }

    fn nothing() -> Settings {
        Settings::new(|_| None)
    }

    #[test]
    fn optional_variables_have_defaults() {
        assert_eq!(nothing().retention_days(), Ok(30));
        assert_eq!(nothing().target_policy(), Ok(TargetPolicy::Strict));
        assert_eq!(with(RETENTION_DAYS, "3650").retention_days(), Ok(3650));
        let policy = with(TARGET_POLICY, "development").target_policy();
        assert_eq!(policy, Ok(TargetPolicy::Development));
        assert_eq!(nothing().default_retry_schedule(), Ok(RetrySchedule::default()));
        let standard = with(DEFAULT_RETRY_SCHEDULE, "standard").default_retry_schedule();
        assert_eq!(standard, Ok(RetrySchedule::Standard));
    }

    #[test]
    fn missing_variables_are_named_in_one_line() {
        let errors = [
            nothing().subscriptions_table().err(),
            nothing().deliveries_table().err(),
            nothing().deliveries_queue_url().err(),
            nothing().deliveries_slow_queue_url().err(),
            nothing().events_dlq_url().err(),
            with(RETENTION_DAYS, "0").retention_days().err(),
            nothing().secrets_keys().err(),
            with(TARGET_POLICY, "Strict").target_policy().err(),
            with(DEFAULT_RETRY_SCHEDULE, "linear").default_retry_schedule().err(),
            with(ENDPOINT_VERIFICATION, "on").endpoint_verification().err(),
            with(STRICT_EVENT_DATA, "true").strict_event_data().err(),
        ];
        for (name, error) in NAMES.iter().zip(errors) {
            let error = error.unwrap();
            assert_eq!(error.name, *name);
            let line = error.to_string();
            assert!(line.contains(name) && line.contains(" must be ") && !line.contains('\n'));
        }
    }

    #[test]
    fn keys_are_in_the_variable_or_in_a_parameter() {
        let inline = with(SECRETS_KEYS, "k1:AAAA").secrets_keys();
        assert!(inline == Ok(SecretsKeys::Inline("k1:AAAA".to_owned())));
        let parameter = with(SECRETS_KEYS, "parameter:/webhooks/keys").secrets_keys();
        assert!(parameter == Ok(SecretsKeys::Parameter("/webhooks/keys".to_owned())));
    }

    #[test]
    fn unreadable_variables_are_refused() {
        for days in ["3651", "-1", "1.5", "thirty"] {
            assert!(with(RETENTION_DAYS, days).retention_days().is_err(), "{days}");
        }
        assert!(with(DELIVERIES_QUEUE_URL, "webhook-deliveries").deliveries_queue_url().is_err());
        assert!(with(SUBSCRIPTIONS_TABLE, "").subscriptions_table().is_err());
        let error = sealer("k1:not-a-key-but-still-secret", Arc::new(SystemRandom)).unwrap_err();
        assert!(error.to_string().contains(SECRETS_KEYS), "{error}");
        assert!(!error.to_string().contains("secret-"), "{error}");
        assert!(!error.to_string().contains("not-a-key"), "{error}");
    }
}
