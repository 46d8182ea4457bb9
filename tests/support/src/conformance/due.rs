//! The due index.

use std::collections::BTreeSet;
use std::time::Duration;

use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::ids::SubscriptionId;
use webhooks_core::limits::DUE_SHARDS;
use webhooks_core::ports::{
    DeliveriesTable, DeliveryWrite, Due, Expect, Page, RowKey, Version, Waiting, Written,
};
use webhooks_core::time::Timestamp;

use super::records::{assert_stands, ended, get, put, subscription, waiting};
use super::{Rule, all_pages, ok, rules};
use crate::sample;

pub(super) fn rules(store: &dyn DeliveriesTable) -> Vec<Rule<'_>> {
    rules![store;
        index_contains_waiting_records_only,
        each_row_is_in_one_shard,
        due_pages_are_earliest_first_and_complete,
        due_is_included_up_to_the_millisecond,
        due_pages_continue_after_their_last_row_moved,
        postpone_requires_the_expected_due_time,
    ]
}

/// Long after everything that is due in these rules.
fn end() -> Timestamp {
    sample::at(1_000_000)
}

/// The rows of one subscription, by shard, each shard in the order it gave.
async fn by_shard(
    store: &dyn DeliveriesTable,
    subscription: &SubscriptionId,
    until: Timestamp,
    limit: usize,
) -> Vec<Vec<Due>> {
    let mut shards = Vec::new();
    for shard in 0..DUE_SHARDS {
        let page = async |after: Option<Due>| store.due(shard, until, limit, after.as_ref()).await;
        let rows = all_pages(limit, page).await;
        assert!(rows.is_sorted_by_key(|row| row.due_at), "shard {shard}: earliest first");
        assert!(rows.iter().all(|row| row.due_at <= until), "shard {shard}: not yet due");
        shards.push(rows.into_iter().filter(|row| row.subscription_id == *subscription).collect());
    }
    shards
}

/// The rows of one subscription over all shards, in order; a row that is found twice is listed twice.
pub(super) async fn due(
    store: &dyn DeliveriesTable,
    subscription: &SubscriptionId,
    until: Timestamp,
) -> Vec<Due> {
    let mut rows = by_shard(store, subscription, until, 100).await.concat();
    rows.sort();
    rows
}

/// The row of a record that waits.
fn row(delivery: &Delivery) -> Due {
    Due {
        due_at: delivery.due_at.unwrap_or_else(|| panic!("{} does not wait", delivery.id)),
        subscription_id: delivery.subscription_id.clone(),
        row: Waiting::Delivery(delivery.id.clone()),
    }
}

fn sorted(mut rows: Vec<Due>) -> Vec<Due> {
    rows.sort();
    rows
}

async fn index_contains_waiting_records_only(store: &dyn DeliveriesTable) {
    let subscription = subscription("due-exactly");
    let plain = |n| sample::delivery(&subscription, n);
    let first = waiting(plain(1), 1, sample::at(100));
    let second = waiting(plain(2), 1, sample::at(50));
    put(store, &first).await;
    put(store, &second).await;
    put(store, &plain(3)).await;
    put(store, &ended(plain(4), 1, Status::Success)).await;
    put(store, &ended(plain(5), 1, Status::Failed)).await;
    assert_eq!(due(store, &subscription, end()).await, [row(&second), row(&first)]);

    // A later write moves the row; a conflict does not.
    let write = async |delivery: &Delivery, attempts: u32| {
        ok(store.put(delivery, Expect::Unchanged(Version::retrying(attempts))).await)
    };
    let moved = waiting(plain(2), 2, sample::at(150));
    assert!(!write(&moved, 7).await.is_applied());
    assert_eq!(due(store, &subscription, end()).await, [row(&second), row(&first)]);
    assert_eq!(write(&moved, 1).await, DeliveryWrite::Applied);
    assert_eq!(due(store, &subscription, end()).await, [row(&first), row(&moved)]);

    // What has ended, or is deleted, is not due.
    assert_eq!(write(&ended(plain(2), 3, Status::Failed), 2).await, DeliveryWrite::Applied);
    assert_eq!(due(store, &subscription, end()).await, [row(&first)]);
    let key = RowKey::Delivery(first.id.clone());
    assert_eq!(ok(store.delete(&subscription, &[key]).await), []);
    assert_eq!(due(store, &subscription, end()).await, []);
}

async fn each_row_is_in_one_shard(store: &dyn DeliveriesTable) {
    let subscription = subscription("due-shards");
    let mut expected = Vec::new();
    for n in 1..=60 {
        // All in one moment, which is what the shards are for.
        let delivery = waiting(sample::delivery(&subscription, n), 1, sample::at(100));
        put(store, &delivery).await;
        expected.push(row(&delivery));
    }
    let shards = by_shard(store, &subscription, end(), 100).await;
    let used = shards.iter().filter(|rows| !rows.is_empty()).count();
    assert!(used > usize::from(DUE_SHARDS) / 2, "{used} shards are used");
    assert_eq!(sorted(shards.concat()), sorted(expected));

    // A row stays in its shard wherever it moves.
    for (n, rows) in (0..).zip(&shards) {
        for old in rows {
            assert_eq!(
                ok(store.postpone(old, sample::at(200)).await),
                Written::Applied,
                "shard {n}"
            );
        }
    }
    for (before, after) in shards.iter().zip(by_shard(store, &subscription, end(), 100).await) {
        let ids =
            |rows: &[Due]| -> BTreeSet<_> { rows.iter().map(|row| row.row.clone()).collect() };
        assert_eq!(ids(before), ids(&after));
    }
}

async fn due_pages_are_earliest_first_and_complete(store: &dyn DeliveriesTable) {
    let subscription = subscription("due-pages");
    let mut expected = Vec::new();
    for n in 1..=50 {
        // Many share a moment, and the order of the moments is not that of the ids.
        let due_at = sample::at(500 - 10 * (n * 7 % 6));
        let delivery = waiting(sample::delivery(&subscription, n), 1, due_at);
        put(store, &delivery).await;
        expected.push(row(&delivery));
    }
    let expected = sorted(expected);
    for limit in [1, 2, 3, 100] {
        let rows = by_shard(store, &subscription, end(), limit).await.concat();
        assert_eq!(sorted(rows), expected, "limit {limit}");
        let rows = by_shard(store, &subscription, sample::at(470), limit).await.concat();
        let early = expected.iter().filter(|row| row.due_at <= sample::at(470)).cloned();
        assert_eq!(sorted(rows), early.collect::<Vec<_>>(), "limit {limit}");
    }
}

async fn due_is_included_up_to_the_millisecond(store: &dyn DeliveriesTable) {
    let subscription = subscription("due-until");
    let due_at = sample::start().plus(Duration::from_millis(100_500));
    let delivery = waiting(sample::delivery(&subscription, 1), 1, due_at);
    put(store, &delivery).await;
    let millisecond = Duration::from_millis(1);
    assert_eq!(due(store, &subscription, due_at).await, [row(&delivery)]);
    assert_eq!(due(store, &subscription, due_at.plus(millisecond)).await, [row(&delivery)]);
    assert_eq!(due(store, &subscription, due_at.minus(millisecond)).await, []);
    assert_eq!(due(store, &subscription, Timestamp::EPOCH).await, []);
    let last = Timestamp::from_millis(i64::MAX);
    assert_eq!(due(store, &subscription, last).await, [row(&delivery)]);
}

async fn due_pages_continue_after_their_last_row_moved(store: &dyn DeliveriesTable) {
    let subscription = subscription("due-moving");
    let mut left = BTreeSet::new();
    for n in 1..=40 {
        let delivery = waiting(sample::delivery(&subscription, n), 1, sample::at(100 + n % 5));
        put(store, &delivery).await;
        left.insert(delivery.id);
    }
    // As the retry function does it: each row moves before the next page is asked for.
    for shard in 0..DUE_SHARDS {
        let mut after: Option<Due> = None;
        loop {
            let page = store.due(shard, sample::at(110), 2, after.as_ref()).await;
            let Page { items, next } = ok(page);
            for due in items.iter().filter(|due| due.subscription_id == subscription) {
                let id = due.row.delivery_id().expect("the rule stores deliveries");
                assert!(left.remove(id), "{id} is met twice");
                assert_eq!(ok(store.postpone(due, sample::at(5_000)).await), Written::Applied);
            }
            if next.is_none() {
                break;
            }
            assert_ne!(next, after, "the position moves on");
            after = next;
        }
    }
    assert_eq!(left, BTreeSet::new(), "some were not met");
    assert_eq!(due(store, &subscription, sample::at(4_999)).await, []);
    assert_eq!(due(store, &subscription, sample::at(5_000)).await.len(), 40);
}

async fn postpone_requires_the_expected_due_time(store: &dyn DeliveriesTable) {
    let subscription = subscription("due-postpone");
    let plain = |n| sample::delivery(&subscription, n);
    let mut delivery = waiting(plain(1), 2, sample::at(100));
    let missing = row(&delivery);
    assert_eq!(ok(store.postpone(&missing, sample::at(200)).await), Written::ConditionFailed);
    assert_eq!(get(store, &subscription, &delivery.id).await, None, "no record is made");

    put(store, &delivery).await;
    let stale = Due { due_at: sample::at(99), ..row(&delivery) };
    assert_eq!(ok(store.postpone(&stale, sample::at(200)).await), Written::ConditionFailed);
    assert_eq!(due(store, &subscription, end()).await, [row(&delivery)]);

    // It moves to and fro, and nothing else of the record changes.
    for (from, to) in [(100, 200), (200, 150)] {
        let here = Due { due_at: sample::at(from), ..row(&delivery) };
        assert_eq!(ok(store.postpone(&here, sample::at(to)).await), Written::Applied);
        let again = store.postpone(&here, sample::at(300)).await;
        assert_eq!(ok(again), Written::ConditionFailed, "it stands there no longer");
        delivery.due_at = Some(sample::at(to));
        assert_stands(store, &delivery).await;
        assert_eq!(due(store, &subscription, end()).await, [row(&delivery)]);
    }
    let last = row(&delivery);
    let end_of_it = ended(plain(1), 3, Status::Success);
    let written = store.put(&end_of_it, Expect::Unchanged(Version::retrying(2))).await;
    assert!(ok(written).is_applied(), "to postpone is no attempt");
    assert_eq!(ok(store.postpone(&last, sample::at(300)).await), Written::ConditionFailed);
    assert_stands(store, &end_of_it).await;
    assert_eq!(due(store, &subscription, end()).await, []);
}
