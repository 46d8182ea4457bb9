//! The Subscriptions table in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use webhooks_core::breaker::Health;
use webhooks_core::host_health::{HostHealth, HostId};
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::limits::{REDELIVERIES_PER_DAY, WEBHOOKS_CREATED_PER_DAY, WEBHOOKS_PER_USER};
use webhooks_core::ports::{
    Consistency, Creation, HostWrite, ListedSubscription, Page, StoreError, SubscriptionKey,
    SubscriptionWrite, Subscriptions, UserSubscriptions, Written,
};
use webhooks_core::subscription::{Subscription, UnreadableSubscription};
use webhooks_core::time::Timestamp;

use super::paged;
use crate::lock;

type Key = (UserId, SubscriptionId);
/// A tombstone is a key without a subscription.
type Rows = BTreeMap<Key, Option<Subscription>>;
/// What is known of the hosts of each owner.
type Hosts = BTreeMap<(UserId, HostId), HostHealth>;
/// The last day on which a user made any, and how many.
type Made = BTreeMap<UserId, (i64, usize)>;

/// What the operator has blocked, and the redeliveries that users asked for.
#[derive(Debug, Default)]
struct Limits {
    users: BTreeSet<UserId>,
    hosts: BTreeSet<String>,
    redelivered: Made,
}

/// The Subscriptions table in memory; a clone sees the same rows.
#[derive(Clone, Debug, Default)]
pub struct MemorySubscriptions(
    Arc<Mutex<Rows>>,
    Arc<Mutex<Made>>,
    Option<Arc<Mutex<Rows>>>,
    Arc<Mutex<Option<UnreadableSubscription>>>,
    Arc<Mutex<Limits>>,
    Arc<Mutex<Hosts>>,
);

impl MemorySubscriptions {
    /// The same table, whose eventually consistent reads of one row see another table.
    #[must_use]
    pub fn with_replica(&self, replica: &Self) -> Self {
        let replica = Some(Arc::clone(&replica.0));
        let (made, unreadable) = (Arc::clone(&self.1), Arc::clone(&self.3));
        let (limits, hosts) = (Arc::clone(&self.4), Arc::clone(&self.5));
        Self(Arc::clone(&self.0), made, replica, unreadable, limits, hosts)
    }

    /// Every subscription there is, of all users, without tombstones.
    pub fn snapshot(&self) -> Vec<Subscription> {
        lock(&self.0).values().flatten().cloned().collect()
    }

    /// Lists this subscription as one whose row cannot be read, before the others of its user.
    pub fn set_unreadable(&self, unreadable: UnreadableSubscription) {
        *lock(&self.3) = Some(unreadable);
    }

    /// Blocks a user, as an operator does.
    pub fn block_user(&self, user_id: &UserId) {
        lock(&self.4).users.insert(user_id.clone());
    }

    /// Blocks a host, as an operator does.
    pub fn block_host(&self, host: &str) {
        lock(&self.4).hosts.insert(host.to_owned());
    }

    /// How many tombstones there are.
    pub fn tombstones(&self) -> usize {
        lock(&self.0).values().filter(|row| row.is_none()).count()
    }

    /// Changes one that `allowed` lets pass.
    fn change(
        &self,
        key: &Key,
        allowed: impl FnOnce(&Subscription) -> bool,
        change: impl FnOnce(&mut Subscription),
    ) -> SubscriptionWrite {
        match lock(&self.0).get_mut(key) {
            Some(Some(row)) if allowed(row) => {
                change(row);
                SubscriptionWrite::Applied
            }
            Some(Some(row)) => SubscriptionWrite::Conflict(Box::new(row.clone())),
            _ => SubscriptionWrite::Missing,
        }
    }
}

/// The subscriptions of a user, oldest first.
fn of_user<'a>(
    rows: &'a Rows,
    user_id: &'a UserId,
) -> impl DoubleEndedIterator<Item = &'a Subscription> {
    rows.values().flatten().filter(move |row| row.user_id == *user_id)
}

#[async_trait]
impl Subscriptions for MemorySubscriptions {
    async fn create(&self, subscription: &Subscription) -> Result<Creation, StoreError> {
        let mut rows = lock(&self.0);
        let key = (subscription.user_id.clone(), subscription.id.clone());
        if rows.contains_key(&key) {
            let error = format!("{} exists already", subscription.id);
            return Err(StoreError::Rejected(error.into()));
        }
        if of_user(&rows, &subscription.user_id).count() >= WEBHOOKS_PER_USER {
            return Ok(Creation::LimitReached);
        }
        let day = subscription.created_at.day();
        let mut made = lock(&self.1);
        let made = made.entry(key.0.clone()).or_insert((day, 0));
        if made.0 < day {
            *made = (day, 0);
        }
        if made.1 >= WEBHOOKS_CREATED_PER_DAY {
            return Ok(Creation::DailyLimitReached);
        }
        made.1 += 1;
        rows.insert(key, Some(subscription.clone()));
        Ok(Creation::Created)
    }

    async fn get(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError> {
        let replica = self.2.as_ref().filter(|_| consistency == Consistency::Eventual);
        Ok(lock(replica.unwrap_or(&self.0)).get(&(user_id.clone(), id.clone())).cloned().flatten())
    }

    async fn page(
        &self,
        user_id: &UserId,
        limit: usize,
        before: Option<&SubscriptionId>,
    ) -> Result<Page<ListedSubscription, SubscriptionId>, StoreError> {
        let rows = lock(&self.0);
        let older =
            of_user(&rows, user_id).rev().filter(|row| before.is_none_or(|id| row.id < *id));
        let Page { items, next } = paged(older.cloned(), limit, |row| row.id.clone());
        Ok(Page { items: items.into_iter().map(Ok).collect(), next })
    }

    async fn list_by_user(&self, user_id: &UserId) -> Result<UserSubscriptions, StoreError> {
        let unreadable = lock(&self.3).clone().filter(|row| row.user_id == *user_id);
        let rows = lock(&self.0);
        let readable = of_user(&rows, user_id).cloned().map(Ok);
        let items = unreadable.map(Err).into_iter().chain(readable).collect();
        Ok(UserSubscriptions { is_blocked: lock(&self.4).users.contains(user_id), items })
    }

    async fn update(
        &self,
        subscription: &Subscription,
        expected_version: u64,
    ) -> Result<SubscriptionWrite, StoreError> {
        Ok(self.change(
            &(subscription.user_id.clone(), subscription.id.clone()),
            |row| row.version == expected_version,
            |row| *row = subscription.clone(),
        ))
    }

    async fn set_health(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        expected: &Health,
        health: &Health,
    ) -> Result<SubscriptionWrite, StoreError> {
        Ok(self.change(
            &(user_id.clone(), id.clone()),
            |row| row.health == *expected,
            |row| {
                row.health = *health;
                row.version += 1;
            },
        ))
    }

    async fn host_health(&self, user_id: &UserId, host: &HostId) -> Result<HostHealth, StoreError> {
        Ok(lock(&self.5).get(&(user_id.clone(), host.clone())).cloned().unwrap_or_default())
    }

    async fn set_host_health(
        &self,
        user_id: &UserId,
        host: &HostId,
        health: &HostHealth,
    ) -> Result<HostWrite, StoreError> {
        let mut hosts = lock(&self.5);
        let current = hosts.entry((user_id.clone(), host.clone())).or_default();
        if current.version + 1 != health.version {
            return Ok(HostWrite::Conflict(current.clone()));
        }
        current.clone_from(health);
        Ok(HostWrite::Applied)
    }

    async fn delete_unused_hosts(&self, user_id: &UserId) -> Result<(), StoreError> {
        let rows = lock(&self.0);
        if of_user(&rows, user_id).next().is_none() {
            lock(&self.5).retain(|(owner, _), _| owner != user_id);
        }
        Ok(())
    }

    async fn delete(&self, user_id: &UserId, id: &SubscriptionId) -> Result<bool, StoreError> {
        let mut rows = lock(&self.0);
        let row = rows.get_mut(&(user_id.clone(), id.clone()));
        Ok(row.is_some_and(|row| row.take().is_some()))
    }

    async fn scan_keys(
        &self,
        limit: usize,
        after: Option<&SubscriptionKey>,
    ) -> Result<Page<SubscriptionKey, SubscriptionKey>, StoreError> {
        let start = after.map_or(Bound::Unbounded, |after| {
            Bound::Excluded((after.user_id.clone(), after.subscription_id.clone()))
        });
        let rows = lock(&self.0);
        let scanned =
            rows.range((start, Bound::Unbounded)).map(|((user_id, id), row)| SubscriptionKey {
                user_id: user_id.clone(),
                subscription_id: id.clone(),
                deleted: row.is_none(),
            });
        Ok(paged(scanned, limit, SubscriptionKey::clone))
    }

    async fn delete_tombstone(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<(), StoreError> {
        let key = (user_id.clone(), id.clone());
        let mut rows = lock(&self.0);
        if rows.get(&key).is_some_and(Option::is_none) {
            rows.remove(&key);
        }
        Ok(())
    }

    async fn count_redelivery(
        &self,
        user_id: &UserId,
        now: Timestamp,
    ) -> Result<Written, StoreError> {
        let mut limits = lock(&self.4);
        let counted = limits.redelivered.entry(user_id.clone()).or_insert((now.day(), 0));
        if counted.0 < now.day() {
            *counted = (now.day(), 0);
        }
        if counted.1 >= REDELIVERIES_PER_DAY {
            return Ok(Written::ConditionFailed);
        }
        counted.1 += 1;
        Ok(Written::Applied)
    }

    async fn is_user_blocked(&self, user_id: &UserId) -> Result<bool, StoreError> {
        Ok(lock(&self.4).users.contains(user_id))
    }

    async fn blocked_hosts(&self) -> Result<Vec<String>, StoreError> {
        Ok(lock(&self.4).hosts.iter().cloned().collect())
    }
}
