//! Figures, targets, and how they are shown.

use std::time::Duration;

use webhooks_local::table::lay_out;

/// A figure that has a target.
pub(crate) struct Check {
    what: String,
    measured: f64,
    target: Target,
    unit: &'static str,
}

enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Check {
    /// A figure that may be as high as `limit`.
    pub(crate) fn at_most(limit: f64, what: &str, measured: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), measured, target: Target::AtMost(limit), unit }
    }

    /// A figure that may be as low as `limit`.
    pub(crate) fn at_least(limit: f64, what: &str, measured: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), measured, target: Target::AtLeast(limit), unit }
    }

    /// Whether the target is met. What could not be measured is not a number and meets none.
    pub(crate) fn is_met(&self) -> bool {
        match self.target {
            Target::AtMost(limit) => self.measured <= limit,
            Target::AtLeast(limit) => self.measured >= limit,
        }
    }

    fn row(&self) -> Vec<String> {
        let target = match self.target {
            Target::AtMost(limit) => format!("≤ {limit}"),
            Target::AtLeast(limit) => format!("≥ {limit}"),
        };
        let met = if self.is_met() { "met" } else { "MISSED" };
        let (measured, unit) = (format!("{:.2}", self.measured), self.unit.to_owned());
        vec![self.what.clone(), measured, target, unit, met.to_owned()]
    }
}

/// The targets as a table.
pub(crate) fn targets(checks: &[Check]) -> String {
    let rows: Vec<_> = checks.iter().map(Check::row).collect();
    lay_out(&["target of", "measured", "target", "unit", ""], &rows, &[1, 2])
}

/// Whether every target is met.
pub(crate) fn all_met(checks: &[Check]) -> bool {
    checks.iter().all(Check::is_met)
}

/// Durations from the shortest to the longest.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// The shortest one that this share of all (in per mille) does not exceed, in milliseconds; not
    /// a number when there is none.
    pub(crate) fn per_mille(&self, share: usize) -> f64 {
        let rank = (self.0.len() * share).div_ceil(1000).max(1);
        self.0.get(rank - 1).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1000.0)
    }

    /// Titles of the columns of [`Latencies::cells`].
    pub(crate) const HEADER: [&str; 5] = ["events", "p50 ms", "p90 ms", "p99 ms", "max ms"];

    /// How many they are, and how long they took.
    pub(crate) fn cells(&self) -> Vec<String> {
        let shares = [500, 900, 990, 1000].map(|share| format!("{:.1}", self.per_mille(share)));
        [self.0.len().to_string()].into_iter().chain(shares).collect()
    }
}

/// A count as a number to calculate with.
pub(crate) fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}

/// What the figures depend on: the build, and how busy the machine is already.
pub(crate) fn circumstances() -> String {
    let build = if cfg!(debug_assertions) { "DEBUG build: times mean nothing" } else { "release" };
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    // Only Linux has this file.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown");
    format!("{build}; {processors} processors; load average of the last minute {load}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_ranks() {
        let hundred = Latencies::new((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(hundred.cells(), ["100", "50.0", "90.0", "99.0", "100.0"]);
        let one = Latencies::new(vec![Duration::from_micros(1500)]);
        assert_eq!(one.cells(), ["1", "1.5", "1.5", "1.5", "1.5"]);
    }

    #[test]
    fn a_target_is_met_on_its_edge_and_never_by_what_was_not_measured() {
        assert!(Check::at_most(1.0, "", 1.0, "").is_met());
        assert!(!Check::at_most(1.0, "", 1.1, "").is_met());
        assert!(!Check::at_least(0.9, "", 0.8, "").is_met());
        assert!(!Check::at_most(60.0, "", Latencies::new(Vec::new()).per_mille(990), "").is_met());
    }
}
