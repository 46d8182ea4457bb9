//! How long an event takes, one by one, at a rate that the system can easily bear.

use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::harness::Harness;
use crate::report::{Check, Latencies, conclude, number};

const P50_MS: f64 = 15.0;
const P99_MS: f64 = 60.0;
/// Events are sent for so long before it counts, so that every connection stands.
pub(crate) const WARM_UP_SECONDS: u32 = 2;

pub(crate) async fn run(rate: u32, seconds: u32) -> Outcome<bool> {
    let harness = Harness::start().await?;
    let users = ["u".to_owned()];
    harness.subscribe(&users[0], &harness.receiver.healthy("latency")).await?;
    harness.publish_steadily("warm-up", &users, rate, WARM_UP_SECONDS).await?;
    let sent = harness.publish_steadily("event", &users, rate, seconds).await?;
    harness.drained().await?;

    let arrivals = harness.first_arrivals();
    let doubled = harness.receiver.arrivals().len() - arrivals.len();
    harness.stop().await;
    let took = |(id, at)| Some(arrivals.get(id)?.duration_since(at));
    let latencies =
        Latencies::new(sent.iter().map(|sent| (&sent.event_id, sent.at)).filter_map(took));
    let cells = latencies.cells();

    say(format!(
        "From the call that publishes to the webhook's arrival: {rate} events/s for {seconds} s, \
         after {WARM_UP_SECONDS} s that do not count"
    ));
    say(lay_out(&Latencies::HEADER, &[cells], &[0, 1, 2, 3, 4]));
    let lost = sent.iter().filter(|sent| !arrivals.contains_key(&sent.event_id)).count();
    Ok(conclude(&[
        Check::most(P50_MS, "p50", latencies.per_mille(500), "ms"),
        Check::most(P99_MS, "p99", latencies.per_mille(990), "ms"),
        Check::most(0.0, "lost", number(lost), "events"),
        Check::most(0.0, "doubled", number(doubled), "POSTs"),
    ]))
}
