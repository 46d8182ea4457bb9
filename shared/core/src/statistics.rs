//! Counters of deliveries, per subscription and hour.
//!
//! A delivery is counted in the hour its event happened: once when its record is first written
//! (`total`), once when it ends (`success` or `failed`). So the three numbers of an hour belong to
//! the same deliveries, and what is neither is held (`held`) or still retrying. The counters are added after the
//! records they count were written, and an addition whose response is lost is not repeated. So a crash or a
//! failed request leaves them too low, never too high. What may have been missed is counted again: the hour
//! is put into the due index, and the retry function replaces its counters by those of its records.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::delivery::{Attempt, Delivery, Status};
use crate::ids::SubscriptionId;
use crate::latency::Histogram;
use crate::ports::{Statistics, StoreError};
use crate::time::Timestamp;

/// What is added to the counters of one hour, or is in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Deliveries whose record was first written.
    pub total: u64,
    /// Deliveries that ended with a 2xx.
    pub success: u64,
    /// Deliveries that ended without.
    pub failed: u64,
    /// Deliveries that became held, less those that no longer are.
    pub held: i64,
    /// Attempts of these deliveries.
    pub attempts: u64,
    /// How long the receiver took to respond in each attempt that got a response.
    pub latency: Histogram,
}

impl Counts {
    /// Adds others to these.
    pub fn add(&mut self, other: Self) {
        self.total += other.total;
        self.success += other.success;
        self.failed += other.failed;
        self.held += other.held;
        self.attempts += other.attempts;
        self.latency.merge(&other.latency);
    }

    /// What a record adds to the counters from its first write to its last.
    pub fn of(delivery: &Delivery) -> Self {
        let mut counts = Self {
            total: 1,
            success: (delivery.status == Status::Success).into(),
            failed: (delivery.status == Status::Failed).into(),
            held: (delivery.status == Status::Held).into(),
            ..Self::default()
        };
        for attempt in &delivery.attempts {
            counts.add_attempt(attempt);
        }
        counts
    }

    /// Adds the last attempt of a delivery.
    pub fn add_last_attempt(&mut self, delivery: &Delivery) {
        if let Some(attempt) = delivery.attempts.last() {
            self.add_attempt(attempt);
        }
    }

    fn add_attempt(&mut self, attempt: &Attempt) {
        self.attempts += 1;
        if attempt.response_status.is_some() {
            self.latency.record(Duration::from_millis(attempt.duration_ms));
        }
    }

    /// Deliveries that are held.
    pub fn held(&self) -> u64 {
        // An addition that was lost may be the one that made a delivery held.
        u64::try_from(self.held).unwrap_or(0)
    }

    /// Deliveries that have not ended and are not held.
    pub fn retrying(&self) -> u64 {
        self.total.saturating_sub(self.success + self.failed + self.held())
    }

    /// The share of successes among the deliveries that have ended, 0–100 to two decimals;
    /// nothing while none has.
    pub fn success_rate(&self) -> Option<f64> {
        let ended = self.success + self.failed;
        // Counters stay far below the 2^53 that a float holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        (ended > 0).then(|| (self.success as f64 * 10_000.0 / ended as f64).round() / 100.0)
    }
}

/// What one batch adds to the counters of one subscription and hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// What is added.
    pub counts: Counts,
    /// The last attempt that is counted.
    pub last_attempt_at: Timestamp,
    /// When the row may be deleted.
    pub expires_at: Timestamp,
    /// When the records of the hour are to be counted again, because something may have been missed.
    pub recount_at: Option<Timestamp>,
}

/// How long after something may have been missed the records of its hour are counted again, in seconds.
pub const RECOUNT_AFTER_SECONDS: u64 = 150;

/// Adds to the counters of an hour. When the request fails, it puts the hour into the due index.
pub async fn add_or_recount(
    statistics: &dyn Statistics,
    subscription_id: &SubscriptionId,
    hour: Timestamp,
    addition: Addition,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Err(error) = statistics.count(subscription_id, hour, &addition).await else {
        return Ok(());
    };
    let recount_at = Some(now.plus_seconds(RECOUNT_AFTER_SECONDS));
    let nothing = Addition { counts: Counts::default(), recount_at, ..addition };
    statistics.count(subscription_id, hour, &nothing).await.map_err(|_| error)
}

/// How long the buckets of a series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// An hour.
    Hour,
    /// A day of UTC.
    Day,
}

impl Bucket {
    /// The start of the bucket that a moment lies in.
    pub fn start(self, moment: Timestamp) -> Timestamp {
        match self {
            Self::Hour => moment.hour(),
            Self::Day => {
                let length = i64::try_from(DAY.as_millis()).expect("a day is short");
                Timestamp::from_millis(moment.millis().div_euclid(length) * length)
            }
        }
    }
}

const DAY: Duration = Duration::from_hours(24);

/// The counters of each bucket that has any, oldest first.
pub fn series(hours: &[HourCounts], bucket: Bucket) -> BTreeMap<Timestamp, Counts> {
    let mut series: BTreeMap<Timestamp, Counts> = BTreeMap::new();
    for hour in hours {
        series.entry(bucket.start(hour.hour)).or_default().add(hour.counts);
    }
    series
}

/// The counters of one subscription in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourCounts {
    /// The start of the hour.
    pub hour: Timestamp,
    /// The counters.
    pub counts: Counts,
    /// The last attempt that was counted here.
    pub last_attempt_at: Timestamp,
    /// How many additions were made. It tells whether the counters have changed.
    pub additions: u64,
}

/// The counters of one subscription over the retention time, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// The sums.
    pub counts: Counts,
    /// The last attempt.
    pub last_delivery_at: Option<Timestamp>,
}

impl Totals {
    /// Adds the hours up.
    pub fn of(hours: &[HourCounts]) -> Self {
        let mut all = Self::default();
        for hour in hours {
            all.counts.add(hour.counts);
            all.last_delivery_at = all.last_delivery_at.max(Some(hour.last_attempt_at));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_add_up() {
        let hour = |n: i64, success, failed| HourCounts {
            hour: Timestamp::from_seconds(n * 3600),
            counts: Counts { total: 4, success, failed, ..Counts::default() },
            last_attempt_at: Timestamp::from_seconds(n * 3600 + 5),
            additions: 1,
        };
        let all = Totals::of(&[hour(2, 3, 0), hour(1, 1, 2)]);
        assert_eq!(all.counts, Counts { total: 8, success: 4, failed: 2, ..Counts::default() });
        assert_eq!(all.counts.retrying(), 2);
        assert_eq!(all.counts.success_rate(), Some(66.67));
        assert_eq!(all.last_delivery_at, Some(Timestamp::from_seconds(7205)));
        assert_eq!(Totals::of(&[]).counts.success_rate(), None);
    }

    #[test]
    fn series_sums_the_hours_of_each_day() {
        let hour = |n: i64| HourCounts {
            hour: Timestamp::from_seconds(n * 3600),
            counts: Counts { total: 1, attempts: 2, ..Counts::default() },
            last_attempt_at: Timestamp::EPOCH,
            additions: 1,
        };
        let hours = [hour(47), hour(24), hour(23)];
        let of = |bucket| {
            let series = series(&hours, bucket);
            series
                .iter()
                .map(|(at, counts)| (at.seconds() / 3600, counts.total))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Bucket::Hour), [(23, 1), (24, 1), (47, 1)]);
        assert_eq!(of(Bucket::Day), [(0, 1), (24, 2)]);
    }
}
