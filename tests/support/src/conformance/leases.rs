//! Leases on records that are `retrying`.

use std::time::Duration;

use futures::future::join_all;
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::ports::{
    DeliveriesTable, DeliveryWrite, Due, Expect, Lease, Refusal, Version, Waiting, Written,
};
use webhooks_core::time::Timestamp;

use super::records::{assert_stands, ended, get, put, subscription, waiting};
use super::{Rule, ok, rules};
use crate::sample;

pub(super) fn rules(store: &dyn DeliveriesTable) -> Vec<Rule<'_>> {
    rules![store;
        lease_excludes_others_until_it_ends,
        holder_renews_its_lease,
        copies_change_the_status_once,
        lease_requires_the_record_that_was_read,
        lease_changes_nothing_of_the_record,
        write_ends_the_lease_and_does_not_need_it,
        write_of_a_free_record_requires_no_lease,
        one_of_concurrent_leases_is_given,
        refused_write_or_lease_returns_the_reason,
    ]
}

fn lease(holder: &str, now: Timestamp, until: Timestamp) -> Lease {
    Lease { holder: holder.to_owned(), now, until }
}

/// A record with one attempt, in the table.
async fn record(store: &dyn DeliveriesTable, rule: &str) -> Delivery {
    let delivery = waiting(sample::delivery(&subscription(rule), 1), 1, sample::at(60));
    put(store, &delivery).await;
    delivery
}

async fn take(
    store: &dyn DeliveriesTable,
    delivery: &Delivery,
    attempts: u32,
    lease: Lease,
) -> DeliveryWrite {
    let version = Version::retrying(attempts);
    ok(store.lease(&delivery.subscription_id, &delivery.id, version, &lease).await)
}

async fn lease_excludes_others_until_it_ends(store: &dyn DeliveriesTable) {
    let row = record(store, "lease-others").await;
    let millisecond = Duration::from_millis(1);
    let (end, later) = (sample::at(90), sample::at(120));
    assert_eq!(take(store, &row, 1, lease("a", sample::at(60), end)).await, DeliveryWrite::Applied);
    for now in [sample::at(60), sample::at(61), end.minus(millisecond)] {
        assert!(!take(store, &row, 1, lease("b", now, later)).await.is_applied());
    }
    assert_eq!(take(store, &row, 1, lease("b", end, later)).await, DeliveryWrite::Applied);
    // What was b's request before it was granted did not count.
    let still_b = later.minus(millisecond);
    assert!(!take(store, &row, 1, lease("a", still_b, later)).await.is_applied());
    let long_after = later.plus_seconds(9);
    assert_eq!(
        take(store, &row, 1, lease("c", long_after, sample::at(999))).await,
        DeliveryWrite::Applied
    );
}

async fn holder_renews_its_lease(store: &dyn DeliveriesTable) {
    let row = record(store, "lease-again").await;
    for (now, until) in [(60, 90), (60, 90), (80, 110), (105, 108)] {
        let again = lease("a", sample::at(now), sample::at(until));
        assert_eq!(take(store, &row, 1, again).await, DeliveryWrite::Applied);
    }
    // The last renewal sets the end.
    let other = |now| lease("b", sample::at(now), sample::at(200));
    assert!(!take(store, &row, 1, other(107)).await.is_applied());
    assert_eq!(take(store, &row, 1, other(108)).await, DeliveryWrite::Applied);
    let again = lease("a", sample::at(109), sample::at(200));
    assert!(!take(store, &row, 1, again).await.is_applied(), "it is b's now");
}

async fn lease_requires_the_record_that_was_read(store: &dyn DeliveriesTable) {
    let request = || lease("a", sample::at(60), sample::at(90));
    let subscription = subscription("lease-needs");
    let missing = sample::delivery(&subscription, 9);
    assert!(!take(store, &missing, 0, request()).await.is_applied());
    assert_eq!(get(store, &subscription, &missing.id).await, None, "a lease makes no record");

    let row = record(store, "lease-needs").await;
    for wrong in [0, 2, 3] {
        assert!(!take(store, &row, wrong, request()).await.is_applied());
    }
    // Nothing was taken: somebody else can have it.
    let other = lease("b", sample::at(60), sample::at(90));
    assert_eq!(take(store, &row, 1, other).await, DeliveryWrite::Applied);

    for (n, status) in (2..).zip([Status::Success, Status::Failed]) {
        let end = ended(sample::delivery(&subscription, n), 1, status);
        put(store, &end).await;
        assert!(!take(store, &end, 1, request()).await.is_applied());
        assert_stands(store, &end).await;
    }
}

async fn lease_changes_nothing_of_the_record(store: &dyn DeliveriesTable) {
    let row = record(store, "lease-record").await;
    let request = lease("a#|\"é", sample::at(60), sample::at(90));
    assert_eq!(take(store, &row, 1, request).await, DeliveryWrite::Applied);
    assert_stands(store, &row).await;
}

async fn write_ends_the_lease_and_does_not_need_it(store: &dyn DeliveriesTable) {
    let row = record(store, "lease-end").await;
    let hold = |holder| lease(holder, sample::at(60), sample::at(900));
    assert_eq!(take(store, &row, 1, hold("a")).await, DeliveryWrite::Applied);
    // To put it off in the due index is no write of the record.
    let due = Due {
        due_at: sample::at(60),
        subscription_id: row.subscription_id.clone(),
        row: Waiting::Delivery(row.id.clone()),
    };
    assert_eq!(ok(store.postpone(&due, sample::at(70)).await), Written::Applied);
    assert!(!take(store, &row, 1, hold("b")).await.is_applied());

    let refused = store.put(&row, Expect::Unchanged(Version::retrying(2))).await;
    assert!(!ok(refused).is_applied());
    assert!(!take(store, &row, 1, hold("b")).await.is_applied(), "nothing was written");

    let next = waiting(row.clone(), 2, sample::at(90));
    let written = store.put(&next, Expect::Unchanged(Version::retrying(1))).await;
    assert_eq!(ok(written), DeliveryWrite::Applied);
    assert_stands(store, &next).await;
    assert!(!take(store, &row, 1, hold("a")).await.is_applied(), "it has 2 attempts now");
    assert_eq!(take(store, &row, 2, hold("b")).await, DeliveryWrite::Applied);
    assert!(!take(store, &row, 2, hold("a")).await.is_applied());
}

async fn write_of_a_free_record_requires_no_lease(store: &dyn DeliveriesTable) {
    let row = record(store, "lease-free").await;
    let end = sample::at(90);
    assert_eq!(take(store, &row, 1, lease("a", sample::at(60), end)).await, DeliveryWrite::Applied);
    let next = waiting(row.clone(), 1, sample::at(200));
    let put = async |attempts, now| {
        let version = Version::retrying(attempts);
        ok(store.put(&next, Expect::Free { version, now }).await)
    };
    assert!(!put(1, sample::at(61)).await.is_applied());
    assert!(!put(2, end).await.is_applied(), "it has one attempt");
    assert_stands(store, &row).await;
    assert_eq!(put(1, end).await, DeliveryWrite::Applied, "the lease has ended");
    assert_stands(store, &next).await;
    assert_eq!(put(1, sample::at(91)).await, DeliveryWrite::Applied, "there is no lease");
    let over = ended(next.clone(), 1, Status::Failed);
    assert_eq!(
        ok(store.put(&over, Expect::Unchanged(Version::retrying(1))).await),
        DeliveryWrite::Applied
    );
    assert!(!put(1, sample::at(92)).await.is_applied(), "it has ended");
}

async fn one_of_concurrent_leases_is_given(store: &dyn DeliveriesTable) {
    let row = record(store, "lease-race").await;
    let holders: Vec<String> = (0..8).map(|n| format!("holder-{n}")).collect();
    let takes = holders
        .iter()
        .map(|holder| take(store, &row, 1, lease(holder, sample::at(60), sample::at(90))));
    let given = join_all(takes).await.into_iter().filter(DeliveryWrite::is_applied);
    assert_eq!(given.count(), 1);
}

async fn refused_write_or_lease_returns_the_reason(store: &dyn DeliveriesTable) {
    let (now, until) = (sample::at(60), sample::at(90));
    let row = record(store, "lease-refusal").await;
    let refused = async |delivery: &Delivery, expect| match ok(store.put(delivery, expect).await) {
        DeliveryWrite::Refused(refusal) => refusal,
        DeliveryWrite::Applied => panic!("{expect:?} is refused"),
    };
    let free = |attempts| Expect::Free { version: Version::retrying(attempts), now };
    let missing = Delivery { id: sample::delivery_id(&row.subscription_id, 99), ..row.clone() };
    assert_eq!(refused(&missing, free(1)).await, Refusal::Missing);
    assert_eq!(
        take(store, &missing, 1, lease("a", now, until)).await,
        DeliveryWrite::Refused(Refusal::Missing)
    );

    let changed = Refusal::ChangedMeanwhile(Box::new(row.clone()));
    for expect in [Expect::Absent, Expect::Unchanged(Version::retrying(2)), free(0)] {
        assert_eq!(refused(&row, expect).await, changed);
    }
    assert_eq!(
        take(store, &row, 2, lease("a", now, until)).await,
        DeliveryWrite::Refused(changed.clone())
    );

    assert!(take(store, &row, 1, lease("a", now, until)).await.is_applied());
    assert_eq!(refused(&row, free(1)).await, Refusal::Leased { until });
    assert_eq!(
        take(store, &row, 1, lease("b", now, sample::at(95))).await,
        DeliveryWrite::Refused(Refusal::Leased { until })
    );
    assert_eq!(refused(&row, free(2)).await, changed, "the lease is for another attempt");

    let end = ended(row.clone(), 1, Status::Success);
    assert!(ok(store.put(&end, Expect::Unchanged(Version::retrying(1))).await).is_applied());
    for expect in [Expect::Absent, Expect::Unchanged(Version::retrying(1)), free(1)] {
        assert_eq!(refused(&row, expect).await, Refusal::Ended);
    }
    let expired = Delivery {
        id: sample::delivery_id(&row.subscription_id, 98),
        expires_at: Timestamp::from_seconds(1),
        ..row.clone()
    };
    put(store, &expired).await;
    assert_eq!(refused(&expired, Expect::Absent).await, Refusal::Missing);
}

async fn copies_change_the_status_once(store: &dyn DeliveriesTable) {
    let now = sample::at(60);
    let mut row = waiting(sample::delivery(&subscription("status-once"), 1), 1, now);
    put(store, &row).await;
    let waits = row.clone();
    row.hold(now);
    let held = row.clone();
    row.end(Status::Failed, sample::at(70));
    for (before, after) in [(&waits, &held), (&held, &waits), (&waits, &held), (&held, &row)] {
        let version = Version::of(before);
        let free = Expect::Free { version, now };
        assert_eq!(ok(store.put(after, free).await), DeliveryWrite::Applied);
        let refusal = if after.has_ended() {
            Refusal::Ended
        } else {
            Refusal::ChangedMeanwhile(Box::new(after.clone()))
        };
        for copy in [free, Expect::Unchanged(version)] {
            let written = ok(store.put(after, copy).await);
            assert_eq!(written, DeliveryWrite::Refused(refusal.clone()));
        }
        let (id, lease) = (&before.id, lease("a", now, sample::at(90)));
        let leased = ok(store.lease(&before.subscription_id, id, version, &lease).await);
        assert_eq!(leased, DeliveryWrite::Refused(refusal));
    }
}
