//! Looking into one delivery, and repeating one.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::sample;
use webhooks_api::testing::{TestRequest, TestResponse};
use webhooks_core::delivery::{Delivery, NewDelivery, Trigger};
use webhooks_core::failure_class::FailureClass;
use webhooks_core::limits::REDELIVERIES_PER_DAY;
use webhooks_core::ports::{Clock as _, Outgoing, Subscriptions as _};
use webhooks_core::subscription::KeepPayload;

use super::{GET, Harness, REDELIVER, succeeded, text};

fn call(route: &str, delivery: &Delivery) -> TestRequest {
    let call = TestRequest::to(route).with("id", delivery.subscription_id.as_str());
    call.with("delivery_id", delivery.id.as_str())
}

async fn recorded(harness: &Harness) -> Delivery {
    let webhook = harness.webhook("alice", 1).await.id;
    let data = sample::data(r#"{"z":1.50,"é":"ü","a":12345678901234567890.10}"#);
    let user_id = sample::user("alice");
    let delivery = Delivery { data, user_id, ..succeeded(&webhook, 20) };
    harness.record(&delivery).await;
    delivery
}

async fn redeliver(harness: &Harness, delivery: &Delivery) -> TestResponse {
    harness.send(call(REDELIVER, delivery)).await
}

#[tokio::test]
async fn delivery_details_show_attempts_and_payload() {
    let harness = Harness::new();
    let delivery = recorded(&harness).await;
    let response = harness.send(call(GET, &delivery)).await;
    assert_eq!(response.status(), 200);
    assert!(response.text().contains(&format!(r#""payload":{}"#, delivery.body())));
    let body = response.json();
    assert_eq!(body.as_object().unwrap().len(), 17);
    assert_eq!(body["status"], "success");
    assert_eq!(
        body["attempts"],
        json!([
            {
                "number": 1, "started_at": "2027-01-15T08:00:20.000Z", "duration_ms": 20,
                "response_status": 500, "failure": "http_5xx", "error": "http: HTTP 500",
                "advice": FailureClass::Http5xx.advice(),
                "request_headers": {"webhook-id": "dlv_1", "webhook-signature": "***"},
                "response_headers": {"content-type": "text/plain"}, "response_excerpt": "oops",
            },
            {
                "number": 2, "started_at": "2027-01-15T08:00:22.000Z", "duration_ms": 22,
                "response_status": 204, "failure": null, "error": null, "advice": null,
                "request_headers": null, "response_headers": null, "response_excerpt": "",
            },
        ])
    );
}

#[tokio::test]
async fn expired_delivery_is_not_shown() {
    let harness = Harness::new();
    let delivery = recorded(&harness).await;
    harness.clock.set(delivery.expires_at);
    for route in [GET, REDELIVER] {
        assert_eq!(harness.send(call(route, &delivery)).await.problem(), "not-found");
    }
}

#[tokio::test]
async fn redelivery_is_a_new_delivery_of_the_same_event() {
    let harness = Harness::new();
    let old = recorded(&harness).await;
    let response = redeliver(&harness, &old).await;
    assert_eq!(response.status(), 202);
    let body = response.json();
    let now = harness.clock.now().to_string();
    let id = text(&body["id"]);
    assert_eq!(
        body,
        json!({
            "id": id, "webhook_id": old.subscription_id, "event_id": "event-20",
            "event_type": "task.created", "status": "retrying", "trigger": "redelivery",
            "attempt_count": 0, "response_status": null, "error": null, "duration_ms": null,
            "created_at": now, "updated_at": now, "next_retry_at": null,
            "waiting_for": "retry",
            "redelivery_of": old.id,
        })
    );
    let new = NewDelivery {
        user_id: sample::user("alice"),
        subscription_id: old.subscription_id.clone(),
        delivery_id: id.parse().unwrap(),
        event_id: old.event_id.clone(),
        event_type: old.event_type,
        event_time: old.created_at(),
        data: old.data.clone(),
        traceparent: None,
        trigger: Trigger::Redelivery,
        redelivery_of: Some(old.id.clone()),
        start_at: None,
    };
    assert_eq!(harness.queue.take(), [Outgoing::first_attempt(new.clone())]);
    let again = Delivery::new(&new, harness.clock.now(), old.expires_at);
    assert_eq!(
        again.body(),
        old.body(),
        "what is sent says when it happened, not when it was repeated"
    );

    assert_eq!(again.message_id(), old.message_id(), "so that a receiver can drop what it has");
    // Each further request, immediately and later, makes another delivery.
    let mut ids = vec![id, text(&redeliver(&harness, &old).await.json()["id"])];
    harness.clock.advance(Duration::from_secs(1));
    ids.push(text(&redeliver(&harness, &old).await.json()["id"]));
    ids.dedup();
    assert_eq!((ids.len(), harness.queue.take().len()), (3, 2));
    assert_eq!(harness.deliveries.snapshot().len(), 1, "the first attempt writes the record");
}

#[tokio::test]
async fn redelivery_of_a_retrying_delivery_returns_409() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let retrying = sample::delivery(&webhook, 20);
    harness.record(&retrying).await;
    let response = redeliver(&harness, &retrying).await;
    assert_eq!((response.status(), response.problem().as_str()), (409, "delivery-retrying"));
    assert_eq!(harness.queue.take(), []);
}

#[tokio::test]
async fn delivery_whose_payload_is_not_kept_shows_none_and_is_not_repeated() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let mut delivery = sample::delivery(&webhook, 20);
    delivery.user_id = sample::user("alice");
    delivery.succeed(KeepPayload::UntilSuccess, sample::at(21));
    harness.record(&delivery).await;
    let response = redeliver(&harness, &delivery).await;
    assert_eq!((response.status(), response.problem().as_str()), (409, "payload-not-kept"));
    assert_eq!(harness.queue.take(), []);
    let shown = harness.send(call(GET, &delivery)).await.json();
    assert_eq!((&shown["status"], &shown["payload"]), (&json!("success"), &Value::Null));
}

#[tokio::test]
async fn redelivery_to_an_inactive_webhook_is_refused() {
    let harness = Harness::new();
    let delivery = recorded(&harness).await;
    let mut webhook = harness.subscriptions.snapshot().remove(0);
    webhook.is_active = false;
    harness.subscriptions.update(&webhook, 1).await.unwrap();
    let response = redeliver(&harness, &delivery).await;
    assert_eq!((response.status(), response.problem().as_str()), (409, "webhook-inactive"));
    assert_eq!(harness.queue.take(), []);
}

#[tokio::test]
async fn redelivery_takes_an_empty_body_or_none() {
    let harness = Harness::new();
    let delivery = recorded(&harness).await;
    for (body, status) in [("", 202), (" {} ", 202), (r#"{"url":1}"#, 422), ("[]", 400), ("x", 400)]
    {
        let response = harness.send(call(REDELIVER, &delivery).text(body)).await;
        assert_eq!(response.status(), status, "{body}");
    }
    assert_eq!(harness.queue.take().len(), 2);
}

#[tokio::test]
async fn redelivery_refused_by_the_queue_returns_an_error() {
    let harness = Harness::new();
    let delivery = recorded(&harness).await;
    harness.queue.refuse_next(&[0]);
    let response = redeliver(&harness, &delivery).await;
    assert_eq!((response.status(), response.problem().as_str()), (503, "unavailable"));
    assert_eq!(harness.queue.take(), []);
    assert_eq!(redeliver(&harness, &delivery).await.status(), 202);
}

#[tokio::test]
async fn query_parameters_are_refused() {
    let harness = Harness::new();
    let delivery = recorded(&harness).await;
    for route in [GET, REDELIVER] {
        let response = harness.send(call(route, &delivery).query("x=1")).await;
        assert_eq!(
            (response.status(), response.json()["errors"][0]["field"].clone()),
            (422, Value::from("x"))
        );
    }
}

#[tokio::test]
async fn redelivery_over_the_daily_limit_returns_429_until_midnight() {
    let harness = Harness::new();
    let old = recorded(&harness).await;
    let now = harness.clock.now();
    for _ in 0..REDELIVERIES_PER_DAY {
        harness.subscriptions.count_redelivery(&old.user_id, now).await.unwrap();
    }
    let response = redeliver(&harness, &old).await;
    assert_eq!((response.status(), response.problem().as_str()), (429, "redelivery-limit-reached"));
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait));
    assert!(harness.queue.take_tasks().is_empty());
    harness.clock.advance(Duration::from_secs(wait));
    assert_eq!(redeliver(&harness, &old).await.status(), 202);
}
