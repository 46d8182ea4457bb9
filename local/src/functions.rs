//! The deployed handlers over the local tables, queues and HTTP client.

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use cleanup::Cleanup;
use console::{Console, Settings};
use deliver::Deliver;
use delivery_history::DeliveryHistory;
use dispatch::Dispatch;
use futures::future::BoxFuture;
use lambda_http::{Body, Request, Response};
use retry::Retry;
use subscriptions::SubscriptionsApi;
use test_webhook::TestWebhook;
use webhooks_aws::Sealer;
use webhooks_core::limits::RETENTION_DAYS_DEFAULT;
use webhooks_core::ports::{
    Clock, DeadLetterQueue, DeliveriesTable, Random, Sender, Subscriptions, TaskQueue, Timer,
};
use webhooks_core::target::TargetPolicy;
use webhooks_core::verification::EndpointVerification;

use crate::gateway::{self, Route};
use crate::local_api;
use crate::poller;
use crate::template::{HttpRoute, Template};

/// How long deliveries are kept, as deployed by default.
const RETENTION: Duration = Duration::from_secs(RETENTION_DAYS_DEFAULT as u64 * 24 * 60 * 60);
/// How long one cleanup may take: the longest a function may run (AWS quota), less a margin.
pub const CLEANUP_SECONDS: u64 = 14 * 60;

/// The ports of the handlers.
#[derive(Clone)]
pub struct Ports {
    /// The Subscriptions table.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// Seals and opens the signing secrets.
    pub sealer: Arc<Sealer>,
    /// The Deliveries table.
    pub deliveries: Arc<dyn DeliveriesTable>,
    /// The deliveries queue.
    pub queue: Arc<dyn TaskQueue>,
    /// The slow deliveries queue.
    pub slow_queue: Arc<dyn TaskQueue>,
    /// The dead-letter queue of the events.
    pub dead_letter_queue: Arc<dyn DeadLetterQueue>,
    /// The outbound HTTP client.
    pub sender: Arc<dyn Sender>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The timer.
    pub timer: Arc<dyn Timer>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// How strict the rules for targets are.
    pub policy: TargetPolicy,
    /// Whether endpoints have to prove that they want a webhook.
    pub verification: EndpointVerification,
    /// Whether the data of events is checked against the schema of its type.
    pub strict_event_data: bool,
}

/// One run of a function by its schedule.
pub(crate) type Scheduled = Box<dyn Fn() -> BoxFuture<'static, ()> + Send>;

/// Every function of the service.
#[derive(Clone)]
pub struct Functions {
    console: Arc<Console>,
    subscriptions: Arc<SubscriptionsApi>,
    deliveries: Arc<DeliveryHistory>,
    test_webhook: Arc<TestWebhook>,
    dispatch: Arc<Dispatch>,
    deliver: poller::Handler,
    /// Puts due retries back onto the queue.
    pub retry: Arc<Retry>,
    /// Removes old deliveries.
    pub cleanup: Arc<Cleanup>,
    clock: Arc<dyn Clock>,
}

impl Functions {
    /// Wires every function.
    pub fn new(ports: &Ports) -> Self {
        let Ports {
            subscriptions,
            sealer,
            deliveries,
            queue,
            slow_queue,
            dead_letter_queue,
            sender,
            clock,
            timer: _,
            random,
            policy,
            verification,
            strict_event_data,
        } = ports.clone();
        let console = Settings {
            token_url: Some(local_api::TOKEN_PATH.to_owned()),
            development: policy == TargetPolicy::Development,
            ..Settings::default()
        };
        Self {
            console: Arc::new(Console::new(&console)),
            subscriptions: Arc::new(
                SubscriptionsApi::new(
                    subscriptions.clone(),
                    sealer.clone(),
                    deliveries.clone(),
                    deliveries.clone(),
                    slow_queue.clone(),
                    clock.clone(),
                    random.clone(),
                    policy,
                    RETENTION,
                )
                .with_endpoint_verification(verification),
            ),
            deliveries: Arc::new(DeliveryHistory::new(
                subscriptions.clone(),
                deliveries.clone(),
                deliveries.clone(),
                slow_queue.clone(),
                clock.clone(),
                random.clone(),
                RETENTION,
            )),
            test_webhook: Arc::new(TestWebhook::new(
                subscriptions.clone(),
                sealer.clone(),
                deliveries.clone(),
                deliveries.clone(),
                deliveries.clone(),
                sender.clone(),
                clock.clone(),
                random.clone(),
                RETENTION,
            )),
            dispatch: Arc::new(
                Dispatch::new(
                    subscriptions.clone(),
                    queue.clone(),
                    slow_queue.clone(),
                    dead_letter_queue,
                )
                .with_strict_event_data(strict_event_data),
            ),
            deliver: deliver(ports),
            retry: Arc::new(Retry::new(
                deliveries.clone(),
                deliveries.clone(),
                deliveries.clone(),
                slow_queue,
                clock.clone(),
            )),
            cleanup: Arc::new(Cleanup::new(
                subscriptions,
                deliveries,
                clock.clone(),
                RETENTION_DAYS_DEFAULT,
            )),
            clock,
        }
    }

    /// Every route of the API with its function, or the name of a function that is missing here.
    pub fn routes(&self) -> Result<Vec<Route>, &'static str> {
        let handler = |function| match function {
            "console" => Some(api(self.console.clone(), |function, request| async move {
                function.handle(&request)
            })),
            "event-types" => Some(api((), |(), request| event_types::handle(request))),
            "subscriptions" => {
                Some(api(self.subscriptions.clone(), |function, request| async move {
                    function.handle(request).await
                }))
            }
            "delivery-history" => {
                Some(api(self.deliveries.clone(), |function, request| async move {
                    function.handle(request).await
                }))
            }
            "test-webhook" => {
                Some(api(self.test_webhook.clone(), |function, request| async move {
                    function.handle(request).await
                }))
            }
            _ => None,
        };
        let route = |HttpRoute { method, path, function, is_public }| {
            let handler = handler(function).ok_or(function)?;
            Ok(Route { method, path, is_public, handler })
        };
        Template::deployed().routes().map(route).collect()
    }

    /// One run of a function that has a schedule; `None` for any other.
    pub(crate) fn scheduled(&self, function: &str) -> Option<Scheduled> {
        match function {
            "retry" => {
                let retry = self.retry.clone();
                Some(Box::new(move || {
                    let retry = retry.clone();
                    Box::pin(async move {
                        if let Err(error) = retry.handle().await {
                            tracing::error!(%error, "the retry schedule failed");
                        }
                    })
                }))
            }
            "cleanup" => {
                let (cleanup, clock) = (self.cleanup.clone(), self.clock.clone());
                Some(Box::new(move || {
                    let cleanup = cleanup.clone();
                    let deadline = clock.now().plus_seconds(CLEANUP_SECONDS);
                    Box::pin(async move {
                        let request = cleanup::Request::default();
                        if let Err(error) = cleanup.handle(request, deadline).await {
                            tracing::error!(%error, "the cleanup schedule failed");
                        }
                    })
                }))
            }
            _ => None,
        }
    }

    /// The function behind the events queue.
    pub fn dispatch(&self) -> poller::Handler {
        queue(self.dispatch.clone(), |function, batch| async move { function.handle(batch).await })
    }

    /// The function behind the deliveries queue.
    pub fn deliver(&self) -> poller::Handler {
        self.deliver.clone()
    }
}

/// The function behind a deliveries queue, over ports of its own.
pub(crate) fn deliver(ports: &Ports) -> poller::Handler {
    let Ports { subscriptions, sealer, deliveries, sender, clock, timer, random, .. } =
        ports.clone();
    let deliver = Deliver::new(
        subscriptions,
        sealer,
        deliveries.clone(),
        deliveries.clone(),
        deliveries,
        ports.queue.clone(),
        ports.slow_queue.clone(),
        sender,
        clock,
        timer,
        random,
        RETENTION,
    );
    queue(Arc::new(deliver), |function, batch| async move { function.handle(batch).await })
}

fn api<T, F>(
    function: T,
    call: impl Fn(T, Request) -> F + Send + Sync + 'static,
) -> gateway::Handler
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |request| Box::pin(call(function.clone(), request)))
}

fn queue<T, F>(
    function: T,
    call: impl Fn(T, SqsEvent) -> F + Send + Sync + 'static,
) -> poller::Handler
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = SqsBatchResponse> + Send + 'static,
{
    Arc::new(move |batch| {
        let called = call(function.clone(), batch);
        Box::pin(async move { Ok(called.await) })
    })
}
