//! What a user's webhooks are told about the user's other webhooks.

use serde_json::{Value, json};
use test_support::FakeReceiver;

use crate::harness::{Local, event, text};

#[tokio::test]
async fn other_webhook_is_told_that_a_delivery_is_exhausted_and_a_webhook_disabled() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.statuses("/failing", &[500, 410]);
    let types = json!(["task.created", "delivery.exhausted", "webhook.disabled"]);
    let body = json!({"url": receiver.url("/failing"), "event_types": types, "retry_count": 0});
    let (failing, _) = local.subscribe("u", body).await;
    let body = json!({"url": receiver.url("/told"), "event_types": ["delivery.exhausted", "webhook.disabled"]});
    let (told, secret) = local.subscribe("u", body).await;
    let wildcard = json!({"url": receiver.url("/wildcard"), "event_types": ["*"]});
    let (wildcard, _) = local.subscribe("u", wildcard).await;

    local.publish(&event("u", "task.created", 1)).await;
    let first = local.ended("u", &told, 1).await.remove(0);
    assert_eq!(
        (&first["event_type"], &first["status"]),
        (&json!("delivery.exhausted"), &json!("success"))
    );
    local.publish(&event("u", "task.created", 2)).await;
    local.ended("u", &told, 3).await;

    let check = standardwebhooks::Webhook::new(&secret).unwrap();
    let mut types = Vec::new();
    for request in receiver.received().iter().filter(|request| request.path == "/told") {
        let headers = request.headers.iter().map(|(name, value)| {
            (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())
        });
        check.verify(&request.body, &headers.collect::<http::HeaderMap>()).unwrap();
        let payload: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(text(&payload["data"]["webhook_id"]), failing);
        types.push(text(&payload["event_type"]));
    }
    types.sort_unstable();
    assert_eq!(types, ["delivery.exhausted", "delivery.exhausted", "webhook.disabled"]);
    assert_eq!(local.deliveries("u", &failing).await.len(), 2, "it is told nothing of itself");
    assert_eq!(local.deliveries("u", &wildcard).await.len(), 2, "a wildcard does not select them");
    local.drained().await;
}
