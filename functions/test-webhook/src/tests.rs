//! One test, one attempt, one row of history.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::sender::{self, Reply};
use test_support::{
    ManualClock, MemoryDeliveries, MemorySubscriptions, ScriptedSender, SeededRandom, TestSealer,
    sample,
};
use webhooks_api::testing::TestRequest;
use webhooks_core::breaker::{BreakerState, Health, LastError};
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::{Status, Trigger};
use webhooks_core::filter::Filter;
use webhooks_core::maybe_known::MaybeKnown;
use webhooks_core::outbound::{Failure, HttpResult, Outcome};
use webhooks_core::ports::{Deliveries as _, DeliveryFilter, Statistics as _, Subscriptions as _};
use webhooks_core::signature::standard_signature;
use webhooks_core::statistics::Totals;
use webhooks_core::subscription::Subscription;
use webhooks_core::verification::VerificationToken;

use crate::TestWebhook;

struct Harness {
    subscriptions: MemorySubscriptions,
    deliveries: MemoryDeliveries,
    sender: ScriptedSender,
    function: TestWebhook,
    id: String,
    url: String,
}

impl Harness {
    async fn new(timeout_seconds: u32) -> Self {
        let clock = ManualClock::at(sample::at(100));
        let subscriptions = MemorySubscriptions::default();
        let deliveries = MemoryDeliveries::new(Arc::new(clock.clone()));
        let sender = ScriptedSender::default();
        let function = TestWebhook::new(
            Arc::new(subscriptions.clone()),
            Arc::new(TestSealer),
            Arc::new(deliveries.clone()),
            Arc::new(deliveries.clone()),
            Arc::new(deliveries.clone()),
            Arc::new(sender.clone()),
            Arc::new(clock),
            Arc::new(SeededRandom::new(1)),
            Duration::from_hours(1),
        );
        let mut subscription = sample::subscription("u", 1);
        subscription.timeout_seconds = timeout_seconds;
        subscriptions.create(&subscription).await.unwrap();
        let (id, url) = (subscription.id.to_string(), subscription.url);
        Self { subscriptions, deliveries, sender, function, id, url }
    }

    async fn call(&self, user: &str, id: &str, body: Option<&str>) -> (u64, Value) {
        self.post("test", user, id, body).await
    }

    async fn post(&self, action: &str, user: &str, id: &str, body: Option<&str>) -> (u64, Value) {
        let route = format!("POST /api/webhooks/{{id}}/{action}");
        let request = TestRequest::to(&route).by(user).with("id", id);
        let request = body.into_iter().fold(request, TestRequest::text);
        let response = request.send(|request| self.function.handle(request)).await;
        (response.status(), response.json())
    }
}

#[tokio::test]
async fn success_is_returned_recorded_and_counted() {
    let harness = Harness::new(60).await;
    let (status, body) = harness.call("u", &harness.id, None).await;
    assert_eq!(status, 200);
    let history = harness.deliveries.snapshot();
    assert_eq!(history.len(), 1);
    let delivery = &history[0].delivery;
    assert_eq!(
        body,
        json!({
            "success": true, "status_code": 200, "duration_ms": 5, "error": null,
            "delivery_id": delivery.id, "matched": true,
        })
    );
    assert_eq!((delivery.trigger, delivery.status), (Trigger::Test, Status::Success));
    let hours = harness.deliveries.counters(&delivery.subscription_id, sample::start()).await;
    assert_eq!(Totals::of(&hours.unwrap()).counts.success, 1);
    // The gateway cuts off at 30 s, so the wait is shorter than the webhook's own.
    let request = harness.sender.take().remove(0);
    assert_eq!(request.timeout, Duration::from_secs(25));
    let first = EventType::all().next().unwrap();
    assert!(request.body.contains(&format!(r#""event_type":"{first}""#)));
}

#[tokio::test]
async fn test_sends_the_requested_type_and_data_and_returns_whether_they_match() {
    let harness = Harness::new(10).await;
    let mut row = harness.subscriptions.snapshot().remove(0);
    row.event_types = vec![MaybeKnown::Known("task.*".parse().unwrap())];
    row.filter = Some(Filter::parse(r#"{"priority":["high"]}"#).unwrap());
    row.version = 2;
    harness.subscriptions.update(&row, 1).await.unwrap();
    for (body, event_type, matched) in [
        (r#"{"event_type":"task.deleted","data":{"priority":"high"}}"#, "task.deleted", true),
        (r#"{"data":{"priority":"low"}}"#, "task.completed", false),
        (r#"{"event_type":"email.sent","data":{"priority":"high"}}"#, "email.sent", false),
    ] {
        let (status, response) = harness.call("u", &harness.id, Some(body)).await;
        assert_eq!(
            (status, &response["success"], &response["matched"]),
            (200, &json!(true), &json!(matched))
        );
        let sent: Value = serde_json::from_str(&harness.sender.take().remove(0).body).unwrap();
        assert_eq!(sent["event_type"], event_type);
        assert_eq!(
            sent["data"]["priority"].as_str().unwrap(),
            if body.contains("high") { "high" } else { "low" }
        );
    }
    let bad = r#"{"event_type":"task.*","data":[]}"#;
    assert_eq!(harness.call("u", &harness.id, Some(bad)).await.0, 422);
    assert!(harness.sender.take().is_empty());
}

#[tokio::test]
async fn success_half_opens_the_breaker_and_keeps_failing_since() {
    let harness = Harness::new(10).await;
    let failing = Health {
        consecutive_failures: 12,
        failing_since: Some(sample::at(1)),
        open_until: Some(sample::at(900)),
        last_error: Some(LastError::Status(500)),
        ..Health::default()
    };
    let row = harness.subscriptions.snapshot().remove(0);
    let (user, id) = (&row.user_id, &row.id);
    assert!(
        harness
            .subscriptions
            .set_health(user, id, &row.health, &failing)
            .await
            .unwrap()
            .is_applied()
    );
    harness.call("u", &harness.id, None).await;
    let health = harness.subscriptions.snapshot().remove(0).health;
    assert_eq!(health, Health { open_until: Some(sample::at(100)), ..failing });
    assert_eq!(health.state(sample::at(100)), BreakerState::HalfOpen);
}

#[tokio::test]
async fn status_410_of_a_test_does_not_disable_the_webhook() {
    let harness = Harness::new(10).await;
    harness.sender.script(&harness.url, [Reply::Now(sender::status(410))]);
    let (_, body) = harness.call("u", &harness.id, None).await;
    assert_eq!((&body["success"], &body["status_code"]), (&json!(false), &json!(410)));
    let error = body["error"].as_str().unwrap();
    assert!(error.contains("410") && !error.contains("disabled"), "{error}");
    let row = harness.subscriptions.snapshot().remove(0);
    assert!(row.is_active && row.disabled_reason.is_none());
    assert_eq!(harness.deliveries.snapshot()[0].delivery.error().as_deref(), Some(error));
}

#[tokio::test]
async fn failure_is_returned_and_not_retried() {
    let harness = Harness::new(10).await;
    harness.sender.script(&harness.url, [Reply::Now(sender::status(500))]);
    let (status, body) = harness.call("u", &harness.id, Some("{}")).await;
    assert_eq!((status, &body["success"], &body["status_code"]), (200, &json!(false), &json!(500)));
    harness.sender.script(&harness.url, [Reply::Now(sender::no_response(Failure::Timeout))]);
    let (_, body) = harness.call("u", &harness.id, Some("")).await;
    assert_eq!(body["status_code"], Value::Null);
    assert!(body["error"].as_str().unwrap().starts_with("timeout"));
    let id = harness.id.parse().unwrap();
    let filter = DeliveryFilter { status: Some(Status::Failed), ..DeliveryFilter::default() };
    let page = harness.deliveries.page(&id, &filter, 10, None, sample::at(200)).await.unwrap();
    assert_eq!(page.items.len(), 2);
    assert!(page.items.iter().all(|delivery| delivery.next_retry_at.is_none()));
}

#[tokio::test]
async fn other_users_webhook_returns_404_and_bad_body_is_refused() {
    let harness = Harness::new(10).await;
    let foreign = harness.call("v", &harness.id, None).await;
    let missing = harness.call("u", &sample::subscription_id("u", 9).to_string(), None).await;
    assert_eq!(foreign.0, 404);
    assert_eq!(foreign, missing);
    assert_eq!(harness.call("u", "nonsense", None).await, missing);
    assert_eq!(harness.call("u", &harness.id, Some("[]")).await.0, 400);
    assert_eq!(harness.call("u", &harness.id, Some(r#"{"a":1}"#)).await.0, 422);
    assert!(harness.sender.take().is_empty());
}

/// Makes the webhook wait for a proof, and returns the token.
async fn unverified(harness: &Harness) -> VerificationToken {
    let mut row = harness.subscriptions.snapshot().remove(0);
    let (token, version) = (VerificationToken::from_random(&[7; 24]), row.version);
    row.require_verification(token.clone());
    assert!(harness.subscriptions.update(&row, version).await.unwrap().is_applied());
    token
}

fn row(harness: &Harness) -> Subscription {
    harness.subscriptions.snapshot().remove(0)
}

fn body(text: &str) -> Reply {
    let outcome = Outcome::Response { status: 200, retry_after: None, excerpt: text.to_owned() };
    Reply::Now(HttpResult { outcome, response_headers: None, duration_ms: 5 })
}

#[tokio::test]
async fn endpoint_that_returns_the_token_activates_the_webhook() {
    let harness = Harness::new(60).await;
    let token = unverified(&harness).await;
    harness.sender.script(&harness.url, [body("ok"), body(token.expose())]);
    let (status, answer) = harness.post("verify", "u", &harness.id, None).await;
    assert_eq!(
        (status, &answer["verified"], &answer["status_code"]),
        (200, &json!(false), &json!(200))
    );
    assert!(!row(&harness).is_active);
    assert!(!answer.to_string().contains(token.expose()));
    let (_, answer) = harness.post("verify", "u", &harness.id, None).await;
    assert_eq!(answer["verified"], true);
    let row = row(&harness);
    assert_eq!((row.is_active, row.disabled_reason, row.verification), (true, None, None));

    let challenge = harness.sender.take().remove(1);
    assert_eq!(challenge.timeout, Duration::from_secs(25));
    assert!(challenge.body.contains(token.expose()));
    let header = |name| challenge.headers.iter().find(|(given, _)| *given == name).unwrap();
    assert_eq!(header("x-webhook-event").1, "webhook.verification");
    let secret = sample::secret("u", 1);
    let [id, time, signature] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| &header(name).1);
    let time = time.parse().unwrap();
    assert_eq!(*signature, standard_signature(&secret, id, time, &challenge.body));
    // A webhook that is verified gets no further challenge.
    let (_, answer) = harness.post("verify", "u", &harness.id, None).await;
    assert_eq!(answer["verified"], true);
    assert!(harness.sender.take().is_empty() && harness.deliveries.snapshot().is_empty());
}

#[tokio::test]
async fn owner_who_read_the_token_at_the_endpoint_activates_the_webhook() {
    let harness = Harness::new(60).await;
    let token = unverified(&harness).await;
    for wrong in ["", "x", &token.expose()[1..]] {
        let given = json!({"token": wrong}).to_string();
        let (status, _) = harness.post("verify", "u", &harness.id, Some(&given)).await;
        assert_eq!(status, 422, "{wrong}");
    }
    let given = json!({"token": token.expose()}).to_string();
    assert_eq!(harness.post("verify", "v", &harness.id, Some(&given)).await.0, 404);
    assert!(!row(&harness).is_active);
    assert_eq!(harness.post("verify", "u", &harness.id, Some(&given)).await.1["verified"], true);
    assert!(row(&harness).is_active);
    assert!(harness.sender.requests().is_empty());
}

#[tokio::test]
async fn unverified_endpoint_gets_no_test() {
    let harness = Harness::new(60).await;
    unverified(&harness).await;
    let (status, answer) = harness.call("u", &harness.id, None).await;
    assert_eq!(status, 409);
    assert_eq!(answer["type"], "urn:webhooks:problem:endpoint-unverified");
    assert!(harness.sender.requests().is_empty());
}
