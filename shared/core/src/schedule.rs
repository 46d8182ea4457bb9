//! Retry schedules: how long a delivery waits after each attempt that failed.
//!
//! The waits here are before jitter and before a receiver's `Retry-After`, which the retry policy
//! adds. Long waits are the business of whoever parks the delivery.

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::limits::{
    BACKOFF_MAX_SECONDS, RETRY_COUNT_DEFAULT, SCHEDULE_TOTAL_MAX_SECONDS,
    SCHEDULE_WAIT_MAX_SECONDS, SCHEDULE_WAITS_MAX,
};

/// The waits that Standard Webhooks recommends, in seconds: about three days together.
const STANDARD_SECONDS: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// How often, and after which waits, a delivery is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetrySchedule {
    /// 2 s, 4 s, 8 s, … doubling, at most [`BACKOFF_MAX_SECONDS`].
    Exponential {
        /// Retries after the first attempt.
        retry_count: u32,
    },
    /// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
    Standard,
    /// The owner's own waits.
    Custom(Waits),
}

/// Waits within the limits: 1 to [`SCHEDULE_WAITS_MAX`], each from one second to
/// [`SCHEDULE_WAIT_MAX_SECONDS`], all together at most [`SCHEDULE_TOTAL_MAX_SECONDS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits(Vec<Duration>);

/// Why a value is not a retry schedule: the end of a sentence that begins with the field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither of the names and no list.
    #[error("must be \"exponential\", \"standard\" or a list of waits in seconds")]
    NotASchedule,
    /// Too few or too many waits.
    #[error("must have 1 to {SCHEDULE_WAITS_MAX} waits")]
    WaitCount,
    /// One of the waits is out of range; the index counts from 0.
    #[error(
        "must have waits that are whole numbers of seconds from 1 to {SCHEDULE_WAIT_MAX_SECONDS}; \
         item {0} is not"
    )]
    Wait(usize),
    /// The waits together are too long.
    #[error("must have waits of at most {SCHEDULE_TOTAL_MAX_SECONDS} seconds (7 days) in all")]
    Total,
}

impl Waits {
    /// Checks the limits.
    pub fn new(waits: Vec<Duration>) -> Result<Self, ScheduleError> {
        if !(1..=SCHEDULE_WAITS_MAX).contains(&waits.len()) {
            return Err(ScheduleError::WaitCount);
        }
        let allowed = Duration::from_secs(1)..=Duration::from_secs(SCHEDULE_WAIT_MAX_SECONDS);
        let bad = |wait: &Duration| !allowed.contains(wait) || wait.subsec_nanos() != 0;
        if let Some(index) = waits.iter().position(bad) {
            return Err(ScheduleError::Wait(index));
        }
        if waits.iter().sum::<Duration>() > Duration::from_secs(SCHEDULE_TOTAL_MAX_SECONDS) {
            return Err(ScheduleError::Total);
        }
        Ok(Self(waits))
    }
}

impl Default for RetrySchedule {
    fn default() -> Self {
        Self::Exponential { retry_count: RETRY_COUNT_DEFAULT }
    }
}

impl RetrySchedule {
    /// Reads the JSON of the API and of the table. `retry_count` is that of the webhook; only
    /// `"exponential"` takes it.
    pub fn parse(value: &Value, retry_count: u32) -> Result<Self, ScheduleError> {
        match value {
            Value::String(name) if name == "exponential" => Ok(Self::Exponential { retry_count }),
            Value::String(name) if name == "standard" => Ok(Self::Standard),
            Value::Array(items) => {
                if items.len() > SCHEDULE_WAITS_MAX {
                    return Err(ScheduleError::WaitCount);
                }
                let seconds = |(index, item): (usize, &Value)| {
                    whole_seconds(item).map(Duration::from_secs).ok_or(ScheduleError::Wait(index))
                };
                let waits = items.iter().enumerate().map(seconds).collect::<Result<_, _>>()?;
                Waits::new(waits).map(Self::Custom)
            }
            _ => Err(ScheduleError::NotASchedule),
        }
    }

    /// The wait after attempt number `attempt` (from 1) has failed; nothing when that was the last.
    pub fn wait_after(&self, attempt: u32) -> Option<Duration> {
        let index = usize::try_from(attempt.checked_sub(1)?).ok()?;
        match self {
            Self::Exponential { retry_count } => (attempt <= *retry_count).then(|| {
                let seconds = 1u64.checked_shl(attempt).unwrap_or(u64::MAX);
                Duration::from_secs(seconds.min(BACKOFF_MAX_SECONDS))
            }),
            Self::Standard => STANDARD_SECONDS.get(index).copied().map(Duration::from_secs),
            Self::Custom(Waits(waits)) => waits.get(index).copied(),
        }
    }

    /// All the waits together.
    pub fn total(&self) -> Duration {
        (1..).map_while(|attempt| self.wait_after(attempt)).sum()
    }

    /// The webhook's `retry_count`, which only `"exponential"` has.
    pub fn retry_count(&self) -> Option<u32> {
        match self {
            Self::Exponential { retry_count } => Some(*retry_count),
            Self::Standard | Self::Custom(_) => None,
        }
    }
}

/// A whole number of seconds. JSON has no integer type, so `5.0` is 5.
fn whole_seconds(value: &Value) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a whole number that u64 has"
    )]
    let whole = |number: f64| number as u64;
    let is_whole = |number: &f64| number.fract() == 0.0 && (0.0..1e15).contains(number);
    value.as_u64().or_else(|| value.as_f64().filter(is_whole).map(whole))
}

impl Serialize for RetrySchedule {
    /// The JSON that [`RetrySchedule::parse`] reads.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exponential { .. } => serializer.serialize_str("exponential"),
            Self::Standard => serializer.serialize_str("standard"),
            Self::Custom(Waits(waits)) => {
                serializer.collect_seq(waits.iter().map(Duration::as_secs))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn seconds(schedule: &RetrySchedule) -> Vec<u64> {
        (1..).map_while(|attempt| schedule.wait_after(attempt)).map(|wait| wait.as_secs()).collect()
    }

    #[test]
    fn waits_are_those_of_the_contract() {
        let of = |value: Value| seconds(&RetrySchedule::parse(&value, 10).unwrap());
        assert_eq!(of(json!("exponential")), [2, 4, 8, 16, 32, 64, 128, 256, 512, 900]);
        let hour = 3_600;
        let standard =
            [5, 300, 1_800, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour];
        assert_eq!(of(json!("standard")), standard);
        assert_eq!(of(json!([1, 86_400, 1])), [1, 86_400, 1]);
        let none = RetrySchedule::Exponential { retry_count: 0 };
        assert_eq!((seconds(&none), none.wait_after(0)), (vec![], None));
    }

    #[test]
    fn invalid_schedule_is_refused_with_its_problem() {
        for (value, problem) in [
            (json!(null), "must be \"exponential\", \"standard\" or a list of waits in seconds"),
            (
                json!("Standard"),
                "must be \"exponential\", \"standard\" or a list of waits in seconds",
            ),
            (json!([]), "must have 1 to 20 waits"),
            (json!(vec![1; 21]), "must have 1 to 20 waits"),
            (
                json!([5, 0]),
                "must have waits that are whole numbers of seconds from 1 to 86400; item 1 is not",
            ),
            (
                json!([86_401]),
                "must have waits that are whole numbers of seconds from 1 to 86400; item 0 is not",
            ),
            (
                json!([1.5]),
                "must have waits that are whole numbers of seconds from 1 to 86400; item 0 is not",
            ),
            (
                json!([1, 1, "1"]),
                "must have waits that are whole numbers of seconds from 1 to 86400; item 2 is not",
            ),
            (
                json!([-1]),
                "must have waits that are whole numbers of seconds from 1 to 86400; item 0 is not",
            ),
            (
                json!([86_400, 86_400, 86_400, 86_400, 86_400, 86_400, 86_400, 1]),
                "must have waits of at most 604800 seconds (7 days) in all",
            ),
        ] {
            assert_eq!(
                RetrySchedule::parse(&value, 3).unwrap_err().to_string(),
                problem,
                "{value}"
            );
        }
        assert!(RetrySchedule::parse(&json!(vec![86_400; 7]), 3).is_ok());
        assert!(RetrySchedule::parse(&json!(vec![1; 20]), 3).is_ok());
    }

    proptest! {
        #[test]
        fn schedule_is_read_as_it_was_written(
            waits in proptest::collection::vec(1..30_000u64, 1..=20), retry_count in 0..=10u32,
        ) {
            for value in [json!(waits), json!("standard"), json!("exponential")] {
                let schedule = RetrySchedule::parse(&value, retry_count).unwrap();
                prop_assert_eq!(serde_json::to_value(&schedule).unwrap(), value);
            }
        }
    }
}
