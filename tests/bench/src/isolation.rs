//! Promise 5: one slow or dead endpoint does not slow the others.

use std::time::{Duration, Instant};

use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::harness::{Harness, LOOK_EVERY};
use crate::report::{Check, Latencies, conclude, number};

/// Events are sent for so long before it counts, so that every connection is open.
const WARM_UP_SECONDS: u32 = 2;
const P99_RATIO: f64 = 1.2;
const THROUGHPUT_RATIO: f64 = 0.9;
/// How long after a phase its webhooks may still come in. One that does not is counted as if it had
/// come at the end of this time.
const GRACE: Duration = Duration::from_secs(15);

/// The load, the same in both phases.
struct Load {
    harness: Harness,
    /// The owners of the endpoints that are made sick, then those of the others.
    users: Vec<String>,
    sick: usize,
    rate: u32,
    seconds: u32,
}

/// What the endpoints that stay healthy saw of a phase.
struct Phase {
    latencies: Latencies,
    /// Webhooks a second, while events were published.
    throughput: f64,
    /// Webhooks that had not come at the end.
    missing: usize,
}

pub(crate) async fn run(endpoints: u32, seconds: u32, rate: u32) -> Outcome<bool> {
    let harness = Harness::start().await?;
    let (hang, reset) = (endpoints.div_ceil(5), endpoints.div_ceil(100));
    let users: Vec<_> = (0..endpoints).map(|number| format!("u{number}")).collect();
    for (number, user) in (0..).zip(&users) {
        let url = match number {
            _ if number < hang => harness.receiver.hanging(user),
            _ if number < hang + reset => harness.receiver.resetting(user),
            _ => harness.receiver.healthy(user),
        };
        harness.subscribe(user, &url).await?;
    }
    harness.publish_steadily("warm-up", &users, rate, WARM_UP_SECONDS).await?;
    let load = Load { harness, users, sick: (hang + reset) as usize, rate, seconds };
    let before = load.phase("before").await?;
    load.harness.receiver.fail();
    let after = load.phase("after").await?;
    load.harness.stop().await;

    say(format!(
        "{rate} events/s over {endpoints} endpoints: {seconds} s with all of them healthy, then \
         {seconds} s with {hang} hanging and {reset} resetting. What the {} others saw:",
        endpoints - hang - reset
    ));
    let header = [&["phase"], &Latencies::HEADER[..], &["webhooks/s", "still missing"]].concat();
    let rows = [before.row("all healthy"), after.row("some sick")];
    say(lay_out(&header, &rows, &[1, 2, 3, 4, 5, 6, 7]));
    let p99 = after.latencies.per_mille(990) / before.latencies.per_mille(990);
    let throughput = after.throughput / before.throughput;
    Ok(conclude(&[
        Check::most(P99_RATIO, "p99, some sick : all healthy", p99, "ratio"),
        Check::least(THROUGHPUT_RATIO, "throughput, the same", throughput, "ratio"),
    ]))
}

impl Load {
    async fn phase(&self, name: &str) -> Outcome<Phase> {
        let Self { harness, users, rate, seconds, .. } = self;
        let began = Instant::now();
        let mut sent = harness.publish_steadily(name, users, *rate, *seconds).await?;
        let published = Instant::now();
        sent.retain(|sent| sent.number % users.len() >= self.sick);

        let end = published + GRACE;
        let mut arrivals = harness.first_arrivals();
        while Instant::now() < end && sent.iter().any(|one| !arrivals.contains_key(&one.event_id)) {
            tokio::time::sleep(LOOK_EVERY).await;
            arrivals = harness.first_arrivals();
        }
        let at: Vec<_> = sent.iter().map(|one| arrivals.get(&one.event_id).copied()).collect();
        let took = at.iter().zip(&sent).map(|(at, one)| at.unwrap_or(end).duration_since(one.at));
        let in_time = at.iter().flatten().filter(|at| **at <= published).count();
        Ok(Phase {
            latencies: Latencies::new(took),
            throughput: number(in_time) / published.duration_since(began).as_secs_f64(),
            missing: at.iter().filter(|at| at.is_none()).count(),
        })
    }
}

impl Phase {
    fn row(&self, name: &str) -> Vec<String> {
        let more = [format!("{:.1}", self.throughput), self.missing.to_string()];
        [name.to_owned()].into_iter().chain(self.latencies.cells()).chain(more).collect()
    }
}
