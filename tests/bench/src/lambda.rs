//! A model of Lambda's event source mappings between the queues and the real handlers, in virtual time.
//!
//! What it assumes, from AWS's documentation of SQS event source mappings:
//!
//! * a mapping begins with [`FIRST_CONCURRENCY`] concurrent batches. While messages wait, it adds
//!   [`ADDED_PER_SECOND`] a second (300 a minute), up to the `MaximumConcurrency` of the template. When
//!   fewer are used, it falls back to what is used: a real mapping keeps them for longer;
//! * a batch has up to 10 messages, of whatever waits first. SQS fair queues are not modelled: they
//!   would only help;
//! * an invocation takes [`INVOCATION`] besides its requests to endpoints, for the tables and queues.
//!
//! Deliberately absent: cold starts, throttling by the account's limit, and faults.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use deliver::Deliver;
use dispatch::Dispatch;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use test_support::sender::{self, Reply};
use test_support::{
    MemoryDeadLetterQueue, MemoryDeliveries, MemorySubscriptions, ScriptedSender, SeededRandom,
    TestSealer, sample,
};
use tokio::time::Instant;
use webhooks_core::outbound::{Failure, HttpResult};
use webhooks_core::ports::{Clock, Outgoing, QueueError, Subscriptions as _, TaskQueue, Timer};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;
use webhooks_local::queues::{DELIVERIES, EVENTS, Queue, SLOW_DELIVERIES};

use crate::Outcome;
use crate::harness::{EVENT_TYPE, text};
use crate::report::{Latencies, number};

/// The concurrent batches with which a mapping begins.
const FIRST_CONCURRENCY: usize = 5;
/// How many it adds a second while messages wait.
const ADDED_PER_SECOND: usize = 5;
/// What an invocation takes besides its requests to endpoints.
const INVOCATION: Duration = Duration::from_millis(20);
/// What an endpoint that is well takes to answer.
const ANSWER: Duration = Duration::from_millis(50);
/// How often a mapping looks for messages.
const TICK: Duration = Duration::from_millis(5);
/// How long records are kept.
const RETENTION: Duration = Duration::from_hours(720);

/// Who publishes how much, for how long.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) healthy: u32,
    pub(crate) abusive: u32,
    pub(crate) webhooks: u32,
    pub(crate) warm_up: u64,
    pub(crate) seconds: u64,
    /// The time between two events of one abusive user, in seconds.
    pub(crate) every: u64,
    /// Whether all abusive users publish at the same moment.
    pub(crate) is_simultaneous: bool,
}

/// What the healthy users saw of a phase.
pub(crate) struct Phase {
    pub(crate) latencies: Latencies,
    pub(crate) throughput: f64,
    pub(crate) missing: usize,
    /// The most concurrent batches: of dispatch, and of deliver for each queue.
    pub(crate) batches: [usize; 3],
    /// The most messages of one owner that were in flight in the fast queue.
    pub(crate) fast_of_one_owner: usize,
}

struct Message {
    id: u64,
    body: String,
    owner: String,
    sent: Timestamp,
    visible_at: Instant,
    receives: u32,
}

#[derive(Default)]
struct State {
    next: u64,
    waiting: VecDeque<Message>,
    /// Received, delayed or hidden: not to be received before their moment.
    hidden: BTreeMap<u64, Message>,
    /// Of the batches that are being handled.
    in_flight: BTreeMap<u64, Message>,
    running: usize,
    running_most: usize,
    of_one_owner_most: usize,
}

/// A queue, read by an event source mapping.
#[derive(Clone)]
struct Lane {
    queue: Queue,
    state: Arc<Mutex<State>>,
    clock: VirtualClock,
}

/// Tokio's clock, which is paused.
#[derive(Clone, Copy)]
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        sample::start().plus(self.0.elapsed())
    }
}

#[async_trait]
impl Timer for VirtualClock {
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

type Handler = Arc<dyn Fn(SqsEvent) -> BoxFuture<'static, SqsBatchResponse> + Send + Sync>;

impl Lane {
    fn new(queue: Queue, clock: VirtualClock) -> Self {
        Self { queue, state: Arc::default(), clock }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, body: String, owner: &str, delay: Duration) {
        let (sent, visible_at) = (self.clock.now(), Instant::now() + delay);
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        let message = Message { id, body, owner: owner.to_owned(), sent, visible_at, receives: 0 };
        if delay.is_zero() {
            state.waiting.push_back(message);
        } else {
            state.hidden.insert(id, message);
        }
    }

    /// Reads the queue for ever.
    async fn poll(self, handler: Handler) {
        let (mut allowed, mut ticks) = (FIRST_CONCURRENCY, 0_u32);
        loop {
            tokio::time::sleep(TICK).await;
            ticks += 1;
            self.show_hidden();
            while let Some(batch) = self.receive(allowed) {
                tokio::spawn(self.clone().invoke(batch, Arc::clone(&handler)));
            }
            if ticks.is_multiple_of(1000 / 5) {
                let state = self.state();
                let is_behind = !state.waiting.is_empty();
                allowed = if is_behind { allowed + ADDED_PER_SECOND } else { state.running };
                allowed = allowed.clamp(FIRST_CONCURRENCY, self.queue.concurrency);
            }
        }
    }

    fn show_hidden(&self) {
        let now = Instant::now();
        let mut state = self.state();
        let due: Vec<u64> =
            state.hidden.iter().filter(|(_, m)| m.visible_at <= now).map(|(id, _)| *id).collect();
        for id in due {
            let message = state.hidden.remove(&id);
            state.waiting.extend(message);
        }
    }

    /// The event of the next batch, if one may be handled.
    fn receive(&self, allowed: usize) -> Option<Value> {
        let mut state = self.state();
        if state.waiting.is_empty() || state.running >= allowed {
            return None;
        }
        let most = state
            .waiting
            .len()
            .min(usize::try_from(self.queue.batch_size).expect("a batch size is positive"));
        let batch: Vec<Message> = state.waiting.drain(..most).collect();
        let mut records = Vec::new();
        let visible_at = Instant::now() + Duration::from_secs(self.queue.visibility_seconds);
        for mut message in batch {
            message.receives += 1;
            message.visible_at = visible_at;
            records.push(json!({
                "messageId": message.id.to_string(),
                "receiptHandle": message.id.to_string(),
                "eventSourceARN": self.queue.name,
                "body": message.body,
                "attributes": {
                    "ApproximateReceiveCount": message.receives.to_string(),
                    "SentTimestamp": message.sent.millis().to_string(),
                },
            }));
            state.in_flight.insert(message.id, message);
        }
        state.running += 1;
        state.running_most = state.running_most.max(state.running);
        let mut owners = BTreeMap::<&str, usize>::new();
        for message in state.in_flight.values() {
            *owners.entry(&message.owner).or_default() += 1;
        }
        let most = owners.into_values().max().unwrap_or(0);
        state.of_one_owner_most = state.of_one_owner_most.max(most);
        Some(json!({ "Records": records }))
    }

    async fn invoke(self, event: Value, handler: Handler) {
        let event: SqsEvent = serde_json::from_value(event).expect("the records are well-formed");
        let ids: Vec<u64> =
            event.records.iter().filter_map(|r| r.message_id.as_ref()?.parse().ok()).collect();
        tokio::time::sleep(INVOCATION).await;
        let response = handler(event).await;
        let failed: Vec<u64> = response
            .batch_item_failures
            .iter()
            .filter_map(|f| f.item_identifier.parse().ok())
            .collect();
        let mut state = self.state();
        state.running -= 1;
        for id in ids {
            let message = state.in_flight.remove(&id);
            if let Some(message) = message.filter(|_| failed.contains(&id)) {
                state.hidden.insert(id, message);
            }
        }
    }
}

#[async_trait]
impl TaskQueue for Lane {
    async fn send(&self, tasks: &[Outgoing]) -> Result<Vec<usize>, QueueError> {
        for Outgoing { task, delay, group } in tasks {
            self.push(task.to_json()?, group, *delay);
        }
        Ok(Vec::new())
    }

    async fn change_visibility(&self, messages: &[(String, Duration)]) -> Result<(), QueueError> {
        let mut state = self.state();
        for (receipt, timeout) in messages {
            let id = receipt.parse::<u64>().ok();
            if let Some(message) = id.and_then(|id| state.in_flight.get_mut(&id)) {
                message.visible_at = Instant::now() + *timeout;
            }
        }
        Ok(())
    }
}

/// What the endpoints of abusive users do, by the number of the webhook, and its timeout.
const WORST: [(&str, u32); 5] =
    [("slow", 60), ("lagging", 10), ("hanging", 10), ("resetting", 10), ("late", 10)];

fn worst(path: &str) -> Reply {
    let slow = |seconds: u64| {
        let took = HttpResult { duration_ms: seconds * 1000, ..sender::status(200) };
        Reply::After(Duration::from_secs(seconds), took)
    };
    match path {
        "slow" => slow(40),
        "lagging" => slow(8),
        "late" => slow(4),
        "hanging" => {
            let took = HttpResult { duration_ms: 10_000, ..sender::no_response(Failure::Timeout) };
            Reply::After(Duration::from_secs(10), took)
        }
        _ => Reply::Now(sender::no_response(Failure::Protocol)),
    }
}

/// Both phases: all users well, then the abusive ones at their worst.
pub(crate) fn run(load: Load) -> Outcome<[Phase; 2]> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(text)?;
    runtime.block_on(Model::run(load))
}

struct Model {
    clock: VirtualClock,
    lanes: [Lane; 3],
    arrivals: Arc<Mutex<BTreeMap<String, Instant>>>,
    is_abused: Arc<std::sync::atomic::AtomicBool>,
    load: Load,
}

impl Model {
    async fn run(load: Load) -> Outcome<[Phase; 2]> {
        let clock = VirtualClock(Instant::now());
        let lanes = [*EVENTS, *DELIVERIES, *SLOW_DELIVERIES].map(|queue| Lane::new(queue, clock));
        let subscriptions = MemorySubscriptions::default();
        create(&subscriptions, load).await?;
        let model =
            Self { clock, lanes, arrivals: Arc::default(), is_abused: Arc::default(), load };
        model.start(&subscriptions);
        model.publish("warm-up", load.warm_up).await;
        let before = model.phase("before").await;
        model.is_abused.store(true, std::sync::atomic::Ordering::Relaxed);
        let after = model.phase("after").await;
        Ok([before, after])
    }

    fn start(&self, subscriptions: &MemorySubscriptions) {
        let [events, fast, slow] = self.lanes.clone();
        let clock = self.clock;
        let subscriptions = Arc::new(subscriptions.clone());
        let (queue, slow_queue) = (Arc::new(fast.clone()), Arc::new(slow.clone()));
        let dispatch = Arc::new(Dispatch::new(
            subscriptions.clone(),
            queue.clone(),
            slow_queue.clone(),
            Arc::new(MemoryDeadLetterQueue::default()),
        ));
        let deliveries = Arc::new(MemoryDeliveries::new(Arc::new(clock)));
        let (arrivals, is_abused) = (Arc::clone(&self.arrivals), Arc::clone(&self.is_abused));
        let sender = ScriptedSender::by(move |request| {
            let event_id = serde_json::from_str::<Value>(&request.body)
                .ok()
                .and_then(|body| body["event_id"].as_str().map(str::to_owned))
                .unwrap_or_default();
            let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            arrivals.entry(event_id).or_insert_with(Instant::now);
            let path = request.url.rsplit('/').next().unwrap_or_default();
            let is_well = path == "well" || !is_abused.load(std::sync::atomic::Ordering::Relaxed);
            if is_well { Reply::After(ANSWER, sender::status(200)) } else { worst(path) }
        });
        let deliver = Arc::new(Deliver::new(
            subscriptions,
            Arc::new(TestSealer),
            deliveries.clone(),
            deliveries.clone(),
            deliveries,
            queue,
            slow_queue,
            Arc::new(sender),
            Arc::new(clock),
            Arc::new(clock),
            Arc::new(SeededRandom::new(1)),
            RETENTION,
        ));
        let dispatching: Handler = Arc::new(move |event| {
            let dispatch = Arc::clone(&dispatch);
            Box::pin(async move { dispatch.handle(event).await })
        });
        let delivering: Handler = Arc::new(move |event| {
            let deliver = Arc::clone(&deliver);
            Box::pin(async move { deliver.handle(event).await })
        });
        tokio::spawn(events.poll(dispatching));
        tokio::spawn(fast.poll(Arc::clone(&delivering)));
        tokio::spawn(slow.poll(delivering));
    }

    /// Publishes for so many seconds; returns the events of the healthy users.
    async fn publish(&self, name: &str, seconds: u64) -> Vec<(String, Instant)> {
        let Load { healthy, abusive, every, is_simultaneous, .. } = self.load;
        let mut sent = Vec::new();
        for tick in 0..seconds * u64::from(healthy) {
            // Each healthy user publishes once a second.
            let (second, user) = (tick / u64::from(healthy), tick % u64::from(healthy));
            let event_id = format!("{name}-{tick}");
            self.event(&format!("healthy-{user}"), &event_id);
            sent.push((event_id, Instant::now()));
            if user == 0 {
                for abuser in 0..abusive {
                    let turn = if is_simultaneous { 0 } else { u64::from(abuser) % every };
                    if second % every == turn {
                        let event_id = format!("{name}-abusive-{abuser}-{second}");
                        self.event(&format!("abusive-{abuser}"), &event_id);
                    }
                }
            }
            tokio::time::sleep(Duration::from_secs(1) / healthy).await;
        }
        sent
    }

    fn event(&self, user: &str, event_id: &str) {
        let body =
            json!({"event_type": EVENT_TYPE, "user_id": user, "event_id": event_id, "data": {}});
        self.lanes[0].push(body.to_string(), user, Duration::ZERO);
    }

    async fn phase(&self, name: &str) -> Phase {
        for lane in &self.lanes {
            let mut state = lane.state();
            (state.running_most, state.of_one_owner_most) = (0, 0);
        }
        let began = Instant::now();
        let sent = self.publish(name, self.load.seconds).await;
        let published = Instant::now();
        tokio::time::sleep(Duration::from_mins(1)).await;
        let end = Instant::now();
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let at: Vec<_> = sent.iter().map(|(event_id, _)| arrivals.get(event_id).copied()).collect();
        let took = at.iter().zip(&sent).map(|(at, (_, sent))| at.unwrap_or(end) - *sent);
        let in_time = at.iter().flatten().filter(|at| **at <= published).count();
        Phase {
            latencies: Latencies::new(took),
            throughput: number(in_time) / (published - began).as_secs_f64(),
            missing: at.iter().filter(|at| at.is_none()).count(),
            batches: [0, 1, 2].map(|lane: usize| self.lanes[lane].state().running_most),
            fast_of_one_owner: self.lanes[1].state().of_one_owner_most,
        }
    }
}

async fn create(subscriptions: &MemorySubscriptions, load: Load) -> Outcome<()> {
    let mut all = Vec::new();
    for user in 0..load.healthy {
        all.push((format!("healthy-{user}"), 1, "well", 10));
    }
    for user in 0..load.abusive {
        for webhook in 1..=load.webhooks {
            let (path, timeout) = WORST[webhook as usize % WORST.len()];
            all.push((format!("abusive-{user}"), u64::from(webhook), path, timeout));
        }
    }
    for (user, n, path, timeout_seconds) in all {
        let url = format!("https://{user}-{n}.example/{path}");
        let event_types = vec![sample::event_type(EVENT_TYPE).into()];
        let subscription =
            Subscription { url, timeout_seconds, event_types, ..sample::subscription(&user, n) };
        subscriptions.create(&subscription).await.map_err(text)?;
    }
    Ok(())
}
