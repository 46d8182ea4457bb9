//! Single records of deliveries: written and read.

use std::time::Duration;

use futures::future::join_all;
use webhooks_core::delivery::{Attempt, Delivery, EndReason, NoResponse, Status, Trigger};
use webhooks_core::ids::{DeliveryId, SubscriptionId};
use webhooks_core::json::Data;
use webhooks_core::kept_headers::KeptHeaders;
use webhooks_core::limits::{
    EVENT_DATA_BYTES, HEADER_VALUE_KEEP_BYTES, RESPONSE_KEEP_BYTES, RETRY_COUNT_MAX,
};
use webhooks_core::outbound::Failure;
use webhooks_core::ports::{
    Consistency, DeliveriesTable, DeliveryFilter, DeliveryWrite, Expect, Random as _, Version,
};
use webhooks_core::subscription::KeepPayload;
use webhooks_core::time::Timestamp;

use super::subscription_rows::odd_users;
use super::{Rule, ok, rules};
use crate::{ManualClock, SeededRandom, sample};

pub(super) fn rules(store: &dyn DeliveriesTable) -> Vec<Rule<'_>> {
    rules![store;
        record_is_read_as_it_was_written,
        any_text_is_stored_unchanged,
        largest_record_is_stored_unchanged,
        large_payload_is_kept_until_it_is_erased,
        record_is_found_only_under_its_own_subscription,
        first_write_fails_if_a_record_exists,
        later_write_requires_its_number_of_attempts,
        ended_delivery_never_changes,
        one_of_concurrent_first_writes_is_applied,
        one_of_concurrent_later_writes_is_applied,
    ]
}

/// The subscription that a rule uses.
pub(super) fn subscription(rule: &str) -> SubscriptionId {
    sample::subscription_id(rule, 1)
}

/// A record with this many attempts that waits for the next one, due at that moment.
pub(super) fn waiting(delivery: Delivery, attempts: u64, due_at: Timestamp) -> Delivery {
    let next_retry_at = due_at.plus_seconds(5);
    let attempts = (0..attempts).map(sample::attempt).collect();
    let mut delivery = Delivery { attempts, ..delivery };
    delivery.wait(next_retry_at, due_at, delivery.updated_at);
    delivery
}

/// A record with this many attempts that has ended.
pub(super) fn ended(delivery: Delivery, attempts: u64, status: Status) -> Delivery {
    let attempts = (0..attempts).map(sample::attempt).collect();
    let mut delivery = Delivery { attempts, ..delivery };
    delivery.end(status, delivery.updated_at);
    delivery
}

pub(super) async fn put(store: &dyn DeliveriesTable, delivery: &Delivery) {
    assert_eq!(ok(store.put(delivery, Expect::Absent).await), DeliveryWrite::Applied);
}

pub(super) async fn get(
    store: &dyn DeliveriesTable,
    subscription_id: &SubscriptionId,
    id: &DeliveryId,
) -> Option<Delivery> {
    ok(store.get(subscription_id, id, Consistency::Strong).await)
}

pub(super) async fn assert_stands(store: &dyn DeliveriesTable, expected: &Delivery) {
    let (subscription, id) = (&expected.subscription_id, &expected.id);
    assert_eq!(get(store, subscription, id).await.as_ref(), Some(expected));
    let weaker = ok(store.get(subscription, id, Consistency::Eventual).await);
    assert_eq!(weaker.as_ref(), Some(expected));
}

async fn record_is_read_as_it_was_written(store: &dyn DeliveriesTable) {
    let subscription = subscription("record-read");
    let plain = |n| sample::delivery(&subscription, n);
    let soon = sample::start().plus(Duration::from_millis(90_123));
    let reached = Attempt {
        started_at: soon,
        duration_ms: 60_000,
        response_status: Some(204),
        no_response: None,
        request_headers: None,
        response_headers: None,
        response_excerpt: String::new(),
    };
    let unreached = Attempt {
        response_status: None,
        no_response: Some(NoResponse {
            failure: Failure::Timeout,
            detail: "No response arrived within 10 s.".to_owned(),
        }),
        request_headers: Some(KeptHeaders::new([("webhook-id", "dlv_1")])),
        ..reached.clone()
    };
    let mut written = vec![
        plain(1),
        ended(plain(2), 0, Status::Failed),
        waiting(plain(3), 3, soon),
        Delivery { attempts: vec![unreached, reached], ..ended(plain(4), 0, Status::Success) },
    ];
    for (n, reason) in (10..).zip(EndReason::ALL) {
        written.push(Delivery { end_reason: Some(*reason), ..ended(plain(n), 1, Status::Failed) });
    }
    for (n, trigger) in (20..).zip(Trigger::ALL) {
        written.push(Delivery { trigger: *trigger, ..ended(plain(n), 1, Status::Success) });
    }
    for (n, event_type) in (30..).zip(webhooks_core::catalogue::EventType::all()) {
        written.push(Delivery { event_type, ..plain(n) });
    }
    for delivery in &written {
        put(store, delivery).await;
        assert_stands(store, delivery).await;
    }
    assert_listed(store, &written).await;
}

/// A list shows the records as they were written, too.
async fn assert_listed(store: &dyn DeliveriesTable, written: &[Delivery]) {
    let filter = DeliveryFilter::default();
    for delivery in written {
        let (subscription, id) = (&delivery.subscription_id, &delivery.id);
        // The position just before the record: the next id of the same moment.
        let before = DeliveryId::first_of(id.moment().plus(Duration::from_millis(1)));
        let page = store.page(subscription, &filter, 1, Some(&before), sample::start()).await;
        assert!(ok(page).items.first() == Some(delivery), "{id}");
    }
}

async fn any_text_is_stored_unchanged(store: &dyn DeliveriesTable) {
    let subscription = subscription("record-texts");
    let texts = [
        "{}",
        r#"{"z":1.0,"a":1e5,"z":-0,"n":12345678901234567890.10,"":null}"#,
        r#"{"é":"„Grüße“ 𝄞 \ud800 \u0000 \\ \" \/"}"#,
        r#"{"a":[[],{},[1,[2,[3]]]],"b":" spaces  stay ","t":true}"#,
    ];
    let odd = "„é𝄞“ \u{0} \u{7f} \r\n\t \u{fffd} \"'\\ {}";
    for (n, (text, user)) in (1..).zip(texts.iter().cycle().zip(odd_users())) {
        let attempt = Attempt {
            response_headers: Some(KeptHeaders::new([("x-odd", odd)])),
            response_excerpt: odd.to_owned(),
            ..sample::attempt(n)
        };
        let delivery = Delivery {
            user_id: sample::user(&user),
            event_id: user.parse().unwrap_or_else(|error| panic!("{error}")),
            data: sample::data(text),
            attempts: vec![attempt],
            ..sample::delivery(&subscription, n)
        };
        put(store, &delivery).await;
        assert_stands(store, &delivery).await;
    }
}

/// The largest record there can be, of data that hardly compresses.
pub(super) fn largest(subscription: &SubscriptionId, n: u64) -> Delivery {
    let random = SeededRandom::new(n);
    let text = |bytes: usize| -> String {
        let mut random_bytes = vec![0; bytes];
        random.fill(&mut random_bytes);
        // Printable ASCII behind the quote and without the backslash: nothing is escaped.
        let printable = random_bytes.into_iter().map(|byte| char::from(b'#' + byte % 92));
        printable.map(|c| if c == '\\' { ' ' } else { c }).collect()
    };
    let data = format!(r#"{{"k":"{}"}}"#, text(EVENT_DATA_BYTES - 8));
    assert_eq!(data.len(), EVENT_DATA_BYTES);
    let headers = || {
        let values: Vec<String> = (0..20).map(|_| text(HEADER_VALUE_KEEP_BYTES)).collect();
        Some(KeptHeaders::new(values.iter().map(|value| ("x", value.as_str()))))
    };
    let attempt = |n| Attempt {
        request_headers: headers(),
        response_headers: headers(),
        response_excerpt: text(RESPONSE_KEEP_BYTES),
        ..sample::attempt(n)
    };
    Delivery {
        data: sample::data(&data),
        attempts: (0..=u64::from(RETRY_COUNT_MAX)).map(attempt).collect(),
        ..sample::delivery(subscription, n)
    }
}

async fn largest_record_is_stored_unchanged(store: &dyn DeliveriesTable) {
    let subscription = subscription("record-large");
    let mut delivery = largest(&subscription, 1);
    let last = delivery.attempts.pop().unwrap_or_else(|| sample::attempt(0));
    let mut delivery = Delivery { attempts: Vec::new(), ..waiting_as_is(delivery) };
    // It grows attempt by attempt, as it does in life.
    put(store, &delivery).await;
    for attempts in 0..=RETRY_COUNT_MAX {
        delivery.attempts.push(last.clone());
        let written = store.put(&delivery, Expect::Unchanged(Version::retrying(attempts))).await;
        assert_eq!(ok(written), DeliveryWrite::Applied, "after {attempts} attempts");
    }
    let found = get(store, &subscription, &delivery.id).await;
    assert!(found.is_some_and(|found| is_same(&found, &delivery)), "it was changed");

    let mut greek = largest(&subscription, 2);
    let data = format!(r#"{{"k":"{}"}}"#, "Ω".repeat((EVENT_DATA_BYTES - 8) / 2));
    greek.data = sample::data(&data);
    put(store, &greek).await;
    let found = get(store, &subscription, &greek.id).await;
    assert!(found.is_some_and(|found| is_same(&found, &greek)));
}

/// Whether two deliveries are the same but for where the table has the payload.
fn is_same(left: &Delivery, right: &Delivery) -> bool {
    *left == Delivery { has_payload_row: left.has_payload_row, ..right.clone() }
}

async fn large_payload_is_kept_until_it_is_erased(store: &dyn DeliveriesTable) {
    let subscription = subscription("record-payload");
    let mut delivery = waiting_as_is(largest(&subscription, 1));
    delivery.attempts.truncate(1);
    put(store, &delivery).await;
    for attempts in 1..4 {
        let mut read =
            get(store, &subscription, &delivery.id).await.unwrap_or_else(|| panic!("it is lost"));
        assert_eq!(read.data, delivery.data);
        read.attempts.push(sample::attempt(attempts.into()));
        let written = store.put(&read, Expect::Unchanged(Version::retrying(attempts))).await;
        assert_eq!(ok(written), DeliveryWrite::Applied);
    }
    let filter = DeliveryFilter::default();
    let page = ok(store.oldest(&subscription, &filter, 9, None, sample::start()).await);
    assert!(page.items.len() == 1 && page.items[0].data == delivery.data, "a recovery needs it");
    let listed = ok(store.page(&subscription, &filter, 9, None, sample::start()).await);
    assert_eq!(listed.items.len(), 1, "the payload is listed");

    let mut read =
        get(store, &subscription, &delivery.id).await.unwrap_or_else(|| panic!("it is lost"));
    read.succeed(KeepPayload::UntilSuccess, sample::at(9));
    // Refused because of another write, it erases nothing.
    let refused = ok(store.put(&read, Expect::Unchanged(Version::retrying(3))).await);
    assert!(matches!(refused, DeliveryWrite::Refused(_)), "{refused:?}");
    let unchanged = get(store, &subscription, &delivery.id).await;
    assert_eq!(unchanged.map(|read| read.data), Some(delivery.data.clone()));
    let written = ok(store.put(&read, Expect::Unchanged(Version::retrying(4))).await);
    assert_eq!(written, DeliveryWrite::Applied);
    let read = get(store, &subscription, &delivery.id).await;
    assert!(read.is_some_and(|read| read.is_payload_erased && read.data == Data::empty()));
}

fn waiting_as_is(mut delivery: Delivery) -> Delivery {
    delivery.wait(sample::at(60), sample::at(60), delivery.updated_at);
    delivery
}

async fn record_is_found_only_under_its_own_subscription(store: &dyn DeliveriesTable) {
    let (own, other) = (subscription("record-own"), subscription("record-other"));
    let delivery = waiting(sample::delivery(&own, 1), 1, sample::at(60));
    put(store, &delivery).await;
    assert_eq!(get(store, &other, &delivery.id).await, None);
    let unwritten = sample::delivery(&own, 2).id;
    let several = [(&own, &delivery.id), (&own, &unwritten), (&other, &delivery.id)];
    let absent = ok(store.without_record(&several[..2]).await);
    assert_eq!(Vec::from_iter(absent), std::slice::from_ref(&unwritten));
    assert_eq!(ok(store.without_record(&several[2..]).await).len(), 1);
    let filter = DeliveryFilter::default();
    let page = ok(store.page(&other, &filter, 10, None, sample::start()).await);
    assert!(page.items.is_empty() && page.next.is_none());
    let moved = Delivery { subscription_id: other.clone(), ..delivery.clone() };
    let written = store.put(&moved, Expect::Unchanged(Version::retrying(1))).await;
    assert!(!ok(written).is_applied());
    assert_eq!(get(store, &other, &delivery.id).await, None);
    assert_stands(store, &delivery).await;
}

async fn first_write_fails_if_a_record_exists(store: &dyn DeliveriesTable) {
    let subscription = subscription("record-first");
    let plain = |n| sample::delivery(&subscription, n);
    let first = [
        plain(1),
        waiting(plain(2), 1, sample::at(60)),
        ended(plain(3), 1, Status::Success),
        ended(plain(4), 2, Status::Failed),
    ];
    for (n, delivery) in (1..).zip(&first) {
        put(store, delivery).await;
        let other = Delivery {
            data: sample::data(r#"{"other":1}"#),
            ..ended(plain(n), 9, Status::Success)
        };
        assert!(!ok(store.put(&other, Expect::Absent).await).is_applied());
        assert_stands(store, delivery).await;
    }
}

async fn later_write_requires_its_number_of_attempts(store: &dyn DeliveriesTable) {
    let subscription = subscription("record-later");
    let plain = || sample::delivery(&subscription, 1);
    let write = async |delivery: &Delivery, attempts: u32| {
        ok(store.put(delivery, Expect::Unchanged(Version::retrying(attempts))).await)
    };
    let later = waiting(plain(), 1, sample::at(60));
    for attempts in 0..3 {
        assert!(!write(&later, attempts).await.is_applied(), "there is none");
    }
    assert_eq!(get(store, &subscription, &later.id).await, None);

    // A record may be postponed before its first attempt, and more than once.
    let mut standing = waiting(plain(), 0, sample::at(30));
    put(store, &standing).await;
    for (attempts, made) in [(0, 0), (0, 1), (1, 2), (2, 2), (2, 5)] {
        let next = waiting(plain(), made, sample::at(60 + made));
        for wrong in (0..8).filter(|wrong| *wrong != attempts) {
            assert!(!write(&next, wrong).await.is_applied());
        }
        assert_stands(store, &standing).await;
        assert_eq!(write(&next, attempts).await, DeliveryWrite::Applied);
        assert_stands(store, &next).await;
        standing = next;
    }
    let end = Delivery {
        end_reason: Some(EndReason::WebhookDeleted),
        ..ended(plain(), 5, Status::Failed)
    };
    assert_eq!(write(&end, 5).await, DeliveryWrite::Applied);
    assert_stands(store, &end).await;
}

async fn ended_delivery_never_changes(store: &dyn DeliveriesTable) {
    let subscription = subscription("record-ended");
    for (n, status) in (1..).zip([Status::Success, Status::Failed]) {
        let plain = || sample::delivery(&subscription, n);
        let end = ended(plain(), 2, status);
        put(store, &end).await;
        for change in [waiting(plain(), 3, sample::at(60)), ended(plain(), 3, Status::Success)] {
            for expect in [
                Expect::Absent,
                Expect::Unchanged(Version::retrying(0)),
                Expect::Unchanged(Version::retrying(2)),
                Expect::Unchanged(Version::retrying(3)),
            ] {
                let written = store.put(&change, expect).await;
                assert!(!ok(written).is_applied(), "{status} {expect:?}");
            }
        }
        assert_stands(store, &end).await;
    }
}

/// Writes different records of one name concurrently, and checks that exactly one stands.
async fn race(store: &dyn DeliveriesTable, rivals: &[Delivery], expect: Expect) {
    let results = join_all(rivals.iter().map(|rival| store.put(rival, expect))).await;
    let made: Vec<&Delivery> = rivals
        .iter()
        .zip(results)
        .filter_map(|(rival, result)| ok(result).is_applied().then_some(rival))
        .collect();
    assert_eq!(made.len(), 1, "exactly one is written");
    assert_stands(store, made[0]).await;
}

async fn one_of_concurrent_first_writes_is_applied(store: &dyn DeliveriesTable) {
    let plain = sample::delivery(&subscription("record-race"), 1);
    let rivals: Vec<_> = (1..=8).map(|n| waiting(plain.clone(), n, sample::at(60))).collect();
    race(store, &rivals, Expect::Absent).await;
}

async fn one_of_concurrent_later_writes_is_applied(store: &dyn DeliveriesTable) {
    let plain = sample::delivery(&subscription("record-race"), 2);
    put(store, &waiting(plain.clone(), 1, sample::at(60))).await;
    let rivals: Vec<_> = (2..=9).map(|n| waiting(plain.clone(), n, sample::at(60))).collect();
    race(store, &rivals, Expect::Unchanged(Version::retrying(1))).await;
}

/// A record is there until it expires, by the store's clock, and then is not.
pub(super) async fn expiry(store: &dyn DeliveriesTable, clock: &ManualClock) {
    let subscription = subscription("record-expiry");
    let end = sample::at(86_400);
    let short = Delivery { expires_at: end, ..sample::delivery(&subscription, 1) };
    let long = sample::delivery(&subscription, 2);
    put(store, &short).await;
    put(store, &long).await;
    clock.set(end.minus(Duration::from_secs(1)));
    assert_stands(store, &short).await;
    clock.set(end.plus_seconds(1));
    for consistency in [Consistency::Strong, Consistency::Eventual] {
        assert_eq!(ok(store.get(&subscription, &short.id, consistency).await), None);
    }
    assert_stands(store, &long).await;
}
