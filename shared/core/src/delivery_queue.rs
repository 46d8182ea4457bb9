//! The two deliveries queues.
//!
//! The function `deliver` reads both, each by an event source mapping with its own maximum
//! concurrency. So attempts that take long never occupy the slots of those that do not.
//!
//! * fast: first attempts at endpoints that are known to respond quickly, and their retries within a
//!   minute;
//! * slow: everything else. That is new, slow and hanging endpoints, whether they end with a success
//!   or not, later attempts, redeliveries, and what one owner has in excess of
//!   [`FAST_TASKS_PER_OWNER`].

use crate::breaker::Health;
use crate::limits::FAST_TASKS_PER_OWNER;

/// How the name of the slow queue ends.
pub const SLOW_SUFFIX: &str = "-slow";

/// One of the deliveries queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryQueue {
    /// For endpoints that are known to respond quickly.
    Fast,
    /// For all others.
    Slow,
}

impl DeliveryQueue {
    /// The queue of a first attempt at an endpoint, whose owner has this many fast tasks already in
    /// this invocation.
    pub fn for_task(health: &Health, fast_tasks_of_owner: usize) -> Self {
        if health.is_quick() && fast_tasks_of_owner < FAST_TASKS_PER_OWNER {
            Self::Fast
        } else {
            Self::Slow
        }
    }

    /// The queue that a message came from.
    pub fn of_arn(arn: &str) -> Self {
        if arn.ends_with(SLOW_SUFFIX) { Self::Slow } else { Self::Fast }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_quick_endpoint_of_an_owner_below_the_limit_uses_the_fast_queue() {
        let quick = Health::default().record_speed(0, true);
        let slow = quick.record_speed(3, false);
        let last = FAST_TASKS_PER_OWNER - 1;
        assert_eq!(DeliveryQueue::for_task(&quick, last), DeliveryQueue::Fast);
        assert_eq!(DeliveryQueue::for_task(&quick, last + 1), DeliveryQueue::Slow);
        assert_eq!(DeliveryQueue::for_task(&slow, 0), DeliveryQueue::Slow);
        assert_eq!(DeliveryQueue::for_task(&Health::default(), 0), DeliveryQueue::Slow);
    }
}
