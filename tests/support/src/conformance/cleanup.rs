//! What the cleanup needs of the Deliveries table.

use std::collections::HashSet;

use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::ids::SubscriptionId;
use webhooks_core::ports::{DeliveriesTable, Expect, RowKey, StoreError, SubscriptionKey, Version};
use webhooks_core::statistics::Counts;
use webhooks_core::time::Timestamp;

use super::records::{assert_stands, ended, get, largest, put, subscription, waiting};
use super::subscription_rows::odd_users;
use super::{Rule, ok, rules};
use crate::sample;

pub(super) fn rules(store: &dyn DeliveriesTable) -> Vec<Rule<'_>> {
    rules![store;
        all_rows_of_a_subscription_have_keys,
        expired_keys_are_of_older_rows_only,
        number_of_keys_is_limited,
        large_rows_are_found_and_deleted,
        delete_removes_rows_of_one_subscription_only,
        delete_of_missing_rows_succeeds,
        cleanup_position_is_kept,
    ]
}

/// More than any rule has rows of one subscription.
const MANY: usize = 1_000;

/// The keys of all rows, or of those that belong to a time before `before`.
async fn read_keys(
    store: &dyn DeliveriesTable,
    subscription: &SubscriptionId,
    before: Option<Timestamp>,
    limit: usize,
) -> Result<Vec<RowKey>, StoreError> {
    match before {
        Some(before) => store.expired_keys(subscription, before, limit).await,
        None => store.all_keys(subscription, limit).await,
    }
}

/// The keys of rows, each once.
async fn keys(
    store: &dyn DeliveriesTable,
    subscription: &SubscriptionId,
    before: Option<Timestamp>,
) -> HashSet<RowKey> {
    let found = ok(read_keys(store, subscription, before, MANY).await);
    let distinct: HashSet<RowKey> = found.iter().cloned().collect();
    assert_eq!(distinct.len(), found.len(), "a key is met twice");
    distinct
}

/// Writes one delivery each hour, and its counters, and gives their keys.
async fn fill(
    store: &dyn DeliveriesTable,
    subscription: &SubscriptionId,
    hours: u64,
) -> Vec<(u64, RowKey)> {
    let counts = Counts { total: 1, success: 1, failed: 0, ..Counts::default() };
    let mut keys = Vec::new();
    for n in 0..hours {
        let moment = sample::at(n * 3_600);
        let plain = sample::delivery(subscription, n * 3_600);
        let delivery = match n % 3 {
            0 => ended(plain, 1, Status::Success),
            1 => waiting(plain, 1, sample::at(60)),
            // Expired ones are there to be deleted, too.
            _ => Delivery { expires_at: Timestamp::from_seconds(1), ..plain },
        };
        put(store, &delivery).await;
        ok(store.count(subscription, moment, &sample::addition(counts, moment)).await);
        keys.extend([(n, RowKey::Delivery(delivery.id)), (n, RowKey::Stats(moment))]);
    }
    keys
}

async fn all_rows_of_a_subscription_have_keys(store: &dyn DeliveriesTable) {
    let (own, other) = (subscription("keys-own"), subscription("keys-other"));
    fill(store, &other, 3).await;
    assert_eq!(keys(store, &own, None).await, HashSet::new());
    let written = fill(store, &own, 10).await;
    assert_eq!(keys(store, &own, None).await, written.into_iter().map(|(_, key)| key).collect());
}

async fn expired_keys_are_of_older_rows_only(store: &dyn DeliveriesTable) {
    let subscription = subscription("keys-before");
    let written = fill(store, &subscription, 10).await;
    for end in [0, 1, 6, 10] {
        // Those that still wait for a retry are left out.
        let waits = |hour: u64, key: &RowKey| hour % 3 == 1 && matches!(key, RowKey::Delivery(_));
        let older = written.iter().filter(|(hour, key)| *hour < end && !waits(*hour, key));
        let older = older.map(|(_, key)| key.clone());
        let before = Some(sample::at(end * 3_600));
        assert_eq!(keys(store, &subscription, before).await, older.collect(), "hour {end}");
    }
    assert_eq!(keys(store, &subscription, Some(Timestamp::EPOCH)).await, HashSet::new());
    let last = Some(Timestamp::from_millis(i64::MAX));
    assert_eq!(keys(store, &subscription, last).await.len(), 17);
}

async fn number_of_keys_is_limited(store: &dyn DeliveriesTable) {
    let subscription = subscription("keys-limit");
    let written = fill(store, &subscription, 20).await;
    for (before, mut left) in [(Some(sample::at(10 * 3_600)), 17), (None, written.len() - 17)] {
        // Repeated reads and deletes return every row once.
        while left > 0 {
            let found = ok(read_keys(store, &subscription, before, 3).await);
            assert!((1..=3).contains(&found.len()), "{} keys, {left} rows left", found.len());
            assert_eq!(ok(store.delete(&subscription, &found).await), []);
            left -= found.len();
        }
        assert_eq!(ok(read_keys(store, &subscription, before, 3).await), []);
    }
}

async fn large_rows_are_found_and_deleted(store: &dyn DeliveriesTable) {
    let subscription = subscription("keys-large");
    for n in 1..=4 {
        put(store, &largest(&subscription, n)).await;
    }
    // The old ones go with their payloads, two rows at a time.
    for n in 1..=2 {
        let id = sample::delivery_id(&subscription, n);
        let mut ended = get(store, &subscription, &id).await.unwrap_or_else(|| panic!("{n}"));
        let attempts = ended.attempt_count();
        ended.end(Status::Failed, sample::at(9));
        ok(store.put(&ended, Expect::Unchanged(Version::retrying(attempts))).await);
    }
    let before = sample::at(3);
    for _ in 0..4 {
        let found = ok(store.expired_keys(&subscription, before, 2).await);
        assert_eq!(ok(store.delete(&subscription, &found).await), []);
    }
    assert_eq!(ok(store.expired_keys(&subscription, before, 2).await), []);
    let left = ok(store.all_keys(&subscription, 100).await);
    assert!((2..=4).contains(&left.len()), "two deliveries and their payloads are left: {left:?}");
    assert_eq!(ok(store.delete(&subscription, &left).await), []);
    assert_eq!(ok(store.all_keys(&subscription, 100).await), []);
}

async fn delete_removes_rows_of_one_subscription_only(store: &dyn DeliveriesTable) {
    let (own, other) = (subscription("delete-own"), subscription("delete-other"));
    // More than one `BatchWriteItem` takes (25).
    let written: Vec<RowKey> =
        fill(store, &own, 33).await.into_iter().map(|(_, key)| key).collect();
    let kept = waiting(sample::delivery(&other, 0), 1, sample::at(60));
    // A record of the same name, which in life belongs to one subscription only.
    let duplicate = Delivery { id: sample::delivery_id(&own, 0), ..kept.clone() };
    put(store, &kept).await;
    put(store, &duplicate).await;
    let counts = Counts { total: 1, success: 0, failed: 0, ..Counts::default() };
    let start = sample::start();
    ok(store.count(&other, start, &sample::addition(counts, start)).await);

    let (gone, left) = written.split_at(60);
    assert_eq!(ok(store.delete(&own, gone).await), []);
    assert_eq!(keys(store, &own, None).await, left.iter().cloned().collect());
    for key in gone {
        if let RowKey::Delivery(id) = key {
            assert_eq!(get(store, &own, id).await, None);
        }
    }
    assert_eq!(ok(store.counters(&own, start).await).len(), 3);
    assert_stands(store, &kept).await;
    assert_stands(store, &duplicate).await;
    assert_eq!(keys(store, &other, None).await.len(), 3);
}

async fn delete_of_missing_rows_succeeds(store: &dyn DeliveriesTable) {
    let subscription = subscription("delete-nothing");
    assert_eq!(ok(store.delete(&subscription, &[]).await), []);
    let missing =
        [RowKey::Delivery(sample::delivery_id(&subscription, 1)), RowKey::Stats(sample::start())];
    assert_eq!(ok(store.delete(&subscription, &missing).await), []);
    assert_eq!(keys(store, &subscription, None).await, HashSet::new());
}

async fn cleanup_position_is_kept(store: &dyn DeliveriesTable) {
    assert_eq!(ok(store.position().await), None);
    ok(store.set_position(None).await);
    assert_eq!(ok(store.position().await), None);
    for (n, user) in (0..).zip(odd_users()) {
        let position = SubscriptionKey {
            user_id: sample::user(&user),
            subscription_id: sample::subscription_id(&user, n),
            deleted: n % 2 == 0,
        };
        ok(store.set_position(Some(&position)).await);
        assert_eq!(ok(store.position().await), Some(position));
    }
    ok(store.set_position(None).await);
    assert_eq!(ok(store.position().await), None);
}
