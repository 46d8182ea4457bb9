//! What the tasks of a batch share: the subscriptions they read, the slots of rate limits that they
//! reserve, and their metrics.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, OnceCell};
use webhooks_core::breaker::Health;
use webhooks_core::host_health::{HostHealth, HostId};
use webhooks_core::ids::{DeliveryId, SubscriptionId, UserId};
use webhooks_core::ports::{Consistency, StoreError};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::telemetry::Metrics;

/// A read of a host's health.
type HostRead = Arc<OnceCell<HostHealth>>;

/// A read of a subscription.
type Read = Arc<OnceCell<Option<Subscription>>>;

/// The tasks that ask for a slot of one webhook, and the slots.
#[derive(Default)]
struct Slots {
    asked: u32,
    reserved: Arc<OnceCell<Vec<Timestamp>>>,
}

/// A task that may still ask for a slot. It does not any more when this is dropped.
pub(crate) struct Undecided<'a>(&'a Batch);

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if self.0.undecided.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.all_decided.notify_waiters();
        }
    }
}

/// One batch.
pub(crate) struct Batch {
    /// The tasks that may still ask for a slot, ...
    undecided: AtomicUsize,
    /// ... and a notice that there is none any more. It wakes those that wait in their order; a `watch` wakes
    /// them in a random one, and then a seed of the simulator is not the same run again.
    all_decided: Notify,
    slots: Mutex<HashMap<SubscriptionId, Slots>>,
    reads: Mutex<HashMap<(UserId, SubscriptionId, Consistency), Read>>,
    /// The deliveries that are known to have no record.
    without_record: OnceLock<BTreeSet<DeliveryId>>,
    metrics: Mutex<Metrics>,
    marked: Mutex<HashMap<SubscriptionId, Option<Health>>>,
    host_reads: Mutex<HashMap<(UserId, HostId), HostRead>>,
    claimed_hosts: Mutex<HashMap<(UserId, HostId), HostHealth>>,
    /// The hosts of URLs.
    hosts: Mutex<HashMap<String, HostId>>,
}

impl Batch {
    /// A batch without tasks.
    pub(crate) fn new() -> Self {
        Self {
            undecided: AtomicUsize::new(0),
            all_decided: Notify::new(),
            slots: Mutex::default(),
            reads: Mutex::default(),
            without_record: OnceLock::new(),
            metrics: Mutex::default(),
            marked: Mutex::default(),
            host_reads: Mutex::default(),
            claimed_hosts: Mutex::default(),
            hosts: Mutex::default(),
        }
    }

    /// A task of the batch. All are made before the first runs.
    pub(crate) fn undecided(&self) -> Undecided<'_> {
        self.undecided.fetch_add(1, Ordering::Relaxed);
        Undecided(self)
    }

    /// The slot of a task. All slots of one webhook are reserved together, by one of the tasks, when no
    /// other task can ask for one any more.
    pub(crate) async fn slot<F>(
        &self,
        undecided: Undecided<'_>,
        id: &SubscriptionId,
        reserve: impl FnOnce(u32) -> F,
    ) -> Result<Timestamp, StoreError>
    where
        F: Future<Output = Result<Vec<Timestamp>, StoreError>>,
    {
        let index = {
            let mut slots = lock(&self.slots);
            let asked = &mut slots.entry(id.clone()).or_default().asked;
            *asked += 1;
            *asked - 1
        };
        // Before the look, so that the notice does not come between them.
        let all_decided = self.all_decided.notified();
        drop(undecided);
        if self.undecided.load(Ordering::Relaxed) > 0 {
            all_decided.await;
        }
        let (asked, reserved) = {
            let slots = lock(&self.slots);
            (slots[id].asked, Arc::clone(&slots[id].reserved))
        };
        let slots = reserved.get_or_try_init(|| reserve(asked)).await?;
        Ok(slots[usize::try_from(index).expect("a batch is small")])
    }

    /// The read of a subscription, which is made once, because the tasks run concurrently.
    pub(crate) fn read(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Read {
        let key = (user_id.clone(), id.clone(), consistency);
        Arc::clone(lock(&self.reads).entry(key).or_default())
    }

    /// Notes a subscription that was read with eventual consistency.
    pub(crate) fn note_read(&self, subscription: Subscription) {
        let Subscription { user_id, id, .. } = &subscription;
        let read = self.read(user_id, id, Consistency::Eventual);
        // Another read of the same batch is as good.
        let _ = read.set(Some(subscription));
    }

    /// Notes which deliveries have no record.
    pub(crate) fn note_without_record(&self, deliveries: BTreeSet<DeliveryId>) {
        let _ = self.without_record.set(deliveries);
    }

    /// Whether a delivery is known to have no record.
    pub(crate) fn is_without_record(&self, id: &DeliveryId) -> bool {
        self.without_record.get().is_some_and(|all| all.contains(id))
    }

    /// The host of a URL, which is parsed and hashed once.
    pub(crate) fn host(&self, url: &str) -> HostId {
        let mut hosts = lock(&self.hosts);
        if let Some(known) = hosts.get(url) {
            return known.clone();
        }
        let host = HostId::of(url);
        hosts.insert(url.to_owned(), host.clone());
        host
    }

    /// The read of a host's health, which is made once.
    pub(crate) fn host_read(&self, user_id: &UserId, host: &HostId) -> HostRead {
        let key = (user_id.clone(), host.clone());
        Arc::clone(lock(&self.host_reads).entry(key).or_default())
    }

    /// Notes that this batch has the probe of a host's breaker.
    pub(crate) fn note_host_probe(&self, user_id: &UserId, host: &HostId, health: HostHealth) {
        lock(&self.claimed_hosts).insert((user_id.clone(), host.clone()), health);
    }

    /// What this batch knows of a host.
    pub(crate) fn known_host(&self, user_id: &UserId, host: &HostId) -> Option<HostHealth> {
        let key = (user_id.clone(), host.clone());
        let claimed = lock(&self.claimed_hosts).get(&key).cloned();
        claimed.or_else(|| lock(&self.host_reads).get(&key)?.get().cloned())
    }

    /// Whether an endpoint is to be marked as slow: the first slow attempt of the batch does it.
    pub(crate) fn claims_mark(&self, id: &SubscriptionId) -> bool {
        match lock(&self.marked).entry(id.clone()) {
            Entry::Vacant(free) => {
                free.insert(None);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Notes the health that marks an endpoint as slow.
    pub(crate) fn note_mark(&self, id: &SubscriptionId, health: Health) {
        lock(&self.marked).insert(id.clone(), Some(health));
    }

    /// The health that marked an endpoint as slow in this batch.
    pub(crate) fn mark_of(&self, id: &SubscriptionId) -> Option<Health> {
        lock(&self.marked).get(id).copied().flatten()
    }

    /// Adds to the metrics.
    pub(crate) fn measure(&self, add: impl FnOnce(&mut Metrics)) {
        add(&mut lock(&self.metrics));
    }

    /// Writes the metrics.
    pub(crate) fn log(&self) {
        lock(&self.metrics).log();
    }
}

/// Locks a map or a sum.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A task that panicked while it held the lock left whole values behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
