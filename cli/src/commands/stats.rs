//! Statistics over time, as sparklines.

use std::time::Duration;

use serde::Deserialize;
use webhooks_core::time::Timestamp;

use crate::api::{Api, read};
use crate::args::Stats;
use crate::error::Error;
use crate::output::Output;
use crate::system;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// What the API lists without `since`.
const HOURS: u32 = 24;
const DAYS: u32 = 30;
/// More do not fit a line; the newest are shown.
const WIDTH: usize = 100;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A number of a bucket.
type Value<T> = fn(&Bucket) -> T;

#[derive(Deserialize)]
struct Buckets {
    items: Vec<Bucket>,
}

#[derive(Clone, Deserialize)]
struct Bucket {
    start: Timestamp,
    total: u64,
    success: u64,
    failed: u64,
    attempts: u64,
    latency_ms: Latency,
}

#[derive(Clone, Deserialize)]
struct Latency {
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
}

pub(crate) async fn stats(api: &Api, stats: Stats, out: Output) -> Result<(), Error> {
    let now = system::now();
    let (step, count) = if stats.bucket == "day" { (DAY, DAYS) } else { (HOUR, HOURS) };
    let until = stats.until.map_or(now, |until| until.at(now));
    let since = stats.since.map_or_else(|| until.minus(step * (count - 1)), |since| since.at(now));
    let (since_text, until_text) = (since.to_string(), until.to_string());
    let mut query = vec![("bucket", stats.bucket.as_str())];
    query.extend(stats.since.map(|_| ("since", since_text.as_str())));
    query.extend(stats.until.map(|_| ("until", until_text.as_str())));
    let answer = api.get(&["api", "webhooks", &stats.id, "stats"], &query).await?;
    if out.json {
        return out.line(answer);
    }
    let buckets = read::<Buckets>(&answer)?.items;
    let slots = slots(&buckets, since, until, step);
    let first = slots.first().map_or(since, |(start, _)| *start).to_string();
    out.line(format_args!("by {} from {} to {}", stats.bucket, &first[..16], &until_text[..16]))?;
    if buckets.is_empty() {
        return out.line("no deliveries");
    }
    let sum = |value: Value<u64>| buckets.iter().map(value).sum::<u64>();
    let ended = sum(|b| b.success) + sum(|b| b.failed);
    let rows: [(&str, Value<u64>, String); 4] = [
        ("deliveries", |b| b.total, String::new()),
        ("success", |b| b.success, percent(sum(|b| b.success), ended)),
        ("failed", |b| b.failed, percent(sum(|b| b.failed), ended)),
        ("attempts", |b| b.attempts, String::new()),
    ];
    for (name, value, note) in rows {
        let values = slots.iter().map(|(_, bucket)| bucket.map_or(0, value));
        let line = format!("{name:<10}  {}  {}{note}", sparkline(values), sum(value));
        out.line(line)?;
    }
    let percentiles: [(&str, Value<Option<u64>>); 3] = [
        ("p50", |b| b.latency_ms.p50),
        ("p90", |b| b.latency_ms.p90),
        ("p99", |b| b.latency_ms.p99),
    ];
    for (name, value) in percentiles {
        let values = slots.iter().map(|(_, bucket)| bucket.and_then(value).unwrap_or(0));
        let most = buckets.iter().filter_map(value).max();
        let most = most.map_or_else(|| "-".to_owned(), |ms| format!("at most {ms} ms"));
        out.line(format_args!("{name:<10}  {}  {most}", sparkline(values)))?;
    }
    Ok(())
}

/// Every bucket of the range, also those that the answer leaves out because they count nothing.
fn slots(
    buckets: &[Bucket],
    since: Timestamp,
    until: Timestamp,
    step: Duration,
) -> Vec<(Timestamp, Option<&Bucket>)> {
    let step_millis = i64::try_from(step.as_millis()).expect("a day is short");
    let start_of = |moment: Timestamp| moment.millis() / step_millis;
    let first = buckets.first().map_or(since, |bucket| bucket.start.min(since));
    let last = buckets.last().map_or(until, |bucket| bucket.start.max(until));
    let numbers = start_of(first)..=start_of(last);
    let skipped = usize::try_from(numbers.end() - numbers.start())
        .unwrap_or_default()
        .saturating_sub(WIDTH - 1);
    let slot = |number: i64| {
        let start = Timestamp::from_millis(number * step_millis);
        (start, buckets.iter().find(|bucket| start_of(bucket.start) == number))
    };
    numbers.skip(skipped).map(slot).collect()
}

/// One character for each value, as high as the value is beside the greatest one. Zero is a space.
fn sparkline(values: impl Iterator<Item = u64> + Clone) -> String {
    let greatest = values.clone().max().unwrap_or_default();
    let bar = |value: u64| match value {
        0 => ' ',
        value => {
            let level = u128::from(value) * 7 / u128::from(greatest);
            BARS[usize::try_from(level).expect("it is at most 7")]
        }
    };
    values.map(bar).collect()
}

/// With one digit after the point, rounded down, so that 100 % means all.
fn percent(part: u64, whole: u64) -> String {
    let Some(permille) = (u128::from(part) * 1000).checked_div(whole.into()) else {
        return String::new();
    };
    format!(" ({}.{} %)", permille / 10, permille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(hour: u64) -> Bucket {
        let latency_ms = Latency { p50: None, p90: None, p99: None };
        let start = Timestamp::EPOCH.plus(HOUR * u32::try_from(hour).unwrap());
        Bucket { start, total: hour, success: 0, failed: 0, attempts: 0, latency_ms }
    }

    #[test]
    fn sparkline_is_scaled_to_the_greatest_value() {
        assert_eq!(sparkline([0, 1, 4, 7].into_iter()), " ▂▅█");
        assert_eq!(sparkline([1, u64::MAX].into_iter()), "▁█");
        assert_eq!(sparkline([0, 0].into_iter()), "  ");
        assert_eq!(sparkline([].into_iter()), "");
    }

    #[test]
    fn hours_without_a_bucket_are_in_the_line() {
        let at = |hours: u32| Timestamp::EPOCH.plus(HOUR * hours);
        let buckets = [bucket(3), bucket(5)];
        let slots = slots(&buckets, at(2), at(6), HOUR);
        let totals: Vec<_> = slots.iter().map(|(_, b)| b.map_or(0, |b| b.total)).collect();
        assert_eq!(totals, [0, 3, 0, 5, 0]);
        assert_eq!(super::slots(&buckets, at(0), at(1_000), HOUR).len(), WIDTH);
    }

    #[test]
    fn percentage_is_rounded_down() {
        assert_eq!(percent(999_999, 1_000_000), " (99.9 %)");
        assert_eq!(percent(0, 0), "");
    }
}
