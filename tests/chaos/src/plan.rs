//! Who subscribes, and how each endpoint responds to each event. The seed decides both, so that the
//! expected result of every delivery is known beforehand.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use test_support::receiver::Reply;
use webhooks_core::delivery::Status;

/// The type of every event.
pub(crate) const EVENT_TYPE: &str = "task.completed";
/// The wait that a postponing endpoint asks for, in seconds: longer than a message may be hidden.
const POSTPONED_SECONDS: &str = "3600";
/// The longest that a slow endpoint takes, in milliseconds.
const SLOW_MS_MAX: u64 = 400;

/// What kind of endpoint a webhook has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// Takes everything.
    Healthy,
    /// Fails up to twice with 500, or 503 and `Retry-After`.
    Flaky,
    /// Takes everything, slowly.
    Slow,
    /// Resets the connection of some first attempts, after having read all of it.
    Resetting,
    /// Asks for some events to come again in an hour: such a delivery is parked.
    Postponing,
    /// Refuses some events each time.
    Refusing,
    /// Returns 410: the first delivery disables it.
    Gone,
    /// Healthy; its owner pauses it for a while.
    Paused,
    /// Healthy; its owner deletes it.
    Deleted,
}

/// The endpoints of one user in turn: each has a healthy one, and two of the others.
const OTHERS: [[Endpoint; 2]; 4] = [
    [Endpoint::Flaky, Endpoint::Refusing],
    [Endpoint::Resetting, Endpoint::Postponing],
    [Endpoint::Flaky, Endpoint::Paused],
    [Endpoint::Slow, Endpoint::Deleted],
];

/// How an endpoint treats an event: the first attempts fail in this way, the next is taken.
struct Treatment {
    failures: u32,
    how: Reply,
    taken: Reply,
}

impl Endpoint {
    /// Those of this user, by its number.
    pub(crate) fn of_user(user: usize) -> Vec<Self> {
        let [one, other] = OTHERS[user % OTHERS.len()];
        let mut endpoints = vec![Self::Healthy, one, other];
        if user == 0 {
            endpoints.push(Self::Gone);
        }
        endpoints
    }

    /// The retries after the first attempt.
    pub(crate) fn retry_count(self) -> u32 {
        if self == Self::Refusing { 1 } else { 3 }
    }

    /// Whether its owner or the service itself ends it in the middle, so that what becomes of an
    /// event depends on the moment.
    pub(crate) fn changes(self) -> bool {
        matches!(self, Self::Gone | Self::Paused | Self::Deleted)
    }

    fn treats(self, seed: u64, event_id: &str) -> Treatment {
        let chance = chance(self, seed, event_id);
        let (failures, how) = match self {
            Self::Flaky => match chance % 10 {
                0 | 1 => (1, Reply::status(500)),
                2 => (1, Reply::response(503, &[("retry-after", "3")], "")),
                3 => (2, Reply::status(500)),
                _ => (0, Reply::status(500)),
            },
            Self::Resetting => (u32::from(chance.is_multiple_of(3)), Reply::reset()),
            Self::Postponing => {
                let later = Reply::response(503, &[("retry-after", POSTPONED_SECONDS)], "");
                (u32::from(chance.is_multiple_of(5)), later)
            }
            Self::Refusing => {
                (if chance.is_multiple_of(4) { u32::MAX } else { 0 }, Reply::status(400))
            }
            Self::Gone => (u32::MAX, Reply::status(410)),
            Self::Healthy | Self::Slow | Self::Paused | Self::Deleted => (0, Reply::status(500)),
        };
        let taken = match self {
            Self::Slow => Reply::status(200).after(Duration::from_millis(chance % SLOW_MS_MAX)),
            _ => Reply::status(204),
        };
        Treatment { failures, how, taken }
    }

    /// Its response to this attempt (from 1), and whether it takes the event.
    pub(crate) fn reply(self, seed: u64, event_id: &str, attempt: u32) -> (Reply, bool) {
        let treatment = self.treats(seed, event_id);
        if attempt <= treatment.failures { (treatment.how, false) } else { (treatment.taken, true) }
    }

    /// How the delivery of an event must end, and after how many attempts.
    pub(crate) fn expected(self, seed: u64, event_id: &str) -> (Status, u32) {
        let failures = self.treats(seed, event_id).failures;
        if failures > self.retry_count() {
            (Status::Failed, self.retry_count() + 1)
        } else {
            (Status::Success, failures + 1)
        }
    }
}

/// The same for the same arguments, always.
fn chance(endpoint: Endpoint, seed: u64, event_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (endpoint, seed, event_id).hash(&mut hasher);
    hasher.finish()
}
