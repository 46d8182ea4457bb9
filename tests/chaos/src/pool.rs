//! The environments of one function: as many as are needed concurrently, up to a limit. One that was
//! killed is replaced at the next event, as Lambda does it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lambda_events::sqs::SqsEvent;
use axum::body::Bytes;
use test_support::SeededRandom;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use webhooks_local::poller::{Handler, Invoked};

use crate::environment::{Environment, Failed, Program};
use crate::lock;

/// An invocation that is to be killed is killed within this many milliseconds.
const KILLS_WITHIN_MS: u64 = 200;

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// The function returned a result.
    Succeeded,
    /// The function reported an error.
    Error,
    /// We killed its process.
    Killed,
    /// It took too long, and its process was killed.
    TimedOut,
    /// Its process ended by itself, or could not be started: not what a function does.
    Crashed,
}

/// Which processes are killed (SIGKILL) during an invocation.
#[derive(Debug)]
pub struct Kills {
    per_mille: u64,
    random: SeededRandom,
    on: AtomicBool,
}

impl Kills {
    /// Kills this many of a thousand invocations at a random moment, if they have not ended before,
    /// and immediately after this many of ten thousand POSTs the process that made it.
    pub fn new(per_mille: u64, seed: u64) -> Arc<Self> {
        let random = SeededRandom::new(seed);
        Arc::new(Self { per_mille, random, on: AtomicBool::new(true) })
    }

    /// From now on nothing is killed.
    pub fn stop(&self) {
        self.on.store(false, Ordering::Relaxed);
    }

    /// Returns when an invocation that begins now is to be killed: never, mostly.
    async fn wait_for_kill(&self) {
        let (kills, after) =
            (self.random.chance(self.per_mille), self.random.below(KILLS_WITHIN_MS));
        if kills && self.on.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(after)).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the process is to be killed whose POST has just come in.
    pub(crate) fn kills_at_post(&self) -> bool {
        self.random.below(10_000) < self.per_mille && self.on.load(Ordering::Relaxed)
    }
}

/// The environments of one function. A clone is the same pool.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

/// A process in the middle of an invocation.
struct Busy {
    messages: Vec<String>,
    kill_requested: CancellationToken,
}

struct Inner {
    program: Program,
    kills: Arc<Kills>,
    slots: Semaphore,
    idle: Mutex<Vec<Environment>>,
    busy: Mutex<BTreeMap<u32, Busy>>,
    ended: Mutex<BTreeMap<Ended, usize>>,
    started: Mutex<usize>,
}

impl Busy {
    fn holds(&self, name: &str) -> bool {
        self.messages.iter().any(|body| body.contains(name))
    }
}

impl Pool {
    /// At most this many processes of this program. They are started when they are needed.
    pub fn new(program: Program, processes: usize, kills: Arc<Kills>) -> Self {
        let inner = Inner {
            program,
            kills,
            slots: Semaphore::new(processes),
            idle: Mutex::default(),
            busy: Mutex::default(),
            ended: Mutex::default(),
            started: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The function's name.
    pub fn name(&self) -> &'static str {
        self.inner.program.name
    }

    /// How many invocations ended in each way.
    pub fn ended(&self) -> BTreeMap<Ended, usize> {
        lock(&self.inner.ended).clone()
    }

    /// How many processes were started.
    pub fn started(&self) -> usize {
        *lock(&self.inner.started)
    }

    /// The handler for a poller.
    pub fn handler(&self) -> Handler {
        let pool = self.clone();
        Arc::new(move |batch| {
            let pool = pool.clone();
            Box::pin(async move { pool.handle(batch).await })
        })
    }

    async fn handle(&self, batch: SqsEvent) -> Invoked {
        let event = serde_json::to_vec(&batch).map_err(|error| error.to_string())?;
        let messages = batch.records.into_iter().map(|record| record.body.unwrap_or_default());
        let response = self.invoke(event.into(), messages.collect()).await;
        let response = response.map_err(|failed| format!("{failed:?}"))?;
        serde_json::from_slice(&response).map_err(|error| error.to_string())
    }

    /// Has one of the processes handle an event, which carries these messages.
    pub async fn invoke(&self, event: Bytes, messages: Vec<String>) -> Result<Bytes, Failed> {
        let inner = &*self.inner;
        let Ok(_slot) = inner.slots.acquire().await else { return Err(Failed::Ended) };
        let environment = match self.environment().await {
            Ok(environment) => environment,
            Err(error) => {
                let path = inner.program.path.display();
                tracing::error!(function = inner.program.name, %path, %error, "cannot be started");
                return Err(Failed::Ended);
            }
        };
        let kill_requested = CancellationToken::new();
        let busy = Busy { messages, kill_requested: kill_requested.clone() };
        lock(&inner.busy).insert(environment.pid, busy);
        let result = tokio::select! {
            biased;
            result = environment.invoke(event, inner.program.timeout) => result,
            () = kill_requested.cancelled() => environment.kill().await,
            () = inner.kills.wait_for_kill() => environment.kill().await,
        };
        lock(&inner.busy).remove(&environment.pid);
        let how = match &result {
            Ok(_) => Ended::Succeeded,
            Err(Failed::Error(_)) => Ended::Error,
            Err(Failed::TimedOut) => Ended::TimedOut,
            Err(Failed::Killed) => Ended::Killed,
            Err(Failed::Ended) => Ended::Crashed,
        };
        *lock(&inner.ended).entry(how).or_default() += 1;
        if !environment.has_ended() {
            lock(&inner.idle).push(environment);
        }
        result
    }

    async fn environment(&self) -> std::io::Result<Environment> {
        while let Some(idle) = lock(&self.inner.idle).pop() {
            if !idle.has_ended() {
                return Ok(idle);
            }
        }
        *lock(&self.inner.started) += 1;
        Environment::start(&self.inner.program).await
    }

    /// Whether no process has anything to do.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.inner.busy).is_empty()
    }

    /// Whether one of the processes handles a message that contains this text.
    pub(crate) fn holds(&self, name: &str) -> bool {
        let busy = lock(&self.inner.busy);
        busy.values().any(|one| one.holds(name))
    }

    /// Kills (SIGKILL) the processes that handle a message that contains this text.
    pub(crate) fn kill_holders(&self, name: &str) {
        for one in lock(&self.inner.busy).values().filter(|one| one.holds(name)) {
            one.kill_requested.cancel();
        }
    }
}

impl Ended {
    /// In a word or two.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Error => "error",
            Self::Killed => "killed",
            Self::TimedOut => "timed out",
            Self::Crashed => "crashed",
        }
    }
}
