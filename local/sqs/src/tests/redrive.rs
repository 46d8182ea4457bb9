use serde_json::{Value, json};

use super::{Desk, arn, bodies, text, url};
use crate::Code;

/// A queue `q` that gives up after so many receives, and its dead-letter queue `dlq`.
fn desk(max_receive_count: u32) -> Desk {
    let desk = Desk::new();
    let policy = json!({"deadLetterTargetArn": arn("dlq"), "maxReceiveCount": max_receive_count})
        .to_string();
    desk.sqs.ensure_queue("dlq", &[]).unwrap();
    desk.sqs.ensure_queue("q", &[("RedrivePolicy", &policy)]).unwrap();
    desk
}

/// A desk with so many messages in the dead-letter queue.
async fn desk_with_dead_letters(count: usize) -> Desk {
    let desk = desk(1);
    for n in 0..count {
        desk.send("q", &n.to_string()).await;
    }
    while !desk.receive_hiding("q", Some(0)).await.is_empty() {}
    assert_eq!(desk.depth("dlq"), (count, 0, 0));
    desk
}

async fn tasks(desk: &Desk) -> Vec<Value> {
    let request = json!({"SourceArn": arn("dlq"), "MaxResults": 10});
    desk.ok("ListMessageMoveTasks", request).await["Results"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_message_is_given_up_after_its_last_receive() {
    let desk = desk(2);
    let sent = desk.send("q", "x").await;
    desk.receive_hiding("q", Some(10)).await;
    desk.seconds_pass(10);
    assert_eq!(desk.depth("q"), (1, 0, 0), "a receive counts once, not again when it times out");
    desk.receive_hiding("q", Some(10)).await;
    desk.seconds_pass(9);
    assert_eq!((desk.depth("q"), desk.depth("dlq")), ((0, 1, 0), (0, 0, 0)));
    desk.seconds_pass(1);
    assert_eq!((desk.depth("q"), desk.depth("dlq")), ((0, 0, 0), (1, 0, 0)));
    let dead = desk.receive("dlq").await.remove(0);
    assert_eq!(dead["MessageId"], sent["MessageId"]);
    let attributes = &dead["Attributes"];
    assert_eq!(text(attributes, "DeadLetterQueueSourceArn"), arn("q"));
    assert_eq!(text(attributes, "ApproximateReceiveCount"), "3", "two there and one here");
    assert_eq!(text(attributes, "SentTimestamp"), "1700000000000", "retention goes on");
    assert_eq!(text(attributes, "ApproximateFirstReceiveTimestamp"), "1700000000000");
}

#[tokio::test]
async fn a_message_that_is_deleted_in_its_last_receive_is_not_given_up() {
    let desk = desk(1);
    desk.send("q", "x").await;
    let handle = desk.receive("q").await[0]["ReceiptHandle"].clone();
    desk.ok("DeleteMessage", json!({"QueueUrl": "q", "ReceiptHandle": handle})).await;
    desk.seconds_pass(30);
    assert_eq!((desk.depth("q"), desk.depth("dlq")), ((0, 0, 0), (0, 0, 0)));
}

#[tokio::test]
async fn letting_go_of_a_message_in_its_last_receive_gives_it_up() {
    let desk = desk(1);
    desk.send("q", "x").await;
    let handle = desk.receive("q").await[0]["ReceiptHandle"].clone();
    let now = json!({"QueueUrl": "q", "ReceiptHandle": handle, "VisibilityTimeout": 0});
    desk.ok("ChangeMessageVisibility", now).await;
    assert_eq!((desk.depth("q"), desk.depth("dlq")), ((0, 0, 0), (1, 0, 0)));
    // The handle's message is elsewhere now: nothing to delete, nothing to say.
    desk.ok("DeleteMessage", json!({"QueueUrl": "q", "ReceiptHandle": handle})).await;
    assert_eq!(desk.depth("dlq"), (1, 0, 0));
}

#[tokio::test]
async fn a_policy_that_comes_later_counts_at_the_next_receive() {
    let desk = desk(1_000);
    desk.send("q", "old").await;
    for _ in 0..3 {
        desk.receive_hiding("q", Some(0)).await;
    }
    desk.send("q", "new").await;
    let policy = json!({"deadLetterTargetArn": arn("dlq"), "maxReceiveCount": 3}).to_string();
    desk.sqs.ensure_queue("q", &[("RedrivePolicy", &policy)]).unwrap();
    assert_eq!(bodies(&desk.receive("q").await), ["new"]);
    assert_eq!(bodies(&desk.receive("dlq").await), ["old"]);
}

#[tokio::test]
async fn without_its_dead_letter_queue_a_message_stays() {
    let desk = desk(1);
    desk.send("q", "x").await;
    desk.receive_hiding("q", Some(0)).await;
    desk.ok("DeleteQueue", json!({"QueueUrl": url("dlq")})).await;
    // It had been moved already when the queue was deleted; the next one has nowhere to go.
    desk.send("q", "y").await;
    desk.receive_hiding("q", Some(0)).await;
    assert_eq!(bodies(&desk.receive_hiding("q", Some(0)).await), ["y"]);
}

#[tokio::test]
async fn a_move_task_takes_messages_back_as_new_ones() {
    let desk = desk_with_dead_letters(3).await;
    let dead = desk.receive_hiding("dlq", Some(0)).await;
    desk.seconds_pass(5);
    desk.ok("StartMessageMoveTask", json!({"SourceArn": arn("dlq")})).await;
    assert_eq!((desk.depth("q"), desk.depth("dlq")), ((3, 0, 0), (0, 0, 0)));
    assert_eq!(
        tasks(&desk).await,
        [json!({
            "Status": "COMPLETED",
            "SourceArn": arn("dlq"),
            "ApproximateNumberOfMessagesMoved": 3,
            "ApproximateNumberOfMessagesToMove": 3,
            "StartedTimestamp": 1_700_000_005_000_u64,
        })]
    );
    let back = desk.receive("q").await;
    assert_eq!(bodies(&back), bodies(&dead));
    assert_ne!(back[0]["MessageId"], dead[0]["MessageId"]);
    let attributes = &back[0]["Attributes"];
    assert_eq!(text(attributes, "ApproximateReceiveCount"), "1");
    assert_eq!(text(attributes, "SentTimestamp"), "1700000005000");
    assert!(attributes.get("DeadLetterQueueSourceArn").is_none());
}

#[tokio::test]
async fn a_move_task_keeps_to_its_velocity_and_can_be_cancelled() {
    let desk = desk_with_dead_letters(5).await;
    desk.sqs.ensure_queue("else", &[]).unwrap();
    let start = json!({
        "SourceArn": arn("dlq"),
        "DestinationArn": arn("else"),
        "MaxNumberOfMessagesPerSecond": 2,
    });
    let started = desk.ok("StartMessageMoveTask", start.clone()).await;
    assert_eq!(desk.depth("else"), (2, 0, 0));
    let code = desk.refused("StartMessageMoveTask", start.clone()).await;
    assert_eq!(code, Code::InvalidParameterValue, "one task at a time");
    desk.seconds_pass(1);
    assert_eq!(desk.depth("else"), (4, 0, 0));
    let running = &tasks(&desk).await[0];
    assert_eq!(text(running, "Status"), "RUNNING");
    assert_eq!(running["TaskHandle"], started["TaskHandle"]);
    assert_eq!(running["MaxNumberOfMessagesPerSecond"], 2);
    let cancelled = desk.ok("CancelMessageMoveTask", started.clone()).await;
    assert_eq!(cancelled, json!({"ApproximateNumberOfMessagesMoved": 4}));
    desk.seconds_pass(1);
    assert_eq!((desk.depth("else"), desk.depth("dlq")), ((4, 0, 0), (1, 0, 0)));
    assert_eq!(text(&tasks(&desk).await[0], "Status"), "CANCELLED");
    assert_eq!(desk.refused("CancelMessageMoveTask", started).await, Code::ResourceNotFound);
    desk.ok("StartMessageMoveTask", start).await;
    assert_eq!(desk.depth("dlq"), (0, 0, 0));
    assert_eq!(tasks(&desk).await.len(), 2);
}

#[tokio::test]
async fn a_move_task_fails_where_it_does_not_know_the_way() {
    let desk = desk_with_dead_letters(1).await;
    desk.send("dlq", "sent here directly").await;
    desk.ok("StartMessageMoveTask", json!({"SourceArn": arn("dlq")})).await;
    let task = &tasks(&desk).await[0];
    assert_eq!(text(task, "Status"), "FAILED");
    assert_eq!(text(task, "FailureReason"), "CouldNotDetermineMessageSource");
    assert_eq!(task["ApproximateNumberOfMessagesMoved"], 1);
}

#[tokio::test]
async fn a_move_task_needs_a_dead_letter_queue_and_a_destination() {
    let desk = desk_with_dead_letters(1).await;
    let cases = [
        (json!({}), Code::MissingParameter),
        (json!({"SourceArn": arn("nowhere")}), Code::ResourceNotFound),
        (json!({"SourceArn": arn("q")}), Code::InvalidParameterValue),
        (
            json!({"SourceArn": arn("dlq"), "DestinationArn": arn("nowhere")}),
            Code::ResourceNotFound,
        ),
        (
            json!({"SourceArn": arn("dlq"), "DestinationArn": arn("dlq")}),
            Code::InvalidParameterValue,
        ),
        (
            json!({"SourceArn": arn("dlq"), "MaxNumberOfMessagesPerSecond": 501}),
            Code::InvalidParameterValue,
        ),
    ];
    for (request, code) in cases {
        assert_eq!(desk.refused("StartMessageMoveTask", request.clone()).await, code, "{request}");
    }
    assert!(tasks(&desk).await.is_empty());
    let nowhere = json!({"SourceArn": arn("nowhere")});
    assert_eq!(desk.refused("ListMessageMoveTasks", nowhere).await, Code::ResourceNotFound);
    let unknown = json!({"TaskHandle": "x"});
    assert_eq!(desk.refused("CancelMessageMoveTask", unknown).await, Code::ResourceNotFound);
}
