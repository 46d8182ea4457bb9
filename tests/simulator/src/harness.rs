//! Everything that one run shares, and the one place where faults happen.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use test_support::{
    ManualClock, MemoryDeadLetterQueue, MemoryDeliveries, MemorySubscriptions, SeededRandom,
};
use webhooks_core::delivery_queue::FastTasks;
use webhooks_core::ports::{Clock as _, QueueError, StoreError};
use webhooks_core::time::Timestamp;

use crate::executor::{Job, Rung, Task, Timers, lock};
use crate::model::Model;
use crate::mutations::Mutation;
use crate::plan::{Faults, Plan};
use crate::queue::Queue;
use crate::receivers::Receivers;
use crate::run::Options;

/// How long a received event stays hidden, how often it may be received: as deployed.
const EVENTS: (u64, u32) = (180, 10);
/// The same of a delivery task.
const TASKS: (u64, u32) = (540, 50);

/// A deployed function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// Dispatch.
    Dispatch,
    /// Deliver.
    Deliver,
    /// Retry.
    Retry,
    /// Cleanup.
    Cleanup,
    /// Test-webhook.
    Test,
    /// Subscriptions and deliveries.
    Api,
}

/// When a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// Before a request leaves.
    Before,
    /// While it is on its way; it will not be carried out.
    Within,
    /// After it was carried out.
    After,
}

/// What happens to a request of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// None of the others: it is carried out, and its response comes.
    Nothing,
    /// The process of the function dies.
    Crash(Moment),
    /// It fails and is not carried out.
    Fails,
    /// It is carried out, and its response is lost.
    ResponseLost,
    /// It is carried out twice.
    Repeated,
}

/// A fault that meets a request of a function.
pub type Kind = (Function, &'static str, Fault);
/// Which faults met which requests.
pub type Met = BTreeSet<Kind>;
/// The calls of ports that a function made: its folder, and the table or queue with the method.
pub type Calls = BTreeSet<(&'static str, &'static str)>;

impl Function {
    /// After how many seconds it is killed.
    pub(crate) fn timeout_seconds(self) -> u64 {
        match self {
            Self::Dispatch | Self::Test | Self::Api => 30,
            Self::Deliver => 90,
            Self::Retry => 300,
            Self::Cleanup => 900,
        }
    }
}

/// One call of a function.
pub(crate) struct Invocation {
    pub(crate) number: u64,
    pub(crate) function: Function,
    /// Whether its faults are switched off: requests of the checker itself must succeed.
    without_faults: bool,
    dead: Arc<AtomicBool>,
}

/// What else happens to a request that is carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// Its response is lost on the way, and the client library asks again.
    pub(crate) repeated: bool,
    /// Its response is lost on the way, and the client library gives up.
    pub(crate) lost: bool,
}

/// The request failed, or its response was lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unavailable;

impl From<Unavailable> for StoreError {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable("simulated".into())
    }
}

impl From<Unavailable> for QueueError {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable("simulated".into())
    }
}

/// Everything that one run shares.
pub(crate) struct Harness {
    pub(crate) plan: Plan,
    pub(crate) options: Options,
    pub(crate) clock: ManualClock,
    /// Decides about faults and turns.
    pub(crate) random: SeededRandom,
    /// What the handlers draw from.
    pub(crate) secrets: SeededRandom,
    pub(crate) timers: Mutex<Timers>,
    pub(crate) spawned: Mutex<Vec<Task>>,
    pub(crate) subscriptions: MemorySubscriptions,
    pub(crate) deliveries: MemoryDeliveries,
    pub(crate) dead_letter_queue: MemoryDeadLetterQueue,
    pub(crate) events: Mutex<Queue>,
    pub(crate) tasks: Mutex<Queue>,
    pub(crate) slow_tasks: Mutex<Queue>,
    /// What the one instance of dispatch remembers.
    pub(crate) fast_tasks: Arc<FastTasks>,
    pub(crate) receivers: Mutex<Receivers>,
    pub(crate) model: Mutex<Model>,
    faults_end: AtomicBool,
    digest: AtomicU64,
    steps: AtomicU64,
    invocations: AtomicU64,
    /// Moments at which a process could have died.
    points: AtomicU64,
    injected: AtomicBool,
    met: Mutex<Met>,
    calls: Mutex<Calls>,
    trace: Option<Mutex<Vec<String>>>,
}

impl Harness {
    pub(crate) fn new(seed: u64, options: Options) -> Arc<Self> {
        let Options { trace, crash_at, inject, .. } = options;
        let random = SeededRandom::new(seed);
        let plan = Plan::draw(seed, &random);
        let plan = if options.outage { plan.outage_of_receivers(&random) } else { plan };
        let clock = ManualClock::at(plan.start);
        Arc::new(Self {
            options,
            secrets: SeededRandom::new(!seed),
            timers: Mutex::default(),
            spawned: Mutex::default(),
            subscriptions: MemorySubscriptions::default(),
            deliveries: MemoryDeliveries::new(Arc::new(clock.clone())),
            dead_letter_queue: MemoryDeadLetterQueue::default(),
            events: Mutex::new(Queue::new("e", EVENTS.0, EVENTS.1)),
            tasks: Mutex::new(Queue::new("t", TASKS.0, TASKS.1)),
            slow_tasks: Mutex::new(Queue::new("s", TASKS.0, TASKS.1)),
            fast_tasks: Arc::default(),
            receivers: Mutex::default(),
            model: Mutex::new(Model::new(
                plan.is_fault_free && crash_at.is_none() && inject.is_none(),
                plan.abuse.map(|abuse| crate::actors::user(abuse.user)),
            )),
            faults_end: AtomicBool::new(false),
            digest: AtomicU64::new(0xCBF2_9CE4_8422_2325),
            steps: AtomicU64::new(0),
            invocations: AtomicU64::new(0),
            points: AtomicU64::new(0),
            injected: AtomicBool::new(false),
            met: Mutex::default(),
            calls: Mutex::default(),
            trace: trace.then(Mutex::default),
            plan,
            clock,
            random,
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn is(&self, mutation: Mutation) -> bool {
        self.options.mutation == Some(mutation)
    }

    /// The faults of this moment.
    pub(crate) fn faults(&self) -> Faults {
        if self.faults_end.load(Ordering::Relaxed) { Faults::NONE } else { self.plan.faults }
    }

    /// From now on nothing fails any more on our side.
    pub(crate) fn end_faults(&self) {
        self.faults_end.store(true, Ordering::Relaxed);
    }

    /// Starts a call of a function; `job` makes its future.
    pub(crate) fn invoke(
        self: &Arc<Self>,
        function: Function,
        job: impl FnOnce(Arc<Invocation>) -> Job,
    ) {
        let invocation = self.invocation(function, false);
        lock(&self.model).began(invocation.number, function, self.now());
        let (harness, dead) = (Arc::clone(self), Arc::clone(&invocation.dead));
        let work = job(Arc::clone(&invocation));
        let supervised: Job = Box::pin(async move {
            let limit = Box::pin(harness.sleep(Duration::from_secs(function.timeout_seconds())));
            match futures::future::select(work, limit).await {
                futures::future::Either::Left(_) => {
                    lock(&harness.model).finished(invocation.number, harness.now());
                }
                futures::future::Either::Right(_) => harness.kill(&invocation, "timed out"),
            }
        });
        lock(&self.spawned).push(Task { job: supervised, dead });
    }

    /// A call of the checker's own, which no fault meets.
    pub(crate) fn without_faults(self: &Arc<Self>, function: Function) -> Arc<Invocation> {
        let invocation = self.invocation(function, true);
        lock(&self.model).began(invocation.number, function, self.now());
        invocation
    }

    fn invocation(&self, function: Function, without_faults: bool) -> Arc<Invocation> {
        let number = self.invocations.fetch_add(1, Ordering::Relaxed);
        let dead = Arc::new(AtomicBool::new(false));
        Arc::new(Invocation { number, function, without_faults, dead })
    }

    fn kill(&self, invocation: &Invocation, how: &str) {
        if !invocation.dead.swap(true, Ordering::Relaxed) {
            self.note(invocation, || how.to_owned());
            lock(&self.model).died(invocation.number);
        }
    }

    /// The process of this invocation dies here.
    async fn die(&self, invocation: &Invocation) {
        self.kill(invocation, "CRASH");
        futures::future::pending::<()>().await;
    }

    /// The invocation dies here, if it is its turn to.
    pub(crate) async fn may_die(&self, invocation: &Invocation, what: &'static str, at: Moment) {
        let point = self.points.fetch_add(1, Ordering::Relaxed);
        let chosen = self.options.crash_at == Some(point)
            || self.injects(invocation, what, Fault::Crash(at));
        if chosen || self.random.chance(self.faults().crash) {
            self.meet(invocation, what, Fault::Crash(at));
            self.die(invocation).await;
        }
    }

    /// Whether this is where a fault is to be injected.
    fn injects(&self, invocation: &Invocation, what: &'static str, fault: Fault) -> bool {
        self.options.inject == Some((invocation.function, what, fault))
            && !self.injected.swap(true, Ordering::Relaxed)
    }

    /// Notes a call of a port.
    pub(crate) fn called(&self, folder: &'static str, what: &'static str) {
        lock(&self.calls).insert((folder, what));
    }

    fn meet(&self, invocation: &Invocation, what: &'static str, fault: Fault) {
        lock(&self.met).insert((invocation.function, what, fault));
    }

    /// Before a request is carried out: it takes its time, it may fail, the caller may die.
    pub(crate) async fn enter(
        &self,
        invocation: &Invocation,
        what: &'static str,
    ) -> Result<Fate, Unavailable> {
        if invocation.without_faults {
            return Ok(Fate { repeated: false, lost: false });
        }
        self.arrive(invocation, what).await;
        let faults = self.faults();
        let fails = self.plan.outage(what, self.now()).unwrap_or(faults.fail);
        let chosen = self.injects(invocation, what, Fault::Fails);
        if chosen || (faults != Faults::NONE && self.random.chance(fails)) {
            self.note(invocation, || format!("{what}: fails"));
            self.meet(invocation, what, Fault::Fails);
            return Err(Unavailable);
        }
        let repeated =
            self.injects(invocation, what, Fault::Repeated) || self.random.chance(faults.repeat);
        let lost =
            self.injects(invocation, what, Fault::ResponseLost) || self.random.chance(faults.lost);
        let met =
            [(repeated, Fault::Repeated), (lost, Fault::ResponseLost), (!repeated, Fault::Nothing)];
        for (_, fault) in met.into_iter().filter(|(met, _)| *met) {
            self.meet(invocation, what, fault);
        }
        Ok(Fate { repeated, lost })
    }

    /// A request on its way: it takes its time, and the caller may die before and meanwhile.
    pub(crate) async fn arrive(&self, invocation: &Invocation, what: &'static str) {
        self.step(invocation, what);
        self.may_die(invocation, what, Moment::Before).await;
        let faults = self.faults();
        let millis = if self.random.chance(faults.slow) {
            200 + self.random.below(3_800)
        } else {
            1 + self.random.below(10)
        };
        self.sleep(Duration::from_millis(millis)).await;
        self.may_die(invocation, what, Moment::Within).await;
    }

    /// After a request was carried out: the response may be lost, the caller may die.
    pub(crate) async fn leave(
        &self,
        invocation: &Invocation,
        what: &'static str,
        fate: Fate,
    ) -> Result<(), Unavailable> {
        if invocation.without_faults {
            return Ok(());
        }
        self.may_die(invocation, what, Moment::After).await;
        if fate.lost {
            self.note(invocation, || format!("{what}: response lost"));
            return Err(Unavailable);
        }
        Ok(())
    }

    /// Waits in virtual time.
    pub(crate) async fn sleep(&self, duration: Duration) {
        let at = self.now().plus(duration);
        let alarm = lock(&self.timers).set(at, self.random.bits());
        Rung(alarm).await;
    }

    /// Counts a step; every one goes into the digest, so that two runs can be compared.
    fn step(&self, invocation: &Invocation, what: &'static str) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        let mut digest = self.digest.load(Ordering::Relaxed);
        let numbers = [self.now().millis().cast_unsigned(), invocation.number];
        for word in numbers.into_iter().chain(what.bytes().map(u64::from)) {
            digest = (digest ^ word).wrapping_mul(0x0000_0100_0000_01B3);
        }
        self.digest.store(digest, Ordering::Relaxed);
    }

    /// One line of the trace, if there is one.
    pub(crate) fn note(&self, invocation: &Invocation, line: impl FnOnce() -> String) {
        let Invocation { number, function, .. } = invocation;
        self.log(|| format!("{function:?}#{number} {}", line()));
    }

    /// One line of the trace, if there is one.
    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let at = self.now().millis() - self.plan.start.millis();
            lock(trace).push(format!(
                "{:>12} {}",
                format!("{}.{:03}", at / 1000, at % 1000),
                line()
            ));
        }
    }

    pub(crate) fn take_trace(&self) -> Vec<String> {
        self.trace.as_ref().map(|trace| std::mem::take(&mut *lock(trace))).unwrap_or_default()
    }

    pub(crate) fn points(&self) -> u64 {
        self.points.load(Ordering::Relaxed)
    }

    pub(crate) fn take_calls(&self) -> Calls {
        std::mem::take(&mut *lock(&self.calls))
    }

    pub(crate) fn take_met(&self) -> Met {
        std::mem::take(&mut *lock(&self.met))
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest.load(Ordering::Relaxed)
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }
}
