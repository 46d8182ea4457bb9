//! One run: from event to event until the run has come to rest.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use webhooks_core::time::Timestamp;

use crate::actors::{act, create_as};
use crate::executor::{Executor, lock};
use crate::harness::{Calls, Function, Harness, Kind, Met};
use crate::milestones::{Milestone, Milestones};
use crate::mutations::Mutation;
use crate::rules::{Rule, Violation};
use crate::{functions, verdict};

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The mutation of the system.
    pub mutation: Option<Mutation>,
    /// Whether every step is kept to be read.
    pub trace: bool,
    /// At which of the moments of a run at which a process could die one does, besides those that
    /// the seed says.
    pub crash_at: Option<u64>,
    /// Whether the plan of the seed is replaced by an outage: every receiver is down for two hours, and
    /// webhooks have the schedule `"standard"`.
    pub outage: bool,
    /// A fault that meets the first request of its kind, besides those that the seed says.
    pub inject: Option<Kind>,
}

impl Options {
    /// Those of a run with a mutation, in which its rule can be violated.
    pub fn with_mutation(mutation: Mutation) -> Self {
        let outage = mutation.rule() == Rule::OutageSurvived;
        Self { mutation: Some(mutation), outage, ..Self::default() }
    }
}

/// How long a run may take to come to rest: the retention. An endpoint that succeeds now and then is never
/// disabled, and each time its breaker is open a delivery waits up to six hours more for its next attempt.
const DAYS_MAX: u64 = 30;
/// How many requests a run may make. Ten deliveries that wait for an open breaker for twelve days make
/// 35,000.
const STEPS_MAX: u64 = 100_000;
/// Batches in the hands of dispatch immediately.
const DISPATCHES: usize = 2;
/// Batches of the fast queue that are handled concurrently beside an abusive user: enough for the
/// tasks that one owner can hold there, and for two more.
const FAST_CONCURRENCY: usize = 12;
/// How often the retry function runs, in milliseconds.
const RETRY_PERIOD_MS: i64 = 300_000;
/// From the start of a run to the first daily cleanup at 02:00 UTC, and between two.
const FIRST_CLEANUP_SECONDS: u64 = 18 * 3600;
const CLEANUP_PERIOD_SECONDS: u64 = 24 * 3600;

/// What came of one seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// Requests to tables, queues and receivers.
    pub steps: u64,
    /// A hash of every step: equal for equal runs.
    pub digest: u64,
    /// Messages that ended in a dead-letter queue because they were received too often.
    pub given_up: usize,
    /// Whether nothing fails in this run but receivers.
    pub is_fault_free: bool,
    /// Moments at which a process could have died.
    pub points: u64,
    /// Which faults met which requests.
    pub met: Met,
    /// Which functions called which ports.
    pub calls: Calls,
    /// What was reached.
    pub milestones: Milestones,
    /// How long it took, in virtual time.
    pub lasted: Duration,
    /// Every step, if asked for.
    pub trace: Vec<String>,
}

/// Runs the run of a seed.
pub fn run(seed: u64, options: Options) -> Outcome {
    let harness = Harness::new(seed, options);
    let mut run = Run {
        executor: Executor::default(),
        actions: 0,
        next_retry: harness.plan.start.plus(Duration::from_millis(harness.random.below(300_000))),
        next_cleanup: harness.plan.start.plus_seconds(FIRST_CLEANUP_SECONDS),
        settled: false,
        harness,
    };
    run.set_up();
    while run.turn() {}
    let harness = run.harness;
    if lock(&harness.model).violation.is_none() {
        verdict::check(&harness);
    }
    let queues = [&harness.events, &harness.tasks, &harness.slow_tasks];
    let given_up = queues.map(|queue| lock(queue).dead().len()).iter().sum();
    let mut model = lock(&harness.model);
    if given_up > 0 {
        model.reach(Milestone::GivenUp);
    }
    Outcome {
        seed,
        violation: model.violation.take(),
        is_fault_free: harness.plan.is_fault_free,
        points: harness.points(),
        met: harness.take_met(),
        calls: harness.take_calls(),
        milestones: std::mem::take(&mut model.milestones),
        steps: harness.steps(),
        digest: harness.digest(),
        given_up,
        lasted: harness.plan.start.until(harness.now()),
        trace: harness.take_trace(),
    }
}

struct Run {
    harness: Arc<Harness>,
    executor: Executor,
    /// How many actions of the plan have been done.
    actions: usize,
    next_retry: Timestamp,
    next_cleanup: Timestamp,
    settled: bool,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Alarm,
    Act,
    Events,
    Tasks,
    SlowTasks,
    Retry,
    Cleanup,
    Settle,
}

impl Run {
    /// The webhooks that are there from the beginning.
    fn set_up(&mut self) {
        let harness = &self.harness;
        for (number, (who, retries)) in harness.plan.subscriptions.iter().enumerate() {
            let call = harness.without_faults(Function::Api);
            // The number is that of no action, because it also names the URL.
            let made = create_as(harness, &call, *who, 1_000 + number, (*retries, false));
            let _ = made.now_or_never();
            lock(&harness.model).finished(call.number, harness.now());
        }
    }

    /// Does what comes next; `false` when there is nothing left, or a rule was broken.
    fn turn(&mut self) -> bool {
        self.run_ready();
        if lock(&self.harness.model).violation.is_some() || self.is_at_rest() {
            return false;
        }
        let Some((at, _, turn)) = self.candidates().into_iter().flatten().min() else {
            lock(&self.harness.model).violate(Rule::ComesToRest, || "it stands".to_owned());
            return false;
        };
        let now = self.harness.now().max(at);
        self.harness.clock.set(now);
        let latest = self.harness.plan.settles.plus_seconds(DAYS_MAX * 24 * 3600);
        if now > latest || self.harness.steps() > STEPS_MAX {
            lock(&self.harness.model).violate(Rule::ComesToRest, || now.to_string());
            return false;
        }
        self.take(turn, now);
        true
    }

    fn run_ready(&mut self) {
        loop {
            for task in lock(&self.harness.spawned).drain(..) {
                self.executor.spawn(task);
            }
            if !self.executor.run_one() {
                return;
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        self.settled
            && self.actions == self.harness.plan.actions.len()
            && self.executor.is_idle()
            && lock(&self.harness.events).is_empty()
            && lock(&self.harness.tasks).is_empty()
            && lock(&self.harness.slow_tasks).is_empty()
            && lock(&self.harness.model).due.is_empty()
            && self.recovery_due().is_none()
            && self.harness.deliveries.first_recount().is_none()
    }

    /// What may happen next, each with its moment; the seed decides among equals.
    fn candidates(&self) -> [Option<(Timestamp, u64, Turn)>; 8] {
        let harness = &self.harness;
        let action = harness.plan.actions.get(self.actions).map(|(at, _)| *at);
        let events = lock(&harness.events).next_visible();
        let tasks = lock(&harness.tasks).next_visible();
        let slow_tasks = lock(&harness.slow_tasks).next_visible();
        let model = lock(&harness.model);
        let events = events.filter(|_| model.under_way(Function::Dispatch) < DISPATCHES);
        let (fast, slow) = model.delivering();
        // Each queue has a concurrency of its own, which matters when one of them is full.
        let is_free = |under_way, most| match harness.plan.abuse {
            Some(_) if !harness.is(Mutation::ShareConcurrency) => under_way < most,
            _ => fast + slow < harness.plan.concurrency,
        };
        let tasks = tasks.filter(|_| is_free(fast, FAST_CONCURRENCY));
        let slow_tasks = slow_tasks.filter(|_| is_free(slow, harness.plan.concurrency));
        let settles = (!self.settled).then_some(harness.plan.settles);
        let deliveries_due = model.due.values().min().copied();
        let recount = harness.deliveries.first_recount();
        let first_due = [deliveries_due, self.recovery_due(), recount].into_iter().flatten().min();
        let tie = |turn| (turn, harness.random.bits());
        [
            (lock(&harness.timers).next_at(), tie(Turn::Alarm)),
            (action, tie(Turn::Act)),
            (events.map(|at| self.gathered(at)), tie(Turn::Events)),
            (tasks.map(|at| self.gathered(at)), tie(Turn::Tasks)),
            (slow_tasks.map(|at| self.gathered(at)), tie(Turn::SlowTasks)),
            (self.retry_at(first_due), tie(Turn::Retry)),
            (Some(self.next_cleanup), tie(Turn::Cleanup)),
            (settles, tie(Turn::Settle)),
        ]
        .map(|(at, (turn, tie))| at.map(|at| (at.max(harness.now()), tie, turn)))
    }

    /// When the retry function must look at a recovery.
    fn recovery_due(&self) -> Option<Timestamp> {
        let recoveries = self.harness.deliveries.all_recoveries();
        recoveries.iter().filter_map(|recovery| recovery.due_at).min()
    }

    /// When a batch is received that has a message at this moment: at the end of the window.
    fn gathered(&self, at: Timestamp) -> Timestamp {
        let window = i64::try_from(self.harness.plan.window.as_millis()).unwrap_or(1).max(1);
        let at = at.max(self.harness.now()).millis();
        Timestamp::from_millis(at + (window - at % window) % window)
    }

    /// The next run of the retry function that finds something in the due index. Those before it
    /// would do nothing, so they are left out.
    fn retry_at(&self, first_due: Option<Timestamp>) -> Option<Timestamp> {
        let first_due = first_due?;
        let looks_ahead = i64::try_from(retry::LOOK_AHEAD_SECONDS * 1000).expect("it is minutes");
        let wait = first_due.millis() - looks_ahead - self.next_retry.millis();
        let left_out = (wait.max(0) + RETRY_PERIOD_MS - 1) / RETRY_PERIOD_MS;
        Some(Timestamp::from_millis(self.next_retry.millis() + left_out * RETRY_PERIOD_MS))
    }

    fn take(&mut self, turn: Turn, now: Timestamp) {
        let harness = &self.harness;
        match turn {
            Turn::Alarm => {
                let alarm = lock(&harness.timers).pop();
                if let Some(alarm) = alarm {
                    alarm.wake();
                }
            }
            Turn::Act => {
                act(harness, self.actions, &harness.plan.actions[self.actions].1);
                self.actions += 1;
            }
            Turn::Events | Turn::Tasks | Turn::SlowTasks => self.receive(turn, now),
            Turn::Retry => {
                // A schedule fires twice or not at all, now and then.
                let queue_faults = harness.faults().queue;
                let fires = match () {
                    () if harness.random.chance(queue_faults) => 2,
                    () if harness.random.chance(2 * queue_faults) => 0,
                    () => 1,
                };
                (0..fires).for_each(|_| functions::retry(harness));
                // The scheduler keeps to the minute, not to the second, and now and then one run
                // fails.
                let periods = if harness.random.chance(50) { 2 } else { 1 };
                let period =
                    periods * RETRY_PERIOD_MS.unsigned_abs() + harness.random.below(60_000);
                self.next_retry = now.plus(Duration::from_millis(period));
            }
            Turn::Cleanup => {
                functions::clean(harness, harness.plan.keeps_days, Duration::from_mins(10));
                self.next_cleanup = self.next_cleanup.plus_seconds(CLEANUP_PERIOD_SECONDS);
            }
            Turn::Settle => {
                harness.log(|| "faults end".to_owned());
                harness.end_faults();
                self.settled = true;
            }
        }
    }

    fn receive(&self, turn: Turn, now: Timestamp) {
        let harness = &self.harness;
        let is_events = turn == Turn::Events;
        let queue = match turn {
            Turn::Events => &harness.events,
            Turn::SlowTasks => &harness.slow_tasks,
            _ => &harness.tasks,
        };
        let queue_faults = harness.faults().queue();
        let batch = lock(queue).receive(harness.plan.batch, now, queue_faults, &harness.random);
        if let Some(message) = lock(queue).dead().first() {
            let mut model = lock(&harness.model);
            if model.is_fault_free {
                model.violate(Rule::NoneGivenUp, || message.body.clone());
            }
        }
        if batch.is_empty() {
            return;
        }
        if is_events {
            functions::dispatch(harness, batch);
        } else {
            functions::deliver(harness, batch);
        }
    }
}
