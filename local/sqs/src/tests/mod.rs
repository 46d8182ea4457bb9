//! The rules of SQS: requests in the wire format, without a socket.

mod http;
mod journal;
mod limits;
mod messages;
mod polling;
mod queues;
mod redrive;
mod visibility;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::wire::dispatch;
use crate::{Code, ManualClock, Sqs, SqsError};

const BASE: &str = "http://sqs.test:9324/000000000000";
/// 2023-11-14, so that times look like times.
const START_MS: u64 = 1_700_000_000_000;

/// An engine with a manual clock, and the requests that clients make.
struct Client {
    sqs: Arc<Sqs>,
    clock: Arc<ManualClock>,
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_MS))
}

impl Client {
    fn new() -> Self {
        let clock = clock();
        Self { sqs: Arc::new(Sqs::new(clock.clone(), "us-east-1")), clock }
    }

    /// With a queue `q` that has these attributes.
    fn with_queue(attributes: &[(&str, &str)]) -> Self {
        let client = Self::new();
        client.sqs.ensure_queue("q", attributes).unwrap();
        client
    }

    /// With a queue `q` that dead-letters to `dlq` after this many receives.
    fn with_dlq(max_receive_count: u32) -> Self {
        let client = Self::new();
        let policy =
            json!({"deadLetterTargetArn": arn("dlq"), "maxReceiveCount": max_receive_count});
        client.sqs.ensure_queue("dlq", &[]).unwrap();
        client.sqs.ensure_queue("q", &[("RedrivePolicy", &policy.to_string())]).unwrap();
        client
    }

    async fn call(&self, operation: &str, request: Value) -> Result<Value, SqsError> {
        let target = format!("AmazonSQS.{operation}");
        let response = dispatch(&self.sqs, &target, BASE, request.to_string().as_bytes()).await;
        let state = self.sqs.lock();
        // The check of a queue that a test has filled to its limit would take seconds.
        let small = state.queues.values().filter(|queue| queue.depth().total() < 1_000);
        small.for_each(crate::queue::Queue::check);
        response
    }

    async fn ok(&self, operation: &str, request: Value) -> Value {
        self.call(operation, request).await.unwrap()
    }

    /// Calls an operation of the queue `q` that succeeds.
    async fn on_q(&self, operation: &str, mut request: Value) -> Value {
        request["QueueUrl"] = json!("q");
        self.ok(operation, request).await
    }

    async fn error(&self, operation: &str, request: Value) -> Code {
        self.call(operation, request).await.unwrap_err().code
    }

    /// Checks that each request is refused with its code.
    async fn refuses<const N: usize>(&self, operation: &str, cases: [(Value, Code); N]) {
        for (request, code) in cases {
            assert_eq!(self.error(operation, request.clone()).await, code, "{request}");
        }
    }

    async fn send(&self, queue: &str, body: &str) -> Value {
        self.ok("SendMessage", json!({"QueueUrl": url(queue), "MessageBody": body})).await
    }

    /// Up to ten messages with all attributes.
    async fn receive(&self, queue: &str) -> Vec<Value> {
        self.receive_hiding(queue, None).await
    }

    async fn receive_hiding(&self, queue: &str, visibility: Option<u32>) -> Vec<Value> {
        let request = json!({
            "QueueUrl": url(queue),
            "MaxNumberOfMessages": 10,
            "VisibilityTimeout": visibility,
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        let response = self.ok("ReceiveMessage", request).await;
        response.get("Messages").and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// Receives from `q` and returns the receipt handle of the first message.
    async fn handle(&self) -> Value {
        self.receive("q").await[0]["ReceiptHandle"].clone()
    }

    async fn delete(&self, handle: &Value) {
        self.on_q("DeleteMessage", json!({"ReceiptHandle": handle})).await;
    }

    async fn change_visibility(&self, handle: &Value, seconds: u32) {
        let request = json!({"ReceiptHandle": handle, "VisibilityTimeout": seconds});
        self.on_q("ChangeMessageVisibility", request).await;
    }

    async fn attribute(&self, queue: &str, name: &str) -> String {
        let request = json!({"QueueUrl": url(queue), "AttributeNames": ["All"]});
        let response = self.ok("GetQueueAttributes", request).await;
        text(&response["Attributes"], name).to_owned()
    }

    /// Visible, in flight, delayed.
    fn depth(&self, queue: &str) -> (usize, usize, usize) {
        let depth = self.sqs.depth(queue).unwrap().unwrap();
        (depth.visible, depth.in_flight, depth.delayed)
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn url(queue: &str) -> String {
    format!("{BASE}/{queue}")
}

fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{queue}")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn bodies(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| text(message, "Body")).collect()
}
