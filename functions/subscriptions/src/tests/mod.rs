//! The routes of this function, over the tables in memory, in the JSON of API Gateway.

mod concurrent;
mod limits;
mod lists;
mod routes;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{
    ManualClock, MemoryDeliveries, MemorySubscriptions, MemoryTaskQueue, SeededRandom, TestSealer,
};
use webhooks_api::testing::{TestRequest, TestResponse};
use webhooks_core::ports::Subscriptions;
use webhooks_core::target::TargetPolicy;

use crate::SubscriptionsApi;

const CREATE: &str = "POST /api/webhooks";
const LIST: &str = "GET /api/webhooks";
const GET: &str = "GET /api/webhooks/{id}";
const PATCH: &str = "PATCH /api/webhooks/{id}";
const DELETE: &str = "DELETE /api/webhooks/{id}";
const ROTATE: &str = "POST /api/webhooks/{id}/rotate-secret";

/// Every field of a webhook, in the order of the contract.
const FIELDS: [&str; 21] = [
    "id",
    "url",
    "event_types",
    "filter",
    "description",
    "is_active",
    "disabled_reason",
    "retry_count",
    "retry_schedule",
    "timeout_seconds",
    "headers",
    "rate_limit",
    "while_inactive",
    "auto_recover",
    "signature",
    "public_key",
    "keep_payload",
    "created_at",
    "updated_at",
    "health",
    "signing_secrets",
];

const RETENTION: Duration = Duration::from_hours(30 * 24);

struct Harness {
    api: SubscriptionsApi,
    subscriptions: MemorySubscriptions,
    deliveries: MemoryDeliveries,
    queue: MemoryTaskQueue,
    clock: ManualClock,
}

impl Harness {
    fn new() -> Self {
        let subscriptions = MemorySubscriptions::default();
        Self::over(subscriptions.clone(), Arc::new(subscriptions))
    }

    /// The function sees `port`, the tests see `subscriptions`.
    fn over(subscriptions: MemorySubscriptions, port: Arc<dyn Subscriptions>) -> Self {
        let clock = ManualClock::default();
        let deliveries = MemoryDeliveries::new(Arc::new(clock.clone()));
        let queue = MemoryTaskQueue::default();
        let api = SubscriptionsApi::new(
            port,
            Arc::new(TestSealer),
            Arc::new(deliveries.clone()),
            Arc::new(deliveries.clone()),
            Arc::new(queue.clone()),
            Arc::new(clock.clone()),
            Arc::new(SeededRandom::new(1)),
            TargetPolicy::Strict,
            RETENTION,
        );
        Self { api, subscriptions, deliveries, queue, clock }
    }

    /// Sends a request, and checks what holds of every response.
    async fn send(&self, request: TestRequest) -> TestResponse {
        let shows_secret = matches!(request.route(), CREATE | ROTATE);
        let response = request.send(|request| self.api.handle(request)).await;
        assert_eq!(response.header("cache-control"), Some("no-store"));
        let shown = response.text().matches("whsec_").count();
        assert_eq!(shown, usize::from(shows_secret && response.status() < 300), "{response:?}");
        response
    }

    /// Creates a webhook and returns its id.
    async fn create(&self, user: &str) -> String {
        let response = self.send(TestRequest::to(CREATE).by(user).body(&new_webhook())).await;
        assert_eq!(response.status(), 201);
        text(&response.json()["id"])
    }

    async fn get(&self, id: &str) -> Value {
        let response = self.send(TestRequest::to(GET).with("id", id)).await;
        assert_eq!(response.status(), 200);
        response.json()
    }
}

fn new_webhook() -> Value {
    json!({"url": "https://hooks.example.com/in", "event_types": ["task.created"]})
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
