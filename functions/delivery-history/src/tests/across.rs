//! Listing the deliveries of all webhooks.

use serde_json::Value;
use test_support::sample;
use webhooks_api::testing::TestRequest;
use webhooks_core::delivery::Status;

use super::{Harness, succeeded, text};
use crate::listing::{FURTHER_READS_MAX, ROWS_MAX};

const LIST_ALL: &str = "GET /api/deliveries";

/// Records deliveries of some webhooks of alice, and returns all their ids, newest first.
async fn histories(harness: &Harness) -> Vec<String> {
    let mut deliveries = Vec::new();
    for (n, count) in [(1, 7), (2, 1), (3, 20), (4, 0), (5, 3)] {
        let webhook = harness.webhook("alice", n).await.id;
        for event in 0..count {
            let mut delivery = succeeded(&webhook, event * n + n);
            if event % 5 == 0 {
                delivery.end(Status::Failed, sample::at(900));
            }
            harness.record(&delivery).await;
            deliveries.push(delivery);
        }
    }
    harness.record(&succeeded(&harness.webhook("bob", 1).await.id, 2)).await;
    deliveries.sort_by(|a, b| b.id.cmp(&a.id));
    deliveries.iter().map(|delivery| delivery.id.to_string()).collect()
}

/// The items of all pages, and how many pages there are.
async fn pages(harness: &Harness, query: &str) -> (Vec<Value>, usize) {
    let mut items: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    for pages in 1..200 {
        let call = TestRequest::to(LIST_ALL).query(&format!("{query}{cursor}"));
        let response = harness.send(call).await;
        assert_eq!(response.status(), 200, "{query}: {response:?}");
        let body = response.json();
        items.extend(body["items"].as_array().unwrap().iter().cloned());
        let Some(next) = body["next_cursor"].as_str() else { return (items, pages) };
        cursor = format!("&cursor={next}");
    }
    panic!("the list has no end");
}

fn ids(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| text(&item["id"])).collect()
}

#[tokio::test]
async fn deliveries_of_all_webhooks_are_listed_newest_first() {
    let harness = Harness::new();
    let expected = histories(&harness).await;
    for limit in [1, 2, 5, 30, 100] {
        let (items, pages) = pages(&harness, &format!("limit={limit}")).await;
        assert_eq!(ids(&items), expected, "pages of {limit}");
        assert!(pages <= expected.len().div_ceil(limit) + 1, "{pages} pages of {limit}");
    }
}

#[tokio::test]
async fn event_of_long_ago_is_found_within_the_budget_of_each_page() {
    let harness = Harness::new();
    let mut oldest = Vec::new();
    for n in 1..=4 {
        let webhook = harness.webhook("alice", n).await.id;
        let rows = if n == 4 { 10 } else { ROWS_MAX as u64 / 2 };
        for event in 0..rows {
            harness.record(&succeeded(&webhook, event)).await;
        }
        oldest.push(sample::delivery_id(&webhook, 0).to_string());
    }
    let mut cursor = String::new();
    let mut found = Vec::new();
    let mut pages = 0;
    loop {
        harness.reads.take();
        let query = format!("event_id=event-0&limit=3{cursor}");
        let body = harness.send(TestRequest::to(LIST_ALL).query(&query)).await.json();
        assert!(harness.reads.take() <= 4 + FURTHER_READS_MAX);
        found.extend(ids(body["items"].as_array().unwrap()));
        pages += 1;
        let Some(next) = body["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    oldest.sort();
    found.sort();
    assert_eq!(found, oldest);
    assert!((2..=6).contains(&pages), "{pages} pages");
}

#[tokio::test]
async fn page_of_a_hundred_webhooks_is_filled_by_one_read_of_each() {
    let harness = Harness::new();
    let mut expected = Vec::new();
    for n in 1..=100 {
        let webhook = harness.webhook("alice", n).await.id;
        harness.record(&succeeded(&webhook, n)).await;
        expected.insert(0, sample::delivery_id(&webhook, n).to_string());
    }
    harness.reads.take();
    let response = harness.send(TestRequest::to(LIST_ALL)).await;
    assert_eq!(ids(response.json()["items"].as_array().unwrap()), expected[..50]);
    assert_eq!(harness.reads.take(), 100);
}

#[tokio::test]
async fn filters_select_webhook_event_and_time() {
    let harness = Harness::new();
    histories(&harness).await;
    let webhook = sample::subscription_id("alice", 3);
    let (items, _) = pages(&harness, &format!("webhook_id={webhook}")).await;
    assert_eq!(items.len(), 20);
    assert!(items.iter().all(|item| item["webhook_id"] == webhook.as_str()));
    let (items, _) = pages(&harness, "limit=2&event_id=event-6").await;
    let found: Vec<_> = items.iter().map(|item| text(&item["event_id"])).collect();
    assert_eq!(found, ["event-6"; 2], "webhooks 1 and 3 got it");
    let until = sample::at(5);
    let (items, _) = pages(&harness, &format!("until={until}&status=success")).await;
    assert!(!items.is_empty());
    for item in &items {
        assert!(text(&item["created_at"]) < until.to_string() && item["status"] == "success");
    }
}

#[tokio::test]
async fn other_users_webhook_and_bad_parameters_are_refused() {
    let harness = Harness::new();
    histories(&harness).await;
    let send = |query: String| harness.send(TestRequest::to(LIST_ALL).query(&query));
    let bobs = sample::subscription_id("bob", 1);
    for id in [bobs.as_str(), "x", "", sample::subscription_id("alice", 90).as_str()] {
        assert_eq!(send(format!("webhook_id={id}")).await.problem(), "not-found", "{id}");
    }
    let refused = send("webhook_id=x&event_id=&status=x&page=1&cursor=x".to_owned()).await;
    assert_eq!(refused.problem(), "invalid-fields");
    assert_eq!(refused.fields(), ["event_id", "status", "cursor", "page"]);
    // The cursor of one list is none of another.
    let body = send("limit=1".to_owned()).await.json();
    let cursor = text(&body["next_cursor"]);
    let refused = send(format!("limit=1&status=failed&cursor={cursor}")).await;
    assert_eq!(refused.fields(), ["cursor"]);
}
