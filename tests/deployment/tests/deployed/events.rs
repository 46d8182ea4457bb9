//! `events/` has one event for each trigger of each function, and each is handled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cleanup::Cleanup;
use deliver::Deliver;
use delivery_history::DeliveryHistory;
use dispatch::Dispatch;
use lambda_http::{Body, Request, Response};
use retry::Retry;
use serde::Serialize;
use serde_json::Value;
use subscriptions::SubscriptionsApi;
use test_support::sender;
use test_support::{
    ManualClock, MemoryDeadLetterQueue, MemoryDeliveries, MemorySubscriptions, MemoryTaskQueue,
    ScriptedSender, SeededRandom, TestSealer, sample,
};
use test_webhook::TestWebhook;
use webhooks_core::breaker::Health;
use webhooks_core::delivery::{DeliveryTask, Status};
use webhooks_core::ports::{
    Clock, Consistency, Deliveries as _, Expect, Random, Recoveries as _, Subscriptions as _,
};
use webhooks_core::recovery::{Recovery, Selection};
use webhooks_core::secret::{SecretSealer as _, SubscriptionSecrets};
use webhooks_core::subscription::Subscription;
use webhooks_core::target::TargetPolicy;
use webhooks_core::time::Timestamp;
use webhooks_local::template::Template;

use crate::{at, changed, source};

const RETENTION: Duration = Duration::from_hours(30 * 24);
/// The webhook and its owner as the events name them.
const WEBHOOK: &str = "wh_01KG9Z6QK00000000000000001";
const USER: &str = "user-1";

/// The service in memory, with the webhook that the events are about.
pub(crate) struct Harness {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    subscriptions: MemorySubscriptions,
    deliveries: MemoryDeliveries,
    queue: MemoryTaskQueue,
    dead_letter_queue: MemoryDeadLetterQueue,
    sender: ScriptedSender,
}

impl Harness {
    pub(crate) async fn new() -> Self {
        // Just after the moment that the events are from.
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_769_851_801_000)));
        let subscriptions = MemorySubscriptions::default();
        let mut webhook =
            Subscription { id: WEBHOOK.parse().unwrap(), ..sample::subscription(USER, 1) };
        let sealed =
            TestSealer.seal(&sample::secret(USER, 1).into(), &webhook.user_id, &webhook.id);
        webhook.secrets = SubscriptionSecrets::new(sealed);
        webhook.health = Health::default().record_quick_success();
        subscriptions.create(&webhook).await.unwrap();
        Self {
            deliveries: MemoryDeliveries::new(clock.clone()),
            clock,
            random: Arc::new(SeededRandom::new(1)),
            subscriptions,
            queue: MemoryTaskQueue::default(),
            dead_letter_queue: MemoryDeadLetterQueue::default(),
            sender: ScriptedSender::by(|_| sender::Reply::Now(sender::status(200))),
        }
    }

    /// Puts the delivery that the events are about into the history.
    pub(crate) async fn with_delivery(self) -> Self {
        let event = read("deliver", "tasks");
        let task = DeliveryTask::from_json(event["Records"][0]["body"].as_str().unwrap()).unwrap();
        let DeliveryTask::FirstAttempt(new) = task else { panic!("not a first attempt") };
        let now = self.clock.now();
        let mut record = webhooks_core::delivery::Delivery::new(&new, now, now.plus(RETENTION));
        record.end(Status::Success, now);
        self.deliveries.put(&record, Expect::Absent).await.unwrap();
        self
    }

    /// Stores the recovery that the events are about.
    pub(crate) async fn with_recovery(self) -> Self {
        let webhook = self.subscriptions.snapshot().remove(0);
        let id = "rec_01KG9Z6QK00000000000000003".parse().unwrap();
        let now = self.clock.now();
        let selection = Selection {
            since: now.minus(RETENTION),
            until: now,
            status: Status::Failed,
            event_types: Vec::new(),
            ended_since: None,
        };
        let recovery = Recovery::new(id, &webhook, selection, RETENTION);
        self.deliveries.create_recovery(&recovery).await.unwrap();
        self
    }

    /// Hands a function an event, as JSON in and JSON out.
    pub(crate) async fn run(&self, function: &str, event: Value) -> Value {
        match function {
            "console" => {
                let console = console::Console::new(&console::Settings::default());
                api(|request| std::future::ready(console.handle(&request)), &event).await
            }
            "event-types" => api(event_types::handle, &event).await,
            "subscriptions" => {
                let function = self.subscriptions_api();
                api(|request| function.handle(request), &event).await
            }
            "delivery-history" => {
                let function = self.deliveries_api();
                api(|request| function.handle(request), &event).await
            }
            "test-webhook" => {
                let function = self.test_webhook();
                api(|request| function.handle(request), &event).await
            }
            "dispatch" => json(self.dispatch().handle(parse(event)).await),
            "deliver" => json(self.deliver().handle(parse(event)).await),
            "retry" => json(self.retry().handle().await.unwrap()),
            "cleanup" => {
                let deadline = self.clock.now().plus_seconds(60);
                json(self.cleanup().handle(parse(event), deadline).await.unwrap())
            }
            _ => panic!("{function} is not known here"),
        }
    }

    fn subscriptions_api(&self) -> SubscriptionsApi {
        SubscriptionsApi::new(
            Arc::new(self.subscriptions.clone()),
            Arc::new(TestSealer),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.queue.clone()),
            self.clock.clone(),
            self.random.clone(),
            TargetPolicy::Strict,
            RETENTION,
        )
    }

    fn deliveries_api(&self) -> DeliveryHistory {
        DeliveryHistory::new(
            Arc::new(self.subscriptions.clone()),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.queue.clone()),
            self.clock.clone(),
            self.random.clone(),
            RETENTION,
        )
    }

    fn test_webhook(&self) -> TestWebhook {
        TestWebhook::new(
            Arc::new(self.subscriptions.clone()),
            Arc::new(TestSealer),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.sender.clone()),
            self.clock.clone(),
            self.random.clone(),
            RETENTION,
        )
    }

    fn dispatch(&self) -> Dispatch {
        Dispatch::new(
            Arc::new(self.subscriptions.clone()),
            Arc::new(self.queue.clone()),
            Arc::new(self.queue.clone()),
            Arc::new(self.dead_letter_queue.clone()),
        )
    }

    fn deliver(&self) -> Deliver {
        Deliver::new(
            Arc::new(self.subscriptions.clone()),
            Arc::new(TestSealer),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.queue.clone()),
            Arc::new(self.queue.clone()),
            Arc::new(self.sender.clone()),
            self.clock.clone(),
            Arc::new(ManualClock::default()),
            self.random.clone(),
            RETENTION,
        )
    }

    fn retry(&self) -> Retry {
        let deliveries = Arc::new(self.deliveries.clone());
        Retry::new(
            deliveries.clone(),
            deliveries.clone(),
            deliveries,
            Arc::new(self.queue.clone()),
            self.clock.clone(),
        )
    }

    fn cleanup(&self) -> Cleanup {
        Cleanup::new(
            Arc::new(self.subscriptions.clone()),
            Arc::new(self.deliveries.clone()),
            self.clock.clone(),
            30,
        )
    }
}

/// Calls a function of the API as `lambda_http` does.
pub(crate) async fn api<F>(handler: impl FnMut(Request) -> F, event: &Value) -> Value
where
    F: Future<Output = Response<Body>> + Send,
{
    let response = webhooks_api::invoke(handler, &event.to_string()).await.unwrap();
    serde_json::from_str(&response).unwrap()
}

fn parse<T: serde::de::DeserializeOwned>(event: Value) -> T {
    serde_json::from_value(event).unwrap()
}

fn json(response: impl Serialize) -> Value {
    serde_json::to_value(response).unwrap()
}

pub(crate) fn read(function: &str, event: &str) -> Value {
    let path = source::root().join(format!("events/{function}/{event}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("no {}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// `EveryFiveMinutes` as `every-five-minutes`.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}

/// Every trigger in the template, as function and file.
pub(crate) fn triggers(template: &Template) -> BTreeSet<(String, String)> {
    let functions = template.functions();
    functions
        .flat_map(|(function, properties)| {
            let events = properties["Events"].as_object().unwrap().keys();
            events.map(|event| (function.to_owned(), kebab(event))).collect::<Vec<_>>()
        })
        .collect()
}

/// Every file in `events/`, as function and file.
fn files() -> BTreeSet<(String, String)> {
    let mut files = BTreeSet::new();
    for folder in std::fs::read_dir(source::root().join("events")).unwrap() {
        let folder = folder.unwrap().path();
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for file in entries {
            let path = file.unwrap().path();
            let name =
                |path: &std::path::Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
            files.insert((name(&folder), name(&path)));
        }
    }
    files
}

#[test]
fn each_trigger_has_one_event() {
    assert_eq!(files(), triggers(Template::deployed()));
    let more = changed(|t| {
        let events = at(t, "RetryFunction/Properties/Events");
        events["EveryHour"] = events["EveryFiveMinutes"].clone();
    });
    let missing: Vec<_> = triggers(&more).difference(&files()).cloned().collect();
    assert_eq!(missing, [("retry".to_owned(), "every-hour".to_owned())]);
}

#[tokio::test]
async fn api_events_return_their_status() {
    let mut seen = 0;
    let template = Template::deployed();
    for (function, name) in triggers(template) {
        let event = read(&function, &name);
        let Some((method, path)) = event["routeKey"].as_str().and_then(|key| key.split_once(' '))
        else {
            continue;
        };
        let deployed = (method, path, &*function);
        let mut routes = template.routes().map(|route| (route.method, route.path, route.function));
        assert!(routes.any(|route| route == deployed), "{function} {name}");
        let harness = Harness::new().await.with_delivery().await.with_recovery().await;
        let response = harness.run(&function, event).await;
        let expected = match name.as_str() {
            "create" => 201,
            "delete" | "cancel-recovery" => 204,
            "redeliver" | "delete-all" | "recover" => 202,
            name if name.starts_with("fallback-") => 405,
            _ => 200,
        };
        assert_eq!(response["statusCode"], expected, "{function} {name}: {response}");
        seen += 1;
    }
    assert_eq!(seen, webhooks_api::ROUTES.len() + webhooks_api::FALLBACK_ROUTES.len());
}

#[tokio::test]
async fn queue_events_are_handled() {
    let harness = Harness::new().await;
    let response = harness.run("dispatch", read("dispatch", "events")).await;
    assert_eq!(response["batchItemFailures"], json([(); 0]));
    assert_eq!(harness.queue.take().len(), 1);
    assert_eq!(harness.dead_letter_queue.take().len(), 1, "one of the events is bad");

    for (posts, file) in ["tasks", "slow-tasks"].into_iter().enumerate() {
        let response = harness.run("deliver", read("deliver", file)).await;
        assert_eq!(response["batchItemFailures"], json([(); 0]));
        assert_eq!(harness.sender.requests().len(), posts + 1, "{file}");
    }
    let user = USER.parse().unwrap();
    let webhook = WEBHOOK.parse().unwrap();
    let still_there =
        harness.subscriptions.get(&user, &webhook, Consistency::Strong).await.unwrap();
    assert!(still_there.is_some());
}

#[tokio::test]
async fn schedule_events_are_handled() {
    let harness = Harness::new().await.with_delivery().await;
    let report = harness.run("retry", read("retry", "every-five-minutes")).await;
    assert_eq!(report["refused"], 0);
    let report = harness.run("cleanup", read("cleanup", "daily")).await;
    assert_eq!(report["finished"], true);
}
