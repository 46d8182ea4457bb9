//! What follows an attempt: a pure function of its number, its outcome, the clock and the jitter.

use crate::limits::{BACKOFF_MAX_SECONDS, RETRY_AFTER_MAX_SECONDS};
use crate::outbound::{Failure, Outcome, RetryAfter};
use crate::time::Timestamp;

/// The most that jitter adds to a wait, in thousandths of it.
pub const JITTER_MAX_PER_MILLE: u64 = 100;

/// How often a delivery is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first attempt.
    pub retry_count: u32,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The receiver has it.
    Done,
    /// Try again at this moment, not earlier.
    RetryAt(Timestamp),
    /// It ends as failed.
    GiveUp(GiveUp),
}

/// Why a delivery ends as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// Every attempt that was allowed has failed.
    RetriesExhausted,
    /// The receiver answered 410: it wants nothing more, so the subscription is disabled too.
    Gone,
    /// The address is one that deliveries may not connect to; trying again would not help.
    Blocked,
}

impl RetryPolicy {
    /// Decides what follows attempt number `attempt` (from 1), which ended at `now`.
    ///
    /// Waits are 2 s, 4 s, 8 s, … (doubling, capped at [`BACKOFF_MAX_SECONDS`]) plus
    /// `jitter_per_mille` thousandths of themselves, which the caller draws from 0 to
    /// [`JITTER_MAX_PER_MILLE`]. A `Retry-After` that comes with 429, 502, 503 or 504 is the least
    /// wait, capped at [`RETRY_AFTER_MAX_SECONDS`].
    pub fn decide(
        self,
        attempt: u32,
        outcome: &Outcome,
        now: Timestamp,
        jitter_per_mille: u64,
    ) -> Next {
        let asked_for = match outcome {
            Outcome::Response { status: 200..=299, .. } => return Next::Done,
            Outcome::Response { status: 410, .. } => return Next::GiveUp(GiveUp::Gone),
            Outcome::NoResponse { failure: Failure::Blocked, .. } => {
                return Next::GiveUp(GiveUp::Blocked);
            }
            Outcome::Response { status: 429 | 502 | 503 | 504, retry_after, .. } => *retry_after,
            Outcome::Response { .. } | Outcome::NoResponse { .. } => None,
        };
        if attempt > self.retry_count {
            return Next::GiveUp(GiveUp::RetriesExhausted);
        }
        let least = asked_for.map_or(0, |after| retry_after_ms(after, now));
        let jitter = jitter_per_mille.min(JITTER_MAX_PER_MILLE);
        // The jitter also spreads deliveries that received the same `Retry-After`.
        let wait = backoff_ms(attempt).max(least);
        let wait = wait + wait * jitter / 1000;
        Next::RetryAt(now.plus(std::time::Duration::from_millis(wait)))
    }
}

/// The wait after this attempt (from 1), before jitter, in milliseconds.
fn backoff_ms(attempt: u32) -> u64 {
    let seconds = 1u64.checked_shl(attempt).unwrap_or(u64::MAX);
    seconds.clamp(2, BACKOFF_MAX_SECONDS) * 1000
}

/// The wait a receiver asked for, in milliseconds, rounded up to whole seconds.
fn retry_after_ms(after: RetryAfter, now: Timestamp) -> u64 {
    let seconds = match after {
        RetryAfter::Seconds(seconds) => seconds,
        RetryAfter::At(moment) => {
            u64::try_from(now.until(moment).as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
        }
    };
    seconds.min(RETRY_AFTER_MAX_SECONDS) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn response(status: u16, retry_after: Option<RetryAfter>) -> Outcome {
        Outcome::Response { status, retry_after, excerpt: String::new() }
    }

    fn wait_ms(next: Next) -> u64 {
        match next {
            Next::RetryAt(moment) => u64::try_from(moment.millis()).unwrap(),
            other => panic!("no retry: {other:?}"),
        }
    }

    #[test]
    fn waits_double_from_two_seconds_up_to_the_cap() {
        let policy = RetryPolicy { retry_count: 10 };
        let waits: Vec<u64> = (1..=10)
            .map(|n| wait_ms(policy.decide(n, &response(500, None), NOW, 0)) / 1000)
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900]);
        assert_eq!(
            policy.decide(11, &response(500, None), NOW, 0),
            Next::GiveUp(GiveUp::RetriesExhausted)
        );
    }

    #[test]
    fn retry_after_is_the_least_wait_and_capped() {
        let policy = RetryPolicy { retry_count: 3 };
        let wait =
            |status, after| wait_ms(policy.decide(1, &response(status, Some(after)), NOW, 0));
        for status in [429, 502, 503, 504] {
            assert_eq!(wait(status, RetryAfter::Seconds(60)), 60_000, "{status}");
        }
        assert_eq!(wait(500, RetryAfter::Seconds(60)), 2_000, "only where it has a meaning");
        assert_eq!(wait(503, RetryAfter::Seconds(0)), 2_000);
        assert_eq!(wait(503, RetryAfter::Seconds(u64::MAX)), 86_400_000);
        assert_eq!(wait(503, RetryAfter::At(Timestamp::from_millis(7_001))), 8_000);
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        let retry_after = proptest::option::of(prop_oneof![
            any::<u64>().prop_map(RetryAfter::Seconds),
            any::<i64>().prop_map(|at| RetryAfter::At(Timestamp::from_millis(at))),
        ]);
        let failures = prop_oneof![
            Just(Failure::Timeout),
            Just(Failure::Dns),
            Just(Failure::Connect),
            Just(Failure::Tls),
            Just(Failure::Protocol),
            Just(Failure::Blocked),
        ];
        prop_oneof![
            (100..600u16, retry_after).prop_map(|(status, after)| response(status, after)),
            failures.prop_map(|failure| Outcome::NoResponse { failure, detail: String::new() }),
        ]
    }

    proptest! {
        #[test]
        fn retry_waits_are_bounded_and_every_delivery_ends(
            retry_count in 0..=10u32, attempt in 1..=12u32, outcome in outcomes(),
            now in 0..4_000_000_000_000i64, jitter in any::<u64>(),
        ) {
            let now = Timestamp::from_millis(now);
            let success = matches!(outcome, Outcome::Response { status: 200..=299, .. });
            match (RetryPolicy { retry_count }).decide(attempt, &outcome, now, jitter) {
                Next::Done => prop_assert!(success),
                Next::GiveUp(GiveUp::RetriesExhausted) => prop_assert!(attempt > retry_count),
                Next::GiveUp(_) => prop_assert!(!success),
                Next::RetryAt(at) => {
                    prop_assert!(!success && attempt <= retry_count);
                    let wait = now.until(at).as_millis();
                    prop_assert!(wait >= 2_000);
                    prop_assert!(wait <= 86_400_000 * 11 / 10);
                }
            }
        }

        #[test]
        fn jitter_adds_at_most_a_tenth(attempt in 1..=10u32, jitter in any::<u64>()) {
            let policy = RetryPolicy { retry_count: 10 };
            let outcome = response(500, None);
            let plain = wait_ms(policy.decide(attempt, &outcome, NOW, 0));
            let spread = wait_ms(policy.decide(attempt, &outcome, NOW, jitter));
            prop_assert!((plain..=plain * 11 / 10).contains(&spread));
        }
    }
}
