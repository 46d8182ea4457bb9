//! The Deliveries table in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use webhooks_core::delivery::{Delivery, Status, Trigger};
use webhooks_core::ids::{DeliveryId, RecoveryId, SubscriptionId};
use webhooks_core::limits::DUE_SHARDS;
use webhooks_core::ports::{
    CleanupState, Clock, Consistency, Deliveries, DeliveryFilter, DeliveryWrite, Due, DueIndex,
    Expect, Lease, Page, Recoveries, RowKey, Statistics, StoreError, SubscriptionKey, Version,
    Waiting, Written,
};
use webhooks_core::rate_limit::{NextSlot, SlotUpdate, Update};
use webhooks_core::recovery::{Outcomes, Recovery};
use webhooks_core::statistics::{Addition, Counts, HourCounts};
use webhooks_core::time::Timestamp;

use super::paged;
use crate::lock;

/// The Deliveries table in memory; a clone sees the same rows. Its clock decides what has expired;
/// as in the real table, expired rows stay until something deletes them.
#[derive(Clone)]
pub struct MemoryDeliveries {
    clock: Arc<dyn Clock>,
    tables: Arc<Mutex<Tables>>,
}

#[derive(Default)]
struct Tables {
    deliveries: BTreeMap<(SubscriptionId, DeliveryId), StoredDelivery>,
    hours: BTreeMap<(SubscriptionId, Timestamp), HourCounts>,
    slots: BTreeMap<SubscriptionId, NextSlot>,
    recounts: BTreeMap<(SubscriptionId, Timestamp), Timestamp>,
    recoveries: BTreeMap<(SubscriptionId, RecoveryId), Recovery>,
    started: BTreeMap<SubscriptionId, u64>,
    outages: BTreeMap<SubscriptionId, Timestamp>,
    cleanup: Option<SubscriptionKey>,
}

impl Tables {
    fn has_guard(&self, subscription_id: &SubscriptionId) -> bool {
        self.started.contains_key(subscription_id) || self.outages.contains_key(subscription_id)
    }

    /// The keys of all rows of a subscription: deliveries first, then counters, then recoveries.
    fn keys(&self, subscription_id: &SubscriptionId) -> impl Iterator<Item = RowKey> {
        let deliveries = self.deliveries.keys().filter(move |(owner, _)| owner == subscription_id);
        let hours = self.hours.keys().filter(move |(owner, _)| owner == subscription_id);
        let recoveries = self.recoveries.keys().filter(move |(owner, _)| owner == subscription_id);
        deliveries
            .map(|(_, id)| RowKey::Delivery(id.clone()))
            .chain(hours.map(|(_, hour)| RowKey::Stats(*hour)))
            .chain(self.slots.contains_key(subscription_id).then_some(RowKey::NextSlot))
            .chain(self.has_guard(subscription_id).then_some(RowKey::StartedRecoveries))
            .chain(recoveries.map(|(_, id)| RowKey::Recovery(id.clone())))
    }
}

/// A record and the lease on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// The record.
    pub delivery: Delivery,
    /// The lease that was taken last, since the record was last written.
    pub lease: Option<Lease>,
}

impl MemoryDeliveries {
    /// An empty table.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, tables: Arc::default() }
    }

    /// Every record there is, also the expired ones, by subscription and id.
    pub fn snapshot(&self) -> Vec<StoredDelivery> {
        lock(&self.tables).deliveries.values().cloned().collect()
    }

    /// Every recovery there is, also the expired ones, by subscription and id.
    pub fn all_recoveries(&self) -> Vec<Recovery> {
        lock(&self.tables).recoveries.values().cloned().collect()
    }

    /// Every counter there is, by subscription and hour.
    pub fn all_counters(&self) -> Vec<(SubscriptionId, HourCounts)> {
        let tables = lock(&self.tables);
        tables.hours.iter().map(|((id, _), hour)| (id.clone(), *hour)).collect()
    }

    /// When the first hour is to be counted again.
    pub fn first_recount(&self) -> Option<Timestamp> {
        lock(&self.tables).recounts.values().min().copied()
    }

    /// Why a conditional write was refused: the row that it met.
    fn refused(&self, found: Option<&StoredDelivery>, expected: Option<Version>) -> DeliveryWrite {
        let now = self.clock.now();
        let found = found.filter(|row| now < row.delivery.expires_at);
        let lease = found.and_then(|row| row.lease.as_ref());
        let until = lease.map(|lease| lease.until);
        DeliveryWrite::refused(found.map(|row| row.delivery.clone()), expected, until)
    }
}

impl StoredDelivery {
    fn is(&self, version: Version) -> bool {
        Version::of(&self.delivery) == version
    }

    fn is_free_for(&self, lease: &Lease) -> bool {
        self.lease
            .as_ref()
            .is_none_or(|held| held.holder == lease.holder || held.until <= lease.now)
    }
}

/// The shard of the due index that the row of this id is in.
fn due_shard(id: &str) -> u8 {
    let sum = id.bytes().fold(0u8, u8::wrapping_add);
    sum % DUE_SHARDS
}

fn passes(filter: &DeliveryFilter, delivery: &Delivery) -> bool {
    filter.status.is_none_or(|status| delivery.status == status)
        && filter.event_type.is_none_or(|event_type| delivery.event_type == event_type)
        && filter.event_id.as_ref().is_none_or(|event_id| delivery.event_id == *event_id)
        && is_between(filter, delivery)
}

fn is_between(filter: &DeliveryFilter, delivery: &Delivery) -> bool {
    let moment = delivery.created_at();
    filter.since.is_none_or(|since| moment >= since)
        && filter.until.is_none_or(|until| moment < until)
}

#[async_trait]
impl Deliveries for MemoryDeliveries {
    async fn get(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        _consistency: Consistency,
    ) -> Result<Option<Delivery>, StoreError> {
        let now = self.clock.now();
        let tables = lock(&self.tables);
        let row = tables.deliveries.get(&(subscription_id.clone(), id.clone()));
        Ok(row.map(|row| row.delivery.clone()).filter(|delivery| now < delivery.expires_at))
    }

    async fn put(&self, delivery: &Delivery, expect: Expect) -> Result<DeliveryWrite, StoreError> {
        let mut tables = lock(&self.tables);
        let key = (delivery.subscription_id.clone(), delivery.id.clone());
        let as_expected = match (expect, tables.deliveries.get(&key)) {
            (Expect::Absent, row) => row.is_none(),
            (Expect::Unchanged(version), row) => row.is_some_and(|row| row.is(version)),
            (Expect::Free { version, now }, row) => row.is_some_and(|row| {
                row.is(version) && row.lease.as_ref().is_none_or(|lease| lease.until <= now)
            }),
        };
        if !as_expected {
            let found = tables.deliveries.get(&key);
            return Ok(self.refused(found, expect.version()));
        }
        tables.deliveries.insert(key, StoredDelivery { delivery: delivery.clone(), lease: None });
        Ok(DeliveryWrite::Applied)
    }

    async fn lease(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        version: Version,
        lease: &Lease,
    ) -> Result<DeliveryWrite, StoreError> {
        let mut tables = lock(&self.tables);
        match tables.deliveries.get_mut(&(subscription_id.clone(), id.clone())) {
            Some(row) if row.is(version) && row.is_free_for(lease) => {
                row.lease = Some(lease.clone());
                Ok(DeliveryWrite::Applied)
            }
            found => Ok(self.refused(found.as_deref(), Some(version))),
        }
    }

    async fn update_next_slot(
        &self,
        subscription_id: &SubscriptionId,
        update: Update,
        _now: Timestamp,
    ) -> Result<SlotUpdate, StoreError> {
        let slots = &mut lock(&self.tables).slots;
        let updated = update.apply(slots.get(subscription_id).copied());
        if let SlotUpdate::Applied(next) = updated {
            slots.insert(subscription_id.clone(), next);
        }
        Ok(updated)
    }

    async fn page(
        &self,
        subscription_id: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        before: Option<&DeliveryId>,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        let tables = lock(&self.tables);
        let mut rows = tables
            .deliveries
            .values()
            .rev()
            .map(|row| &row.delivery)
            .filter(|delivery| delivery.subscription_id == *subscription_id)
            .filter(|delivery| before.is_none_or(|before| delivery.id < *before))
            .filter(|delivery| is_between(filter, delivery))
            // There is an index by status, which successes are not in.
            .filter(|delivery| {
                filter
                    .status
                    .is_none_or(|status| status == Status::Success || delivery.status == status)
            })
            .peekable();
        let looked_at: Vec<&Delivery> = rows.by_ref().take(limit + 1).collect();
        let is_shown = |delivery: &&Delivery| now < delivery.expires_at && passes(filter, delivery);
        let mut items: Vec<_> = looked_at.iter().copied().filter(is_shown).cloned().collect();
        let next = if items.len() > limit {
            items.truncate(limit);
            items.last()
        } else {
            rows.peek().and_then(|_| looked_at.last().copied())
        };
        let next = next.map(|delivery| delivery.id.clone());
        Ok(Page { items, next })
    }
}

#[async_trait]
impl DueIndex for MemoryDeliveries {
    async fn due(
        &self,
        shard: u8,
        until: Timestamp,
        limit: usize,
        after: Option<&Due>,
    ) -> Result<Page<Due, Due>, StoreError> {
        let tables = lock(&self.tables);
        let deliveries = tables.deliveries.values().map(|row| &row.delivery);
        let deliveries = deliveries.filter(|row| due_shard(row.id.as_str()) == shard);
        let recoveries = tables.recoveries.values();
        let recoveries = recoveries.filter(|row| due_shard(row.id.as_str()) == shard);
        let recounts =
            tables.recounts.iter().filter(|((id, _), _)| due_shard(id.as_str()) == shard);
        let due = |due_at: Option<Timestamp>, subscription_id: &SubscriptionId, row: Waiting| {
            let due_at = due_at.filter(|due_at| *due_at <= until)?;
            Some(Due { due_at, subscription_id: subscription_id.clone(), row })
        };
        let mut rows: Vec<Due> = deliveries
            .filter_map(|of| due(of.due_at, &of.subscription_id, Waiting::Delivery(of.id.clone())))
            .chain(recoveries.filter_map(|of| {
                due(of.due_at, &of.subscription_id, Waiting::Recovery(of.id.clone()))
            }))
            .chain(
                recounts.filter_map(|((id, hour), at)| due(Some(*at), id, Waiting::Stats(*hour))),
            )
            .filter(|due| after.is_none_or(|after| due > after))
            .collect();
        rows.sort();
        Ok(paged(rows.into_iter(), limit, Due::clone))
    }

    async fn postpone(&self, due: &Due, due_at: Timestamp) -> Result<Written, StoreError> {
        let mut tables = lock(&self.tables);
        let subscription_id = due.subscription_id.clone();
        let found = match &due.row {
            Waiting::Delivery(id) => {
                let row = tables.deliveries.get_mut(&(subscription_id, id.clone()));
                row.and_then(|row| row.delivery.due_at.as_mut())
            }
            Waiting::Recovery(id) => {
                let row = tables.recoveries.get_mut(&(subscription_id, id.clone()));
                row.and_then(|row| row.due_at.as_mut())
            }
            Waiting::Stats(hour) => tables.recounts.get_mut(&(subscription_id, *hour)),
        };
        match found {
            Some(found) if *found == due.due_at => {
                *found = due_at;
                Ok(Written::Applied)
            }
            _ => Ok(Written::ConditionFailed),
        }
    }
}

#[async_trait]
impl Statistics for MemoryDeliveries {
    async fn count(
        &self,
        subscription_id: &SubscriptionId,
        hour: Timestamp,
        addition: &Addition,
    ) -> Result<(), StoreError> {
        let mut tables = lock(&self.tables);
        let key = (subscription_id.clone(), hour);
        if let Some(at) = addition.recount_at {
            tables.recounts.entry(key.clone()).or_insert(at);
        }
        let row = tables.hours.entry(key).or_insert(HourCounts {
            hour,
            counts: Counts::default(),
            last_attempt_at: addition.last_attempt_at,
            additions: 0,
        });
        row.counts.add(addition.counts);
        row.additions += 1;
        row.last_attempt_at = row.last_attempt_at.max(addition.last_attempt_at);
        Ok(())
    }

    async fn counters(
        &self,
        subscription_id: &SubscriptionId,
        since: Timestamp,
    ) -> Result<Vec<HourCounts>, StoreError> {
        let tables = lock(&self.tables);
        let hours =
            tables.hours.iter().filter(|((id, hour), _)| id == subscription_id && *hour >= since);
        Ok(hours.map(|(_, counts)| *counts).collect())
    }

    async fn hour(
        &self,
        subscription_id: &SubscriptionId,
        hour: Timestamp,
    ) -> Result<Option<HourCounts>, StoreError> {
        Ok(lock(&self.tables).hours.get(&(subscription_id.clone(), hour)).copied())
    }

    async fn replace(
        &self,
        subscription_id: &SubscriptionId,
        before: &HourCounts,
        counts: &Counts,
    ) -> Result<Written, StoreError> {
        let mut tables = lock(&self.tables);
        let key = (subscription_id.clone(), before.hour);
        match tables.hours.get_mut(&key) {
            Some(row) if row.additions == before.additions => {
                row.counts = *counts;
                row.additions += 1;
            }
            _ => return Ok(Written::ConditionFailed),
        }
        tables.recounts.remove(&key);
        Ok(Written::Applied)
    }
}

#[async_trait]
impl Recoveries for MemoryDeliveries {
    async fn create_recovery(&self, recovery: &Recovery) -> Result<Written, StoreError> {
        let mut tables = lock(&self.tables);
        let key = (recovery.subscription_id.clone(), recovery.id.clone());
        if tables.recoveries.contains_key(&key) {
            return Ok(Written::ConditionFailed);
        }
        if let Some(outage) = recovery.outage() {
            let of = &recovery.subscription_id;
            if tables.outages.get(of) == Some(&outage) {
                return Ok(Written::ConditionFailed);
            }
            tables.outages.insert(of.clone(), outage);
        }
        tables.recoveries.insert(key, recovery.clone());
        Ok(Written::Applied)
    }

    async fn started_recoveries(
        &self,
        subscription_id: &SubscriptionId,
    ) -> Result<u64, StoreError> {
        Ok(lock(&self.tables).started.get(subscription_id).copied().unwrap_or(0))
    }

    async fn start_recovery(
        &self,
        recovery: &Recovery,
        started: u64,
    ) -> Result<Written, StoreError> {
        let of = &recovery.subscription_id;
        {
            let mut tables = lock(&self.tables);
            let is_new = !tables.recoveries.contains_key(&(of.clone(), recovery.id.clone()));
            if !is_new || tables.started.get(of).copied().unwrap_or(0) != started {
                return Ok(Written::ConditionFailed);
            }
            tables.started.insert(of.clone(), started + 1);
        }
        self.create_recovery(recovery).await
    }

    async fn recovery(
        &self,
        subscription_id: &SubscriptionId,
        id: &RecoveryId,
    ) -> Result<Option<Recovery>, StoreError> {
        let now = self.clock.now();
        let tables = lock(&self.tables);
        let found = tables.recoveries.get(&(subscription_id.clone(), id.clone()));
        Ok(found.filter(|recovery| now < recovery.expires_at).cloned())
    }

    async fn recoveries(
        &self,
        subscription_id: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<Recovery>, StoreError> {
        let now = self.clock.now();
        let tables = lock(&self.tables);
        let all = tables.recoveries.values().rev();
        let own = all.filter(|recovery| recovery.subscription_id == *subscription_id);
        Ok(own.filter(|recovery| now < recovery.expires_at).take(limit).cloned().collect())
    }

    async fn put_recovery(
        &self,
        recovery: &Recovery,
        expected_page: u32,
    ) -> Result<Written, StoreError> {
        let mut tables = lock(&self.tables);
        let key = (recovery.subscription_id.clone(), recovery.id.clone());
        match tables.recoveries.get_mut(&key) {
            Some(found) if found.is_running() && found.page == expected_page => {
                *found = recovery.clone();
                Ok(Written::Applied)
            }
            _ => Ok(Written::ConditionFailed),
        }
    }

    async fn oldest(
        &self,
        subscription_id: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        after: Option<&DeliveryId>,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        let tables = lock(&self.tables);
        let shown = tables
            .deliveries
            .values()
            .map(|row| &row.delivery)
            .filter(|delivery| delivery.subscription_id == *subscription_id)
            .filter(|delivery| after.is_none_or(|after| delivery.id > *after))
            .filter(|delivery| now < delivery.expires_at && passes(filter, delivery));
        Ok(paged(shown.cloned(), limit, |delivery| delivery.id.clone()))
    }

    async fn outcomes(
        &self,
        subscription_id: &SubscriptionId,
        created_at: Timestamp,
    ) -> Result<Outcomes, StoreError> {
        let tables = lock(&self.tables);
        let rows = tables.deliveries.values().map(|row| &row.delivery);
        let of_recovery = rows.filter(|row| {
            row.subscription_id == *subscription_id
                && row.trigger == Trigger::Recovery
                && row.created_at() == created_at
        });
        let mut outcomes = Outcomes::default();
        for row in of_recovery {
            outcomes.succeeded += u64::from(row.status == Status::Success);
            outcomes.failed += u64::from(row.status == Status::Failed);
        }
        Ok(outcomes)
    }
}

#[async_trait]
impl CleanupState for MemoryDeliveries {
    async fn expired_keys(
        &self,
        subscription_id: &SubscriptionId,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        let tables = lock(&self.tables);
        let expired = |key: &RowKey| match key {
            RowKey::Delivery(id) => {
                let stored = &tables.deliveries[&(subscription_id.clone(), id.clone())];
                id.moment() < before && stored.delivery.due_at.is_none()
            }
            RowKey::Stats(hour) => *hour < before,
            RowKey::NextSlot | RowKey::StartedRecoveries | RowKey::Payload(_) => false,
            RowKey::Recovery(id) => {
                let stored = &tables.recoveries[&(subscription_id.clone(), id.clone())];
                id.moment() < before && stored.due_at.is_none()
            }
        };
        Ok(tables.keys(subscription_id).filter(expired).take(limit).collect())
    }

    async fn all_keys(
        &self,
        subscription_id: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        Ok(lock(&self.tables).keys(subscription_id).take(limit).collect())
    }

    async fn delete(
        &self,
        subscription_id: &SubscriptionId,
        keys: &[RowKey],
    ) -> Result<Vec<RowKey>, StoreError> {
        let mut tables = lock(&self.tables);
        for key in keys {
            match key {
                RowKey::Delivery(id) => {
                    tables.deliveries.remove(&(subscription_id.clone(), id.clone()));
                }
                RowKey::Stats(hour) => {
                    tables.hours.remove(&(subscription_id.clone(), *hour));
                    tables.recounts.remove(&(subscription_id.clone(), *hour));
                }
                // A record has its payload.
                RowKey::Payload(_) => {}
                RowKey::NextSlot => {
                    tables.slots.remove(subscription_id);
                }
                RowKey::StartedRecoveries => {
                    tables.started.remove(subscription_id);
                    tables.outages.remove(subscription_id);
                }
                RowKey::Recovery(id) => {
                    tables.recoveries.remove(&(subscription_id.clone(), id.clone()));
                }
            }
        }
        Ok(Vec::new())
    }

    async fn position(&self) -> Result<Option<SubscriptionKey>, StoreError> {
        Ok(lock(&self.tables).cleanup.clone())
    }

    async fn set_position(&self, position: Option<&SubscriptionKey>) -> Result<(), StoreError> {
        lock(&self.tables).cleanup = position.cloned();
        Ok(())
    }
}
