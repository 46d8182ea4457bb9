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
use crate::failure_class::FailureClass;
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
/// An attempt that takes at least this long is slow, whether it succeeds or fails, in seconds.
pub const SLOW_SECONDS: u64 = 5;
/// How long an endpoint counts as slow after a slow attempt, in seconds. Doubles with each period.
pub const SLOW_PERIOD_SECONDS: u64 = 600;
/// The longest of these periods, in seconds. An endpoint that was not slow for so long after a period
/// starts anew with [`SLOW_PERIOD_SECONDS`].
pub const SLOW_PERIOD_MAX_SECONDS: u64 = 24 * 3_600;
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
    /// Whether it has ever succeeded in less than [`SLOW_SECONDS`].
    pub proven: bool,
    /// The periods in which it was slow, one soon after the other.
    pub slow_periods: u32,
    /// Until when it counts as slow.
    pub slow_until: Option<Timestamp>,
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

impl LastError {
    /// The class of the failure; nothing for the status of a success.
    pub fn class(self) -> Option<FailureClass> {
        match self {
            Self::Status(status) => FailureClass::of_status(status),
            Self::NoResponse(failure) => Some(failure.into()),
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
        self.half_opened(now)
    }

    /// The health with a breaker that is half open instead of open.
    #[must_use]
    pub fn half_opened(self, now: Timestamp) -> Self {
        Self { open_until: self.open_until.map(|until| until.min(now)), ..self }
    }

    /// The health of an endpoint about which nothing is known but how slow the owner's were before: a
    /// new URL must not take an endpoint that hangs back to the quick ones.
    #[must_use]
    pub fn started_anew(self) -> Self {
        Self { slow_periods: self.slow_periods, slow_until: self.slow_until, ..Self::default() }
    }

    /// The health after a success, which ends what failed before it.
    #[must_use]
    pub fn record_success(self) -> Self {
        Self { proven: self.proven, ..self.started_anew() }
    }

    /// The health after a success that took less than [`SLOW_SECONDS`].
    #[must_use]
    pub fn record_quick_success(self) -> Self {
        Self { proven: true, ..self }
    }

    /// The health when an attempt has taken [`SLOW_SECONDS`], whether it will succeed or fail. It
    /// changes at most twice in a period, so that an endpoint that is always slow costs few writes.
    #[must_use]
    pub fn record_slow_attempt(self, now: Timestamp) -> Self {
        let forgets = Duration::from_secs(SLOW_PERIOD_MAX_SECONDS);
        let slow_periods = match self.slow_until {
            Some(until) if now < until => self.slow_periods.max(1),
            Some(until) if until.until(now) < forgets => self.slow_periods.saturating_add(1),
            Some(_) | None => 1,
        };
        let period = slow_period(slow_periods);
        if self.slow_until.is_some_and(|until| now.plus(period / 2) <= until) {
            return self;
        }
        Self { slow_periods, slow_until: Some(now.plus(period)), ..self }
    }

    /// Whether the endpoint counts as slow.
    pub fn is_slow(&self, now: Timestamp) -> bool {
        self.slow_until.is_some_and(|until| now < until)
    }

    /// Whether the endpoint is known to succeed quickly.
    pub fn is_quick(&self, now: Timestamp) -> bool {
        self.proven && !self.is_slow(now)
    }

    /// Whether it has failed for so long that the subscription is to be disabled.
    pub fn should_disable(&self, now: Timestamp) -> bool {
        self.failing_since
            .is_some_and(|since| since.until(now) >= Duration::from_secs(DISABLE_AFTER_SECONDS))
    }
}

/// How long the endpoint counts as slow in the period of this number, from 1.
fn slow_period(number: u32) -> Duration {
    let doublings = number.saturating_sub(1).min(16);
    let seconds = SLOW_PERIOD_SECONDS << doublings;
    Duration::from_secs(seconds.min(SLOW_PERIOD_MAX_SECONDS))
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
    fn endpoint_is_quick_after_a_quick_success_until_a_slow_attempt() {
        let after = |seconds| at(0).plus_seconds(seconds);
        let new = Health::default();
        assert!(!new.is_quick(at(0)));
        let quick = new.record_quick_success();
        assert!(quick.is_quick(at(0)));
        assert_eq!(quick.record_quick_success(), quick, "nothing to write");
        let slow = quick.record_slow_attempt(at(0));
        assert!(!slow.is_quick(at(0)));
        assert_eq!(
            slow.record_slow_attempt(after(SLOW_PERIOD_SECONDS / 2)),
            slow,
            "nothing to write"
        );
        let extended = slow.record_slow_attempt(after(SLOW_PERIOD_SECONDS / 2 + 1));
        assert_eq!(extended.slow_periods, 1);
        assert!(extended.is_slow(after(SLOW_PERIOD_SECONDS + 1)));
        assert!(slow.is_quick(after(SLOW_PERIOD_SECONDS)));
    }

    #[test]
    fn slow_period_doubles_up_to_a_day_and_is_forgotten_after_a_day() {
        let mut health = Health::default().record_quick_success();
        let mut now = at(0);
        let mut periods = Vec::new();
        for _ in 0..10 {
            health = health.record_slow_attempt(now);
            let until = health.slow_until.unwrap();
            periods.push(now.until(until).as_secs() / 60);
            // A success, a new URL or an activation in between does not shorten the next one.
            health = health.record_success().record_quick_success();
            now = until;
        }
        assert_eq!(periods, [10, 20, 40, 80, 160, 320, 640, 1_280, 1_440, 1_440]);
        let later = now.plus_seconds(SLOW_PERIOD_MAX_SECONDS);
        assert_eq!(health.record_slow_attempt(later).slow_periods, 1);
        assert_eq!(health.started_anew().slow_periods, health.slow_periods);
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
