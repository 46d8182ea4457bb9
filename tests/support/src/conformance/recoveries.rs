//! The recoveries of a subscription, and what they read.

use std::time::Duration;

use webhooks_core::delivery::{Delivery, Status, Trigger};
use webhooks_core::ids::{DeliveryId, RecoveryId, SubscriptionId};
use webhooks_core::limits::DUE_SHARDS;
use webhooks_core::ports::{DeliveriesTable, DeliveryFilter, Due, Page, RowKey, Waiting, Written};
use webhooks_core::recovery::{Outcomes, Recovery, RecoveryStatus, Selection};

use super::records::{ended, put, subscription};
use super::{Rule, all_pages, ok, rules};
use crate::sample;

pub(super) fn rules(store: &dyn DeliveriesTable) -> Vec<Rule<'_>> {
    rules![store;
        recovery_is_read_as_it_was_written,
        recovery_is_started_only_after_so_many_others,
        one_recovery_is_stored_of_each_outage,
        recovery_is_replaced_only_while_it_is_running_and_at_its_page,
        running_recoveries_are_in_the_due_index,
        oldest_pages_are_complete_and_oldest_first,
        outcomes_are_those_of_one_recovery,
        recoveries_are_cleaned_up_when_they_have_ended,
    ]
}

fn recovery(of: &SubscriptionId, n: u64) -> Recovery {
    let selection = Selection {
        since: sample::at(1),
        until: sample::at(n),
        status: Status::Failed,
        event_types: vec![sample::event_type("task.created")],
        ended_since: (n == 2).then(|| sample::at(1)),
    };
    let mut webhook = sample::subscription("u", 1);
    webhook.id = of.clone();
    let id = RecoveryId::new(sample::at(n), [7; 10]);
    Recovery::new(id, &webhook, selection, Duration::from_hours(720))
}

async fn create(store: &dyn DeliveriesTable, recovery: &Recovery) {
    assert_eq!(ok(store.create_recovery(recovery).await), Written::Applied);
}

async fn recovery_is_read_as_it_was_written(store: &dyn DeliveriesTable) {
    let of = subscription("recovery-read");
    let (one, mut two) = (recovery(&of, 1), recovery(&of, 2));
    two.advance(3, sample::delivery_id(&of, 1), sample::at(5));
    for recovery in [&one, &two] {
        create(store, recovery).await;
        assert_eq!(ok(store.create_recovery(recovery).await), Written::ConditionFailed);
        assert_eq!(ok(store.recovery(&of, &recovery.id).await).as_ref(), Some(recovery));
    }
    assert_eq!(ok(store.recoveries(&of, 9).await), [two.clone(), one]);
    assert_eq!(ok(store.recoveries(&of, 1).await), [two.clone()]);
    let other = subscription("recovery-other");
    assert_eq!(ok(store.recovery(&other, &two.id).await), None);
    assert_eq!(ok(store.recoveries(&other, 9).await), []);
}

async fn recovery_is_started_only_after_so_many_others(store: &dyn DeliveriesTable) {
    let of = subscription("recovery-start");
    assert_eq!(ok(store.started_recoveries(&of).await), 0);
    for started in 0..3 {
        // Requests that have read the same number, at the same time.
        let rows = [1, 2, 3].map(|n| recovery(&of, 10 * started + n));
        let writes = rows.iter().map(|row| store.start_recovery(row, started));
        let written = futures::future::join_all(writes).await;
        let applied = written
            .into_iter()
            .filter(|written| *written.as_ref().expect("nothing fails") == Written::Applied);
        assert_eq!(applied.count(), 1);
        assert_eq!(ok(store.started_recoveries(&of).await), started + 1);
    }
    let listed = ok(store.recoveries(&of, 9).await);
    assert_eq!(listed.len(), 3);
    let again = store.start_recovery(&listed[0], 3).await;
    assert_eq!(ok(again), Written::ConditionFailed, "it is there");
    assert_eq!(ok(store.started_recoveries(&of).await), 3);
    assert!(ok(store.all_keys(&of, 10).await).contains(&RowKey::StartedRecoveries));
    ok(store.delete(&of, &[RowKey::StartedRecoveries]).await);
    assert_eq!(ok(store.started_recoveries(&of).await), 0);
}

async fn one_recovery_is_stored_of_each_outage(store: &dyn DeliveriesTable) {
    let of = subscription("recovery-outage");
    let of_outage = |n: u64, since: u64| {
        let mut row = recovery(&of, n);
        row.is_automatic = true;
        row.selection.ended_since = Some(sample::at(since));
        row
    };
    let rows = [1, 2, 3].map(|n| of_outage(n, 5));
    let written = futures::future::join_all(rows.iter().map(|row| store.create_recovery(row)));
    let applied = written
        .await
        .into_iter()
        .filter(|written| *written.as_ref().expect("nothing fails") == Written::Applied);
    assert_eq!(applied.count(), 1);
    create(store, &of_outage(7, 6)).await;
    let same = store.create_recovery(&of_outage(8, 6)).await;
    assert_eq!(ok(same), Written::ConditionFailed);
    // The first failure of an outage may have begun before the outage before it.
    create(store, &of_outage(9, 4)).await;
    assert_eq!(ok(store.recoveries(&of, 9).await).len(), 3);
    assert_eq!(ok(store.started_recoveries(&of).await), 0);
    assert_eq!(ok(store.start_recovery(&recovery(&of, 10), 0).await), Written::Applied);
}

async fn recovery_is_replaced_only_while_it_is_running_and_at_its_page(
    store: &dyn DeliveriesTable,
) {
    let of = subscription("recovery-replace");
    let mut row = recovery(&of, 1);
    assert_eq!(ok(store.put_recovery(&row, 0).await), Written::ConditionFailed, "it is missing");
    create(store, &row).await;
    row.advance(3, sample::delivery_id(&of, 1), sample::at(5));
    assert_eq!(ok(store.put_recovery(&row, 1).await), Written::ConditionFailed);
    assert_eq!(ok(store.put_recovery(&row, 0).await), Written::Applied);
    assert_eq!(ok(store.put_recovery(&row, 0).await), Written::ConditionFailed);
    row.end(RecoveryStatus::Cancelled, sample::at(6));
    assert_eq!(ok(store.put_recovery(&row, 1).await), Written::Applied);
    assert_eq!(ok(store.put_recovery(&row, 1).await), Written::ConditionFailed, "it has ended");
    assert_eq!(ok(store.recovery(&of, &row.id).await), Some(row));
}

async fn due(store: &dyn DeliveriesTable, of: &SubscriptionId) -> Vec<Due> {
    let mut rows = Vec::new();
    for shard in 0..DUE_SHARDS {
        let until = sample::at(1_000_000);
        let page = async |after: Option<Due>| store.due(shard, until, 100, after.as_ref()).await;
        rows.extend(
            all_pages(100, page).await.into_iter().filter(|row| row.subscription_id == *of),
        );
    }
    rows
}

async fn running_recoveries_are_in_the_due_index(store: &dyn DeliveriesTable) {
    let of = subscription("recovery-due");
    let mut row = recovery(&of, 1);
    create(store, &row).await;
    let mut expected = Due {
        due_at: row.due_at.expect("it is running"),
        subscription_id: of.clone(),
        row: Waiting::Recovery(row.id.clone()),
    };
    assert_eq!(due(store, &of).await, [expected.clone()]);
    assert_eq!(ok(store.postpone(&expected, sample::at(5_000)).await), Written::Applied);
    assert_eq!(ok(store.postpone(&expected, sample::at(6_000)).await), Written::ConditionFailed);
    expected.due_at = sample::at(5_000);
    assert_eq!(due(store, &of).await, [expected]);
    row.end(RecoveryStatus::Done, sample::at(6));
    assert_eq!(ok(store.put_recovery(&row, 0).await), Written::Applied);
    assert_eq!(due(store, &of).await, []);
}

async fn oldest_pages_are_complete_and_oldest_first(store: &dyn DeliveriesTable) {
    let of = subscription("recovery-oldest");
    for n in 1..=9 {
        let status = if n % 2 == 0 { Status::Success } else { Status::Failed };
        put(store, &ended(sample::delivery(&of, n), 1, status)).await;
    }
    create(store, &recovery(&of, 1)).await;
    let filter = DeliveryFilter {
        status: Some(Status::Failed),
        since: Some(sample::at(3)),
        until: Some(sample::at(9)),
        ..DeliveryFilter::default()
    };
    for limit in [1, 2, 3, 100] {
        let page = async |after: Option<DeliveryId>| {
            store.oldest(&of, &filter, limit, after.as_ref(), sample::start()).await
        };
        let found: Vec<DeliveryId> =
            all_pages(limit, page).await.into_iter().map(|row| row.id).collect();
        assert_eq!(found, [3, 5, 7].map(|n| sample::delivery_id(&of, n)), "pages of {limit}");
    }
    let after = sample::delivery_id(&of, 9);
    let Page { items, next } =
        ok(store.oldest(&of, &filter, 9, Some(&after), sample::start()).await);
    assert_eq!((items, next), (Vec::new(), None), "after the end of the range");
}

async fn outcomes_are_those_of_one_recovery(store: &dyn DeliveriesTable) {
    let of = subscription("recovery-outcomes");
    let (one, two) = (recovery(&of, 50), recovery(&of, 51));
    for (n, recovery, status) in [
        (1, &one, Status::Success),
        (2, &one, Status::Success),
        (3, &one, Status::Failed),
        (4, &two, Status::Failed),
    ] {
        let original = sample::delivery(&of, n);
        let new = recovery.redelivery(&original);
        let record = Delivery::new(&new, sample::at(60), original.expires_at);
        assert_eq!(record.trigger, Trigger::Recovery);
        put(store, &ended(record, 1, status)).await;
    }
    let waits = Delivery::new(
        &one.redelivery(&sample::delivery(&of, 5)),
        sample::at(60),
        sample::at(90 * 24 * 3600),
    );
    put(store, &waits).await;
    let outcomes = ok(store.outcomes(&of, one.created_at()).await);
    assert_eq!(outcomes, Outcomes { succeeded: 2, failed: 1 });
}

async fn recoveries_are_cleaned_up_when_they_have_ended(store: &dyn DeliveriesTable) {
    let of = subscription("recovery-cleanup");
    let (running, mut over) = (recovery(&of, 1), recovery(&of, 2));
    create(store, &running).await;
    over.end(RecoveryStatus::Done, sample::at(3));
    create(store, &over).await;
    let ended = RowKey::Recovery(over.id.clone());
    assert_eq!(ok(store.expired_keys(&of, sample::at(2), 9).await), []);
    assert_eq!(ok(store.expired_keys(&of, sample::at(3), 9).await), std::slice::from_ref(&ended));
    assert_eq!(ok(store.all_keys(&of, 9).await).len(), 2);
    assert_eq!(ok(store.delete(&of, &[ended]).await), []);
    assert_eq!(ok(store.recoveries(&of, 9).await), [running]);
}
