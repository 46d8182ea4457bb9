use super::*;

use std::net::Ipv4Addr;
use std::sync::Mutex;

use local_sqs::{ManualClock, Sqs};
use tokio::net::TcpListener;
use tokio::sync::Notify;

const QUEUE: &str = "work";
const DEAD: &str = "work-dlq";

/// A queue behind a real endpoint with a manual clock, and a poller that reads it.
struct Harness {
    clock: Arc<ManualClock>,
    sqs: Arc<Sqs>,
    client: Client,
    source: Source,
    stop: CancellationToken,
}

impl Harness {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(1_800_000_000_000));
        let sqs = Arc::new(Sqs::new(clock.clone(), "us-east-1"));
        sqs.ensure_queue(DEAD, &[]).unwrap();
        let dead = sqs.queue_arn(DEAD);
        let redrive = json!({"deadLetterTargetArn": dead, "maxReceiveCount": 2}).to_string();
        sqs.ensure_queue(QUEUE, &[("VisibilityTimeout", "60"), ("RedrivePolicy", &redrive)])
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = local_sqs::router(sqs.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let source = Source {
            url: format!("{endpoint}/{}/{QUEUE}", local_sqs::ACCOUNT),
            arn: sqs.queue_arn(QUEUE),
            batch_size: 10,
            concurrency: 2,
            timeout: Duration::from_secs(5),
        };
        Self { clock, sqs, client: client(&endpoint), source, stop: CancellationToken::new() }
    }

    /// Polls with a handler that returns the ids of the failed messages of a batch.
    fn poll<F>(&self, handler: impl Fn(SqsEvent) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Vec<String>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |batch| {
            let failed = handler(batch);
            Box::pin(async move {
                let mut response = SqsBatchResponse::default();
                response.set_failures(failed.await);
                Ok(response)
            })
        });
        let (client, source) = (self.client.clone(), self.source.clone());
        tokio::spawn(run(client, source, handler, self.stop.clone()));
    }

    async fn send(&self, bodies: &[&str]) {
        let entries = bodies.iter().enumerate().map(|(index, body)| {
            aws_sdk_sqs::types::SendMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .message_body(*body)
                .build()
                .unwrap()
        });
        let request = self.client.send_message_batch().queue_url(&self.source.url);
        request.set_entries(Some(entries.collect())).send().await.unwrap();
    }

    /// Visible, in flight and dead messages.
    fn held(&self) -> (usize, usize, usize) {
        let depth = self.sqs.depth(QUEUE).unwrap().unwrap();
        (depth.visible, depth.in_flight, self.sqs.depth(DEAD).unwrap().unwrap().total())
    }

    async fn until_held(&self, expected: (usize, usize, usize)) {
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        while self.held() != expected {
            assert!(tokio::time::Instant::now() < end, "{:?} is not {expected:?}", self.held());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn ids(batch: &SqsEvent, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let records = batch.records.iter().filter(|record| wanted(record.body.as_deref().unwrap()));
    records.map(|record| record.message_id.clone().unwrap()).collect()
}

#[tokio::test]
async fn reported_messages_are_dead_lettered_and_the_others_deleted() {
    let harness = Harness::new().await;
    harness.send(&["good", "bad", "good", "bad"]).await;
    harness.poll(|batch| async move { ids(&batch, |body| body == "bad") });
    harness.until_held((0, 2, 0)).await;
    harness.clock.advance(Duration::from_secs(61));
    // The second receive is the last: at the end of its timeout, the messages move.
    harness.until_held((0, 2, 0)).await;
    harness.clock.advance(Duration::from_secs(61));
    harness.until_held((0, 0, 2)).await;
}

#[tokio::test]
async fn failed_invocation_deletes_nothing() {
    type Fails = fn(SqsEvent) -> Vec<String>;
    let failures: [(&str, Fails); 3] = [
        ("panic", |_| panic!("on purpose")),
        ("unknown id", |_| vec!["not-in-the-batch".to_owned()]),
        ("empty id", |_| vec![String::new()]),
    ];
    for (name, fails) in failures {
        let harness = Harness::new().await;
        let called = Arc::new(Notify::new());
        let calls = called.clone();
        harness.send(&["a", "b", "c"]).await;
        harness.poll(move |batch| {
            calls.notify_one();
            async move { fails(batch) }
        });
        called.notified().await;
        // Nothing is deleted: all messages come again at the end of the timeout.
        harness.until_held((0, 3, 0)).await;
        harness.clock.advance(Duration::from_secs(61));
        tokio::time::timeout(Duration::from_secs(10), called.notified()).await.expect(name);
        assert_eq!(harness.held(), (0, 3, 0), "{name}");
    }
}

#[tokio::test]
async fn slow_batch_does_not_delay_the_next() {
    let harness = Harness::new().await;
    let release = Arc::new(Notify::new());
    let released = release.clone();
    harness.poll(move |batch| {
        let released = released.clone();
        async move {
            if batch.records[0].body.as_deref() == Some("slow") {
                released.notified().await;
            }
            Vec::new()
        }
    });
    harness.send(&["slow"]).await;
    harness.until_held((0, 1, 0)).await;
    for _ in 0..3 {
        harness.send(&["quick"]).await;
        harness.until_held((0, 1, 0)).await;
    }
    release.notify_one();
    harness.until_held((0, 0, 0)).await;
}

#[tokio::test]
async fn batches_are_limited_by_the_concurrency() {
    let harness = Harness::new().await;
    harness.poll(|_| std::future::pending());
    for taken in 1..=2 {
        harness.send(&["x"]).await;
        harness.until_held((0, taken, 0)).await;
    }
    harness.send(&["y"]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(harness.held(), (1, 2, 0));
}

#[tokio::test]
async fn stop_finishes_the_batch() {
    let harness = Harness::new().await;
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (handler_begun, handler_release) = (begun.clone(), release.clone());
    let handler: Handler = Arc::new(move |_| {
        let (begun, release) = (handler_begun.clone(), handler_release.clone());
        Box::pin(async move {
            begun.notify_one();
            release.notified().await;
            Ok(SqsBatchResponse::default())
        })
    });
    harness.send(&["x"]).await;
    let polling = tokio::spawn(run(
        harness.client.clone(),
        harness.source.clone(),
        handler,
        harness.stop.clone(),
    ));
    begun.notified().await;
    harness.stop.cancel();
    release.notify_one();
    polling.await.unwrap();
    assert_eq!(harness.held(), (0, 0, 0));
}

#[tokio::test]
async fn record_has_the_form_of_lambda() {
    let harness = Harness::new().await;
    let seen = Arc::new(Mutex::new(None));
    let saw = seen.clone();
    let attribute = |kind: &str| MessageAttributeValue::builder().data_type(kind);
    harness
        .client
        .send_message()
        .queue_url(&harness.source.url)
        .message_body("hello")
        .message_group_id("group")
        .message_attributes("text", attribute("String").string_value("é").build().unwrap())
        .message_attributes(
            "bytes",
            attribute("Binary")
                .binary_value(aws_sdk_sqs::primitives::Blob::new([255]))
                .build()
                .unwrap(),
        )
        .send()
        .await
        .unwrap();
    harness.poll(move |batch| {
        *saw.lock().unwrap() = Some(batch);
        async { Vec::new() }
    });
    harness.until_held((0, 0, 0)).await;
    let batch = seen.lock().unwrap().take().unwrap();
    let record = serde_json::to_value(&batch.records[0]).unwrap();
    let attributes = &record["attributes"];
    assert_eq!(record["body"], "hello");
    assert_eq!(record["md5OfBody"], "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(record["eventSource"], "aws:sqs");
    assert_eq!(record["eventSourceARN"], "arn:aws:sqs:us-east-1:000000000000:work");
    assert_eq!(record["awsRegion"], "us-east-1");
    assert_eq!(attributes["ApproximateReceiveCount"], "1");
    assert_eq!(attributes["SentTimestamp"], "1800000000000");
    assert_eq!(attributes["ApproximateFirstReceiveTimestamp"], "1800000000000");
    assert_eq!(attributes["MessageGroupId"], "group");
    assert!(attributes["SenderId"].is_string());
    assert_eq!(record["messageAttributes"]["text"]["stringValue"], "é");
    assert_eq!(record["messageAttributes"]["text"]["dataType"], "String");
    assert_eq!(record["messageAttributes"]["bytes"]["binaryValue"], "/w==");
}
