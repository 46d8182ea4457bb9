//! The AWS requests of each call of a port: the real clients send them to a server on loopback, which
//! records them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use test_support::sample;
use webhooks_aws::{
    DynamoDeliveries, DynamoSubscriptions, SqsDeadLetterQueue, SqsTaskQueue, SystemClock, clients,
    tables,
};
use webhooks_core::breaker::Health;
use webhooks_core::delivery::Status;
use webhooks_core::host_health::{HostHealth, HostId};
use webhooks_core::ids::RecoveryId;
use webhooks_core::ports::{
    CleanupState as _, Consistency, DeadLetterQueue as _, Deliveries as _, DeliveryFilter, Due,
    DueIndex as _, Expect, Lease, Outgoing, Recoveries as _, RejectedEvent, Statistics as _,
    SubscriptionKey, Subscriptions as _, TaskQueue as _, Version, Waiting,
};
use webhooks_core::rate_limit::Update;
use webhooks_core::recovery::{Recovery, Selection};
use webhooks_core::statistics::{Counts, HourCounts};

/// An IAM action and the resource it is done to, by its name in the template.
pub(crate) type Grant = (String, String);

type Requests = Arc<Mutex<Vec<(String, Value)>>>;

/// The ports, wired to the recording server.
pub(crate) struct Recorder {
    requests: Requests,
    known: Mutex<BTreeMap<&'static str, BTreeSet<Grant>>>,
    dynamodb: aws_sdk_dynamodb::Client,
    subscriptions: DynamoSubscriptions,
    deliveries: DynamoDeliveries,
    queue: SqsTaskQueue,
    slow_queue: SqsTaskQueue,
    dead_letter_queue: SqsDeadLetterQueue,
}

async fn record(
    State(requests): State<Requests>,
    headers: HeaderMap,
    body: String,
) -> &'static str {
    let operation = headers["x-amz-target"].to_str().unwrap().to_owned();
    let body: Value = serde_json::from_str(&body).unwrap();
    let response = if operation.ends_with(".DescribeTable") {
        r#"{"Table":{"TableStatus":"ACTIVE"}}"#
    } else if body["Key"]["subscription_id"]["S"] == "#by-status" {
        // The index is complete.
        r#"{"Item":{"since":{"N":"0"}}}"#
    } else if body["IndexName"] == "by-status" {
        r#"{"Items":[{"delivery_id":{"S":"dlv_01J00000000000000000000000"}}]}"#
    } else {
        "{}"
    };
    requests.lock().unwrap().push((operation, body));
    response
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let requests = Requests::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(record).with_state(requests.clone());
        tokio::spawn(axum::serve(listener, router).into_future());

        let sdk = clients::local(&endpoint);
        let (dynamodb, sqs) = (clients::dynamodb(&sdk), clients::sqs(&sdk));
        let name = str::to_owned;
        Self {
            requests,
            known: Mutex::default(),
            subscriptions: DynamoSubscriptions::new(dynamodb.clone(), name("SubscriptionsTable")),
            deliveries: DynamoDeliveries::new(
                dynamodb.clone(),
                name("DeliveriesTable"),
                Arc::new(SystemClock),
            ),
            queue: SqsTaskQueue::new(sqs.clone(), format!("{endpoint}/1/DeliveriesQueue")),
            slow_queue: SqsTaskQueue::new(sqs.clone(), format!("{endpoint}/1/DeliveriesSlowQueue")),
            dead_letter_queue: SqsDeadLetterQueue::new(sqs, format!("{endpoint}/1/EventsDlq")),
            dynamodb,
        }
    }

    /// What a call needs to be allowed, such as `subscriptions.get`: the name of the table or queue
    /// with the method of its port. The response does not matter.
    pub(crate) async fn grants(&self, call: &'static str) -> BTreeSet<Grant> {
        if let Some(known) = self.known.lock().unwrap().get(call) {
            return known.clone();
        }
        self.requests.lock().unwrap().clear();
        match call.split_once('.').unwrap() {
            ("subscriptions", method) => self.subscriptions(method).await,
            ("deliveries", method) => self.deliveries(method).await,
            ("recoveries", method) => self.recoveries(method).await,
            ("queue", method) => self.queue(&self.queue, method).await,
            ("slow_queue", method) => self.queue(&self.slow_queue, method).await,
            _ => panic!("{call} is not known here"),
        }
        let requests = self.requests.lock().unwrap();
        assert!(!requests.is_empty(), "{call} sends no request");
        let grants: BTreeSet<Grant> =
            requests.iter().flat_map(|(operation, body)| grants_of(operation, body)).collect();
        self.known.lock().unwrap().insert(call, grants.clone());
        grants
    }

    /// The requests that create the tables.
    pub(crate) async fn tables(&self) -> Vec<(String, Value)> {
        self.requests.lock().unwrap().clear();
        let names = tables::TableNames {
            subscriptions: "SubscriptionsTable".to_owned(),
            deliveries: "DeliveriesTable".to_owned(),
        };
        tables::create(&self.dynamodb, &names).await.unwrap();
        self.requests.lock().unwrap().clone()
    }

    async fn subscriptions(&self, method: &str) {
        let store = &self.subscriptions;
        let one = sample::subscription("u", 1);
        let healthy = Health::default();
        let (unused, host) = (sample::user("unused"), HostId::of(&one.url));
        match method {
            "create" => drop(store.create(&one).await),
            "get" => drop(store.get(&one.user_id, &one.id, Consistency::Strong).await),
            "get_several" => drop(store.get_several(&[(&one.user_id, &one.id)]).await),
            "page" => drop(store.page(&one.user_id, 1, None).await),
            "list_by_user" => drop(store.list_by_user(&one.user_id).await),
            "update" => drop(store.update(&one, 1).await),
            "set_health" => {
                drop(store.set_health(&one.user_id, &one.id, &healthy, &healthy).await);
            }
            "host_health" => drop(store.host_health(&one.user_id, &host).await),
            "set_host_health" => {
                let failing = HostHealth { version: 1, ..HostHealth::default() };
                drop(store.set_host_health(&one.user_id, &host, &failing).await);
            }
            "delete_unused_hosts" => {
                let failing = HostHealth { version: 1, ..HostHealth::default() };
                drop(store.set_host_health(&unused, &host, &failing).await);
                // Only the requests of the deletion count.
                self.requests.lock().unwrap().clear();
                drop(store.delete_unused_hosts(&unused).await);
            }
            "delete" => drop(store.delete(&one.user_id, &one.id).await),
            "scan_keys" => drop(store.scan_keys(1, None).await),
            "count_redelivery" => drop(store.count_redelivery(&one.user_id, sample::at(1)).await),
            "is_user_blocked" => drop(store.is_user_blocked(&one.user_id).await),
            "blocked_hosts" => drop(store.blocked_hosts().await),
            "delete_tombstone" => drop(store.delete_tombstone(&one.user_id, &one.id).await),
            _ => panic!("subscriptions.{method} is not known here"),
        }
    }

    async fn deliveries(&self, method: &str) {
        let store = &self.deliveries;
        let one = sample::delivery(&sample::subscription_id("u", 1), 1);
        let (subscription, id, now) = (&one.subscription_id, &one.id, sample::at(1));
        let due = Due {
            due_at: now,
            subscription_id: subscription.clone(),
            row: Waiting::Delivery(id.clone()),
        };
        let scanned = SubscriptionKey {
            user_id: sample::user("u"),
            subscription_id: subscription.clone(),
            deleted: false,
        };
        match method {
            "get" => drop(store.get(subscription, id, Consistency::Strong).await),
            "without_record" => drop(store.without_record(&[(subscription, id)]).await),
            "put" => drop(store.put(&one, Expect::Absent).await),
            "lease" => {
                let lease = Lease { holder: "h".to_owned(), now, until: now };
                drop(store.lease(subscription, id, Version::retrying(1), &lease).await);
            }
            "update_next_slot" => {
                let update = Update::Restart { to: 1, now: 0 };
                drop(store.update_next_slot(subscription, update, now).await);
            }
            "page" => {
                let all = DeliveryFilter::default();
                drop(store.page(subscription, &all, 1, None, now).await);
            }
            // The same method; a filter by status reads an index.
            "page_by_status" => {
                let failed =
                    DeliveryFilter { status: Some(Status::Failed), ..DeliveryFilter::default() };
                drop(store.page(subscription, &failed, 1, None, now).await);
            }
            "due" => drop(store.due(0, now, 1, None).await),
            "postpone" => drop(store.postpone(&due, now).await),
            "count" => {
                let addition = sample::addition(Counts::default(), now);
                drop(store.count(subscription, now.hour(), &addition).await);
            }
            "hour" => drop(store.hour(subscription, now.hour()).await),
            "replace" => {
                let before = HourCounts {
                    hour: now.hour(),
                    counts: Counts::default(),
                    last_attempt_at: now,
                    additions: 1,
                };
                drop(store.replace(subscription, &before, &Counts::default()).await);
            }
            "counters" => drop(store.counters(subscription, now).await),
            "expired_keys" => drop(store.expired_keys(subscription, now, 1).await),
            "all_keys" => drop(store.all_keys(subscription, 1).await),
            "delete" => {
                let keys = [webhooks_core::ports::RowKey::Delivery(id.clone())];
                drop(store.delete(subscription, &keys).await);
            }
            "position" => drop(store.position().await),
            "set_position" => {
                drop(store.set_position(Some(&scanned)).await);
                drop(store.set_position(None).await);
            }
            _ => panic!("deliveries.{method} is not known here"),
        }
    }

    async fn recoveries(&self, method: &str) {
        let store = &self.deliveries;
        let webhook = sample::subscription("u", 1);
        let now = sample::at(1);
        let selection = Selection {
            since: now,
            until: sample::at(2),
            status: Status::Failed,
            event_types: Vec::new(),
            ended_since: None,
        };
        let id = RecoveryId::first_of(now);
        let one = Recovery::new(id.clone(), &webhook, selection, Duration::from_hours(1));
        match method {
            "create_recovery" => drop(store.create_recovery(&one).await),
            "started_recoveries" => drop(store.started_recoveries(&webhook.id).await),
            "start_recovery" => drop(store.start_recovery(&one, 0).await),
            "recovery" => drop(store.recovery(&webhook.id, &id).await),
            "recoveries" => drop(store.recoveries(&webhook.id, 1).await),
            "put_recovery" => drop(store.put_recovery(&one, 0).await),
            "oldest" => {
                let all = DeliveryFilter::default();
                drop(store.oldest(&webhook.id, &all, 1, None, now).await);
            }
            "outcomes" => drop(store.outcomes(&webhook.id, now).await),
            _ => panic!("recoveries.{method} is not known here"),
        }
    }

    async fn queue(&self, queue: &SqsTaskQueue, method: &str) {
        let one = sample::delivery(&sample::subscription_id("u", 1), 1);
        let task = Outgoing::retry(one.subscription_id, one.id, None, Duration::ZERO);
        match method {
            "send" => drop(queue.send(&[task]).await),
            "change_visibility" => {
                drop(queue.change_visibility(&[("h".to_owned(), Duration::ZERO)]).await);
            }
            "dead_letter" => {
                let rejected = RejectedEvent {
                    body: "{}".to_owned(),
                    message_id: "m".to_owned(),
                    sent: sample::at(1),
                    reason: "r",
                    detail: "d".to_owned(),
                };
                drop(self.dead_letter_queue.send(&rejected).await);
            }
            _ => panic!("queue.{method} is not known here"),
        }
    }
}

/// What IAM calls a request. The parts of a transaction are allowed one by one, and the entries of
/// a batch on a queue as the single request
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html>).
fn grants_of(operation: &str, body: &Value) -> Vec<Grant> {
    let (service, operation) = operation.split_once('.').unwrap();
    if service == "AmazonSQS" {
        let queue = body["QueueUrl"].as_str().unwrap().rsplit('/').next().unwrap();
        let action = operation.strip_suffix("Batch").unwrap_or(operation);
        return vec![(format!("sqs:{action}"), queue.to_owned())];
    }
    let grant = |action: &str, table: &Value| {
        (format!("dynamodb:{action}"), table.as_str().unwrap().to_owned())
    };
    match operation {
        "TransactWriteItems" => {
            let actions = body["TransactItems"].as_array().unwrap().iter();
            let parts = actions.flat_map(|action| action.as_object().unwrap());
            parts
                .map(|(kind, part)| {
                    let kind = if kind == "ConditionCheck" { "ConditionCheckItem" } else { kind };
                    let kind = kind.strip_suffix("Item").unwrap_or(kind);
                    grant(&format!("{kind}Item"), &part["TableName"])
                })
                .collect()
        }
        "BatchGetItem" | "BatchWriteItem" => {
            let tables = body["RequestItems"].as_object().unwrap().keys();
            tables.map(|table| grant(operation, &json!(table))).collect()
        }
        _ => {
            let (action, mut resource) = grant(operation, &body["TableName"]);
            if let Some(index) = body["IndexName"].as_str() {
                resource = format!("{resource}/index/{index}");
            }
            vec![(action, resource)]
        }
    }
}
