//! The counters.

use std::time::Duration;

use futures::future::join_all;
use webhooks_core::ids::SubscriptionId;
use webhooks_core::ports::DeliveriesTable;
use webhooks_core::statistics::{Counts, HourCounts};
use webhooks_core::time::Timestamp;

use super::records::subscription;
use super::{Rule, ok, rules};
use crate::sample;

pub(super) fn rules(store: &dyn DeliveriesTable) -> Vec<Rule<'_>> {
    rules![store;
        counts_add_up_by_subscription_and_hour,
        repeated_addition_counts_once,
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
    let at = |n, counts, at| HourCounts { hour: hour(n), counts, last_attempt_at: sample::at(at) };
    assert_eq!(
        counters(store, &own, Timestamp::EPOCH).await,
        [at(1, counts(4, 2, 1), 3_900), at(2, counts(5_000_000_000, 1, 0), 9_999)]
    );
    assert_eq!(counters(store, &other, Timestamp::EPOCH).await, [at(1, counts(7, 7, 0), 3_600)]);
}

async fn repeated_addition_counts_once(store: &dyn DeliveriesTable) {
    let subscription = subscription("counts-repeated");
    let addition = sample::addition(counts(3, 2, 1), sample::at(100));
    let earlier = sample::addition(counts(1, 1, 0), sample::at(50));
    for addition in [&addition, &addition, &earlier, &addition, &earlier] {
        ok(store.count(&subscription, hour(0), addition).await);
    }
    let found = counters(store, &subscription, hour(0)).await;
    assert_eq!(found.iter().map(|hour| hour.counts).collect::<Vec<_>>(), [counts(4, 3, 1)]);
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
