//! The parts of a fault run: the local system without its functions, the functions as processes,
//! proxies between them, webhooks and their receivers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use webhooks_aws::{SystemClock, config};
use webhooks_core::ports::{Clock as _, Consistency, Lease, Version};
use webhooks_core::time::Timestamp;
use webhooks_local::poller;
use webhooks_local::queues::{DELIVERIES, EVENTS, Queue, SLOW_DELIVERIES};
use webhooks_local::system::{
    self, Addresses, DELIVERIES_TABLE, Options, SEALING_KEY, SUBSCRIPTIONS_TABLE, System,
};

use crate::clock::SkippingClock;
use crate::environment::Program;
use crate::faults::{Faults, Rates};
use crate::harness::Harness;
use crate::pool::{Kills, Pool};
use crate::{Outcome, relay, text};

/// Longer than any function may take: the pools see to that.
const POLLER_PATIENCE: Duration = Duration::from_mins(15);

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

/// The options of a test bed.
#[derive(Clone, Debug)]
pub struct TestbedOptions {
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
    pub visibility_seconds: u64,
    /// How long the functions may take.
    pub timeout: Duration,
}

/// Everything, running.
pub(crate) struct Testbed {
    pub(crate) harness: Harness,
    system: System,
    clock: Arc<SkippingClock>,
    pub(crate) tables: Arc<Faults>,
    pub(crate) queues: Arc<Faults>,
    pub(crate) dispatch: Pool,
    pub(crate) deliver: Pool,
    pub(crate) retry: Pool,
    pub(crate) cleanup: Pool,
    kills: Arc<Kills>,
    stop: CancellationToken,
    pollers: JoinSet<()>,
}

impl Testbed {
    pub(crate) async fn start(options: &TestbedOptions) -> Outcome<Self> {
        let shortened = |queue: Queue| Queue {
            visibility_seconds: options.visibility_seconds,
            function_timeout: options.timeout,
            ..queue
        };
        let queues = [*EVENTS, *DELIVERIES, *SLOW_DELIVERIES].map(shortened);
        let clock = Arc::new(SkippingClock::new());
        let local = Options {
            queues,
            queue_clock: clock.clone(),
            runs_functions: false,
            ..Options::on_free_ports()
        };
        let system = system::start(local).await.map_err(text)?;
        let addresses = system.addresses();

        let tables_faults = Faults::new(options.tables.clone(), options.seed);
        let queues_faults = Faults::new(options.queues.clone(), options.seed.wrapping_add(1));
        let proxy = |upstream, faults: &Arc<Faults>| relay::serve(upstream, Arc::clone(faults));
        let tables = proxy(addresses.dynamodb, &tables_faults).await.map_err(text)?;
        let tasks = proxy(addresses.sqs, &queues_faults).await.map_err(text)?;

        let kills = Kills::new(options.kills, options.seed.wrapping_add(3));
        let pool = |name, path: &Path, processes| {
            let path = path.to_owned();
            let variables = variables(addresses, tables, tasks);
            let program = Program { name, path, variables, timeout: options.timeout };
            Pool::new(program, processes, Arc::clone(&kills))
        };
        let dispatch = pool("dispatch", &options.bootstraps.dispatch, options.dispatchers);
        let deliver = pool("deliver", &options.bootstraps.deliver, options.deliverers);
        let retry = pool("retry", &options.bootstraps.retry, 1);
        let cleanup = pool("cleanup", &options.bootstraps.cleanup, 1);

        let stop = CancellationToken::new();
        let mut pollers = JoinSet::new();
        for (queue, pool, processes) in [
            (queues[0], &dispatch, options.dispatchers),
            (queues[1], &deliver, options.deliverers),
            (queues[2], &deliver, options.deliverers),
        ] {
            let queue =
                Queue { concurrency: processes, function_timeout: POLLER_PATIENCE, ..queue };
            let source = system::source(queue, addresses);
            let client = poller::client(&Addresses::url(addresses.sqs));
            pollers.spawn(poller::run(client, source, pool.handler(), stop.clone()));
        }

        let (killing, holders) = (Arc::clone(&kills), deliver.clone());
        let on_post = move |delivery_id: &str| {
            if killing.kills_at_post() {
                holders.kill_holders(delivery_id);
            }
        };
        let harness = Harness::open(
            addresses,
            options.users,
            options.seed,
            options.publishing.clone(),
            on_post,
        );
        Ok(Self {
            harness: harness.await?,
            tables: tables_faults,
            queues: queues_faults,
            dispatch,
            deliver,
            retry,
            cleanup,
            kills,
            stop,
            pollers,
            clock,
            system,
        })
    }

    /// Whether no function has anything to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.dispatch.is_idle() && self.deliver.is_idle()
    }

    /// Ends the leases and visibility timeouts that killed processes and failed invocations left behind,
    /// so that a run need not wait for them. Messages that a process is handling stay hidden.
    pub(crate) async fn expire_timeouts(&self) -> Outcome<()> {
        let much_later = SystemClock.now().plus(Duration::from_hours(1));
        let ended = Lease { holder: String::new(), now: much_later, until: Timestamp::EPOCH };
        let waiting = self.harness.waiting().await?;
        if waiting.is_empty() && self.harness.depth().await?.ready == 0 && self.is_idle() {
            // What is still hidden asks for deliveries that have ended.
            self.clock.skip(Duration::from_hours(1));
        }
        for due in waiting {
            let Some(id) = due.row.delivery_id() else { continue };
            let subscription = &due.subscription_id;
            let record = self.harness.deliveries.get(subscription, id, Consistency::Strong).await;
            let Some(record) = record.map_err(text)? else { continue };
            if !self.deliver.holds(id.as_str()) {
                let lease =
                    self.harness.deliveries.lease(subscription, id, Version::of(&record), &ended);
                lease.await.map_err(text)?;
            }
        }
        if self.is_idle() {
            for queue in [EVENTS.name, DELIVERIES.name, SLOW_DELIVERIES.name] {
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

    /// From now on nothing fails.
    pub(crate) fn stop_faults(&self) {
        for faults in [&self.tables, &self.queues, &self.harness.publishing] {
            faults.stop();
        }
        self.kills.stop();
    }

    /// Calls that are still under way although nobody waits for them.
    pub(crate) fn late(&self) -> usize {
        [&self.tables, &self.queues, &self.harness.publishing]
            .iter()
            .map(|faults| faults.late())
            .sum()
    }

    /// Stops everything.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.pollers.join_next().await.is_some() {}
        self.system.stop().await;
    }
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
        (config::DELIVERIES_SLOW_QUEUE_URL, addresses.queue_url(SLOW_DELIVERIES.name)),
        (config::EVENTS_DLQ_URL, addresses.queue_url(EVENTS.dead_letter_queue)),
        (config::RETENTION_DAYS, "30".to_owned()),
        (config::SECRETS_KEYS, SEALING_KEY.to_owned()),
        (config::TARGET_POLICY, "development".to_owned()),
        ("LOG_LEVEL", "error".to_owned()),
    ])
}
