//! The rules of SQS, one test each, spoken over the wire format without the wire.

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

/// An engine, a clock to turn, and a way to say what clients say.
struct Desk {
    sqs: Arc<Sqs>,
    clock: Arc<ManualClock>,
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_MS))
}

impl Desk {
    fn new() -> Self {
        let clock = clock();
        Self { sqs: Arc::new(Sqs::new(clock.clone(), "us-east-1")), clock }
    }

    /// With a queue `q` that has these attributes.
    fn with_queue(attributes: &[(&str, &str)]) -> Self {
        let desk = Self::new();
        desk.sqs.ensure_queue("q", attributes).unwrap();
        desk
    }

    async fn call(&self, operation: &str, request: Value) -> Result<Value, SqsError> {
        let target = format!("AmazonSQS.{operation}");
        let answer = dispatch(&self.sqs, &target, BASE, request.to_string().as_bytes()).await;
        let state = self.sqs.lock();
        // Not where a test has filled a queue to its limit: looking at all of it takes seconds.
        let small = state.queues.values().filter(|queue| queue.depth().total() < 1_000);
        small.for_each(crate::queue::Queue::check);
        answer
    }

    async fn ok(&self, operation: &str, request: Value) -> Value {
        self.call(operation, request).await.unwrap()
    }

    async fn refused(&self, operation: &str, request: Value) -> Code {
        self.call(operation, request).await.unwrap_err().code
    }

    async fn send(&self, queue: &str, body: &str) -> Value {
        self.ok("SendMessage", json!({"QueueUrl": url(queue), "MessageBody": body})).await
    }

    /// Up to ten messages, with all that is known of them.
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
        let answer = self.ok("ReceiveMessage", request).await;
        answer.get("Messages").and_then(Value::as_array).cloned().unwrap_or_default()
    }

    async fn attribute(&self, queue: &str, name: &str) -> String {
        let request = json!({"QueueUrl": url(queue), "AttributeNames": ["All"]});
        let answer = self.ok("GetQueueAttributes", request).await;
        answer["Attributes"][name].as_str().unwrap().to_owned()
    }

    /// Visible, in flight, delayed.
    fn depth(&self, queue: &str) -> (usize, usize, usize) {
        let depth = self.sqs.depth(queue).unwrap().unwrap();
        (depth.visible, depth.in_flight, depth.delayed)
    }

    fn seconds_pass(&self, seconds: u64) {
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
