//! Single subscriptions: created, read, changed, deleted.

use std::collections::BTreeSet;

use futures::future::join_all;
use webhooks_core::breaker::{Health, LastError};
use webhooks_core::event_type_selector::EventTypeSelector;
use webhooks_core::filter::Filter;
use webhooks_core::host_health::{HostHealth, HostId};
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::limits::{REDELIVERIES_PER_DAY, WEBHOOKS_CREATED_PER_DAY, WEBHOOKS_PER_USER};
use webhooks_core::maybe_known::MaybeKnown;
use webhooks_core::ports::{
    Consistency, Creation, HostWrite, StoreError, SubscriptionWrite, Subscriptions, Written,
};
use webhooks_core::schedule::RetrySchedule;
use webhooks_core::secret::{PreviousSecret, SealedSecret, SubscriptionSecrets};
use webhooks_core::subscription::{DisabledReason, Subscription};

use super::{Rule, ok, rules};
use crate::sample;

pub(super) fn rules(store: &dyn Subscriptions) -> Vec<Rule<'_>> {
    rules![store;
        subscription_is_read_as_it_was_written,
        user_ids_may_be_any_text,
        get_by_another_owner_returns_none,
        concurrent_creates_keep_the_webhook_limit,
        deletes_do_not_raise_the_daily_limit,
        redeliveries_are_limited_by_user_and_day,
        nobody_is_blocked_by_default,
        update_needs_the_expected_version,
        update_replaces_everything,
        one_of_concurrent_updates_is_applied,
        health_is_replaced_alone_and_only_if_as_expected,
        one_of_concurrent_health_changes_is_applied,
        health_of_a_host_is_replaced_by_the_next_version_alone,
        unused_hosts_are_deleted_when_no_webhook_is_left,
        deleted_subscription_cannot_be_read_or_changed,
        one_of_concurrent_deletes_finds_the_row,
    ]
}

async fn health_of_a_host_is_replaced_by_the_next_version_alone(store: &dyn Subscriptions) {
    let (user, host) = (sample::user("hosts"), HostId::of("https://one.example/"));
    let read = async || ok(store.host_health(&user, &host).await);
    assert_eq!(read().await, HostHealth::default());
    let failing = BTreeSet::from([sample::subscription_id("hosts", 1)]);
    let mut before = HostHealth::default();
    for version in 1..=3 {
        let health = if version == 3 { Health::default() } else { self::failing(2) };
        let failing = if version == 3 { BTreeSet::new() } else { failing.clone() };
        let next = HostHealth { version, health, failing };
        assert_eq!(ok(store.set_host_health(&user, &host, &next).await), HostWrite::Applied);
        assert_eq!(read().await, next);
        let again = ok(store.set_host_health(&user, &host, &next).await);
        assert_eq!(again, HostWrite::Conflict(next.clone()), "after {before:?}");
        before = next;
    }
    let skipping = HostHealth { version: 9, ..before.clone() };
    let refused = ok(store.set_host_health(&user, &host, &skipping).await);
    assert_eq!(refused, HostWrite::Conflict(before));
    // It belongs to one owner and one host, and is no subscription.
    for (user, host) in [("other", "https://one.example/"), ("hosts", "https://two.example/")] {
        let (user, host) = (sample::user(user), HostId::of(host));
        assert_eq!(ok(store.host_health(&user, &host).await), HostHealth::default());
    }
    assert!(ok(store.list_by_user(&user).await).items.is_empty());
}

async fn unused_hosts_are_deleted_when_no_webhook_is_left(store: &dyn Subscriptions) {
    let subscription = sample::subscription("unused", 1);
    let user = &subscription.user_id;
    create(store, &subscription).await;
    let hosts = ["https://one.example/", "https://two.example/"].map(HostId::of);
    let health = HostHealth { version: 1, ..HostHealth::default() };
    for host in &hosts {
        assert_eq!(ok(store.set_host_health(user, host, &health).await), HostWrite::Applied);
    }
    ok(store.delete_unused_hosts(user).await);
    assert_eq!(ok(store.host_health(user, &hosts[0]).await), health, "a webhook is left");
    // The cleanup does not meet them.
    let keys = ok(store.scan_keys(1_000, None).await).items;
    assert!(keys.iter().filter(|key| key.user_id == *user).count() <= 1, "{keys:?}");
    assert!(ok(store.delete(user, &subscription.id).await));
    ok(store.delete_unused_hosts(user).await);
    for host in &hosts {
        assert_eq!(ok(store.host_health(user, host).await), HostHealth::default());
    }
}

pub(super) async fn create(store: &dyn Subscriptions, subscription: &Subscription) {
    assert_eq!(ok(store.create(subscription).await), Creation::Created);
}

pub(super) async fn get(
    store: &dyn Subscriptions,
    user_id: &UserId,
    id: &SubscriptionId,
) -> Option<Subscription> {
    ok(store.get(user_id, id, Consistency::Strong).await)
}

#[track_caller]
fn assert_applied(write: Result<SubscriptionWrite, StoreError>) {
    let write = ok(write);
    assert!(write.is_applied(), "{write:?}");
}

#[track_caller]
fn assert_missing(write: Result<SubscriptionWrite, StoreError>) {
    let write = ok(write);
    assert!(matches!(write, SubscriptionWrite::Missing), "{write:?}");
}

/// The write is refused with the subscription that is stored.
#[track_caller]
fn assert_conflict(write: Result<SubscriptionWrite, StoreError>, current: &Subscription) {
    match ok(write) {
        SubscriptionWrite::Conflict(found) => assert_eq!(*found, *current),
        write => panic!("no conflict: {write:?}"),
    }
}

async fn assert_stands(store: &dyn Subscriptions, expected: &Subscription) {
    let (user_id, id) = (&expected.user_id, &expected.id);
    let found = get(store, user_id, id).await;
    assert_eq!(found.as_ref(), Some(expected));
    let weaker = ok(store.get(user_id, id, Consistency::Eventual).await);
    assert_eq!(weaker.as_ref(), Some(expected));
}

/// One with every field set to something unusual.
fn unusual(user: &str, n: u64) -> Subscription {
    let previous =
        |byte, expires_at| PreviousSecret { sealed: SealedSecret::new(vec![byte; 90]), expires_at };
    Subscription {
        url: "https://receiver.example/h%C3%B6r?a=b&c=ü#".trim_end_matches('#').to_owned(),
        event_types: vec![
            sample::event_type("task.deleted").into(),
            MaybeKnown::Unknown("task.archived".to_owned()),
            sample::event_type("email.sent").into(),
            MaybeKnown::Known(EventTypeSelector::All),
        ],
        filter: Some(
            Filter::parse(r#"{"a":[{"prefix":"é"}],"b":{"c":[1,null]}}"#).expect("a valid pattern"),
        ),
        description: Some("„Grüße“ 𝄞 \"quoted\" \\ \u{0} \n end".to_owned()),
        is_active: false,
        disabled_reason: Some(DisabledReason::EndpointFailing.into()),
        verification: None,
        retry_schedule: RetrySchedule::Standard,
        timeout_seconds: 60,
        secrets: SubscriptionSecrets {
            current: SealedSecret::new(vec![0; 90]),
            previous: vec![previous(1, sample::at(86_400)), previous(2, sample::at(3_600))],
        },
        updated_at: sample::start().plus(std::time::Duration::from_millis(86_400_123)),
        version: 7,
        health: failing(4),
        ..sample::subscription(user, n)
    }
}

fn failing(failures: u32) -> Health {
    Health {
        consecutive_failures: failures,
        failing_since: Some(sample::at(u64::from(failures))),
        open_until: Some(sample::at(600)),
        last_error: Some(LastError::Status(503)),
        proven: true,
        slow_periods: failures,
        slow_until: Some(sample::at(u64::from(failures) + 900)),
    }
}

async fn subscription_is_read_as_it_was_written(store: &dyn Subscriptions) {
    let user = "read-as-written";
    let empty = Subscription {
        description: Some(String::new()),
        health: Health { open_until: None, ..failing(1) },
        ..sample::subscription(user, 3)
    };
    for written in [sample::subscription(user, 1), unusual(user, 2), empty] {
        create(store, &written).await;
        assert_stands(store, &written).await;
        let all = ok(store.list_by_user(&written.user_id).await).items;
        assert!(all.contains(&Ok(written.clone())), "{written:?}");
        let page = ok(store.page(&written.user_id, 1, None).await);
        assert_eq!(page.items, [Ok(written)]);
    }
}

/// Owners whose ids would run into each other if they were put together carelessly.
pub(super) fn odd_users() -> Vec<String> {
    let odd = [
        "a",
        "a#",
        "a#b",
        "#a",
        "user|x",
        "|",
        " ",
        "a/b?c=%23",
        "\"'\\",
        "stats#1",
        "é",
        "e\u{301}",
    ];
    let mut users: Vec<String> = odd.iter().map(|&user| user.to_owned()).collect();
    users.push("x".repeat(256));
    users.push("𝄞".repeat(256));
    users.push(format!("{}é", "𝄞".repeat(255)));
    users
}

async fn user_ids_may_be_any_text(store: &dyn Subscriptions) {
    for user in odd_users() {
        create(store, &sample::subscription(&user, 1)).await;
    }
    for user in odd_users() {
        let own = sample::subscription(&user, 1);
        assert_stands(store, &own).await;
        let all = ok(store.list_by_user(&own.user_id).await).items;
        assert_eq!(all, [Ok(own.clone())], "{user}");
        let page = ok(store.page(&own.user_id, 10, None).await);
        assert_eq!(page.items, [Ok(own.clone())], "{user}");
        assert_applied(store.update(&own, 1).await);
        assert!(ok(store.delete(&own.user_id, &own.id).await), "{user}");
        ok(store.delete_tombstone(&own.user_id, &own.id).await);
    }
}

async fn get_by_another_owner_returns_none(store: &dyn Subscriptions) {
    let own = sample::subscription("owner", 1);
    create(store, &own).await;
    for other in ["stranger", "owne", "owner ", "Owner"] {
        let user = sample::user(other);
        let several = [(&user, &own.id), (&own.user_id, &own.id)];
        assert_eq!(ok(store.get_several(&several).await), std::slice::from_ref(&own));
        let stolen = Subscription { user_id: user.clone(), ..own.clone() };
        assert!(get(store, &user, &own.id).await.is_none());
        assert!(ok(store.list_by_user(&user).await).items.is_empty());
        let page = ok(store.page(&user, 10, None).await);
        assert!(page.items.is_empty() && page.next.is_none());
        assert_missing(store.update(&stolen, own.version).await);
        assert_missing(store.set_health(&user, &own.id, &own.health, &failing(1)).await);
        assert!(!ok(store.delete(&user, &own.id).await));
        ok(store.delete_tombstone(&user, &own.id).await);
        assert!(get(store, &user, &own.id).await.is_none());
    }
    assert_stands(store, &own).await;
}

async fn concurrent_creates_keep_the_webhook_limit(store: &dyn Subscriptions) {
    let user = "many";
    let requests: Vec<_> = (1..=120).map(|n| sample::subscription(user, n)).collect();
    let results = join_all(requests.iter().map(|request| store.create(request))).await;
    let mut created: Vec<&SubscriptionId> = requests
        .iter()
        .zip(results)
        .filter_map(|(request, result)| (ok(result) == Creation::Created).then_some(&request.id))
        .collect();
    assert_eq!(created.len(), WEBHOOKS_PER_USER);

    let owner = sample::user(user);
    let all = ok(store.list_by_user(&owner).await).items;
    let mut standing: Vec<&SubscriptionId> = all.iter().flatten().map(|row| &row.id).collect();
    standing.sort();
    created.sort();
    assert_eq!(standing, created, "exactly those stand that were said to");

    let next = |n| sample::subscription(user, n);
    assert_eq!(ok(store.create(&next(200)).await), Creation::LimitReached);
    assert!(get(store, &owner, &next(200).id).await.is_none(), "a refused one leaves nothing");
    create(store, &sample::subscription("not-many", 1)).await;

    // A place is free again once for each one that is deleted, however often that is asked.
    assert!(ok(store.delete(&owner, created[0]).await));
    assert!(!ok(store.delete(&owner, created[0]).await));
    assert_eq!(ok(store.create(&next(201)).await), Creation::Created);
    assert_eq!(ok(store.create(&next(202)).await), Creation::LimitReached);
    ok(store.delete_tombstone(&owner, created[0]).await);
    assert_eq!(ok(store.create(&next(203)).await), Creation::LimitReached);

    // Nor do changes make room.
    let changed = Subscription { version: 2, ..next(201) };
    assert_applied(store.update(&changed, 1).await);
    assert_eq!(ok(store.create(&next(204)).await), Creation::LimitReached);
}

async fn deletes_do_not_raise_the_daily_limit(store: &dyn Subscriptions) {
    let user = "restless";
    let owner = sample::user(user);
    let most = WEBHOOKS_CREATED_PER_DAY as u64;
    for n in 1..=most - 10 {
        let row = sample::subscription(user, n);
        create(store, &row).await;
        assert!(ok(store.delete(&owner, &row.id).await));
    }
    let last: Vec<_> = (most..most + 20).map(|n| sample::subscription(user, n)).collect();
    let results = join_all(last.iter().map(|row| store.create(row))).await;
    let results: Vec<Creation> = results.into_iter().map(ok).collect();
    let made = results.iter().filter(|result| **result == Creation::Created).count();
    let refused = results.iter().filter(|result| **result == Creation::DailyLimitReached).count();
    assert_eq!((made, refused), (10, 10));
    assert_eq!(
        ok(store.list_by_user(&owner).await).items.len(),
        10,
        "a refused one leaves nothing"
    );

    let on = |day: u64, n: u64| Subscription {
        created_at: sample::at(day * 86_400),
        ..sample::subscription(user, n)
    };
    // A clock that is a day behind finds no new day.
    assert_eq!(ok(store.create(&on(0, most + 20)).await), Creation::DailyLimitReached);
    create(store, &sample::subscription("not-restless", 1)).await;
    create(store, &on(1, most + 21)).await;
    create(store, &on(1, most + 22)).await;
}

async fn redeliveries_are_limited_by_user_and_day(store: &dyn Subscriptions) {
    let user = "repeating";
    let owner = sample::user(user);
    create(store, &sample::subscription(user, 1)).await;
    let on = |day: u64| sample::at(day * 86_400);
    for _ in 0..REDELIVERIES_PER_DAY - 5 {
        assert_eq!(ok(store.count_redelivery(&owner, on(1)).await), Written::Applied);
    }
    let answers = join_all((0..10).map(|_| store.count_redelivery(&owner, on(1)))).await;
    let counted = answers.into_iter().map(ok).filter(|written| *written == Written::Applied);
    assert_eq!(counted.count(), 5, "concurrent requests keep the limit");
    // A clock that is a day behind finds no new day.
    assert_eq!(ok(store.count_redelivery(&owner, on(0)).await), Written::ConditionFailed);
    let other = sample::user("not-repeating");
    assert_eq!(ok(store.count_redelivery(&other, on(1)).await), Written::Applied);
    assert_eq!(ok(store.count_redelivery(&owner, on(2)).await), Written::Applied);
    // Both limits have their counts in one row.
    create(store, &sample::subscription(user, 2)).await;
    create(store, &sample::subscription("not-repeating", 1)).await;
}

async fn nobody_is_blocked_by_default(store: &dyn Subscriptions) {
    let row = sample::subscription("not-blocked", 1);
    create(store, &row).await;
    assert!(!ok(store.is_user_blocked(&row.user_id).await));
    assert!(!ok(store.list_by_user(&row.user_id).await).is_blocked);
    assert!(ok(store.blocked_hosts().await).is_empty());
}

async fn update_needs_the_expected_version(store: &dyn Subscriptions) {
    let mut row = sample::subscription("versions", 1);
    assert_missing(store.update(&row, 1).await);
    assert!(get(store, &row.user_id, &row.id).await.is_none());
    create(store, &row).await;
    let unwanted = Subscription { url: "https://other.example/".to_owned(), ..row.clone() };
    for wrong in [0, 2, u64::from(u32::MAX) + 2] {
        assert_conflict(store.update(&unwanted, wrong).await, &row);
    }
    assert_stands(store, &row).await;
    for version in 2..=3 {
        row.version = version;
        row.timeout_seconds += 1;
        assert_applied(store.update(&row, version - 1).await);
        assert_conflict(store.update(&row, version - 1).await, &row);
        assert_stands(store, &row).await;
    }
}

async fn update_replaces_everything(store: &dyn Subscriptions) {
    let user = "replaced";
    let full = unusual(user, 1);
    let plain = Subscription { version: 8, ..sample::subscription(user, 1) };
    create(store, &full).await;
    assert_applied(store.update(&plain, 7).await);
    assert_stands(store, &plain).await;
    let full = Subscription { version: 9, ..full };
    assert_applied(store.update(&full, 8).await);
    assert_stands(store, &full).await;
}

async fn one_of_concurrent_updates_is_applied(store: &dyn Subscriptions) {
    let row = sample::subscription("race", 1);
    create(store, &row).await;
    let changes: Vec<_> =
        (1..=8).map(|n| Subscription { version: 2, timeout_seconds: n, ..row.clone() }).collect();
    let results = join_all(changes.iter().map(|change| store.update(change, 1))).await;
    let mut made = changes
        .iter()
        .zip(results)
        .filter(|(_, result)| matches!(result, Ok(SubscriptionWrite::Applied)));
    let (winner, _) = made.next().unwrap_or_else(|| panic!("none was made"));
    assert!(made.next().is_none(), "more than one was made");
    assert_stands(store, winner).await;
}

async fn health_is_replaced_alone_and_only_if_as_expected(store: &dyn Subscriptions) {
    let mut row = sample::subscription("health", 1);
    let (user, id) = (row.user_id.clone(), row.id.clone());
    let (good, bad) = (Health::default(), failing(3));
    let set = async |expected: &Health, health: &Health| {
        store.set_health(&user, &id, expected, health).await
    };
    assert_missing(set(&good, &bad).await);
    assert!(get(store, &user, &id).await.is_none(), "a missing row is not made");
    create(store, &row).await;

    let steps = [bad, failing(4), Health { open_until: None, ..bad }, good, bad];
    for health in steps {
        assert_applied(set(&row.health, &health).await);
        row.health = health;
        row.version += 1;
        assert_stands(store, &row).await;
        for wrong in different_from(&health) {
            assert_conflict(set(&wrong, &failing(9)).await, &row);
        }
        assert_stands(store, &row).await;
    }
    // Who read it before would write the old health back.
    let older = Subscription { health: bad, ..row.clone() };
    assert_conflict(store.update(&older, row.version - 1).await, &row);
    assert_stands(store, &row).await;
}

/// Others that differ in one part each.
fn different_from(health: &Health) -> Vec<Health> {
    let later = Some(sample::at(77));
    let mut others = vec![
        Health { consecutive_failures: health.consecutive_failures + 1, ..*health },
        Health { failing_since: later, ..*health },
        Health { open_until: later, ..*health },
        Health { proven: !health.proven, ..*health },
        Health { slow_periods: health.slow_periods + 1, ..*health },
        Health { slow_until: later, ..*health },
    ];
    if health.failing_since.is_some() {
        others.push(Health { failing_since: None, ..*health });
    }
    if health.open_until.is_some() {
        others.push(Health { open_until: None, ..*health });
    }
    others
}

async fn one_of_concurrent_health_changes_is_applied(store: &dyn Subscriptions) {
    let row = sample::subscription("health-race", 1);
    create(store, &row).await;
    let requests: Vec<Health> = (1..=8).map(failing).collect();
    let sets = requests
        .iter()
        .map(|request| store.set_health(&row.user_id, &row.id, &row.health, request));
    let made = join_all(sets)
        .await
        .into_iter()
        .filter(|result| matches!(result, Ok(SubscriptionWrite::Applied)));
    assert_eq!(made.count(), 1);
}

async fn deleted_subscription_cannot_be_read_or_changed(store: &dyn Subscriptions) {
    let row = sample::subscription("deleted", 1);
    let (user, id) = (&row.user_id, &row.id);
    assert!(!ok(store.delete(user, id).await), "there is none");
    create(store, &row).await;
    create(store, &sample::subscription("deleted", 2)).await;
    assert!(ok(store.delete(user, id).await));
    for without_tombstone in [false, true] {
        assert!(!ok(store.delete(user, id).await));
        assert_missing(store.update(&row, 1).await);
        assert_missing(store.set_health(user, id, &row.health, &failing(1)).await);
        assert!(get(store, user, id).await.is_none());
        assert_eq!(ok(store.list_by_user(user).await).items.len(), 1);
        if !without_tombstone {
            ok(store.delete_tombstone(user, id).await);
        }
    }
    ok(store.delete_tombstone(user, id).await);
    assert_stands(store, &sample::subscription("deleted", 2)).await;
}

async fn one_of_concurrent_deletes_finds_the_row(store: &dyn Subscriptions) {
    let row = sample::subscription("delete-race", 1);
    create(store, &row).await;
    let results = join_all((0..8).map(|_| store.delete(&row.user_id, &row.id))).await;
    assert_eq!(results.into_iter().filter(|result| matches!(result, Ok(true))).count(), 1);
}
