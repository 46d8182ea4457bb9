//! Asking for a recovery, and what is shown of it. What it sends is tested with deliver.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::sample;
use webhooks_api::testing::{TestRequest, TestResponse};
use webhooks_core::delivery::{DeliveryTask, Status, Trigger};
use webhooks_core::ids::{RecoveryId, SubscriptionId};
use webhooks_core::ports::{Recoveries as _, Subscriptions as _};
use webhooks_core::recovery::{Recovery, RecoveryStatus, Selection};

use super::{Harness, text};

const CREATE: &str = "POST /api/webhooks/{id}/recoveries";
const LIST: &str = "GET /api/webhooks/{id}/recoveries";
const GET: &str = "GET /api/webhooks/{id}/recoveries/{recovery_id}";
const CANCEL: &str = "DELETE /api/webhooks/{id}/recoveries/{recovery_id}";

async fn ask(harness: &Harness, webhook: &SubscriptionId, body: &Value) -> TestResponse {
    harness.send(TestRequest::to(CREATE).with("id", webhook.as_str()).body(body)).await
}

async fn call(
    harness: &Harness,
    route: &str,
    webhook: &SubscriptionId,
    recovery: &str,
) -> TestResponse {
    let call = TestRequest::to(route).with("id", webhook.as_str());
    harness.send(call.with("recovery_id", recovery)).await
}

/// A body that asks for everything since the first sample.
pub(super) fn all() -> Value {
    json!({"since": sample::at(0).to_string()})
}

/// Stores a recovery of this id.
pub(super) async fn stored(harness: &Harness, webhook: &SubscriptionId, id: RecoveryId) {
    let mut subscription = sample::subscription("alice", 1);
    subscription.id = webhook.clone();
    let selection = Selection {
        since: sample::at(0),
        until: id.moment(),
        status: Status::Failed,
        event_types: Vec::new(),
        ended_since: None,
    };
    let recovery = Recovery::new(id, &subscription, selection, Duration::from_hours(720));
    harness.deliveries.create_recovery(&recovery).await.unwrap();
}

/// Records a failed delivery.
async fn failed(harness: &Harness, webhook: &SubscriptionId, n: u64, trigger: Trigger) {
    let mut delivery = sample::delivery(webhook, n);
    delivery.trigger = trigger;
    delivery.end(Status::Failed, sample::at(n));
    harness.record(&delivery).await;
}

#[tokio::test]
async fn recovery_is_stored_and_its_first_page_is_sent() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let response = ask(&harness, &webhook, &all()).await;
    assert_eq!(response.status(), 202);
    let shown = response.json();
    let now = sample::at(86_400).to_string();
    assert_eq!(
        shown,
        json!({
            "id": shown["id"], "webhook_id": webhook.as_str(), "status": "running",
            "since": sample::at(0).to_string(), "until": now, "delivery_status": "failed",
            "event_types": [], "automatic": false, "matched": 0, "sent": 0, "succeeded": 0, "failed": 0,
            "created_at": now, "updated_at": now,
        })
    );
    let id = text(&shown["id"]);
    let page = DeliveryTask::RecoveryPage {
        subscription_id: webhook.clone(),
        recovery_id: id.parse().unwrap(),
        page: Some(0),
    };
    assert_eq!(harness.queue.take_tasks(), [page]);
    let stored = harness.deliveries.all_recoveries().remove(0);
    assert!(stored.due_at.is_some(), "the retry function finds it if the message is lost");
    assert_eq!(call(&harness, GET, &webhook, &id).await.json(), shown);
    let listed = harness.send(TestRequest::to(LIST).with("id", webhook.as_str())).await.json();
    assert_eq!((&listed["items"][0]["id"], listed["items"][0].get("failed")), (&shown["id"], None));
}

#[tokio::test]
async fn dry_run_counts_and_sends_nothing() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    for (n, trigger) in [(1, Trigger::Event), (2, Trigger::Event), (3, Trigger::Test)] {
        failed(&harness, &webhook, n, trigger).await;
    }
    failed(&harness, &webhook, 4, Trigger::Recovery).await;
    for (field, value, matched) in [
        ("since", json!(sample::at(2).to_string()), 1),
        ("until", json!(sample::at(2).to_string()), 1),
        ("until", Value::Null, 2),
        ("status", json!("success"), 0),
        ("event_types", json!(["task.created"]), 2),
        ("event_types", json!(["task.deleted"]), 0),
    ] {
        let mut body = all();
        body["dry_run"] = true.into();
        body[field] = value;
        let response = ask(&harness, &webhook, &body).await;
        assert_eq!(
            (response.status(), response.json()),
            (200, json!({"matched": matched})),
            "{body}"
        );
    }
    assert_eq!(harness.queue.take(), []);
    assert_eq!(harness.deliveries.all_recoveries(), []);
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let future = sample::at(90_000).to_string();
    for (body, fields) in [
        (json!({}), &["since"][..]),
        (json!({"since": future}), &["since"]),
        (json!({"since": "today", "until": 7, "x": 1}), &["since", "until", "x"]),
        (
            json!({"since": sample::at(5).to_string(), "until": sample::at(5).to_string()}),
            &["since"],
        ),
        (
            json!({"since": sample::at(5).to_string(), "status": "retrying", "event_types": [], "dry_run": 1}),
            &["status", "event_types", "dry_run"],
        ),
        (json!({"since": sample::at(5).to_string(), "event_types": ["task.*"]}), &["event_types"]),
    ] {
        let response = ask(&harness, &webhook, &body).await;
        assert_eq!(response.status(), 422, "{body}");
        let errors = response.json()["errors"].as_array().unwrap().clone();
        let named: Vec<String> = errors.iter().map(|error| text(&error["field"])).collect();
        assert_eq!(named, fields, "{body}");
    }
}

#[tokio::test]
async fn more_recoveries_than_may_be_running_return_409() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(text(&ask(&harness, &webhook, &all()).await.json()["id"]));
    }
    let moments = harness.deliveries.all_recoveries().into_iter().map(|r| r.created_at().millis());
    let start = sample::at(86_400).millis();
    assert_eq!(moments.collect::<Vec<_>>(), [start, start + 1, start + 2]);
    let response = ask(&harness, &webhook, &all()).await;
    assert_eq!((response.status(), response.problem().as_str()), (409, "recovery-limit-reached"));

    assert_eq!(call(&harness, CANCEL, &webhook, &ids[1]).await.status(), 204);
    assert_eq!(call(&harness, GET, &webhook, &ids[1]).await.json()["status"], "cancelled");
    assert_eq!(ask(&harness, &webhook, &all()).await.status(), 202);
    assert_eq!(call(&harness, CANCEL, &webhook, &ids[1]).await.status(), 204, "again is no error");
}

#[tokio::test]
async fn recovery_of_an_inactive_webhook_is_refused() {
    let harness = Harness::new();
    let mut webhook = harness.webhook("alice", 1).await;
    webhook.is_active = false;
    harness.subscriptions.update(&webhook, 1).await.unwrap();
    let response = ask(&harness, &webhook.id, &all()).await;
    assert_eq!((response.status(), response.problem().as_str()), (409, "webhook-inactive"));
    assert_eq!(harness.deliveries.all_recoveries(), []);
}

#[tokio::test]
async fn cancellation_of_a_recovery_that_has_ended_changes_nothing() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let id = text(&ask(&harness, &webhook, &all()).await.json()["id"]);
    let mut recovery = harness.deliveries.all_recoveries().remove(0);
    recovery.end(RecoveryStatus::Done, sample::at(86_401));
    harness.deliveries.put_recovery(&recovery, 0).await.unwrap();
    harness.clock.advance(Duration::from_secs(9));
    assert_eq!(call(&harness, CANCEL, &webhook, &id).await.status(), 204);
    assert_eq!(harness.deliveries.all_recoveries(), [recovery]);
}

#[tokio::test]
async fn other_users_recovery_returns_404() {
    let harness = Harness::new();
    let mine = harness.webhook("alice", 1).await.id;
    let other = harness.webhook("bob", 2).await.id;
    let id = text(&ask(&harness, &mine, &all()).await.json()["id"]);
    for (webhook, id) in [(&other, id.as_str()), (&mine, "rec_1"), (&mine, "")] {
        for route in [GET, CANCEL] {
            assert_eq!(call(&harness, route, webhook, id).await.status(), 404, "{route} {id}");
        }
    }
    assert_eq!(ask(&harness, &other, &all()).await.status(), 404);
}
