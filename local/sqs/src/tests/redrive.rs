use serde_json::{Value, json};

use super::{Client, arn, bodies, text, url};
use crate::Code;

/// With this many messages in the dead-letter queue.
async fn with_dead_letters(count: usize) -> Client {
    let client = Client::with_dlq(1);
    for n in 0..count {
        client.send("q", &n.to_string()).await;
    }
    while !client.receive_hiding("q", Some(0)).await.is_empty() {}
    assert_eq!(client.depth("dlq"), (count, 0, 0));
    client
}

async fn tasks(client: &Client) -> Vec<Value> {
    let request = json!({"SourceArn": arn("dlq"), "MaxResults": 10});
    client.ok("ListMessageMoveTasks", request).await["Results"].as_array().unwrap().clone()
}

#[tokio::test]
async fn message_is_dead_lettered_after_its_last_receive() {
    let client = Client::with_dlq(2);
    let sent = client.send("q", "x").await;
    client.receive_hiding("q", Some(10)).await;
    client.advance(10);
    assert_eq!(client.depth("q"), (1, 0, 0), "a receive counts once, not again at its timeout");
    client.receive_hiding("q", Some(10)).await;
    client.advance(9);
    assert_eq!((client.depth("q"), client.depth("dlq")), ((0, 1, 0), (0, 0, 0)));
    client.advance(1);
    assert_eq!((client.depth("q"), client.depth("dlq")), ((0, 0, 0), (1, 0, 0)));
    let dead = client.receive("dlq").await.remove(0);
    assert_eq!(dead["MessageId"], sent["MessageId"]);
    let attributes = &dead["Attributes"];
    assert_eq!(text(attributes, "DeadLetterQueueSourceArn"), arn("q"));
    assert_eq!(text(attributes, "ApproximateReceiveCount"), "3", "two there and one here");
    assert_eq!(text(attributes, "SentTimestamp"), "1700000000000", "retention goes on");
    assert_eq!(text(attributes, "ApproximateFirstReceiveTimestamp"), "1700000000000");
}

#[tokio::test]
async fn last_receive_ends_with_a_delete_or_the_dead_letter_queue() {
    let client = Client::with_dlq(1);
    client.send("q", "deleted").await;
    let handle = client.handle().await;
    client.delete(&handle).await;
    client.advance(30);
    assert_eq!((client.depth("q"), client.depth("dlq")), ((0, 0, 0), (0, 0, 0)));
    client.send("q", "released").await;
    let handle = client.handle().await;
    client.change_visibility(&handle, 0).await;
    assert_eq!((client.depth("q"), client.depth("dlq")), ((0, 0, 0), (1, 0, 0)));
    // The message has left the queue of the handle, so this deletes nothing.
    client.delete(&handle).await;
    assert_eq!(client.depth("dlq"), (1, 0, 0));
    // A message whose dead-letter queue is gone stays.
    client.ok("DeleteQueue", json!({"QueueUrl": url("dlq")})).await;
    client.send("q", "stays").await;
    client.receive_hiding("q", Some(0)).await;
    assert_eq!(bodies(&client.receive_hiding("q", Some(0)).await), ["stays"]);
}

#[tokio::test]
async fn later_policy_counts_at_the_next_receive() {
    let client = Client::with_dlq(1_000);
    client.send("q", "old").await;
    for _ in 0..3 {
        client.receive_hiding("q", Some(0)).await;
    }
    client.send("q", "new").await;
    let policy = json!({"deadLetterTargetArn": arn("dlq"), "maxReceiveCount": 3}).to_string();
    client.sqs.ensure_queue("q", &[("RedrivePolicy", &policy)]).unwrap();
    assert_eq!(bodies(&client.receive("q").await), ["new"]);
    assert_eq!(bodies(&client.receive("dlq").await), ["old"]);
}

#[tokio::test]
async fn move_task_returns_messages_as_new_ones() {
    let client = with_dead_letters(3).await;
    let dead = client.receive_hiding("dlq", Some(0)).await;
    client.advance(5);
    client.ok("StartMessageMoveTask", json!({"SourceArn": arn("dlq")})).await;
    assert_eq!((client.depth("q"), client.depth("dlq")), ((3, 0, 0), (0, 0, 0)));
    let expected = json!({
        "Status": "COMPLETED",
        "SourceArn": arn("dlq"),
        "ApproximateNumberOfMessagesMoved": 3,
        "ApproximateNumberOfMessagesToMove": 3,
        "StartedTimestamp": 1_700_000_005_000_u64,
    });
    assert_eq!(tasks(&client).await, [expected]);
    let back = client.receive("q").await;
    assert_eq!(bodies(&back), bodies(&dead));
    assert_ne!(back[0]["MessageId"], dead[0]["MessageId"]);
    let attributes = &back[0]["Attributes"];
    assert_eq!(text(attributes, "ApproximateReceiveCount"), "1");
    assert_eq!(text(attributes, "SentTimestamp"), "1700000005000");
    assert!(attributes.get("DeadLetterQueueSourceArn").is_none());
}

#[tokio::test]
async fn move_task_respects_its_rate_and_can_be_cancelled() {
    let client = with_dead_letters(5).await;
    client.sqs.ensure_queue("else", &[]).unwrap();
    let start = json!({
        "SourceArn": arn("dlq"),
        "DestinationArn": arn("else"),
        "MaxNumberOfMessagesPerSecond": 2,
    });
    let started = client.ok("StartMessageMoveTask", start.clone()).await;
    assert_eq!(client.depth("else"), (2, 0, 0));
    let code = client.error("StartMessageMoveTask", start.clone()).await;
    assert_eq!(code, Code::InvalidParameterValue, "one task at a time");
    client.advance(1);
    assert_eq!(client.depth("else"), (4, 0, 0));
    let running = &tasks(&client).await[0];
    assert_eq!(text(running, "Status"), "RUNNING");
    assert_eq!(running["TaskHandle"], started["TaskHandle"]);
    assert_eq!(running["MaxNumberOfMessagesPerSecond"], 2);
    let cancelled = client.ok("CancelMessageMoveTask", started.clone()).await;
    assert_eq!(cancelled, json!({"ApproximateNumberOfMessagesMoved": 4}));
    client.advance(1);
    assert_eq!((client.depth("else"), client.depth("dlq")), ((4, 0, 0), (1, 0, 0)));
    assert_eq!(text(&tasks(&client).await[0], "Status"), "CANCELLED");
    assert_eq!(client.error("CancelMessageMoveTask", started).await, Code::ResourceNotFound);
    client.ok("StartMessageMoveTask", start).await;
    assert_eq!(client.depth("dlq"), (0, 0, 0));
    assert_eq!(tasks(&client).await.len(), 2);
}

#[tokio::test]
async fn move_task_fails_without_a_known_source() {
    let client = with_dead_letters(1).await;
    client.send("dlq", "sent here directly").await;
    client.ok("StartMessageMoveTask", json!({"SourceArn": arn("dlq")})).await;
    let task = &tasks(&client).await[0];
    assert_eq!(text(task, "Status"), "FAILED");
    assert_eq!(text(task, "FailureReason"), "CouldNotDetermineMessageSource");
    assert_eq!(task["ApproximateNumberOfMessagesMoved"], 1);
}

#[tokio::test]
async fn move_task_needs_a_dead_letter_queue_and_a_destination() {
    let client = with_dead_letters(1).await;
    let start =
        |source: &str, name: &str, value: Value| json!({"SourceArn": arn(source), name: value});
    let nowhere = start("nowhere", "MaxResults", json!(1));
    let cases = [
        (json!({}), Code::MissingParameter),
        (nowhere.clone(), Code::ResourceNotFound),
        (start("q", "x", json!(0)), Code::InvalidParameterValue),
        (start("dlq", "DestinationArn", json!(arn("nowhere"))), Code::ResourceNotFound),
        (start("dlq", "DestinationArn", json!(arn("dlq"))), Code::InvalidParameterValue),
        (start("dlq", "MaxNumberOfMessagesPerSecond", json!(501)), Code::InvalidParameterValue),
    ];
    client.refuses("StartMessageMoveTask", cases).await;
    assert!(tasks(&client).await.is_empty());
    client.refuses("ListMessageMoveTasks", [(nowhere, Code::ResourceNotFound)]).await;
    let unknown = [(json!({"TaskHandle": "x"}), Code::ResourceNotFound)];
    client.refuses("CancelMessageMoveTask", unknown).await;
}
