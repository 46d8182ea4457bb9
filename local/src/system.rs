//! The whole system in one process: the stand-ins for AWS and the deployed handlers.
//!
//! [`start`] binds every address first, so that a busy port is reported before anything else
//! happens; then it opens the tables and the queues, builds the functions, and serves the API last.
//! [`System::stop`] stops in the opposite order and finishes the invocations that have begun.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use local_sqs::Sqs;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{self, Handle, Runtime};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use webhooks_aws::tables::{self, TableNames};
use webhooks_aws::{
    DynamoDeliveries, DynamoSubscriptions, Sealer, SqsDeadLetterQueue, SqsTaskQueue, SystemClock,
    SystemRandom,
};
use webhooks_core::ports::{Clock, Random, Sender};
use webhooks_core::target::TargetPolicy;
use webhooks_core::verification::EndpointVerification;
use webhooks_outbound::GuardedClient;

use crate::functions::{self, Functions, Ports};
use crate::gateway::{self, Gateway};
use crate::listener::{self, Bounds};
use crate::local_api::{self, LocalApi};
use crate::poller::{self, Source};
use crate::queues::{self, DELIVERIES, EVENTS, Queue, SLOW_DELIVERIES};
use crate::receiver::{self, Receiver};
use crate::schedule::Schedule;
use crate::template::Template;
use crate::{cli, dynamodb, in_process};

/// The name of the Subscriptions table.
pub const SUBSCRIPTIONS_TABLE: &str = "webhook-subscriptions";
/// The name of the Deliveries table.
pub const DELIVERIES_TABLE: &str = "webhook-deliveries";
/// Encrypts the signing secrets in the local table: `webhooks local development key!!` in base64.
/// It is public, like the key of the tokens, and must never be deployed.
pub const SEALING_KEY: &str = "local:d2ViaG9va3MgbG9jYWwgZGV2ZWxvcG1lbnQga2V5ISE=";
/// Idle connections to one host. This process makes the attempts of as many batches as all processes of
/// `deliver` in AWS.
const IDLE_PER_HOST: usize = 100;
/// How long invocations that have begun may continue after a stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How to start a system.
#[derive(Clone)]
pub struct Options {
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where the SQS endpoint listens.
    pub sqs: SocketAddr,
    /// Where the DynamoDB endpoint listens.
    pub dynamodb: SocketAddr,
    /// Where the receiver listens.
    pub receiver: SocketAddr,
    /// The directory of the tables and queues; `None` keeps them until the end.
    pub data_dir: Option<PathBuf>,
    /// The rules for the URLs of webhooks.
    pub policy: TargetPolicy,
    /// Whether endpoints have to prove that they want a webhook.
    pub verification: EndpointVerification,
    /// Whether the data of events is checked against the schema of its type.
    pub strict_event_data: bool,
    /// The name server for the hosts of webhooks; `None` means those of the system.
    pub name_server: Option<SocketAddr>,
    /// Whether the receiver prints its requests.
    pub prints: bool,
    /// The clock of the service.
    pub clock: Arc<dyn Clock>,
    /// The clock of the queues.
    pub queue_clock: Arc<dyn local_sqs::Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The events queue and the deliveries queues.
    pub queues: [Queue; 3],
    /// Whether the functions of queues and schedules run here. Otherwise the caller polls the queues.
    pub runs_functions: bool,
}

impl Options {
    /// In memory, on free ports, without output: for tests and the demo.
    pub fn on_free_ports() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            api: any,
            sqs: any,
            dynamodb: any,
            receiver: any,
            data_dir: None,
            policy: TargetPolicy::Development,
            verification: EndpointVerification::Off,
            strict_event_data: false,
            name_server: None,
            prints: false,
            clock: Arc::new(SystemClock),
            queue_clock: Arc::new(local_sqs::SystemClock),
            random: Arc::new(SystemRandom),
            queues: [*EVENTS, *DELIVERIES, *SLOW_DELIVERIES],
            runs_functions: true,
        }
    }

    /// From the flags of the command line.
    pub fn from_flags(flags: &cli::Serve) -> Self {
        let policy =
            if flags.strict_targets { TargetPolicy::Strict } else { TargetPolicy::Development };
        let verification = if flags.verify_endpoints {
            EndpointVerification::Required
        } else {
            EndpointVerification::Off
        };
        Self {
            verification,
            strict_event_data: flags.strict_event_data,
            api: flags.api_addr,
            sqs: flags.sqs_addr,
            dynamodb: flags.dynamodb_addr,
            receiver: flags.receiver_addr,
            data_dir: flags.data_dir.clone(),
            policy,
            name_server: flags.name_server,
            prints: !flags.json,
            ..Self::on_free_ports()
        }
    }
}

/// Why a system did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(
        "{flag} {address}: {reason}. Choose another address with {flag}; port 0 takes a free one"
    )]
    Address {
        /// The flag that gives the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        reason: String,
    },
    /// The data directory cannot be used.
    #[error("--data-dir {}: {reason}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another part cannot be started.
    #[error("cannot start {what}: {reason}")]
    Part {
        /// The part.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where everything listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The API.
    pub api: SocketAddr,
    /// The SQS endpoint.
    pub sqs: SocketAddr,
    /// The DynamoDB endpoint.
    pub dynamodb: SocketAddr,
    /// The receiver.
    pub receiver: SocketAddr,
}

impl Addresses {
    /// The base URL of an address.
    pub fn url(address: SocketAddr) -> String {
        format!("http://{}", reachable(address))
    }

    /// The URL of a queue.
    pub fn queue_url(&self, name: &str) -> String {
        format!("{}/{}/{name}", Self::url(self.sqs), local_sqs::ACCOUNT)
    }

    /// All addresses and names, for programs.
    pub fn to_json(self) -> Value {
        json!({
            "api": Self::url(self.api),
            "sqs": Self::url(self.sqs),
            "dynamodb": Self::url(self.dynamodb),
            "receiver": Self::url(self.receiver),
            "events_queue_url": self.queue_url(EVENTS.name),
            "deliveries_queue_url": self.queue_url(DELIVERIES.name),
            "subscriptions_table": SUBSCRIPTIONS_TABLE,
            "deliveries_table": DELIVERIES_TABLE,
        })
    }
}

/// An address that a client on this machine can connect to.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// A running system. Dropping it stops it immediately.
pub struct System {
    addresses: Addresses,
    sqs: Arc<Sqs>,
    receiver: Arc<Receiver>,
    stop_work: CancellationToken,
    work: JoinSet<()>,
    stop_servers: CancellationToken,
    servers: JoinSet<()>,
    _slow_deliveries: Option<SlowDeliveries>,
}

/// The runtime of the slow deliveries queue. An event for many slow webhooks is many attempts in the same
/// moment; the others do not wait until all of these had a thread.
struct SlowDeliveries(Option<Runtime>);

impl SlowDeliveries {
    fn start() -> Result<Self, StartError> {
        let runtime = runtime::Builder::new_multi_thread()
            .thread_name("slow-deliveries")
            .on_thread_start(lower_priority)
            .enable_all()
            .build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(|error| part("a thread", &error))
    }

    fn handle(&self) -> &Handle {
        let Self(runtime) = self;
        runtime.as_ref().expect("only a drop takes it").handle()
    }
}

impl Drop for SlowDeliveries {
    fn drop(&mut self) {
        let Self(runtime) = self;
        if let Some(runtime) = runtime.take() {
            // Without waiting, which a task of another runtime must not.
            runtime.shutdown_background();
        }
    }
}

/// Lets threads with work for quick endpoints go first.
fn lower_priority() {
    // On Linux this is of the calling thread, elsewhere of the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 10) {
        tracing::debug!(%error, "the slow deliveries run with normal priority");
    }
}

struct Listeners {
    api: TcpListener,
    sqs: TcpListener,
    dynamodb: TcpListener,
    receiver: TcpListener,
}

/// Starts a system and returns once everything is up.
pub async fn start(options: Options) -> Result<System, StartError> {
    let listeners = Listeners {
        api: bind("--api-addr", options.api).await?,
        sqs: bind("--sqs-addr", options.sqs).await?,
        dynamodb: bind("--dynamodb-addr", options.dynamodb).await?,
        receiver: bind("--receiver-addr", options.receiver).await?,
    };
    let addresses = listeners.addresses()?;
    let (stop_work, stop_servers) = (CancellationToken::new(), CancellationToken::new());
    let (mut work, mut servers) = (JoinSet::new(), JoinSet::new());

    let sqs = Arc::new(open_sqs(&options)?);
    queues::create(&sqs, &options.queues).map_err(|error| part("the queues", &error))?;
    serve(&mut servers, &stop_servers, listeners.sqs, local_sqs::router(sqs.clone()));
    let database = dynamodb::open(options.data_dir.as_deref())
        .map_err(|reason| data_dir_or_part(&options, "the tables", reason))?;
    servers.spawn(dynamodb::serve(listeners.dynamodb, database.clone(), stop_servers.clone()));
    servers.spawn(dynamodb::delete_expired_rows(database.clone()));

    let tables = in_process::dynamodb(database, &Addresses::url(addresses.dynamodb));
    let queues = in_process::sqs(sqs.clone(), &Addresses::url(addresses.sqs));
    let ports = ports(&options, addresses, tables, queues.clone()).await?;
    let functions = Functions::new(&ports);
    let routes = functions.routes().map_err(|missing| part("a function", &missing))?;

    let receiver = Arc::new(Receiver::new(
        ports.subscriptions.clone(),
        ports.sealer.clone(),
        options.clock.clone(),
        addresses.receiver,
        options.prints,
    ));
    serve(&mut servers, &stop_servers, listeners.receiver, receiver::router(receiver.clone()));

    let mut slow_deliveries = None;
    if options.runs_functions {
        let slow = slow_deliveries.insert(SlowDeliveries::start()?);
        // A connection is served by the runtime that opened it.
        let slow_deliver =
            functions::deliver(&Ports { sender: sender(&options)?, ..ports.clone() });
        let main = Handle::current();
        let functions_of_queues = [
            (functions.dispatch(), &main),
            (functions.deliver(), &main),
            (slow_deliver, slow.handle()),
        ];
        for (queue, (handler, runtime)) in options.queues.into_iter().zip(functions_of_queues) {
            let poller =
                poller::run(queues.clone(), source(queue, addresses), handler, stop_work.clone());
            work.spawn_on(poller, runtime);
        }
        spawn_schedules(&mut servers, &functions, &options.clock)?;
    }

    let local = LocalApi {
        addresses,
        functions,
        subscriptions: ports.subscriptions,
        deliveries: ports.deliveries,
        sqs: sqs.clone(),
        clock: options.clock.clone(),
    };
    let gateway = Gateway::new(routes, options.clock);
    let gateway = Arc::new(gateway.map_err(|error| part("the routes", &error))?);
    let api = Router::new().fallback(gateway::serve).with_state(gateway);
    serve(&mut work, &stop_work, listeners.api, local_api::router(Arc::new(local)).merge(api));

    Ok(System {
        addresses,
        sqs,
        receiver,
        stop_work,
        work,
        stop_servers,
        servers,
        _slow_deliveries: slow_deliveries,
    })
}

impl System {
    /// Where everything listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The engine behind the SQS endpoint.
    pub fn sqs(&self) -> &Sqs {
        &self.sqs
    }

    /// The receiver.
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Stops: begins nothing new, and finishes what has begun within some seconds.
    pub async fn stop(mut self) {
        self.stop_work.cancel();
        finish(&mut self.work, STOP_GRACE).await;
        // Long polls of other clients may last 20 seconds; they are cut off.
        self.stop_servers.cancel();
        finish(&mut self.servers, Duration::ZERO).await;
    }
}

impl Listeners {
    fn addresses(&self) -> Result<Addresses, StartError> {
        let local = |listener: &TcpListener| {
            listener.local_addr().map_err(|error| part("a listener", &error))
        };
        Ok(Addresses {
            api: local(&self.api)?,
            sqs: local(&self.sqs)?,
            dynamodb: local(&self.dynamodb)?,
            receiver: local(&self.receiver)?,
        })
    }
}

async fn finish(tasks: &mut JoinSet<()>, grace: Duration) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all).await.is_err() {
        tasks.shutdown().await;
    }
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::AddrInUse => "something listens there already".to_owned(),
            _ => error.to_string(),
        };
        StartError::Address { flag, address, reason }
    })
}

fn open_sqs(options: &Options) -> Result<Sqs, StartError> {
    let clock = options.queue_clock.clone();
    match &options.data_dir {
        None => Ok(Sqs::new(clock, queues::REGION)),
        Some(dir) => Sqs::open(&sqs_dir(dir), clock, queues::REGION)
            .map_err(|error| data_dir_or_part(options, "the queues", error.to_string())),
    }
}

fn sqs_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("sqs")
}

fn data_dir_or_part(options: &Options, what: &'static str, reason: String) -> StartError {
    match &options.data_dir {
        Some(path) => StartError::DataDir { path: path.clone(), reason },
        None => StartError::Part { what, reason },
    }
}

fn part(what: &'static str, error: &dyn std::fmt::Display) -> StartError {
    StartError::Part { what, reason: error.to_string() }
}

/// Serves until `stop`.
fn serve(tasks: &mut JoinSet<()>, stop: &CancellationToken, listener: TcpListener, router: Router) {
    tasks.spawn(listener::serve(listener, router, Bounds::default(), stop.clone()));
}

/// The deployed adapters, on the tables and queues of this process.
async fn ports(
    options: &Options,
    addresses: Addresses,
    dynamodb: aws_sdk_dynamodb::Client,
    sqs: aws_sdk_sqs::Client,
) -> Result<Ports, StartError> {
    let names = TableNames {
        subscriptions: SUBSCRIPTIONS_TABLE.to_owned(),
        deliveries: DELIVERIES_TABLE.to_owned(),
    };
    tables::create(&dynamodb, &names).await.map_err(|error| part("the tables", &error))?;
    let sealer = Sealer::parse(SEALING_KEY, options.random.clone())
        .map_err(|error| part("the encryption of secrets", &error))?;
    let clock = options.clock.clone();
    Ok(Ports {
        subscriptions: Arc::new(DynamoSubscriptions::new(dynamodb.clone(), names.subscriptions)),
        sealer: Arc::new(sealer),
        deliveries: Arc::new(DynamoDeliveries::new(dynamodb, names.deliveries, clock.clone())),
        queue: Arc::new(SqsTaskQueue::new(sqs.clone(), addresses.queue_url(DELIVERIES.name))),
        slow_queue: Arc::new(SqsTaskQueue::new(
            sqs.clone(),
            addresses.queue_url(SLOW_DELIVERIES.name),
        )),
        dead_letter_queue: Arc::new(SqsDeadLetterQueue::new(
            sqs,
            addresses.queue_url(EVENTS.dead_letter_queue),
        )),
        sender: sender(options)?,
        clock,
        timer: Arc::new(SystemClock),
        random: options.random.clone(),
        policy: options.policy,
        verification: options.verification,
        strict_event_data: options.strict_event_data,
    })
}

/// An outbound HTTP client with a pool of its own.
fn sender(options: &Options) -> Result<Arc<dyn Sender>, StartError> {
    let sender = webhooks_outbound::Options {
        name_servers: options.name_server.map(|server| vec![server]),
        idle_per_host: IDLE_PER_HOST,
        ..webhooks_outbound::Options::default()
    };
    let sender = GuardedClient::with_options(options.policy, sender);
    Ok(Arc::new(sender.map_err(|error| part("the outbound HTTP client", &error))?))
}

/// The event source of a queue.
pub fn source(queue: Queue, addresses: Addresses) -> Source {
    Source {
        url: addresses.queue_url(queue.name),
        arn: format!("arn:aws:sqs:{}:{}:{}", queues::REGION, local_sqs::ACCOUNT, queue.name),
        batch_size: queue.batch_size,
        concurrency: queue.concurrency,
        timeout: queue.function_timeout,
    }
}

/// Runs each function that the template gives a schedule.
fn spawn_schedules(
    tasks: &mut JoinSet<()>,
    functions: &Functions,
    clock: &Arc<dyn Clock>,
) -> Result<(), StartError> {
    for (function, expression) in Template::deployed().schedules() {
        let schedule =
            Schedule::parse(expression).ok_or_else(|| part("a schedule", &expression))?;
        let run = functions.scheduled(function).ok_or_else(|| part("a function", &function))?;
        tasks.spawn(schedule.run(clock.clone(), run));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn system_starts_serves_and_stops() {
        let system = start(Options::on_free_ports()).await.unwrap();
        let addresses = system.addresses();
        let (status, ready) =
            crate::http::call(addresses.api, "GET", "/_local/ready", None, None).await.unwrap();
        assert_eq!((status, &ready), (200, &addresses.to_json()));
        let (status, report) =
            crate::http::call(addresses.api, "POST", "/_local/run/cleanup", None, None)
                .await
                .unwrap();
        assert_eq!((status, &report["finished"]), (200, &json!(true)));
        let bad = json!({"days": -1});
        let (status, _) =
            crate::http::call(addresses.api, "POST", "/_local/run/cleanup", None, Some(&bad))
                .await
                .unwrap();
        assert_eq!(status, 400);
        system.stop().await;
        assert!(TcpListener::bind(addresses.api).await.is_ok());
    }

    #[tokio::test]
    async fn busy_port_names_its_flag() {
        type Set = fn(&mut Options, SocketAddr);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = taken.local_addr().unwrap();
        let flags: [(&str, Set); 4] = [
            ("--api-addr", |options, address| options.api = address),
            ("--sqs-addr", |options, address| options.sqs = address),
            ("--dynamodb-addr", |options, address| options.dynamodb = address),
            ("--receiver-addr", |options, address| options.receiver = address),
        ];
        for (flag, set) in flags {
            let mut options = Options::on_free_ports();
            set(&mut options, address);
            let error = start(options).await.err().unwrap().to_string();
            assert!(error.starts_with(&format!("{flag} {address}: something listens")), "{error}");
        }
    }

    #[tokio::test]
    async fn data_dir_is_locked_by_one_system() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            Options { data_dir: Some(dir.path().to_path_buf()), ..Options::on_free_ports() };
        let first = start(options.clone()).await.unwrap();
        let error = start(options.clone()).await.err().unwrap().to_string();
        assert!(error.starts_with("--data-dir ") && error.contains("in use"), "{error}");
        first.stop().await;
        start(options).await.unwrap().stop().await;
    }
}
