//! Events in, signed webhooks out.

use serde_json::{Value, json};
use test_support::FakeReceiver;
use test_support::receiver::{Received, Reply};
use webhooks_core::catalogue::EventType;

use crate::harness::{Local, event, text};

fn headers(request: &Received) -> http::HeaderMap {
    let parsed = request
        .headers
        .iter()
        .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()));
    parsed.collect()
}

#[tokio::test]
async fn every_event_type_arrives_signed_and_is_recorded() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    let types: Vec<&str> = EventType::all().map(EventType::name).collect();
    let body = json!({"url": receiver.url("/hook"), "event_types": types});
    let (webhook, secret) = local.subscribe("u", body).await;
    for (n, event_type) in (0..).zip(&types) {
        local.publish(&event("u", event_type, n)).await;
    }
    let deliveries = local.ended("u", &webhook, types.len()).await;
    assert!(deliveries.iter().all(|one| one["status"] == "success" && one["attempt_count"] == 1));

    let check = standardwebhooks::Webhook::new(&secret).unwrap();
    let requests = receiver.received();
    assert_eq!(requests.len(), types.len());
    for request in &requests {
        check.verify(&request.body, &headers(request)).unwrap();
        let payload: Value = serde_json::from_slice(&request.body).unwrap();
        let header = |name: &str| request.header(name).unwrap().to_owned();
        assert_eq!(payload["event_type"], header("x-webhook-event"));
        assert_eq!(header("x-webhook-delivery-id"), header("webhook-id"));
        assert_eq!(header("x-webhook-attempt"), "1");
        assert_eq!(header("content-type"), "application/json");
    }
    local.drained().await;
}

#[tokio::test]
async fn payload_is_what_was_published() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"]});
    local.subscribe("u", body).await;
    let published = r#"{ "event_id": "e1", "user_id":"u", "event_type":"task.created",
        "data": {"z": 1.0, "a": 1e5, "big": 12345678901234567890123, "text": "Zoë 😀 \/ \u00e9"} }"#;
    local.publish_raw(published).await;
    let request = local.eventually(async || receiver.received().pop()).await;
    let body = String::from_utf8(request.body).unwrap();
    assert!(body.starts_with(r#"{"event_id":"e1","event_type":"task.created","timestamp":""#));
    assert!(
        body.ends_with(
            r#""data":{"z":1.0,"a":1e5,"big":12345678901234567890123,"text":"Zo\u00eb \ud83d\ude00 / \u00e9"}}"#
        ),
        "{body}"
    );
}

#[tokio::test]
async fn failing_endpoint_is_retried_after_two_and_four_seconds() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.statuses("/", &[500, 503, 200]);
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"]});
    let (webhook, _) = local.subscribe("u", body).await;
    local.publish(&event("u", "task.created", 1)).await;
    let delivery = local.ended("u", &webhook, 1).await.remove(0);
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("success"), &json!(3)));
    let requests = receiver.received();
    let header = |n: usize, name: &str| requests[n].header(name).unwrap().to_owned();
    let second = |n: usize| header(n, "webhook-timestamp").parse::<i64>().unwrap();
    assert!((2..=3).contains(&(second(1) - second(0))), "{}", second(1) - second(0));
    assert!((4..=5).contains(&(second(2) - second(1))), "{}", second(2) - second(1));
    for n in 0..3 {
        assert_eq!(header(n, "webhook-id"), text(&delivery["id"]));
        assert_eq!(header(n, "x-webhook-attempt"), (n + 1).to_string());
        assert_eq!(requests[n].body, requests[0].body);
    }
    local.drained().await;
}

#[tokio::test]
async fn failed_attempts_record_their_error_and_410_disables() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    let elsewhere = FakeReceiver::start().await.unwrap();
    let subscribe = async |path: &str| {
        let body = json!({
            "url": receiver.url(path), "event_types": ["task.created"], "retry_count": 0,
            "timeout_seconds": 1, "headers": {"x-key": "owners-secret"},
        });
        local.subscribe("u", body).await.0
    };
    receiver.script("/redirect", [Reply::redirect(&elsewhere.url("/"))]);
    receiver.script("/hang", [Reply::hang()]);
    receiver.script("/gone", [Reply::status(410)]);
    receiver.script("/reset", [Reply::reset()]);
    let mut webhooks = Vec::new();
    for (path, error) in
        [("/redirect", "redirect"), ("/hang", "timeout"), ("/gone", "http"), ("/reset", "protocol")]
    {
        webhooks.push((subscribe(path).await, error));
    }
    local.publish(&event("u", "task.created", 1)).await;
    for (webhook, error) in &webhooks {
        let delivery = local.ended("u", webhook, 1).await.remove(0);
        assert_eq!(delivery["status"], "failed");
        assert!(text(&delivery["error"]).starts_with(error), "{delivery}");
    }
    let redirected = local.ended("u", &webhooks[0].0, 1).await.remove(0);
    let path = format!("/api/webhooks/{}/deliveries/{}", webhooks[0].0, text(&redirected["id"]));
    let detail = local.expect(200, "GET", &path, "u", None).await;
    let attempt = &detail["attempts"][0];
    assert_eq!(attempt["response_headers"]["location"], elsewhere.url("/"));
    assert_eq!(attempt["request_headers"]["webhook-id"], redirected["id"]);
    for masked in ["webhook-signature", "x-webhook-signature", "x-key"] {
        assert_eq!(attempt["request_headers"][masked], "***", "{attempt}");
    }
    assert!(elsewhere.received().is_empty(), "a redirect was followed");
    let path = format!("/api/webhooks/{}", webhooks[2].0);
    let disabled = local
        .eventually(async || {
            let webhook = local.expect(200, "GET", &path, "u", None).await;
            (webhook["is_active"] == false).then_some(webhook)
        })
        .await;
    assert_eq!(disabled["disabled_reason"], "endpoint_gone");
    assert_eq!(disabled["statistics"]["failed_deliveries"], 1);
}

#[tokio::test]
async fn same_event_twice_is_one_delivery() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"]});
    let (webhook, _) = local.subscribe("u", body).await;
    let now = webhooks_aws::SystemClock;
    let now = webhooks_core::ports::Clock::now(&now).minus(std::time::Duration::from_mins(1));
    let mut twice = event("u", "task.created", 1);
    twice["occurred_at"] = json!(now);
    local.publish(&twice).await;
    local.ended("u", &webhook, 1).await;
    local.publish(&twice).await;
    local.publish(&event("u", "task.created", 2)).await;
    assert_eq!(local.ended("u", &webhook, 2).await.len(), 2);
    local.drained().await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn deliveries_of_all_webhooks_are_listed_newest_first_and_by_event() {
    let local = Local::start().await;
    let good = json!({"url": local.receiver, "event_types": ["task.*"]});
    let (first, _) = local.subscribe("u", good.clone()).await;
    let (second, _) = local.subscribe("u", good.clone()).await;
    let (others, _) = local.subscribe("other", good).await;
    for n in 1..=3 {
        local.publish(&event("u", "task.created", n)).await;
    }
    local.publish(&event("other", "task.created", 1)).await;
    for (user, webhook, count) in [("u", &first, 3), ("u", &second, 3), ("other", &others, 1)] {
        local.ended(user, webhook, count).await;
    }
    let list = async |query: &str| {
        let path = format!("/api/deliveries{query}");
        local.expect(200, "GET", &path, "u", None).await
    };
    let all = list("").await;
    let items = all["items"].as_array().unwrap().clone();
    assert_eq!((items.len(), &all["next_cursor"]), (6, &Value::Null));
    let ids: Vec<String> = items.iter().map(|item| text(&item["id"])).collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
    assert!(items.iter().all(|item| item["webhook_id"] != others.as_str()));
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = list(&format!("?limit=2{cursor}")).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, items);
    let event_id = text(&items[0]["event_id"]);
    let of_event = list(&format!("?event_id={event_id}")).await;
    let mut webhooks: Vec<String> = of_event["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| text(&item["webhook_id"]))
        .collect();
    webhooks.sort();
    assert_eq!(webhooks, [first.clone(), second]);
    let one = list(&format!("?event_id={event_id}&webhook_id={first}&status=success")).await;
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
    local.expect(404, "GET", &format!("/api/deliveries?webhook_id={others}"), "u", None).await;
}

#[tokio::test]
async fn events_are_selected_by_wildcard_and_filter() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    let body = json!({
        "url": receiver.url("/"), "event_types": ["task.*"],
        "filter": {"priority": ["high", "urgent"], "title": [{"prefix": "Call"}]},
    });
    local.subscribe("u", body).await;
    for (event_type, data) in [
        ("task.created", json!({"priority": "low", "title": "Call Zoe"})),
        ("email.sent", json!({"priority": "high", "title": "Call Zoe"})),
        ("task.deleted", json!({"priority": "high", "title": "Call Zoe"})),
    ] {
        local.publish(&json!({"user_id": "u", "event_type": event_type, "data": data})).await;
    }
    local.drained().await;
    let received = receiver.received();
    let types: Vec<_> = received.iter().map(|one| one.header("x-webhook-event").unwrap()).collect();
    assert_eq!(types, ["task.deleted"]);
}

#[tokio::test]
async fn own_schedule_sets_the_waits() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.statuses("/", &[500, 500, 500]);
    let body = json!({
        "url": receiver.url("/"), "event_types": ["task.created"], "retry_schedule": [3, 1],
    });
    let (webhook, _) = local.subscribe("u", body).await;
    local.publish(&event("u", "task.created", 1)).await;
    let delivery = local.ended("u", &webhook, 1).await.remove(0);
    assert_eq!((&delivery["status"], &delivery["attempt_count"]), (&json!("failed"), &json!(3)));
    let requests = receiver.received();
    let second =
        |n: usize| requests[n].header("webhook-timestamp").unwrap().parse::<i64>().unwrap();
    assert!((3..=4).contains(&(second(1) - second(0))), "{}", second(1) - second(0));
    assert!((1..=2).contains(&(second(2) - second(1))), "{}", second(2) - second(1));
}

#[tokio::test]
async fn deleted_webhook_gets_no_queued_events() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.statuses("/", &[500]);
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"]});
    let (webhook, _) = local.subscribe("u", body).await;
    local.publish(&event("u", "task.created", 1)).await;
    local.eventually(async || receiver.received().pop()).await;
    local.expect(204, "DELETE", &format!("/api/webhooks/{webhook}"), "u", None).await;
    local.publish(&event("u", "task.created", 2)).await;
    local.drained().await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn bad_event_goes_to_the_dead_letter_queue_with_its_reason() {
    let local = Local::start().await;
    for (body, reason) in [
        ("{", "invalid_json"),
        (r#"{"event_type":"task.eaten","user_id":"u","data":{}}"#, "unknown_event_type"),
        (r#"{"event_type":"task.created","data":{}}"#, "missing_owner"),
    ] {
        local.publish_raw(body).await;
        let request = json!({
            "QueueUrl": local.queue("webhook-events-dlq"), "WaitTimeSeconds": 20,
            "MessageAttributeNames": ["All"],
        });
        let message = local.sqs("ReceiveMessage", &request).await["Messages"][0].clone();
        assert_eq!(message["Body"], body);
        assert_eq!(message["MessageAttributes"]["reason"]["StringValue"], reason);
    }
}

#[tokio::test]
async fn test_and_redelivery_make_attempts() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.statuses("/", &[500]);
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"], "retry_count": 0});
    let (webhook, secret) = local.subscribe("u", body).await;
    let path = format!("/api/webhooks/{webhook}");
    let test = local.expect(200, "POST", &format!("{path}/test"), "u", None).await;
    assert_eq!((&test["success"], &test["status_code"]), (&json!(false), &json!(500)));
    let test = local.expect(200, "POST", &format!("{path}/test"), "u", None).await;
    assert_eq!((&test["success"], &test["error"]), (&json!(true), &Value::Null));

    let first = text(&local.deliveries("u", &webhook).await.last().unwrap()["id"]);
    let again = format!("{path}/deliveries/{first}/redeliver");
    let accepted = local.expect(202, "POST", &again, "u", None).await;
    assert_eq!(accepted["trigger"], "redelivery");
    let ended = local.ended("u", &webhook, 3).await;
    assert_eq!(ended[0]["id"], accepted["id"]);
    assert_eq!(
        (&ended[0]["status"], &ended[0]["redelivery_of"]),
        (&json!("success"), &json!(first))
    );
    let requests = receiver.received();
    let header = |n: usize, name: &str| requests[n].header(name).unwrap().to_owned();
    assert_eq!([header(0, "webhook-id"), header(2, "webhook-id")], [first.clone(), first.clone()]);
    assert_eq!(header(2, "x-webhook-delivery-id"), text(&accepted["id"]));

    let check = standardwebhooks::Webhook::new(&secret).unwrap();
    for request in &receiver.received() {
        check.verify(&request.body, &headers(request)).unwrap();
    }
    let detail = local.expect(200, "GET", &format!("{path}/deliveries/{first}"), "u", None).await;
    assert_eq!(detail["attempts"][0]["response_status"], 500);
}

#[tokio::test]
async fn recovery_redelivers_what_failed_under_the_same_webhook_id() {
    let local = Local::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    receiver.statuses("/", &[500, 500]);
    let body = json!({"url": receiver.url("/"), "event_types": ["task.created"], "retry_count": 0});
    let (webhook, _) = local.subscribe("u", body).await;
    for n in 0..2 {
        local.publish(&event("u", "task.created", n)).await;
    }
    local.ended("u", &webhook, 2).await;

    let path = format!("/api/webhooks/{webhook}/recoveries");
    let dry = json!({"since": "2000-01-01T00:00:00Z", "dry_run": true});
    let counted = local.expect(200, "POST", &path, "u", Some(dry)).await;
    assert_eq!(counted, json!({"matched": 2}));
    let since = json!({"since": "2000-01-01T00:00:00Z"});
    let asked = local.expect(202, "POST", &path, "u", Some(since)).await;
    let ended = local.ended("u", &webhook, 4).await;
    let redelivered = ended.iter().filter(|delivery| delivery["trigger"] == "recovery");
    assert_eq!(redelivered.filter(|delivery| delivery["status"] == "success").count(), 2);

    let one = format!("{path}/{}", text(&asked["id"]));
    let shown = local.expect(200, "GET", &one, "u", None).await;
    assert_eq!(
        ["status", "matched", "sent", "succeeded", "failed", "automatic"]
            .map(|field| &shown[field]),
        [&json!("done"), &json!(2), &json!(2), &json!(2), &json!(0), &json!(false)]
    );
    let requests = receiver.received();
    let ids = |requests: &[Received]| -> std::collections::BTreeSet<String> {
        requests.iter().map(|request| request.header("webhook-id").unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&requests[..2]), ids(&requests[2..]));
}
