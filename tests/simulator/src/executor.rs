//! Time and turns: what runs next is decided here, by the virtual clock and the seed alone.
//!
//! A task runs until it waits for a moment; then the clock jumps to the next moment that anything
//! waits for. The seed orders those that wait for the same moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use webhooks_core::time::Timestamp;

/// Locks what is only ever used by one thread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that runs beside the others.
pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task, and the switch that says that its process has died.
pub(crate) struct Task {
    pub(crate) job: Job,
    pub(crate) dead: Arc<AtomicBool>,
}

/// Who waits for which moment.
#[derive(Default)]
pub(crate) struct Timers {
    waiting: BinaryHeap<Reverse<(Timestamp, u64, u64)>>,
    alarms: BTreeMap<u64, Arc<Alarm>>,
    next: u64,
}

/// One wait for a moment.
#[derive(Default)]
pub(crate) struct Alarm {
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Timers {
    /// An alarm for this moment; `tie` orders it among those of the same moment.
    pub(crate) fn set(&mut self, at: Timestamp, tie: u64) -> Arc<Alarm> {
        let alarm = Arc::new(Alarm::default());
        self.waiting.push(Reverse((at, tie, self.next)));
        self.alarms.insert(self.next, Arc::clone(&alarm));
        self.next += 1;
        alarm
    }

    /// The moment of the next alarm.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.waiting.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next alarm.
    pub(crate) fn pop(&mut self) -> Option<Arc<Alarm>> {
        let Reverse((_, _, number)) = self.waiting.pop()?;
        self.alarms.remove(&number)
    }
}

impl Alarm {
    /// Wakes who waits.
    pub(crate) fn wake(&self) {
        self.rung.store(true, Ordering::Relaxed);
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }
}

/// Waits for an alarm.
pub(crate) struct Rung(pub(crate) Arc<Alarm>);

impl Future for Rung {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.rung.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        *lock(&self.0.waker) = Some(context.waker().clone());
        Poll::Pending
    }
}

type Ready = Arc<Mutex<VecDeque<u64>>>;

struct TaskWaker {
    task: u64,
    ready: Ready,
    queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push_back(self.task);
        }
    }
}

/// The tasks under way.
#[derive(Default)]
pub(crate) struct Executor {
    tasks: BTreeMap<u64, (Task, Arc<TaskWaker>)>,
    ready: Ready,
    next: u64,
}

impl Executor {
    /// Takes a task in; it runs with the next [`Executor::run_ready`].
    pub(crate) fn spawn(&mut self, task: Task) {
        let number = self.next;
        self.next += 1;
        let ready = Arc::clone(&self.ready);
        let waker = Arc::new(TaskWaker { task: number, ready, queued: AtomicBool::new(true) });
        self.tasks.insert(number, (task, waker));
        lock(&self.ready).push_back(number);
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Runs the next task that can continue; `false` when every one waits. A task whose process died
    /// meanwhile is dropped.
    pub(crate) fn run_one(&mut self) -> bool {
        let Some(number) = lock(&self.ready).pop_front() else { return false };
        let Some((task, waker)) = self.tasks.get_mut(&number) else { return true };
        waker.queued.store(false, Ordering::Relaxed);
        let context_waker = Waker::from(Arc::clone(waker));
        let polled = task.job.as_mut().poll(&mut Context::from_waker(&context_waker));
        if polled.is_ready() || task.dead.load(Ordering::Relaxed) {
            self.tasks.remove(&number);
        }
        true
    }
}
