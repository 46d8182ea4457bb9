//! Lists of subscriptions: the pages of a user, and the scan over all rows.

use std::collections::BTreeMap;

use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::limits::WEBHOOKS_PER_USER;
use webhooks_core::ports::{ListedSubscription, Page, SubscriptionKey, Subscriptions};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use super::subscription_rows::{create, get, odd_users};
use super::{Rule, all_pages, ok, rules};
use crate::sample;

pub(super) fn rules(store: &dyn Subscriptions) -> Vec<Rule<'_>> {
    rules![store;
        pages_are_newest_first_and_end_exactly_at_the_last_row,
        page_continues_while_rows_change,
        pages_skip_deleted_rows,
        list_by_user_has_every_subscription_of_the_user,
        scan_returns_every_row_and_tombstone_once,
        scan_continues_after_its_last_row_is_deleted,
        only_a_tombstone_can_be_deleted,
    ]
}

/// Creates `n` of a user, and gives their ids, newest first.
async fn fill(store: &dyn Subscriptions, user: &str, n: u64) -> Vec<SubscriptionId> {
    for n in 1..=n {
        create(store, &sample::subscription(user, n)).await;
    }
    (1..=n).rev().map(|n| sample::subscription_id(user, n)).collect()
}

fn ids(rows: &[ListedSubscription]) -> Vec<SubscriptionId> {
    rows.iter().map(|row| row.as_ref().expect("every row can be read").id.clone()).collect()
}

/// Reads all pages and compares each with the expected rows.
async fn assert_pages(
    store: &dyn Subscriptions,
    user: &UserId,
    limit: usize,
    mut expected: &[SubscriptionId],
) {
    let mut before = None;
    loop {
        let Page { items, next } = ok(store.page(user, limit, before.as_ref()).await);
        assert!(items.len() <= limit, "{} on a page of {limit}", items.len());
        let (here, rest) = expected.split_at(items.len().min(expected.len()));
        assert_eq!(ids(&items), here, "limit {limit}");
        assert_eq!(next.is_none(), rest.is_empty(), "limit {limit}: the end, and only the end");
        if next.is_none() {
            return;
        }
        assert_ne!(next, before, "the position moves on");
        (before, expected) = (next, rest);
    }
}

async fn pages_are_newest_first_and_end_exactly_at_the_last_row(store: &dyn Subscriptions) {
    let user = sample::user("pages");
    assert_pages(store, &user, 5, &[]).await;
    let mut newest_first = fill(store, "pages", 6).await;
    // Of one moment, too, there is an order.
    for byte in [9, 3, 200] {
        let id = SubscriptionId::new(sample::at(7), [byte; 10]);
        newest_first.push(id.clone());
        create(store, &Subscription { id, ..sample::subscription("pages", 7) }).await;
    }
    newest_first.sort_by(|a, b| b.cmp(a));
    for limit in (1..=10).chain([100]) {
        assert_pages(store, &user, limit, &newest_first).await;
    }
}

async fn page_continues_while_rows_change(store: &dyn Subscriptions) {
    let user = sample::user("moving");
    let newest_first = fill(store, "moving", 6).await;
    let first = ok(store.page(&user, 2, None).await);
    assert_eq!(ids(&first.items), newest_first[..2]);
    for n in 7..=9 {
        create(store, &sample::subscription("moving", n)).await;
    }
    let second = ok(store.page(&user, 2, first.next.as_ref()).await);
    assert_eq!(ids(&second.items), newest_first[2..4]);
    // The row that is the position is deleted, and its tombstone too.
    assert!(ok(store.delete(&user, &newest_first[3]).await));
    let third = ok(store.page(&user, 2, second.next.as_ref()).await);
    assert_eq!(ids(&third.items), newest_first[4..]);
    assert_eq!(third.next, None);
    ok(store.delete_tombstone(&user, &newest_first[3]).await);
    let third = ok(store.page(&user, 2, second.next.as_ref()).await);
    assert_eq!(ids(&third.items), newest_first[4..]);
    // A position need not be a row at all.
    let between = SubscriptionId::first_of(sample::at(2));
    assert_eq!(ids(&ok(store.page(&user, 5, Some(&between)).await).items), newest_first[5..]);
    let oldest = SubscriptionId::first_of(Timestamp::EPOCH);
    let past = ok(store.page(&user, 5, Some(&oldest)).await);
    assert!(past.items.is_empty() && past.next.is_none());
}

async fn pages_skip_deleted_rows(store: &dyn Subscriptions) {
    let user = sample::user("holes");
    let mut left = fill(store, "holes", 8).await;
    // The newest, one in the middle, and the two oldest.
    for at in [7, 6, 3, 0] {
        assert!(ok(store.delete(&user, &left.remove(at)).await));
    }
    for limit in 1..=5 {
        assert_pages(store, &user, limit, &left).await;
    }
}

async fn list_by_user_has_every_subscription_of_the_user(store: &dyn Subscriptions) {
    let user = sample::user("all");
    assert!(ok(store.list_by_user(&user).await).items.is_empty());
    let mut expected = fill(store, "all", WEBHOOKS_PER_USER as u64).await;
    let mut all = ids(&ok(store.list_by_user(&user).await).items);
    expected.sort();
    all.sort();
    assert_eq!(all, expected);
}

/// The scanned keys of these users, by key; each key at most once.
async fn scan_keys(
    store: &dyn Subscriptions,
    limit: usize,
    users: &[&str],
) -> BTreeMap<(UserId, SubscriptionId), bool> {
    let rows = all_pages(limit, async |after: Option<SubscriptionKey>| {
        store.scan_keys(limit, after.as_ref()).await
    });
    let mut found = BTreeMap::new();
    for SubscriptionKey { user_id, subscription_id, deleted } in rows.await {
        if users.contains(&user_id.as_str()) {
            let key = (user_id, subscription_id);
            assert_eq!(found.insert(key.clone(), deleted), None, "{key:?} is met twice");
        }
    }
    found
}

async fn scan_returns_every_row_and_tombstone_once(store: &dyn Subscriptions) {
    let odd = odd_users();
    let users: Vec<&str> = odd.iter().map(String::as_str).chain(["scan-1", "scan-2"]).collect();
    let mut expected = BTreeMap::new();
    for user in &users {
        let owner = sample::user(user);
        // Not 1: another rule has used those up.
        for n in [2, 3, 4] {
            let row = sample::subscription(user, n);
            create(store, &row).await;
            let deleted = n == 3 && ok(store.delete(&owner, &row.id).await);
            expected.insert((owner.clone(), row.id), deleted);
        }
    }
    for limit in [1, 2, 7, 1000] {
        assert_eq!(scan_keys(store, limit, &users).await, expected, "limit {limit}");
    }
    for ((user_id, id), _) in expected.iter().filter(|(_, deleted)| **deleted) {
        ok(store.delete_tombstone(user_id, id).await);
    }
    expected.retain(|_, deleted| !*deleted);
    assert_eq!(scan_keys(store, 1000, &users).await, expected, "tombstones are deleted");
}

async fn scan_continues_after_its_last_row_is_deleted(store: &dyn Subscriptions) {
    let users = ["resume-1", "resume-2", "resume-3"];
    let mut left = 0;
    for user in users {
        for id in fill(store, user, 5).await {
            assert!(ok(store.delete(&sample::user(user), &id).await));
            left += 1;
        }
    }
    let mut after: Option<SubscriptionKey> = None;
    loop {
        let Page { items, next } = ok(store.scan_keys(3, after.as_ref()).await);
        for row in items.iter().filter(|row| users.contains(&row.user_id.as_str())) {
            assert!(row.deleted);
            ok(store.delete_tombstone(&row.user_id, &row.subscription_id).await);
            left -= 1;
        }
        if next.is_none() {
            break;
        }
        assert_ne!(next, after, "the position moves on");
        after = next;
    }
    assert_eq!(left, 0);
    assert_eq!(scan_keys(store, 100, &users).await, BTreeMap::new());
}

async fn only_a_tombstone_can_be_deleted(store: &dyn Subscriptions) {
    let row = sample::subscription("tombstone", 1);
    let key = (row.user_id.clone(), row.id.clone());
    ok(store.delete_tombstone(&row.user_id, &row.id).await);
    create(store, &row).await;
    ok(store.delete_tombstone(&row.user_id, &row.id).await);
    assert!(get(store, &row.user_id, &row.id).await.is_some(), "it is no tombstone");
    assert_eq!(scan_keys(store, 100, &["tombstone"]).await, BTreeMap::from([(key.clone(), false)]));
    assert!(ok(store.delete(&row.user_id, &row.id).await));
    assert_eq!(scan_keys(store, 100, &["tombstone"]).await, BTreeMap::from([(key, true)]));
    for _ in 0..2 {
        ok(store.delete_tombstone(&row.user_id, &row.id).await);
        assert_eq!(scan_keys(store, 100, &["tombstone"]).await, BTreeMap::new());
    }
}
