//! Each alarm goes off: the fault that it is for is produced, and the value of its metric is beyond
//! the threshold. Without the fault it is not.
//!
//! The handlers are the deployed ones, over ports in memory; their metrics are read from the lines
//! that they log, as CloudWatch does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::SqsEvent;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use cleanup::Cleanup;
use deliver::Deliver;
use dispatch::Dispatch;
use lambda_http::tower::ServiceExt as _;
use local_sqs::{Clock as _, Sqs};
use retry::Retry;
use serde_json::{Value, json};
use subscriptions::SubscriptionsApi;
use test_support::sender::{self, Reply};
use test_support::{
    Failing, Intercepted, LogLines, ManualClock, MemoryDeadLetterQueue, MemoryDeliveries,
    MemorySubscriptions, MemoryTaskQueue, ScriptedSender, SeededRandom, TestSealer, sample,
};
use tracing::level_filters::LevelFilter;
use webhooks_core::delivery::DeliveryTask;
use webhooks_core::ports::{Deliveries as _, Expect, Subscriptions as _};
use webhooks_core::target::TargetPolicy;
use webhooks_local::template::{Template, target};
use webhooks_runtime::telemetry;

use crate::events;

/// Alarms whose fault is one of Lambda, and where it is produced.
const FAULTS_OF_LAMBDA: [(&str, &str); 3] = [
    ("SchedulesDeadLettersAlarm", "the step `stacks` of scripts/verify_deploy.py"),
    ("ThrottlesAlarm", "nowhere: no emulator here limits concurrent executions"),
    ("RecursionAlarm", "nowhere: no emulator detects recursive loops"),
];

/// The samples of each metric in one period, by the name of the metric.
type Samples = BTreeMap<String, Vec<f64>>;

/// The metrics that a future logs.
async fn measured(work: impl Future<Output = ()>) -> Samples {
    let lines = LogLines::default();
    let writer = lines.clone();
    let subscriber =
        telemetry::subscriber("function".to_owned(), LevelFilter::INFO, move || writer.clone());
    let guard = tracing::subscriber::set_default(subscriber);
    work.await;
    drop(guard);
    let mut samples = Samples::new();
    for line in lines.text().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array();
        for metric in metrics.into_iter().flatten() {
            let name = metric["Name"].as_str().unwrap();
            // A metric has one value or a list of them.
            let values =
                line[name].as_array().map_or(std::slice::from_ref(&line[name]), Vec::as_slice);
            let values = values.iter().map(|value| value.as_f64().unwrap());
            samples.entry(name.to_owned()).or_default().extend(values);
        }
    }
    samples
}

/// A metric of AWS's, as a fault made it.
fn of_aws(metric: &str, value: f64) -> Samples {
    Samples::from([(metric.to_owned(), vec![value])])
}

fn records(bodies: impl Iterator<Item = String>, receives: u32) -> SqsEvent {
    let records: Vec<Value> = bodies
        .enumerate()
        .map(|(index, body)| {
            json!({
                "messageId": format!("m{index}"), "receiptHandle": "r", "body": body,
                "eventSourceARN": "arn:aws:sqs:us-east-1:1:webhook-deliveries-slow",
                "attributes": {
                    "SentTimestamp": sample::at(50).millis().to_string(),
                    "ApproximateReceiveCount": receives.to_string(),
                },
            })
        })
        .collect();
    serde_json::from_value(json!({ "Records": records })).unwrap()
}

struct Harness {
    clock: ManualClock,
    subscriptions: MemorySubscriptions,
    deliveries: MemoryDeliveries,
    queue: MemoryTaskQueue,
    dead_letter_queue: MemoryDeadLetterQueue,
    sender: ScriptedSender,
}

impl Harness {
    fn new() -> Self {
        let clock = ManualClock::at(sample::at(100_000));
        Self {
            subscriptions: MemorySubscriptions::default(),
            deliveries: MemoryDeliveries::new(Arc::new(clock.clone())),
            queue: MemoryTaskQueue::default(),
            dead_letter_queue: MemoryDeadLetterQueue::default(),
            sender: ScriptedSender::default(),
            clock,
        }
    }

    /// `failing` is the call of a port that fails, such as `deliveries.put`.
    async fn dispatch(&self, failing: &'static str, bodies: Vec<String>) {
        let subscriptions = Intercepted::new(self.subscriptions.clone(), Failing::call(failing));
        let dispatch = Dispatch::new(
            Arc::new(subscriptions),
            Arc::new(self.queue.clone()),
            Arc::new(self.queue.clone()),
            Arc::new(self.dead_letter_queue.clone()),
        );
        for batch in bodies.chunks(10) {
            dispatch.handle(records(batch.iter().cloned(), 1)).await;
        }
    }

    async fn deliver(&self, failing: &'static str, tasks: u64, receives: u32) {
        let deliveries =
            Arc::new(Intercepted::new(self.deliveries.clone(), Failing::call(failing)));
        let deliver = Deliver::new(
            Arc::new(self.subscriptions.clone()),
            Arc::new(TestSealer),
            deliveries.clone(),
            deliveries.clone(),
            deliveries,
            Arc::new(self.queue.clone()),
            Arc::new(self.queue.clone()),
            Arc::new(self.sender.clone()),
            Arc::new(self.clock.clone()),
            Arc::new(self.clock.clone()),
            Arc::new(SeededRandom::new(1)),
            Duration::from_hours(720),
        );
        let subscription = sample::subscription("u", 1);
        let _ = self.subscriptions.create(&subscription).await;
        for first in (0..tasks).step_by(10) {
            let tasks = (first..tasks.min(first + 10)).map(|n| {
                DeliveryTask::FirstAttempt(sample::new_delivery(&subscription, n))
                    .to_json()
                    .unwrap()
            });
            deliver.handle(records(tasks, receives)).await;
        }
    }

    async fn waits(&self, count: u64) {
        for n in 0..count {
            let mut delivery = sample::delivery(&sample::subscription_id("u", 1), n);
            delivery.wait(sample::at(n), sample::at(n), sample::at(n));
            self.deliveries.put(&delivery, Expect::Absent).await.unwrap();
        }
    }

    /// What API Gateway counts when users list their webhooks.
    async fn list_webhooks(&self, requests: u32, failing: &'static str) -> Samples {
        let subscriptions = Intercepted::new(self.subscriptions.clone(), Failing::call(failing));
        let function = SubscriptionsApi::new(
            Arc::new(subscriptions),
            Arc::new(TestSealer),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.queue.clone()),
            Arc::new(self.clock.clone()),
            Arc::new(SeededRandom::new(1)),
            TargetPolicy::Strict,
            Duration::from_hours(720),
        );
        let event = events::read("subscriptions", "list");
        let mut errors = 0.0;
        for _ in 0..requests {
            let response = events::api(|request| function.handle(request), &event).await;
            errors += f64::from(u32::from(response["statusCode"].as_u64().unwrap() >= 500));
        }
        let mut samples = of_aws("Count", f64::from(requests));
        samples.extend(of_aws("5xx", errors));
        samples
    }

    /// Whether the run fails, which Lambda counts as an error.
    async fn retry(&self, failing: &'static str) -> bool {
        let due_index = Intercepted::new(self.deliveries.clone(), Failing::call(failing));
        let (queue, clock) = (Arc::new(self.queue.clone()), Arc::new(self.clock.clone()));
        let deliveries = Arc::new(self.deliveries.clone());
        let retry = Retry::new(Arc::new(due_index), deliveries.clone(), deliveries, queue, clock);
        retry.handle().await.is_err()
    }

    async fn cleanup(&self, failing: &'static str) -> bool {
        let subscriptions = Intercepted::new(self.subscriptions.clone(), Failing::call(failing));
        let cleanup = Cleanup::new(
            Arc::new(subscriptions),
            Arc::new(self.deliveries.clone()),
            Arc::new(self.clock.clone()),
            30,
        );
        cleanup.handle(cleanup::Request::default(), sample::at(200_000)).await.is_err()
    }
}

fn sample_events(count: usize) -> Vec<String> {
    let event = json!({"event_type": "email.received", "user_id": "u", "data": {}}).to_string();
    vec![event; count]
}

/// No call of a port has this name.
const NONE: &str = "";

/// Nothing fails.
async fn healthy() -> Samples {
    let harness = Harness::new();
    let mut samples = measured(async {
        harness.dispatch(NONE, sample_events(100)).await;
        harness.deliver(NONE, 100, 1).await;
        harness.waits(1).await;
        assert!(!harness.retry(NONE).await);
        assert!(!harness.cleanup(NONE).await);
    })
    .await;
    samples.extend(harness.list_webhooks(21, NONE).await);
    // Every task is received and deleted once; nothing waits, nothing is in a dead-letter queue.
    for (metric, value) in [
        ("NumberOfMessagesReceived", 110.0),
        ("NumberOfMessagesDeleted", 110.0),
        ("ApproximateNumberOfMessagesVisible", 0.0),
        ("ApproximateNumberOfMessagesNotVisible", 0.0),
        ("ApproximateAgeOfOldestMessage", 0.0),
        ("Errors", 0.0),
    ] {
        samples.extend(of_aws(metric, value));
    }
    samples
}

/// The metrics while the fault is there that an alarm is for.
async fn fault(alarm: &str) -> Option<Samples> {
    let harness = Harness::new();
    Some(match alarm {
        "EventsFailingAlarm" => {
            measured(harness.dispatch("subscriptions.list_by_user", sample_events(11))).await
        }
        "EventsDeadLettersAlarm" => {
            harness.dispatch(NONE, vec!["no JSON".to_owned()]).await;
            let count = u32::try_from(harness.dead_letter_queue.take().len()).unwrap();
            of_aws("ApproximateNumberOfMessagesVisible", f64::from(count))
        }
        "EventsAgeAlarm" => queue(1, Received::NeverFor(Duration::from_secs(301))).await,
        "DeliveriesAgeAlarm" => queue(1, Received::NeverFor(Duration::from_secs(7201))).await,
        "ApiErrorsAlarm" => harness.list_webhooks(21, "subscriptions.page").await,
        "DeliveriesDeadLettersAlarm" => queue(1, Received::UntilDeadLettered).await,
        "DeliveriesBacklogAlarm" => queue(10_001, Received::Never).await,
        "DeliveriesInFlightAlarm" => queue(60_001, Received::Once).await,
        "DeliveriesNotDeletedAlarm" => queue(101, Received::Once).await,
        "TasksFailingAlarm" => measured(harness.deliver("deliveries.put", 11, 1)).await,
        "TaskNeverSucceedsAlarm" => measured(harness.deliver("deliveries.get", 1, 11)).await,
        "FirstAttemptLatencyAlarm" => {
            // The events happened in the first seconds of the clock, more than a day ago.
            measured(harness.deliver(NONE, 10, 1)).await
        }
        "DeliveriesFailingAlarm" => {
            let subscription = sample::subscription("u", 1);
            let gone = std::iter::repeat_with(|| Reply::Now(sender::status(410))).take(51);
            harness.sender.script(&subscription.url, gone);
            measured(harness.deliver(NONE, 51, 1)).await
        }
        "ReconciliationAlarm" => {
            let subscription = sample::subscription("u", 1);
            harness.subscriptions.create(&subscription).await.unwrap();
            let numbered = (0..12).map(|n| {
                json!({"event_type": "task.created", "user_id": "u",
                    "event_id": format!("e{n}"), "data": {}})
                .to_string()
            });
            // The queue loses what dispatch sends: deliver gets none of it.
            measured(harness.dispatch(NONE, numbered.collect())).await
        }
        "FunctionErrorsAlarm" => {
            let mut errors = 0.0;
            for _ in 0..5 {
                errors += f64::from(harness.retry("due_index.due").await);
            }
            of_aws("Errors", errors)
        }
        "RetryNotRunningAlarm" => {
            measured(async { assert!(harness.retry("due_index.due").await) }).await
        }
        "RetriesSentAgainAlarm" => {
            harness.waits(51).await;
            measured(async { assert!(!harness.retry(NONE).await) }).await
        }
        "CleanupNotRunningAlarm" => {
            measured(async { assert!(harness.cleanup("subscriptions.scan_keys").await) }).await
        }
        "CleanupErrorsAlarm" => {
            of_aws("Errors", f64::from(harness.cleanup("subscriptions.scan_keys").await))
        }
        _ => return None,
    })
}

enum Received {
    Never,
    NeverFor(Duration),
    Once,
    UntilDeadLettered,
}

/// The metrics of the deliveries queue with tasks that nobody deletes.
async fn queue(messages: usize, received: Received) -> Samples {
    let clock = Arc::new(local_sqs::ManualClock::new(1_000_000_000));
    let sqs = Arc::new(Sqs::new(clock.clone(), "us-east-1"));
    sqs.ensure_queue("dlq", &[]).unwrap();
    let deployed = Template::deployed();
    let redrive = &deployed.properties("DeliveriesQueue")["RedrivePolicy"];
    let receives = redrive["maxReceiveCount"].as_u64().unwrap();
    let redrive = json!({"deadLetterTargetArn": sqs.queue_arn("dlq"), "maxReceiveCount": receives});
    sqs.ensure_queue("q", &[("VisibilityTimeout", "540"), ("RedrivePolicy", &redrive.to_string())])
        .unwrap();
    let call = async |operation: &str, mut body: Value| {
        body["QueueUrl"] = format!("http://localhost/{}/q", local_sqs::ACCOUNT).into();
        let request = Request::post("/")
            .header("x-amz-target", format!("AmazonSQS.{operation}"))
            .header("content-type", "application/x-amz-json-1.0")
            .header("host", "localhost")
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = local_sqs::router(sqs.clone()).oneshot(request).await.unwrap();
        assert!(response.status().is_success(), "{operation}: {response:?}");
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice::<Value>(&body).unwrap_or_default()
    };
    for first in (0..messages).step_by(10) {
        let entries: Vec<Value> = (first..messages.min(first + 10))
            .map(|n| json!({"Id": n.to_string(), "MessageBody": "task"}))
            .collect();
        call("SendMessageBatch", json!({ "Entries": entries })).await;
    }
    let receive = async || call("ReceiveMessage", json!({"MaxNumberOfMessages": 10})).await;
    let depth = |queue| sqs.depth(queue).unwrap().unwrap();
    let count = |number: usize| f64::from(u32::try_from(number).unwrap());
    match received {
        Received::Never => of_aws("ApproximateNumberOfMessagesVisible", count(depth("q").visible)),
        Received::NeverFor(time) => {
            clock.advance(time);
            let asked = json!({"MessageSystemAttributeNames": ["SentTimestamp"]});
            let message = call("ReceiveMessage", asked).await;
            let sent = message["Messages"][0]["Attributes"]["SentTimestamp"].as_str().unwrap();
            let now = clock.now_ms();
            let age = Duration::from_millis(now - sent.parse::<u64>().unwrap());
            of_aws("ApproximateAgeOfOldestMessage", age.as_secs_f64())
        }
        Received::Once => {
            while depth("q").visible > 0 {
                receive().await;
            }
            let in_flight = count(depth("q").in_flight);
            let mut samples = of_aws("ApproximateNumberOfMessagesNotVisible", in_flight);
            samples.extend(of_aws("NumberOfMessagesReceived", in_flight));
            samples.extend(of_aws("NumberOfMessagesDeleted", 0.0));
            samples
        }
        Received::UntilDeadLettered => {
            for _ in 0..=receives {
                receive().await;
                clock.advance(Duration::from_mins(9));
            }
            of_aws("ApproximateNumberOfMessagesVisible", count(depth("dlq").visible))
        }
    }
}

fn sum(samples: &Samples, metric: &str) -> f64 {
    samples.get(metric).into_iter().flatten().sum()
}

/// The value that an alarm compares with its threshold.
fn value(properties: &Value, samples: &Samples) -> f64 {
    let Some(metric) = properties["MetricName"].as_str() else {
        let metrics = properties["Metrics"].as_array().unwrap();
        return expression(metrics[0]["Expression"].as_str().unwrap(), metrics, samples);
    };
    let all = samples.get(metric).map(Vec::as_slice).unwrap_or_default();
    if properties["Statistic"] == "Sum" {
        return all.iter().sum();
    }
    // The 95th percentile of these few samples is the greatest.
    assert!(properties["Statistic"] == "Maximum" || properties["ExtendedStatistic"] == "p95");
    all.iter().copied().fold(0.0, f64::max)
}

/// The metric math of the template, which no library evaluates.
fn expression(text: &str, metrics: &[Value], samples: &Samples) -> f64 {
    // The faults here have one queue or function; each metric of these expressions is of another one.
    let first = || {
        let mut names = metrics.iter().map(|metric| &metric["MetricStat"]["Metric"]["MetricName"]);
        names.find_map(Value::as_str).expect("an expression has a metric")
    };
    let sum = |metric| sum(samples, metric);
    let (received, deleted) = (sum("NumberOfMessagesReceived"), sum("NumberOfMessagesDeleted"));
    let (failed, succeeded) = (sum("deliveries_failed"), sum("deliveries_succeeded"));
    let (requested, begun, dropped) =
        (sum("deliveries_requested"), sum("deliveries_begun"), sum("deliveries_dropped"));
    let percent = |part: f64, whole, least| if whole > least { 100.0 * part / whole } else { 0.0 };
    match text {
        "SUM(METRICS())" => sum(first()),
        "MAX(METRICS())" => samples.get(first()).into_iter().flatten().copied().fold(0.0, f64::max),
        "IF(r0 + r1 > 100, 100 * (d0 + d1) / (r0 + r1), 100)" if received > 100.0 => {
            100.0 * deleted / received
        }
        "IF(r0 + r1 > 100, 100 * (d0 + d1) / (r0 + r1), 100)" => 100.0,
        "IF(failed + succeeded > 50, 100 * failed / (failed + succeeded), 0)" => {
            percent(failed, failed + succeeded, 50.0)
        }
        "IF(requests > 20, 100 * errors / requests, 0)" => percent(sum("5xx"), sum("Count"), 20.0),
        "FILL(requested, 0) - FILL(begun, 0) - FILL(dropped, 0) - 0.01 * FILL(requested, 0)" => {
            requested - begun - dropped - 0.01 * requested
        }
        _ => panic!("the expression {text} is not known here"),
    }
}

fn goes_off(properties: &Value, samples: &Samples) -> bool {
    let (value, threshold) =
        (value(properties, samples), properties["Threshold"].as_f64().unwrap());
    match properties["ComparisonOperator"].as_str().unwrap() {
        "GreaterThanThreshold" => value > threshold,
        "LessThanThreshold" => value < threshold,
        other => panic!("the operator {other} is not known here"),
    }
}

#[tokio::test]
async fn alarm_goes_off_with_its_fault_only() {
    let template = Template::deployed();
    let healthy = healthy().await;
    let mut unproven = BTreeSet::new();
    for (name, alarm) in template.resources("AWS::CloudWatch::Alarm") {
        let properties = &alarm["Properties"];
        let Some(samples) = fault(name).await else {
            unproven.insert(name);
            continue;
        };
        assert!(goes_off(properties, &samples), "{name} does not go off: {samples:?}");
        // Its events are as old as those of the fault.
        if name != "FirstAttemptLatencyAlarm" && name != "ReconciliationAlarm" {
            assert!(!goes_off(properties, &healthy), "{name} goes off by itself: {healthy:?}");
        }
    }
    assert_eq!(unproven, FAULTS_OF_LAMBDA.map(|(name, _)| name).into());
}

/// CloudWatch does not charge for the first ten metrics of alarms. Two alarms watch both deliveries
/// queues.
#[test]
fn essential_alarms_have_twelve_metrics() {
    let template = Template::deployed();
    let alarms = template.resources("AWS::CloudWatch::Alarm");
    let essential = alarms.filter(|(_, alarm)| alarm["Condition"] == "HasAlarms");
    let metrics = essential.map(|(_, alarm)| {
        let metrics = alarm["Properties"]["Metrics"].as_array();
        metrics.map_or(1, |all| all.iter().filter(|m| m.get("MetricStat").is_some()).count())
    });
    assert_eq!(metrics.sum::<usize>(), 12);
}

/// The runs that fail must not count as runs.
#[test]
fn absence_of_a_run_is_an_alarm() {
    let template = Template::deployed();
    for (alarm, function) in
        [("RetryNotRunningAlarm", "RetryFunction"), ("CleanupNotRunningAlarm", "CleanupFunction")]
    {
        let properties = template.properties(alarm);
        assert_eq!(properties["MetricName"], "runs_succeeded");
        assert_eq!(target(&properties["Dimensions"][0]["Value"]), Some((function, "")));
        assert_eq!(properties["TreatMissingData"], "breaching");
    }
}
