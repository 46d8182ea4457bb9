//! How long an event takes, one by one, at a rate that the system can easily bear.

use std::time::Duration;

use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::report::{Check, Latencies, all_met, number, targets};
use crate::world::{PATIENCE, World};

const P50_MS: f64 = 15.0;
const P99_MS: f64 = 60.0;
const USER: &str = "u";
/// Events that are sent before it counts, so that every connection stands.
const WARM_UP_SECONDS: u32 = 2;

pub(crate) async fn run(rate: u32, seconds: u32) -> Outcome<bool> {
    let world = World::start().await?;
    world.subscribe(USER, &world.receiver.healthy("latency")).await?;
    let users = [USER.to_owned()];
    let warm_up = world.publish_steadily("warm-up", &users, rate, WARM_UP_SECONDS).await?.len();
    let sent = world.publish_steadily("event", &users, rate, seconds).await?;
    world.receiver.wait_for(warm_up + sent.len(), PATIENCE).await;
    world.drained().await?;

    let arrivals = world.first_arrivals();
    let took: Vec<Duration> = sent
        .iter()
        .filter_map(|sent| Some(arrivals.get(&sent.event_id)?.duration_since(sent.at)))
        .collect();
    let lost = sent.len() - took.len();
    let doubled = world.receiver.count() - arrivals.len();
    world.stop().await;

    let latencies = Latencies::new(took);
    say(format!(
        "From the call that publishes to the webhook's arrival, {rate} events/s for {seconds} s \
         (after {WARM_UP_SECONDS} s that do not count)"
    ));
    say(lay_out(&Latencies::HEADER, &[latencies.cells()], &[0, 1, 2, 3, 4]));
    let checks = [
        Check::at_most(P50_MS, "p50", latencies.per_mille(500), "ms"),
        Check::at_most(P99_MS, "p99", latencies.per_mille(990), "ms"),
        Check::at_most(0.0, "lost", number(lost), "events"),
        Check::at_most(0.0, "doubled", number(doubled), "events"),
    ];
    say(targets(&checks));
    Ok(all_met(&checks))
}
