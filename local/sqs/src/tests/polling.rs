use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{BASE, Client};
use crate::wire::dispatch;
use crate::{Code, Sqs, SqsError};

type Response = Result<Value, SqsError>;

/// Turns a hang into a failure.
const HANGS_AFTER: Duration = Duration::from_secs(10);

/// Starts a long poll and returns once it waits.
async fn start(sqs: &Arc<Sqs>, request: Value) -> JoinHandle<Response> {
    let queue = request["QueueUrl"].as_str().unwrap().to_owned();
    let waiting = sqs.waiting(&queue);
    let engine = Arc::clone(sqs);
    let poll = tokio::spawn(async move {
        dispatch(&engine, "AmazonSQS.ReceiveMessage", BASE, request.to_string().as_bytes()).await
    });
    until_waiting(sqs, &queue, waiting + 1).await;
    poll
}

async fn poll(client: &Client, queue: &str) -> JoinHandle<Response> {
    start(&client.sqs, json!({"QueueUrl": queue, "WaitTimeSeconds": 20})).await
}

/// Lets other tasks run until this many long polls wait.
async fn until_waiting(sqs: &Sqs, queue: &str, count: usize) {
    let waiting = async {
        while sqs.waiting(queue) != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANGS_AFTER, waiting).await.expect("the long polls begin or end");
}

async fn response(poll: JoinHandle<Response>) -> Response {
    tokio::time::timeout(HANGS_AFTER, poll).await.expect("the long poll wakes").unwrap()
}

async fn body(poll: JoinHandle<Response>) -> String {
    response(poll).await.unwrap()["Messages"][0]["Body"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn long_poll_wakes_when_a_message_becomes_visible() {
    let client = Client::with_dlq(4);
    // By a send.
    let waiting = poll(&client, "q").await;
    client.send("q", "x").await;
    assert_eq!(body(waiting).await, "x");
    // By the end of a visibility timeout.
    let waiting = poll(&client, "q").await;
    client.advance(30);
    assert_eq!(body(waiting).await, "x");
    client.advance(30);
    // By a change of the visibility.
    let handle = client.handle().await;
    let waiting = poll(&client, "q").await;
    client.change_visibility(&handle, 0).await;
    assert_eq!(body(waiting).await, "x");
    // By a move to the dead-letter queue.
    let waiting = poll(&client, "dlq").await;
    client.advance(30);
    assert_eq!(body(waiting).await, "x");
    // By the end of a delay.
    client.on_q("SendMessage", json!({"MessageBody": "late", "DelaySeconds": 5})).await;
    let waiting = poll(&client, "q").await;
    client.advance(5);
    assert_eq!(body(waiting).await, "late");
}

#[tokio::test]
async fn long_poll_without_messages_ends_empty() {
    let client = Client::with_queue(&[("ReceiveMessageWaitTimeSeconds", "3")]);
    let waiting = poll(&client, "q").await;
    client.clock.advance(Duration::from_millis(19_999));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    client.clock.advance(Duration::from_millis(1));
    assert_eq!(response(waiting).await.unwrap(), json!({}));
    assert_eq!(client.sqs.waiting("q"), 0);
    // The queue's own wait time counts unless the request names one.
    let waiting = start(&client.sqs, json!({"QueueUrl": "q"})).await;
    client.advance(3);
    assert_eq!(response(waiting).await.unwrap(), json!({}));
    assert_eq!(client.on_q("ReceiveMessage", json!({"WaitTimeSeconds": 0})).await, json!({}));
}

#[tokio::test]
async fn one_message_goes_to_one_of_several_long_polls() {
    let client = Client::with_queue(&[]);
    let polls = [poll(&client, "q").await, poll(&client, "q").await];
    client.send("q", "1").await;
    until_waiting(&client.sqs, "q", 1).await;
    client.send("q", "2").await;
    let [first, second] = polls;
    let mut bodies = [body(first).await, body(second).await];
    bodies.sort();
    assert_eq!(bodies, ["1", "2"]);
}

#[tokio::test]
async fn deleting_a_queue_ends_its_long_polls() {
    let client = Client::with_queue(&[]);
    let waiting = poll(&client, "q").await;
    client.on_q("DeleteQueue", json!({})).await;
    assert_eq!(response(waiting).await.unwrap_err().code, Code::QueueDoesNotExist);
}
