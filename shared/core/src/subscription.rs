//! Subscriptions, which the API calls webhooks: what a user may ask for, and what is kept.
//!
//! Deliberately absent: the bodies of requests, which `webhooks_api` reads.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::breaker::Health;
use crate::catalogue::EventType;
use crate::delivery::{UnknownName, named};
use crate::event::Event;
use crate::event_type_selector::EventTypeSelector;
use crate::filter::Filter;
use crate::ids::{SubscriptionId, UserId};
use crate::json::Data;
use crate::maybe_known::MaybeKnown;
use crate::ports::StoreError;
use crate::rate_limit::RateLimit;
use crate::request_headers::{HeaderName, HeaderValue, SealedHeader, SealedHeaders};
use crate::retry::RetryPolicy;
use crate::schedule::RetrySchedule;
use crate::secret::{
    OpenError, SealedFor, SealedSecret, SecretOpener, SecretSealer, SigningSecrets,
    SubscriptionSecrets,
};
use crate::time::Timestamp;
use crate::verification::VerificationToken;

/// A user's registration for events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The owner.
    pub user_id: UserId,
    /// Its id.
    pub id: SubscriptionId,
    /// The URL of the endpoint. It is checked when the owner sets it, and again at each attempt by
    /// the rules of that moment.
    pub url: String,
    /// The event types it wants, without repeats. A selector that this version does not know
    /// matches no event.
    pub event_types: Vec<MaybeKnown<EventTypeSelector>>,
    /// Which of those events it wants, by their data; all when there is none.
    pub filter: Option<Filter>,
    /// The owner's description.
    pub description: Option<String>,
    /// Whether deliveries are made.
    pub is_active: bool,
    /// Why the service, not its owner, made it inactive.
    pub disabled_reason: Option<MaybeKnown<DisabledReason>>,
    /// What its endpoint has to return before the webhook becomes active.
    pub verification: Option<VerificationToken>,
    /// How often, and after which waits, a delivery is tried again.
    pub retry_schedule: RetrySchedule,
    /// How long one attempt may take.
    pub timeout_seconds: u32,
    /// The request headers that its owner adds to every attempt.
    pub headers: SealedHeaders,
    /// How many deliveries a second it gets at most; no limit when there is none.
    pub rate_limit: Option<RateLimit>,
    /// What happens to events while its owner has paused it.
    pub while_inactive: WhileInactive,
    /// Whether it may have held deliveries: it was paused with `"hold"` at some time.
    pub may_have_held: bool,
    /// Whether what failed during an outage is redelivered when its endpoint comes back.
    pub auto_recover: bool,
    /// How deliveries are signed.
    pub signature: SignatureScheme,
    /// How long payloads are kept.
    pub keep_payload: KeepPayload,
    /// What deliveries are signed with.
    pub secrets: SubscriptionSecrets,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Rises with each change, so that no change overwrites another unseen.
    pub version: u64,
    /// How the attempts at its endpoint went.
    pub health: Health,
}

named! {
    /// Why the service made a subscription inactive.
    DisabledReason {
        /// The endpoint returned 410.
        EndpointGone = "endpoint_gone",
        /// The endpoint failed for days without one success.
        EndpointFailing = "endpoint_failing",
        /// The endpoint has not proved that it wants the webhook.
        EndpointUnverified = "endpoint_unverified",
        /// The operator has blocked the user (`scripts/operate.py`).
        UserBlocked = "user_blocked",
    }
}

named! {
    /// What happens to events while the owner has paused a subscription.
    #[derive(Default)]
    WhileInactive {
        /// No delivery is made of them.
        #[default]
        Drop = "drop",
        /// They are recorded as held, and delivered after the owner resumes it.
        Hold = "hold",
    }
}

named! {
    /// How deliveries are signed.
    #[derive(Default)]
    SignatureScheme {
        /// `v1` of Standard Webhooks, and the reference's `X-Webhook-Signature`.
        #[default]
        Hmac = "hmac",
        /// `v1a` of Standard Webhooks.
        Ed25519 = "ed25519",
    }
}

named! {
    /// How long payloads are kept.
    #[derive(Default)]
    KeepPayload {
        /// As long as the record.
        #[default]
        Retention = "retention",
        /// Until the delivery succeeds.
        UntilSuccess = "until_success",
    }
}

impl Subscription {
    /// A new subscription.
    pub fn new(
        user_id: UserId,
        id: SubscriptionId,
        new: NewSubscription,
        secret: SealedSecret,
        headers: SealedHeaders,
        now: Timestamp,
    ) -> Self {
        Self {
            user_id,
            id,
            url: new.url,
            event_types: known(new.event_types),
            filter: new.filter,
            description: new.description,
            is_active: true,
            disabled_reason: None,
            verification: None,
            retry_schedule: new.retry_schedule,
            timeout_seconds: new.timeout_seconds,
            headers,
            rate_limit: new.rate_limit,
            while_inactive: new.while_inactive,
            may_have_held: false,
            auto_recover: new.auto_recover,
            signature: new.signature,
            keep_payload: new.keep_payload,
            secrets: SubscriptionSecrets::new(secret),
            created_at: now,
            updated_at: now,
            version: 1,
            health: Health::default(),
        }
    }

    /// Whether an event makes a delivery. One that the service disabled still gets them, as failed
    /// ones that its owner can repeat; one that its owner paused gets them only to hold them.
    pub fn wants(&self, event: &Event) -> bool {
        (self.is_active || self.disabled_reason.is_some() || self.is_holding())
            && self.matches(event.event_type, &event.data)
    }

    /// Whether its owner has paused it and what arrives is held. What the service disables holds
    /// nothing: its deliveries fail.
    pub fn is_holding(&self) -> bool {
        !self.is_active
            && self.disabled_reason.is_none()
            && self.while_inactive == WhileInactive::Hold
    }

    /// Whether its event types and its filter select an event.
    pub fn matches(&self, event_type: EventType, data: &Data) -> bool {
        self.names(event_type) && self.filter.as_ref().is_none_or(|filter| filter.matches(data))
    }

    /// Whether its event types select this one.
    pub fn names(&self, event_type: EventType) -> bool {
        selects(&self.event_types, event_type)
    }

    /// How often its deliveries are tried again.
    pub fn retry_policy(&self) -> RetryPolicy<'_> {
        RetryPolicy { schedule: &self.retry_schedule }
    }

    /// How long one attempt may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout_seconds))
    }

    /// Makes the changes a user asked for. A patch that changes nothing leaves the version as it is.
    ///
    /// A changed URL resets the health, and so does the activation of a subscription that the service
    /// disabled. Activation after a pause only half-opens the breaker and keeps since when the
    /// endpoint fails: an owner could otherwise keep it from being disabled with a pause a day.
    pub fn apply(&mut self, patch: Patch, now: Timestamp) {
        let retry_schedule = self.changed_schedule(&patch);
        let Patch { url, event_types, filter, description, timeout_seconds, is_active, .. } = patch;
        let Patch { rate_limit, while_inactive, auto_recover, keep_payload, .. } = patch;
        let headers = patch.headers.map(|changes| self.changed_headers(changes));
        let signature = patch.signature.filter(|change| change.scheme != self.signature);
        let new_url = replace(&mut self.url, url);
        let toggled = replace(&mut self.is_active, is_active);
        let activated = toggled && self.is_active;
        let changed = [
            new_url,
            toggled,
            replace(&mut self.event_types, event_types.map(known)),
            replace(&mut self.description, description),
            replace(&mut self.filter, filter),
            replace(&mut self.retry_schedule, retry_schedule),
            replace(&mut self.timeout_seconds, timeout_seconds),
            replace(&mut self.rate_limit, rate_limit),
            replace(&mut self.while_inactive, while_inactive),
            replace(&mut self.auto_recover, auto_recover),
            replace(&mut self.headers, headers),
            self.change_signature(signature),
            replace(&mut self.keep_payload, keep_payload),
        ];
        let was_disabled = activated && self.disabled_reason.take().is_some();
        if activated {
            self.verification = None;
        }
        if new_url || was_disabled {
            self.health = self.health.started_anew();
        } else if activated {
            self.health = self.health.half_opened(now);
        }
        self.may_have_held |= self.is_holding();
        if changed.contains(&true) {
            self.touch(now);
        }
    }

    /// The schedule that a user asked for. `retry_count` alone selects the exponential one, as it does for
    /// a new webhook, and a schedule alone keeps the `retry_count` that there is.
    fn changed_schedule(&self, patch: &Patch) -> Option<RetrySchedule> {
        let current = self.retry_schedule.retry_count();
        match (&patch.retry_schedule, patch.retry_count) {
            (Some(asked), None) if asked.retry_count().is_some() && current.is_some() => None,
            (Some(asked), _) => Some(asked.clone()),
            (None, retry_count) => {
                retry_count.map(|retry_count| RetrySchedule::Exponential { retry_count })
            }
        }
    }

    /// Its request headers after a change: a header without a new value keeps the value that there is.
    fn changed_headers(&self, changes: HeaderChanges) -> SealedHeaders {
        let changed = changes.into_iter().filter_map(|(name, value)| {
            let value = value.or_else(|| self.headers.get(&name).cloned())?;
            Some((name, value))
        });
        changed.collect()
    }

    /// Signs with a key of another scheme from now on. Those before it do not sign any more: a
    /// request carries signatures of one scheme only.
    fn change_signature(&mut self, change: Option<SignatureChange>) -> bool {
        let Some(SignatureChange { scheme, key }) = change else { return false };
        self.signature = scheme;
        self.secrets = SubscriptionSecrets::new(key);
        true
    }

    /// Makes it inactive until this token comes back. For a webhook that is new or has just changed.
    pub fn require_verification(&mut self, token: VerificationToken) {
        self.is_active = false;
        self.disabled_reason = Some(DisabledReason::EndpointUnverified.into());
        self.verification = Some(token);
    }

    /// Activates it: its token came back.
    pub fn verify(&mut self, now: Timestamp) {
        self.apply(Patch { is_active: Some(true), ..Patch::default() }, now);
    }

    /// Makes it inactive because of what its endpoint did.
    pub fn disable(&mut self, reason: DisabledReason, now: Timestamp) {
        self.is_active = false;
        self.disabled_reason = Some(reason.into());
        self.touch(now);
    }

    /// Signs with `secret` from now on, and with those before it until `overlap_end`. Changes
    /// nothing when `secret` is the newest already, so that a repeated rotation is one rotation.
    pub fn rotate(&mut self, secret: SealedSecret, overlap_end: Timestamp, now: Timestamp) {
        if self.secrets.current != secret {
            self.secrets.rotate(secret, overlap_end, now);
            self.touch(now);
        }
    }

    /// Decrypts the secrets that sign at this moment.
    pub fn signing_secrets(
        &self,
        opener: &dyn SecretOpener,
        now: Timestamp,
    ) -> Result<SigningSecrets, OpenError> {
        let mut secrets =
            self.secrets.signing_at(now).map(|sealed| opener.open(sealed, &self.user_id, &self.id));
        Ok(SigningSecrets {
            current: secrets.next().expect("the newest secret always signs")?,
            previous: secrets.collect::<Result<_, _>>()?,
        })
    }

    /// Decrypts the request headers that its owner adds.
    pub fn open_headers(
        &self,
        opener: &dyn SecretOpener,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, OpenError> {
        let open = |header: (&HeaderName, &SealedHeader)| {
            let value = opener.open_header(header, &self.user_id, &self.id)?;
            Ok((header.0.clone(), value))
        };
        self.headers.iter().map(open).collect()
    }

    /// The error of a subscription whose secrets do not open.
    pub fn undecodable(&self, error: OpenError) -> StoreError {
        StoreError::Undecodable {
            key: format!("{} / {}", self.user_id, self.id),
            reason: error.to_string(),
        }
    }

    /// Every secret and header value, as it is sealed.
    pub fn sealed(&self) -> impl Iterator<Item = &SealedSecret> {
        let previous = self.secrets.previous.iter().map(|previous| &previous.sealed);
        let headers = self.headers.values().map(|header| &header.sealed);
        std::iter::once(&self.secrets.current).chain(previous).chain(headers)
    }

    /// Seals every secret and header with the sealer's current key. The result tells whether any was not.
    pub fn reseal(&mut self, sealer: &dyn SecretSealer) -> Result<bool, OpenError> {
        let mut is_changed = false;
        for sealed in self.secrets.iter_mut() {
            if let Some(resealed) = sealer.reseal(sealed, &self.user_id, &self.id)? {
                *sealed = resealed;
                is_changed = true;
            }
        }
        for (name, header) in &mut self.headers {
            let of = SealedFor::header(&self.user_id, &self.id, name);
            if let Some(resealed) = sealer.reseal_text(&header.sealed, of)? {
                header.sealed = resealed;
                is_changed = true;
            }
        }
        if is_changed {
            // It is no change that the user made, so `updated_at` stays.
            self.version += 1;
        }
        Ok(is_changed)
    }

    fn touch(&mut self, now: Timestamp) {
        // A clock that is behind must not move it back.
        self.updated_at = self.updated_at.max(now);
        self.version += 1;
    }
}

fn selects(selectors: &[MaybeKnown<EventTypeSelector>], event_type: EventType) -> bool {
    selectors.iter().filter_map(MaybeKnown::known).any(|selector| selector.matches(event_type))
}

fn known(event_types: Vec<EventTypeSelector>) -> Vec<MaybeKnown<EventTypeSelector>> {
    event_types.into_iter().map(MaybeKnown::Known).collect()
}

/// A subscription whose row this version cannot read, and what can be read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableSubscription {
    /// The owner.
    pub user_id: UserId,
    /// Its id.
    pub id: SubscriptionId,
    /// What is wrong with the row, without its contents.
    pub reason: String,
    /// The event types it wants.
    pub event_types: Option<Vec<MaybeKnown<EventTypeSelector>>>,
    /// Whether its owner paused it.
    pub is_paused: Option<bool>,
}

impl UnreadableSubscription {
    /// Whether an event of this type may be one that it wants. What cannot be read rules nothing
    /// out: an event too many fails until the row can be read, an event too few would be lost.
    pub fn may_want(&self, event_type: EventType) -> bool {
        self.is_paused != Some(true)
            && self.event_types.as_ref().is_none_or(|types| selects(types, event_type))
    }
}

/// What a user asks for when creating a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubscription {
    /// Where deliveries go.
    pub url: String,
    /// The event types it wants.
    pub event_types: Vec<EventTypeSelector>,
    /// Which of those events it wants.
    pub filter: Option<Filter>,
    /// The owner's description.
    pub description: Option<String>,
    /// How often, and after which waits, a delivery is tried again.
    pub retry_schedule: RetrySchedule,
    /// How long one attempt may take.
    pub timeout_seconds: u32,
    /// The request headers that its owner adds to every attempt.
    pub headers: BTreeMap<HeaderName, HeaderValue>,
    /// How many deliveries a second it gets at most.
    pub rate_limit: Option<RateLimit>,
    /// What happens to events while its owner has paused it.
    pub while_inactive: WhileInactive,
    /// Whether what failed during an outage is redelivered when its endpoint comes back.
    pub auto_recover: bool,
    /// How deliveries are signed.
    pub signature: SignatureScheme,
    /// How long payloads are kept.
    pub keep_payload: KeepPayload,
}

/// What a user asks to change; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Where deliveries go.
    pub url: Option<String>,
    /// The event types it wants.
    pub event_types: Option<Vec<EventTypeSelector>>,
    /// Which of those events it wants; an inner `None` removes the filter.
    pub filter: Option<Option<Filter>>,
    /// What the owner says of it; an inner `None` removes it.
    pub description: Option<Option<String>>,
    /// Retries after the first attempt of an `"exponential"` schedule.
    pub retry_count: Option<u32>,
    /// How often, and after which waits, a delivery is tried again.
    pub retry_schedule: Option<RetrySchedule>,
    /// How long one attempt may take.
    pub timeout_seconds: Option<u32>,
    /// How many deliveries a second it gets at most; an inner `None` removes the limit.
    pub rate_limit: Option<Option<RateLimit>>,
    /// What happens to events while its owner has paused it.
    pub while_inactive: Option<WhileInactive>,
    /// Whether what failed during an outage is redelivered when its endpoint comes back.
    pub auto_recover: Option<bool>,
    /// How deliveries are signed.
    pub signature: Option<SignatureChange>,
    /// The request headers that there are afterwards.
    pub headers: Option<HeaderChanges>,
    /// How long payloads are kept.
    pub keep_payload: Option<KeepPayload>,
    /// Whether deliveries are made.
    pub is_active: Option<bool>,
}

/// The request headers of a subscription after a change: each with its new value, or with none to keep
/// the value that there is.
pub type HeaderChanges = BTreeMap<HeaderName, Option<SealedHeader>>;

/// Another way to sign, and the key for it, which is not used when the subscription signs so already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureChange {
    /// How deliveries are signed.
    pub scheme: SignatureScheme,
    /// A new key of this scheme.
    pub key: SealedSecret,
}

/// Puts `new` in the place of `value`, and says whether that is a change.
fn replace<T: PartialEq>(value: &mut T, new: Option<T>) -> bool {
    match new {
        Some(new) if new != *value => {
            *value = new;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::limits::SECRETS_MAX;

    pub(crate) fn subscription() -> Subscription {
        let new = NewSubscription {
            url: "http://example.com/".to_owned(),
            event_types: vec!["task.created".parse().unwrap()],
            filter: None,
            description: None,
            retry_schedule: RetrySchedule::default(),
            timeout_seconds: 10,
            headers: BTreeMap::new(),
            rate_limit: None,
            while_inactive: WhileInactive::default(),
            auto_recover: false,
            signature: SignatureScheme::default(),
            keep_payload: KeepPayload::default(),
        };
        Subscription::new(
            "u1".parse().unwrap(),
            SubscriptionId::new(Timestamp::EPOCH, [0; 10]),
            new,
            SealedSecret::new(vec![0]),
            SealedHeaders::default(),
            Timestamp::EPOCH,
        )
    }

    fn event(event_type: &str) -> Event {
        let body = format!(r#"{{"event_type":"{event_type}","user_id":"u1","data":{{"n":1}}}}"#);
        Event::parse(&body, "m1", Timestamp::EPOCH).unwrap()
    }

    fn active(is_active: bool) -> Patch {
        Patch { is_active: Some(is_active), ..Patch::default() }
    }

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let mut subscription = subscription();
        subscription.description = Some("mine".to_owned());
        let before = subscription.clone();
        let patch = Patch { retry_count: Some(5), ..Patch::default() };
        subscription.apply(patch, Timestamp::from_seconds(9));
        assert_eq!(subscription.retry_schedule.retry_count(), Some(5));
        assert_eq!(
            (&subscription.url, &subscription.description),
            (&before.url, &before.description)
        );
        assert_eq!((subscription.version, subscription.updated_at.seconds()), (2, 9));
        let patch = Patch { description: Some(None), ..Patch::default() };
        subscription.apply(patch, Timestamp::EPOCH);
        assert_eq!((subscription.description, subscription.updated_at.seconds()), (None, 9));
    }

    #[test]
    fn only_a_new_url_or_the_activation_of_a_disabled_webhook_resets_health() {
        let failing = Health {
            consecutive_failures: 7,
            failing_since: Some(Timestamp::from_seconds(1)),
            open_until: Some(Timestamp::from_seconds(20)),
            ..Health::default()
        };
        let url = |url: &str| Patch { url: Some(url.to_owned()), ..Patch::default() };
        let retry_count = |count| Patch { retry_count: Some(count), ..Patch::default() };
        for (was_active, patch, changes, resets) in [
            (true, Patch::default(), false, false),
            (true, active(true), false, false),
            (true, url("http://example.com/"), false, false),
            (true, retry_count(3), false, false),
            (true, retry_count(4), true, false),
            (true, active(false), true, false),
            (false, active(false), false, false),
            (false, active(true), true, false),
            (true, url("http://example.com/new"), true, true),
            (false, url("http://example.com/new"), true, true),
        ] {
            let mut subscription = subscription();
            subscription.is_active = was_active;
            subscription.health = failing;
            subscription.apply(patch.clone(), Timestamp::from_seconds(9));
            assert_eq!(subscription.version, if changes { 2 } else { 1 }, "{patch:?}");
            assert_eq!(subscription.updated_at.seconds() == 9, changes, "{patch:?}");
            assert_eq!(subscription.health == Health::default(), resets, "{patch:?}");
        }
    }

    #[test]
    fn pause_and_activation_half_open_the_breaker_and_keep_failing_since() {
        let now = Timestamp::from_seconds(9);
        let failing = Health {
            consecutive_failures: 12,
            failing_since: Some(Timestamp::from_seconds(1)),
            open_until: Some(Timestamp::from_seconds(20)),
            proven: true,
            slow_periods: 2,
            slow_until: Some(Timestamp::from_seconds(99)),
            ..Health::default()
        };
        let mut subscription = Subscription { health: failing, ..subscription() };
        for _ in 0..3 {
            subscription.apply(active(false), now);
            subscription.apply(active(true), now);
        }
        assert_eq!(subscription.health, Health { open_until: Some(now), ..failing });

        subscription.disable(DisabledReason::EndpointFailing, now);
        subscription.apply(active(true), now);
        assert_eq!(subscription.health, failing.started_anew());
        assert!(subscription.health.is_slow(now), "the owner's slow endpoint stays slow");
    }

    #[test]
    fn activation_clears_the_disabled_reason() {
        let mut subscription = subscription();
        subscription.disable(DisabledReason::EndpointGone, Timestamp::EPOCH);
        assert!(!subscription.is_active);
        subscription.apply(active(true), Timestamp::EPOCH);
        assert!(subscription.is_active);
        assert_eq!(subscription.disabled_reason, None);
    }

    #[test]
    fn a_pause_makes_no_deliveries_but_a_disabled_endpoint_gets_them_as_failed() {
        let mut subscription = subscription();
        let created = event("task.created");
        assert!(subscription.wants(&created));
        assert!(!subscription.wants(&event("task.deleted")));
        subscription.disable(DisabledReason::EndpointFailing, Timestamp::EPOCH);
        assert!(subscription.wants(&created));
        subscription.apply(active(true), Timestamp::EPOCH);
        subscription.apply(active(false), Timestamp::EPOCH);
        assert!(!subscription.wants(&created));
    }

    #[test]
    fn event_type_of_another_version_matches_nothing_and_survives_other_changes() {
        let mut subscription = subscription();
        subscription.event_types.insert(0, MaybeKnown::Unknown("task.archived".to_owned()));
        subscription.disabled_reason = Some(MaybeKnown::Unknown("moved".to_owned()));
        let before = subscription.clone();
        let patch = Patch { retry_count: Some(5), ..Patch::default() };
        subscription.apply(patch, Timestamp::EPOCH);
        assert_eq!(subscription.event_types, before.event_types);
        assert_eq!(subscription.disabled_reason, before.disabled_reason);
        assert!(subscription.wants(&event("task.created")));
        assert!(!subscription.wants(&event("task.updated")));
    }

    #[test]
    fn event_must_match_a_selector_and_the_filter() {
        let mut subscription = subscription();
        let mut wants = |selector: &str, filter: Option<&str>| {
            subscription.event_types = known(vec![selector.parse().unwrap()]);
            subscription.filter = filter.map(|text| Filter::parse(text).unwrap());
            subscription.wants(&event("task.created"))
        };
        assert!(wants("task.*", None));
        assert!(wants("*", Some(r#"{"n":[1]}"#)));
        assert!(!wants("*", Some(r#"{"n":[2]}"#)));
        assert!(!wants("email.*", Some(r#"{"n":[1]}"#)));
    }

    #[test]
    fn retry_count_goes_with_the_exponential_schedule_only() {
        let exponential = |retry_count| RetrySchedule::Exponential { retry_count };
        for (before, retry_count, asked, after) in [
            (exponential(5), None, Some(exponential(3)), exponential(5)),
            (exponential(5), Some(7), None, exponential(7)),
            (exponential(5), Some(7), Some(exponential(7)), exponential(7)),
            (exponential(5), None, Some(RetrySchedule::Standard), RetrySchedule::Standard),
            (RetrySchedule::Standard, Some(7), None, exponential(7)),
            (RetrySchedule::Standard, None, Some(exponential(3)), exponential(3)),
        ] {
            let mut subscription = subscription();
            subscription.retry_schedule = before;
            let patch = Patch { retry_count, retry_schedule: asked, ..Patch::default() };
            subscription.apply(patch.clone(), Timestamp::EPOCH);
            assert_eq!(subscription.retry_schedule, after, "{patch:?}");
        }
    }

    #[test]
    fn replaced_secret_signs_until_the_overlap_ends() {
        let mut subscription = subscription();
        let now = Timestamp::from_seconds(100);
        let later = now.plus_seconds(60);
        for n in 1..=9 {
            subscription.rotate(SealedSecret::new(vec![n]), later, now);
        }
        let signing = |subscription: &Subscription, at| subscription.secrets.signing_at(at).count();
        assert_eq!(signing(&subscription, now), SECRETS_MAX);
        assert_eq!(signing(&subscription, later), 1);
        assert_eq!(subscription.secrets.current, SealedSecret::new(vec![9]));
        subscription.rotate(SealedSecret::new(vec![10]), later, later);
        assert!(subscription.secrets.previous.is_empty());
    }

    #[test]
    fn another_scheme_replaces_every_key() {
        let mut subscription = subscription();
        let now = Timestamp::from_seconds(100);
        subscription.rotate(SealedSecret::new(vec![1]), now.plus_seconds(60), now);
        let change = |scheme| {
            let key = SealedSecret::new(vec![2]);
            Patch { signature: Some(SignatureChange { scheme, key }), ..Patch::default() }
        };
        let before = subscription.clone();
        subscription.apply(change(SignatureScheme::Hmac), now);
        assert_eq!(subscription, before, "it signs so already");
        subscription.apply(change(SignatureScheme::Ed25519), now);
        assert_eq!(subscription.signature, SignatureScheme::Ed25519);
        assert_eq!(subscription.secrets, SubscriptionSecrets::new(SealedSecret::new(vec![2])));
        assert_eq!(subscription.version, before.version + 1);
    }

    #[test]
    fn header_without_a_new_value_keeps_its_value_and_an_absent_one_is_removed() {
        let mut subscription = subscription();
        let name = |name: &str| name.parse::<HeaderName>().unwrap();
        let sealed = |n| SealedHeader { sealed: SealedSecret::new(vec![n]), bytes: 1 };
        subscription.headers = [(name("a"), sealed(1)), (name("b"), sealed(2))].into();
        let changes = [(name("a"), None), (name("c"), Some(sealed(3)))].into();
        let patch = Patch { headers: Some(changes), ..Patch::default() };
        subscription.apply(patch.clone(), Timestamp::EPOCH);
        assert_eq!(subscription.headers, [(name("a"), sealed(1)), (name("c"), sealed(3))].into());
        let version = subscription.version;
        subscription.apply(patch, Timestamp::EPOCH);
        assert_eq!(subscription.version, version);
    }

    #[test]
    fn rotation_to_the_current_secret_changes_nothing() {
        let mut subscription = subscription();
        let now = Timestamp::from_seconds(100);
        subscription.rotate(SealedSecret::new(vec![1]), now.plus_seconds(60), now);
        let before = subscription.clone();
        subscription.rotate(SealedSecret::new(vec![1]), now.plus_seconds(90), now);
        assert_eq!(subscription, before);
    }
}
