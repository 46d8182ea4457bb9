//! The whole local system in one process is killed (SIGKILL) and started again repeatedly, while calls
//! of its publishers fail. Its functions, tables and queues end together; what they had written must
//! be enough to continue.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use test_support::SeededRandom;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use webhooks_local::http;
use webhooks_local::system::Addresses;

use crate::faults::{Fault, Rates};
use crate::harness::{Harness, LOOK_EVERY};
use crate::verdict::{Evidence, Report, check};
use crate::{Outcome, text};

/// How long the system may take to be ready.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// From one run of the retry function to the next, after the last kill.
const SCHEDULES_EVERY: Duration = Duration::from_secs(5);

/// What happens to the system.
#[derive(Clone, Debug)]
pub struct KillTest {
    /// The `dev` program.
    pub dev: PathBuf,
    /// An empty directory, where it keeps its data.
    pub data_dir: PathBuf,
    /// What repeats the mixture of faults.
    pub seed: u64,
    /// How many events are published.
    pub events: usize,
    /// From one kill to the next, on average.
    pub kill_every: Duration,
    /// What goes wrong between the publisher and the queues.
    pub publishing: Rates,
    /// How many users there are.
    pub users: usize,
    /// After how long without any progress the rest counts as left over.
    pub patience: Duration,
}

impl KillTest {
    /// So many events, a kill every so often, and a publisher with one bad call in eleven.
    pub fn new(
        dev: PathBuf,
        data_dir: PathBuf,
        seed: u64,
        events: usize,
        kill_every: Duration,
    ) -> Self {
        let publishing = vec![
            (Fault::ServerError, 15),
            (Fault::Throttle, 15),
            (Fault::ResetBefore, 15),
            (Fault::ResetAfter, 20),
            (Fault::CutOff, 15),
            (Fault::Partial, 100),
        ];
        // Longer than a message that was lost stays away.
        let (users, patience) = (20, Duration::from_mins(12));
        Self { dev, data_dir, seed, events, kill_every, publishing, users, patience }
    }
}

/// Runs the kill test once.
pub async fn run_kill_test(kill_test: &KillTest) -> Outcome<Report> {
    let mut system = Running::start(&kill_test.dev, &kill_test.data_dir).await?;
    let addresses = system.addresses;
    let harness = Harness::open(
        addresses,
        kill_test.users,
        kill_test.seed,
        kill_test.publishing.clone(),
        |_| {},
    )
    .await?;
    let began = Instant::now();
    let last_kill = CancellationToken::new();
    let workload = async {
        let _guard = last_kill.clone().drop_guard();
        let workload = harness.run_workload(kill_test.events).await?;
        while harness.depth().await?.ready > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(workload)
    };
    let (workload, kills) = futures::future::try_join(
        workload,
        keep_killing(&mut system, &harness, kill_test, &last_kill),
    )
    .await?;
    harness.publishing.stop();
    let kills_ended = Instant::now();
    let scheduled = Cell::new(Instant::now());
    let left = harness.drain(kill_test.patience, async |_| {
        // What is parked would be looked at in five minutes, and not be due for an hour.
        if scheduled.get().elapsed() > SCHEDULES_EVERY {
            scheduled.set(Instant::now());
            harness.bring_forward().await?;
            http::call(addresses.api, "POST", "/_local/run/retry", None, None).await?;
        }
        Ok(false)
    });
    let left = left.await?;
    let evidence = Evidence {
        seed: kill_test.seed,
        events: workload,
        with_faults: kills_ended.duration_since(began),
        all: began.elapsed(),
        left,
    };
    let mut report = check(&harness, evidence).await?;
    report.system_kills = kills;
    Ok(report)
}

/// Kills the system and starts it again until the workload is handled; returns how often.
async fn keep_killing(
    system: &mut Running,
    harness: &Harness,
    kill_test: &KillTest,
    stop: &CancellationToken,
) -> Outcome<usize> {
    let random = SeededRandom::new(kill_test.seed.wrapping_add(3));
    let twice = u64::try_from(kill_test.kill_every.as_millis()).unwrap_or(u64::MAX) * 2;
    let mut kills = 0;
    loop {
        let wait = Duration::from_millis(random.below(twice));
        tokio::select! {
            () = stop.cancelled() => return Ok(kills),
            () = tokio::time::sleep(wait) => {}
        }
        // Readers wait until the system runs again.
        let _down = harness.up.write().await;
        system.kill().await?;
        kills += 1;
        system.start_again(&kill_test.dev, &kill_test.data_dir).await?;
    }
}

/// The system, running.
pub(crate) struct Running {
    child: Child,
    pub(crate) addresses: Addresses,
}

impl Running {
    pub(crate) async fn start(dev: &Path, data_dir: &Path) -> Outcome<Self> {
        // All four are bound at the same time, so that they differ.
        let free = (0..4).map(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let free: Vec<_> = free.collect::<Result<_, _>>().map_err(text)?;
        let ports: Vec<_> = free
            .iter()
            .map(std::net::TcpListener::local_addr)
            .collect::<Result<_, _>>()
            .map_err(text)?;
        drop(free);
        let [api, sqs, dynamodb, receiver] = ports[..] else { return Err("no ports".to_owned()) };
        let addresses = Addresses { api, sqs, dynamodb, receiver };
        let child = spawn(dev, data_dir, addresses)?;
        let running = Self { child, addresses };
        ready(api).await?;
        Ok(running)
    }

    pub(crate) async fn kill(&mut self) -> Outcome<()> {
        self.child.kill().await.map_err(text)
    }

    pub(crate) async fn start_again(&mut self, dev: &Path, data_dir: &Path) -> Outcome<()> {
        self.child = spawn(dev, data_dir, self.addresses)?;
        ready(self.addresses.api).await
    }
}

fn spawn(dev: &Path, data_dir: &Path, addresses: Addresses) -> Outcome<Child> {
    let mut command = Command::new(dev);
    for (flag, address) in [
        ("--api-addr", addresses.api),
        ("--sqs-addr", addresses.sqs),
        ("--dynamodb-addr", addresses.dynamodb),
        ("--receiver-addr", addresses.receiver),
    ] {
        command.arg(flag).arg(address.to_string());
    }
    let command = command.arg("--data-dir").arg(data_dir).kill_on_drop(true);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("{}: {error}", dev.display()))
}

async fn ready(api: SocketAddr) -> Outcome<()> {
    let began = Instant::now();
    loop {
        let asked = http::call(api, "GET", "/_local/ready", None, None).await;
        match asked {
            Ok((200, _)) => return Ok(()),
            _ if began.elapsed() > START_PATIENCE => {
                return Err(format!("the system is not ready: {asked:?}"));
            }
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
