//! Starts the local system and talks to it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write, sink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::UNCHECKED_SIGNATURE;

/// How long anything may take before a test gives up: far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running system of its own.
pub(crate) struct Local {
    child: Child,
    pub(crate) api: String,
    pub(crate) sqs: String,
    pub(crate) dynamodb: String,
    pub(crate) receiver: String,
    http: reqwest::Client,
}

impl Local {
    /// Starts one in memory.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one that keeps its data here.
    pub(crate) async fn start_in(dir: &Path) -> Self {
        Self::start_with(&["--data-dir", dir.to_str().unwrap()]).await
    }

    /// Starts one with these flags besides free ports.
    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        Self::start_writing(flags, sink(), Stdio::null()).await
    }

    /// Starts one that logs all it can, and keeps its data and what it writes in this directory.
    pub(crate) async fn start_recorded(dir: &Path) -> Self {
        let [out, err] = ["stdout", "stderr"].map(|name| File::create(dir.join(name)).unwrap());
        let data = dir.join("data");
        let flags = ["--log", "trace,dynoxide=trace", "--data-dir", data.to_str().unwrap()];
        Self::start_writing(&flags, out, err.into()).await
    }

    async fn start_writing(
        flags: &[&str],
        mut to: impl Write + Send + 'static,
        stderr: Stdio,
    ) -> Self {
        let free = "127.0.0.1:0";
        let mut child = dev()
            .args(["--api-addr", free, "--sqs-addr", free])
            .args(["--dynamodb-addr", free, "--receiver-addr", free])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let api = loop {
            let mut line = String::new();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended before it was up");
            to.write_all(line.as_bytes()).unwrap();
            if let Some(url) = line.strip_prefix("api ") {
                break url.trim().to_owned();
            }
        };
        // Whoever stops reading a pipe stops the one who writes.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut out, &mut to);
        });
        let http = http_client();
        let ready = http.get(format!("{api}/_local/ready")).send().await.unwrap();
        assert_eq!(ready.status(), 200);
        let ready: Value = ready.json_value().await;
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        let [sqs, dynamodb, receiver] = ["sqs", "dynamodb", "receiver"].map(text);
        Self { child, api, sqs, dynamodb, receiver, http }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, as Ctrl-C does, and returns its exit code.
    pub(crate) fn interrupt(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not stop");
    }

    /// Makes a request of the API; returns status and body.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (u16, Value) {
        let method = method.parse().unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.api));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json_value().await)
    }

    /// Makes a request that must return this status.
    pub(crate) async fn expect(
        &self,
        status: u16,
        method: &str,
        path: &str,
        user: &str,
        body: Option<Value>,
    ) -> Value {
        let (got, response) = self.call(method, path, Some(&token(user)), body).await;
        assert_eq!(got, status, "{method} {path}: {response}");
        response
    }

    /// Creates a webhook; returns its id and secret.
    pub(crate) async fn subscribe(&self, user: &str, body: Value) -> (String, String) {
        let webhook = self.expect(201, "POST", "/api/webhooks", user, Some(body)).await;
        (text(&webhook["id"]), text(&webhook["secret"]))
    }

    /// Makes one call of the SQS endpoint, as every AWS client does.
    pub(crate) async fn sqs(&self, operation: &str, body: &Value) -> Value {
        let request = self.http.post(&self.sqs);
        aws_call(request, "AmazonSQS", operation, body).await
    }

    /// Makes one call of the DynamoDB endpoint.
    pub(crate) async fn dynamodb(&self, operation: &str, body: &Value) -> Value {
        let request = self.http.post(&self.dynamodb);
        let request = UNCHECKED_SIGNATURE
            .into_iter()
            .fold(request, |request, (name, value)| request.header(name, value));
        aws_call(request, "DynamoDB_20120810", operation, body).await
    }

    /// The URL of a queue.
    pub(crate) fn queue(&self, name: &str) -> String {
        format!("{}/000000000000/{name}", self.sqs)
    }

    /// Publishes an event; returns the message's id.
    pub(crate) async fn publish(&self, event: &Value) -> String {
        self.publish_raw(&event.to_string()).await
    }

    /// Publishes exactly this body.
    pub(crate) async fn publish_raw(&self, body: &str) -> String {
        let queue = self.queue("webhook-events");
        let sent = self.sqs("SendMessage", &json!({"QueueUrl": queue, "MessageBody": body})).await;
        text(&sent["MessageId"])
    }

    /// The deliveries of a webhook, newest first.
    pub(crate) async fn deliveries(&self, user: &str, webhook: &str) -> Vec<Value> {
        let path = format!("/api/webhooks/{webhook}/deliveries?limit=100");
        self.expect(200, "GET", &path, user, None).await["items"].as_array().unwrap().clone()
    }

    /// Waits until a webhook has this many deliveries that have ended, and returns all.
    pub(crate) async fn ended(&self, user: &str, webhook: &str, count: usize) -> Vec<Value> {
        self.eventually(async || {
            let all = self.deliveries(user, webhook).await;
            let ended = all.iter().filter(|one| one["status"] != "retrying").count();
            (ended >= count).then_some(all)
        })
        .await
    }

    /// Asks again until there is a response.
    pub(crate) async fn eventually<T>(&self, ask: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(response) = ask().await {
                return response;
            }
            assert!(Instant::now() < deadline, "it did not happen within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many messages a queue holds, whatever their state.
    pub(crate) async fn depth(&self, queue: &str) -> u64 {
        self.messages(queue).await.into_iter().sum()
    }

    /// How many messages of a queue can be received, are in flight, and are delayed.
    pub(crate) async fn messages(&self, queue: &str) -> [u64; 3] {
        let names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ];
        let body = json!({"QueueUrl": self.queue(queue), "AttributeNames": names});
        let response = self.sqs("GetQueueAttributes", &body).await;
        names.map(|name| text(&response["Attributes"][name]).parse().unwrap())
    }

    /// Fails unless the queues run empty and no message was given up. A message is in the next queue
    /// before it leaves its own, so they are read in this order.
    pub(crate) async fn drained(&self) {
        self.eventually(async || {
            let mut left = 0;
            for queue in ["webhook-events", "webhook-deliveries", "webhook-deliveries-slow"] {
                left += self.depth(queue).await;
            }
            (left == 0).then_some(())
        })
        .await;
        assert_eq!(self.depth("webhook-deliveries-dlq").await, 0);
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program under test.
pub(crate) fn dev() -> Command {
    Command::new(env!("CARGO_BIN_EXE_system-dev"))
}

/// A token for a user, made as a newcomer makes it.
pub(crate) fn token(user: &str) -> String {
    let output = dev().args(["token", user]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// A well-formed event.
pub(crate) fn event(user: &str, event_type: &str, n: u64) -> Value {
    json!({"event_type": event_type, "user_id": user, "event_id": format!("e-{user}-{n}"), "data": {"n": n}})
}

fn http_client() -> reqwest::Client {
    // Only the first test of the process installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

trait JsonValue {
    async fn json_value(self) -> Value;
}

impl JsonValue for reqwest::Response {
    /// The body, or null if there is none.
    async fn json_value(self) -> Value {
        let body = self.text().await.unwrap();
        if body.is_empty() { Value::Null } else { serde_json::from_str(&body).unwrap() }
    }
}

/// Makes one call of the JSON protocol of AWS.
async fn aws_call(
    request: reqwest::RequestBuilder,
    service: &str,
    operation: &str,
    body: &Value,
) -> Value {
    let request = request
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("{service}.{operation}"))
        .body(body.to_string());
    let response = request.send().await.unwrap();
    let status = response.status();
    let response: Value = response.json_value().await;
    assert!(status.is_success(), "{operation}: {response}");
    response
}
