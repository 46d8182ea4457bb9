//! Schedules, as EventBridge Scheduler runs them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use webhooks_core::ports::Clock;
use webhooks_core::time::Timestamp;

/// A fixed schedule: `offset` after each whole multiple of `every` since the epoch, in UTC.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The time between two runs.
    pub every: Duration,
    /// When in that time it runs.
    pub offset: Duration,
}

/// How often the clock is read: it may jump, and it continues while a laptop sleeps.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

impl Schedule {
    /// Reads an expression of EventBridge Scheduler: a rate such as `rate(5 minutes)`, or a time of day
    /// such as `cron(0 2 * * ? *)`; `None` for any other.
    pub fn parse(expression: &str) -> Option<Self> {
        let (kind, fields) = expression.strip_suffix(')')?.split_once('(')?;
        let fields: Vec<&str> = fields.split(' ').collect();
        match (kind, &fields[..]) {
            ("rate", [count, unit]) => {
                let count = count.parse().ok().filter(|count| *count > 0)?;
                let every = match unit.trim_end_matches('s') {
                    "minute" => Duration::from_mins(count),
                    "hour" => Duration::from_hours(count),
                    "day" => Duration::from_hours(24 * count),
                    _ => return None,
                };
                Some(Self { every, offset: Duration::ZERO })
            }
            ("cron", [minute, hour, "*", "*", "?", "*"]) => {
                let offset = Duration::from_hours(hour.parse().ok()?)
                    + Duration::from_mins(minute.parse().ok()?);
                Some(Self { every: Duration::from_hours(24), offset })
            }
            _ => None,
        }
    }

    /// The first run after `now`.
    pub fn next(self, now: Timestamp) -> Timestamp {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let (every, offset) = (millis(self.every), millis(self.offset));
        let runs = (now.millis() - offset).div_euclid(every);
        Timestamp::from_millis((runs + 1) * every + offset)
    }

    /// Runs `act` at each time of the schedule; never returns. Missed runs are made up for once.
    pub async fn run<F: Future<Output = ()>>(
        self,
        clock: Arc<dyn Clock>,
        mut act: impl FnMut() -> F,
    ) {
        let mut next = self.next(clock.now());
        loop {
            tokio::time::sleep(clock.now().until(next).min(CHECK_INTERVAL)).await;
            if clock.now() >= next {
                act().await;
                next = self.next(clock.now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, now: &str) -> String {
        let schedule = Schedule::parse(expression).unwrap();
        schedule.next(Timestamp::parse(now).unwrap()).to_string()
    }

    #[test]
    fn other_expressions_are_refused() {
        for expression in
            ["", "rate(5)", "rate(0 minutes)", "rate(5 weeks)", "cron(0 2 1 * ? *)", "at(x)"]
        {
            assert!(Schedule::parse(expression).is_none(), "{expression}");
        }
    }

    #[test]
    fn next_run_is_after_now() {
        const RETRY: &str = "rate(5 minutes)";
        const CLEANUP: &str = "cron(0 2 * * ? *)";
        assert_eq!(next(RETRY, "2026-01-31T09:30:00Z"), "2026-01-31T09:35:00.000Z");
        assert_eq!(next(RETRY, "2026-01-31T23:59:59.999Z"), "2026-02-01T00:00:00.000Z");
        assert_eq!(next(CLEANUP, "2026-01-31T01:59:59.999Z"), "2026-01-31T02:00:00.000Z");
        assert_eq!(next(CLEANUP, "2026-01-31T02:00:00Z"), "2026-02-01T02:00:00.000Z");
        assert_eq!(next(CLEANUP, "1970-01-01T00:00:00Z"), "1970-01-01T02:00:00.000Z");
    }

    #[tokio::test(start_paused = true)]
    async fn each_time_runs_once() {
        struct TokioClock(tokio::time::Instant);
        impl Clock for TokioClock {
            fn now(&self) -> Timestamp {
                Timestamp::from_seconds(1_800_000_000).plus(self.0.elapsed())
            }
        }
        let runs = std::cell::Cell::new(0);
        let clock = Arc::new(TokioClock(tokio::time::Instant::now()));
        let schedule = Schedule::parse("rate(5 minutes)").unwrap();
        let running = schedule.run(clock, || {
            runs.set(runs.get() + 1);
            async {}
        });
        let _ = tokio::time::timeout(Duration::from_secs(3601), running).await;
        assert_eq!(runs.get(), 12);
    }
}
