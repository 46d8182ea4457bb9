//! The circuit breaker of one owner's webhooks at one host.
//!
//! An owner may point 100 webhooks at one URL. For the host they are one endpoint, so they share a
//! breaker besides those of their own. It opens when [`HOST_OPEN_AFTER_WEBHOOKS`] of them fail, one
//! after the other or at the same time, without a success in between.
//!
//! One webhook that is dead opens only its own breaker: the others at its host may be well. For the
//! same reason a webhook asks the breaker of its host only when it has never succeeded or when it
//! fails itself ([`HostHealth::concerns`]).
//!
//! Not needed for correctness: a lost update only makes the breaker open or close later.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use url::Url;

use crate::breaker::{BreakerState, COOL_DOWN_SECONDS, Failures, Health};
use crate::ids::SubscriptionId;
use crate::time::Timestamp;

/// Webhooks that must fail before the breaker of their host opens.
pub const HOST_OPEN_AFTER_WEBHOOKS: usize = 5;
/// Failures in a row after which a webhook that succeeded before asks the breaker of its host.
const ASKS_AFTER_FAILURES: u32 = 2;
/// Characters of a host's id.
const ID_CHARS: usize = 32;

/// The id of a host: a hash of its name, which may be longer than a key should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(String);

impl HostId {
    /// The host of a URL.
    pub fn of(url: &str) -> Self {
        let parsed = Url::parse(url).ok();
        let host = parsed.as_ref().and_then(Url::host_str).unwrap_or(url);
        let mut hash = hex::encode(Sha256::digest(host));
        hash.truncate(ID_CHARS);
        Self(hash)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How the attempts of one owner's webhooks at one host went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostHealth {
    /// Rises with each change; 0 when there is no row.
    pub version: u64,
    /// The breaker.
    pub health: Health,
    /// The webhooks that have failed since the last success, at most [`HOST_OPEN_AFTER_WEBHOOKS`].
    pub failing: BTreeSet<SubscriptionId>,
}

impl HostHealth {
    /// Whether a webhook of this health asks the breaker of its host.
    pub fn concerns(webhook: &Health) -> bool {
        !webhook.proven || webhook.consecutive_failures >= ASKS_AFTER_FAILURES
    }

    /// Whether an attempt may be made at this moment.
    pub fn state(&self, now: Timestamp) -> BreakerState {
        self.health.state(now)
    }

    /// The health after failures of these webhooks.
    #[must_use]
    pub fn record_failures(
        &self,
        webhooks: &BTreeSet<SubscriptionId>,
        failures: Failures,
        now: Timestamp,
    ) -> Self {
        let failing: BTreeSet<_> =
            self.failing.union(webhooks).take(HOST_OPEN_AFTER_WEBHOOKS).cloned().collect();
        let recorded = self.health.record_failures(failures, now);
        let first = || recorded.open_until.unwrap_or(now.plus_seconds(COOL_DOWN_SECONDS));
        let opens = failing.len() >= HOST_OPEN_AFTER_WEBHOOKS;
        let health = Health { open_until: opens.then(first), ..recorded };
        Self { version: self.version + 1, health, failing }
    }

    /// The health that claims the probe of a breaker that is half open.
    #[must_use]
    pub fn with_probe_claimed(&self, now: Timestamp) -> Self {
        let health = self.health.with_probe_claimed(now);
        Self { version: self.version + 1, health, failing: self.failing.clone() }
    }

    /// The health after a success; nothing when it does not change.
    pub fn record_success(&self) -> Option<Self> {
        let success = Self { version: self.version + 1, ..Self::default() };
        (self.health != success.health || self.failing != success.failing).then_some(success)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::breaker::LastError;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn webhooks(numbers: std::ops::Range<u8>) -> BTreeSet<SubscriptionId> {
        numbers.map(|n| SubscriptionId::new(Timestamp::EPOCH, [n; 10])).collect()
    }

    fn failures(count: u32) -> Failures {
        let (longest, last_error) = (Duration::ZERO, LastError::Status(500));
        Failures { count, began: at(0), longest, last_error }
    }

    #[test]
    fn urls_of_one_host_have_one_id() {
        let id = HostId::of("https://example.com/a");
        assert_eq!(HostId::of("https://EXAMPLE.com:8443/b?c"), id);
        assert_ne!(HostId::of("https://www.example.com/a"), id);
        assert_ne!(HostId::of("no url"), HostId::of("none"));
        assert_eq!(id.as_str().len(), ID_CHARS);
    }

    #[test]
    fn breaker_of_a_host_opens_when_several_webhooks_fail() {
        let one = HostHealth::default().record_failures(&webhooks(0..1), failures(1_000), at(900));
        assert_eq!(one.state(at(900)), BreakerState::Closed, "one dead webhook");
        let four = one.record_failures(&webhooks(0..4), failures(4), at(901));
        assert_eq!(four.state(at(901)), BreakerState::Closed);
        let five = four.record_failures(&webhooks(4..5), failures(1), at(902));
        assert!(matches!(five.state(at(902)), BreakerState::Open(_)));
        assert_eq!(five.failing.len(), HOST_OPEN_AFTER_WEBHOOKS);

        let BreakerState::Open(until) = five.state(at(902)) else { unreachable!() };
        let probe = five.with_probe_claimed(until);
        assert!(matches!(probe.state(until), BreakerState::Open(_)));
        let again = probe.record_failures(&webhooks(9..10), failures(1), until.plus_seconds(1));
        assert!(again.health.open_until > probe.health.open_until.map(|at| at.plus_seconds(60)));
        let success = again.record_success().unwrap();
        assert_eq!(success, HostHealth { version: again.version + 1, ..HostHealth::default() });
        assert_eq!(success.record_success(), None);
    }

    #[test]
    fn immediate_failures_of_many_webhooks_open_for_the_first_cool_down() {
        let open = HostHealth::default().record_failures(&webhooks(0..10), failures(10), at(1));
        assert_eq!(open.health.open_until, Some(at(1).plus_seconds(COOL_DOWN_SECONDS)));
    }

    #[test]
    fn webhook_that_succeeds_does_not_ask() {
        let quick = Health::default().record_quick_success();
        assert!(HostHealth::concerns(&Health::default()));
        assert!(!HostHealth::concerns(&quick));
        assert!(!HostHealth::concerns(&Health { consecutive_failures: 1, ..quick }));
        assert!(HostHealth::concerns(&Health { consecutive_failures: 2, ..quick }));
    }
}
