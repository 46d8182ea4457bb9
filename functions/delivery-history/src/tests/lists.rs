//! Listing deliveries.

use serde_json::{Value, json};
use test_support::sample;
use webhooks_api::testing::TestRequest;
use webhooks_core::delivery::{Delivery, EndReason, Status, Trigger};
use webhooks_core::ids::SubscriptionId;

use super::{Harness, LIST, succeeded};
use crate::listing::{FURTHER_READS_MAX, ROWS_MAX};

/// Records the deliveries of this many events, and returns their ids, newest first.
async fn history(harness: &Harness, webhook: &SubscriptionId, events: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..events {
        harness.record(&succeeded(webhook, n)).await;
        ids.insert(0, sample::delivery_id(webhook, n).to_string());
    }
    ids
}

async fn refused(harness: &Harness, webhook: &SubscriptionId, query: &str) -> Vec<String> {
    let response =
        harness.send(TestRequest::to(LIST).with("id", webhook.as_str()).query(query)).await;
    assert_eq!(
        (response.status(), response.problem().as_str()),
        (422, "invalid-fields"),
        "{query}"
    );
    response.fields()
}

#[tokio::test]
async fn delivery_is_shown_as_the_contract_says() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let mut retrying = sample::delivery(&webhook, 40);
    retrying.attempts.push(sample::attempt(41));
    retrying.wait(sample::at(50), sample::at(60), sample::at(42));
    let mut ended = sample::delivery(&webhook, 30);
    ended.trigger = Trigger::Test;
    ended.end_reason = Some(EndReason::WebhookDeleted);
    ended.end(Status::Failed, sample::at(31));
    for delivery in [&succeeded(&webhook, 20), &ended, &retrying] {
        harness.record(delivery).await;
    }
    let response = harness.send(TestRequest::to(LIST).with("id", webhook.as_str())).await;
    let items = response.json()["items"].clone();
    assert_eq!(
        items,
        json!([
            {
                "id": retrying.id, "webhook_id": webhook, "event_id": "event-40",
                "event_type": "task.created", "status": "retrying", "trigger": "event",
                "attempt_count": 1, "response_status": 500, "error": "http: HTTP 500",
                "duration_ms": 41, "created_at": "2027-01-15T08:00:40.000Z",
                "updated_at": "2027-01-15T08:00:42.000Z",
                "next_retry_at": "2027-01-15T08:00:50.000Z", "waiting_for": "retry",
                "redelivery_of": null,
            },
            {
                "id": ended.id, "webhook_id": webhook, "event_id": "event-30",
                "event_type": "task.created", "status": "failed", "trigger": "test",
                "attempt_count": 0, "response_status": null,
                "error": "webhook_deleted: the webhook was deleted",
                "duration_ms": null, "created_at": "2027-01-15T08:00:30.000Z",
                "updated_at": "2027-01-15T08:00:31.000Z", "next_retry_at": null,
                "waiting_for": null,
                "redelivery_of": null,
            },
            {
                "id": sample::delivery_id(&webhook, 20), "webhook_id": webhook,
                "event_id": "event-20", "event_type": "task.created", "status": "success",
                "trigger": "event", "attempt_count": 2, "response_status": 204, "error": null,
                "duration_ms": 22, "created_at": "2027-01-15T08:00:20.000Z",
                "updated_at": "2027-01-15T08:00:23.000Z", "next_retry_at": null,
                "waiting_for": null,
                "redelivery_of": null,
            },
        ])
    );
    assert_eq!(response.json()["next_cursor"], Value::Null);
}

#[tokio::test]
async fn pages_are_complete_when_deliveries_are_added_meanwhile() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let expected = history(&harness, &webhook, 130).await;
    history(&harness, &harness.webhook("alice", 2).await.id, 3).await;
    assert_eq!(harness.page(&webhook, "").await.0, expected[..50], "the default");
    let mut newest = 130;
    for limit in [1, 9, 65, 100] {
        let since = sample::start();
        let until = sample::at(130);
        let mut query = format!("limit={limit}&since={since}&until={until}");
        let mut seen = Vec::new();
        loop {
            let (ids, next) = harness.page(&webhook, &query).await;
            assert!(ids.len() <= limit);
            seen.extend(ids);
            harness.record(&succeeded(&webhook, newest)).await;
            newest += 1;
            let Some(next) = next else { break };
            query = format!("since={since}&cursor={next}&limit={limit}&until={until}");
        }
        assert_eq!(seen, expected, "{limit}");
    }
}

#[tokio::test]
async fn unfiltered_page_is_one_read() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    history(&harness, &webhook, 150).await;
    for limit in [1, 50, 100] {
        harness.reads.take();
        let (ids, next) = harness.page(&webhook, &format!("limit={limit}")).await;
        assert_eq!((ids.len(), next.is_some(), harness.reads.take()), (limit, true, 1));
    }
}

#[tokio::test]
async fn page_is_full_when_its_filter_leaves_few_rows() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let mut rare = Vec::new();
    for n in 0..600 {
        let mut delivery = succeeded(&webhook, n);
        if n % 100 == 0 {
            delivery.event_type = sample::event_type("sync.completed");
            rare.insert(0, delivery.id.to_string());
        }
        harness.record(&delivery).await;
    }
    let query = "limit=4&event_type=sync.completed";
    let (ids, next) = harness.page(&webhook, query).await;
    assert_eq!(ids, rare[..4]);
    let (ids, next) = harness.page(&webhook, &format!("{query}&cursor={}", next.unwrap())).await;
    assert_eq!((ids.as_slice(), next), (&rare[4..], None));
}

#[tokio::test]
async fn page_that_has_read_its_budget_is_continued_by_the_next() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let mut oldest = succeeded(&webhook, 0);
    oldest.event_type = sample::event_type("sync.completed");
    harness.record(&oldest).await;
    for n in 1..=ROWS_MAX as u64 + 100 {
        harness.record(&succeeded(&webhook, n)).await;
    }
    let query = "limit=1&event_type=sync.completed";
    harness.reads.take();
    let (ids, next) = harness.page(&webhook, query).await;
    assert_eq!(ids, [""; 0]);
    assert!(harness.reads.take() <= 1 + FURTHER_READS_MAX);
    let next = format!("{query}&cursor={}", next.expect("not all was read"));
    assert_eq!(harness.page(&webhook, &next).await, (vec![oldest.id.to_string()], None));
}

#[tokio::test]
async fn filters_return_matching_deliveries_only() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let ids = history(&harness, &webhook, 6).await;
    let other =
        Delivery { event_type: sample::event_type("sync.completed"), ..succeeded(&webhook, 7) };
    let retrying = sample::delivery(&webhook, 8);
    harness.record(&other).await;
    harness.record(&retrying).await;
    let moment = sample::at(4);
    for (query, expected) in [
        ("status=retrying".to_owned(), vec![retrying.id.to_string()]),
        ("status=failed".to_owned(), vec![]),
        ("event_type=sync.completed".to_owned(), vec![other.id.to_string()]),
        (format!("until={moment}"), ids[2..].to_vec()),
        (format!("since={moment}&status=success&event_type=task.created"), ids[..2].to_vec()),
        (
            "since=2027-01-15T09:00:04+01:00&until=2027-01-15T09:00:05+01:00".to_owned(),
            ids[1..2].to_vec(),
        ),
        (
            "since=2027-01-15T09:00:04%2B01:00&until=2027-01-15T09:00:05%2001:00".to_owned(),
            ids[1..2].to_vec(),
        ),
    ] {
        assert_eq!(harness.page(&webhook, &query).await, (expected, None), "{query}");
    }
}

#[tokio::test]
async fn every_bad_parameter_is_named() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let query =
        "limit=101&cursor=x&status=Success&event_type=task.eaten&since=today&until=1&page=2";
    let mut fields = refused(&harness, &webhook, query).await;
    fields.sort();
    assert_eq!(fields, ["cursor", "event_type", "limit", "page", "since", "status", "until"]);
    for until in ["2027-01-15T08:00:00Z", "2027-01-15T07:59:59Z"] {
        let query = format!("since=2027-01-15T08:00:00Z&until={until}");
        assert_eq!(refused(&harness, &webhook, &query).await, ["until"]);
    }
    assert_eq!(refused(&harness, &webhook, "status=success&status=failed").await, ["status"]);
    let response =
        harness.send(TestRequest::to(LIST).with("id", webhook.as_str()).query("status=done")).await;
    assert_eq!(
        response.json()["detail"],
        "`status` must be one of retrying, held, success, failed"
    );
}

#[tokio::test]
async fn cursor_is_bound_to_owner_webhook_and_filters() {
    let harness = Harness::new();
    let webhook = harness.webhook("alice", 1).await.id;
    let second = harness.webhook("alice", 2).await.id;
    let bobs = harness.webhook("bob", 1).await.id;
    let ids = history(&harness, &webhook, 5).await;
    let filters = format!("status=success&event_type=task.created&since={}", sample::start());
    let (_, cursor) = harness.page(&webhook, &format!("{filters}&limit=2")).await;
    let cursor = format!("cursor={}", cursor.unwrap());

    let same = "since=2027-01-15T09:00:00%2B01:00&event_type=task.created&status=success";
    assert_eq!(
        harness.page(&webhook, &format!("{same}&{cursor}")).await,
        (ids[2..].to_vec(), None)
    );

    for other in [
        String::new(),
        filters.replace("success", "failed"),
        filters.replace("task.created", "task.deleted"),
        filters.replace("since", "until"),
        format!("{filters}&until={}", sample::at(100)),
        filters.replace("status=success&", ""),
    ] {
        assert_eq!(refused(&harness, &webhook, &format!("{other}&{cursor}")).await, ["cursor"]);
    }
    let query = format!("{filters}&{cursor}");
    assert_eq!(refused(&harness, &second, &query).await, ["cursor"]);
    for id in [&webhook, &bobs] {
        let call = TestRequest::to(LIST).by("bob").with("id", id.as_str()).query(&query);
        assert_eq!(harness.send(call).await.fields(), ["cursor"]);
    }
}
