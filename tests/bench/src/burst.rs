//! Many events in one burst: none may be lost, none doubled.

use std::collections::HashSet;
use std::time::Instant;

use tokio::task::JoinSet;
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::harness::{Harness, event, text};
use crate::report::{Check, conclude, number};

/// Users, with one endpoint each.
const USERS: usize = 20;
/// Requests that publish at the same time.
const PUBLISHERS: usize = 4;

pub(crate) async fn run(events: usize) -> Outcome<bool> {
    let harness = Harness::start().await?;
    for user in 0..USERS {
        let url = harness.receiver.healthy(&format!("burst-{user}"));
        harness.subscribe(&format!("u{user}"), &url).await?;
    }

    let began = Instant::now();
    let mut publishers = JoinSet::new();
    for first in 0..PUBLISHERS {
        let numbers = (first..events).step_by(PUBLISHERS);
        let share = numbers.map(|number| event(&format!("u{}", number % USERS), number)).collect();
        let publisher = harness.publisher.clone();
        publishers.spawn(async move { publisher.publish_all(share).await });
    }
    for published in publishers.join_all().await {
        published.map_err(text)?;
    }
    let queued = Instant::now();
    harness.drained().await?;
    let drained = Instant::now();
    let arrivals = harness.receiver.arrivals();
    harness.stop().await;

    say(format!("{events} events for {USERS} endpoints in one burst"));
    let row = |what: &str, end: Instant| {
        let seconds = end.duration_since(began).as_secs_f64();
        let rate = number(events) / seconds;
        vec![what.to_owned(), format!("{seconds:.2}"), format!("{rate:.0}")]
    };
    let delivered = arrivals.last().map_or(began, |last| last.at);
    let rows = [row("accepted", queued), row("delivered", delivered), row("drained", drained)];
    say(lay_out(&["until all are", "s", "events/s"], &rows, &[1, 2]));

    let named: HashSet<_> = arrivals.iter().map(|arrival| &arrival.event_id).collect();
    let ids: HashSet<_> = arrivals.iter().map(|arrival| &arrival.webhook_id).collect();
    Ok(conclude(&[
        Check::most(0.0, "lost", number(events.abs_diff(named.len())), "events"),
        Check::most(0.0, "doubled", number(arrivals.len().abs_diff(events)), "POSTs"),
        Check::most(
            0.0,
            "webhook-ids too many or too few",
            number(ids.len().abs_diff(events)),
            "ids",
        ),
    ]))
}
