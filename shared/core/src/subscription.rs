//! Subscriptions, which the API calls webhooks: what a user may ask for, and what is kept.
//!
//! Deliberately absent: the bodies of requests, which `webhooks_api` reads.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::breaker::Health;
use crate::catalogue::EventType;
use crate::delivery::{UnknownName, named};
use crate::ids::{SubscriptionId, UserId};
use crate::limits::SECRETS_MAX;
use crate::retry::RetryPolicy;
use crate::secret::{Secret, SigningSecret};
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
        new: NewSubscription,
        secret: Secret,
        now: Timestamp,
    ) -> Self {
        Self {
            user_id,
            id,
            url: new.url,
            event_types: new.event_types,
            description: new.description,
            is_active: true,
            disabled_reason: None,
            retry_count: new.retry_count,
            timeout_seconds: new.timeout_seconds,
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

    /// Makes the changes a user asked for, and nothing where all of them are there already. A
    /// changed URL, and a change from inactive to active, forget how the endpoint did until now.
    pub fn apply(&mut self, patch: Patch, now: Timestamp) {
        let Patch { url, event_types, description, retry_count, timeout_seconds, is_active } =
            patch;
        let new_url = replace(&mut self.url, url);
        let toggled = replace(&mut self.is_active, is_active);
        let activated = toggled && self.is_active;
        let changed = [
            new_url,
            toggled,
            replace(&mut self.event_types, event_types),
            replace(&mut self.description, description),
            replace(&mut self.retry_count, retry_count),
            replace(&mut self.timeout_seconds, timeout_seconds),
        ];
        if activated {
            self.disabled_reason = None;
        }
        if new_url || activated {
            self.health = Health::default();
        }
        if changed.contains(&true) {
            self.touch(now);
        }
    }

    /// Makes it inactive because of what its endpoint did.
    pub fn disable(&mut self, reason: DisabledReason, now: Timestamp) {
        self.is_active = false;
        self.disabled_reason = Some(reason);
        self.touch(now);
    }

    /// Signs with `secret` from now on, and with those before it until `overlap_end`. A secret that
    /// is there already changes nothing, so that a repeated rotation is applied once.
    pub fn rotate(&mut self, secret: Secret, overlap_end: Timestamp, now: Timestamp) {
        if self.secrets.iter().any(|old| old.secret.expose() == secret.expose()) {
            return;
        }
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
mod tests {
    use super::*;

    fn subscription() -> Subscription {
        let new = NewSubscription {
            url: "http://example.com/".to_owned(),
            event_types: vec!["task.created".parse().unwrap()],
            description: None,
            retry_count: 3,
            timeout_seconds: 10,
        };
        Subscription::new(
            "u1".parse().unwrap(),
            SubscriptionId::new(Timestamp::EPOCH, [0; 10]),
            new,
            Secret::from_random(&[0; 32]),
            Timestamp::EPOCH,
        )
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
        assert_eq!(subscription.retry_count, 5);
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
    fn only_a_new_url_or_activation_resets_health() {
        let failing = Health { consecutive_failures: 7, ..Health::default() };
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
            (false, active(true), true, true),
            (true, url("http://example.com/new"), true, true),
            (false, url("http://example.com/new"), true, true),
        ] {
            let mut subscription = subscription();
            subscription.is_active = was_active;
            subscription.health = failing.clone();
            subscription.apply(patch.clone(), Timestamp::from_seconds(9));
            assert_eq!(subscription.version, if changes { 2 } else { 1 }, "{patch:?}");
            assert_eq!(subscription.updated_at.seconds() == 9, changes, "{patch:?}");
            assert_eq!(subscription.health == Health::default(), resets, "{patch:?}");
        }
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
        let event_type = "task.created".parse().unwrap();
        assert!(subscription.wants(event_type));
        assert!(!subscription.wants("task.deleted".parse().unwrap()));
        subscription.disable(DisabledReason::EndpointFailing, Timestamp::EPOCH);
        assert!(subscription.wants(event_type));
        subscription.apply(active(true), Timestamp::EPOCH);
        subscription.apply(active(false), Timestamp::EPOCH);
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
