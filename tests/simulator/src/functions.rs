//! The deployed handlers, called as Lambda calls them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use cleanup::Cleanup;
use deliver::Deliver;
use delivery_history::DeliveryHistory;
use dispatch::Dispatch;
use retry::Retry;
use subscriptions::SubscriptionsApi;
use test_support::TestSealer;
use test_webhook::TestWebhook;
use webhooks_api::testing::{TestRequest, TestResponse};
use webhooks_core::delivery::DeliveryTask;
use webhooks_core::target::TargetPolicy;

use crate::executor::lock;
use crate::harness::{Function, Harness, Invocation, Moment};
use crate::mutations::Mutation;
use crate::ports::Ports;
use crate::queue::{Received, event};
use crate::rules::Rule;

const RETENTION_DAYS: u32 = 30;
const RETENTION: Duration = Duration::from_secs(RETENTION_DAYS as u64 * 24 * 3600);
const POLICY: TargetPolicy = TargetPolicy::Strict;

/// Hands a batch of events to dispatch.
pub(crate) fn dispatch(harness: &Arc<Harness>, batch: Vec<Received>) {
    harness.invoke(Function::Dispatch, |invocation| {
        let harness = Arc::clone(harness);
        Box::pin(async move {
            let ports = Ports::new(&harness, &invocation, "dispatch");
            let handler = Dispatch::new(ports.clone(), ports.clone(), ports.slow_queue(), ports)
                .with_fast_tasks(Arc::clone(&harness.fast_tasks));
            handle_batch(&harness, &invocation, batch, async |event| handler.handle(event).await)
                .await;
        })
    });
}

/// The redeliveries of a page, so few that a recovery has several pages.
const RECOVERY_PAGE: usize = 2;

/// The attempts of a batch at one host for one owner, so few that some of its tasks are put off.
pub(crate) const HOST_CONCURRENCY: usize = 3;

/// Hands a batch of tasks to deliver.
pub(crate) fn deliver(harness: &Arc<Harness>, batch: Vec<Received>) {
    let is_slow = batch.iter().any(|message| message.id.starts_with('s'));
    let tasks = batch.iter().filter_map(|message| DeliveryTask::from_json(&message.body).ok());
    let tasks: Vec<_> = tasks.flat_map(DeliveryTask::split).collect();
    let subscriptions: Vec<_> =
        tasks.iter().filter_map(DeliveryTask::subscription_id).cloned().collect();
    harness.invoke(Function::Deliver, |invocation| {
        let harness = Arc::clone(harness);
        lock(&harness.model).delivers(invocation.number, is_slow, &subscriptions);
        Box::pin(async move {
            let ports = Ports::new(&harness, &invocation, "deliver");
            let handler = Deliver::new(
                ports.clone(),
                Arc::new(TestSealer),
                ports.clone(),
                ports.clone(),
                ports.clone(),
                ports.clone(),
                ports.slow_queue(),
                ports.clone(),
                Arc::new(harness.clock.clone()),
                ports,
                Arc::new(harness.secrets.clone()),
                RETENTION,
            )
            .with_recovery_page(RECOVERY_PAGE)
            .with_host_concurrency(if harness.is(Mutation::ForgetHostBound) {
                usize::from(u8::MAX)
            } else {
                HOST_CONCURRENCY
            });
            handle_batch(&harness, &invocation, batch, async |event| handler.handle(event).await)
                .await;
        })
    });
}

/// What Lambda does around a handler of a queue: it makes the event, and deletes what the handler
/// does not report as failed. The batch of a handler that dies is received again.
async fn handle_batch(
    harness: &Arc<Harness>,
    invocation: &Arc<Invocation>,
    batch: Vec<Received>,
    handler: impl AsyncFnOnce(SqsEvent) -> SqsBatchResponse,
) {
    harness.note(invocation, || {
        let ids: Vec<String> = batch.iter().map(|m| format!("{}/{}", m.id, m.receipt)).collect();
        format!("batch {}", ids.join(" "))
    });
    // An event that cannot be read is an invocation that fails.
    let Ok(event) = serde_json::from_value(event(&batch)) else { return };
    if harness.is(Mutation::AcknowledgeFirst) {
        acknowledge(harness, invocation, &batch, &BTreeSet::new());
        handler(event).await;
        return;
    }
    let response = handler(event).await;
    let mut failed: BTreeSet<String> =
        response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
    if harness.is(Mutation::IgnoreFailures) {
        failed.clear();
    }
    // Lambda may die as well before it deletes anything.
    harness.may_die(invocation, "acknowledge", Moment::Before).await;
    acknowledge(harness, invocation, &batch, &failed);
}

fn acknowledge(
    harness: &Harness,
    invocation: &Invocation,
    batch: &[Received],
    failed: &BTreeSet<String>,
) {
    harness.note(invocation, || format!("failed: {failed:?}"));
    if !failed.iter().all(|id| batch.iter().any(|message| message.id == *id)) {
        let unknown = || format!("{failed:?}");
        lock(&harness.model).violate(Rule::OwnMessages, unknown);
        return;
    }
    let events = invocation.function == Function::Dispatch;
    for message in batch.iter().filter(|message| !failed.contains(&message.id)) {
        let queue = match message.id.chars().next() {
            Some('e') => &harness.events,
            Some('s') => &harness.slow_tasks,
            _ => &harness.tasks,
        };
        if events {
            let name = event_name(message);
            lock(&harness.model).dispatched(&name, harness.now());
        }
        // SQS may keep a message whose deletion it accepted.
        if !harness.random.chance(harness.faults().queue().not_deleted) {
            lock(queue).delete(&message.receipt);
        }
    }
}

/// The publisher's name of an event, or that of its message.
fn event_name(message: &Received) -> String {
    let body: Option<serde_json::Value> = serde_json::from_str(&message.body).ok();
    let name = body.and_then(|body| body.get("event_id")?.as_str().map(str::to_owned));
    name.unwrap_or_else(|| message.id.clone())
}

/// Does one run of the retry function.
pub(crate) fn retry(harness: &Arc<Harness>) {
    harness.invoke(Function::Retry, |invocation| {
        let harness = Arc::clone(harness);
        Box::pin(async move {
            let ports = Ports::new(&harness, &invocation, "retry");
            let handler = Retry::new(
                ports.clone(),
                ports.clone(),
                ports.clone(),
                ports.slow_queue(),
                Arc::new(harness.clock.clone()),
            );
            let report = handler.handle().await;
            harness.note(&invocation, || format!("{report:?}"));
        })
    });
}

/// Does one run of the cleanup, with so much time. Without `days` it keeps what is configured.
pub(crate) fn clean(harness: &Arc<Harness>, days: Option<u32>, time: Duration) {
    harness.invoke(Function::Cleanup, |invocation| {
        let harness = Arc::clone(harness);
        Box::pin(async move { clean_as(&harness, &invocation, days, time).await })
    });
}

pub(crate) async fn clean_as(
    harness: &Arc<Harness>,
    invocation: &Arc<Invocation>,
    days: Option<u32>,
    time: Duration,
) {
    let keeps = Duration::from_hours(u64::from(days.unwrap_or(RETENTION_DAYS)) * 24);
    lock(&harness.model).cleans(invocation.number, keeps);
    let ports = Ports::new(harness, invocation, "cleanup");
    let handler =
        Cleanup::new(ports.clone(), ports, Arc::new(harness.clock.clone()), RETENTION_DAYS);
    let deadline = harness.now().plus(time);
    let report =
        handler.handle(cleanup::Request { days, ..cleanup::Request::default() }, deadline).await;
    harness.note(invocation, || format!("{report:?}"));
}

/// Sends a request to the function of the API that has its route.
pub(crate) async fn ask(
    harness: &Arc<Harness>,
    invocation: &Arc<Invocation>,
    request: &TestRequest,
) -> TestResponse {
    let ports = |folder| Ports::new(harness, invocation, folder);
    let (clock, random) = (Arc::new(harness.clock.clone()), Arc::new(harness.secrets.clone()));
    let route = request.route();
    let response = if route.ends_with("/test") {
        let ports = ports("test-webhook");
        let function = TestWebhook::new(
            ports.clone(),
            Arc::new(TestSealer),
            ports.clone(),
            ports.clone(),
            ports.clone(),
            ports,
            clock,
            random,
            RETENTION,
        );
        request.send(|request| function.handle(request)).await
    } else if route.contains("deliveries") || route.contains("recoveries") {
        let ports = ports("delivery-history");
        let function = DeliveryHistory::new(
            ports.clone(),
            ports.clone(),
            ports.clone(),
            ports.slow_queue(),
            clock,
            random,
            RETENTION,
        );
        request.send(|request| function.handle(request)).await
    } else {
        let ports = ports("subscriptions");
        let function = SubscriptionsApi::new(
            ports.clone(),
            Arc::new(TestSealer),
            ports.clone(),
            ports.clone(),
            ports.slow_queue(),
            clock,
            random,
            POLICY,
            RETENTION,
        );
        request.send(|request| function.handle(request)).await
    };
    harness.note(invocation, || format!("{route}: {} {}", response.status(), response.text()));
    response
}
