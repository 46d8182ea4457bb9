//! A recovery of many deliveries while the local system is killed (SIGKILL) and started again: it must end
//! with every delivery redelivered.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use test_support::receiver::Reply;
use test_support::{FakeReceiver, sample};
use webhooks_aws::{DynamoDeliveries, SystemClock, clients};
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::ids::{DeliveryId, EventId, SubscriptionId};
use webhooks_core::ports::{Clock as _, Deliveries as _, Expect};
use webhooks_core::time::Timestamp;
use webhooks_local::system::{Addresses, DELIVERIES_TABLE};
use webhooks_local::{http, token};

use crate::kill_test::Running;
use crate::{Outcome, lock, text};

/// The user of [`sample::delivery`].
const USER: &str = "u";
/// Rows that are written at the same time.
const WRITES: usize = 32;
/// How often it is looked how far the recovery is.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is recovered, and when the system is killed.
#[derive(Clone, Debug)]
pub struct RecoveryRun {
    /// The `dev` program.
    pub dev: PathBuf,
    /// An empty directory, where it keeps its data.
    pub data_dir: PathBuf,
    /// How many deliveries have failed.
    pub deliveries: usize,
    /// How often the system is killed, evenly over the recovery.
    pub kills: usize,
    /// After how long without any progress the run has failed. A message that was in flight at a kill comes
    /// back after its visibility timeout.
    pub patience: Duration,
}

/// How a recovery went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The deliveries that had failed.
    pub deliveries: usize,
    /// Those that came to the receiver, told apart by `webhook-id`.
    pub arrived: usize,
    /// POSTs of a `webhook-id` after the first.
    pub repeated: usize,
    /// What the API shows as sent and as succeeded.
    pub shown: (u64, u64),
    /// How often the system was killed.
    pub kills: usize,
    /// How long the recovery took, with the kills.
    pub took: Duration,
}

impl Recovered {
    /// Whether every delivery came, and the API shows that.
    pub fn is_good(&self) -> bool {
        let all = u64::try_from(self.deliveries).unwrap_or(u64::MAX);
        self.arrived == self.deliveries && self.shown == (all, all)
    }
}

/// Runs the recovery once.
pub async fn run_recovery(run: &RecoveryRun) -> Outcome<Recovered> {
    let mut system = Running::start(&run.dev, &run.data_dir).await?;
    let addresses = system.addresses;
    let receiver = FakeReceiver::start().await.map_err(text)?;
    let posts = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let noted = Arc::clone(&posts);
    receiver.by_rule(move |request| {
        let id = request.header("webhook-id").unwrap_or_default().to_owned();
        *lock(&noted).entry(id).or_default() += 1;
        Reply::status(200)
    });
    let body = json!({
        "url": receiver.url("/"), "event_types": ["task.created"], "rate_limit": 1_000,
    });
    let webhook = api(addresses, "POST", "/api/webhooks", Some(&body)).await?;
    let webhook = webhook["id"].as_str().unwrap_or_default().to_owned();
    let id: SubscriptionId = webhook.parse().map_err(|_| format!("{webhook} is no webhook id"))?;
    write_failed(addresses, &id, run.deliveries).await?;

    let began = Instant::now();
    let path = format!("/api/webhooks/{webhook}/recoveries");
    let since = SystemClock.now().minus(Duration::from_hours(3));
    let asked = api(addresses, "POST", &path, Some(&json!({"since": since.to_string()}))).await?;
    let path = format!("{path}/{}", asked["id"].as_str().unwrap_or_default());
    let (mut kills, mut progress) = (0, (0, Instant::now()));
    let shown = loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let arrived = lock(&posts).len();
        if arrived > progress.0 {
            progress = (arrived, Instant::now());
        }
        if kills < run.kills && arrived >= run.deliveries * (kills + 1) / (run.kills + 1) {
            system.kill().await?;
            kills += 1;
            system.start_again(&run.dev, &run.data_dir).await?;
            continue;
        }
        if arrived < run.deliveries && progress.1.elapsed() < run.patience {
            continue;
        }
        let shown = api(addresses, "GET", &path, None).await?;
        let count = |name: &str| shown[name].as_u64().unwrap_or(0);
        let is_done = shown["status"] == "done" && count("succeeded") == count("sent");
        if is_done || progress.1.elapsed() > run.patience {
            break (count("sent"), count("succeeded"));
        }
    };
    let posts = lock(&posts);
    let all: usize = posts.values().sum();
    Ok(Recovered {
        deliveries: run.deliveries,
        arrived: posts.len(),
        repeated: all - posts.len(),
        shown,
        kills,
        took: began.elapsed(),
    })
}

async fn api(
    addresses: Addresses,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Outcome<Value> {
    let token = token::issue(&sample::user(USER), SystemClock.now()).map_err(text)?;
    let (status, response) = http::call(addresses.api, method, path, Some(&token), body).await?;
    if status < 300 { Ok(response) } else { Err(format!("{method} {path}: {status} {response}")) }
}

/// Writes the records of deliveries that failed in the last two hours, as deliver would have.
async fn write_failed(addresses: Addresses, of: &SubscriptionId, count: usize) -> Outcome<()> {
    let tables = clients::dynamodb(&clients::local(&Addresses::url(addresses.dynamodb)));
    let store = DynamoDeliveries::new(tables, DELIVERIES_TABLE.to_owned(), Arc::new(SystemClock));
    let first = SystemClock.now().minus(Duration::from_hours(2));
    let store = &store;
    stream::iter(0..count)
        .map(|n| async move {
            let delivery = failed(of, n, first)?;
            let written = store.put(&delivery, Expect::Absent).await.map_err(text)?;
            if written.is_applied() { Ok(()) } else { Err(format!("{} was there", delivery.id)) }
        })
        .buffer_unordered(WRITES)
        .try_collect()
        .await
}

fn failed(of: &SubscriptionId, n: usize, first: Timestamp) -> Outcome<Delivery> {
    let event_id: EventId = format!("event-{n}").parse().map_err(text)?;
    let moment = first.plus(Duration::from_millis(u64::try_from(n).map_err(text)?));
    let mut delivery = Delivery {
        id: DeliveryId::of(&event_id, of, moment),
        event_id,
        event_time: moment,
        expires_at: moment.plus(Duration::from_hours(30 * 24)),
        ..sample::delivery(of, 1)
    };
    delivery.end(Status::Failed, moment);
    Ok(delivery)
}
