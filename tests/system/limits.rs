//! Limits, scopes, endpoint verification and erasure, from outside.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::FakeReceiver;
use test_support::receiver::Reply;
use webhooks_core::limits::{HOST_CONCURRENCY, WEBHOOKS_PER_USER};

use crate::harness::{Local, dev, event, text, token};

fn restricted(user: &str, scope: &str) -> String {
    let output = dev().args(["token", user, "--scope", scope]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn token_with_a_scope_is_restricted_to_it() {
    let local = Local::start().await;
    let read = restricted("u", "openid webhooks:read");
    assert_eq!(local.call("GET", "/api/webhooks", Some(&read), None).await.0, 200);
    let body = json!({"url": "http://127.0.0.1:9/", "event_types": ["task.created"]});
    let (status, answer) = local.call("POST", "/api/webhooks", Some(&read), Some(body)).await;
    assert_eq!(status, 403);
    assert_eq!(text(&answer["type"]), "urn:webhooks:problem:insufficient-scope");
}

#[tokio::test]
async fn user_who_floods_gets_429_while_others_are_served() {
    let local = Local::start().await;
    let flooding = token("flooding");
    let mut refused = 0;
    while refused == 0 {
        let (status, _) = local.call("DELETE", "/api/webhooks/none", Some(&flooding), None).await;
        assert!(matches!(status, 404 | 429), "{status}");
        refused += usize::from(status == 429);
    }
    local.expect(404, "DELETE", "/api/webhooks/none", "other", None).await;
    local.expect(200, "GET", "/api/webhooks", "flooding", None).await;
}

/// The rows of both tables, as an export has them.
async fn rows(local: &Local) -> String {
    let mut all = String::new();
    for table in ["webhook-subscriptions", "webhook-deliveries"] {
        let rows = local.dynamodb("Scan", &json!({"TableName": table})).await;
        assert!(rows["LastEvaluatedKey"].is_null(), "the table is read as a whole");
        all += &rows["Items"].to_string();
    }
    all
}

#[tokio::test]
async fn nothing_of_deleted_webhooks_is_left_after_the_cleanup() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.statuses("/erased", &[500]);
    let new = |path: &str| json!({"url": receiver.url(path), "event_types": ["task.created"], "retry_count": 0});
    let mut erased = Vec::new();
    for user in ["one", "all", "all"] {
        erased.push((user, local.subscribe(user, new("/erased")).await.0));
    }
    let (kept, _) = local.subscribe("kept", new("/kept")).await;
    for user in ["one", "all", "kept"] {
        local.publish(&event(user, "task.created", 1)).await;
    }
    for (user, webhook) in &erased {
        local.ended(user, webhook, 1).await;
    }
    local.ended("kept", &kept, 1).await;
    // A payload in a row of its own, a recovery, and a delivery that is held.
    let webhook = &erased[1].1;
    let noise: Vec<u32> = (0..2_000u32).map(|n| n.wrapping_mul(2_654_435_761)).collect();
    let mut large = event("all", "task.created", 2);
    large["data"] = json!({"noise": noise});
    local.publish(&large).await;
    local.ended("all", webhook, 2).await;
    let path = format!("/api/webhooks/{webhook}");
    let since = json!({"since": "2000-01-01T00:00:00Z"});
    local.expect(202, "POST", &format!("{path}/recoveries"), "all", Some(since)).await;
    local.drained().await;
    let pause = json!({"is_active": false, "while_inactive": "hold"});
    local.expect(200, "PATCH", &path, "all", Some(pause)).await;
    local.publish(&event("all", "task.created", 3)).await;
    local
        .eventually(async || {
            let shown = local.deliveries("all", webhook).await;
            shown.iter().any(|one| one["status"] == "held").then_some(())
        })
        .await;
    local.drained().await;

    let before = rows(&local).await;
    for (_, webhook) in &erased {
        assert!(before.matches(webhook.as_str()).count() >= 3, "webhook, delivery and counters");
    }
    for kind in ["payload#dlv_", "recovery#rec_", "held#wh_", "stats#"] {
        assert!(before.contains(kind), "{kind}");
    }

    local.expect(204, "DELETE", &format!("/api/webhooks/{}", erased[0].1), "one", None).await;
    local.expect(422, "DELETE", "/api/webhooks", "all", None).await;
    let answer = local.expect(202, "DELETE", "/api/webhooks?confirm=all", "all", None).await;
    assert_eq!(answer, json!({"deleted": 2}));
    let (status, _) = local.call("POST", "/_local/run/cleanup", None, None).await;
    assert_eq!(status, 200);

    let after = rows(&local).await;
    for (user, webhook) in &erased {
        assert!(!after.contains(webhook.as_str()), "{user} {webhook}: {after}");
    }
    for trace in ["e-one-", "e-all-", "payload#", "recovery#", "recoveries#", "held#"] {
        assert!(!after.contains(trace), "{trace}: {after}");
    }
    assert!(after.contains("e-kept-1") && after.contains(&kept), "{after}");
}

#[tokio::test]
async fn required_verification_sends_nothing_but_challenges_before_the_proof() {
    let local = Local::start_with(&["--verify-endpoints"]).await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.by_rule(|request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        Reply::response(200, &[], body["data"]["token"].as_str().unwrap_or_default())
    });
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"]});
    let (webhook, secret) = local.subscribe("u", body).await;
    local.publish(&event("u", "task.created", 1)).await;
    let early = local.ended("u", &webhook, 1).await;
    assert_eq!(early[0]["status"], "failed");
    let path = |action: &str| format!("/api/webhooks/{webhook}/{action}");
    local.expect(409, "POST", &path("test"), "u", None).await;
    assert!(receiver.received().is_empty());

    let answer = local.expect(200, "POST", &path("verify"), "u", None).await;
    assert_eq!(answer["verified"], true);
    let challenge = receiver.take().remove(0);
    let check = standardwebhooks::Webhook::new(&secret).unwrap();
    let headers: http::HeaderMap = challenge
        .headers
        .iter()
        .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    check.verify(&challenge.body, &headers).unwrap();
    let again = format!("deliveries/{}/redeliver", text(&early[0]["id"]));
    local.expect(202, "POST", &path(&again), "u", None).await;
    assert_eq!(receiver.wait_for(1).await.len(), 1);
}

#[tokio::test]
async fn webhooks_at_one_url_share_a_bounded_number_of_attempts() {
    const TAKES: Duration = Duration::from_millis(100);
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.otherwise(Reply::status(200).after(TAKES));
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"]});
    for _ in 0..WEBHOOKS_PER_USER {
        local.subscribe("u", body.clone()).await;
    }
    local.publish(&event("u", "task.created", 1)).await;
    let posts = receiver.wait_for(WEBHOOKS_PER_USER).await;
    let under_way =
        |at: Instant| posts.iter().filter(|post| post.at <= at && at < post.at + TAKES).count();
    let most = posts.iter().map(|post| under_way(post.at)).max().unwrap();
    assert!((2..=HOST_CONCURRENCY).contains(&most), "{most} concurrent attempts");
}

#[tokio::test]
async fn retries_that_wait_are_not_in_flight() {
    const EVENTS: usize = 40;
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    // Less than a minute, and much more.
    let asks = |n| if n % 2 == 0 { "45" } else { "815" };
    let replies = (0..EVENTS).map(|n| Reply::response(503, &[("retry-after", asks(n))], ""));
    receiver.script("/", replies);
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"]});
    let (webhook, _) = local.subscribe("u", body).await;
    for n in (0..).take(EVENTS) {
        local.publish(&event("u", "task.created", n)).await;
    }
    local
        .eventually(async || {
            let shown = local.deliveries("u", &webhook).await;
            let waiting = shown.iter().filter(|one| one["status"] == "retrying").count();
            (waiting == EVENTS).then_some(())
        })
        .await;
    // A message is acknowledged after its copy was sent.
    let slow = local
        .eventually(async || {
            let fast = local.messages("webhook-deliveries").await;
            let slow = local.messages("webhook-deliveries-slow").await;
            (fast == [0, 0, 0] && slow[..2] == [0, 0]).then_some(slow)
        })
        .await;
    assert_eq!(slow, [0, 0, EVENTS as u64], "all wait as delayed messages");
}

#[tokio::test]
async fn concurrent_requests_start_no_more_recoveries_than_may_run() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.statuses("/", &[500; 6]);
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"], "retry_count": 0});
    let (webhook, _) = local.subscribe("u", body).await;
    for n in 0..6 {
        local.publish(&event("u", "task.created", n)).await;
    }
    local.ended("u", &webhook, 6).await;
    // One delivery a second, so that a recovery runs for some seconds.
    let path = format!("/api/webhooks/{webhook}");
    local.expect(200, "PATCH", &path, "u", Some(json!({"rate_limit": 1}))).await;
    let (path, token) = (format!("{path}/recoveries"), token("u"));
    let body = json!({"since": "2020-01-01T00:00:00Z"});
    let requests = (0..20).map(|_| local.call("POST", &path, Some(&token), Some(body.clone())));
    let responses = futures::future::join_all(requests).await;
    let count = |wanted| responses.iter().filter(|(status, _)| *status == wanted).count();
    assert_eq!((count(202), count(409)), (3, 17), "{responses:?}");
}
