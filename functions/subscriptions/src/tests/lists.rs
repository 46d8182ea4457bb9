//! Listing webhooks, and looking at one.

use serde_json::{Value, json};
use test_support::sample;
use webhooks_api::cursor::{self, CursorScope};
use webhooks_api::testing::TestRequest;
use webhooks_core::breaker::{Health, LastError};
use webhooks_core::ids::SubscriptionId;
use webhooks_core::limits::WEBHOOKS_PER_USER;
use webhooks_core::ports::{Clock as _, Statistics as _, Subscriptions as _};
use webhooks_core::secret::PreviousSecret;
use webhooks_core::statistics::Counts;
use webhooks_core::time::Timestamp;

use super::{FIELDS, GET, Harness, LIST, RETENTION, text};
use std::time::Duration;

async fn page(harness: &Harness, query: &str) -> (Vec<String>, Option<String>) {
    let response = harness.send(TestRequest::to(LIST).query(query)).await;
    assert_eq!(response.status(), 200, "{query}: {response:?}");
    let body = response.json();
    assert_eq!(body.as_object().unwrap().len(), 2);
    let ids = body["items"].as_array().unwrap().iter().map(|item| text(&item["id"])).collect();
    let cursor = &body["next_cursor"];
    assert!(cursor.is_string() || cursor.is_null());
    (ids, cursor.as_str().map(str::to_owned))
}

/// Creates webhooks a millisecond apart, and returns their ids, oldest first.
async fn webhooks(harness: &Harness, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        harness.clock.advance(Duration::from_millis(1));
        ids.push(harness.create("alice").await);
    }
    ids
}

#[tokio::test]
async fn list_is_newest_first_and_only_of_the_caller() {
    let harness = Harness::new();
    assert_eq!(page(&harness, "").await, (Vec::new(), None));
    let mut ids = webhooks(&harness, 3).await;
    harness.create("bob").await;
    ids.reverse();
    assert_eq!(page(&harness, "").await, (ids.clone(), None));
    let response = harness.send(TestRequest::to(LIST)).await;
    let first = response.json()["items"][0].clone();
    let mut names: Vec<&String> = first.as_object().unwrap().keys().collect();
    let mut expected = FIELDS.to_vec();
    names.sort();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn pages_are_complete_when_webhooks_are_created_meanwhile() {
    let harness = Harness::new();
    let mut expected = webhooks(&harness, 60).await;
    expected.reverse();
    assert_eq!(page(&harness, "").await.0.len(), 50, "the default");
    assert_eq!(page(&harness, "limit=100").await, (expected.clone(), None));
    for limit in [1, 7, 59, 60] {
        let mut seen = Vec::new();
        let mut query = format!("limit={limit}");
        loop {
            let (ids, next) = page(&harness, &query).await;
            seen.extend(ids);
            let Some(next) = next else { break };
            if seen.len() < 40 && harness.subscriptions.snapshot().len() < WEBHOOKS_PER_USER {
                webhooks(&harness, 1).await;
            }
            query = format!("limit={limit}&cursor={next}");
        }
        // Those that are new at the start of this round come first; none is missing or shown twice.
        let new = seen.len() - expected.len();
        assert_eq!(seen[new..], expected, "{limit}");
        seen.dedup();
        assert_eq!(seen.len(), new + expected.len());
    }
}

#[tokio::test]
async fn cursor_is_only_for_its_own_list() {
    let harness = Harness::new();
    webhooks(&harness, 2).await;
    let (_, cursor) = page(&harness, "limit=1").await;
    let query = format!("cursor={}", cursor.unwrap());
    assert_eq!(page(&harness, &query).await.0.len(), 1);
    let response = harness.send(TestRequest::to(LIST).by("bob").query(&query)).await;
    assert_eq!((response.status(), response.fields()), (422, vec!["cursor".to_owned()]));
    // A position that no list of the service has, with a check that fits.
    let forged = cursor::encode(CursorScope(&["alice", "webhooks"]), "x");
    for cursor in [forged.as_str(), "", "x", "%00"] {
        let response = harness.send(TestRequest::to(LIST).query(&format!("cursor={cursor}"))).await;
        assert_eq!(response.fields(), ["cursor"]);
    }
}

#[tokio::test]
async fn every_bad_parameter_is_named() {
    let harness = Harness::new();
    let response =
        harness.send(TestRequest::to(LIST).query("page=2&limit=0&cursor=x&limit=7&sort=%zz")).await;
    assert_eq!(response.problem(), "invalid-fields");
    let mut fields = response.fields();
    fields.sort();
    assert_eq!(fields, ["cursor", "limit", "limit", "page", "sort"]);
}

#[tokio::test]
async fn webhook_is_shown_with_its_statistics() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let webhook = harness.get(&id).await;
    let names: Vec<&str> = FIELDS.iter().copied().chain(["statistics"]).collect();
    assert!(names.iter().all(|name| webhook.get(name).is_some()), "{webhook}");
    assert_eq!(webhook.as_object().unwrap().len(), names.len());
    assert_eq!(
        webhook["statistics"],
        json!({
            "total_deliveries": 0,
            "successful_deliveries": 0,
            "failed_deliveries": 0,
            "retrying_deliveries": 0,
            "held_deliveries": 0,
            "success_rate": null,
            "last_delivery_at": null,
        })
    );

    let now = harness.clock.now();
    count(&harness, &id, now, Counts { total: 6, success: 2, failed: 1, ..Counts::default() })
        .await;
    let too_old = now.minus(RETENTION + Duration::from_hours(1));
    count(&harness, &id, too_old, Counts { total: 100, success: 100, ..Counts::default() }).await;
    assert_eq!(
        harness.get(&id).await["statistics"],
        json!({
            "total_deliveries": 6,
            "successful_deliveries": 2,
            "failed_deliveries": 1,
            "retrying_deliveries": 3,
            "held_deliveries": 0,
            "success_rate": 66.67,
            "last_delivery_at": now.to_string(),
        })
    );
}

async fn count(harness: &Harness, id: &str, at: Timestamp, counts: Counts) {
    let id: SubscriptionId = id.parse().unwrap();
    harness.deliveries.count(&id, at.hour(), &sample::addition(counts, at)).await.unwrap();
}

#[tokio::test]
async fn get_of_a_webhook_refuses_parameters() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let response = harness.send(TestRequest::to(GET).with("id", &id).query("expand=1")).await;
    assert_eq!((response.status(), response.fields()), (422, vec!["expand".to_owned()]));
    assert_eq!(harness.get(&id).await["disabled_reason"], Value::Null);
}

#[tokio::test]
async fn webhook_and_list_show_health_and_signing_secrets() {
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let now = harness.clock.now();
    let mut row = harness.subscriptions.snapshot().remove(0);
    row.health = Health {
        consecutive_failures: 12,
        failing_since: Some(now.minus(Duration::from_secs(90))),
        open_until: Some(now.plus_seconds(60)),
        last_error: Some(LastError::Status(503)),
        ..Health::default()
    };
    row.secrets.previous.push(PreviousSecret {
        sealed: row.secrets.current.clone(),
        expires_at: now.plus_seconds(3_600),
    });
    row.version += 1;
    harness.subscriptions.update(&row, row.version - 1).await.unwrap();

    let webhook = harness.get(&id).await;
    assert_eq!(
        webhook["health"],
        json!({
            "breaker": "open", "open_until": now.plus_seconds(60), "consecutive_failures": 12,
            "failing_since": now.minus(Duration::from_secs(90)), "last_error": "http_503",
        })
    );
    let expires_at = now.plus_seconds(3_600);
    assert_eq!(
        webhook["signing_secrets"],
        json!([{"expires_at": null}, {"expires_at": expires_at}])
    );
    let listed = harness.send(TestRequest::to(LIST)).await.json()["items"][0].clone();
    assert_eq!(listed["health"], webhook["health"]);
    assert_eq!(listed["signing_secrets"], webhook["signing_secrets"]);

    harness.clock.advance(Duration::from_mins(1));
    let health = harness.get(&id).await["health"].clone();
    assert_eq!((&health["breaker"], &health["open_until"]), (&json!("half_open"), &Value::Null));
    harness.clock.advance(Duration::from_hours(1));
    assert_eq!(harness.get(&id).await["signing_secrets"], json!([{"expires_at": null}]));
}

#[tokio::test]
async fn stats_are_summed_by_hour_or_day() {
    const STATS: &str = "GET /api/webhooks/{id}/stats";
    let harness = Harness::new();
    let id = harness.create("alice").await;
    let now = harness.clock.now();
    let get =
        async |query: &str| harness.send(TestRequest::to(STATS).with("id", &id).query(query)).await;
    assert_eq!(get("").await.json(), json!({"items": []}));
    let mut counts = Counts { total: 2, success: 1, attempts: 3, ..Counts::default() };
    counts.latency.record(Duration::from_millis(130));
    let day = Duration::from_hours(24);
    for at in [now, now.minus(day), now.minus(day * 2)] {
        count(&harness, &id, at, counts).await;
    }
    let body = get("").await.json();
    let expected = json!({
        "start": now.hour().to_string(), "total": 2, "success": 1, "failed": 0, "attempts": 3,
        "latency_ms": {"p50": 133, "p90": 133, "p99": 133},
    });
    assert_eq!(body["items"], json!([expected]));
    assert_eq!(get("bucket=day").await.json()["items"].as_array().unwrap().len(), 3);
    let one = get(&format!("since={}&until={}", now.minus(day * 2), now.minus(day))).await;
    assert_eq!(one.json()["items"].as_array().unwrap().len(), 1);

    let bad = get("bucket=week&since=x").await;
    assert_eq!((bad.status(), bad.fields()), (422, vec!["bucket".to_owned(), "since".to_owned()]));
    let early = now.minus(day * 32);
    assert_eq!(get(&format!("since={early}")).await.json()["items"].as_array().unwrap().len(), 3);
    assert_eq!(get(&format!("since={now}&until={early}")).await.fields(), ["until"]);
}
