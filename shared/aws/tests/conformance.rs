//! The stores and the queues through the real SDK, on an embedded DynamoDB and SQS.

#![expect(clippy::unwrap_used, reason = "whatever fails here is a failed test")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, TimeToLiveStatus};
use aws_sdk_sqs::types::MessageSystemAttributeName;
use test_support::{ManualClock, conformance, sample};
use webhooks_aws::tables::{self, TableNames};
use webhooks_aws::{
    DynamoDeliveries, DynamoSubscriptions, SqsDeadLetterQueue, SqsTaskQueue, clients,
};
use webhooks_core::breaker::Health;
use webhooks_core::delivery::{Attempt, Delivery, DeliveryTask, Status};
use webhooks_core::limits::QUEUE_BATCH_BYTES;
use webhooks_core::ports::{
    Chain, CleanupState as _, Consistency, Creation, DeadLetterQueue as _, Deliveries as _,
    DeliveryFilter, DeliveryWrite, Expect, Outgoing, QueueError, RejectedEvent, StoreError,
    SubscriptionWrite, Subscriptions as _, TaskQueue as _,
};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

fn names() -> TableNames {
    TableNames { subscriptions: "Subscriptions".to_owned(), deliveries: "Deliveries".to_owned() }
}

/// A client of an empty database of this test alone, with both tables.
async fn database() -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let database = dynoxide::Database::memory().unwrap();
    tokio::spawn(dynoxide::server::serve_on(listener, database));
    let client = clients::dynamodb(&clients::local(&endpoint));
    tables::create(&client, &names()).await.unwrap();
    client
}

fn subscriptions(client: &Client) -> DynamoSubscriptions {
    DynamoSubscriptions::new(client.clone(), names().subscriptions)
}

fn deliveries(client: &Client) -> (DynamoDeliveries, ManualClock) {
    let clock = ManualClock::default();
    let store = DynamoDeliveries::new(client.clone(), names().deliveries, Arc::new(clock.clone()));
    (store, clock)
}

/// A success at the first attempt, with a payload of 1 KB.
fn typical() -> Delivery {
    let mut delivery = sample::delivery(&sample::subscription_id("u", 1), 1);
    delivery.user_id = sample::user("0b7f3a52-6f0e-4b53-9a57-3f0a8f6de1c2");
    delivery.event_id = "d9428888-122b-41e1-b85d-6a1c2b3d4e5f".parse().unwrap();
    delivery.data = sample::data(include_str!("data/payload-1kb.json"));
    delivery.attempts = vec![Attempt {
        response_status: Some(200),
        request_headers: None,
        response_headers: None,
        response_excerpt: String::new(),
        ..sample::attempt(142)
    }];
    delivery.end(Status::Success, sample::at(2));
    delivery
}

async fn raw(client: &Client, delivery: &Delivery) -> HashMap<String, AttributeValue> {
    let response = client
        .get_item()
        .table_name(names().deliveries)
        .key("subscription_id", AttributeValue::S(delivery.subscription_id.to_string()))
        .key("delivery_id", AttributeValue::S(delivery.id.to_string()))
        .send()
        .await;
    response.unwrap().item.unwrap()
}

#[tokio::test]
async fn subscriptions_keep_every_rule() {
    let client = database().await;
    conformance::subscriptions(&subscriptions(&client)).await;
}

#[tokio::test]
async fn deliveries_keep_every_rule() {
    let client = database().await;
    let (store, clock) = deliveries(&client);
    conformance::deliveries(&store, &clock).await;
}

#[tokio::test]
async fn crash_between_a_large_payload_and_its_record_leaves_no_delivery() {
    let client = database().await;
    let (store, _) = deliveries(&client);
    let mut delivery = typical();
    // Random enough not to become small when it is deflated.
    let numbers = (1..3_000_u64).map(|n| (n * n).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_string());
    delivery.data =
        sample::data(&format!(r#"{{"n":[{}]}}"#, numbers.collect::<Vec<_>>().join(",")));
    assert_eq!(store.put(&delivery, Expect::Absent).await.unwrap(), DeliveryWrite::Applied);
    // As if the function had crashed before the record was written.
    let key = [
        ("subscription_id", delivery.subscription_id.to_string()),
        ("delivery_id", delivery.id.to_string()),
    ];
    let key = key.map(|(name, value)| (name.to_owned(), AttributeValue::S(value)));
    let delete = client.delete_item().table_name(names().deliveries).set_key(Some(key.into()));
    delete.send().await.unwrap();
    let scanned = client.scan().table_name(names().deliveries).send().await.unwrap();
    let rows: Vec<_> =
        scanned.items().iter().map(|row| row["delivery_id"].as_s().unwrap()).collect();
    assert!(rows.contains(&&format!("payload#{}", delivery.id)), "{rows:?}");

    let read = store.get(&delivery.subscription_id, &delivery.id, Consistency::Strong);
    assert_eq!(read.await.unwrap(), None);
    let filter = DeliveryFilter::default();
    let listed = store.page(&delivery.subscription_id, &filter, 9, None, sample::start());
    assert!(listed.await.unwrap().items.is_empty());
    // The message is received again.
    assert_eq!(store.put(&delivery, Expect::Absent).await.unwrap(), DeliveryWrite::Applied);
    let read = store.get(&delivery.subscription_id, &delivery.id, Consistency::Strong);
    assert_eq!(read.await.unwrap().map(|read| read.data), Some(delivery.data));
}

#[tokio::test]
async fn creating_the_tables_again_changes_nothing() {
    let client = database().await;
    let store = subscriptions(&client);
    assert_eq!(store.create(&sample::subscription("u", 1)).await.unwrap(), Creation::Created);
    tables::create(&client, &names()).await.unwrap();
    assert_eq!(store.list_by_user(&sample::user("u")).await.unwrap().items.len(), 1);
    let response = client.describe_time_to_live().table_name("Deliveries").send().await.unwrap();
    let ttl = response.time_to_live_description().unwrap();
    assert_eq!(ttl.time_to_live_status(), Some(&TimeToLiveStatus::Enabled));
    assert_eq!(ttl.attribute_name(), Some("expires_at"));
}

#[tokio::test]
async fn success_at_the_first_attempt_costs_one_write_unit_and_no_index_write() {
    let client = database().await;
    let (store, _) = deliveries(&client);
    let delivery = typical();
    assert_eq!(store.put(&delivery, Expect::Absent).await.unwrap(), DeliveryWrite::Applied);

    // The same row once more, this time asking what it costs.
    let item = raw(&client, &delivery).await;
    let response = client
        .put_item()
        .table_name(names().deliveries)
        .set_item(Some(item))
        .return_consumed_capacity(ReturnConsumedCapacity::Indexes)
        .send()
        .await
        .unwrap();
    let cost = response.consumed_capacity().unwrap();
    assert_eq!(cost.capacity_units(), Some(1.0));
    assert!(cost.global_secondary_indexes().is_none_or(HashMap::is_empty));
}

#[tokio::test]
async fn deliveries_of_before_the_index_by_status_are_found() {
    let client = database().await;
    let (store, clock) = deliveries(&client);
    let of = sample::subscription_id("u", 1);
    let hour = 3_600;
    let mut failed = Vec::new();
    for n in [1, 2, 2 * hour, 2 * hour + 1] {
        let mut delivery = sample::delivery(&of, n);
        delivery.end(Status::Failed, sample::at(n));
        store.put(&delivery, Expect::Absent).await.unwrap();
        if n < hour {
            // As the version before the index has written it.
            let mut item = raw(&client, &delivery).await;
            item.remove("status_key").unwrap();
            let put = client.put_item().table_name(names().deliveries).set_item(Some(item));
            put.send().await.unwrap();
        }
        failed.insert(0, delivery.id);
    }
    let list = async |store: &DynamoDeliveries| {
        let filter = DeliveryFilter { status: Some(Status::Failed), ..DeliveryFilter::default() };
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = store.page(&of, &filter, 3, before.as_ref(), sample::start()).await.unwrap();
            found.extend(page.items.into_iter().map(|delivery| delivery.id));
            before = page.next;
            if before.is_none() {
                return found;
            }
        }
    };
    let forget = client.delete_item().table_name(names().deliveries);
    let forget = forget.key("subscription_id", AttributeValue::S("#by-status".to_owned()));
    let forget = forget.key("delivery_id", AttributeValue::S("#since".to_owned()));
    forget.send().await.unwrap();
    assert_eq!(list(&store).await, failed, "nobody knows how old the index is");
    clock.set(sample::at(60));
    store.begin_status_index().await.unwrap();
    assert_eq!(list(&store).await, failed, "it is complete after an hour");
    // Whoever begins later changes nothing.
    clock.set(sample::at(9 * hour));
    let (second, _) = deliveries(&client);
    second.begin_status_index().await.unwrap();
    assert_eq!(list(&second).await, failed);
}

/// The rows that `scripts/operate.py` writes.
#[tokio::test]
async fn rows_of_the_operator_block_users_and_hosts_and_are_in_no_list() {
    let client = database().await;
    let store = subscriptions(&client);
    let [blocked, free] = ["blocked", "free"].map(|user| sample::subscription(user, 1));
    for row in [&blocked, &free] {
        store.create(row).await.unwrap();
    }
    for (user, sort) in [
        ("blocked", "wh#blocked"),
        ("without-webhooks", "wh#blocked"),
        ("#operator", "blocked-host#victim.example"),
        ("#operator", "blocked-host#203.0.113.7"),
    ] {
        let request = client.put_item().table_name(names().subscriptions);
        let request = request.item("user_id", AttributeValue::S(user.to_owned()));
        let request = request.item("subscription_id", AttributeValue::S(sort.to_owned()));
        request.send().await.unwrap();
    }

    let all = store.list_by_user(&blocked.user_id).await.unwrap();
    assert_eq!((all.is_blocked, &all.items[..]), (true, &[Ok(blocked.clone())][..]));
    assert!(!store.list_by_user(&free.user_id).await.unwrap().is_blocked);
    assert!(store.is_user_blocked(&blocked.user_id).await.unwrap());
    assert!(!store.is_user_blocked(&free.user_id).await.unwrap());
    let mut hosts = store.blocked_hosts().await.unwrap();
    hosts.sort();
    assert_eq!(hosts, ["203.0.113.7", "victim.example"]);
    let page = store.page(&blocked.user_id, 10, None).await.unwrap();
    assert_eq!(page.items, [Ok(blocked.clone())]);

    for limit in 1..10 {
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = store.scan_keys(limit, after.as_ref()).await.unwrap();
            keys.extend(page.items.into_iter().map(|key| key.subscription_id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        keys.sort();
        let mut expected = [blocked.id.clone(), free.id.clone()];
        expected.sort();
        assert_eq!(keys, expected, "pages of {limit}");
    }
}

#[tokio::test]
async fn unreadable_subscription_fails_no_list() {
    let client = database().await;
    let store = subscriptions(&client);
    let [unreadable, readable] = [1, 2].map(|n| sample::subscription("u", n));
    for row in [&unreadable, &readable] {
        store.create(row).await.unwrap();
    }
    change_row(&client, &unreadable, |row| {
        row.insert("v".to_owned(), AttributeValue::N("99".to_owned()));
    })
    .await;
    let found = store.get(&unreadable.user_id, &unreadable.id, Consistency::Strong).await;
    assert!(matches!(found, Err(StoreError::Undecodable { .. })), "{found:?}");
    let all = store.list_by_user(&readable.user_id).await.unwrap().items;
    let [Err(first), Ok(second)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((&first.id, second), (&unreadable.id, &readable));
    let page = store.page(&readable.user_id, 1, Some(&readable.id)).await.unwrap();
    assert_eq!(page.items, [Err(first.clone())]);
}

#[tokio::test]
async fn unreadable_delivery_is_an_error_with_its_key() {
    let client = database().await;
    let undecodable = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::Undecodable { .. })), "{result:?}");
    };
    let (store, _) = deliveries(&client);
    let delivery = typical();
    store.put(&delivery, Expect::Absent).await.unwrap();
    let mut item = raw(&client, &delivery).await;
    item.insert("v".to_owned(), AttributeValue::N("99".to_owned()));
    let put = client.put_item().table_name(names().deliveries).set_item(Some(item));
    put.send().await.unwrap();
    let id = &delivery.subscription_id;
    undecodable(store.get(id, &delivery.id, Consistency::Strong).await.map(drop));
    let page = store.page(id, &DeliveryFilter::default(), 5, None, sample::start()).await;
    undecodable(page.map(drop));
    assert_eq!(store.all_keys(id, 5).await.unwrap().len(), 1, "it can still be deleted");
}

/// The row of a subscription, changed by `change`.
async fn change_row(
    client: &Client,
    of: &Subscription,
    change: impl FnOnce(&mut HashMap<String, AttributeValue>),
) -> HashMap<String, AttributeValue> {
    let mut row = subscription_row(client, of).await;
    change(&mut row);
    let put = client.put_item().table_name(names().subscriptions).set_item(Some(row.clone()));
    put.send().await.unwrap();
    row
}

async fn subscription_row(client: &Client, of: &Subscription) -> HashMap<String, AttributeValue> {
    let get = client
        .get_item()
        .table_name(names().subscriptions)
        .key("user_id", AttributeValue::S(of.user_id.to_string()))
        .key("subscription_id", AttributeValue::S(of.id.to_string()));
    get.send().await.unwrap().item.unwrap()
}

#[tokio::test]
async fn health_of_a_row_of_schema_version_1_is_read_and_replaced() {
    let client = database().await;
    let store = subscriptions(&client);
    let row = sample::subscription("u", 1);
    store.create(&row).await.unwrap();
    change_row(&client, &row, |row| {
        row.remove("health");
        let old = [("v", 1), ("failures", 3), ("failing_since", 5_000), ("open_until", 9_000)];
        row.extend(old.map(|(name, n)| (name.to_owned(), AttributeValue::N(n.to_string()))));
    })
    .await;
    let failing = Health {
        consecutive_failures: 3,
        failing_since: Some(Timestamp::from_seconds(5)),
        open_until: Some(Timestamp::from_seconds(9)),
        last_error: None,
        ..Health::default()
    };
    let set = async |expected: &Health, health: &Health| {
        store.set_health(&row.user_id, &row.id, expected, health).await.unwrap()
    };
    let other = Health { open_until: None, ..failing };
    let refused = set(&other, &Health::default()).await;
    assert!(matches!(refused, SubscriptionWrite::Conflict(row) if row.health == failing));
    assert!(set(&failing, &other).await.is_applied());
    assert!(set(&other, &Health::default()).await.is_applied());
    let found = store.get(&row.user_id, &row.id, Consistency::Strong).await.unwrap().unwrap();
    assert_eq!((found.health, found.version), (Health::default(), 3));
}

#[tokio::test]
async fn health_of_a_row_of_a_later_version_is_read_and_replaced() {
    let client = database().await;
    let store = subscriptions(&client);
    let row = sample::subscription("u", 1);
    store.create(&row).await.unwrap();
    change_row(&client, &row, |row| {
        let Some(AttributeValue::M(health)) = row.get_mut("health") else { panic!("{row:?}") };
        health.insert("failures".to_owned(), AttributeValue::N("3".to_owned()));
        health.insert("last_error".to_owned(), AttributeValue::S("a new name".to_owned()));
        health.insert("a_new_member".to_owned(), AttributeValue::Bool(true));
    })
    .await;
    let read = Health { consecutive_failures: 3, ..Health::default() };
    let set = async |expected: &Health, health: &Health| {
        store.set_health(&row.user_id, &row.id, expected, health).await.unwrap()
    };
    let refused = set(&Health::default(), &read).await;
    assert!(matches!(refused, SubscriptionWrite::Conflict(row) if row.health == read));
    assert!(set(&read, &Health::default()).await.is_applied());
    let found = store.get(&row.user_id, &row.id, Consistency::Strong).await.unwrap().unwrap();
    assert_eq!((found.health, found.version), (Health::default(), 2));
}

#[tokio::test]
async fn update_keeps_attributes_that_it_does_not_know_and_removes_those_of_older_versions() {
    let client = database().await;
    let store = subscriptions(&client);
    let row = sample::subscription("u", 1);
    store.create(&row).await.unwrap();
    change_row(&client, &row, |row| {
        for name in ["colour", "failures", "description", "filter"] {
            row.insert(name.to_owned(), AttributeValue::N("7".to_owned()));
        }
    })
    .await;
    assert!(store.update(&row, 1).await.unwrap().is_applied());
    let row = subscription_row(&client, &row).await;
    assert!(row.contains_key("colour"));
    assert!(!["failures", "description", "filter"].iter().any(|name| row.contains_key(*name)));
}

#[tokio::test]
async fn errors_tell_unavailable_from_rejected() {
    // Nothing listens on a port that was bound a moment ago.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let gone = clients::dynamodb(&clients::local(&endpoint));
    let error = deliveries(&gone).0.position().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");

    let client = database().await;
    let clock = Arc::new(ManualClock::default());
    let nowhere = DynamoDeliveries::new(client, "NoSuchTable".to_owned(), clock);
    let error = nowhere.position().await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Rejected(_))
            && Chain(&error).to_string().contains("ResourceNotFound"),
        "{error}"
    );
}

/// An SQS of this test alone with one queue, whose clock is stopped.
struct Queue {
    clock: Arc<local_sqs::ManualClock>,
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Queue {
    async fn start() -> Self {
        let clock = Arc::new(local_sqs::ManualClock::new(1_800_000_000_000));
        let sqs = Arc::new(local_sqs::Sqs::new(clock.clone(), "us-east-1"));
        sqs.ensure_queue("deliveries", &[("VisibilityTimeout", "30")]).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, local_sqs::router(sqs)).into_future());
        let url = format!("{endpoint}/{}/deliveries", local_sqs::ACCOUNT);
        Self { clock, client: clients::sqs(&clients::local(&endpoint)), url }
    }

    fn tasks(&self) -> SqsTaskQueue {
        SqsTaskQueue::new(self.client.clone(), self.url.clone())
    }

    async fn receive(&self) -> Vec<aws_sdk_sqs::types::Message> {
        let receive = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(10)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All);
        receive.send().await.unwrap().messages.unwrap_or_default()
    }
}

fn outgoing(n: u64, delay: u64) -> Outgoing {
    let subscription = sample::subscription("u", n);
    let task = Outgoing::first_attempt(sample::new_delivery(&subscription, n));
    Outgoing { delay: Duration::from_secs(delay), ..task }
}

#[tokio::test]
async fn tasks_are_sent_with_their_delay_and_their_owner_as_the_group() {
    let queue = Queue::start().await;
    assert_eq!(queue.tasks().send(&[]).await.unwrap(), [0; 0]);
    let tasks = [outgoing(1, 0), outgoing(2, 901), outgoing(3, 60)];
    assert_eq!(queue.tasks().send(&tasks).await.unwrap(), [1], "the delay is too long");
    for expected in [&tasks[0], &tasks[2]] {
        let messages = queue.receive().await;
        assert_eq!(messages.len(), 1);
        let body = messages[0].body().unwrap();
        assert_eq!(DeliveryTask::from_json(body).unwrap(), expected.task);
        let group = &messages[0].attributes().unwrap()[&MessageSystemAttributeName::MessageGroupId];
        assert_eq!(*group, expected.group);
        let delete = queue.client.delete_message().queue_url(&queue.url);
        let handle = messages[0].receipt_handle().unwrap();
        delete.receipt_handle(handle).send().await.unwrap();
        queue.clock.advance(Duration::from_mins(1));
    }
}

#[tokio::test]
async fn visibility_of_more_than_ten_messages_is_changed_despite_a_bad_handle() {
    let queue = Queue::start().await;
    for half in [0, 6] {
        let tasks: Vec<Outgoing> = (half..half + 6).map(|n| outgoing(n, 0)).collect();
        assert_eq!(queue.tasks().send(&tasks).await.unwrap(), [0; 0]);
    }
    let mut handles = vec![("no handle".to_owned(), Duration::from_mins(10))];
    while handles.len() < 13 {
        let messages = queue.receive().await;
        assert!(!messages.is_empty());
        handles.extend(
            messages
                .iter()
                .map(|m| (m.receipt_handle().unwrap().to_owned(), Duration::from_mins(10))),
        );
    }
    queue.tasks().change_visibility(&handles).await.unwrap();
    queue.clock.advance(Duration::from_secs(599));
    assert!(queue.receive().await.is_empty(), "the queue's own timeout is 30 s");
    queue.clock.advance(Duration::from_secs(1));
    assert!(!queue.receive().await.is_empty());
}

#[tokio::test]
async fn rejected_event_carries_its_reason() {
    let queue = Queue::start().await;
    let rejected = RejectedEvent {
        body: "{\"event_type\": \"é\"".to_owned(),
        message_id: "5fea7756-0ea4-451a-a703-a558b933e274".to_owned(),
        sent: sample::at(1),
        reason: "invalid_json",
        detail: "the message body is not valid JSON".to_owned(),
    };
    SqsDeadLetterQueue::new(queue.client.clone(), queue.url.clone()).send(&rejected).await.unwrap();
    let messages = queue.receive().await;
    assert_eq!(messages[0].body(), Some(rejected.body.as_str()));
    let attributes = messages[0].message_attributes().unwrap();
    for (name, value) in [
        ("reason", rejected.reason),
        ("detail", rejected.detail.as_str()),
        ("message_id", rejected.message_id.as_str()),
        ("sent_timestamp", rejected.sent.millis().to_string().as_str()),
    ] {
        assert_eq!(attributes[name].string_value(), Some(value));
    }
}

#[tokio::test]
async fn rejected_event_as_large_as_a_message_is_cut_and_keeps_its_reason() {
    let queue = Queue::start().await;
    let dead_letter_queue = SqsDeadLetterQueue::new(queue.client.clone(), queue.url.clone());
    let body = format!("é\u{FFFE}\u{1}{}", "é".repeat(QUEUE_BATCH_BYTES / 2 - 3));
    assert_eq!(body.len(), QUEUE_BATCH_BYTES);
    let rejected = RejectedEvent {
        body,
        message_id: String::new(),
        sent: sample::at(1),
        reason: "invalid_json",
        detail: "the message body is not valid JSON".to_owned(),
    };
    dead_letter_queue.send(&rejected).await.unwrap();
    let messages = queue.receive().await;
    let body = messages[0].body().unwrap();
    assert!(body.starts_with("é\u{FFFD}\u{FFFD}é"));
    assert!((QUEUE_BATCH_BYTES - 200..QUEUE_BATCH_BYTES).contains(&body.len()), "{}", body.len());
    let attributes = messages[0].message_attributes().unwrap();
    assert_eq!(attributes["reason"].string_value(), Some("invalid_json"));
    assert_eq!(attributes["body_bytes"].string_value(), Some("1048576"));
}

#[tokio::test]
async fn missing_queue_is_a_rejected_request() {
    let queue = Queue::start().await;
    let nowhere = SqsTaskQueue::new(queue.client.clone(), format!("{}-not", queue.url));
    let error = nowhere.send(&[outgoing(1, 0)]).await.unwrap_err();
    assert!(matches!(error, QueueError::Rejected(_)), "{error}");
}
