//! One run: a storm, in which events are published and handled while everything goes wrong, then
//! calm, in which what is left comes to its end, then judgement.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use webhooks_core::ids::SubscriptionId;
use webhooks_publisher::Event;

use crate::Outcome;
use crate::faults::Fault;
use crate::plan::EVENT_TYPE;
use crate::stage::{Bootstraps, Depth, Set, Stage, user_name};
use crate::verdict::{Evidence, Report, judge};

/// Requests that publish at the same time, and events in one of them.
const PUBLISHERS: usize = 4;
const BATCH: usize = 10;
/// No more is published while the queues hold so many messages: work goes on all the time, but
/// owners who change something meanwhile meet what is still to come.
const AHEAD: usize = 400;
/// A request that does not get through after so many tries never will.
const TRIES: usize = 1_000;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the queues must have nothing ready, one look after the other, until they count as
/// worked off.
const LOOKS: usize = 5;

/// What happens in a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// On which stage.
    pub set: Set,
    /// How many events are published.
    pub events: usize,
    /// From one run of the schedules to the next.
    pub schedules_every: Duration,
    /// Whether nobody waits for the time of messages and leases to run out that a killed process
    /// held: they are let go whenever nothing else is left to do.
    pub hurries: bool,
    /// How often it storms again: what the first storm has left over comes back into the next.
    pub storms: usize,
    /// After how long without any progress the rest counts as left over.
    pub patience: Duration,
}

impl Settings {
    /// Minutes: one call in eleven goes wrong, and processes are killed, see [`Set::kills`]. Nothing is hurried: what a process held that was killed comes back
    /// when its time has run out.
    pub fn long(bootstraps: Bootstraps, seed: u64, events: usize, kills: u64) -> Self {
        let mixture = vec![
            (Fault::ServerError, 12),
            (Fault::Throttle, 12),
            (Fault::ResetBefore, 12),
            (Fault::ResetAfter, 18),
            (Fault::CutOff, 12),
            (Fault::Slow, 20),
            (Fault::Late, 2),
        ];
        let with_parts = [&mixture[..], &[(Fault::Partial, 100)]].concat();
        Self {
            set: Set {
                bootstraps,
                seed,
                users: 20,
                tables: mixture,
                queues: with_parts.clone(),
                publishing: with_parts,
                dispatchers: 6,
                deliverers: 30,
                kills,
                visibility_seconds: 30,
                timeout: Duration::from_secs(20),
            },
            events,
            schedules_every: Duration::from_secs(5),
            hurries: false,
            storms: 1,
            patience: Duration::from_mins(5),
        }
    }

    /// Some seconds: one call in fourteen goes wrong, and one invocation in eight is killed.
    pub fn brief(bootstraps: Bootstraps, seed: u64) -> Self {
        let mixture = vec![
            (Fault::ServerError, 10),
            (Fault::Throttle, 10),
            (Fault::ResetBefore, 10),
            (Fault::ResetAfter, 15),
            (Fault::CutOff, 10),
            (Fault::Slow, 15),
        ];
        let with_parts = [&mixture[..], &[(Fault::Partial, 100)]].concat();
        Self {
            set: Set {
                bootstraps,
                seed,
                users: 4,
                tables: mixture,
                queues: with_parts.clone(),
                publishing: with_parts,
                dispatchers: 3,
                deliverers: 6,
                kills: 125,
                visibility_seconds: 60,
                timeout: Duration::from_secs(45),
            },
            events: 120,
            schedules_every: Duration::from_secs(1),
            hurries: true,
            storms: 2,
            patience: Duration::from_mins(2),
        }
    }
}

/// An event that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) id: String,
    pub(crate) user: String,
}

/// Runs once.
pub async fn run(settings: &Settings) -> Outcome<Report> {
    let mut stage = Stage::set(&settings.set).await?;
    let drained = CancellationToken::new();
    let began = Instant::now();
    let played = play(&stage, settings, &drained);
    let (played, ()) = futures::future::join(played, schedules(&stage, settings, &drained)).await;
    let played = played?;
    for webhook in &mut stage.webhooks {
        webhook.deleted = played.deleted.get(&webhook.id).copied();
    }
    let evidence = Evidence {
        seed: settings.set.seed,
        events: played.events,
        storm: played.calm.duration_since(began),
        all: began.elapsed(),
        left: played.left,
        waiting: stage.waiting().await?.len(),
    };
    let report = judge(&stage, evidence).await?;
    stage.strike().await;
    Ok(report)
}

struct Played {
    events: Vec<Published>,
    deleted: HashMap<SubscriptionId, Instant>,
    calm: Instant,
    left: Depth,
}

async fn play(stage: &Stage, settings: &Settings, drained: &CancellationToken) -> Outcome<Played> {
    // However it ends, the schedules are told.
    let _drained = drained.clone().drop_guard();
    let count = AtomicUsize::new(0);
    let publishing = publish(stage, settings.events, &count);
    let (events, deleted) =
        futures::future::try_join(publishing, owners(stage, settings.events, &count)).await?;
    for _ in 0..settings.storms {
        worked_off(stage).await?;
        if settings.hurries {
            stage.hurry().await?;
        }
    }
    stage.calm();
    let calm = Instant::now();
    let left = drain(stage, settings).await?;
    Ok(Played { events, deleted, calm, left })
}

/// Publishes events, for each user in turn, until all are accepted.
async fn publish(stage: &Stage, events: usize, count: &AtomicUsize) -> Outcome<Vec<Published>> {
    let users = stage.webhooks.iter().map(|webhook| &webhook.user);
    let users = users.collect::<std::collections::BTreeSet<_>>().len();
    let published: Vec<Published> = (0..events)
        .map(|number| Published { id: format!("event-{number}"), user: user_name(number % users) })
        .collect();
    let shares = published.chunks(events.div_ceil(PUBLISHERS).max(1)).map(|share| async move {
        for batch in share.chunks(BATCH) {
            while stage.depth()?.ready > AHEAD {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            publish_batch(stage, batch).await?;
            count.fetch_add(batch.len(), Ordering::Relaxed);
        }
        Ok::<(), String>(())
    });
    for share in join_all(shares).await {
        share?;
    }
    Ok(published)
}

/// Publishes until everything is accepted, as a publisher must.
async fn publish_batch(stage: &Stage, batch: &[Published]) -> Outcome<()> {
    let event = |one: &Published| {
        let data = json!({"user": one.user, "title": "Write the report"});
        Event::of_type(EVENT_TYPE, &one.user, &data).with_id(&one.id)
    };
    let mut events: Vec<Event> = batch.iter().map(event).collect();
    for _ in 0..TRIES {
        let Err(error) = stage.publisher.publish_all(events).await else { return Ok(()) };
        events = error.not_accepted.into_iter().map(|one| one.event).collect();
    }
    Err(format!("{} events are not accepted", events.len()))
}

/// What owners do while their events come in: one pauses and resumes, one deletes.
async fn owners(
    stage: &Stage,
    events: usize,
    count: &AtomicUsize,
) -> Outcome<HashMap<SubscriptionId, Instant>> {
    let reached = async |share: usize| {
        while count.load(Ordering::Relaxed) < share {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    reached(events / 4).await;
    stage.set_active(false).await?;
    reached(events / 2).await;
    let deleted = stage.delete().await?;
    reached(events * 3 / 4).await;
    stage.set_active(true).await?;
    Ok(deleted)
}

/// Waits until nothing is ready to be handled nor in hand: what is left then waits for its time.
async fn worked_off(stage: &Stage) -> Outcome<()> {
    let mut looks = 0;
    while looks < LOOKS {
        looks = if stage.depth()?.ready == 0 && stage.is_idle() { looks + 1 } else { 0 };
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Waits until nothing is left, or nothing moves any more; says what is left.
async fn drain(stage: &Stage, settings: &Settings) -> Outcome<Depth> {
    let (mut before, mut moved) = ((Depth::default(), 0), Instant::now());
    loop {
        let depth = stage.depth()?;
        let nothing = depth == Depth::default() && stage.is_idle() && stage.late() == 0;
        if nothing && stage.waiting().await?.is_empty() {
            return Ok(depth);
        }
        let now = (depth, stage.receivers.count());
        if now != before {
            (before, moved) = (now, Instant::now());
        } else if moved.elapsed() > settings.patience {
            return Ok(depth);
        }
        if settings.hurries && depth.ready == 0 && stage.is_idle() {
            stage.hurry().await?;
        }
        tokio::time::sleep(DRAIN_LOOK_EVERY).await;
    }
}

async fn schedules(stage: &Stage, settings: &Settings, drained: &CancellationToken) {
    loop {
        tokio::select! {
            () = drained.cancelled() => return,
            () = tokio::time::sleep(settings.schedules_every) => {}
        }
        stage.run_schedules().await;
    }
}
