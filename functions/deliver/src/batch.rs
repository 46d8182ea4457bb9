//! What the tasks of a batch share: the subscriptions they read, and their metrics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::Consistency;
use webhooks_core::subscription::Subscription;

use crate::telemetry::Metrics;

/// A read of a subscription.
type Read = Arc<OnceCell<Option<Subscription>>>;

/// One batch.
#[derive(Default)]
pub(crate) struct Batch {
    reads: Mutex<HashMap<(UserId, SubscriptionId, Consistency), Read>>,
    metrics: Mutex<Metrics>,
}

impl Batch {
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

    /// Adds to the metrics.
    pub(crate) fn measure(&self, add: impl FnOnce(&mut Metrics)) {
        add(&mut lock(&self.metrics));
    }

    /// Writes the metrics.
    pub(crate) fn log(&self) {
        lock(&self.metrics).log();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A task that panicked while it held the lock left whole values behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
