use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{BASE, Desk, arn};
use crate::wire::dispatch;
use crate::{Code, Sqs, SqsError};

type Answer = Result<Value, SqsError>;

/// Turns a hang into a failure; nothing here takes any time when it works.
const HANGS_AFTER: Duration = Duration::from_secs(10);

/// Begins a long poll of 20 seconds and returns once it waits.
async fn poll(sqs: &Arc<Sqs>, queue: &'static str) -> JoinHandle<Answer> {
    let waiting = sqs.waiting(queue);
    let engine = Arc::clone(sqs);
    let poll = tokio::spawn(async move {
        let request = json!({"QueueUrl": queue, "WaitTimeSeconds": 20}).to_string();
        dispatch(&engine, "AmazonSQS.ReceiveMessage", BASE, request.as_bytes()).await
    });
    until_waiting(sqs, queue, waiting + 1).await;
    poll
}

/// Lets other tasks run until so many long polls wait.
async fn until_waiting(sqs: &Sqs, queue: &str, count: usize) {
    let waiting = async {
        while sqs.waiting(queue) != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANGS_AFTER, waiting).await.expect("the long polls begin or end");
}

/// What a long poll answers now that there is something to answer.
async fn answer(poll: JoinHandle<Answer>) -> Answer {
    tokio::time::timeout(HANGS_AFTER, poll).await.expect("the long poll wakes").unwrap()
}

async fn body(poll: JoinHandle<Answer>) -> String {
    let answer = answer(poll).await.unwrap();
    answer["Messages"][0]["Body"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_send_wakes_a_long_poll() {
    let desk = Desk::with_queue(&[]);
    let poll = poll(&desk.sqs, "q").await;
    desk.send("q", "x").await;
    assert_eq!(body(poll).await, "x");
    assert_eq!(desk.depth("q"), (0, 1, 0));
}

#[tokio::test]
async fn the_end_of_a_delay_wakes_a_long_poll() {
    let desk = Desk::with_queue(&[("DelaySeconds", "5")]);
    let poll = poll(&desk.sqs, "q").await;
    desk.send("q", "x").await;
    desk.seconds_pass(5);
    assert_eq!(body(poll).await, "x");
}

#[tokio::test]
async fn the_end_of_a_visibility_timeout_wakes_a_long_poll() {
    let desk = Desk::with_queue(&[("VisibilityTimeout", "5")]);
    desk.send("q", "x").await;
    desk.receive("q").await;
    let poll = poll(&desk.sqs, "q").await;
    desk.seconds_pass(5);
    assert_eq!(body(poll).await, "x");
}

#[tokio::test]
async fn letting_go_of_a_message_wakes_a_long_poll() {
    let desk = Desk::with_queue(&[]);
    desk.send("q", "x").await;
    let handle = desk.receive("q").await[0]["ReceiptHandle"].clone();
    let poll = poll(&desk.sqs, "q").await;
    let now = json!({"QueueUrl": "q", "ReceiptHandle": handle, "VisibilityTimeout": 0});
    desk.ok("ChangeMessageVisibility", now).await;
    assert_eq!(body(poll).await, "x");
}

#[tokio::test]
async fn a_message_that_is_given_up_wakes_the_dead_letter_queue() {
    let desk = Desk::new();
    let policy = json!({"deadLetterTargetArn": arn("dlq"), "maxReceiveCount": 1}).to_string();
    desk.sqs.ensure_queue("dlq", &[]).unwrap();
    desk.sqs.ensure_queue("q", &[("RedrivePolicy", &policy)]).unwrap();
    let poll = poll(&desk.sqs, "dlq").await;
    desk.send("q", "x").await;
    desk.receive_hiding("q", Some(5)).await;
    desk.seconds_pass(5);
    assert_eq!(body(poll).await, "x");
}

#[tokio::test]
async fn a_long_poll_ends_empty_when_its_time_is_over() {
    let desk = Desk::with_queue(&[]);
    let poll = poll(&desk.sqs, "q").await;
    desk.clock.advance(Duration::from_millis(19_999));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!poll.is_finished());
    desk.clock.advance(Duration::from_millis(1));
    assert_eq!(answer(poll).await.unwrap(), json!({}));
    assert_eq!(desk.sqs.waiting("q"), 0);
}

#[tokio::test]
async fn the_queue_says_how_long_to_poll_where_the_receive_does_not() {
    let desk = Desk::with_queue(&[("ReceiveMessageWaitTimeSeconds", "3")]);
    let engine = Arc::clone(&desk.sqs);
    let poll = tokio::spawn(async move {
        dispatch(&engine, "AmazonSQS.ReceiveMessage", BASE, br#"{"QueueUrl": "q"}"#).await
    });
    until_waiting(&desk.sqs, "q", 1).await;
    desk.seconds_pass(3);
    assert_eq!(answer(poll).await.unwrap(), json!({}));
    // Zero seconds of its own mean none.
    let short = json!({"QueueUrl": "q", "WaitTimeSeconds": 0});
    assert_eq!(desk.ok("ReceiveMessage", short).await, json!({}));
}

#[tokio::test]
async fn one_message_goes_to_one_of_several_long_polls() {
    let desk = Desk::with_queue(&[]);
    let first = poll(&desk.sqs, "q").await;
    let second = poll(&desk.sqs, "q").await;
    desk.send("q", "1").await;
    until_waiting(&desk.sqs, "q", 1).await;
    desk.send("q", "2").await;
    let mut bodies = [body(first).await, body(second).await];
    bodies.sort();
    assert_eq!(bodies, ["1", "2"]);
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_nothing_along() {
    let desk = Desk::with_queue(&[]);
    let poll = poll(&desk.sqs, "q").await;
    poll.abort();
    assert!(poll.await.unwrap_err().is_cancelled());
    assert_eq!(desk.sqs.waiting("q"), 0);
    desk.send("q", "x").await;
    let message = desk.receive("q").await.remove(0);
    assert_eq!(message["Attributes"]["ApproximateReceiveCount"], "1");
}

#[tokio::test]
async fn a_deleted_queue_ends_its_long_polls() {
    let desk = Desk::with_queue(&[]);
    let poll = poll(&desk.sqs, "q").await;
    desk.ok("DeleteQueue", json!({"QueueUrl": "q"})).await;
    assert_eq!(answer(poll).await.unwrap_err().code, Code::QueueDoesNotExist);
}
