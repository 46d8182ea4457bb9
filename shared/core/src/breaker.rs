//! The circuit breaker: no attempts are made at an endpoint that keeps failing.
//!
//! Its state, [`Health`], is part of the subscription, which each delivery reads anyway.
//!
//! * closed: attempts are made. After [`OPEN_AFTER_FAILURES`] failures in a row that span at least
//!   [`OPEN_AFTER_SECONDS`], it opens; when failures are slow, already after
//!   [`OPEN_AFTER_SLOW_FAILURES`], because each of them costs as much waiting as hundreds of others.
//! * open: no attempt is made; deliveries are parked until the time is up.
//! * half open: the time is up. One delivery claims the probe, the others stay parked. Its success
//!   closes the breaker, its failure opens it again for longer.
//!
//! A subscription whose endpoint has failed for [`DISABLE_AFTER_SECONDS`] without one success is
//! disabled.
//!
//! Not needed for correctness: a lost or late update only makes the breaker open or close later.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::delivery::UnknownName;
use crate::limits::TIMEOUT_SECONDS_MAX;
use crate::outbound::{Failure, Outcome};
use crate::time::Timestamp;

/// Failures in a row after which the breaker may open.
pub const OPEN_AFTER_FAILURES: u32 = 10;
/// How long the failures must span before it opens, in seconds: ordinary retries get over a short
/// outage.
pub const OPEN_AFTER_SECONDS: u64 = 30;
/// Failures in a row after which the breaker opens when the last of them was slow.
pub const OPEN_AFTER_SLOW_FAILURES: u32 = 3;
/// A failure that took at least this long is slow, in seconds.
pub const SLOW_SECONDS: u64 = 5;
/// What a slow attempt adds to [`Health::slowness`], whether it succeeds or fails. An endpoint is
/// slow when more than one in eleven attempts is.
const SLOW_ATTEMPT: u32 = 10;
/// The slowness from which an endpoint is slow.
const SLOW_FROM: u32 = 3 * SLOW_ATTEMPT;
/// The most slowness: this many quick answers less [`SLOW_FROM`] bring an endpoint back.
const SLOWNESS_MAX: u32 = 2 * SLOW_FROM;
/// How long it stays open the first time, in seconds; doubles with each failed probe.
pub const COOL_DOWN_SECONDS: u64 = 60;
/// The longest it stays open, in seconds.
pub const COOL_DOWN_MAX_SECONDS: u64 = 3_600;
/// The longest time between two checks of a parked delivery, in seconds.
pub const PARK_MAX_SECONDS: u64 = 6 * 3_600;
/// How long an endpoint may fail without one success before the subscription is disabled, in
/// seconds: 5 days.
pub const DISABLE_AFTER_SECONDS: u64 = 5 * 24 * 3_600;
/// How long a claimed probe keeps the others away, in seconds: longer than any attempt.
pub const PROBE_SECONDS: u64 = TIMEOUT_SECONDS_MAX as u64 + 15;

/// How the attempts at an endpoint went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Attempts that failed since the last success.
    pub consecutive_failures: u32,
    /// When the first of them began.
    pub failing_since: Option<Timestamp>,
    /// Until when no attempt is made. Stays set, in the past, while the breaker is half open.
    pub open_until: Option<Timestamp>,
    /// Whether it has ever answered in less than [`SLOW_SECONDS`].
    pub proven: bool,
    /// How slow its answers were lately: a slow attempt adds `SLOW_ATTEMPT`, a quick answer takes
    /// one away.
    pub slowness: u32,
    /// Why the latest of them failed. Rows of earlier versions do not have it.
    pub last_error: Option<LastError>,
}

/// Why an attempt failed, without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastError {
    /// The HTTP status of the response.
    Status(u16),
    /// There was no response.
    NoResponse(Failure),
}

impl From<&Outcome> for LastError {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Response { status, .. } => Self::Status(*status),
            Outcome::NoResponse { failure, .. } => Self::NoResponse(*failure),
        }
    }
}

impl fmt::Display for LastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "http_{status}"),
            Self::NoResponse(failure) => f.write_str(failure.as_str()),
        }
    }
}

impl FromStr for LastError {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        match name.strip_prefix("http_") {
            Some(status) => status.parse().map(Self::Status).map_err(|_| UnknownName),
            None => name.parse().map(Self::NoResponse),
        }
    }
}

/// Attempts at one endpoint that failed, one after the other or at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// How many.
    pub count: u32,
    /// When the first of them began.
    pub began: Timestamp,
    /// How long the longest of them took.
    pub longest: Duration,
    /// Why the last of them failed.
    pub last_error: LastError,
}

impl Failures {
    /// The sum of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            began: self.began.min(other.began),
            longest: self.longest.max(other.longest),
            last_error: other.last_error,
        }
    }
}

/// Whether an attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Make it.
    Closed,
    /// Make it only after claiming the probe: writing [`Health::with_probe_claimed`] in place of this health.
    HalfOpen,
    /// Do not make it before this moment.
    Open(Timestamp),
}

impl Health {
    /// Whether an attempt may be made at this moment.
    pub fn state(&self, now: Timestamp) -> BreakerState {
        match self.open_until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open(until),
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// The health that claims the probe.
    #[must_use]
    pub fn with_probe_claimed(self, now: Timestamp) -> Self {
        Self { open_until: Some(now.plus_seconds(PROBE_SECONDS)), ..self }
    }

    /// The health after these failures.
    #[must_use]
    pub fn record_failures(self, failures: Failures, now: Timestamp) -> Self {
        let consecutive_failures = self.consecutive_failures.saturating_add(failures.count);
        let since = self.failing_since.unwrap_or(failures.began);
        let lasted = since.until(now) >= Duration::from_secs(OPEN_AFTER_SECONDS);
        let slow = failures.longest >= Duration::from_secs(SLOW_SECONDS);
        let opens = self.open_until.is_some()
            || (lasted && consecutive_failures >= OPEN_AFTER_FAILURES)
            || (slow && consecutive_failures >= OPEN_AFTER_SLOW_FAILURES);
        let cool_down = cool_down(since, now, self.open_until.is_some());
        Self {
            consecutive_failures,
            failing_since: Some(since),
            open_until: opens.then(|| now.plus(cool_down)),
            last_error: Some(failures.last_error),
            ..self
        }
    }

    /// The health after a test that succeeded. A breaker that is open becomes half open, so that a
    /// delivery may probe the endpoint. Only a delivery closes it: an owner could otherwise keep a
    /// failing endpoint from being disabled with a test a day.
    #[must_use]
    pub fn after_successful_test(self, now: Timestamp) -> Self {
        Self { open_until: self.open_until.map(|until| until.min(now)), ..self }
    }

    /// The health after a success, which ends what failed before it.
    #[must_use]
    pub fn record_success(self) -> Self {
        Self { proven: self.proven, slowness: self.slowness, ..Self::default() }
    }

    /// The health after this many slow attempts, and perhaps a quick answer. It does not change for a
    /// quick answer of an endpoint that is quick.
    #[must_use]
    pub fn record_speed(self, slow_attempts: u32, has_quick_answer: bool) -> Self {
        let slowness = match slow_attempts {
            0 if has_quick_answer => self.slowness.saturating_sub(1),
            slow => self.slowness.saturating_add(slow.saturating_mul(SLOW_ATTEMPT)),
        };
        let proven = self.proven || (has_quick_answer && slow_attempts == 0);
        Self { proven, slowness: slowness.min(SLOWNESS_MAX), ..self }
    }

    /// Whether the endpoint is known to answer quickly.
    pub fn is_quick(&self) -> bool {
        self.proven && self.slowness < SLOW_FROM
    }

    /// Whether it has failed for so long that the subscription is to be disabled.
    pub fn should_disable(&self, now: Timestamp) -> bool {
        self.failing_since
            .is_some_and(|since| since.until(now) >= Duration::from_secs(DISABLE_AFTER_SECONDS))
    }
}

/// How long the breaker stays open: at first [`COOL_DOWN_SECONDS`], then as long again as the
/// endpoint has been failing, which in the long run doubles it each time.
fn cool_down(since: Timestamp, now: Timestamp, again: bool) -> Duration {
    let first = Duration::from_secs(COOL_DOWN_SECONDS);
    if !again {
        return first;
    }
    since.until(now).clamp(first, Duration::from_secs(COOL_DOWN_MAX_SECONDS))
}

/// How long a delivery created at `created` is parked when the breaker is open until `open_until`:
/// at least until then, and as long again as it has waited already, so that an endpoint that is
/// down for days costs each of its deliveries a dozen checks rather than one an hour.
pub fn park_until(created: Timestamp, open_until: Timestamp, now: Timestamp) -> Timestamp {
    let waited = created.until(now).min(Duration::from_secs(PARK_MAX_SECONDS));
    open_until.max(now.plus(waited))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: i64 = 1_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(START + seconds)
    }

    fn quick(count: u32, began: i64) -> Failures {
        Failures {
            count,
            began: at(began),
            longest: Duration::from_millis(SLOW_SECONDS * 1000 - 1),
            last_error: LastError::Status(500),
        }
    }

    #[test]
    fn breaker_opens_after_ten_failures_that_span_thirty_seconds() {
        let one = Health::default().record_failures(quick(1, 0), at(0));
        assert_eq!(one.state(at(1)), BreakerState::Closed);
        let short = one.record_failures(quick(50, 5), at(29));
        assert_eq!(short.state(at(29)), BreakerState::Closed, "a short outage");
        let few = one.record_failures(quick(8, 5), at(300));
        assert_eq!(few.state(at(300)), BreakerState::Closed, "too few");
        let open = few.record_failures(quick(1, 300), at(301));
        assert_eq!(open.state(at(302)), BreakerState::Open(at(361)));
        assert_eq!(open.state(at(361)), BreakerState::HalfOpen);
    }

    #[test]
    fn breaker_opens_after_three_failures_when_the_last_is_slow() {
        let slow =
            |count| Failures { longest: Duration::from_secs(SLOW_SECONDS), ..quick(count, 0) };
        let two = Health::default().record_failures(slow(2), at(10));
        assert_eq!(two.state(at(10)), BreakerState::Closed, "too few");
        assert_eq!(
            two.record_failures(quick(1, 5), at(11)).state(at(11)),
            BreakerState::Closed,
            "a quick one"
        );
        assert_eq!(two.record_failures(slow(1), at(11)).state(at(11)), BreakerState::Open(at(71)));
        let together = slow(2).and(quick(1, -5));
        assert_eq!((together.count, together.began), (3, at(-5)));
        assert_eq!(
            Health::default().record_failures(together, at(11)).state(at(11)),
            BreakerState::Open(at(71))
        );
    }

    #[test]
    fn failed_probe_opens_the_breaker_again_for_twice_as_long() {
        let mut health = Health::default().record_failures(quick(10, 0), at(30));
        let mut now = 30;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let BreakerState::Open(until) = health.state(at(now)) else { panic!("not open") };
            pauses.push(until.seconds() - at(now).seconds());
            now = until.seconds() - START;
            assert_eq!(health.state(at(now)), BreakerState::HalfOpen);
            let claimed = health.with_probe_claimed(at(now));
            assert!(matches!(claimed.state(at(now)), BreakerState::Open(_)), "others stay away");
            health = claimed.record_failures(quick(1, now), at(now));
        }
        assert_eq!(pauses, [60, 90, 180, 360, 720, 1440, 2880, 3600, 3600]);
    }

    #[test]
    fn successful_test_half_opens_an_open_breaker_and_never_closes_it() {
        let open = Health::default().record_failures(quick(10, 0), at(30));
        let tested = open.after_successful_test(at(40));
        assert_eq!(tested.state(at(40)), BreakerState::HalfOpen);
        assert_eq!(Health { open_until: open.open_until, ..tested }, open);
        assert_eq!(tested.after_successful_test(at(50)), tested);
        let closed = Health::default().record_failures(quick(1, 0), at(0));
        assert_eq!(closed.after_successful_test(at(40)), closed);
    }

    #[test]
    fn five_days_of_failures_without_a_success_disable() {
        let health = Health::default().record_failures(quick(1, 0), at(0));
        let days = i64::try_from(DISABLE_AFTER_SECONDS).unwrap();
        assert!(!health.should_disable(at(days - 1)));
        assert!(health.should_disable(at(days)));
        assert!(!Health::default().should_disable(at(days)));
    }

    #[test]
    fn endpoint_is_quick_after_a_quick_answer_until_three_slow_attempts() {
        let new = Health::default();
        assert!(!new.is_quick());
        assert!(!new.record_speed(1, true).is_quick(), "quick and slow in one batch");
        let quick = new.record_speed(0, true);
        assert!(quick.is_quick());
        assert_eq!(quick.record_speed(0, true), quick, "nothing to write");
        assert_eq!(quick.record_speed(0, false), quick, "a reset is neither");
        let slow = quick.record_speed(1, false).record_speed(1, true);
        assert!(slow.is_quick());
        let slow = slow.record_speed(1, false);
        assert!(!slow.is_quick());
        assert!(slow.record_speed(0, true).is_quick(), "just below the limit");
        let worst = quick.record_speed(u32::MAX, false);
        let again = |answers| (0..answers).fold(worst, |health, _| health.record_speed(0, true));
        assert!(!again(SLOWNESS_MAX - SLOW_FROM).is_quick());
        assert!(again(SLOWNESS_MAX - SLOW_FROM + 1).is_quick());
    }

    proptest! {
        #[test]
        fn parked_delivery_waits_at_least_until_the_breaker_is_half_open(
            created in 0..1_000_000i64, waited in 0..1_000_000i64, open in 1..4000i64,
        ) {
            let now = at(created + waited);
            let open_until = at(created + waited + open);
            let until = park_until(at(created), open_until, now);
            prop_assert!(until >= open_until);
            prop_assert!(now.until(until) <= Duration::from_secs(PARK_MAX_SECONDS));
        }
    }
}
