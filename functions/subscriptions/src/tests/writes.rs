//! Creating, changing and deleting webhooks, and new secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Intercepted, MemorySubscriptions, TestSealer, sample};
use webhooks_api::testing::{TestRequest, TestResponse};
use webhooks_core::delivery::DeliveryTask;
use webhooks_core::limits::{WEBHOOKS_CREATED_PER_DAY, WEBHOOKS_PER_USER};
use webhooks_core::ports::{Clock as _, Creation, Subscriptions as _};
use webhooks_core::subscription::{DisabledReason, Subscription};

use super::concurrent::{Concurrent, Event};
use super::{CREATE, DELETE, FIELDS, GET, Harness, PATCH, ROTATE, new_webhook, text};
use crate::CHANGE_TRIES;

async fn patch(harness: &Harness, id: &str, body: &Value) -> TestResponse {
    harness.send(TestRequest::to(PATCH).with("id", id).body(body)).await
}

async fn rotate(harness: &Harness, id: &str, body: &Value) -> TestResponse {
    harness.send(TestRequest::to(ROTATE).with("id", id).body(body)).await
}

fn stored(harness: &Harness) -> Subscription {
    let mut rows = harness.subscriptions.snapshot();
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

#[tokio::test]
async fn created_webhook_has_defaults_and_shows_its_secret_once() {
    let harness = Harness::new();
    let response = harness.send(TestRequest::to(CREATE).body(&new_webhook())).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let mut body = response.json();
    let row = stored(&harness);
    assert_eq!(body["secret"], TestSealer.secrets_of(&row)[0].expose());
    assert_eq!(response.header("location").unwrap(), format!("/api/webhooks/{}", row.id));
    assert_eq!(row.user_id.as_str(), "alice");
    let now = harness.clock.now().to_string();
    let webhook = json!({
        "id": row.id,
        "url": "https://hooks.example.com/in",
        "event_types": ["task.created"],
        "filter": null,
        "description": null,
        "is_active": true,
        "disabled_reason": null,
        "retry_count": 3,
        "retry_schedule": "exponential",
        "timeout_seconds": 10,
        "headers": {},
        "rate_limit": null,
        "while_inactive": "drop",
        "auto_recover": false,
        "signature": "hmac",
        "public_key": null,
        "keep_payload": "retention",
        "created_at": now,
        "updated_at": now,
        "health": {
            "breaker": "closed", "open_until": null, "consecutive_failures": 0, "failing_since": null,
            "last_error": null,
        },
        "signing_secrets": [{"expires_at": null}],
    });
    body.as_object_mut().unwrap().remove("secret");
    assert_eq!(body, webhook);
    let at = |name: &str| response.text().find(&format!("\"{name}\":")).unwrap();
    assert!(FIELDS.is_sorted_by_key(|name| at(name)), "in the order of the contract");

    let mut shown = harness.get(row.id.as_str()).await;
    shown.as_object_mut().unwrap().remove("statistics");
    assert_eq!(shown, webhook);
}

#[tokio::test]
async fn base64_body_creates_the_webhook() {
    let harness = Harness::new();
    let body = json!({
        "url": "https://bücher.example/ö?q=1", "event_types": ["sync.completed", "email.sent"],
        "description": "für mich", "retry_count": 0, "timeout_seconds": 60,
        "filter": {"a": {"b": [{"prefix": "ö"}, 1]}}, "retry_schedule": "exponential",
    });
    let response = harness.send(TestRequest::to(CREATE).bytes(body.to_string().as_bytes())).await;
    assert_eq!(response.status(), 201);
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(response.json()[name], *value);
    }
}

#[tokio::test]
async fn every_bad_field_of_a_new_webhook_is_named() {
    let harness = Harness::new();
    let response = harness
        .send(TestRequest::to(CREATE).body(&json!({
            "url": "http://localhost/", "event_types": ["task.eaten"], "description": 1,
            "retry_count": 11, "timeout_seconds": "10", "is_active": true, "secret": "mine",
        })))
        .await;
    assert_eq!((response.status(), response.problem().as_str()), (422, "invalid-fields"));
    let named = ["url", "event_types", "description", "retry_count", "timeout_seconds"];
    assert_eq!(response.fields(), [&named[..], &["is_active", "secret"]].concat());
    assert!(harness.subscriptions.snapshot().is_empty());
}

#[tokio::test]
async fn body_other_than_an_object_is_refused() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    for route in [CREATE, PATCH, ROTATE] {
        let call = || TestRequest::to(route).with("id", &id);
        for bad in ["[]", "null", "{", "{\"url\"", "\"x\"", " ", "{} {}"] {
            let response = harness.send(call().text(bad)).await;
            assert_eq!(
                (response.status(), response.problem().as_str()),
                (400, "invalid-json"),
                "{bad}"
            );
            assert!(response.json()["detail"].is_string());
        }
        let response = harness.send(call().bytes(&[b'{', 0xff, b'}'])).await;
        assert_eq!(response.problem(), "invalid-json");
        let response = harness.send(call().text(r#"{"url":1,"url":2}"#)).await;
        assert_eq!(response.fields()[0], "url");
        let large = json!({"description": "x".repeat(64 * 1024)});
        let response = harness.send(call().body(&large)).await;
        assert_eq!((response.status(), response.problem().as_str()), (413, "body-too-large"));
    }
    for route in [CREATE, PATCH] {
        let response = harness.send(TestRequest::to(route).with("id", &id)).await;
        assert_eq!(response.json()["detail"], "the body is empty");
    }
}

#[tokio::test]
async fn user_has_at_most_a_hundred_webhooks() {
    let harness = Harness::new();
    for n in 0..WEBHOOKS_PER_USER as u64 {
        harness.subscriptions.create(&sample::subscription("alice", n)).await.unwrap();
    }
    let response = harness.send(TestRequest::to(CREATE).body(&new_webhook())).await;
    assert_eq!((response.status(), response.problem().as_str()), (409, "webhook-limit-reached"));
    harness.create("bob").await;
    let one = sample::subscription_id("alice", 5);
    assert_eq!(harness.send(TestRequest::to(DELETE).with("id", one.as_str())).await.status(), 204);
    harness.create("alice").await;
}

#[tokio::test]
async fn creations_beyond_the_daily_limit_are_refused_until_the_next_day() {
    let harness = Harness::new();
    for n in 0..WEBHOOKS_CREATED_PER_DAY as u64 {
        let created_at = harness.clock.now();
        let row = Subscription { created_at, ..sample::subscription("alice", n) };
        assert_eq!(harness.subscriptions.create(&row).await.unwrap(), Creation::Created);
        assert!(harness.subscriptions.delete(&row.user_id, &row.id).await.unwrap());
    }
    let response = harness.send(TestRequest::to(CREATE).body(&new_webhook())).await;
    assert_eq!((response.status(), response.problem().as_str()), (429, "creation-limit-reached"));
    harness.create("bob").await;
    harness.clock.advance(Duration::from_hours(24));
    harness.create("alice").await;
}

#[tokio::test]
async fn patch_changes_named_fields_only() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let mut expected = harness.get(&id).await;
    expected.as_object_mut().unwrap().remove("statistics");
    for change in [
        json!({"url": "https://other.example.com/"}),
        json!({"event_types": ["email.sent", "email.received"]}),
        json!({"description": "mine"}),
        json!({"description": null}),
        json!({"retry_count": 0}),
        json!({"retry_schedule": "standard", "retry_count": null}),
        json!({"retry_schedule": [1, 60]}),
        json!({"retry_schedule": "exponential", "retry_count": 2}),
        json!({"event_types": ["task.*", "*"], "filter": {"a": [{"exists": true}]}}),
        json!({"filter": null}),
        json!({"timeout_seconds": 1}),
        json!({"is_active": false}),
        json!({"is_active": true, "retry_count": 10}),
        json!({"is_active": true, "retry_count": 10}),
        json!({}),
    ] {
        let now = harness.clock.advance(Duration::from_secs(1));
        for (name, value) in change.as_object().unwrap() {
            if expected[name] != *value {
                expected[name] = value.clone();
                expected["updated_at"] = now.to_string().into();
            }
        }
        let response = patch(&harness, &id, &change).await;
        assert_eq!((response.status(), response.json()), (200, expected.clone()), "{change}");
        let mut shown = harness.get(&id).await;
        shown.as_object_mut().unwrap().remove("statistics");
        assert_eq!(shown, expected);
    }
}

#[tokio::test]
async fn header_values_are_sealed_never_shown_and_kept_by_null() {
    let harness = Harness::new();
    let mut body = new_webhook();
    body["headers"] = json!({"Authorization": "Bearer my-value", "x-region": "north"});
    let response = harness.send(TestRequest::to(CREATE).body(&body)).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.json()["headers"], json!({"authorization": null, "x-region": null}));
    assert!(!response.text().contains("my-value"));
    let id = text(&response.json()["id"]);
    let opened = |harness: &Harness| {
        let headers = stored(harness).open_headers(&TestSealer).unwrap();
        headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.expose()))
            .collect::<Vec<_>>()
    };
    assert_eq!(opened(&harness), ["authorization: Bearer my-value", "x-region: north"]);

    let shown = harness.get(&id).await;
    assert_eq!(patch(&harness, &id, &shown).await.status(), 200);
    assert_eq!(stored(&harness).version, 1, "nothing changes");
    let change = json!({"headers": {"AUTHORIZATION": null, "x-new": "1"}});
    let response = patch(&harness, &id, &change).await;
    assert_eq!(response.json()["headers"], json!({"authorization": null, "x-new": null}));
    assert_eq!(opened(&harness), ["authorization: Bearer my-value", "x-new: 1"]);
    for bad in [
        json!({"x-region": null}),
        json!({"authorization": null, "x-new": "v".repeat(4_096 - 13 - 15 - 5 + 1)}),
    ] {
        let response = patch(&harness, &id, &json!({"headers": bad, "retry_count": 7})).await;
        assert_eq!((response.status(), response.fields()), (422, vec!["headers".to_owned()]));
    }
    assert_eq!(patch(&harness, &id, &json!({"headers": {}})).await.status(), 200);
    assert!(stored(&harness).headers.is_empty());
}

#[tokio::test]
async fn key_pair_shows_its_public_key_and_hmac_shows_a_new_secret() {
    let harness = Harness::new();
    let mut body = new_webhook();
    body["signature"] = json!("ed25519");
    let response = TestRequest::to(CREATE).body(&body).send(|r| harness.api.handle(r)).await;
    let created = response.json();
    assert_eq!((response.status(), &created["secret"]), (201, &Value::Null));
    let id = text(&created["id"]);
    let public_key = || TestSealer.keys_of(&stored(&harness))[0].public_key();
    let first = public_key().unwrap();
    assert_eq!(created["public_key"], first);

    let rotated = TestRequest::to(ROTATE).with("id", &id).send(|r| harness.api.handle(r)).await;
    assert_eq!(rotated.json()["secret"], Value::Null);
    let second = public_key().unwrap();
    assert_ne!(first, second);
    let shown = harness.get(&id).await;
    assert_eq!(shown["public_key"], second);
    let both = shown["signing_secrets"].as_array().unwrap();
    assert_eq!((&both[0]["public_key"], &both[1]["public_key"]), (&json!(second), &json!(first)));
    assert_eq!(patch(&harness, &id, &shown).await.status(), 200);

    let change = TestRequest::to(PATCH).with("id", &id).body(&json!({"signature": "hmac"}));
    let changed = change.send(|r| harness.api.handle(r)).await.json();
    assert_eq!((&changed["signature"], &changed["public_key"]), (&json!("hmac"), &Value::Null));
    assert_eq!(changed["secret"], TestSealer.secrets_of(&stored(&harness))[0].expose());
    let again = patch(&harness, &id, &json!({"signature": "hmac"})).await.json();
    assert!(again.get("secret").is_none(), "it signs so already");
    assert_eq!(harness.get(&id).await["signing_secrets"], json!([{"expires_at": null}]));
}

#[tokio::test]
async fn activation_clears_the_disabled_reason() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let mut row = stored(&harness);
    row.disable(DisabledReason::EndpointGone, harness.clock.now());
    harness.subscriptions.update(&row, 1).await.unwrap();
    let webhook = harness.get(&id).await;
    assert_eq!(webhook["is_active"], false);
    assert_eq!(webhook["disabled_reason"], "endpoint_gone");
    let webhook = patch(&harness, &id, &json!({"is_active": true})).await.json();
    assert_eq!(webhook["is_active"], true);
    assert_eq!(webhook["disabled_reason"], Value::Null);
}

#[tokio::test]
async fn bad_patch_names_every_field_and_changes_nothing() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let before = harness.get(&id).await;
    let body = json!({
        "url": null, "event_types": ["task.created", "task.created"], "description": [],
        "retry_count": 1.5, "timeout_seconds": 61, "is_active": "no", "secret": "mine",
    });
    let response = patch(&harness, &id, &body).await;
    assert_eq!(response.status(), 422);
    let named = ["url", "event_types", "description", "retry_count", "timeout_seconds"];
    assert_eq!(response.fields(), [&named[..], &["is_active", "secret"]].concat());
    assert_eq!(harness.get(&id).await, before);
}

#[tokio::test]
async fn retry_count_alone_selects_the_exponential_schedule() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let standard = json!({"retry_schedule": "standard", "retry_count": null});
    assert_eq!(patch(&harness, &id, &standard).await.status(), 200);
    let both = json!({"retry_schedule": "standard", "retry_count": 5});
    let refused = patch(&harness, &id, &both).await;
    assert_eq!((refused.status(), refused.fields()), (422, vec!["retry_count".to_owned()]));
    let changed = patch(&harness, &id, &json!({"retry_count": 5})).await.json();
    let shown = (&changed["retry_count"], &changed["retry_schedule"]);
    assert_eq!(shown, (&json!(5), &json!("exponential")));
}

#[tokio::test]
async fn patch_accepts_the_webhook_that_get_returned() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let mut row = stored(&harness);
    row.disable(DisabledReason::EndpointGone, harness.clock.now());
    harness.subscriptions.update(&row, 1).await.unwrap();
    let mut body = harness.get(&id).await;
    let response = patch(&harness, &id, &body).await;
    assert_eq!((response.status(), stored(&harness).version), (200, 2), "nothing changes");
    body["is_active"] = true.into();
    body["retry_count"] = json!(4.0);
    let response = patch(&harness, &id, &body).await;
    assert_eq!((response.status(), &response.json()["retry_count"]), (200, &json!(4)));
    assert_eq!(response.json()["disabled_reason"], Value::Null);
}

#[tokio::test]
async fn patch_refuses_changed_read_only_fields() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let other = sample::subscription_id("alice", 9);
    for (field, value) in [
        ("id", json!(other)),
        ("disabled_reason", json!("endpoint_gone")),
        ("created_at", json!("2020-01-01T00:00:00Z")),
        ("updated_at", Value::Null),
        ("statistics", json!(7)),
        ("health", json!(7)),
        ("signing_secrets", json!(7)),
    ] {
        let mut body = harness.get(&id).await;
        body["retry_count"] = json!(7);
        body[field] = value;
        let response = patch(&harness, &id, &body).await;
        assert_eq!((response.status(), response.fields()), (422, vec![field.to_owned()]));
    }
    assert_eq!(stored(&harness).version, 1);
}

fn during(event: Event) -> (Harness, Arc<Intercepted<MemorySubscriptions, Concurrent>>) {
    let table = MemorySubscriptions::default();
    let concurrent = Concurrent { table: table.clone(), event, updates: AtomicUsize::new(0) };
    let port = Arc::new(Intercepted::new(table.clone(), concurrent));
    (Harness::over(table, port.clone()), port)
}

#[tokio::test]
async fn patch_retries_on_version_conflict() {
    let (harness, _) = during(Event::Changes(CHANGE_TRIES - 1));
    let id = harness.create("alice").await;
    let response = patch(&harness, &id, &json!({"retry_count": 7})).await;
    assert_eq!((response.status(), &response.json()["retry_count"]), (200, &json!(7)));
    assert_eq!(response.json()["description"], "change 4 of others");
    let row = stored(&harness);
    assert_eq!((row.retry_schedule.retry_count(), row.version), (Some(7), 6));
    assert_eq!(row.description.as_deref(), Some("change 4 of others"));
}

/// Found by the simulator, seed 1009157: the change wrote back the health that it had read.
#[tokio::test]
async fn patch_keeps_health_written_meanwhile() {
    let (harness, _) = during(Event::EndpointFails);
    let id = harness.create("alice").await;
    assert_eq!(patch(&harness, &id, &json!({"retry_count": 7})).await.status(), 200);
    let row = stored(&harness);
    assert_eq!((row.retry_schedule.retry_count(), row.health.consecutive_failures), (Some(7), 7));
}

#[tokio::test]
async fn rotation_retried_on_conflict_shows_the_stored_secret() {
    let (harness, _) = during(Event::Changes(2));
    let id = harness.create("alice").await;
    let response = rotate(&harness, &id, &json!({})).await;
    let row = stored(&harness);
    assert_eq!(row.secrets.previous.len(), 1);
    assert_eq!(response.json()["secret"], TestSealer.secrets_of(&row)[0].expose());
}

#[tokio::test]
async fn change_whose_response_is_lost_is_applied_once() {
    for (route, body) in [(PATCH, json!({"retry_count": 7})), (ROTATE, json!({}))] {
        let (harness, _) = during(Event::LosesResponse);
        let id = harness.create("alice").await;
        let response = harness.send(TestRequest::to(route).with("id", &id).body(&body)).await;
        assert_eq!((response.status(), stored(&harness).version), (200, 2), "{route}");
        if route == ROTATE {
            let secrets = TestSealer.secrets_of(&stored(&harness));
            assert_eq!(secrets.len(), 2);
            assert_eq!(response.json()["secret"], secrets[0].expose());
        }
    }
}

#[tokio::test]
async fn repeated_version_conflict_returns_409() {
    let (harness, port) = during(Event::Changes(usize::MAX));
    let id = harness.create("alice").await;
    for (route, body) in [(PATCH, json!({"retry_count": 7})), (ROTATE, json!({}))] {
        port.interceptor().updates.store(0, Ordering::SeqCst);
        let response = harness.send(TestRequest::to(route).with("id", &id).body(&body)).await;
        assert_eq!((response.status(), response.problem().as_str()), (409, "edit-conflict"));
        assert_eq!(port.interceptor().updates.load(Ordering::SeqCst), CHANGE_TRIES);
    }
    assert!(stored(&harness).secrets.previous.is_empty());
}

#[tokio::test]
async fn change_of_a_concurrently_deleted_webhook_returns_404() {
    let (harness, _) = during(Event::Deletes);
    let id = harness.create("alice").await;
    assert_eq!(patch(&harness, &id, &json!({"retry_count": 7})).await.problem(), "not-found");
}

#[tokio::test]
async fn failure_of_a_table_returns_a_problem_without_details() {
    for (event, status, kind) in
        [(Event::Unavailable, 503, "unavailable"), (Event::Undecodable, 500, "internal")]
    {
        let (harness, _) = during(event);
        let id = harness.create("alice").await;
        let response = harness.send(TestRequest::to(GET).with("id", &id)).await;
        assert_eq!((response.status(), response.problem().as_str()), (status, kind));
        assert!(!response.text().contains("10.0.0.1") && !response.text().contains(&id));
    }
}

#[tokio::test]
async fn deleted_webhook_returns_404() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let response = harness.send(TestRequest::to(DELETE).with("id", &id)).await;
    assert_eq!((response.status(), response.text()), (204, ""));
    assert!(harness.subscriptions.snapshot().is_empty());
    for route in [GET, DELETE] {
        let response = harness.send(TestRequest::to(route).with("id", &id)).await;
        assert_eq!(response.problem(), "not-found");
    }
}

#[tokio::test]
async fn old_secret_signs_until_its_overlap_ends() {
    for (body, overlap) in [
        (Some(json!({})), 86_400),
        (None, 86_400),
        (Some(json!({"overlap_seconds": 604_800})), 604_800),
        (Some(json!({"overlap_seconds": 60})), 60),
        (Some(json!({"overlap_seconds": 0})), 0),
    ] {
        let harness = Harness::new();
        let id = harness.create("alice").await;
        let old = TestSealer.secrets_of(&stored(&harness))[0].expose().to_owned();
        let call = TestRequest::to(ROTATE).with("id", &id);
        let call = body.iter().fold(call, TestRequest::body);
        let response = harness.send(call).await;
        assert_eq!(response.status(), 200);
        let new = text(&response.json()["secret"]);
        assert!(new.starts_with("whsec_") && new != old);
        assert_eq!(response.json().as_object().unwrap().len(), FIELDS.len() + 1);
        let now = harness.clock.now();
        let signing = |at| -> Vec<String> {
            let signing = stored(&harness).signing_secrets(&TestSealer, at).unwrap();
            signing.iter().map(|secret| secret.expose().to_string()).collect()
        };
        assert_eq!(signing(now.plus_seconds(overlap)), std::slice::from_ref(&new));
        if overlap > 0 {
            assert_eq!(signing(now.plus_seconds(overlap - 1)), [new, old]);
        }
    }
}

#[tokio::test]
async fn bad_overlap_is_refused() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    for bad in [json!(-1), json!(604_801), json!(1.5), json!("60"), json!(null)] {
        let response = rotate(&harness, &id, &json!({"overlap_seconds": bad})).await;
        assert_eq!(
            (response.status(), response.fields()),
            (422, vec!["overlap_seconds".to_owned()])
        );
    }
    let response = rotate(&harness, &id, &json!({"overlap_seconds": -1, "secret": "mine"})).await;
    assert_eq!(response.fields(), ["overlap_seconds", "secret"]);
    let response = rotate(&harness, &id, &json!({"secret": "mine"})).await;
    assert_eq!(response.fields(), ["secret"]);
    assert!(stored(&harness).secrets.previous.is_empty());
}

#[tokio::test]
async fn resume_stores_and_starts_the_recovery_of_what_is_held() {
    let harness = Harness::new();
    let id = harness.create("u").await;
    let patch = async |body: Value| {
        let call = TestRequest::to(PATCH).by("u").with("id", &id).body(&body);
        assert_eq!(harness.send(call).await.status(), 200);
    };
    patch(json!({"is_active": false})).await;
    patch(json!({"is_active": true})).await;
    assert_eq!(harness.deliveries.all_recoveries(), [], "it has never held anything");
    patch(json!({"is_active": false, "while_inactive": "hold"})).await;
    patch(json!({"while_inactive": "drop"})).await;
    patch(json!({"is_active": true})).await;
    patch(json!({"is_active": true})).await;
    let recoveries = harness.deliveries.all_recoveries();
    assert_eq!(recoveries.len(), 1);
    assert!(recoveries[0].is_automatic && recoveries[0].selection.is_of_held());
    let tasks = harness.queue.take_tasks();
    let expected = DeliveryTask::RecoveryPage {
        subscription_id: recoveries[0].subscription_id.clone(),
        recovery_id: recoveries[0].id.clone(),
        page: Some(0),
    };
    assert_eq!(tasks, [expected]);
}
