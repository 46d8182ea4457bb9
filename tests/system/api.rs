//! Every route, as a user meets it.

use serde_json::{Value, json};
use webhooks_api::{FALLBACK_ROUTES, ROUTES};
use webhooks_core::catalogue::EventType;

use crate::harness::{Local, text, token};

fn webhook(url: &str) -> Value {
    json!({"url": url, "event_types": ["task.created", "email.received"]})
}

/// The path of a route with ids in it.
fn path(route: &str, webhook: &str, delivery: &str) -> String {
    route.replace("{id}", webhook).replace("{delivery_id}", delivery)
}

#[tokio::test]
async fn every_route_requires_a_valid_token() {
    let local = Local::start().await;
    let good = token("u");
    let (head, tail) = good.rsplit_once('.').unwrap();
    let swapped: String = tail.chars().rev().collect();
    let unsigned = {
        use base64::Engine as _;
        let encode = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
        let claims = head.split_once('.').unwrap().1;
        format!("{}.{claims}.", encode(r#"{"alg":"none","typ":"JWT"}"#))
    };
    let bad = [None, Some(""), Some("x"), Some(head), Some(&swapped), Some(&unsigned)];
    let forged = format!("{head}.{swapped}");
    let delivery = "dlv_01J00000000000000000000000";
    for route in ROUTES.iter().chain(FALLBACK_ROUTES).filter(|route| !route.is_public) {
        let path = path(route.path, "wh_01J00000000000000000000000", delivery);
        for token in bad.iter().copied().chain([Some(forged.as_str())]) {
            let (status, body) = local.call(route.method, &path, token, None).await;
            assert_eq!(status, 401, "{} {path} {token:?}", route.method);
            let expected = json!({"message": "Unauthorized"});
            assert_eq!(body, if route.method == "HEAD" { Value::Null } else { expected });
        }
        let (status, _) = local.call(route.method, &path, Some(&good), None).await;
        assert_ne!(status, 401, "{} {path}", route.method);
    }
}

#[tokio::test]
async fn other_users_webhook_returns_404_on_every_route() {
    let local = Local::start().await;
    let (id, _) = local.subscribe("owner", webhook(&local.receiver)).await;
    let test = local.expect(200, "POST", &format!("/api/webhooks/{id}/test"), "owner", None).await;
    let delivery = text(&test["delivery_id"]);
    let missing = "wh_01J00000000000000000000000";
    for route in ROUTES.iter().filter(|route| route.path.contains("{id}")) {
        let body = match (route.method, route.path) {
            ("PATCH", _) => Some(json!({"description": "mine now"})),
            ("POST", "/api/webhooks/{id}/recoveries") => {
                Some(json!({"since": "2026-01-31T09:00:00Z"}))
            }
            _ => None,
        };
        let thief = token("thief");
        let call = async |webhook: &str| {
            let path = path(route.path, webhook, &delivery);
            local.call(route.method, &path, Some(&thief), body.clone()).await
        };
        let foreign = call(&id).await;
        assert_eq!(foreign.0, 404, "{} {}: {}", route.method, route.path, foreign.1);
        assert_eq!(foreign, call(missing).await, "{} {}", route.method, route.path);
        assert_eq!(foreign, call("1").await, "{} {}", route.method, route.path);
    }
    let mine = local.expect(200, "GET", &format!("/api/webhooks/{id}"), "owner", None).await;
    assert_eq!(mine["description"], Value::Null);
    assert_eq!(mine["statistics"]["total_deliveries"], 1);
}

#[tokio::test]
async fn webhook_is_created_changed_and_deleted() {
    let local = Local::start().await;
    let types = local.expect(200, "GET", "/api/webhooks/event-types", "u", None).await;
    let names =
        types["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap());
    assert!(names.eq(EventType::all().map(EventType::name)));

    let body = json!({
        "url": "https://example.com/hook", "event_types": ["task.created"], "description": "d",
        "retry_count": 5, "timeout_seconds": 20,
    });
    let created = local.expect(201, "POST", "/api/webhooks", "u", Some(body)).await;
    let id = text(&created["id"]);
    assert!(text(&created["secret"]).starts_with("whsec_"));

    let path = format!("/api/webhooks/{id}");
    let shown = local.expect(200, "GET", &path, "u", None).await;
    assert_eq!(shown.get("secret"), None);
    assert_eq!(shown["statistics"]["success_rate"], Value::Null);
    for field in ["url", "event_types", "description", "retry_count", "timeout_seconds"] {
        assert_eq!(shown[field], created[field], "{field}");
    }
    let patch = json!({"is_active": false, "retry_count": 0});
    let patched = local.expect(200, "PATCH", &path, "u", Some(patch)).await;
    assert_eq!((&patched["is_active"], &patched["retry_count"]), (&json!(false), &json!(0)));
    let list = local.expect(200, "GET", "/api/webhooks", "u", None).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["next_cursor"], Value::Null);
    local.expect(204, "DELETE", &path, "u", None).await;
    local.expect(404, "GET", &path, "u", None).await;
    local.expect(404, "DELETE", &path, "u", None).await;
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let local = Local::start().await;
    let body = json!({
        "url": "gopher://x", "event_types": ["nope"], "description": 1, "retry_count": -1,
        "timeout_seconds": 61, "colour": "red",
    });
    let problem = local.expect(422, "POST", "/api/webhooks", "u", Some(body)).await;
    let fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().filter_map(|e| e["field"].as_str()).collect();
    let expected =
        ["url", "event_types", "description", "retry_count", "timeout_seconds", "colour"];
    assert_eq!(fields, expected);
    let query = "/api/webhooks?limit=0&cursor=x&page=2";
    let problem = local.expect(422, "GET", query, "u", None).await;
    assert_eq!(problem["errors"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn hundred_webhooks_are_listed_in_pages() {
    let local = Local::start().await;
    let token = token("u");
    let mut made = Vec::new();
    for _ in 0..100 {
        let body = Some(webhook(&local.receiver));
        let (status, webhook) = local.call("POST", "/api/webhooks", Some(&token), body).await;
        assert_eq!(status, 201);
        made.push(text(&webhook["id"]));
    }
    let one_more = Some(webhook(&local.receiver));
    let (status, problem) = local.call("POST", "/api/webhooks", Some(&token), one_more).await;
    assert_eq!(
        (status, &problem["type"]),
        (409, &json!("urn:webhooks:problem:webhook-limit-reached"))
    );

    let mut seen = Vec::new();
    let mut path = "/api/webhooks?limit=7".to_owned();
    loop {
        let (_, page) = local.call("GET", &path, Some(&token), None).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| text(&item["id"])));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/webhooks?limit=7&cursor={cursor}");
    }
    made.reverse();
    assert_eq!(seen, made);
}

#[test]
fn readme_lists_every_route_and_every_problem() {
    let readme = include_str!("../../README.md");
    for route in ROUTES {
        assert!(readme.contains(&format!("`{}`", route.key())), "{}", route.key());
    }
    for problem in webhooks_api::problem::Problem::examples() {
        let details = problem.details();
        let name = details.kind.rsplit(':').next().unwrap();
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}
