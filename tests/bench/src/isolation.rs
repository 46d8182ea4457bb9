//! Promise 5: one slow or dead endpoint does not slow the others, and no user slows the others.
//!
//! One in five users is abusive: 100 webhooks each, whose endpoints are well until the second phase
//! and then answer 200 after 40 s or 8 s, hang, reset the connection, or answer with a body of 1 MiB.
//! Both phases run on the local system, and in the model of Lambda's pollers ([`lambda`]).

use std::time::{Duration, Instant};

use webhooks_local::queues::{DELIVERIES, SLOW_DELIVERIES};
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::harness::{Harness, LOOK_EVERY};
use crate::lambda::{self, Load};
use crate::report::{Check, Latencies, conclude, number};

const P99_RATIO: f64 = 1.2;
const THROUGHPUT_RATIO: f64 = 0.9;
/// How long after a phase its webhooks may still come in. One that does not is counted as if it had
/// come at the end of this time.
const GRACE: Duration = Duration::from_secs(15);
/// Webhooks of an abusive user.
const WEBHOOKS: u32 = 100;
/// The time between two events of one abusive user, in seconds.
const ABUSE_EVERY_SECONDS: u32 = 10;
/// What the abusive users' endpoints do, and their timeouts.
const WORST: [(&str, u32); 5] =
    [("slow", 60), ("lagging", 10), ("hanging", 10), ("resetting", 10), ("big", 10)];

/// The load, the same in both phases.
struct Bench {
    harness: Harness,
    healthy: Vec<String>,
    abusive: Vec<String>,
    rate: u32,
    seconds: u32,
}

/// What the healthy users saw of a phase.
struct Phase {
    latencies: Latencies,
    /// Webhooks a second, while events were published.
    throughput: f64,
    /// Webhooks that had not come at the end.
    missing: usize,
    /// The most messages in flight in the fast and in the slow queue.
    in_flight: [u64; 2],
}

pub(crate) async fn run(users: u32, seconds: u32, rate: u32) -> Outcome<bool> {
    let abusive = users.div_ceil(5);
    let healthy = users - abusive;
    let harness = Harness::start().await?;
    let named = |kind: &str, count| (0..count).map(|n| format!("{kind}{n}")).collect::<Vec<_>>();
    let (healthy_users, abusive_users) = (named("healthy", healthy), named("abusive", abusive));
    for user in &healthy_users {
        harness.subscribe(user, &harness.receiver.healthy(user), 10).await?;
    }
    for user in &abusive_users {
        for (number, (path, timeout)) in (0..WEBHOOKS).zip(WORST.iter().cycle()) {
            let url = harness.receiver.worst(path, &format!("{user}-{number}"));
            harness.subscribe(user, &url, *timeout).await?;
        }
    }
    let bench = Bench { harness, healthy: healthy_users, abusive: abusive_users, rate, seconds };
    // Each endpoint answers quickly before it counts.
    bench.publish("warm-up", ABUSE_EVERY_SECONDS).await?;
    let before = bench.phase("before").await?;
    bench.harness.receiver.fail();
    let after = bench.phase("after").await?;
    bench.harness.stop().await;

    say(format!(
        "{rate} events/s of {healthy} healthy users, {:.1} events/s of {abusive} abusive users with \
         {WEBHOOKS} webhooks each: {seconds} s with all endpoints well, then {seconds} s with the \
         abusive users' at their worst. What the healthy users saw on the local system:",
        f64::from(abusive) / f64::from(ABUSE_EVERY_SECONDS),
    ));
    let more = ["webhooks/s", "still missing", "in flight, fast", "slow"];
    let header = [&["phase"], &Latencies::HEADER[..], &more].concat();
    let rows = [before.row("all well"), after.row("abuse")];
    say(lay_out(&header, &rows, &[1, 2, 3, 4, 5, 6, 7, 8, 9]));
    let local = conclude(&checks(
        (&before.latencies, before.throughput),
        (&after.latencies, after.throughput),
    ));
    let staggered = tokio::task::block_in_place(|| model(healthy, abusive, false))?;
    let together = tokio::task::block_in_place(|| model(healthy, abusive, true))?;
    Ok(local && staggered && together)
}

fn checks(before: (&Latencies, f64), after: (&Latencies, f64)) -> [Check; 2] {
    let p99 = after.0.per_mille(990) / before.0.per_mille(990);
    [
        Check::most(P99_RATIO, "p99 of healthy users, abuse : all well", p99, "ratio"),
        Check::least(THROUGHPUT_RATIO, "throughput, the same", after.1 / before.1, "ratio"),
    ]
}

/// The same in the model of Lambda's pollers, for ten minutes each.
fn model(healthy: u32, abusive: u32, is_simultaneous: bool) -> Outcome<bool> {
    let every = u64::from(ABUSE_EVERY_SECONDS);
    let load = Load {
        healthy,
        abusive,
        webhooks: WEBHOOKS,
        warm_up: 60,
        seconds: 600,
        every,
        is_simultaneous,
    };
    // A runtime in another one needs a thread of its own.
    let run = std::thread::scope(|scope| scope.spawn(|| lambda::run(load)).join());
    let [before, after] = run.map_err(|_| "the model panicked".to_owned())??;
    let how = if is_simultaneous { "all at the same moment" } else { "one after the other" };
    say(format!(
        "The same in the model of Lambda's pollers, 600 s each; the abusive users publish {how}:"
    ));
    let more = ["webhooks/s", "still missing", "dispatch", "fast", "slow", "fast, one owner"];
    let header = [&["phase"], &Latencies::HEADER[..], &more].concat();
    let row = |name: &str, phase: &lambda::Phase| {
        let more = [format!("{:.1}", phase.throughput), phase.missing.to_string()];
        let most = phase.batches.iter().chain([&phase.fast_of_one_owner]).map(usize::to_string);
        let cells = phase.latencies.cells().into_iter().chain(more).chain(most);
        std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>()
    };
    let rows = [row("all well", &before), row("abuse", &after)];
    say(lay_out(&header, &rows, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]));
    Ok(conclude(&checks(
        (&before.latencies, before.throughput),
        (&after.latencies, after.throughput),
    )))
}

impl Bench {
    /// Publishes the events of both kinds of users; returns those of the healthy ones.
    async fn publish(&self, name: &str, seconds: u32) -> Outcome<Vec<crate::harness::Sent>> {
        let Self { harness, healthy, abusive, rate, .. } = self;
        // Events a second must be a whole number, and one for all of them is enough.
        let per_second =
            u32::try_from(abusive.len()).expect("the users are few").div_ceil(ABUSE_EVERY_SECONDS);
        let abuse = format!("{name}-abuse");
        let (sent, abused) = futures::future::join(
            harness.publish_steadily(name, healthy, *rate, seconds),
            harness.publish_steadily(&abuse, abusive, per_second, seconds),
        )
        .await;
        abused?;
        sent
    }

    async fn phase(&self, name: &str) -> Outcome<Phase> {
        let began = Instant::now();
        let mut in_flight = [0, 0];
        let publishing = self.publish(name, self.seconds);
        let mut publishing = std::pin::pin!(publishing);
        let sent = loop {
            tokio::select! {
                sent = &mut publishing => break sent?,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    for (queue, most) in [DELIVERIES.name, SLOW_DELIVERIES.name].iter().zip(&mut in_flight) {
                        *most = self.harness.in_flight(queue).await?.max(*most);
                    }
                }
            }
        };
        let published = Instant::now();
        let end = published + GRACE;
        let mut arrivals = self.harness.first_arrivals();
        while Instant::now() < end && sent.iter().any(|one| !arrivals.contains_key(&one.event_id)) {
            tokio::time::sleep(LOOK_EVERY).await;
            arrivals = self.harness.first_arrivals();
        }
        let at: Vec<_> = sent.iter().map(|one| arrivals.get(&one.event_id).copied()).collect();
        let took = at.iter().zip(&sent).map(|(at, one)| at.unwrap_or(end).duration_since(one.at));
        let in_time = at.iter().flatten().filter(|at| **at <= published).count();
        Ok(Phase {
            latencies: Latencies::new(took),
            throughput: number(in_time) / published.duration_since(began).as_secs_f64(),
            missing: at.iter().filter(|at| at.is_none()).count(),
            in_flight,
        })
    }
}

impl Phase {
    fn row(&self, name: &str) -> Vec<String> {
        let more = [format!("{:.1}", self.throughput), self.missing.to_string()];
        let in_flight = self.in_flight.map(|count| count.to_string());
        let cells = self.latencies.cells().into_iter().chain(more).chain(in_flight);
        std::iter::once(name.to_owned()).chain(cells).collect()
    }
}
