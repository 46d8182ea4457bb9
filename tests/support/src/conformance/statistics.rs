//! The counters.

use std::time::Duration;

use futures::future::join_all;
use webhooks_core::ids::SubscriptionId;
use webhooks_core::ports::{DeliveriesTable, Due, Waiting, Written};
use webhooks_core::statistics::{Addition, Counts, HourCounts};
use webhooks_core::time::Timestamp;

use super::due::due;
use super::records::subscription;
use super::{Rule, ok, rules};
use crate::sample;

pub(super) fn rules(store: &dyn DeliveriesTable) -> Vec<Rule<'_>> {
    rules![store;
        counts_add_up_by_subscription_and_hour,
        hour_is_put_into_the_due_index_and_keeps_its_place,
        replaced_counters_leave_the_due_index,
        attempts_and_latency_add_up,
        concurrent_counts_are_all_added,
        last_attempt_of_an_hour_is_the_latest,
        counters_begin_with_the_hour_asked_for,
    ]
}

/// The start of the `n`th hour.
fn hour(n: u64) -> Timestamp {
    sample::at(n * 3_600)
}

fn counts(total: u64, success: u64, failed: u64) -> Counts {
    Counts { total, success, failed, ..Counts::default() }
}

/// Counts in the `n`th hour, for an attempt at that moment.
async fn count(
    store: &dyn DeliveriesTable,
    subscription: &SubscriptionId,
    n: u64,
    counts: Counts,
    at: u64,
) {
    ok(store.count(subscription, hour(n), &sample::addition(counts, sample::at(at))).await);
}

/// The counters from an hour on, by hour.
async fn counters(
    store: &dyn DeliveriesTable,
    subscription: &SubscriptionId,
    since: Timestamp,
) -> Vec<HourCounts> {
    let mut hours = ok(store.counters(subscription, since).await);
    hours.sort_by_key(|counts| counts.hour);
    hours
}

async fn counts_add_up_by_subscription_and_hour(store: &dyn DeliveriesTable) {
    let (own, other) = (subscription("counts-own"), subscription("counts-other"));
    assert_eq!(counters(store, &own, Timestamp::EPOCH).await, []);
    count(store, &own, 1, counts(3, 2, 0), 3_700).await;
    count(store, &own, 1, counts(0, 0, 1), 3_800).await;
    count(store, &own, 1, counts(1, 0, 0), 3_900).await;
    count(store, &own, 2, counts(5_000_000_000, 1, 0), 9_999).await;
    count(store, &other, 1, counts(7, 7, 0), 3_600).await;
    let at = |n, counts, at, additions| HourCounts {
        hour: hour(n),
        counts,
        last_attempt_at: sample::at(at),
        additions,
    };
    assert_eq!(
        counters(store, &own, Timestamp::EPOCH).await,
        [at(1, counts(4, 2, 1), 3_900, 3), at(2, counts(5_000_000_000, 1, 0), 9_999, 1)]
    );
    let others = counters(store, &other, Timestamp::EPOCH).await;
    assert_eq!(others, [at(1, counts(7, 7, 0), 3_600, 1)]);
}

async fn hour_is_put_into_the_due_index_and_keeps_its_place(store: &dyn DeliveriesTable) {
    let subscription = subscription("counts-due");
    let addition = sample::addition(counts(1, 1, 0), sample::at(100));
    ok(store.count(&subscription, hour(0), &addition).await);
    assert_eq!(due(store, &subscription, sample::at(9_000)).await, []);
    for at in [700, 900] {
        let recount_at = Some(sample::at(at));
        let again = Addition { recount_at, ..addition.clone() };
        ok(store.count(&subscription, hour(0), &again).await);
    }
    let rows = due(store, &subscription, sample::at(9_000)).await;
    let row = Due {
        due_at: sample::at(700),
        subscription_id: subscription.clone(),
        row: Waiting::Stats(hour(0)),
    };
    assert_eq!(rows, std::slice::from_ref(&row));
    assert_eq!(ok(store.postpone(&row, sample::at(800)).await), Written::Applied);
    assert_eq!(ok(store.postpone(&row, sample::at(850)).await), Written::ConditionFailed);
    let [moved] = &due(store, &subscription, sample::at(9_000)).await[..] else {
        panic!("one row")
    };
    assert_eq!(moved.due_at, sample::at(800));
}

async fn replaced_counters_leave_the_due_index(store: &dyn DeliveriesTable) {
    let subscription = subscription("counts-replace");
    let of = |total, ms| {
        let mut counts = counts(total, 1, 0);
        counts.latency.record(Duration::from_millis(ms));
        counts
    };
    let addition = Addition {
        recount_at: Some(sample::at(700)),
        ..sample::addition(of(1, 20), sample::at(100))
    };
    ok(store.count(&subscription, hour(0), &addition).await);
    let stale = ok(store.hour(&subscription, hour(0)).await).expect("it was counted");
    count(store, &subscription, 0, of(1, 20), 200).await;
    let replaced = store.replace(&subscription, &stale, &of(9, 700)).await;
    assert_eq!(ok(replaced), Written::ConditionFailed, "something was added since");
    let before = ok(store.hour(&subscription, hour(0)).await).expect("it was counted");
    let replaced = store.replace(&subscription, &before, &of(5, 700)).await;
    assert_eq!(ok(replaced), Written::Applied);
    assert_eq!(due(store, &subscription, sample::at(9_000)).await, []);
    let after = ok(store.hour(&subscription, hour(0)).await).expect("it was counted");
    assert_eq!((after.counts, after.last_attempt_at), (of(5, 700), sample::at(200)));
    let replaced = store.replace(&subscription, &before, &of(6, 700)).await;
    assert_eq!(ok(replaced), Written::ConditionFailed);
    assert_eq!(ok(store.hour(&subscription, hour(1)).await), None);
}

async fn attempts_and_latency_add_up(store: &dyn DeliveriesTable) {
    let subscription = subscription("counts-latency");
    let mut all = Counts::default();
    for (attempts, ms) in [(1, 20), (3, 700), (2, 20)] {
        let mut counts = Counts { attempts, ..Counts::default() };
        counts.latency.record(Duration::from_millis(ms));
        all.add(counts);
        ok(store.count(&subscription, hour(0), &sample::addition(counts, sample::at(1))).await);
    }
    let found = counters(store, &subscription, hour(0)).await;
    assert_eq!(found.iter().map(|hour| hour.counts).collect::<Vec<_>>(), [all]);
}

async fn concurrent_counts_are_all_added(store: &dyn DeliveriesTable) {
    let subscription = subscription("counts-race");
    join_all((0..50).map(|n| count(store, &subscription, n % 2, counts(3, 2, 1), 100))).await;
    let found: Vec<Counts> =
        counters(store, &subscription, hour(0)).await.iter().map(|hour| hour.counts).collect();
    assert_eq!(found, [counts(75, 50, 25), counts(75, 50, 25)]);
}

async fn last_attempt_of_an_hour_is_the_latest(store: &dyn DeliveriesTable) {
    let subscription = subscription("counts-latest");
    for (at, latest) in [(5, 5), (9, 9), (7, 9), (9, 9), (10, 10)] {
        count(store, &subscription, 0, counts(1, 1, 0), at).await;
        let found = counters(store, &subscription, hour(0)).await;
        assert_eq!(found[0].last_attempt_at, sample::at(latest));
    }
    let found = counters(store, &subscription, hour(0)).await;
    assert_eq!(found[0].counts, counts(5, 5, 0), "late ones count, too");
}

async fn counters_begin_with_the_hour_asked_for(store: &dyn DeliveriesTable) {
    let subscription = subscription("counts-since");
    // The number of hours in 30 days.
    let all = 30 * 24;
    for n in 0..all {
        count(store, &subscription, n, counts(1, 0, 0), n * 3_600).await;
    }
    for since in [0, 1, 500, all - 1, all] {
        let found: Vec<Timestamp> =
            counters(store, &subscription, hour(since)).await.iter().map(|c| c.hour).collect();
        assert_eq!(found, (since..all).map(hour).collect::<Vec<_>>(), "since hour {since}");
    }
}
