//! Requests of the API to the deployed handlers over tables in memory.
//!
//! Alice has a webhook with a delivery; so has Bob. Alice asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use delivery_history::DeliveryHistory;
use serde_json::{Value, json};
use subscriptions::SubscriptionsApi;
use test_support::{
    ManualClock, MemoryDeliveries, MemorySubscriptions, MemoryTaskQueue, SeededRandom, TestSealer,
    sample,
};
use webhooks_api::testing::{TestRequest, TestResponse};
use webhooks_core::limits::{API_BODY_BYTES, PAGE_MAX};
use webhooks_core::ports::{Deliveries as _, Expect, Subscriptions as _};
use webhooks_core::subscription::Subscription;
use webhooks_core::target::TargetPolicy;

use crate::{run, text};

const CREATE: &str = "POST /api/webhooks";
const LIST: &str = "GET /api/webhooks";
const GET: &str = "GET /api/webhooks/{id}";
const PATCH: &str = "PATCH /api/webhooks/{id}";
const DELETE: &str = "DELETE /api/webhooks/{id}";
const ROTATE: &str = "POST /api/webhooks/{id}/rotate-secret";
const HISTORY: &str = "GET /api/webhooks/{id}/deliveries";
const DELIVERY: &str = "GET /api/webhooks/{id}/deliveries/{delivery_id}";
const REDELIVER: &str = "POST /api/webhooks/{id}/deliveries/{delivery_id}/redeliver";

/// The routes that read a body.
const WITH_BODY: [&str; 4] = [CREATE, PATCH, ROTATE, REDELIVER];
/// The routes that read ids and a query.
const WITH_QUERY: [&str; 9] =
    [LIST, HISTORY, GET, DELIVERY, DELETE, REDELIVER, PATCH, ROTATE, CREATE];
/// What a client may change, by the names under which it is shown.
const CHANGEABLE: [&str; 14] = [
    "url",
    "event_types",
    "filter",
    "description",
    "retry_count",
    "retry_schedule",
    "timeout_seconds",
    "headers",
    "rate_limit",
    "while_inactive",
    "auto_recover",
    "signature",
    "keep_payload",
    "is_active",
];
/// A response names at most 100 fields with 128 bytes of each name, which JSON may escape.
const RESPONSE_BYTES: usize = 128 * 1024;

/// A digit that chooses a route of `WITH_BODY`, then the body.
pub fn api_body(input: &[u8]) {
    let Some((route, body)) = choose(&WITH_BODY, input) else { return };
    let harness = Harness::new();
    let request = harness.to(route);
    let response = match text(body) {
        Some(body) => harness.send(&request.text(body)),
        None => harness.send(&request.bytes(body)),
    };
    let too_large = response.status() == 413;
    assert_eq!(too_large, body.len() > API_BODY_BYTES, "{} bytes: {response:?}", body.len());
    if route == CREATE && response.status() == 201 {
        harness.check_created(&response.json());
    }
    harness.check_bystanders(route == ROTATE || route == CREATE, &response);
}

/// A digit that chooses a route of `WITH_QUERY`; then, a line each, the webhook's id, the
/// delivery's id and the query. `@` as an id is one of Alice's.
pub fn api_query(input: &[u8]) {
    let Some((route, rest)) = choose(&WITH_QUERY, input) else { return };
    let Some(rest) = text(rest) else { return };
    let mut lines = rest.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (id, delivery_id, query) = (line(), line(), line());
    let harness = Harness::new();
    let request = harness.to(route);
    let request = if id == "@" { request } else { request.with("id", id) };
    let request =
        if delivery_id == "@" { request } else { request.with("delivery_id", delivery_id) };
    let response = harness.send(&request.clone().query(query));
    harness.check_bystanders(route == ROTATE || route == CREATE, &response);

    // Without the query, only ids that are hers are found.
    let plain = Harness::new().send(&request);
    let hers = route == LIST
        || route == CREATE
        || id == "@"
        // The fuzzer has found it out.
        || id == harness.alice.id.as_str();
    assert!(hers || plain.status() == 404 || plain.status() == 400, "{id:?}: {plain:?}");

    if response.status() == 200 && (route == LIST || route == HISTORY) {
        let page = response.json();
        assert!(page["items"].as_array().unwrap().len() <= PAGE_MAX);
    }
}

/// The route that the first byte chooses, and what follows it.
fn choose<'a>(routes: &[&'static str], input: &'a [u8]) -> Option<(&'static str, &'a [u8])> {
    let (first, rest) = input.split_first()?;
    let route = routes.get(usize::from(first.checked_sub(b'0')?))?;
    Some((route, rest))
}

struct Harness {
    webhooks: SubscriptionsApi,
    deliveries: DeliveryHistory,
    subscriptions: MemorySubscriptions,
    alice: Subscription,
    bob: Subscription,
}

impl Harness {
    fn new() -> Self {
        let clock = ManualClock::default();
        let subscriptions = MemorySubscriptions::default();
        let rows = MemoryDeliveries::new(Arc::new(clock.clone()));
        let [alice, bob] = ["alice", "bob"].map(|user| {
            let subscription = sample::subscription(user, 1);
            run(subscriptions.create(&subscription)).unwrap();
            let delivery = sample::delivery(&subscription.id, 1);
            run(rows.put(&delivery, Expect::Absent)).unwrap();
            subscription
        });
        let random = Arc::new(SeededRandom::new(1));
        let webhooks = SubscriptionsApi::new(
            Arc::new(subscriptions.clone()),
            Arc::new(TestSealer),
            Arc::new(rows.clone()),
            Arc::new(rows.clone()),
            Arc::new(MemoryTaskQueue::default()),
            Arc::new(clock.clone()),
            random.clone(),
            TargetPolicy::Strict,
            Duration::from_hours(30 * 24),
        );
        let deliveries = DeliveryHistory::new(
            Arc::new(subscriptions.clone()),
            Arc::new(rows.clone()),
            Arc::new(rows),
            Arc::new(MemoryTaskQueue::default()),
            Arc::new(clock),
            random,
            Duration::from_hours(30 * 24),
        );
        Self { webhooks, deliveries, subscriptions, alice, bob }
    }

    /// A request to a route, with Alice's own ids in its path.
    fn to(&self, route: &str) -> TestRequest {
        let mut request = TestRequest::to(route);
        if route.contains("{id}") {
            request = request.with("id", self.alice.id.as_str());
        }
        if route.contains("{delivery_id}") {
            let delivery = sample::delivery_id(&self.alice.id, 1);
            request = request.with("delivery_id", delivery.as_str());
        }
        request
    }

    /// Sends a request, and checks what holds of every response.
    fn send(&self, request: &TestRequest) -> TestResponse {
        let response = if request.route().contains("/deliveries") {
            run(request.send(|request| self.deliveries.handle(request)))
        } else {
            run(request.send(|request| self.webhooks.handle(request)))
        };
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert!(
            response.text().len() <= RESPONSE_BYTES,
            "a response of {} bytes",
            response.text().len()
        );
        match response.status() {
            200 | 201 | 202 | 204 => {}
            400 | 404 | 409 | 413 => drop(response.problem()),
            422 => {
                assert_eq!(response.problem(), "invalid-fields");
                let errors = response.json()["errors"].as_array().cloned().unwrap_or_default();
                assert!((1..=100).contains(&errors.len()), "{response:?}");
                assert!(errors.iter().all(|error| error["message"] != ""), "{response:?}");
            }
            other => panic!("{other}: {response:?}"),
        }
        response
    }

    /// A webhook that was made is found as it was shown, and what was shown can be sent back.
    fn check_created(&self, created: &Value) {
        let id = created["id"].as_str().unwrap();
        let shown = self.send(&TestRequest::to(GET).with("id", id)).json();
        let mut patch = BTreeMap::new();
        for name in CHANGEABLE {
            assert_eq!(shown[name], created[name]);
            patch.insert(name, created[name].clone());
        }
        let response = self.send(&TestRequest::to(PATCH).with("id", id).body(&json!(patch)));
        // The webhook that is shown may be larger than the body that made it: escapes.
        if response.status() != 413 {
            assert_eq!(response.status(), 200, "{response:?}");
            assert!(CHANGEABLE.iter().all(|name| response.json()[name] == created[name]));
        }
    }

    /// Bob's webhook is as it was, and nobody's secret is shown but the one that is new.
    fn check_bystanders(&self, may_show_new: bool, response: &TestResponse) {
        let rows = self.subscriptions.snapshot();
        let bobs = rows.iter().find(|row| row.id == self.bob.id);
        assert_eq!(format!("{bobs:?}"), format!("{:?}", Some(&self.bob)));
        let shown = response.text();
        for row in rows {
            for (age, secret) in TestSealer.secrets_of(&row).iter().enumerate() {
                let is_new = may_show_new && age == 0 && row.id != self.bob.id;
                assert!(is_new || !shown.contains(secret.expose()), "{response:?}");
            }
        }
        assert!(!shown.contains(sample::secret("alice", 1).expose()), "{response:?}");
        assert!(!shown.contains("whsk_"), "{response:?}");
    }
}
