//! Publishing with the library that other services use.

use serde_json::json;
use test_support::FakeReceiver;
use webhooks_aws::clients;
use webhooks_publisher::data::TaskCompleted;
use webhooks_publisher::{Event, Publisher};

use crate::harness::{Local, text};

fn publisher(local: &Local) -> Publisher {
    let sqs = clients::sqs(&clients::local(&local.sqs));
    Publisher::new(sqs, local.queue("webhook-events"))
}

#[tokio::test]
async fn events_of_the_publisher_library_are_delivered() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    let body = json!({"url": receiver.url("/"), "event_types": ["task.completed", "task.created"]});
    let (webhook, _) = local.subscribe("u", body).await;
    let publisher = publisher(&local);
    let data: TaskCompleted =
        serde_json::from_value(json!({"task_id": "t1", "title": "Zoë"})).unwrap();
    let id = publisher.task_completed("u", data).await.unwrap();
    let delivery = local.ended("u", &webhook, 1).await.remove(0);
    assert_eq!(text(&delivery["event_id"]), id.as_str());

    let many = (0..25).map(|n| Event::of_type("task.created", "u", &json!({"n": n}))).collect();
    assert_eq!(publisher.publish_all(many).await.unwrap().len(), 25);
    local.ended("u", &webhook, 26).await;
    local.drained().await;
    assert_eq!(receiver.received().len(), 26);
}
