//! What holds of every route of this function.

use proptest::prelude::*;
use serde_json::{Value, json};
use test_support::sample;
use webhooks_api::problem::Problem;
use webhooks_api::testing::TestRequest;
use webhooks_api::{ROUTES, Route};

use super::{CREATE, Harness, PATCH, new_webhook};

fn routes() -> Vec<String> {
    let own = ROUTES.iter().filter(|route| route.function == "subscriptions");
    own.map(Route::key).collect()
}

/// A request to a route that has all it needs.
fn call(route: &str, id: &str) -> TestRequest {
    let call = TestRequest::to(route);
    let call = if route.contains("{id}") { call.with("id", id) } else { call };
    match route {
        CREATE => call.body(&new_webhook()),
        PATCH => call.body(&json!({"retry_count": 1})),
        "DELETE /api/webhooks" => call.query("confirm=all"),
        _ => call,
    }
}

#[tokio::test]
async fn every_route_requires_a_caller_and_responds() {
    for route in routes() {
        let harness = Harness::new();
        let id = harness.create("alice").await;
        let response = harness.send(call(&route, &id).without_token()).await;
        assert_eq!(
            (response.status(), response.problem().as_str()),
            (401, "unauthorized"),
            "{route}"
        );
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        let response = harness.send(call(&route, &id)).await;
        assert!((200..300).contains(&response.status()), "{route}: {response:?}");
    }
    let response = Harness::new().send(TestRequest::to("PUT /api/webhooks")).await;
    assert_eq!(response.problem(), "not-found");
}

#[tokio::test]
async fn other_users_webhook_returns_404() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let missing = sample::subscription_id("bob", 1);
    for route in routes().iter().filter(|route| route.contains("{id}")) {
        // Not even the words about a bad body or query tell them apart.
        for spoil in [
            TestRequest::clone,
            |call: &TestRequest| call.clone().text("{"),
            |call: &TestRequest| call.clone().query("x=1"),
        ] {
            let send = |id: &str| harness.send(spoil(&call(route, id).by("bob")));
            let expected = send(missing.as_str()).await;
            assert!(expected.status() >= 400);
            for other in [id.as_str(), "x", "", "..", &id.to_lowercase()] {
                assert_eq!(send(other).await, expected, "{route} {other}");
            }
        }
        assert_eq!(harness.send(call(route, &id).by("bob")).await.problem(), "not-found");
    }
    assert_eq!(harness.subscriptions.snapshot().len(), 1);
    assert_eq!(harness.subscriptions.snapshot()[0].version, 1);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
        "https?://[a-z0-9.:/@\\[\\]]{0,20}".prop_map(Into::into),
        Just("task.created".into()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::hash_map(".{0,5}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn any_body() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        proptest::sample::select(vec![
            "url",
            "event_types",
            "description",
            "retry_count",
            "retry_schedule",
            "filter",
            "timeout_seconds",
            "is_active",
            "overlap_seconds",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    let object = proptest::collection::hash_map(field, any_value(), 0..8);
    prop_oneof![
        object.prop_map(|map| map.into_iter().collect::<Value>().to_string()),
        any_value().prop_map(|value| value.to_string()),
        ".{0,60}",
        "[\\[\\]{}\",:0-9eE.+\\\\-]{0,60}",
    ]
}

fn any_query() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "(limit|cursor|page)?=?[0-9A-Za-z_%&=+-]{0,30}", ".{0,30}",]
}

proptest! {
    #[test]
    fn any_request_returns_a_success_or_a_known_problem(
        route in proptest::sample::select(routes()),
        body in any_body(), query in any_query(), encoded in any::<bool>(), id in ".{0,40}",
        own in any::<bool>(), user in ".{0,10}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let harness = Harness::new();
            let known = harness.create("alice").await;
            let user = if own { "alice".to_owned() } else { user };
            let id = if own { known } else { id };
            let call = TestRequest::to(&route).by(&user).with("id", &id).query(&query);
            let call = if encoded { call.bytes(body.as_bytes()) } else { call.text(&body) };
            let response = harness.send(call).await;
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
