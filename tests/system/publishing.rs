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

#[tokio::test]
async fn strict_system_sends_data_that_violates_its_schema_to_the_dead_letter_queue() {
    let local = Local::start_with(&["--strict-event-data"]).await;
    let event = |data| json!({"event_type": "task.created", "user_id": "u", "data": data});
    let body = json!({"url": format!("{}/", local.receiver), "event_types": ["task.created"]});
    let (webhook, _) = local.subscribe("u", body).await;
    local.publish(&event(json!({"task_id": 7}))).await;
    local.publish(&event(json!({"task_id": "task-7"}))).await;
    let request = json!({
        "QueueUrl": local.queue("webhook-events-dlq"),
        "MessageAttributeNames": ["All"],
        "WaitTimeSeconds": 10,
    });
    let received = local.sqs("ReceiveMessage", &request).await;
    let attributes = &received["Messages"][0]["MessageAttributes"];
    assert_eq!(attributes["reason"]["StringValue"], "schema_violation");
    assert!(text(&attributes["detail"]["StringValue"]).contains("`/task_id`"), "{attributes}");
    let deliveries = local.ended("u", &webhook, 1).await;
    assert_eq!((deliveries.len(), &deliveries[0]["status"]), (1, &"success".into()));
}
