//! The rules of a delivery, over memory ports and a clock that does not advance.

mod behind;
mod hold;
mod operational;
mod recovery;

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use serde_json::json;
use test_support::sender::{self, Reply};
use test_support::{
    Failing, Intercepted, ManualClock, MemoryDeliveries, MemorySubscriptions, MemoryTaskQueue,
    ScriptedSender, SeededRandom, TestSealer, sample,
};
use webhooks_core::breaker::{
    DISABLE_AFTER_SECONDS, Health, LastError, OPEN_AFTER_FAILURES, PROBE_SECONDS, SLOW_SECONDS,
};
use webhooks_core::delivery::{Delivery, DeliveryTask, EndReason, NewDelivery, Status};
use webhooks_core::delivery_queue::SLOW_SUFFIX;
use webhooks_core::limits::{BLOCKED_HOSTS_SECONDS, DUE_SHARDS};
use webhooks_core::outbound::{Failure, HttpResult, OutboundRequest};
use webhooks_core::ports::{
    Clock as _, Consistency, Deliveries as _, DueIndex as _, Lease, Outgoing, Statistics as _,
    Subscriptions as _, Version,
};
use webhooks_core::rate_limit::RateLimit;
use webhooks_core::secret::SecretSealer as _;
use webhooks_core::signing_key::SigningKey;
use webhooks_core::statistics::Totals;
use webhooks_core::subscription::{
    DisabledReason, KeepPayload, Patch, SignatureChange, SignatureScheme, Subscription,
};
use webhooks_core::time::Timestamp;
use webhooks_core::traceparent::Traceparent;

use crate::Deliver;
use crate::reserve::LEASE;

const RETENTION: Duration = Duration::from_hours(30 * 24);

struct Harness {
    clock: ManualClock,
    subscriptions: MemorySubscriptions,
    deliveries: MemoryDeliveries,
    queue: MemoryTaskQueue,
    sender: ScriptedSender,
    deliver: Deliver,
    subscription: Subscription,
    /// The ARN of the queue that batches come from.
    source: String,
}

/// What a batch of one message came to.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Acknowledged,
    Back,
    BackIn(u64),
    /// Acknowledged, and a copy comes after this many seconds.
    CopyIn(u64),
}

impl Came {
    /// As a task whose table is not available.
    fn is_soon(&self) -> bool {
        matches!(self, Self::BackIn(30..=60))
    }
}

impl Harness {
    async fn new() -> Self {
        let clock = ManualClock::at(sample::at(100));
        let subscriptions = MemorySubscriptions::default();
        let deliveries = MemoryDeliveries::new(Arc::new(clock.clone()));
        let queue = MemoryTaskQueue::default();
        let sender = ScriptedSender::default();
        let deliver = Deliver::new(
            Arc::new(subscriptions.clone()),
            Arc::new(TestSealer),
            Arc::new(deliveries.clone()),
            Arc::new(deliveries.clone()),
            Arc::new(deliveries.clone()),
            Arc::new(queue.clone()),
            Arc::new(queue.clone()),
            Arc::new(sender.clone()),
            Arc::new(clock.clone()),
            Arc::new(clock.clone()),
            Arc::new(SeededRandom::new(1)),
            RETENTION,
        );
        let subscription = sample::subscription("u", 1);
        subscriptions.create(&subscription).await.unwrap();
        let source = format!("arn:aws:sqs:us-east-1:1:webhook-deliveries{SLOW_SUFFIX}");
        Self { clock, subscriptions, deliveries, queue, sender, deliver, subscription, source }
    }

    fn task(&self, n: u64) -> DeliveryTask {
        DeliveryTask::FirstAttempt(sample::new_delivery(&self.subscription, n))
    }

    fn again(&self, n: u64) -> DeliveryTask {
        let (subscription_id, delivery_id) = (self.subscription.id.clone(), self.id(n));
        DeliveryTask::Retry { subscription_id, delivery_id, start_at: None }
    }

    fn id(&self, n: u64) -> webhooks_core::ids::DeliveryId {
        sample::delivery_id(&self.subscription.id, n)
    }

    fn replies(&self, responses: &[HttpResult]) {
        self.sender.script(&self.subscription.url, responses.iter().cloned().map(Reply::Now));
    }

    async fn run(&self, task: &DeliveryTask) -> Came {
        self.batch(&[task.to_json().unwrap()]).await.remove(0)
    }

    async fn handle(&self, bodies: &[String]) -> SqsBatchResponse {
        let records: Vec<_> = bodies
            .iter()
            .enumerate()
            .map(|(index, body)| {
                json!({
                    "messageId": format!("m{index}"), "receiptHandle": format!("r{index}"),
                    "eventSourceARN": self.source,
                    "body": body, "attributes": {"ApproximateReceiveCount": "1"},
                })
            })
            .collect();
        let event: SqsEvent = serde_json::from_value(json!({ "Records": records })).unwrap();
        self.deliver.handle(event).await
    }

    async fn batch(&self, bodies: &[String]) -> Vec<Came> {
        let before = self.queue.sent().len();
        let response = self.handle(bodies).await;
        let copies = self.queue.sent().split_off(before);
        let failed: Vec<&str> =
            response.batch_item_failures.iter().map(|f| f.item_identifier.as_str()).collect();
        let hidden = self.queue.take_visibility_changes();
        (0..bodies.len())
            .map(|index| {
                let receipt = format!("r{index}");
                let hide = hidden.iter().find(|(handle, _)| *handle == receipt);
                match (failed.contains(&format!("m{index}").as_str()), hide) {
                    (true, Some((_, timeout))) => Came::BackIn(timeout.as_secs()),
                    (true, None) => Came::Back,
                    (false, None) => match copy_of(&bodies[index], &copies) {
                        Some(copy) => Came::CopyIn(copy.delay.as_secs()),
                        None => Came::Acknowledged,
                    },
                    (false, Some(_)) => panic!("hidden and acknowledged"),
                }
            })
            .collect()
    }

    async fn record(&self, n: u64) -> Option<Delivery> {
        let id = self.id(n);
        self.deliveries.get(&self.subscription.id, &id, Consistency::Strong).await.unwrap()
    }

    async fn current(&self) -> Subscription {
        let Subscription { user_id, id, .. } = &self.subscription;
        self.subscriptions.get(user_id, id, Consistency::Strong).await.unwrap().unwrap()
    }

    /// Sets the failures of the endpoint's health, and until when its breaker is open.
    async fn fails(&self, consecutive_failures: u32, open_until: Option<u64>) {
        let open_until = open_until.map(sample::at);
        let failing_since = Some(sample::at(0));
        let last_error = Some(LastError::Status(500));
        let failing = Health {
            consecutive_failures,
            failing_since,
            open_until,
            last_error,
            ..Health::default()
        };
        let Subscription { user_id, id, health, .. } = self.current().await;
        let set = self.subscriptions.set_health(&user_id, &id, &health, &failing).await;
        assert!(set.unwrap().is_applied());
    }

    /// Has the first attempt of task 1 fail, and then another copy take the lease for its retry, until
    /// 178; it is 103 now.
    async fn another_retries_task_1(&self) {
        self.sender.statuses(&self.subscription.url, &[500]);
        assert_eq!(self.run(&self.task(1)).await, Came::CopyIn(2));
        let (now, until) = (sample::at(103), sample::at(178));
        self.clock.set(now);
        let lease = Lease { holder: "another".to_owned(), now, until };
        self.deliveries
            .lease(&self.subscription.id, &self.id(1), Version::retrying(1), &lease)
            .await
            .unwrap();
    }

    /// How many deliveries are in the due index.
    async fn waiting(&self) -> usize {
        let far = sample::at(1_000_000_000);
        let mut rows = 0;
        for shard in 0..DUE_SHARDS {
            let page = self.deliveries.due(shard, far, 100, None).await.unwrap();
            rows += page.items.iter().filter(|due| due.row.delivery_id().is_some()).count();
        }
        rows
    }

    async fn statistics(&self) -> (u64, u64, u64) {
        let hours =
            self.deliveries.counters(&self.subscription.id, Timestamp::EPOCH).await.unwrap();
        let counts = Totals::of(&hours).counts;
        (counts.total, counts.success, counts.failed)
    }
}

/// The delayed copy of a task.
fn copy_of<'a>(body: &str, sent: &'a [Outgoing]) -> Option<&'a Outgoing> {
    let task = DeliveryTask::from_json(body).ok()?;
    let id = task.delivery_id()?;
    sent.iter().find(|copy| !copy.delay.is_zero() && copy.task.delivery_id() == Some(id))
}

fn header<'a>(request: &'a OutboundRequest, name: &str) -> &'a str {
    request.headers.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
}

#[tokio::test]
async fn success_is_written_once_and_acknowledged() {
    let harness = Harness::new().await;
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    let record = harness.record(1).await.unwrap();
    assert_eq!((record.status, record.attempt_count()), (Status::Success, 1));
    assert_eq!(record.expires_at, sample::at(1).plus(RETENTION));
    assert_eq!(harness.statistics().await, (1, 1, 0));

    // The same event again: nothing is sent, nothing is counted.
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    assert_eq!(harness.sender.take().len(), 1);
    assert_eq!(harness.statistics().await, (1, 1, 0));
}

#[tokio::test]
async fn payload_that_is_kept_until_success_is_erased_by_a_success_only() {
    let harness = Harness::new().await;
    let mut webhook = harness.current().await;
    webhook.keep_payload = KeepPayload::UntilSuccess;
    harness.subscriptions.update(&webhook, 1).await.unwrap();
    harness.sender.statuses(&webhook.url, &[500, 200]);
    assert_eq!(harness.run(&harness.task(1)).await, Came::CopyIn(2));
    let record = harness.record(1).await.unwrap();
    assert_eq!((record.data.as_str(), record.is_payload_erased), (r#"{"n":1}"#, false));
    harness.clock.set(sample::at(103));
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    let record = harness.record(1).await.unwrap();
    assert_eq!((record.data.as_str(), record.is_payload_erased), ("{}", true));
}

#[tokio::test]
async fn traceparent_of_the_task_is_sent_at_every_attempt() {
    let harness = Harness::new().await;
    harness.sender.statuses(&harness.subscription.url, &[500, 200]);
    let traceparent = sample::traceparent();
    let new = sample::new_delivery(&harness.subscription, 1);
    let task = DeliveryTask::FirstAttempt(NewDelivery { traceparent: traceparent.clone(), ..new });
    assert_eq!(harness.run(&task).await, Came::CopyIn(2));
    harness.clock.set(sample::at(103));
    assert_eq!(harness.run(&harness.again(1)).await, Came::Acknowledged);
    for sent in harness.sender.take() {
        assert_eq!(
            Some(header(&sent, "traceparent")),
            traceparent.as_ref().map(Traceparent::as_str)
        );
    }
}

#[tokio::test]
async fn deliveries_over_the_rate_limit_wait_for_their_slots_and_use_up_no_retry() {
    use Came::{Acknowledged, CopyIn};

    let harness = Harness::new().await;
    let mut webhook = harness.current().await;
    webhook.rate_limit = Some(RateLimit::new(2).unwrap());
    harness.subscriptions.update(&webhook, 1).await.unwrap();
    let tasks: Vec<String> = (1..=6).map(|n| harness.task(n).to_json().unwrap()).collect();
    let came = harness.batch(&tasks).await;
    // The slots begin at 0, 0.5, 1, 1.5, 2 and 2.5 seconds. Those of the next second are waited for.
    let expected = [Acknowledged, Acknowledged, Acknowledged, CopyIn(1), CopyIn(2), CopyIn(2)];
    assert_eq!(came, expected);
    let waits: Vec<u128> = harness.sender.take().iter().map(|sent| sent.wait.as_millis()).collect();
    assert_eq!(waits, [0, 500, 1_000]);
    let record = harness.record(4).await.unwrap();
    assert_eq!((record.status, record.attempt_count()), (Status::Retrying, 0));
    assert!(record.has_slot);

    // A message that comes back has its slot already; one that comes late reserves another.
    harness.clock.set(sample::at(102));
    assert_eq!(harness.run(&harness.task(6)).await, Acknowledged);
    assert_eq!(harness.sender.take()[0].wait.as_millis(), 500);
    harness.clock.set(sample::at(104));
    let late = [4, 5].map(|n| harness.task(n).to_json().unwrap());
    assert_eq!(harness.batch(&late).await, [Acknowledged, Acknowledged]);
    let mut waits: Vec<u128> =
        harness.sender.take().iter().map(|sent| sent.wait.as_millis()).collect();
    waits.sort_unstable();
    assert_eq!(waits, [0, 500]);
    assert_eq!(harness.waiting().await, 0);
}

#[tokio::test]
async fn attempt_carries_the_headers_of_the_owner() {
    let harness = Harness::new().await;
    let mut webhook = harness.current().await;
    let (name, value) = ("authorization".parse().unwrap(), "Bearer key".parse().unwrap());
    let sealed = TestSealer.seal_header((&name, &value), &webhook.user_id, &webhook.id);
    webhook.headers = [(name.clone(), sealed)].into();
    harness.subscriptions.update(&webhook, 1).await.unwrap();
    harness.run(&harness.task(1)).await;
    let sent = harness.sender.take().remove(0);
    assert_eq!(sent.owner_headers, [(name, value)]);
    assert!(!format!("{sent:?}").contains("Bearer"), "{sent:?}");
}

#[tokio::test]
async fn webhook_with_key_pairs_sends_no_hmac() {
    let harness = Harness::new().await;
    let mut webhook = harness.current().await;
    let now = harness.clock.now();
    for n in [1, 2] {
        let key = SigningKey::from_random(SignatureScheme::Ed25519, &[n; 32]);
        let key = TestSealer.seal(&key, &webhook.user_id, &webhook.id);
        if n == 1 {
            let scheme = SignatureScheme::Ed25519;
            let signature = Some(SignatureChange { scheme, key });
            webhook.apply(Patch { signature, ..Patch::default() }, now);
        } else {
            webhook.rotate(key, now.plus_seconds(60), now);
        }
    }
    harness.subscriptions.update(&webhook, 1).await.unwrap();
    harness.run(&harness.task(1)).await;
    let sent = harness.sender.take().remove(0);
    assert_eq!(header(&sent, "x-webhook-signature"), "");
    let (id, body) = (header(&sent, "webhook-id"), &sent.body);
    let signatures: Vec<String> = TestSealer
        .keys_of(&webhook)
        .iter()
        .map(|key| key.standard_signature(id, now.seconds(), body))
        .collect();
    assert_eq!(signatures.len(), 2);
    assert_eq!(header(&sent, "webhook-signature"), signatures.join(" "));
}

#[tokio::test]
async fn attempts_share_id_and_body_and_differ_in_number_and_time() {
    let harness = Harness::new().await;
    harness.sender.statuses(&harness.subscription.url, &[500, 503, 200]);
    assert_eq!(harness.run(&harness.task(1)).await, Came::CopyIn(2));
    harness.clock.set(sample::at(103));
    assert_eq!(harness.run(&harness.task(1)).await, Came::CopyIn(4));
    harness.clock.set(sample::at(108));
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);

    let sent = harness.sender.take();
    let column = |name| sent.iter().map(|request| header(request, name)).collect::<Vec<_>>();
    assert_eq!(column("x-webhook-attempt"), ["1", "2", "3"]);
    let id = harness.id(1).to_string();
    assert_eq!(column("webhook-id"), [&id, &id, &id]);
    assert_eq!(column("x-webhook-delivery-id"), [&id, &id, &id]);
    assert_eq!(column("webhook-timestamp"), ["1800000100", "1800000103", "1800000108"]);
    assert!(sent.iter().all(|request| request.body == sent[0].body));
    let record = harness.record(1).await.unwrap();
    assert_eq!((record.status, record.attempt_count()), (Status::Success, 3));
    assert_eq!(harness.statistics().await, (1, 1, 0));
    assert!(harness.waiting().await == 0);
}

#[tokio::test]
async fn replaced_message_is_acknowledged_during_an_outage() {
    let mut harness = Harness::new().await;
    harness.sender.statuses(&harness.subscription.url, &[500; 9]);
    let failing = Failing::call("deliveries.put");
    let table = harness.deliveries.clone();
    harness.deliver.deliveries = Arc::new(Intercepted::new(table.clone(), failing.clone()));
    // Without a record the message is all there is.
    assert!(harness.run(&harness.task(1)).await.is_soon());

    harness.deliver.deliveries = Arc::new(table.clone());
    assert_eq!(harness.run(&harness.task(1)).await, Came::CopyIn(2));
    let due = harness.record(1).await.unwrap().due_at.unwrap();
    harness.deliver.deliveries = Arc::new(Intercepted::new(table.clone(), failing.clone()));
    // Until the record is overdue, nobody else brings the delivery back.
    harness.clock.set(due.minus(Duration::from_mins(1)));
    assert!(harness.run(&harness.task(1)).await.is_soon());
    harness.clock.set(due);
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    assert_eq!((harness.record(1).await.unwrap().due_at, harness.waiting().await), (Some(due), 1));
    // While the record cannot be read, it is not known.
    let failing = Failing::call("deliveries.get");
    harness.deliver.deliveries = Arc::new(Intercepted::new(table, failing));
    assert!(harness.run(&harness.again(1)).await.is_soon());
}

#[tokio::test]
async fn delivery_fails_when_the_retries_run_out() {
    let harness = Harness::new().await;
    harness.sender.statuses(&harness.subscription.url, &[500; 9]);
    let mut now = sample::at(100);
    for seconds in [2, 4, 8] {
        harness.clock.set(now);
        assert_eq!(harness.run(&harness.task(1)).await, Came::CopyIn(seconds));
        now = now.plus_seconds(seconds);
    }
    harness.clock.set(now);
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    let record = harness.record(1).await.unwrap();
    assert_eq!((record.status, record.attempt_count()), (Status::Failed, 4));
    assert_eq!(harness.statistics().await, (1, 0, 1));
}

#[tokio::test]
async fn waiting_delivery_becomes_a_delayed_copy() {
    let harness = Harness::new().await;
    harness.replies(&[sender::retry_after(503, 600)]);
    for (now, delays) in [(100, 600..=660), (110, 590..=650)] {
        harness.clock.set(sample::at(now));
        assert!(matches!(harness.run(&harness.task(1)).await, Came::CopyIn(_)));
        let [copy] = &harness.queue.take()[..] else { panic!("no delayed copy") };
        assert!(delays.contains(&copy.delay.as_secs()));
        assert_eq!(copy.task, harness.again(1));
        assert_eq!(copy.group, harness.subscription.user_id.as_str());
    }
    assert_eq!(harness.sender.take().len(), 1);
}

#[tokio::test]
async fn long_wait_is_parked_for_the_retry_function() {
    let harness = Harness::new().await;
    harness.replies(&[sender::retry_after(429, 3600)]);
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    let record = harness.record(1).await.unwrap();
    assert_eq!(record.status, Status::Retrying);
    assert_eq!(record.due_at, record.next_retry_at);
    assert!(record.next_retry_at.unwrap() >= sample::at(3700));
    assert_eq!(harness.waiting().await, 1);

    harness.clock.set(record.next_retry_at.unwrap());
    assert_eq!(harness.run(&harness.again(1)).await, Came::Acknowledged);
    assert_eq!(harness.record(1).await.unwrap().status, Status::Success);
    assert!(harness.waiting().await == 0);
}

#[tokio::test]
async fn status_410_disables_the_webhook_and_ends_waiting_deliveries() {
    let harness = Harness::new().await;
    harness.sender.statuses(&harness.subscription.url, &[500, 410]);
    assert_eq!(harness.run(&harness.task(1)).await, Came::CopyIn(2));
    assert_eq!(harness.run(&harness.task(2)).await, Came::Acknowledged);
    let current = harness.current().await;
    assert!(!current.is_active);
    assert_eq!(current.disabled_reason, Some(DisabledReason::EndpointGone.into()));
    harness.clock.set(sample::at(103));
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    assert_eq!(harness.run(&harness.task(3)).await, Came::Acknowledged);
    for n in [1, 3] {
        let record = harness.record(n).await.unwrap();
        assert_eq!(record.status, Status::Failed);
        assert!(record.error().unwrap().starts_with("endpoint_disabled"));
    }
    assert_eq!(harness.sender.take().len(), 2);
    assert_eq!(harness.statistics().await, (3, 0, 3));
}

#[tokio::test]
async fn deleted_webhook_gets_no_post() {
    let harness = Harness::new().await;
    harness.sender.statuses(&harness.subscription.url, &[500]);
    assert_eq!(harness.run(&harness.task(1)).await, Came::CopyIn(2));
    let Subscription { user_id, id, .. } = &harness.subscription;
    harness.subscriptions.delete(user_id, id).await.unwrap();
    harness.clock.set(sample::at(103));
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    assert_eq!(harness.run(&harness.task(2)).await, Came::Acknowledged);
    assert_eq!(harness.sender.take().len(), 1);
    assert!(harness.record(1).await.unwrap().error().unwrap().starts_with("webhook_deleted"));
    assert!(harness.record(2).await.is_none());
    assert!(harness.waiting().await == 0);
}

#[tokio::test]
async fn blocked_address_is_not_retried() {
    let harness = Harness::new().await;
    harness.replies(&[sender::no_response(Failure::Blocked)]);
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    assert_eq!(harness.record(1).await.unwrap().status, Status::Failed);
}

#[tokio::test]
async fn host_blocked_by_the_operator_gets_no_request_and_no_retry() {
    let harness = Harness::new().await;
    let host = harness.subscription.url.split('/').nth(2).unwrap().to_owned();
    harness.replies(&[sender::status(200)]);
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    assert_eq!(harness.record(1).await.unwrap().status, Status::Success);

    harness.subscriptions.block_host(&host);
    // The list in memory is old by then.
    harness.clock.set(sample::at(100 + BLOCKED_HOSTS_SECONDS));
    assert_eq!(harness.run(&harness.task(2)).await, Came::Acknowledged);
    let record = harness.record(2).await.unwrap();
    assert_eq!((record.status, record.attempt_count()), (Status::Failed, 1));
    assert!(record.error().unwrap().contains("has blocked this host"), "{record:?}");
    assert_eq!(harness.sender.requests().len(), 1);
}

#[tokio::test]
async fn leased_retry_waits_until_the_lease_ends() {
    let harness = Harness::new().await;
    harness.another_retries_task_1().await;
    assert_eq!(harness.run(&harness.task(1)).await, Came::BackIn(LEASE.as_secs()));
    assert_eq!(harness.sender.requests().len(), 1);
    // The holder crashed: when its lease has ended, the message is handled.
    harness.clock.set(sample::at(178));
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    assert_eq!(harness.record(1).await.unwrap().status, Status::Success);
}

/// Found by the simulator, seed 507204: parking a copy took the lease from the attempt under way,
/// and a third copy made it a second time.
#[tokio::test]
async fn leased_record_is_neither_parked_nor_ended() {
    let harness = Harness::new().await;
    harness.another_retries_task_1().await;
    let before = harness.record(1).await;

    harness.fails(OPEN_AFTER_FAILURES, Some(500)).await;
    assert_eq!(harness.run(&harness.task(1)).await, Came::BackIn(LEASE.as_secs()));
    let Subscription { user_id, id, .. } = &harness.subscription;
    harness.subscriptions.delete(user_id, id).await.unwrap();
    assert_eq!(harness.run(&harness.task(1)).await, Came::BackIn(LEASE.as_secs()));
    assert_eq!(harness.record(1).await, before);

    harness.clock.set(sample::at(178));
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    assert_eq!(harness.record(1).await.unwrap().end_reason, Some(EndReason::WebhookDeleted));
}

#[tokio::test]
async fn panic_or_bad_message_fails_alone() {
    let harness = Harness::new().await;
    harness.sender.script(
        &harness.subscription.url,
        [Reply::Panic, Reply::Now(sender::status(200)), Reply::Now(sender::status(500))],
    );
    let bodies: Vec<String> = (1..=3).map(|n| harness.task(n).to_json().unwrap()).collect();
    let bodies = [bodies, vec!["{}".to_owned()]].concat();
    let came = harness.batch(&bodies).await;
    assert_eq!(came, [Came::Back, Came::Acknowledged, Came::CopyIn(2), Came::Back]);
    assert!(harness.record(1).await.is_none());
    assert_eq!(harness.statistics().await, (2, 1, 0));
}

#[tokio::test]
async fn breaker_opens_probes_once_and_closes() {
    let harness = Harness::new().await;
    harness.fails(OPEN_AFTER_FAILURES - 1, None).await;
    harness.sender.statuses(&harness.subscription.url, &[500, 200]);

    assert_eq!(harness.run(&harness.task(1)).await, Came::CopyIn(2));
    let open = harness.current().await.health;
    assert_eq!(open.open_until, Some(sample::at(160)));
    harness.queue.take();

    // Open: parked without an attempt, and the retry of the first as well.
    harness.clock.set(sample::at(103));
    for n in [1, 2] {
        assert!(matches!(harness.run(&harness.task(n)).await, Came::CopyIn(101..=132)));
    }
    assert_eq!(harness.sender.requests().len(), 1);
    let parked = harness.record(2).await.unwrap();
    assert_eq!((parked.status, parked.attempt_count()), (Status::Retrying, 0));
    assert!(parked.next_retry_at.unwrap() >= sample::at(160));
    // Delayed messages bring them back; should one be lost, the retry function finds its record.
    let delayed = harness.queue.take();
    let back: Vec<_> = delayed.iter().map(|outgoing| outgoing.task.clone()).collect();
    assert_eq!(back, [harness.again(1), harness.again(2)]);
    assert_eq!(parked.due_at.unwrap(), parked.next_retry_at.unwrap().plus_seconds(900));

    // Half open: of two that arrive at the same time, one probes and closes it, one stays parked.
    let at = [1, 2].map(|n| harness.record(n));
    let latest = futures::future::join_all(at).await;
    let latest = latest.iter().flatten().filter_map(|d| d.next_retry_at).max().unwrap();
    harness.clock.set(latest);
    let bodies = [1, 2].map(|n| harness.again(n).to_json().unwrap());
    assert!(!harness.batch(&bodies).await.contains(&Came::Back));
    assert_eq!(harness.sender.requests().len(), 2);
    assert_eq!(harness.current().await.health, Health::default().record_quick_success());
    let ended = [harness.record(1).await.unwrap(), harness.record(2).await.unwrap()];
    assert_eq!(ended.iter().filter(|record| record.has_ended()).count(), 1);
    let waiting = ended.iter().find(|record| !record.has_ended()).unwrap();
    assert!(waiting.next_retry_at.unwrap() >= latest.plus_seconds(PROBE_SECONDS));
    assert_eq!(harness.statistics().await, (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn webhooks_of_one_owner_at_one_host_are_one_endpoint() {
    const WEBHOOKS: u64 = 100;
    let mut harness = Harness::new().await;
    // As ten instances, each of which has one batch.
    harness.deliver = harness.deliver.with_host_concurrency(100);
    let url = &harness.subscription.url;
    let failing = || Reply::After(Duration::from_millis(50), sender::status(500));
    harness.sender.script(url, std::iter::repeat_with(failing).take(10_000));
    let mut webhooks = vec![harness.subscription.clone()];
    for n in 2..=WEBHOOKS {
        let webhook = Subscription { url: url.clone(), ..sample::subscription("u", n) };
        harness.subscriptions.create(&webhook).await.unwrap();
        webhooks.push(webhook);
    }
    let json = |task: DeliveryTask| task.to_json().unwrap();
    let first: Vec<_> = webhooks
        .iter()
        .map(|webhook| json(DeliveryTask::FirstAttempt(sample::new_delivery(webhook, 1))))
        .collect();
    futures::future::join_all(first.chunks(10).map(|bodies| harness.handle(bodies))).await;
    let posts = || harness.sender.requests().len();
    assert_eq!(posts(), 100, "ten instances that do not know of each other");

    // For an hour each of them is retried as soon as it may be.
    let retries: Vec<_> = webhooks
        .iter()
        .map(|webhook| {
            let (subscription_id, delivery_id) =
                (webhook.id.clone(), sample::delivery_id(&webhook.id, 1));
            json(DeliveryTask::Retry { subscription_id, delivery_id, start_at: None })
        })
        .collect();
    for _ in 0..600 {
        harness.clock.advance(Duration::from_secs(6));
        futures::future::join_all(retries.chunks(10).map(|bodies| harness.handle(bodies))).await;
    }
    assert!((101..=110).contains(&posts()), "{} POSTs", posts());

    // The breaker is the owner's.
    let other = Subscription { url: url.clone(), ..sample::subscription("v", 1) };
    harness.subscriptions.create(&other).await.unwrap();
    let before = posts();
    harness.run(&DeliveryTask::FirstAttempt(sample::new_delivery(&other, 1))).await;
    assert_eq!(posts(), before + 1);
}

#[tokio::test]
async fn message_of_several_deliveries_is_acknowledged_when_each_is_done_or_has_a_copy() {
    let harness = Harness::new().await;
    let mut webhooks = vec![harness.subscription.clone()];
    for n in 2..=3 {
        let webhook = sample::subscription("u", n);
        harness.subscriptions.create(&webhook).await.unwrap();
        webhooks.push(webhook);
    }
    harness.sender.statuses(&webhooks[1].url, &[500, 500]);
    let message = |n| {
        let all = webhooks.iter().map(|webhook| sample::new_delivery(webhook, n)).collect();
        DeliveryTask::first_attempts(all)
    };
    let posts = || harness.sender.requests().len();
    assert_eq!(harness.run(&message(1)).await, Came::Acknowledged);
    assert_eq!(posts(), 3);
    let failed = webhooks[1].id.clone();
    let copy = DeliveryTask::Retry {
        start_at: None,
        delivery_id: sample::delivery_id(&failed, 1),
        subscription_id: failed,
    };
    assert_eq!(harness.queue.take_tasks(), [copy]);

    // Without its copy the message comes back, and only what is left of it is done.
    harness.queue.refuse_all();
    assert_eq!(harness.run(&message(2)).await, Came::Back);
    assert_eq!(posts(), 6);
    harness.clock.advance(Duration::from_secs(10));
    assert_eq!(harness.run(&message(2)).await, Came::Acknowledged);
    assert_eq!(posts(), 7);
}

#[tokio::test]
async fn dead_webhook_does_not_keep_deliveries_from_others_at_its_host() {
    let harness = Harness::new().await;
    harness.fails(OPEN_AFTER_FAILURES, None).await;
    harness.sender.statuses(&harness.subscription.url, &[500; 20]);
    let bodies: Vec<_> = (1..=10).map(|n| harness.task(n).to_json().unwrap()).collect();
    harness.batch(&bodies).await;
    assert!(harness.current().await.health.open_until.is_some());
    let before = harness.sender.requests().len();
    let mut other = sample::subscription("u", 2);
    other.url = format!("{}/other", harness.subscription.url.trim_end_matches('/'));
    harness.subscriptions.create(&other).await.unwrap();
    harness.run(&DeliveryTask::FirstAttempt(sample::new_delivery(&other, 1))).await;
    assert_eq!(harness.sender.requests().len(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn endpoint_is_marked_as_slow_while_its_attempt_goes_on() {
    let harness = Harness::new().await;
    let took = HttpResult { duration_ms: 8_000, ..sender::status(200) };
    let url = &harness.subscription.url;
    harness.sender.script(url, [1, 2].map(|_| Reply::After(Duration::from_secs(8), took.clone())));
    let bodies = [1, 2].map(|n| harness.task(n).to_json().unwrap());
    let (came, ()) = futures::future::join(harness.batch(&bodies), async {
        tokio::time::sleep(Duration::from_millis(SLOW_SECONDS * 1000 - 1)).await;
        assert_eq!(harness.current().await.health, Health::default());
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(harness.current().await.health.is_slow(sample::at(100)));
    })
    .await;
    assert_eq!(came, [Came::Acknowledged, Came::Acknowledged]);
    // Two slow successes in one batch are one change.
    let current = harness.current().await;
    assert_eq!(current.health, Health::default().record_slow_attempt(sample::at(100)));
    assert_eq!(current.version, harness.subscription.version + 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_of_one_owner_at_one_host_are_bounded_and_the_others_are_put_off() {
    let mut harness = Harness::new().await;
    harness.deliver = harness.deliver.with_host_concurrency(2);
    let others = sample::subscription("other", 1);
    harness.subscriptions.create(&others).await.unwrap();
    assert_eq!(others.url, harness.subscription.url);
    let took = |seconds| Reply::After(Duration::from_secs(seconds), sender::status(200));
    harness.sender.script(&others.url, [took(9), took(9), took(9), took(9), took(0)]);
    let own = (1..=3).map(|n| harness.task(n).to_json().unwrap());
    let of_others = (1..=2)
        .map(|n| DeliveryTask::FirstAttempt(sample::new_delivery(&others, n)).to_json().unwrap());
    let bodies: Vec<String> = own.chain(of_others).collect();
    let came = harness.batch(&bodies).await;
    let [Came::Acknowledged, Came::Acknowledged, Came::CopyIn(3..=8), ..] = came[..] else {
        panic!("{came:?}")
    };
    assert_eq!(came[3..], [Came::Acknowledged, Came::Acknowledged]);
    assert_eq!(harness.sender.take().len(), 4);
    // Nothing was written of it: the copy is its first attempt.
    assert!(harness.record(3).await.is_none());
    let [copy] = &harness.queue.take()[..] else { panic!("one is put off") };
    assert_eq!(copy.task, harness.task(3));
    assert_eq!(harness.run(&copy.task).await, Came::Acknowledged);
    assert_eq!(harness.sender.take().len(), 1);
    // One that would wait for less than a second is made; a copy that is refused brings the message back.
    harness.sender.script(&others.url, [took(0), took(9), took(9), took(9)]);
    harness.queue.refuse_all();
    let bodies: Vec<String> = (4..=7).map(|n| harness.task(n).to_json().unwrap()).collect();
    let came = harness.batch(&bodies).await;
    assert_eq!(came[..3], [Came::Acknowledged, Came::Acknowledged, Came::Acknowledged]);
    assert!(came[3].is_soon());
}

#[tokio::test]
async fn task_of_a_slow_endpoint_moves_to_the_slow_queue() {
    let mut harness = Harness::new().await;
    harness.source = "arn:aws:sqs:us-east-1:1:webhook-deliveries".to_owned();
    let quick = Health::default().record_quick_success();
    let slow = quick.record_slow_attempt(sample::at(100));
    let id = &harness.subscription.id;
    let user = &harness.subscription.user_id;
    harness.subscriptions.set_health(user, id, &Health::default(), &slow).await.unwrap();

    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    assert!(harness.sender.requests().is_empty());
    assert_eq!(harness.queue.take_tasks(), [harness.task(1)]);
    // A task that the slow queue does not take is not lost.
    harness.queue.refuse_all();
    assert_eq!(harness.run(&harness.task(2)).await, Came::Acknowledged);
    assert_eq!(harness.sender.requests().len(), 1);

    harness
        .subscriptions
        .set_health(user, id, &harness.current().await.health, &quick)
        .await
        .unwrap();
    assert_eq!(harness.run(&harness.task(3)).await, Came::Acknowledged);
    assert_eq!(harness.sender.requests().len(), 2);
}

#[tokio::test]
async fn refused_delayed_copy_changes_the_visibility_instead() {
    let harness = Harness::new().await;
    harness.fails(OPEN_AFTER_FAILURES, Some(160)).await;
    harness.queue.refuse_all();
    assert!(matches!(harness.run(&harness.task(1)).await, Came::BackIn(99..=129)));
    assert_eq!(harness.record(1).await.unwrap().status, Status::Retrying);
    assert!(harness.queue.take().is_empty() && harness.sender.requests().is_empty());
}

#[tokio::test]
async fn long_wait_for_the_breaker_is_in_the_due_index() {
    let harness = Harness::new().await;
    harness.fails(OPEN_AFTER_FAILURES, Some(2_000)).await;
    assert_eq!(harness.run(&harness.task(1)).await, Came::Acknowledged);
    let parked = harness.record(1).await.unwrap();
    assert!(parked.due_at.unwrap() >= sample::at(2_000));
    assert_eq!(parked.due_at, parked.next_retry_at);
    assert!(harness.queue.take().is_empty());
}

#[tokio::test]
async fn concurrent_failures_are_all_counted() {
    let harness = Harness::new().await;
    harness.sender.statuses(&harness.subscription.url, &[500; 9]);
    // Each batch reads the health that was there before any of them failed.
    let bodies: Vec<Vec<String>> =
        (1..=3).map(|n| vec![harness.task(n).to_json().unwrap()]).collect();
    let batches = bodies.iter().map(|body| harness.batch(body));
    futures::future::join_all(batches).await;
    assert_eq!(harness.current().await.health.consecutive_failures, 3);
}

#[tokio::test(start_paused = true)]
async fn endpoint_that_succeeds_while_another_attempt_fails_is_not_disabled() {
    let harness = Harness::new().await;
    harness.fails(3, None).await;
    harness.clock.set(sample::at(100 + DISABLE_AFTER_SECONDS));
    let url = &harness.subscription.url;
    harness.sender.script(url, [Reply::After(Duration::from_secs(1), sender::status(500))]);
    let bodies = [harness.task(1).to_json().unwrap()];
    let success = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Subscription { user_id, id, health, .. } = harness.current().await;
        let well = health.record_success();
        let set = harness.subscriptions.set_health(&user_id, &id, &health, &well).await;
        assert!(set.unwrap().is_applied());
    };
    futures::future::join(harness.batch(&bodies), success).await;
    assert!(harness.current().await.is_active);
}

#[tokio::test]
async fn endpoint_that_fails_for_five_days_is_disabled() {
    let harness = Harness::new().await;
    harness.sender.statuses(&harness.subscription.url, &[500, 500]);
    assert_eq!(harness.run(&harness.task(1)).await, Came::CopyIn(2));
    assert!(harness.current().await.is_active);
    harness.clock.set(sample::at(100 + DISABLE_AFTER_SECONDS));
    assert_eq!(harness.run(&harness.task(2)).await, Came::CopyIn(2));
    let current = harness.current().await;
    assert_eq!(current.disabled_reason, Some(DisabledReason::EndpointFailing.into()));
    assert!(!current.is_active);
}
