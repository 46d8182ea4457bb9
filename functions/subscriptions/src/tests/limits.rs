//! Scopes, rate limits, the block list, endpoint verification, and deleting all webhooks.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{LogLines, sample};
use tracing::level_filters::LevelFilter;
use webhooks_api::ROUTES;
use webhooks_api::testing::TestRequest;
use webhooks_core::limits::{API_CHANGES, BLOCKED_HOSTS_SECONDS};
use webhooks_core::ports::{Clock as _, Subscriptions as _};
use webhooks_core::verification::EndpointVerification;
use webhooks_runtime::telemetry;

use super::{CREATE, DELETE, GET, Harness, LIST, PATCH, new_webhook};

const DELETE_ALL: &str = "DELETE /api/webhooks";

#[tokio::test]
async fn token_without_the_scope_of_the_route_returns_403() {
    let harness = Harness::new();
    for route in ROUTES.iter().filter(|route| route.function == "subscriptions") {
        let request = TestRequest::to(&route.key());
        let other = if route.access.scope() == "webhooks:read" { "write" } else { "read" };
        let response = harness.send(request.scope(&format!("openid webhooks:{other}"))).await;
        assert_eq!(response.problem(), "insufficient-scope", "{}", route.key());
        let detail = response.json()["detail"].to_string();
        assert!(detail.contains(route.access.scope()), "{detail}");
    }
    let allowed = TestRequest::to(CREATE).scope("webhooks:write").body(&new_webhook());
    assert_eq!(harness.send(allowed).await.status(), 201);
    assert_eq!(harness.send(TestRequest::to(LIST).scope("webhooks:read")).await.status(), 200);
}

#[tokio::test]
async fn user_over_the_rate_limit_gets_429_and_others_do_not() {
    let harness = Harness::new();
    let request = || TestRequest::to(DELETE).with("id", "none").at(sample::at(0));
    for _ in 0..API_CHANGES.burst {
        assert_eq!(harness.send(request()).await.problem(), "not-found");
    }
    let response = harness.send(request()).await;
    assert_eq!((response.status(), response.problem().as_str()), (429, "rate-limited"));
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(harness.send(request().by("bob")).await.problem(), "not-found");
    let read = TestRequest::to(LIST).at(sample::at(0));
    assert_eq!(harness.send(read).await.status(), 200, "reads have a limit of their own");
    assert_eq!(harness.send(request().at(sample::at(1))).await.problem(), "not-found");
}

#[tokio::test]
async fn each_change_is_logged_with_its_user_and_fields_but_without_values() {
    let (harness, lines) = (Harness::new(), LogLines::default());
    let writer = lines.clone();
    let subscriber =
        telemetry::subscriber("subscriptions".to_owned(), LevelFilter::INFO, move || {
            writer.clone()
        });
    // For all tests of this program: `tracing` remembers which lines nobody wants, for all threads.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let id = harness.create("logged").await;
    let to = |route| TestRequest::to(route).by("logged").with("id", &id);
    let renamed = json!({"description": "a name that is private", "headers": {"x-key": "a key"}});
    assert_eq!(harness.send(to(PATCH).body(&renamed)).await.status(), 200);
    assert_eq!(harness.send(to(PATCH).by("logged-other").body(&renamed)).await.status(), 404);
    assert_eq!(harness.send(to(GET)).await.status(), 200);
    assert_eq!(harness.send(to(DELETE)).await.status(), 204);

    let text = lines.text();
    let text: Vec<_> = text.lines().filter(|line| line.contains("\"logged")).collect();
    let secret = ["private", "a key", "whsec_"];
    assert!(!text.iter().any(|line| secret.iter().any(|value| line.contains(value))), "{text:?}");
    let lines = text.into_iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let changes: Vec<_> = lines.filter(|line| line["message"] == "change by a user").collect();
    let shown = |name: &str| changes.iter().map(|line| line[name].clone()).collect::<Vec<_>>();
    assert_eq!(shown("user_id"), ["logged", "logged", "logged-other", "logged"]);
    assert_eq!(shown("http.status"), [201, 200, 404, 204]);
    assert_eq!(shown("http.route"), [CREATE, PATCH, PATCH, DELETE]);
    assert_eq!(shown("problem")[2], "urn:webhooks:problem:not-found");
    assert_eq!(shown("fields")[1], "description headers");
    assert_eq!(shown("subscription_id")[1..], [id.as_str(); 3]);
    assert!(changes.iter().all(|line| line["http.source_ip"].is_string()), "{changes:?}");
}

#[tokio::test]
async fn blocked_user_reads_and_changes_nothing() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    harness.subscriptions.block_user(&sample::user("alice"));
    for request in [
        TestRequest::to(CREATE).body(&new_webhook()),
        TestRequest::to(PATCH).with("id", &id).body(&json!({"is_active": false})),
        TestRequest::to(DELETE).with("id", &id),
        TestRequest::to(DELETE_ALL).query("confirm=all"),
    ] {
        let response = harness.send(request).await;
        assert_eq!((response.status(), response.problem().as_str()), (403, "user-blocked"));
    }
    assert_eq!(harness.get(&id).await["is_active"], true);
    harness.create("bob").await;
}

#[tokio::test]
async fn blocked_host_is_refused_in_create_and_patch() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    harness.subscriptions.block_host("example.com");
    harness.clock.advance(Duration::from_secs(BLOCKED_HOSTS_SECONDS));
    let patch = |body| TestRequest::to(PATCH).with("id", &id).body(&body);
    for request in [
        TestRequest::to(CREATE).body(&new_webhook()),
        patch(json!({"url": "https://EXAMPLE.com/other"})),
    ] {
        let response = harness.send(request).await;
        assert_eq!((response.status(), response.fields()), (422, vec!["url".to_owned()]));
    }
    assert_eq!(harness.send(patch(json!({"is_active": false}))).await.status(), 200);
    assert_eq!(harness.send(patch(json!({"url": "https://example.org/"}))).await.status(), 200);
}

#[tokio::test]
async fn delete_all_deletes_the_webhooks_of_the_caller_only() {
    let harness = Harness::new();
    let ids = [harness.create("alice").await, harness.create("alice").await];
    let other = harness.create("bob").await;
    for query in ["", "confirm=yes", "confirm=all&confirm=all"] {
        let response = harness.send(TestRequest::to(DELETE_ALL).query(query)).await;
        assert_eq!((response.status(), response.fields()), (422, vec!["confirm".to_owned()]));
    }
    for deleted in [2, 0] {
        let response = harness.send(TestRequest::to(DELETE_ALL).query("confirm=all")).await;
        assert_eq!((response.status(), response.json()), (202, json!({"deleted": deleted})));
    }
    for id in ids {
        let response = harness.send(TestRequest::to(GET).with("id", &id)).await;
        assert_eq!(response.problem(), "not-found");
    }
    let response = harness.send(TestRequest::to(GET).by("bob").with("id", &other)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(harness.subscriptions.tombstones(), 2, "for the cleanup");
}

fn requiring() -> Harness {
    let harness = Harness::new();
    let api = harness.api.with_endpoint_verification(EndpointVerification::Required);
    Harness { api, ..harness }
}

#[tokio::test]
async fn new_webhook_is_inactive_until_its_endpoint_is_verified() {
    let harness = requiring();
    let id = harness.create("alice").await;
    let shown = harness.get(&id).await;
    assert_eq!(shown["is_active"], false);
    assert_eq!(shown["disabled_reason"], "endpoint_unverified");
    let row = harness.subscriptions.snapshot().remove(0);
    let token = row.verification.unwrap();
    assert!(!shown.to_string().contains(token.expose()), "only the endpoint gets the token");

    let patch = |body| TestRequest::to(PATCH).with("id", &id).body(&body);
    let response = harness.send(patch(json!({"is_active": true}))).await;
    assert_eq!((response.status(), response.problem().as_str()), (409, "endpoint-unverified"));
    assert_eq!(harness.send(patch(json!({"description": "d"}))).await.status(), 200);
    let shown = harness.get(&id).await;
    assert_eq!(harness.send(patch(shown)).await.status(), 200, "what was shown can be sent back");
    let row = harness.subscriptions.snapshot().remove(0);
    assert_eq!((row.is_active, row.verification), (false, Some(token)));
}

#[tokio::test]
async fn changed_url_needs_another_proof() {
    let harness = requiring();
    let id = harness.create("alice").await;
    let patch = |body| TestRequest::to(PATCH).with("id", &id).body(&body);
    let first = harness.subscriptions.snapshot().remove(0);
    let (mut verified, version) = (first.clone(), first.version);
    verified.verify(harness.clock.now());
    assert!(harness.subscriptions.update(&verified, version).await.unwrap().is_applied());
    assert_eq!(harness.get(&id).await["is_active"], true);

    // The same URL is no change.
    let same = json!({"url": new_webhook()["url"], "timeout_seconds": 7, "is_active": true});
    assert_eq!(harness.send(patch(same)).await.json()["is_active"], true);
    let other = json!({"url": "https://other.example/", "is_active": true});
    let response = harness.send(patch(other)).await;
    assert_eq!((response.status(), &response.json()["is_active"]), (200, &json!(false)));
    let row = harness.subscriptions.snapshot().remove(0);
    assert!(row.verification.is_some() && row.verification != first.verification);
}
