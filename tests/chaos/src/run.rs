//! One run: a storm, in which events are published and handled while everything goes wrong, then
//! calm, in which what is left comes to its end, then judgement.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::causes::{Hands, Origins, complaints};
use crate::faults::Fault;
use crate::stage::{Bootstraps, Set, Stage};
use crate::verdict::{Evidence, Report, judge};
use crate::world::{Depth, LOOK_EVERY, Played};

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
            // Longer than a message that was lost stays away.
            patience: Duration::from_mins(12),
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

/// Runs once.
pub async fn run(settings: &Settings) -> Outcome<Report> {
    let mut stage = Stage::set(&settings.set).await?;
    let drained = CancellationToken::new();
    let began = Instant::now();
    let played = play(&stage, settings, &drained);
    let ((played, calm, left), ()) =
        futures::future::try_join(played, schedules(&stage, settings, &drained)).await?;
    for webhook in &mut stage.world.webhooks {
        webhook.deleted = played.deleted.get(&webhook.id).copied();
    }
    let evidence = Evidence {
        seed: settings.set.seed,
        events: played.events,
        storm: calm.duration_since(began),
        all: began.elapsed(),
        left,
    };
    let (dispatched, delivered) = (stage.dispatch.invocations(), stage.deliver.invocations());
    let hands = Hands::new(&delivered);
    let origins = Origins::new(&dispatched, stage.queues.sends());
    let complaints = complaints(&stage.deliver.complaints());
    let mut report = judge(&stage.world, evidence, |first, second| {
        let cause = hands.cause(first, second, &origins, &complaints);
        cause.ok_or_else(|| format!("{}; then {}", hands.shown(first), hands.shown(second)))
    })
    .await?;
    report.judge_deletions(&stage.world, &hands);
    report.count_faults(&[&stage.tables, &stage.queues]);
    for pool in [&stage.dispatch, &stage.deliver, &stage.retry, &stage.cleanup] {
        report.count_invocations(pool);
    }
    stage.strike().await;
    Ok(report)
}

/// Publishes and has everything handled in the storm, and then what is left over in the calm. Says
/// what was played, when it became calm, and what was left.
async fn play(
    stage: &Stage,
    settings: &Settings,
    drained: &CancellationToken,
) -> Outcome<(Played, Instant, Depth)> {
    // However it ends, the schedules are told.
    let _drained = drained.clone().drop_guard();
    let played = stage.world.play(settings.events).await?;
    for _ in 0..settings.storms {
        worked_off(stage).await?;
        if settings.hurries {
            stage.hurry().await?;
        }
    }
    stage.calm();
    let calm = Instant::now();
    let left = stage.world.drain(settings.patience, async |depth| {
        let works = !stage.is_idle();
        if settings.hurries && depth.ready == 0 && !works {
            stage.hurry().await?;
        }
        Ok(works || stage.late() > 0)
    });
    Ok((played, calm, left.await?))
}

/// Waits until nothing is ready to be handled nor in hand: what is left then waits for its time.
async fn worked_off(stage: &Stage) -> Outcome<()> {
    let mut looks = 0;
    while looks < LOOKS {
        let works = stage.world.depth().await?.ready > 0 || !stage.is_idle();
        looks = if works { 0 } else { looks + 1 };
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Runs the schedules until all is done. Nobody waits an hour for what is parked.
async fn schedules(stage: &Stage, settings: &Settings, drained: &CancellationToken) -> Outcome<()> {
    loop {
        tokio::select! {
            () = drained.cancelled() => return Ok(()),
            () = tokio::time::sleep(settings.schedules_every) => {}
        }
        stage.world.bring_forward().await?;
        stage.run_schedules().await;
    }
}
