//! What is kept over a crash.

use serde_json::json;
use webhooks_testing::FakeReceiver;

use crate::harness::{Local, event};

#[tokio::test]
async fn a_hidden_retry_survives_a_kill() {
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
async fn queued_events_survive_kills_in_the_middle_of_the_work() {
    const EVENTS: u64 = 200;
    let dir = tempfile::tempdir().unwrap();
    let receiver = FakeReceiver::start().await.unwrap();
    let mut local = Local::start_in(dir.path()).await;
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"]});
    local.subscribe("u", body).await;
    for n in 0..EVENTS {
        local.publish(&event("u", "task.created", n)).await;
        if n % 80 == 79 {
            local.kill();
            local = Local::start_in(dir.path()).await;
        }
    }
    // What was in the hands of a function at a kill comes back when its visibility runs out,
    // which takes minutes; everything else is delivered at once.
    let seen = local
        .eventually(async || {
            let mut ids: Vec<String> = receiver
                .received()
                .iter()
                .map(|request| request.header("webhook-id").unwrap().to_owned())
                .collect();
            ids.sort();
            ids.dedup();
            let held =
                local.depth("webhook-events").await + local.depth("webhook-deliveries").await;
            (ids.len() as u64 + held >= EVENTS).then_some(ids.len() as u64)
        })
        .await;
    assert!(seen >= EVENTS / 2, "{seen}");
}

#[tokio::test]
async fn an_interrupt_stops_it_cleanly() {
    let local = Local::start().await;
    assert_eq!(local.interrupt(), Some(0));
}
