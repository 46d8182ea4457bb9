//! One run in three phases: events are published and handled while calls fail and processes are
//! killed; the rest is handled without faults; the result is checked.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::faults::Fault;
use crate::harness::{Depth, LOOK_EVERY, Published};
use crate::testbed::{Bootstraps, Testbed, TestbedOptions};
use crate::verdict::{Evidence, Report, check};

/// How many successive looks must find the queues without ready messages and the functions idle.
const LOOKS: usize = 5;

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct FaultRun {
    /// The test bed.
    pub testbed: TestbedOptions,
    /// How many events are published.
    pub events: usize,
    /// From one run of the schedules to the next.
    pub schedules_every: Duration,
    /// Whether visibility timeouts and leases that a killed process held are ended as soon as
    /// nothing else is left to do, instead of waiting for them.
    pub expires_timeouts: bool,
    /// How many rounds have faults: what one round leaves is handled in the next.
    pub fault_rounds: usize,
    /// After how long without any progress the rest counts as left over.
    pub patience: Duration,
}

impl FaultRun {
    /// Takes minutes: one call in eleven fails, and processes are killed, see
    /// [`TestbedOptions::kills`]. Visibility timeouts and leases run out by themselves.
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
            testbed: TestbedOptions {
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
            expires_timeouts: false,
            fault_rounds: 1,
            // Longer than a message that was lost stays away.
            patience: Duration::from_mins(12),
        }
    }

    /// Takes seconds: one call in fourteen fails, and one invocation in eight is killed.
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
            testbed: TestbedOptions {
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
            expires_timeouts: true,
            fault_rounds: 2,
            patience: Duration::from_mins(2),
        }
    }
}

/// Runs once.
pub async fn run_faults(settings: &FaultRun) -> Outcome<Report> {
    let testbed = Testbed::start(&settings.testbed).await?;
    let drained = CancellationToken::new();
    let began = Instant::now();
    let workload = run_workload(&testbed, settings, &drained);
    let ((workload, faults_ended, left), ()) =
        futures::future::try_join(workload, schedules(&testbed, settings, &drained)).await?;
    let evidence = Evidence {
        seed: settings.testbed.seed,
        events: workload,
        with_faults: faults_ended.duration_since(began),
        all: began.elapsed(),
        left,
    };
    let mut report = check(&testbed.harness, evidence).await?;
    report.count_faults(&[&testbed.tables, &testbed.queues]);
    for pool in [&testbed.dispatch, &testbed.deliver, &testbed.retry, &testbed.cleanup] {
        report.count_invocations(pool);
    }
    testbed.stop().await;
    Ok(report)
}

/// Publishes the events and has them handled with faults, and then the rest without. Returns the
/// events, when the faults ended, and what was left.
async fn run_workload(
    testbed: &Testbed,
    settings: &FaultRun,
    drained: &CancellationToken,
) -> Outcome<(Vec<Published>, Instant, Depth)> {
    // However this function ends, the schedules stop.
    let _drained = drained.clone().drop_guard();
    let workload = testbed.harness.run_workload(settings.events).await?;
    for _ in 0..settings.fault_rounds {
        wait_until_idle(testbed).await?;
        if settings.expires_timeouts {
            testbed.expire_timeouts().await?;
        }
    }
    testbed.stop_faults();
    let faults_ended = Instant::now();
    let left = testbed.harness.drain(settings.patience, async |depth| {
        let works = !testbed.is_idle();
        if settings.expires_timeouts && depth.ready == 0 && !works {
            testbed.expire_timeouts().await?;
        }
        Ok(works || testbed.late() > 0)
    });
    Ok((workload, faults_ended, left.await?))
}

/// Waits until no message is ready and no function works: what is left is hidden or delayed.
async fn wait_until_idle(testbed: &Testbed) -> Outcome<()> {
    let mut looks = 0;
    while looks < LOOKS {
        let works = testbed.harness.depth().await?.ready > 0 || !testbed.is_idle();
        looks = if works { 0 } else { looks + 1 };
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Runs the schedules until the run is done. Parked deliveries fall due immediately.
async fn schedules(
    testbed: &Testbed,
    settings: &FaultRun,
    drained: &CancellationToken,
) -> Outcome<()> {
    loop {
        tokio::select! {
            () = drained.cancelled() => return Ok(()),
            () = tokio::time::sleep(settings.schedules_every) => {}
        }
        testbed.harness.bring_forward().await?;
        testbed.run_schedules().await;
    }
}
