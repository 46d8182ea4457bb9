//! Operational events: what deliver sends about a webhook, and to which webhooks.

use serde_json::Value;
use test_support::MemoryEventBus;
use webhooks_core::event_type_selector::EventTypeSelector;
use webhooks_core::operational::{DISABLING_SOON_SECONDS, OperationalEvent};

use super::*;

const TYPES: [&str; 5] = [
    "webhook.failing",
    "webhook.disabling_soon",
    "webhook.disabled",
    "webhook.recovered",
    "delivery.exhausted",
];
const DAY: u64 = 24 * 3_600;

/// A harness whose user has two webhooks: the one that tasks are for, and one that names every
/// operational type, as the first one does.
async fn harness() -> (Harness, Subscription) {
    let harness = Harness::new().await;
    let named = |webhook: &mut Subscription| {
        let names = TYPES.map(|name| name.parse::<EventTypeSelector>().unwrap());
        webhook.event_types.extend(names.map(Into::into));
    };
    let mut webhook = harness.current().await;
    named(&mut webhook);
    harness.subscriptions.update(&webhook, webhook.version).await.unwrap();
    let mut other = sample::subscription("u", 2);
    other.event_types.clear();
    named(&mut other);
    harness.subscriptions.create(&other).await.unwrap();
    harness.subscriptions.create(&sample::subscription("v", 1)).await.unwrap();
    (harness, other)
}

impl Harness {
    /// The events that were sent: to which webhook, of which type, and the data.
    fn told(&self) -> Vec<NewDelivery> {
        let sent = self.queue.take().into_iter();
        let new = sent.filter_map(|outgoing| match outgoing.task {
            DeliveryTask::FirstAttempt(new) => Some(new),
            _ => None,
        });
        new.filter(|new| new.event_type.is_operational()).collect()
    }

    /// The only event that was sent, which has to be for this webhook.
    fn told_once(&self, to: &Subscription) -> (&'static str, Value) {
        let told = self.told();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].subscription_id, to.id);
        (told[0].event_type.name(), serde_json::from_str(told[0].data.as_str()).unwrap())
    }
}

impl Harness {
    /// Has the delivery of an operational event fail for the last time, which opens the breaker of the
    /// webhook that it is for.
    async fn telling_opens_breaker(&self, webhook: &Subscription) {
        let Subscription { user_id, id, health, url, .. } = webhook;
        let failing = Health {
            consecutive_failures: OPEN_AFTER_FAILURES - 1,
            failing_since: Some(sample::at(0)),
            ..Health::default()
        };
        self.subscriptions.set_health(user_id, id, health, &failing).await.unwrap();
        self.sender.script(url, [Reply::Now(sender::no_response(Failure::Blocked))]);
        let event_type = "webhook.failing".parse().unwrap();
        let new = NewDelivery { event_type, ..sample::new_delivery(webhook, 1) };
        self.run(&DeliveryTask::FirstAttempt(new)).await;
        let found = self.subscriptions.get(user_id, id, Consistency::Strong).await;
        assert!(found.unwrap().unwrap().health.open_until.is_some());
    }
}

#[tokio::test]
async fn opened_and_closed_breaker_is_told_to_the_other_webhook() {
    let (harness, other) = harness().await;
    harness.fails(OPEN_AFTER_FAILURES - 1, None).await;
    harness.sender.statuses(&harness.subscription.url, &[503, 200]);
    harness.run(&harness.task(1)).await;
    let (name, data) = harness.told_once(&other);
    assert_eq!((name, &data["last_error"]), ("webhook.failing", &json!("http_503")));
    assert_eq!(data["webhook_id"], harness.subscription.id.as_str());
    assert_eq!(data["consecutive_failures"], OPEN_AFTER_FAILURES);
    assert_eq!(data["failing_since"], sample::at(0).to_string());
    assert_eq!(data["next_attempt_at"], sample::at(160).to_string());

    harness.clock.set(sample::at(200));
    harness.run(&harness.task(2)).await;
    let (name, data) = harness.told_once(&other);
    assert_eq!((name, &data["failing_since"]), ("webhook.recovered", &json!(sample::at(0))));
    harness.run(&harness.task(3)).await;
    assert_eq!(harness.told(), []);
}

#[tokio::test]
async fn message_that_comes_back_tells_its_last_failure_again() {
    let (harness, _) = harness().await;
    let blocked = || Reply::Now(sender::no_response(Failure::Blocked));
    harness.sender.script(&harness.subscription.url, [blocked()]);
    harness.run(&harness.task(1)).await;
    let first = harness.told();
    assert_eq!(first.len(), 1);
    harness.run(&harness.task(1)).await;
    assert_eq!(harness.told(), first);
}

#[tokio::test]
async fn webhook_whose_owner_cannot_be_told_stays_active_until_the_next_failure() {
    let (harness, other) = harness().await;
    harness.sender.statuses(&harness.subscription.url, &[410, 410]);
    harness.queue.refuse_all();
    harness.run(&harness.task(1)).await;
    assert!(harness.current().await.is_active);
    harness.queue.accept_all();
    harness.run(&harness.task(2)).await;
    assert!(!harness.current().await.is_active);
    let told = harness.told();
    assert!(told.iter().any(|new| new.event_type.name() == "webhook.disabled"));
    assert!(told.iter().all(|new| new.subscription_id == other.id));
}

#[tokio::test]
async fn webhook_that_will_be_disabled_in_a_day_is_told_as_one_event() {
    let (harness, other) = harness().await;
    harness.fails(OPEN_AFTER_FAILURES, Some(50)).await;
    let told_at = DISABLE_AFTER_SECONDS - DISABLING_SOON_SECONDS;
    harness.sender.statuses(&harness.subscription.url, &[503; 4]);
    let at = |seconds| sample::at(0).plus_seconds(seconds);
    harness.clock.set(at(told_at - 7_200));
    harness.run(&harness.task(1)).await;
    assert_eq!(harness.told(), []);

    harness.clock.set(at(told_at + 60));
    harness.run(&harness.task(2)).await;
    let first = harness.told();
    assert_eq!(first.len(), 1);
    let data: Value = serde_json::from_str(first[0].data.as_str()).unwrap();
    assert_eq!(first[0].event_type.name(), "webhook.disabling_soon");
    assert_eq!(
        (&data["reason"], &data["last_error"]),
        (&json!("endpoint_failing"), &json!("http_503"))
    );
    assert_eq!(data["disables_at"], at(DISABLE_AFTER_SECONDS).to_string());
    assert!(data["advice"].as_str().unwrap().ends_with('.'));

    // The next failure tells the same event, whose delivery is there already.
    harness.clock.set(at(told_at + DAY / 2));
    harness.run(&harness.task(3)).await;
    assert_eq!(harness.told(), first);
    let task = DeliveryTask::FirstAttempt(first[0].clone());
    harness.run(&task).await;
    harness.run(&task).await;
    let sent = harness.sender.take();
    assert_eq!(sent.iter().filter(|sent| sent.url.as_str() == other.url).count(), 1);
}

#[tokio::test]
async fn disabled_webhook_is_told_with_its_reason() {
    let (harness, other) = harness().await;
    harness.sender.statuses(&harness.subscription.url, &[410]);
    harness.run(&harness.task(1)).await;
    let told = harness.told();
    let mut names: Vec<_> = told.iter().map(|new| new.event_type.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["delivery.exhausted", "webhook.disabled"]);
    let disabled = told.iter().find(|new| new.event_type.name() == "webhook.disabled").unwrap();
    let data: Value = serde_json::from_str(disabled.data.as_str()).unwrap();
    assert_eq!(
        (&data["reason"], &data["last_error"]),
        (&json!("endpoint_gone"), &json!("http_410"))
    );
    assert_eq!(data["failing_since"], Value::Null);
    assert!(told.iter().all(|new| new.subscription_id == other.id));

    // What waits for it fails; that is not told for each.
    harness.run(&harness.task(2)).await;
    assert_eq!(harness.record(2).await.unwrap().status, Status::Failed);
    assert_eq!(harness.told(), []);
}

#[tokio::test]
async fn five_days_of_failures_are_told_with_their_begin() {
    let (harness, other) = harness().await;
    harness.fails(OPEN_AFTER_FAILURES, Some(50)).await;
    harness.clock.set(sample::at(0).plus_seconds(DISABLE_AFTER_SECONDS));
    harness.sender.statuses(&harness.subscription.url, &[503]);
    harness.run(&harness.task(1)).await;
    let (name, data) = harness.told_once(&other);
    assert_eq!((name, &data["reason"]), ("webhook.disabled", &json!("endpoint_failing")));
    assert_eq!(data["failing_since"], sample::at(0).to_string());
}

#[tokio::test]
async fn last_failure_of_a_delivery_is_told() {
    let (harness, other) = harness().await;
    harness.sender.statuses(&harness.subscription.url, &[500; 4]);
    harness.run(&harness.task(1)).await;
    for seconds in [103, 120, 150] {
        assert_eq!(harness.told(), []);
        harness.clock.set(sample::at(seconds));
        harness.run(&harness.again(1)).await;
    }
    let (name, data) = harness.told_once(&other);
    assert_eq!((name, &data["attempt_count"]), ("delivery.exhausted", &json!(4)));
    assert_eq!(data["delivery_id"], harness.id(1).as_str());
    assert_eq!(
        (&data["event_type"], &data["last_error"]),
        (&json!("task.created"), &json!("http_500"))
    );
}

#[tokio::test]
async fn failed_delivery_of_an_operational_event_tells_nothing() {
    let (harness, other) = harness().await;
    harness.telling_opens_breaker(&other).await;
    assert_eq!(harness.told(), []);
}

#[tokio::test]
async fn operator_is_told_everything_and_a_bus_that_is_down_fails_nothing() {
    let (harness, other) = harness().await;
    let bus = MemoryEventBus::default();
    let deliver = harness.deliver.with_event_bus(Some(Arc::new(bus.clone())));
    let harness = Harness { deliver, ..harness };
    let blocked = || Reply::Now(sender::no_response(Failure::Blocked));
    harness.sender.script(&harness.subscription.url, [blocked(), blocked()]);
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    let names = |events: Vec<OperationalEvent>| -> Vec<&str> {
        events.iter().map(|event| event.event.event_type.name()).collect()
    };
    assert_eq!(names(bus.take()), ["delivery.exhausted"]);
    // Also what an operational event has done.
    harness.telling_opens_breaker(&other).await;
    assert_eq!(names(bus.take()), ["webhook.failing"]);

    harness.told();
    bus.go_down();
    assert_eq!(harness.run(&harness.task(2)).await, Came::Acknowledged);
    assert_eq!(harness.told_once(&other).0, "delivery.exhausted");
    assert_eq!(harness.record(2).await.unwrap().status, Status::Failed);
}

#[tokio::test]
async fn owner_whose_webhooks_name_no_operational_type_is_not_read_for_each_failed_delivery() {
    let harness = Harness::new().await;
    let blocked = || Reply::Now(sender::no_response(Failure::Blocked));
    harness.sender.script(&harness.subscription.url, [blocked(), blocked(), blocked()]);
    harness.run(&harness.task(1)).await;
    let mut other = sample::subscription("u", 2);
    other.event_types = vec!["delivery.exhausted".parse::<EventTypeSelector>().unwrap().into()];
    harness.subscriptions.create(&other).await.unwrap();
    harness.run(&harness.task(2)).await;
    assert_eq!(harness.told(), [], "it was read just before");
    harness.clock.set(sample::at(110));
    harness.run(&harness.task(3)).await;
    assert_eq!(harness.told_once(&other).0, "delivery.exhausted");
}
