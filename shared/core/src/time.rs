//! Moments, as milliseconds since the Unix epoch, in UTC.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The last millisecond of the year 9999, the last that RFC 3339 can write.
const MAX_MILLIS: i64 = 253_402_300_799_999;

/// A moment in UTC, exact to the millisecond, from the Unix epoch to the end of the year 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// A moment by its milliseconds since the Unix epoch; what lies outside the range is clamped.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, MAX_MILLIS))
    }

    /// A moment by its seconds since the Unix epoch; what lies outside the range is clamped.
    pub fn from_seconds(seconds: i64) -> Self {
        Self::from_millis(seconds.saturating_mul(1000))
    }

    /// A moment of the system's clock, where it lies in the range.
    pub fn from_system_time(moment: SystemTime) -> Option<Self> {
        let since = moment.duration_since(UNIX_EPOCH).ok()?;
        let millis = i64::try_from(since.as_millis()).ok()?;
        (millis <= MAX_MILLIS).then_some(Self(millis))
    }

    /// Reads an RFC 3339 date and time with any offset; finer than a millisecond is cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let millis = i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok()?;
        (0..=MAX_MILLIS).contains(&millis).then_some(Self(millis))
    }

    /// Reads an RFC 3339 date and time; one before the Unix epoch is the epoch, and one after the last
    /// moment is that moment. A limit of a range means the same then.
    pub fn parse_nearest(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        let nearest = millis.clamp(0, MAX_MILLIS.into());
        Some(Self(i64::try_from(nearest).expect("it is between two values of this type")))
    }

    /// Milliseconds since the Unix epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub fn seconds(self) -> i64 {
        self.0 / 1000
    }

    /// This moment and `duration` more.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(MAX_MILLIS);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This moment and `seconds` more.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        self.plus(Duration::from_secs(seconds))
    }

    /// This moment and `duration` less.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(MAX_MILLIS);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// How long from this moment until `later`; nothing when it lies in the past.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.0 - self.0).unwrap_or(0))
    }

    /// The UTC day this moment lies in, counted from the Unix epoch.
    pub fn day(self) -> i64 {
        self.0 / 86_400_000
    }

    /// How long until the next UTC day begins.
    pub fn until_next_day(self) -> Duration {
        self.until(Self((self.day() + 1) * 86_400_000))
    }

    /// The start of the UTC hour this moment lies in.
    #[must_use]
    pub fn hour(self) -> Self {
        Self(self.0 - self.0 % 3_600_000)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, always with three digits of milliseconds: `2026-01-31T09:30:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp(self.seconds()).map_err(|_| fmt::Error)?;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            moment.year(),
            u8::from(moment.month()),
            moment.day(),
            moment.hour(),
            moment.minute(),
            moment.second(),
            self.0 % 1000
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("must be an RFC 3339 date and time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_are_turned_to_utc() {
        let parsed = Timestamp::parse("2026-01-31T10:30:00.1239+01:00").unwrap();
        assert_eq!(parsed.to_string(), "2026-01-31T09:30:00.123Z");
    }

    #[test]
    fn invalid_timestamps_are_refused() {
        for bad in [
            "",
            "2026-01-31",
            "2026-01-31 10:30",
            "1969-12-31T23:59:59Z",
            "yesterday",
            "1700000000",
        ] {
            assert_eq!(Timestamp::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn written_and_read_again_is_the_same(millis in 0..=MAX_MILLIS) {
            let moment = Timestamp::from_millis(millis);
            prop_assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
        }
    }
}
