//! The list of a subscription's deliveries.

use std::time::Duration;

use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::ids::{DeliveryId, SubscriptionId};
use webhooks_core::ports::{
    DeliveriesTable, DeliveryFilter, DeliveryWrite, Expect, Page, RowKey, Version,
};
use webhooks_core::statistics::Counts;
use webhooks_core::time::Timestamp;

use super::records::{ended, largest, put, subscription, waiting};
use super::{Rule, all_pages, ok, rules};
use crate::sample;

pub(super) fn rules(store: &dyn DeliveriesTable) -> Vec<Rule<'_>> {
    rules![store;
        unfiltered_pages_end_at_the_last_record,
        history_page_continues_while_records_change,
        filters_return_every_matching_record_only,
        since_is_included_and_until_is_not,
        period_without_records_is_empty,
        expired_records_are_not_shown,
        counters_are_not_shown,
        large_records_are_all_shown,
        few_that_failed_or_wait_are_found_among_many_successes_in_one_read,
    ]
}

const ALL: DeliveryFilter =
    DeliveryFilter { status: None, event_type: None, event_id: None, since: None, until: None };

/// The ids on all pages, as of [`sample::start`].
async fn shown(
    store: &dyn DeliveriesTable,
    subscription: &SubscriptionId,
    filter: &DeliveryFilter,
    limit: usize,
) -> Vec<DeliveryId> {
    let page = async |before: Option<DeliveryId>| {
        store.page(subscription, filter, limit, before.as_ref(), sample::start()).await
    };
    all_pages(limit, page).await.into_iter().map(|row| row.id).collect()
}

fn ids(rows: &[Delivery]) -> Vec<DeliveryId> {
    rows.iter().map(|row| row.id.clone()).collect()
}

/// Writes the first `n` deliveries, and gives their ids, newest first.
async fn fill(
    store: &dyn DeliveriesTable,
    subscription: &SubscriptionId,
    n: u64,
) -> Vec<DeliveryId> {
    for n in 1..=n {
        put(store, &ended(sample::delivery(subscription, n), 1, Status::Success)).await;
    }
    (1..=n).rev().map(|n| sample::delivery_id(subscription, n)).collect()
}

async fn unfiltered_pages_end_at_the_last_record(store: &dyn DeliveriesTable) {
    let subscription = subscription("history-end");
    let page = ok(store.page(&subscription, &ALL, 5, None, sample::start()).await);
    assert!(page.items.is_empty() && page.next.is_none());
    let newest_first = fill(store, &subscription, 7).await;
    for limit in (1..=8).chain([100]) {
        let mut expected = newest_first.as_slice();
        let mut before = None;
        loop {
            let page = store.page(&subscription, &ALL, limit, before.as_ref(), sample::start());
            let Page { items, next } = ok(page.await);
            assert!(items.len() <= limit, "{} on a page of {limit}", items.len());
            let (here, rest) = expected.split_at(items.len().min(expected.len()));
            assert_eq!(ids(&items), here, "limit {limit}");
            assert_eq!(next.is_none(), rest.is_empty(), "limit {limit}: the end, and only it");
            if next.is_none() {
                break;
            }
            assert_ne!(next, before, "the position moves on");
            (before, expected) = (next, rest);
        }
    }
}

async fn history_page_continues_while_records_change(store: &dyn DeliveriesTable) {
    let subscription = subscription("history-moving");
    let newest_first = fill(store, &subscription, 6).await;
    let page = async |before: Option<&DeliveryId>| {
        ok(store.page(&subscription, &ALL, 2, before, sample::start()).await)
    };
    let first = page(None).await;
    assert_eq!(ids(&first.items), newest_first[..2]);
    for n in 7..=9 {
        put(store, &sample::delivery(&subscription, n)).await;
    }
    let second = page(first.next.as_ref()).await;
    assert_eq!(ids(&second.items), newest_first[2..4]);
    // The record that is the position is deleted.
    let key = RowKey::Delivery(newest_first[3].clone());
    assert_eq!(ok(store.delete(&subscription, &[key]).await), []);
    let third = page(second.next.as_ref()).await;
    assert_eq!(ids(&third.items), newest_first[4..]);
    assert_eq!(third.next, None);
    let oldest = page(Some(&DeliveryId::first_of(Timestamp::EPOCH))).await;
    assert!(oldest.items.is_empty() && oldest.next.is_none());
}

async fn filters_return_every_matching_record_only(store: &dyn DeliveriesTable) {
    let subscription = subscription("history-filters");
    let types = ["task.created", "email.sent"].map(sample::event_type);
    let mut rows = Vec::new();
    for n in 1..=36u64 {
        let plain = Delivery {
            event_type: types[usize::from(n % 4 == 0)],
            ..sample::delivery(&subscription, n)
        };
        let row = match n % 3 {
            0 => waiting(plain, 1, sample::at(600)),
            1 => ended(plain, 1, Status::Success),
            _ => ended(plain, 2, Status::Failed),
        };
        put(store, &row).await;
        rows.insert(0, row);
    }
    let statuses = [None, Some(Status::Retrying), Some(Status::Success), Some(Status::Failed)];
    let kinds = [None, Some(types[0]), Some(types[1]), Some(sample::event_type("task.deleted"))];
    let spans = [(None, None), (Some(10), None), (None, Some(30)), (Some(10), Some(30))];
    for status in statuses {
        for event_type in kinds {
            for (since, until) in spans {
                let (since, until) = (since.map(sample::at), until.map(sample::at));
                let filter = DeliveryFilter { status, event_type, since, until, ..ALL };
                let passing: Vec<DeliveryId> = rows
                    .iter()
                    .filter(|row| passes(&filter, row))
                    .map(|row| row.id.clone())
                    .collect();
                for limit in [1, 5, 100] {
                    let found = shown(store, &subscription, &filter, limit).await;
                    assert_eq!(found, passing, "{filter:?}, limit {limit}");
                }
            }
        }
    }
    let again = DeliveryId::new(sample::at(40), [0; 10]);
    put(store, &Delivery { id: again.clone(), ..sample::delivery(&subscription, 7) }).await;
    let filter = DeliveryFilter { event_id: Some(sample::event_id(7)), ..ALL };
    for limit in [1, 5, 100] {
        let found = shown(store, &subscription, &filter, limit).await;
        assert_eq!(found, [again.clone(), sample::delivery_id(&subscription, 7)], "limit {limit}");
    }
}

/// The documentation of the filter, as code.
fn passes(filter: &DeliveryFilter, row: &Delivery) -> bool {
    (filter.status.is_none() || filter.status == Some(row.status))
        && (filter.event_type.is_none() || filter.event_type == Some(row.event_type))
        && (filter.event_id.is_none() || filter.event_id.as_ref() == Some(&row.event_id))
        && (filter.since.is_none() || filter.since <= Some(row.created_at()))
        && (filter.until.is_none() || Some(row.created_at()) < filter.until)
}

async fn since_is_included_and_until_is_not(store: &dyn DeliveriesTable) {
    let subscription = subscription("history-span");
    let moment = |millis| sample::at(50).plus(Duration::from_millis(millis));
    let mut rows = Vec::new();
    // Two of each moment, with the lowest and the highest id it can have.
    for millis in 0..4 {
        for byte in [0, 255] {
            let id = DeliveryId::new(moment(millis), [byte; 10]);
            rows.insert(0, Delivery { id, ..sample::delivery(&subscription, 1) });
        }
    }
    for row in &rows {
        put(store, row).await;
    }
    let last = Timestamp::from_millis(i64::MAX);
    let mut spans = vec![(None, None), (Some(Timestamp::EPOCH), Some(last))];
    for a in 0..4 {
        spans.extend([(Some(moment(a)), None), (None, Some(moment(a)))]);
        spans.extend((a..4).map(|b| (Some(moment(a)), Some(moment(b)))));
    }
    for (since, until) in spans {
        let filter = DeliveryFilter { since, until, ..ALL };
        let passing: Vec<DeliveryId> =
            rows.iter().filter(|row| passes(&filter, row)).map(|row| row.id.clone()).collect();
        for limit in [1, 3, 100] {
            assert_eq!(shown(store, &subscription, &filter, limit).await, passing, "{filter:?}");
        }
    }
}

async fn period_without_records_is_empty(store: &dyn DeliveriesTable) {
    let subscription = subscription("history-empty");
    let newest_first = fill(store, &subscription, 5).await;
    let spans = [(Some(4), Some(2)), (Some(3), Some(3)), (Some(6), None), (None, Some(1))];
    for (since, until) in spans {
        let (since, until) = (since.map(sample::at), until.map(sample::at));
        let filter = DeliveryFilter { since, until, ..ALL };
        assert_eq!(shown(store, &subscription, &filter, 10).await, [], "{filter:?}");
    }
    // A position may lie on either side of the span that is asked for.
    let filter = DeliveryFilter { since: Some(sample::at(3)), until: Some(sample::at(5)), ..ALL };
    let (newest, oldest) = (&newest_first[0], &newest_first[4]);
    let page = async |before: &DeliveryId| {
        ok(store.page(&subscription, &filter, 10, Some(before), sample::start()).await)
    };
    assert_eq!(ids(&page(newest).await.items), newest_first[1..3]);
    assert_eq!(ids(&page(&newest_first[1]).await.items), newest_first[2..3]);
    assert_eq!(ids(&page(&newest_first[2]).await.items), []);
    assert_eq!(ids(&page(oldest).await.items), []);
}

async fn expired_records_are_not_shown(store: &dyn DeliveriesTable) {
    let subscription = subscription("history-expired");
    let mut left = Vec::new();
    for n in 1..=12 {
        let mut row = sample::delivery(&subscription, n);
        if n % 4 == 0 {
            left.insert(0, row.id.clone());
        } else {
            row.expires_at = sample::at(1_000);
        }
        put(store, &row).await;
    }
    for limit in [1, 2, 100] {
        let page = async |now: Timestamp, before: Option<DeliveryId>| {
            store.page(&subscription, &ALL, limit, before.as_ref(), now).await
        };
        let early = all_pages(limit, async |before| page(sample::at(999), before).await).await;
        assert_eq!(early.len(), 12);
        let late = all_pages(limit, async |before| page(sample::at(1_001), before).await).await;
        assert_eq!(ids(&late), left);
    }
}

async fn counters_are_not_shown(store: &dyn DeliveriesTable) {
    let subscription = subscription("history-counters");
    let counts = Counts { total: 1, success: 1, failed: 0, ..Counts::default() };
    for hour in 0..5 {
        let moment = sample::at(hour * 3_600);
        ok(store.count(&subscription, moment, &sample::addition(counts, moment)).await);
    }
    assert_eq!(shown(store, &subscription, &ALL, 2).await, []);
    let newest_first = fill(store, &subscription, 3).await;
    for limit in [1, 3, 100] {
        assert_eq!(shown(store, &subscription, &ALL, limit).await, newest_first);
    }
    // The last page has no cursor, also if a row of another kind follows.
    let page = ok(store.page(&subscription, &ALL, 3, None, sample::start()).await);
    assert_eq!((page.items.len(), page.next), (3, None));
}

async fn large_records_are_all_shown(store: &dyn DeliveriesTable) {
    // Together more than one response of DynamoDB holds (1 MB).
    let subscription = subscription("history-large");
    for n in 1..=5 {
        put(store, &largest(&subscription, n)).await;
    }
    let expected: Vec<_> = (1..=5).rev().map(|n| sample::delivery_id(&subscription, n)).collect();
    for limit in [2, 100] {
        assert_eq!(shown(store, &subscription, &ALL, limit).await, expected);
    }
    let failed = DeliveryFilter { status: Some(Status::Failed), ..ALL };
    assert_eq!(shown(store, &subscription, &failed, 100).await, []);
}

async fn few_that_failed_or_wait_are_found_among_many_successes_in_one_read(
    store: &dyn DeliveriesTable,
) {
    let of = subscription("history-sparse");
    let row = |n| sample::delivery(&of, n);
    for n in 1..=60 {
        let row = match n {
            1 => ended(row(n), 2, Status::Failed),
            2 | 30 => waiting(row(n), 1, sample::at(600)),
            40 => ended(row(n), 0, Status::Held),
            _ => ended(row(n), 1, Status::Success),
        };
        put(store, &row).await;
    }
    let found = async |status| {
        let filter = DeliveryFilter { status: Some(status), ..ALL };
        let page = ok(store.page(&of, &filter, 3, None, sample::start()).await);
        assert_eq!(page.next, None, "{status:?}");
        ids(&page.items)
    };
    let expected =
        |n: &[u64]| -> Vec<DeliveryId> { n.iter().map(|n| sample::delivery_id(&of, *n)).collect() };
    assert_eq!(found(Status::Failed).await, expected(&[1]));
    assert_eq!(found(Status::Retrying).await, expected(&[30, 2]));
    assert_eq!(found(Status::Held).await, expected(&[40]));
    // A record that changes its status, changes its place in the index.
    for (n, status) in [(30, Status::Success), (2, Status::Failed)] {
        let row = ended(waiting(row(n), 1, sample::at(600)), 2, status);
        let written = ok(store.put(&row, Expect::Unchanged(Version::retrying(1))).await);
        assert_eq!(written, DeliveryWrite::Applied);
    }
    assert_eq!(found(Status::Failed).await, expected(&[2, 1]));
    assert_eq!(found(Status::Retrying).await, []);
}
