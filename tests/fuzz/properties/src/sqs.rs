//! Requests of the local SQS.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use futures::FutureExt as _;
use local_sqs::{ManualClock, Sqs};
use serde_json::{Value, json};
use tower_service::Service as _;

use crate::{run, text};

/// 2023-11-14, so that times look like times.
const START_MS: u64 = 1_700_000_000_000;
/// Requests of one input; more find nothing that these do not.
const REQUESTS: usize = 16;

/// A request a line: the name of the operation, a space and its body; or `tick` and the seconds that
/// pass. `{url}` is the queue's URL, `{handle}` the receipt handle that was last received.
pub fn sqs(input: &[u8]) {
    let Some(lines) = text(input) else { return };
    let clock = Arc::new(ManualClock::new(START_MS));
    let sqs = Arc::new(Sqs::new(clock.clone(), "us-east-1"));
    let redrive = json!({"deadLetterTargetArn": sqs.queue_arn("q-dlq"), "maxReceiveCount": 2});
    sqs.ensure_queue("q-dlq", &[]).unwrap();
    sqs.ensure_queue("q", &[("RedrivePolicy", &redrive.to_string())]).unwrap();
    let mut client = Client { sqs: sqs.clone(), sent: 0, handle: String::new() };
    for line in lines.split('\n').take(REQUESTS) {
        let (operation, body) = line.split_once(' ').unwrap_or((line, ""));
        if operation == "tick" {
            clock.advance(Duration::from_secs(body.parse().unwrap_or(1)));
        } else {
            client.request(operation, body);
        }
        let held = ["q", "q-dlq"].map(|queue| sqs.depth(queue).unwrap());
        let held: usize = held.into_iter().flatten().map(local_sqs::Depth::total).sum();
        assert!(held <= client.sent, "{held} messages of {}", client.sent);
    }
}

struct Client {
    sqs: Arc<Sqs>,
    sent: usize,
    handle: String,
}

impl Client {
    fn request(&mut self, operation: &str, body: &str) {
        let body = body
            .replace("{url}", "http://sqs.test/000000000000/q")
            .replace("{handle}", &self.handle);
        let Ok(request) = Request::post("/")
            .header("host", "sqs.test")
            .header("x-amz-target", format!("AmazonSQS.{operation}"))
            .body(Body::from(body))
        else {
            return;
        };
        // A call without an immediate response is a long poll; the client disconnects.
        let Some(response) = local_sqs::router(self.sqs.clone()).call(request).now_or_never()
        else {
            assert_eq!(operation, "ReceiveMessage", "it hangs");
            return;
        };
        let response = response.unwrap();
        let status = response.status().as_u16();
        let body = run(to_bytes(response.into_body(), usize::MAX)).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        match status {
            200 => self.remember(operation, &body),
            400..=499 => assert!(body["__type"].is_string(), "{body}"),
            _ => panic!("{status}: {body}"),
        }
    }

    fn remember(&mut self, operation: &str, response: &Value) {
        match operation {
            "SendMessage" => self.sent += 1,
            "SendMessageBatch" => {
                self.sent += response["Successful"].as_array().map_or(0, Vec::len)
            }
            "ReceiveMessage" => {
                if let Some(handle) = response["Messages"][0]["ReceiptHandle"].as_str() {
                    handle.clone_into(&mut self.handle);
                }
            }
            _ => {}
        }
    }
}
