//! The next free slot of a rate limit.

use webhooks_core::ports::{DeliveriesTable, RowKey};
use webhooks_core::rate_limit::{NextSlot, SlotUpdate, Update};

use super::records::subscription;
use super::{Rule, ok, rules};
use crate::sample;

pub(super) fn rules(store: &dyn DeliveriesTable) -> Vec<Rule<'_>> {
    rules![store;
        next_slot_is_set_only_when_it_is_absent_or_past,
        next_slot_is_extended_only_when_it_is_not_past,
        next_slot_belongs_to_its_subscription_and_is_deleted_with_it,
    ]
}

async fn update(store: &dyn DeliveriesTable, rule: &str, update: Update) -> SlotUpdate {
    ok(store.update_next_slot(&subscription(rule), update, sample::start()).await)
}

async fn next_slot_is_set_only_when_it_is_absent_or_past(store: &dyn DeliveriesTable) {
    let rule = "slot-set";
    let restart = |to, now| update(store, rule, Update::Restart { to, now });
    assert_eq!(restart(10, 5).await, SlotUpdate::Applied(NextSlot(10)));
    assert_eq!(restart(99, 10).await, SlotUpdate::ConditionFailed(Some(NextSlot(10))));
    assert_eq!(restart(99, 11).await, SlotUpdate::Applied(NextSlot(99)));
}

async fn next_slot_is_extended_only_when_it_is_not_past(store: &dyn DeliveriesTable) {
    let rule = "slot-extend";
    let extend = |add, now| update(store, rule, Update::Extend { add, now });
    assert_eq!(extend(7, 5).await, SlotUpdate::ConditionFailed(None));
    update(store, rule, Update::Restart { to: 10, now: 5 }).await;
    assert_eq!(extend(7, 10).await, SlotUpdate::Applied(NextSlot(17)));
    assert_eq!(extend(7, 18).await, SlotUpdate::ConditionFailed(Some(NextSlot(17))));
}

async fn next_slot_belongs_to_its_subscription_and_is_deleted_with_it(store: &dyn DeliveriesTable) {
    let (one, other) = ("slot-one", "slot-other");
    for (rule, to) in [(one, 10), (other, 20)] {
        update(store, rule, Update::Restart { to, now: 5 }).await;
    }
    let id = subscription(one);
    assert_eq!(ok(store.all_keys(&id, 10).await), [RowKey::NextSlot]);
    assert_eq!(ok(store.expired_keys(&id, sample::at(1_000), 10).await), []);
    assert_eq!(ok(store.delete(&id, &[RowKey::NextSlot]).await), []);
    assert_eq!(ok(store.all_keys(&id, 10).await), []);
    let extended = update(store, other, Update::Extend { add: 1, now: 5 }).await;
    assert_eq!(extended, SlotUpdate::Applied(NextSlot(21)));
}
