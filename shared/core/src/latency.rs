//! A latency histogram for the counters of one subscription and hour.
//!
//! Sixteen fixed buckets, four per decade from 10 ms to 60 s. A bucket is one number attribute of
//! the counter row, so histograms merge by the `ADD` that the row gets anyway; a bucket that counts
//! nothing is not written. All sixteen take at most 16 × (2 bytes of name + 11 of number) = 208
//! bytes, so that the row stays below the 1,024 bytes of one write unit.
//!
//! A percentile is the geometric middle of its bucket. It is wrong by at most 5 ms up to 10 ms,
//! by at most a third (factor 1.34) up to 31.6 s, and by at most a factor 1.38 from there to 60 s.

use std::time::Duration;

/// The buckets.
pub const BUCKETS: usize = 16;

/// The attribute of each bucket.
pub const ATTRIBUTES: [&str; BUCKETS] = [
    "l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9", "la", "lb", "lc", "ld", "le", "lf",
];

/// The longest latency of each bucket, in milliseconds. What takes longer than the last, which
/// `timeout_seconds` does not allow, is counted there.
const BOUNDS_MS: [u32; BUCKETS] = [
    10, 18, 32, 56, 100, 178, 316, 562, 1_000, 1_778, 3_162, 5_623, 10_000, 17_783, 31_623, 60_000,
];

/// How many latencies fell into each bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram([u64; BUCKETS]);

/// Three percentiles of the latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of the latencies are at most this long.
    pub p50: Duration,
    /// Nine in ten are.
    pub p90: Duration,
    /// Ninety-nine in a hundred are.
    pub p99: Duration,
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let bucket = BOUNDS_MS
            .iter()
            .position(|bound| latency <= Duration::from_millis(u64::from(*bound)))
            .unwrap_or(BUCKETS - 1);
        self.0[bucket] += 1;
    }

    /// Adds another histogram to this one.
    pub fn merge(&mut self, other: &Self) {
        for (own, more) in self.0.iter_mut().zip(other.0) {
            *own = own.saturating_add(more);
        }
    }

    /// The latencies that were counted.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The attributes to add to the counter row: those of the buckets that count something.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ATTRIBUTES.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    /// The histogram of a counter row; `get` finds an attribute's number.
    pub fn from_attributes(mut get: impl FnMut(&str) -> Option<u64>) -> Self {
        Self(ATTRIBUTES.map(|name| get(name).unwrap_or(0)))
    }

    /// The percentiles; nothing when nothing was counted.
    pub fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            p50: self.percentile(50)?,
            p90: self.percentile(90)?,
            p99: self.percentile(99)?,
        })
    }

    /// The shortest latency that at least `percent` of a hundred do not exceed.
    fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = self.0.map(u128::from).iter().sum::<u128>() * u128::from(percent);
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += u128::from(*count);
            seen > 0 && seen * 100 >= rank
        })?;
        Some(middle(bucket))
    }
}

/// The geometric middle of a bucket, in whole milliseconds; that of the first is 5 ms.
fn middle(bucket: usize) -> Duration {
    let high = f64::from(BOUNDS_MS[bucket]);
    let low = bucket.checked_sub(1).map_or(high / 4.0, |below| f64::from(BOUNDS_MS[below]));
    Duration::from_secs_f64((low * high).sqrt().round() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(latencies_ms: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for ms in latencies_ms {
            histogram.record(Duration::from_millis(*ms));
        }
        histogram
    }

    #[test]
    fn latency_is_counted_in_the_first_bucket_that_holds_it() {
        let found = histogram(&[0, 10, 11, 60_000, 75_000]);
        let attributes: Vec<_> = found.attributes().collect();
        assert_eq!(attributes, [("l0", 2), ("l1", 1), ("lf", 2)]);
        let one_more = Duration::from_micros(10_001);
        let mut found = Histogram::default();
        found.record(one_more);
        assert_eq!(found.attributes().next(), Some(("l1", 1)));
    }

    #[test]
    fn percentiles_of_nothing_are_none() {
        assert_eq!(Histogram::default().percentiles(), None);
    }

    #[test]
    fn percentiles_of_one_latency_are_that_latency() {
        let found = histogram(&[130]).percentiles().unwrap();
        assert_eq!(found.p50, Duration::from_millis(133));
        assert_eq!((found.p90, found.p99), (found.p50, found.p50));
    }

    #[test]
    fn full_row_keeps_to_the_stated_size_and_does_not_overflow() {
        let full = Histogram([u64::MAX; BUCKETS]);
        // DynamoDB stores two digits of a number in a byte, and one byte more.
        let size = |(name, count): (&str, u64)| name.len() + count.to_string().len() / 2 + 1;
        assert_eq!(full.attributes().map(size).sum::<usize>(), 208);
        assert_eq!(full.percentiles().unwrap().p99, middle(BUCKETS - 1));
        assert_eq!(full.count(), u64::MAX);
    }

    proptest! {
        #[test]
        fn percentile_is_within_the_stated_error(
            mut latencies in proptest::collection::vec(0..60_000u64, 1..200), percent in 1..=100u64,
        ) {
            let estimate = histogram(&latencies).percentile(percent).unwrap().as_secs_f64() * 1e3;
            latencies.sort_unstable();
            let rank = (latencies.len() as u64 * percent).div_ceil(100);
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let exact = latencies[usize::try_from(rank).unwrap() - 1] as f64;
            let factor = match exact {
                ..=10.0 => {
                    prop_assert!((estimate - exact).abs() <= 5.0);
                    return Ok(());
                }
                ..=31_623.0 => 1.36,
                _ => 1.38,
            };
            prop_assert!(estimate <= exact * factor && exact <= estimate * factor);
        }

        #[test]
        fn merged_histograms_count_what_each_counted(
            one in proptest::collection::vec(0..70_000u64, 0..50),
            other in proptest::collection::vec(0..70_000u64, 0..50),
        ) {
            let mut merged = histogram(&one);
            merged.merge(&histogram(&other));
            prop_assert_eq!(merged, histogram(&[one, other].concat()));
            let row: std::collections::HashMap<_, _> = merged.attributes().collect();
            prop_assert_eq!(Histogram::from_attributes(|name| row.get(name).copied()), merged);
        }
    }
}
