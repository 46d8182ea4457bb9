//! What a user's webhooks are told about the user's other webhooks.

use serde_json::{Value, json};
use test_support::FakeReceiver;

use crate::harness::{Local, event, text};

/// The body of the first request in this section of docs/WEBHOOKS.md.
fn example(section: &str) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/WEBHOOKS.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once(section).unwrap();
    let (_, rest) = rest.split_once("-d '").unwrap();
    serde_json::from_str(rest.split_once('\'').unwrap().0).unwrap()
}

#[tokio::test]
async fn auto_recover_of_the_guide_is_accepted() {
    let local = Local::start().await;
    let body = json!({"url": "http://127.0.0.1:9/", "event_types": ["task.created"]});
    let (webhook, _) = local.subscribe("u", body).await;
    let patch = example("With `\"auto_recover\": true`");
    let path = format!("/api/webhooks/{webhook}");
    let shown = local.expect(200, "PATCH", &path, "u", Some(patch)).await;
    assert_eq!(shown["auto_recover"], true);
}

#[tokio::test]
async fn other_webhook_is_told_that_a_delivery_is_exhausted_and_a_webhook_disabled() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.statuses("/failing", &[500, 410]);
    let types = json!(["task.created", "delivery.exhausted", "webhook.disabled"]);
    let body = json!({"url": receiver.url("/failing"), "event_types": types, "retry_count": 0});
    let (failing, _) = local.subscribe("u", body).await;
    let mut body = example("### Be told about your webhooks");
    body["url"] = receiver.url("/told").into();
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
