//! Figures, their targets, and how both are shown.

use std::time::Duration;

use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

/// A figure that has a target.
pub(crate) struct Check {
    what: &'static str,
    unit: &'static str,
    measured: f64,
    target: String,
    is_met: bool,
}

impl Check {
    /// A figure that may be as high as `limit`. What is not a number meets no target.
    pub(crate) fn most(limit: f64, what: &'static str, measured: f64, unit: &'static str) -> Self {
        Self { what, unit, measured, target: format!("≤ {limit}"), is_met: measured <= limit }
    }

    /// A figure that may be as low as `limit`.
    pub(crate) fn least(limit: f64, what: &'static str, measured: f64, unit: &'static str) -> Self {
        Self { what, unit, measured, target: format!("≥ {limit}"), is_met: measured >= limit }
    }
}

/// The targets as a table, and whether every one is met.
pub(crate) fn check(checks: &[Check]) -> (String, bool) {
    let row = |check: &Check| {
        let met = if check.is_met { "met" } else { "MISSED" };
        let measured = format!("{:.2}", check.measured);
        [check.what, &measured, &check.target, check.unit, met].map(str::to_owned).to_vec()
    };
    let rows: Vec<_> = checks.iter().map(row).collect();
    let table = lay_out(&["target of", "measured", "target", "unit", ""], &rows, &[1, 2]);
    (table, checks.iter().all(|check| check.is_met))
}

/// Shows the targets; returns whether every one is met.
pub(crate) fn conclude(checks: &[Check]) -> bool {
    let (table, met) = check(checks);
    say(table);
    met
}

/// Durations from the shortest to the longest.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// The titles of [`Latencies::cells`].
    pub(crate) const HEADER: [&str; 5] = ["count", "p50 ms", "p90 ms", "p99 ms", "max ms"];

    pub(crate) fn new(durations: impl IntoIterator<Item = Duration>) -> Self {
        let mut durations: Vec<_> = durations.into_iter().collect();
        durations.sort_unstable();
        Self(durations)
    }

    /// The shortest one that `share` in a thousand do not exceed, in milliseconds; not a number
    /// if there is none.
    pub(crate) fn per_mille(&self, share: usize) -> f64 {
        let rank = (self.0.len() * share).div_ceil(1000).max(1);
        self.0.get(rank - 1).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1000.0)
    }

    pub(crate) fn cells(&self) -> Vec<String> {
        let shares = [500, 900, 990, 1000].map(|share| format!("{:.1}", self.per_mille(share)));
        [self.0.len().to_string()].into_iter().chain(shares).collect()
    }
}

/// A count as a number to calculate with.
pub(crate) fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}

/// What the times depend on: the build, and how busy the machine is already.
pub(crate) fn circumstances() -> String {
    let build = if cfg!(debug_assertions) { "DEBUG build: times mean nothing" } else { "release" };
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    // Only Linux has this file.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown");
    format!("{build}; {processors} processors, load average {load}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_ranks() {
        let hundred = Latencies::new((1..=100).rev().map(Duration::from_millis));
        assert_eq!(hundred.cells(), ["100", "50.0", "90.0", "99.0", "100.0"]);
        let one = Latencies::new([Duration::from_micros(1500)]);
        assert_eq!(one.cells(), ["1", "1.5", "1.5", "1.5", "1.5"]);
    }

    #[test]
    fn target_is_met_at_its_limit_and_not_by_nan() {
        let met = |one| check(&[one]).1;
        assert!(met(Check::most(1.0, "", 1.0, "")) && met(Check::least(0.9, "", 0.9, "")));
        assert!(!met(Check::most(1.0, "", 1.1, "")) && !met(Check::least(0.9, "", 0.8, "")));
        assert!(!met(Check::most(60.0, "", Latencies::new([]).per_mille(990), "")));
    }
}
