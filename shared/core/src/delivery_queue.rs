//! The two deliveries queues.
//!
//! The function `deliver` reads both, each by an event source mapping with its own maximum
//! concurrency. So attempts that take long never occupy the slots of those that do not.
//!
//! * fast: first attempts at endpoints that are known to respond quickly, and their retries within a
//!   minute;
//! * slow: everything else. That is new, slow and hanging endpoints, whether they end with a success
//!   or not, paused webhooks, webhooks whose attempts may take longer than [`FAST_TIMEOUT_SECONDS`], later attempts,
//!   redeliveries, owners several of whose endpoints are slow, and what one owner has in excess of
//!   [`FAST_TASKS_PER_OWNER`] in an invocation of dispatch or of [`FAST_TASKS_PER_PERIOD`] in a period.
//!
//! An endpoint that answers quickly and then hangs occupies a slot of the fast queue for at most
//! [`FAST_TIMEOUT_SECONDS`]. After [`SLOW_SECONDS`] it is marked as slow, and tasks that are queued
//! for it move to the slow queue. So what one owner holds in flight is bounded by the tasks that
//! dispatch sends in [`SLOW_SECONDS`].

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::breaker::SLOW_SECONDS;
use crate::ids::UserId;
use crate::limits::{FAST_TASKS_PER_OWNER, FAST_TASKS_PER_PERIOD, FAST_TIMEOUT_SECONDS};
use crate::subscription::Subscription;
use crate::time::Timestamp;

/// How the name of the slow queue ends.
pub const SLOW_SUFFIX: &str = "-slow";

/// An owner is slow with so many slow endpoints, ...
const SLOW_ENDPOINTS: usize = 3;
/// ... if they are at least one of so many of the owner's.
const SLOW_ENDPOINTS_OF: usize = 10;

/// One of the deliveries queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryQueue {
    /// For endpoints that are known to respond quickly.
    Fast,
    /// For all others.
    Slow,
}

impl DeliveryQueue {
    /// The queue for first attempts at an endpoint, whoever its owner is.
    pub fn for_endpoint(subscription: &Subscription, now: Timestamp) -> Self {
        let is_short = subscription.timeout_seconds <= FAST_TIMEOUT_SECONDS;
        let is_quick = subscription.is_active && is_short && subscription.health.is_quick(now);
        if is_quick { Self::Fast } else { Self::Slow }
    }

    /// The queue that a message came from.
    pub fn of_arn(arn: &str) -> Self {
        if arn.ends_with(SLOW_SUFFIX) { Self::Slow } else { Self::Fast }
    }
}

/// Whether so many of an owner's endpoints are slow that all of the owner's tasks use the slow queue.
pub fn is_slow_owner<'a>(
    subscriptions: impl Iterator<Item = &'a Subscription>,
    now: Timestamp,
) -> bool {
    let (mut all, mut slow) = (0, 0);
    for subscription in subscriptions {
        all += 1;
        slow += usize::from(subscription.health.is_slow(now));
    }
    slow >= SLOW_ENDPOINTS && slow * SLOW_ENDPOINTS_OF >= all
}

/// Counts the tasks that each owner adds to the fast queue in one instance of dispatch.
#[derive(Debug, Default)]
pub struct FastTasks(Mutex<Period>);

#[derive(Debug, Default)]
struct Period {
    number: i64,
    tasks: BTreeMap<UserId, usize>,
}

impl FastTasks {
    /// Counts one more task of an owner who has added so many in this invocation; `false` when it is
    /// one too many.
    pub fn add(&self, owner: &UserId, in_this_invocation: usize, now: Timestamp) -> bool {
        // A count is whole between any two changes.
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let length = i64::try_from(SLOW_SECONDS * 1000).expect("it is a few seconds");
        let number = now.millis() / length;
        if number > period.number {
            *period = Period { number, tasks: BTreeMap::new() };
        }
        let tasks = period.tasks.entry(owner.clone()).or_default();
        let is_free = in_this_invocation < FAST_TASKS_PER_OWNER && *tasks < FAST_TASKS_PER_PERIOD;
        *tasks += usize::from(is_free);
        is_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::Health;

    fn subscription(health: Health, timeout_seconds: u32) -> Subscription {
        Subscription { timeout_seconds, health, ..crate::subscription::tests::subscription() }
    }

    fn user() -> UserId {
        "u1".parse().unwrap()
    }

    #[test]
    fn only_a_quick_endpoint_with_a_short_timeout_uses_the_fast_queue() {
        let now = Timestamp::from_seconds(100);
        let quick = Health::default().record_quick_success();
        let slow = quick.record_slow_attempt(now);
        for (health, timeout, expected) in [
            (quick, FAST_TIMEOUT_SECONDS, DeliveryQueue::Fast),
            (quick, FAST_TIMEOUT_SECONDS + 1, DeliveryQueue::Slow),
            (slow, FAST_TIMEOUT_SECONDS, DeliveryQueue::Slow),
            (Health::default(), FAST_TIMEOUT_SECONDS, DeliveryQueue::Slow),
        ] {
            let queue = DeliveryQueue::for_endpoint(&subscription(health, timeout), now);
            assert_eq!(queue, expected, "{health:?} {timeout}");
        }
    }

    #[test]
    fn owner_is_slow_with_three_slow_endpoints_that_are_a_tenth() {
        let now = Timestamp::from_seconds(100);
        let quick = Health::default().record_quick_success();
        let slow = quick.record_slow_attempt(now);
        for (slows, quicks, expected) in
            [(2, 0, false), (3, 0, true), (3, 27, true), (3, 28, false), (4, 28, true)]
        {
            let healths =
                std::iter::repeat_n(slow, slows).chain(std::iter::repeat_n(quick, quicks));
            let all: Vec<_> = healths.map(|health| subscription(health, 10)).collect();
            assert_eq!(is_slow_owner(all.iter(), now), expected, "{slows} of {}", all.len());
        }
    }

    #[test]
    fn owner_adds_so_many_tasks_in_an_invocation_and_in_a_period() {
        let now = Timestamp::from_seconds(100);
        let tasks = FastTasks::default();
        assert!(tasks.add(&user(), FAST_TASKS_PER_OWNER - 1, now));
        assert!(!tasks.add(&user(), FAST_TASKS_PER_OWNER, now));
        let added = (0..2 * FAST_TASKS_PER_PERIOD).filter(|_| tasks.add(&user(), 0, now)).count();
        assert_eq!(added, FAST_TASKS_PER_PERIOD - 1);
        assert!(tasks.add(&"u2".parse().unwrap(), 0, now));
        assert!(!tasks.add(&user(), 0, Timestamp::from_seconds(99)), "a message that was late");
        assert!(tasks.add(&user(), 0, now.plus_seconds(SLOW_SECONDS)));
    }
}
