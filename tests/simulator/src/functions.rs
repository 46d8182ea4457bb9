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
use test_webhook::TestWebhook;
use webhooks_api::ApiGatewayV2httpRequest;
use webhooks_api::testing::{Call, Reply};
use webhooks_core::target::TargetPolicy;

use crate::executor::lock;
use crate::mutations::Mutation;
use crate::ports::Ports;
use crate::queue::{Received, event};
use crate::rules::Rule;
use crate::world::{Function, Harness, Invocation, Moment};

const RETENTION_DAYS: u32 = 30;
const RETENTION: Duration = Duration::from_secs(RETENTION_DAYS as u64 * 24 * 3600);
const POLICY: TargetPolicy = TargetPolicy::Strict;

/// Hands a batch of events to dispatch.
pub(crate) fn dispatch(world: &Arc<Harness>, batch: Vec<Received>) {
    world.invoke(Function::Dispatch, |invocation| {
        let world = Arc::clone(world);
        Box::pin(async move {
            let ports = Ports::new(&world, &invocation);
            let handler = Dispatch {
                subscriptions: ports.clone(),
                queue: ports.clone(),
                dead_letter_queue: ports,
            };
            handle_batch(&world, &invocation, batch, async |event| handler.handle(event).await)
                .await;
        })
    });
}

/// Hands a batch of tasks to deliver.
pub(crate) fn deliver(world: &Arc<Harness>, batch: Vec<Received>) {
    world.invoke(Function::Deliver, |invocation| {
        let world = Arc::clone(world);
        Box::pin(async move {
            let ports = Ports::new(&world, &invocation);
            let handler = Deliver {
                subscriptions: ports.clone(),
                deliveries: ports.clone(),
                statistics: ports.clone(),
                queue: ports.clone(),
                sender: ports,
                clock: Arc::new(world.clock.clone()),
                random: Arc::new(world.secrets.clone()),
                policy: POLICY,
                retention: RETENTION,
            };
            handle_batch(&world, &invocation, batch, async |event| handler.handle(event).await)
                .await;
        })
    });
}

/// What Lambda does around a handler of a queue: it makes the event, and deletes what the handler
/// does not report as failed. A handler that dies has its batch come back.
async fn handle_batch(
    world: &Arc<Harness>,
    invocation: &Arc<Invocation>,
    batch: Vec<Received>,
    handler: impl AsyncFnOnce(SqsEvent) -> SqsBatchResponse,
) {
    world.note(invocation, || {
        let ids: Vec<String> = batch.iter().map(|m| format!("{}/{}", m.id, m.receipt)).collect();
        format!("batch {}", ids.join(" "))
    });
    // An event that cannot be read is an invocation that fails.
    let Ok(event) = serde_json::from_value(event(&batch)) else { return };
    if world.is(Mutation::AcknowledgeFirst) {
        acknowledge(world, invocation, &batch, &BTreeSet::new());
        handler(event).await;
        return;
    }
    let response = handler(event).await;
    let mut failed: BTreeSet<String> =
        response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
    if world.is(Mutation::IgnoreFailures) {
        failed.clear();
    }
    if world.is(Mutation::ReportOthers) {
        failed.insert("other".to_owned());
    }
    // Lambda may die as well before it deletes anything.
    world.may_die(invocation, "acknowledge", Moment::Before).await;
    acknowledge(world, invocation, &batch, &failed);
}

fn acknowledge(
    world: &Harness,
    invocation: &Invocation,
    batch: &[Received],
    failed: &BTreeSet<String>,
) {
    world.note(invocation, || format!("failed: {failed:?}"));
    if !failed.iter().all(|id| batch.iter().any(|message| message.id == *id)) {
        let unknown = || format!("{failed:?}");
        lock(&world.model).violate(Rule::OwnMessages, unknown);
        return;
    }
    let events = invocation.function == Function::Dispatch;
    let queue = if events { &world.events } else { &world.tasks };
    for message in batch.iter().filter(|message| !failed.contains(&message.id)) {
        if events {
            let name = event_name(message);
            lock(&world.model).dispatched(&name, world.now());
        }
        // SQS may keep a message that it was told to delete.
        if !world.random.chance(world.faults().queue().not_deleted) {
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
pub(crate) fn retry(world: &Arc<Harness>) {
    world.invoke(Function::Retry, |invocation| {
        let world = Arc::clone(world);
        Box::pin(async move {
            let ports = Ports::new(&world, &invocation);
            let handler = Retry {
                due_index: ports.clone(),
                queue: ports,
                clock: Arc::new(world.clock.clone()),
            };
            let report = handler.handle().await;
            world.note(&invocation, || format!("{report:?}"));
        })
    });
}

/// Does one run of the cleanup, with so much time. Without `days` it keeps what is configured.
pub(crate) fn clean(world: &Arc<Harness>, days: Option<u32>, time: Duration) {
    world.invoke(Function::Cleanup, |invocation| {
        let world = Arc::clone(world);
        Box::pin(async move { clean_as(&world, &invocation, days, time).await })
    });
}

pub(crate) async fn clean_as(
    world: &Arc<Harness>,
    invocation: &Arc<Invocation>,
    days: Option<u32>,
    time: Duration,
) {
    let keeps = Duration::from_hours(u64::from(days.unwrap_or(RETENTION_DAYS)) * 24);
    lock(&world.model).cleans(invocation.number, keeps);
    let ports = Ports::new(world, invocation);
    let handler = Cleanup {
        subscriptions: ports.clone(),
        cleanup_state: ports,
        clock: Arc::new(world.clock.clone()),
        retention_days: RETENTION_DAYS,
    };
    let deadline = world.now().plus(time);
    let report = handler.handle(cleanup::Request { days }, deadline).await;
    world.note(invocation, || format!("{report:?}"));
}

/// Asks the function of the API that has this route.
pub(crate) async fn ask(world: &Arc<Harness>, invocation: &Arc<Invocation>, call: &Call) -> Reply {
    let request: ApiGatewayV2httpRequest = call.request();
    let ports = Ports::new(world, invocation);
    let (clock, random) = (Arc::new(world.clock.clone()), Arc::new(world.secrets.clone()));
    let route = request.route_key.clone().unwrap_or_default();
    let response = if route.ends_with("/test") {
        let function = TestWebhook {
            subscriptions: ports.clone(),
            deliveries: ports.clone(),
            statistics: ports.clone(),
            sender: ports,
            clock,
            random,
            policy: POLICY,
            retention: RETENTION,
        };
        function.handle(request).await
    } else if route.contains("deliveries") {
        let function = DeliveryHistory {
            subscriptions: ports.clone(),
            deliveries: ports.clone(),
            queue: ports,
            clock,
            random,
        };
        function.handle(request).await
    } else {
        let function = SubscriptionsApi {
            subscriptions: ports.clone(),
            statistics: ports,
            clock,
            random,
            policy: POLICY,
            retention: RETENTION,
        };
        function.handle(request).await
    };
    let reply = Reply::of(&response);
    world.note(invocation, || format!("{route}: {} {}", reply.status(), reply.text()));
    reply
}
