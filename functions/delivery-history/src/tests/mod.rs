//! The routes of this function, over the tables in memory, in the JSON of API Gateway.

mod across;
mod details;
mod lists;
mod recoveries;
mod routes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::Value;
use test_support::{
    Effect, Intercepted, Interceptor, ManualClock, MemoryDeliveries, MemorySubscriptions,
    MemoryTaskQueue, SeededRandom, sample,
};
use webhooks_api::testing::{TestRequest, TestResponse};
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::ids::SubscriptionId;
use webhooks_core::ports::{
    Deliveries as _, DeliveryWrite, Expect, StoreError, Subscriptions as _,
};
use webhooks_core::subscription::Subscription;

use crate::DeliveryHistory;

const LIST: &str = "GET /api/webhooks/{id}/deliveries";
const GET: &str = "GET /api/webhooks/{id}/deliveries/{delivery_id}";
const REDELIVER: &str = "POST /api/webhooks/{id}/deliveries/{delivery_id}/redeliver";

struct Harness {
    api: DeliveryHistory,
    subscriptions: MemorySubscriptions,
    deliveries: MemoryDeliveries,
    queue: MemoryTaskQueue,
    clock: ManualClock,
    reads: Reads,
}

/// Counts the calls of [`Deliveries`]; a clone counts the same.
#[derive(Clone, Default)]
struct Reads(Arc<AtomicUsize>);

impl Reads {
    /// How many there were since the last time.
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl Interceptor for Reads {
    async fn before(&self, _: &'static str) -> Result<Effect, StoreError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Effect::Done)
    }
}

impl Harness {
    /// A day after the moment that samples count from.
    fn new() -> Self {
        let clock = ManualClock::at(sample::at(86_400));
        let subscriptions = MemorySubscriptions::default();
        let deliveries = MemoryDeliveries::new(Arc::new(clock.clone()));
        let queue = MemoryTaskQueue::default();
        let reads = Reads::default();
        let api = DeliveryHistory::new(
            Arc::new(subscriptions.clone()),
            Arc::new(Intercepted::new(deliveries.clone(), reads.clone())),
            Arc::new(deliveries.clone()),
            Arc::new(queue.clone()),
            Arc::new(clock.clone()),
            Arc::new(SeededRandom::new(1)),
            std::time::Duration::from_hours(720),
        );
        Self { api, subscriptions, deliveries, queue, clock, reads }
    }

    /// Sends a request, and checks what holds of every response.
    async fn send(&self, request: TestRequest) -> TestResponse {
        let response = request.send(|request| self.api.handle(request)).await;
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert!(!response.text().contains("whsec_"), "{response:?}");
        response
    }

    /// The `n`th webhook of a user.
    async fn webhook(&self, user: &str, n: u64) -> Subscription {
        let webhook = sample::subscription(user, n);
        self.subscriptions.create(&webhook).await.unwrap();
        webhook
    }

    /// Records a delivery.
    async fn record(&self, delivery: &Delivery) {
        let written = self.deliveries.put(delivery, Expect::Absent).await.unwrap();
        assert_eq!(written, DeliveryWrite::Applied);
    }

    /// The ids on a page, and the cursor of the next.
    async fn page(&self, webhook: &SubscriptionId, query: &str) -> (Vec<String>, Option<String>) {
        let call = TestRequest::to(LIST).with("id", webhook.as_str()).query(query);
        let response = self.send(call).await;
        assert_eq!(response.status(), 200, "{query}: {response:?}");
        let body = response.json();
        assert_eq!(body.as_object().unwrap().len(), 2);
        let cursor = &body["next_cursor"];
        assert!(cursor.is_string() || cursor.is_null());
        let items = body["items"].as_array().unwrap();
        let ids = items.iter().map(|item| text(&item["id"])).collect();
        (ids, cursor.as_str().map(str::to_owned))
    }
}

/// The `n`th delivery to a webhook, which ended well at the second attempt.
fn succeeded(webhook: &SubscriptionId, n: u64) -> Delivery {
    let mut delivery = sample::delivery(webhook, n);
    let mut last = sample::attempt(n + 2);
    last.response_status = Some(204);
    (last.request_headers, last.response_headers) = (None, None);
    last.response_excerpt.clear();
    delivery.attempts = vec![sample::attempt(n), last];
    delivery.end(Status::Success, sample::at(n + 3));
    delivery
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
