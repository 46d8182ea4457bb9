//! What a run plays on: the local system without its functions, the functions as processes, proxies
//! between them, webhooks and their receivers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use webhooks_aws::{DynamoDeliveries, SystemClock, clients, config};
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::limits::DUE_SHARDS;
use webhooks_core::ports::{Clock as _, Consistency, Deliveries, Due, Lease};
use webhooks_core::time::Timestamp;
use webhooks_local::queues::{DELIVERIES, EVENTS, Queue};
use webhooks_local::system::{
    self, Addresses, DELIVERIES_TABLE, Options, SEALING_KEY, SUBSCRIPTIONS_TABLE, System,
};
use webhooks_local::{http, poller, token};
use webhooks_publisher::Publisher;

use crate::clock::SkippingClock;
use crate::environment::Program;
use crate::faults::{Faults, Rates};
use crate::plan::{EVENT_TYPE, Endpoint};
use crate::pool::{Invocation, Kills, Pool};
use crate::receivers::Receivers;
use crate::{Outcome, relay, text};

/// Longer than any function may take: the pools see to that.
const POLLER_PATIENCE: Duration = Duration::from_mins(15);
/// Rows of the due index that are read at once.
const PAGE: usize = 500;

/// The bootstraps of the functions.
#[derive(Clone, Debug)]
pub struct Bootstraps {
    /// `dispatch`.
    pub dispatch: PathBuf,
    /// `deliver`.
    pub deliver: PathBuf,
    /// `retry`.
    pub retry: PathBuf,
    /// `cleanup`.
    pub cleanup: PathBuf,
}

impl Bootstraps {
    /// Those that a build has put into this directory.
    pub fn beside(dir: &Path) -> Self {
        let path = |name: &str| dir.join(name);
        Self {
            dispatch: path("dispatch"),
            deliver: path("deliver"),
            retry: path("retry"),
            cleanup: path("cleanup"),
        }
    }
}

/// How the stage is set.
#[derive(Clone, Debug)]
pub struct Set {
    /// What runs.
    pub bootstraps: Bootstraps,
    /// What repeats the mixture of faults.
    pub seed: u64,
    /// How many users there are.
    pub users: usize,
    /// What goes wrong between the functions and the tables.
    pub tables: Rates,
    /// What goes wrong between the functions and the queues.
    pub queues: Rates,
    /// What goes wrong between the publisher and the queues.
    pub publishing: Rates,
    /// Processes of `dispatch`.
    pub dispatchers: usize,
    /// Processes of `deliver`.
    pub deliverers: usize,
    /// How many of a thousand invocations are killed at some moment, and after how many of ten
    /// thousand POSTs the process that made it.
    pub kills: u64,
    /// How long a received message stays hidden, in seconds.
    pub visibility_seconds: u32,
    /// How long the functions may take.
    pub timeout: Duration,
}

/// A webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its id.
    pub id: SubscriptionId,
    /// Its owner.
    pub user: String,
    /// What kind of endpoint it has.
    pub endpoint: Endpoint,
    /// When its deletion had been answered.
    pub deleted: Option<Instant>,
}

/// The messages of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// That can be received.
    pub(crate) ready: usize,
    /// That were received or are held back.
    pub(crate) hidden: usize,
}

/// Everything, running.
pub(crate) struct Stage {
    pub(crate) system: System,
    clock: Arc<SkippingClock>,
    pub(crate) receivers: Receivers,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) publisher: Publisher,
    pub(crate) deliveries: Arc<dyn Deliveries>,
    pub(crate) tables: Arc<Faults>,
    pub(crate) queues: Arc<Faults>,
    pub(crate) publishing: Arc<Faults>,
    pub(crate) dispatch: Pool,
    pub(crate) deliver: Pool,
    pub(crate) retry: Pool,
    pub(crate) cleanup: Pool,
    kills: Arc<Kills>,
    stop: CancellationToken,
    pollers: JoinSet<()>,
}

impl Stage {
    pub(crate) async fn set(set: &Set) -> Outcome<Self> {
        let shortened = |queue: Queue| Queue {
            visibility_seconds: set.visibility_seconds,
            function_timeout: set.timeout,
            ..queue
        };
        let queues = [EVENTS, DELIVERIES].map(shortened);
        let clock = Arc::new(SkippingClock::new());
        let queue_clock = clock.clone();
        let options =
            Options { queues, queue_clock, runs_functions: false, ..Options::on_free_ports() };
        let system = system::start(options).await.map_err(text)?;
        let addresses = system.addresses();

        let tables_faults = Faults::new(set.tables.clone(), set.seed);
        let queues_faults = Faults::new(set.queues.clone(), set.seed.wrapping_add(1));
        let publishing = Faults::new(set.publishing.clone(), set.seed.wrapping_add(2));
        let proxy = |upstream, faults: &Arc<Faults>| relay::serve(upstream, Arc::clone(faults));
        let tables = proxy(addresses.dynamodb, &tables_faults).await.map_err(text)?;
        let tasks = proxy(addresses.sqs, &queues_faults).await.map_err(text)?;
        let events = proxy(addresses.sqs, &publishing).await.map_err(text)?;

        let kills = Kills::new(set.kills, set.seed.wrapping_add(3));
        let pool = |name, path: &Path, processes| {
            let path = path.to_owned();
            let variables = variables(addresses, tables, tasks);
            let program = Program { name, path, variables, timeout: set.timeout };
            Pool::new(program, processes, Arc::clone(&kills))
        };
        let dispatch = pool("dispatch", &set.bootstraps.dispatch, set.dispatchers);
        let deliver = pool("deliver", &set.bootstraps.deliver, set.deliverers);
        let retry = pool("retry", &set.bootstraps.retry, 1);
        let cleanup = pool("cleanup", &set.bootstraps.cleanup, 1);

        let stop = CancellationToken::new();
        let mut pollers = JoinSet::new();
        for (queue, pool, processes) in
            [(queues[0], &dispatch, set.dispatchers), (queues[1], &deliver, set.deliverers)]
        {
            let queue =
                Queue { concurrency: processes, function_timeout: POLLER_PATIENCE, ..queue };
            let source = system::source(queue, addresses);
            let client = poller::client(&Addresses::url(addresses.sqs));
            pollers.spawn(poller::run(client, source, pool.handler(), stop.clone()));
        }

        let endpoints: Vec<Vec<Endpoint>> = (0..set.users).map(Endpoint::of_user).collect();
        let (killing, holders) = (Arc::clone(&kills), deliver.clone());
        let on_post = move |delivery_id: &str| {
            if killing.strikes_at_post() {
                holders.kill_holders(delivery_id);
            }
        };
        let receivers = Receivers::start(endpoints.concat(), set.seed, on_post);
        let receivers = receivers.await.map_err(text)?;
        let tables = clients::dynamodb(&clients::local(&Addresses::url(addresses.dynamodb)));
        let table = DELIVERIES_TABLE.to_owned();
        let deliveries = DynamoDeliveries::new(tables, table, Arc::new(SystemClock));
        let through_proxy = clients::sqs(&clients::local(&Addresses::url(events)));
        let mut stage = Self {
            receivers,
            webhooks: Vec::new(),
            publisher: Publisher::new(through_proxy, addresses.queue_url(EVENTS.name)),
            deliveries: Arc::new(deliveries),
            tables: tables_faults,
            queues: queues_faults,
            publishing,
            dispatch,
            deliver,
            retry,
            cleanup,
            kills,
            stop,
            pollers,
            clock,
            system,
        };
        for (user, endpoints) in endpoints.into_iter().enumerate() {
            for endpoint in endpoints {
                stage.subscribe(&user_name(user), endpoint).await?;
            }
        }
        Ok(stage)
    }

    async fn subscribe(&mut self, user: &str, endpoint: Endpoint) -> Outcome<()> {
        let body = json!({
            "url": self.receivers.url(self.webhooks.len()),
            "event_types": [EVENT_TYPE],
            "retry_count": endpoint.retry_count(),
        });
        let webhook = self.api(user, "POST", "/api/webhooks", Some(&body), 201).await?;
        let id = webhook["id"].as_str().unwrap_or_default();
        let id = id.parse().map_err(|_| format!("{id} is no webhook id"))?;
        self.webhooks.push(Webhook { id, user: user.to_owned(), endpoint, deleted: None });
        Ok(())
    }

    /// Makes a request of the API for a user, which must be answered with this status.
    async fn api(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
        expected: u16,
    ) -> Outcome<Value> {
        let id: UserId = user.parse().map_err(|_| format!("{user} is no user id"))?;
        let token = token::issue(&id, SystemClock.now()).map_err(text)?;
        let api = self.system.addresses().api;
        let (status, answer) = http::call(api, method, path, Some(&token), body).await?;
        if status == expected { Ok(answer) } else { Err(format!("{method} {path}: {answer}")) }
    }

    /// Pauses or resumes the webhooks that are to be paused.
    pub(crate) async fn set_active(&self, is_active: bool) -> Outcome<()> {
        for webhook in self.webhooks.iter().filter(|one| one.endpoint == Endpoint::Paused) {
            let path = format!("/api/webhooks/{}", webhook.id);
            let body = json!({ "is_active": is_active });
            self.api(&webhook.user, "PATCH", &path, Some(&body), 200).await?;
        }
        Ok(())
    }

    /// Deletes the webhooks that are to be deleted; says when each of them was.
    pub(crate) async fn delete(&self) -> Outcome<HashMap<SubscriptionId, Instant>> {
        let mut deleted = HashMap::new();
        for webhook in self.webhooks.iter().filter(|one| one.endpoint == Endpoint::Deleted) {
            let path = format!("/api/webhooks/{}", webhook.id);
            self.api(&webhook.user, "DELETE", &path, None, 204).await?;
            deleted.insert(webhook.id.clone(), Instant::now());
        }
        Ok(deleted)
    }

    /// The statistics that a webhook's owner is shown; nothing where it has been deleted.
    pub(crate) async fn statistics(&self, webhook: &Webhook) -> Outcome<Option<Value>> {
        if webhook.deleted.is_some() {
            return Ok(None);
        }
        let path = format!("/api/webhooks/{}", webhook.id);
        let mut shown = self.api(&webhook.user, "GET", &path, None, 200).await?;
        Ok(Some(shown["statistics"].take()))
    }

    /// The messages of the events queue and the deliveries queue.
    pub(crate) fn depth(&self) -> Outcome<Depth> {
        let (events, tasks) = (self.depth_of(EVENTS.name)?, self.depth_of(DELIVERIES.name)?);
        let hidden = [events, tasks].map(|depth| depth.in_flight + depth.delayed);
        Ok(Depth { ready: events.visible + tasks.visible, hidden: hidden.iter().sum() })
    }

    /// The messages that were given up: events, and tasks.
    pub(crate) fn dead(&self) -> Outcome<(usize, usize)> {
        let total = |queue| self.depth_of(queue).map(local_sqs::Depth::total);
        Ok((total(EVENTS.dead_letters)?, total(DELIVERIES.dead_letters)?))
    }

    fn depth_of(&self, queue: &str) -> Outcome<local_sqs::Depth> {
        let depth = self.system.sqs().depth(queue).map_err(text)?;
        depth.ok_or_else(|| format!("{queue}: no such queue"))
    }

    /// The deliveries that wait for a retry.
    pub(crate) async fn waiting(&self) -> Outcome<Vec<Due>> {
        let ever = SystemClock.now().plus(Duration::from_hours(10_000));
        let mut all = Vec::new();
        for shard in 0..DUE_SHARDS {
            let mut after = None;
            loop {
                let page = self.deliveries.due(shard, ever, PAGE, after.as_ref()).await;
                let page = page.map_err(text)?;
                all.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(all)
    }

    /// Whether no function has anything to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.dispatch.is_idle() && self.deliver.is_idle()
    }

    /// Saves a run the wait for what a process left behind that was killed, or that could not do its
    /// work: the time of its leases runs out, and that of messages that were hidden by nothing but
    /// the receive. What processes have in their hands is left alone.
    pub(crate) async fn hurry(&self) -> Outcome<()> {
        let much_later = SystemClock.now().plus(Duration::from_hours(1));
        let ended = Lease { holder: String::new(), now: much_later, until: Timestamp::EPOCH };
        let waiting = self.waiting().await?;
        if waiting.is_empty() && self.depth()?.ready == 0 && self.is_idle() {
            // What is still hidden asks for deliveries that have ended.
            self.clock.skip(Duration::from_hours(1));
        }
        for due in waiting {
            let (subscription, id) = (&due.subscription_id, &due.delivery_id);
            let record = self.deliveries.get(subscription, id, Consistency::Strong).await;
            let Some(record) = record.map_err(text)? else { continue };
            if !self.deliver.holds(id.as_str()) {
                let lease = self.deliveries.lease(subscription, id, record.attempt_count(), &ended);
                lease.await.map_err(text)?;
            }
        }
        if self.is_idle() {
            for queue in [EVENTS.name, DELIVERIES.name] {
                self.system.sqs().release(queue).map_err(text)?;
            }
        }
        Ok(())
    }

    /// Runs the schedules once: the real functions, under the same faults. A run that fails is made
    /// up for by the next, as deployed.
    pub(crate) async fn run_schedules(&self) {
        let event = || Bytes::from_static(b"{}");
        let _ = self.retry.invoke(event(), Vec::new()).await;
        let _ = self.cleanup.invoke(event(), Vec::new()).await;
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        for faults in [&self.tables, &self.queues, &self.publishing] {
            faults.stop();
        }
        self.kills.stop();
    }

    /// Calls that are still under way although nobody waits for them.
    pub(crate) fn late(&self) -> usize {
        [&self.tables, &self.queues, &self.publishing].iter().map(|faults| faults.late()).sum()
    }

    /// Every invocation of a function that reads a queue: of `dispatch`, and of `deliver`.
    pub(crate) fn invocations(&self) -> (Vec<Invocation>, Vec<Invocation>) {
        (self.dispatch.invocations(), self.deliver.invocations())
    }

    /// Stops everything.
    pub(crate) async fn strike(mut self) {
        self.stop.cancel();
        while self.pollers.join_next().await.is_some() {}
        self.system.stop().await;
    }
}

/// The name of a user, by its number.
pub(crate) fn user_name(user: usize) -> String {
    format!("user-{user}")
}

/// The variables that the template gives the functions. More than one function needs is harmless
/// here; that each has what it needs is proven elsewhere.
fn variables(
    addresses: Addresses,
    tables: SocketAddr,
    queues: SocketAddr,
) -> HashMap<&'static str, String> {
    HashMap::from([
        ("AWS_ENDPOINT_URL_DYNAMODB", Addresses::url(tables)),
        ("AWS_ENDPOINT_URL_SQS", Addresses::url(queues)),
        (config::SUBSCRIPTIONS_TABLE, SUBSCRIPTIONS_TABLE.to_owned()),
        (config::DELIVERIES_TABLE, DELIVERIES_TABLE.to_owned()),
        (config::DELIVERIES_QUEUE_URL, addresses.queue_url(DELIVERIES.name)),
        (config::EVENTS_DLQ_URL, addresses.queue_url(EVENTS.dead_letters)),
        (config::RETENTION_DAYS, "30".to_owned()),
        (config::SECRETS_KEYS, SEALING_KEY.to_owned()),
        (config::TARGET_POLICY, "development".to_owned()),
        ("LOG_LEVEL", "error".to_owned()),
    ])
}
