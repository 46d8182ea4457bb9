//! What holds of every route of this function.

use proptest::prelude::*;
use test_support::sample;
use webhooks_api::problem::Problem;
use webhooks_api::testing::TestRequest;
use webhooks_api::{ROUTES, Route};
use webhooks_core::ids::RecoveryId;

use super::{Harness, recoveries, succeeded};

fn routes() -> Vec<String> {
    let own = ROUTES.iter().filter(|route| route.function == "delivery-history");
    own.map(Route::key).collect()
}

/// A request to a route that has all it needs.
fn call(route: &str, id: &str, delivery_id: &str) -> TestRequest {
    let call = TestRequest::to(route).with("id", id);
    if route.contains("{delivery_id}") {
        return call.with("delivery_id", delivery_id);
    }
    if route.contains("{recovery_id}") {
        return call.with("recovery_id", recovery_id().as_str());
    }
    if route.starts_with("POST ") { call.body(&recoveries::all()) } else { call }
}

fn recovery_id() -> RecoveryId {
    RecoveryId::first_of(sample::at(1))
}

#[tokio::test]
async fn every_route_requires_a_caller_and_responds() {
    let harness = Harness::new();
    let delivery = succeeded(&harness.webhook("alice", 1).await.id, 1);
    harness.record(&delivery).await;
    recoveries::stored(&harness, &delivery.subscription_id, recovery_id()).await;
    for route in routes() {
        let call = call(&route, delivery.subscription_id.as_str(), delivery.id.as_str());
        let response = harness.send(call.clone().without_token()).await;
        assert_eq!(
            (response.status(), response.problem().as_str()),
            (401, "unauthorized"),
            "{route}"
        );
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        let response = harness.send(call).await;
        assert!((200..300).contains(&response.status()), "{route}: {response:?}");
    }
    assert_eq!(harness.send(TestRequest::to("GET /api/webhooks")).await.problem(), "not-found");
}

#[tokio::test]
async fn other_users_webhook_returns_404() {
    let harness = Harness::new();
    let alices = succeeded(&harness.webhook("alice", 1).await.id, 1);
    let bobs = succeeded(&harness.webhook("bob", 1).await.id, 1);
    harness.record(&alices).await;
    harness.record(&bobs).await;
    let (webhook, delivery) = (alices.subscription_id.as_str(), alices.id.as_str());
    let own = bobs.subscription_id.as_str();
    let missing = sample::subscription_id("bob", 2);
    let missing = missing.as_str();
    for route in routes().into_iter().filter(|route| route.contains("{id}")) {
        // Not even the words about a bad query tell them apart.
        for query in ["", "x=1", "cursor=x"] {
            let send = |id: &str, delivery: &str| {
                harness.send(call(&route, id, delivery).by("bob").query(query))
            };
            let expected = send(missing, bobs.id.as_str()).await;
            assert_eq!(expected.status(), if query.is_empty() { 404 } else { 422 });
            for (id, delivery) in [
                (webhook, delivery),
                (webhook, "x"),
                ("x", delivery),
                ("", ""),
                (missing, delivery),
            ] {
                assert_eq!(send(id, delivery).await, expected, "{route} {id} {delivery}");
            }
            if route.contains("{delivery_id}") {
                for delivery in [delivery, "x", "", webhook, &bobs.id.to_string().to_lowercase()] {
                    assert_eq!(send(own, delivery).await, expected, "{route} {delivery}");
                }
            }
        }
    }
    assert_eq!(harness.queue.take(), []);
}

fn any_query() -> impl Strategy<Value = String> {
    let parameter = (
        proptest::sample::select(vec!["limit", "cursor", "status", "event_type", "since", "until"]),
        prop_oneof![
            Just("1".to_owned()),
            Just("failed".to_owned()),
            Just("task.created".to_owned()),
            "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})",
            "[0-9A-Za-z_%+-]{0,40}",
            ".{0,20}",
        ],
    );
    let parameters = proptest::collection::vec(parameter, 0..5).prop_map(|pairs| {
        let pairs: Vec<String> =
            pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    });
    prop_oneof![4 => parameters, 1 => ".{0,30}"]
}

proptest! {
    #[test]
    fn any_request_returns_a_success_or_a_known_problem(
        route in proptest::sample::select(routes()), query in any_query(), body in ".{0,20}",
        own in any::<bool>(), id in ".{0,40}", delivery_id in ".{0,40}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let harness = Harness::new();
            let delivery = succeeded(&harness.webhook("alice", 1).await.id, 1);
            harness.record(&delivery).await;
            let call = if own {
                call(&route, delivery.subscription_id.as_str(), delivery.id.as_str())
            } else {
                call(&route, &id, &delivery_id)
            };
            let response = harness.send(call.query(&query).text(&body)).await;
            if response.status() >= 300 {
                let kind = response.json()["type"].clone();
                let status = response.status();
                let known = Problem::examples().iter().any(|problem| {
                    let details = problem.details();
                    details.kind == kind && u64::from(details.status) == status
                });
                assert!(known && status < 500, "{response:?}");
            }
        });
    }
}
