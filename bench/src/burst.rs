//! Many events at once: none may be lost, none doubled.

use std::collections::HashSet;
use std::time::Instant;

use tokio::task::JoinSet;
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::report::{Check, all_met, number, targets};
use crate::world::{PATIENCE, World, event, text};

/// Users, with one endpoint each.
const USERS: usize = 20;
/// Requests that publish at the same time.
const PUBLISHERS: usize = 4;

pub(crate) async fn run(events: u32) -> Outcome<bool> {
    let events = events as usize;
    let world = World::start().await?;
    for user in 0..USERS {
        let url = world.receiver.healthy(&format!("burst-{user}"));
        world.subscribe(&format!("u{user}"), &url).await?;
    }

    let began = Instant::now();
    let mut publishers = JoinSet::new();
    for first in 0..PUBLISHERS {
        let numbers = (first..events).step_by(PUBLISHERS);
        let batch = numbers.map(|number| event(&format!("u{}", number % USERS), number)).collect();
        let publisher = world.publisher.clone();
        publishers.spawn(async move { publisher.publish_all(batch).await });
    }
    for published in publishers.join_all().await {
        published.map_err(text)?;
    }
    let queued = began.elapsed().as_secs_f64();
    world.receiver.wait_for(events, PATIENCE).await;
    let delivered = began.elapsed().as_secs_f64();
    world.drained().await?;
    let drained = began.elapsed().as_secs_f64();

    let arrivals = world.receiver.arrivals();
    let webhooks: HashSet<&str> = arrivals.iter().map(|one| one.webhook_id.as_str()).collect();
    let named: HashSet<&str> = arrivals.iter().map(|one| one.event_id.as_str()).collect();
    world.stop().await;

    let count = number(events);
    say(format!("{events} events for {USERS} endpoints at once"));
    let row = |what: &str, seconds: f64| {
        vec![what.to_owned(), format!("{seconds:.2}"), format!("{:.0}", count / seconds)]
    };
    let rows = [row("accepted", queued), row("delivered", delivered), row("drained", drained)];
    say(lay_out(&["until all are", "s", "events/s"], &rows, &[1, 2]));
    let wrong_ids = webhooks.len().abs_diff(events);
    let checks = [
        Check::at_most(0.0, "lost", number(events.saturating_sub(named.len())), "events"),
        Check::at_most(0.0, "doubled", number(arrivals.len() - named.len()), "POSTs"),
        Check::at_most(0.0, "webhook-ids too many or too few", number(wrong_ids), "ids"),
    ];
    say(targets(&checks));
    Ok(all_met(&checks))
}
