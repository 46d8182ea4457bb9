//! What follows an attempt: a pure function of its number, its outcome, the clock and the jitter.

use std::time::Duration;

use crate::limits::RETRY_AFTER_MAX_SECONDS;
use crate::outbound::{Failure, Outcome, RetryAfter};
use crate::schedule::RetrySchedule;
use crate::time::Timestamp;

/// The most that jitter adds to a wait, in thousandths of it.
pub const JITTER_MAX_PER_MILLE: u64 = 100;
/// The most that jitter adds to a wait: enough to spread the retries, and little beside a wait of
/// hours.
pub const JITTER_MAX: Duration = Duration::from_secs(90);

/// How often a delivery is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy<'a> {
    /// The waits between the attempts.
    pub schedule: &'a RetrySchedule,
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
    /// The receiver returned 410: it wants nothing more, so the subscription is disabled too.
    Gone,
    /// The address is one that deliveries may not connect to; trying again would not help.
    Blocked,
}

impl RetryPolicy<'_> {
    /// Decides what follows attempt number `attempt` (from 1), which ended at `now`.
    ///
    /// Waits are those of the schedule plus `jitter_per_mille` thousandths of themselves, at most
    /// 90 s, which the caller draws from 0 to [`JITTER_MAX_PER_MILLE`]. A `Retry-After` that comes
    /// with 429, 502, 503 or 504 is the least wait, capped at [`RETRY_AFTER_MAX_SECONDS`].
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
        let Some(wait) = self.schedule.wait_after(attempt) else {
            return Next::GiveUp(GiveUp::RetriesExhausted);
        };
        let least = asked_for.map_or(Duration::ZERO, |after| retry_after(after, now));
        // The jitter also spreads deliveries that received the same `Retry-After`.
        let wait = wait.max(least);
        let per_mille = u32::try_from(jitter_per_mille.min(JITTER_MAX_PER_MILLE))
            .expect("the most jitter is a small number");
        Next::RetryAt(now.plus(wait + (wait * per_mille / 1000).min(JITTER_MAX)))
    }
}

/// The wait a receiver asked for, rounded up to whole seconds.
fn retry_after(after: RetryAfter, now: Timestamp) -> Duration {
    let seconds = match after {
        RetryAfter::Seconds(seconds) => seconds,
        RetryAfter::At(moment) => {
            u64::try_from(now.until(moment).as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
        }
    };
    Duration::from_secs(seconds.min(RETRY_AFTER_MAX_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn response(status: u16, retry_after: Option<RetryAfter>) -> Outcome {
        Outcome::Response { status, retry_after, excerpt: String::new() }
    }

    /// What follows an attempt of a webhook with this many retries.
    fn decide(
        retry_count: u32,
        attempt: u32,
        outcome: &Outcome,
        now: Timestamp,
        jitter: u64,
    ) -> Next {
        let schedule = RetrySchedule::Exponential { retry_count };
        RetryPolicy { schedule: &schedule }.decide(attempt, outcome, now, jitter)
    }

    fn wait_ms(next: Next) -> u64 {
        match next {
            Next::RetryAt(moment) => u64::try_from(moment.millis()).unwrap(),
            other => panic!("no retry: {other:?}"),
        }
    }

    #[test]
    fn waits_are_those_of_the_schedule_and_then_it_gives_up() {
        let schedule = RetrySchedule::Standard;
        let policy = RetryPolicy { schedule: &schedule };
        for attempt in 1..=9 {
            let wait = schedule.wait_after(attempt).unwrap();
            let at = |jitter| wait_ms(policy.decide(attempt, &response(500, None), NOW, jitter));
            let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
            assert_eq!(at(0), ms(wait));
            assert_eq!(at(u64::MAX), ms(wait + (wait / 10).min(JITTER_MAX)));
        }
        let next = policy.decide(10, &response(500, None), NOW, 0);
        assert_eq!(next, Next::GiveUp(GiveUp::RetriesExhausted));
    }

    #[test]
    fn retry_after_is_the_least_wait_and_capped() {
        let wait = |status, after| wait_ms(decide(3, 1, &response(status, Some(after)), NOW, 0));
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
            match decide(retry_count, attempt, &outcome, now, jitter) {
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
            let outcome = response(500, None);
            let plain = wait_ms(decide(10, attempt, &outcome, NOW, 0));
            let spread = wait_ms(decide(10, attempt, &outcome, NOW, jitter));
            prop_assert!((plain..=plain * 11 / 10).contains(&spread));
        }
    }
}
