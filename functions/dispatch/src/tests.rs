//! The rules of dispatch, over memory ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lambda_events::sqs::SqsEvent;
use serde_json::json;
use test_support::{
    Failing, Intercepted, MemoryDeadLetterQueue, MemorySubscriptions, MemoryTaskQueue, sample,
};
use webhooks_core::breaker::Health;
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::DeliveryTask;
use webhooks_core::filter::Filter;
use webhooks_core::ids::DeliveryId;
use webhooks_core::limits::{
    EVENT_DATA_BYTES, FAST_TASKS_PER_OWNER, FAST_TASKS_PER_PERIOD, REDRIVE_WINDOW_MS,
};
use webhooks_core::maybe_known::MaybeKnown;
use webhooks_core::ports::{DeadLetterQueue, Subscriptions as _};
use webhooks_core::subscription::{DisabledReason, UnreadableSubscription};
use webhooks_core::traceparent::Traceparent;

use crate::Dispatch;

struct Harness {
    subscriptions: MemorySubscriptions,
    queue: MemoryTaskQueue,
    slow_queue: MemoryTaskQueue,
    dead_letter_queue: MemoryDeadLetterQueue,
    dispatch: Dispatch,
}

impl Harness {
    fn new() -> Self {
        let dead_letter_queue = MemoryDeadLetterQueue::default();
        Self::with(dead_letter_queue.clone(), Arc::new(dead_letter_queue))
    }

    fn with(dead_letter_queue: MemoryDeadLetterQueue, used: Arc<dyn DeadLetterQueue>) -> Self {
        let subscriptions = MemorySubscriptions::default();
        let (queue, slow_queue) = (MemoryTaskQueue::default(), MemoryTaskQueue::default());
        let dispatch = Dispatch::new(
            Arc::new(subscriptions.clone()),
            Arc::new(queue.clone()),
            Arc::new(slow_queue.clone()),
            used,
        );
        Self { subscriptions, queue, slow_queue, dead_letter_queue, dispatch }
    }

    async fn subscribe(&self, user: &str, n: u64, types: &[&str]) -> String {
        let mut subscription = sample::subscription(user, n);
        subscription.health = Health::default().record_quick_success();
        subscription.event_types =
            types.iter().map(|name| sample::event_type(name).into()).collect();
        self.subscriptions.create(&subscription).await.unwrap();
        subscription.id.to_string()
    }

    /// Runs a batch; returns the ids of the batch item failures.
    async fn run(&self, bodies: &[String]) -> Vec<String> {
        let records: Vec<_> = bodies
            .iter()
            .enumerate()
            .map(|(index, body)| {
                let sent = sample::at(50).millis().to_string();
                json!({
                    "messageId": format!("m{index}"), "receiptHandle": "r", "body": body,
                    "attributes": {"SentTimestamp": sent, "ApproximateReceiveCount": "1"},
                })
            })
            .collect();
        let event: SqsEvent = serde_json::from_value(json!({ "Records": records })).unwrap();
        let response = self.dispatch.handle(event).await;
        response.batch_item_failures.into_iter().map(|f| f.item_identifier).collect()
    }

    fn sent_to(&self) -> Vec<String> {
        let tasks = [self.queue.take_tasks(), self.slow_queue.take_tasks()].concat();
        let mut to: Vec<String> =
            tasks.iter().map(|task| task.subscription_id().unwrap().to_string()).collect();
        to.sort();
        to
    }
}

#[tokio::test]
async fn matching_active_subscriptions_of_the_owner_get_tasks() {
    let harness = Harness::new();
    let wants = harness.subscribe("u", 1, &["task.created", "task.deleted"]).await;
    harness.subscribe("u", 2, &["task.deleted"]).await;
    harness.subscribe("v", 3, &["task.created"]).await;
    let mut paused = sample::subscription("u", 4);
    paused.is_active = false;
    harness.subscriptions.create(&paused).await.unwrap();
    let also = harness.subscribe("u", 5, &["task.created"]).await;
    // Its deliveries end as failed, so that its owner can repeat them.
    let mut disabled = sample::subscription("u", 6);
    disabled.disable(DisabledReason::EndpointFailing, sample::at(1));
    harness.subscriptions.create(&disabled).await.unwrap();

    assert!(harness.run(&[sample::event_body("u", 1)]).await.is_empty());
    assert_eq!(harness.sent_to(), [wants, also, disabled.id.to_string()]);
    harness.subscriptions.block_user(&sample::user("v"));
    assert!(harness.run(&[sample::event_body("v", 1)]).await.is_empty());
    assert!(harness.sent_to().is_empty(), "the user is blocked");
    assert!(harness.run(&[sample::event_body("nobody", 1)]).await.is_empty());
    assert!(harness.sent_to().is_empty());
}

#[tokio::test]
async fn tasks_of_quick_endpoints_use_the_fast_queue_up_to_the_limits() {
    let harness = Harness::new();
    for n in 1..=30 {
        harness.subscribe("u", n, &["task.created"]).await;
    }
    harness.subscriptions.create(&sample::subscription("v", 31)).await.unwrap();
    harness.subscribe("v", 32, &["task.created"]).await;
    let mut fast = BTreeMap::<String, Vec<usize>>::new();
    for n in 1..=4 {
        assert!(
            harness.run(&[sample::event_body("u", n), sample::event_body("v", n)]).await.is_empty()
        );
        let tasks = harness.queue.take_tasks();
        assert_eq!(tasks.len() + harness.slow_queue.take_tasks().len(), 32);
        for user in ["u", "v"] {
            let owned = |task: &&DeliveryTask| matches!(task, DeliveryTask::FirstAttempt(new) if new.user_id == sample::user(user));
            fast.entry(user.to_owned()).or_default().push(tasks.iter().filter(owned).count());
        }
    }
    // The endpoint of v that never answered is not among them.
    assert_eq!(fast["v"], [1, 1, 1, 1]);
    assert_eq!(fast["u"], [FAST_TASKS_PER_OWNER, FAST_TASKS_PER_OWNER, 10, 0]);
    assert_eq!(fast["u"].iter().sum::<usize>(), FAST_TASKS_PER_PERIOD);
}

#[tokio::test]
async fn owner_of_several_slow_endpoints_uses_the_slow_queue() {
    let harness = Harness::new();
    harness.subscribe("u", 1, &["task.created"]).await;
    for n in 2..=4 {
        assert!(harness.run(&[sample::event_body("u", n)]).await.is_empty());
        assert!(!harness.queue.take_tasks().is_empty(), "{n}");
        let mut slow = sample::subscription("u", n);
        slow.health = Health::default().record_quick_success().record_slow_attempt(sample::at(50));
        harness.subscriptions.create(&slow).await.unwrap();
    }
    assert!(harness.run(&[sample::event_body("u", 5)]).await.is_empty());
    assert!(harness.queue.take_tasks().is_empty());
}

#[tokio::test]
async fn event_must_match_a_wildcard_and_the_filter() {
    let harness = Harness::new();
    for (n, selector, filter) in [
        (1, "task.*", r#"{"n":[7]}"#),
        (2, "*", r#"{"n":[{"numeric":["<",7]}]}"#),
        (3, "email.*", r#"{"n":[7]}"#),
    ] {
        let mut subscription = sample::subscription("u", n);
        subscription.event_types = vec![MaybeKnown::Known(selector.parse().unwrap())];
        subscription.filter = Some(Filter::parse(filter).unwrap());
        harness.subscriptions.create(&subscription).await.unwrap();
    }
    assert!(harness.run(&[sample::event_body("u", 7)]).await.is_empty());
    assert_eq!(harness.sent_to(), [sample::subscription_id("u", 1).to_string()]);
}

#[tokio::test]
async fn unreadable_subscription_gets_the_tasks_it_may_want_and_fails_no_event() {
    let harness = Harness::new();
    let readable = harness.subscribe("u", 2, &["task.created"]).await;
    let mut row = UnreadableSubscription {
        user_id: sample::user("u"),
        id: sample::subscription_id("u", 1),
        reason: "has schema version 99".to_owned(),
        event_types: None,
        is_paused: None,
    };
    let unreadable = row.id.to_string();
    for (event_type, expected) in [
        (None, vec![unreadable.clone(), readable.clone()]),
        (Some("task.created"), vec![unreadable, readable.clone()]),
        (Some("task.deleted"), vec![readable]),
    ] {
        row.event_types = event_type.map(|name| vec![sample::event_type(name).into()]);
        harness.subscriptions.set_unreadable(row.clone());
        assert!(harness.run(&[sample::event_body("u", 1)]).await.is_empty());
        assert_eq!(harness.sent_to(), expected, "{event_type:?}");
    }
}

#[tokio::test]
async fn duplicate_event_has_the_same_delivery_id_and_is_sent_once_per_batch() {
    let harness = Harness::new();
    harness.subscribe("u", 1, &["task.created"]).await;
    let body = sample::event_body("u", 1);
    assert!(
        harness.run(&[body.clone(), sample::event_body("u", 2), body.clone()]).await.is_empty()
    );
    let first: Vec<DeliveryId> =
        harness.queue.take_tasks().iter().map(|task| task.delivery_id().unwrap().clone()).collect();
    assert_eq!(first.len(), 2);
    assert!(harness.run(&[body]).await.is_empty());
    let again = harness.queue.take_tasks();
    assert!(first.contains(again[0].delivery_id().unwrap()));
}

#[tokio::test]
async fn missing_event_id_is_replaced_by_the_message_id() {
    let harness = Harness::new();
    harness.subscribe("u", 1, &["task.created"]).await;
    let body = r#"{"event_type":"task.created","user_id":"u","data":{"a": 1.0}}"#.to_owned();
    assert!(harness.run(&[body]).await.is_empty());
    let DeliveryTask::FirstAttempt(task) = harness.queue.take_tasks().remove(0) else {
        panic!("again")
    };
    assert_eq!(task.event_id.as_str(), "m0");
    assert_eq!(task.delivery_id.moment(), sample::at(50));
    assert_eq!(task.data.as_str(), r#"{"a":1.0}"#);
}

#[tokio::test]
async fn bad_event_is_dead_lettered_and_the_others_are_dispatched() {
    let harness = Harness::new();
    harness.subscribe("u", 1, &["task.created"]).await;
    let large = format!(
        r#"{{"event_type":"task.created","user_id":"u","data":{{"k":"{}"}}}}"#,
        "x".repeat(EVENT_DATA_BYTES)
    );
    let bodies = ["{".to_owned(), sample::event_body("u", 1), large.clone()];
    assert!(harness.run(&bodies).await.is_empty());
    assert_eq!(harness.queue.take().len(), 1);
    let letters = harness.dead_letter_queue.take();
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, ["invalid_json", "data_too_large"]);
    assert_eq!((&letters[1].body, letters[1].message_id.as_str()), (&large, "m2"));
}

#[tokio::test]
async fn event_refused_by_the_dead_letter_queue_is_a_batch_item_failure() {
    let letters = MemoryDeadLetterQueue::default();
    let failing = Failing::call("dead_letter_queue.send");
    let faulty = Intercepted::new(letters.clone(), failing);
    let harness = Harness::with(letters, Arc::new(faulty));
    assert_eq!(harness.run(&["{".to_owned()]).await, ["m0"]);
}

#[tokio::test]
async fn event_with_refused_tasks_is_a_batch_item_failure() {
    let harness = Harness::new();
    harness.subscribe("u", 1, &["task.created"]).await;
    harness.subscribe("v", 2, &["task.created"]).await;
    harness.queue.refuse_next(&[0]);
    let bodies = [sample::event_body("u", 1), sample::event_body("v", 2)];
    assert!(harness.run(&bodies).await.is_empty(), "a refused entry is sent again");
    assert_eq!(harness.sent_to().len(), 2);
}

#[tokio::test]
async fn many_events_share_requests() {
    let harness = Harness::new();
    harness.subscribe("u", 1, &["task.created"]).await;
    let bodies: Vec<String> = (1..=10).map(|n| sample::event_body("u", n)).collect();
    assert!(harness.run(&bodies).await.is_empty());
    assert_eq!(harness.queue.batches(), 1);
    assert_eq!(harness.queue.take().len(), 10);
}

#[tokio::test]
async fn deliveries_of_one_event_share_tasks_of_a_bounded_size() {
    let harness = Harness::new();
    for n in 1..=15 {
        harness.subscribe("u", n, &["task.created"]).await;
    }
    harness.subscriptions.create(&sample::subscription("u", 16)).await.unwrap();
    for (bytes, expected) in [(100, vec![10, 5]), (20_000, vec![3; 5]), (200_000, vec![1; 15])] {
        let data = json!({"k": "x".repeat(bytes)});
        let body = json!({"event_type": "task.created", "user_id": "u", "data": data});
        assert!(harness.run(&[body.to_string()]).await.is_empty());
        let tasks = harness.queue.take().into_iter();
        let sizes: Vec<usize> = tasks.map(|one| one.task.split().len()).collect();
        assert_eq!(sizes, expected, "{bytes}");
        assert_eq!(harness.slow_queue.take_tasks().len(), 1, "{bytes}");
    }
}

#[tokio::test]
async fn refused_task_fails_every_event_that_it_is_of() {
    let harness = Harness::new();
    for n in 1..=2 {
        harness.subscribe("u", n, &["task.created"]).await;
    }
    harness.queue.refuse_all();
    let body = sample::event_body("u", 1);
    let bodies = [body.clone(), sample::event_body("nobody", 1), body];
    assert_eq!(harness.run(&bodies).await, ["m0", "m2"]);
}

/// Runs a message of a time that was accepted before, as its attributes say; the names and times of
/// the deliveries.
async fn redriven(harness: &Harness, sent: i64, accepted: i64) -> Vec<(DeliveryId, i64)> {
    let record = json!({
        "messageId": "redriven", "receiptHandle": "r",
        "body": r#"{"event_type":"task.created","user_id":"u","data":{}}"#,
        "attributes": {"SentTimestamp": sent.to_string(), "ApproximateReceiveCount": "1"},
        "messageAttributes": {
            "message_id": {"dataType": "String", "stringValue": "m0"},
            "sent_timestamp": {"dataType": "String", "stringValue": accepted.to_string()},
        },
    });
    let event: SqsEvent = serde_json::from_value(json!({"Records": [record]})).unwrap();
    assert!(harness.dispatch.handle(event).await.batch_item_failures.is_empty());
    let tasks = harness.queue.take_tasks();
    let first = |task: &DeliveryTask| match task {
        DeliveryTask::FirstAttempt(new) => (new.delivery_id.clone(), new.event_time.millis()),
        _ => panic!("dispatch asks for first attempts"),
    };
    tasks.iter().map(first).collect()
}

#[tokio::test]
async fn task_carries_the_traceparent_of_the_message_when_it_is_valid() {
    let harness = Harness::new();
    harness.subscribe("u", 1, &["task.created"]).await;
    let valid = sample::traceparent();
    for (given, expected) in
        [(valid.as_ref().map_or("", Traceparent::as_str), valid.as_ref()), ("00-1-2-01", None)]
    {
        let record = json!({
            "messageId": "m1", "receiptHandle": "r", "body": sample::event_body("u", 1),
            "attributes": {"SentTimestamp": sample::at(50).millis().to_string()},
            "messageAttributes": {"traceparent": {"dataType": "String", "stringValue": given}},
        });
        let event: SqsEvent = serde_json::from_value(json!({"Records": [record]})).unwrap();
        assert!(harness.dispatch.handle(event).await.batch_item_failures.is_empty());
        let DeliveryTask::FirstAttempt(task) = harness.queue.take_tasks().remove(0) else {
            panic!("dispatch asks for first attempts")
        };
        assert_eq!(task.traceparent.as_ref(), expected);
    }
}

#[tokio::test]
async fn redriven_event_has_the_deliveries_of_its_first_dispatch() {
    let harness = Harness::new();
    harness.subscribe("u", 1, &["task.created"]).await;
    let accepted = sample::at(50).millis();
    harness.run(&[r#"{"event_type":"task.created","user_id":"u","data":{}}"#.to_owned()]).await;
    let tasks = harness.queue.take_tasks();
    let first = tasks[0].delivery_id().unwrap().clone();
    let late = accepted + REDRIVE_WINDOW_MS;
    assert_eq!(redriven(&harness, late, accepted).await, [(first.clone(), accepted)]);
    let too_late = redriven(&harness, late + 1, accepted).await;
    assert_eq!(too_late[0].1, late + 1);
    assert_ne!(too_late[0].0, first);
    let before_it_was_sent = redriven(&harness, accepted, accepted + 1).await;
    assert_eq!(before_it_was_sent[0].1, accepted);
    assert_ne!(before_it_was_sent[0].0, first);
}

#[tokio::test]
async fn strict_dispatch_rejects_data_that_violates_the_schema() {
    let harness = Harness::new();
    let strict = Harness { dispatch: harness.dispatch.with_strict_event_data(true), ..harness };
    let all: Vec<_> = EventType::all().map(EventType::name).collect();
    strict.subscribe("u", 1, &all).await;
    let body =
        |data: &str| format!(r#"{{"event_type":"task.created","user_id":"u","data":{data}}}"#);
    for (data, detail) in [
        (r#"{"task_id":7}"#, "at `/task_id`"),
        ("{}", "at ``: \"task_id\" is a required property"),
        (r#"{"task_id":"t","title":1e999}"#, "out of range"),
    ] {
        assert!(strict.run(&[body(data)]).await.is_empty());
        let rejected = strict.dead_letter_queue.take();
        assert_eq!(rejected.len(), 1, "{data}");
        assert_eq!(rejected[0].reason, "schema_violation");
        assert!(rejected[0].detail.contains(detail), "{}", rejected[0].detail);
    }
    assert!(strict.sent_to().is_empty());
    assert!(strict.run(&[body(r#"{"task_id":"secret","title":7}"#)]).await.is_empty());
    assert!(!strict.dead_letter_queue.take()[0].detail.contains("secret"), "values are shown");
    for event_type in EventType::all() {
        let entry = event_type.entry();
        let body =
            format!(r#"{{"event_type":"{}","user_id":"u","data":{}}}"#, entry.name, entry.example);
        assert!(strict.run(&[body]).await.is_empty());
        assert_eq!(strict.sent_to().len(), 1, "{event_type}");
    }
}
