//! What is kept over a crash.

use std::collections::BTreeSet;

use serde_json::json;
use test_support::FakeReceiver;

use crate::harness::{Local, event};

#[tokio::test]
async fn waiting_retry_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.statuses("/", &[500, 500]);
    let local = Local::start_in(dir.path()).await;
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"]});
    let (webhook, _) = local.subscribe("u", body).await;
    local.publish(&event("u", "task.created", 1)).await;
    local
        .eventually(async || {
            let all = local.deliveries("u", &webhook).await;
            all.first().is_some_and(|one| one["attempt_count"] == 1).then_some(())
        })
        .await;
    local.kill();

    let local = Local::start_in(dir.path()).await;
    let delivery = local.ended("u", &webhook, 1).await.remove(0);
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("success"), &json!(3)));
    assert_eq!(receiver.received().len(), 3);
    local.drained().await;
}

#[tokio::test]
async fn queued_events_survive_kills() {
    const EVENTS: usize = 200;
    /// Messages that the functions can handle concurrently.
    const IN_HANDS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let receiver = FakeReceiver::start().await.unwrap();
    let mut local = Local::start_in(dir.path()).await;
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"]});
    let (webhook, _) = local.subscribe("u", body).await;
    for n in 0..EVENTS {
        local.publish(&event("u", "task.created", n as u64)).await;
        if n % 80 == 79 {
            local.kill();
            local = Local::start_in(dir.path()).await;
        }
    }
    let deliveries = local
        .eventually(async || {
            let ids = ids(&receiver);
            (ids.len() == EVENTS).then_some(ids)
        })
        .await;
    local.drained().await;
    let posts = receiver.received().len();
    // Only what was handled by a function at a kill may have been sent twice.
    assert!(posts <= deliveries.len() + 2 * IN_HANDS, "{posts}");
    let path = format!("/api/webhooks/{webhook}");
    let shown = local.expect(200, "GET", &path, "u", None).await;
    assert_eq!(shown["statistics"]["failed_deliveries"], 0);
}

/// The distinct ids of what arrived.
fn ids(receiver: &FakeReceiver) -> BTreeSet<String> {
    let received = receiver.received();
    received.iter().map(|request| request.header("webhook-id").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn interrupt_stops_the_system_cleanly() {
    let local = Local::start().await;
    assert_eq!(local.interrupt(), Some(0));
}
