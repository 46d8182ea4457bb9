//! Promise 5: one slow or dead endpoint does not slow the others.

use std::time::{Duration, Instant};

use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;
use webhooks_testing::FakeReceiver;
use webhooks_testing::receiver::Reply;

use crate::Outcome;
use crate::report::{Check, Latencies, all_met, number, targets};
use crate::world::{World, text};

const P99_RATIO: f64 = 1.2;
const THROUGHPUT_RATIO: f64 = 0.9;
/// Events that are sent before it counts, so that every connection stands.
const WARM_UP_SECONDS: u32 = 2;
/// How long after a phase its events may still come in. One that does not is counted as if it had
/// come at the end of this time.
const GRACE: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The endpoints: first those that hang, then those that reset, then the healthy ones.
struct Endpoints {
    users: Vec<String>,
    sick: usize,
}

/// What the endpoints that stay healthy saw of a phase.
struct Phase {
    latencies: Latencies,
    /// Webhooks a second, while events were published.
    throughput: f64,
    /// Events that had not come at the end.
    missing: usize,
}

pub(crate) async fn run(endpoints: u32, seconds: u32, rate: u32) -> Outcome<bool> {
    let world = World::start().await?;
    let resetting = FakeReceiver::start().await.map_err(text)?;
    let (hang, reset) = (endpoints.div_ceil(5), endpoints.div_ceil(100));
    let mut users = Vec::new();
    for number in 0..endpoints {
        let name = format!("u{number}");
        let url = match number {
            number if number < hang => world.receiver.hanging(&name),
            number if number < hang + reset => resetting.url("/"),
            _ => world.receiver.healthy(&name),
        };
        world.subscribe(&name, &url).await?;
        users.push(name);
    }
    let endpoints = Endpoints { users, sick: (hang + reset) as usize };

    world.publish_steadily("warm-up", &endpoints.users, rate, WARM_UP_SECONDS).await?;
    let well = phase(&world, &endpoints, "well", rate, seconds).await?;
    world.receiver.hang();
    resetting.otherwise(Reply::reset());
    let sick = phase(&world, &endpoints, "sick", rate, seconds).await?;
    world.stop().await;

    say(format!(
        "{rate} events/s over {} endpoints, {seconds} s with all of them healthy, {seconds} s with \
         {hang} hanging and {reset} resetting; what the {} healthy ones saw",
        endpoints.users.len(),
        endpoints.users.len() - endpoints.sick,
    ));
    let header = [&["phase"], &Latencies::HEADER[..], &["webhooks/s", "not in time"]].concat();
    let rows = [well.row("all healthy"), sick.row("some sick")];
    say(lay_out(&header, &rows, &[1, 2, 3, 4, 5, 6, 7]));
    let p99 = sick.latencies.per_mille(990) / well.latencies.per_mille(990);
    let checks = [
        Check::at_most(P99_RATIO, "p99, sick to healthy", p99, "ratio"),
        Check::at_least(
            THROUGHPUT_RATIO,
            "throughput, sick to healthy",
            sick.throughput / well.throughput,
            "ratio",
        ),
    ];
    say(targets(&checks));
    Ok(all_met(&checks))
}

impl Phase {
    fn row(&self, name: &str) -> Vec<String> {
        let mut row = vec![name.to_owned()];
        row.extend(self.latencies.cells());
        row.extend([format!("{:.1}", self.throughput), self.missing.to_string()]);
        row
    }
}

async fn phase(
    world: &World,
    endpoints: &Endpoints,
    name: &str,
    rate: u32,
    seconds: u32,
) -> Outcome<Phase> {
    let began = Instant::now();
    let mut sent = world.publish_steadily(name, &endpoints.users, rate, seconds).await?;
    let published = Instant::now();
    sent.retain(|sent| sent.number % endpoints.users.len() >= endpoints.sick);

    let end = published + GRACE;
    let arrivals = loop {
        let arrivals = world.first_arrivals();
        let all = sent.iter().all(|sent| arrivals.contains_key(&sent.event_id));
        if all || Instant::now() >= end {
            break arrivals;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let at: Vec<_> = sent.iter().map(|sent| arrivals.get(&sent.event_id).copied()).collect();
    let in_time = at.iter().flatten().filter(|at| **at <= published).count();
    let took = at.iter().zip(&sent).map(|(at, sent)| at.unwrap_or(end).duration_since(sent.at));
    Ok(Phase {
        latencies: Latencies::new(took.collect()),
        throughput: number(in_time) / published.duration_since(began).as_secs_f64(),
        missing: at.iter().filter(|at| at.is_none()).count(),
    })
}
