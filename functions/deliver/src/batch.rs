//! What the tasks of a batch share: the subscriptions they read, the slots of rate limits that they
//! reserve, and their metrics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, watch};
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::{Consistency, StoreError};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::telemetry::Metrics;

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
        self.0.undecided.send_modify(|count| *count -= 1);
    }
}

/// One batch.
pub(crate) struct Batch {
    /// The tasks that may still ask for a slot.
    undecided: watch::Sender<usize>,
    slots: Mutex<HashMap<SubscriptionId, Slots>>,
    reads: Mutex<HashMap<(UserId, SubscriptionId, Consistency), Read>>,
    metrics: Mutex<Metrics>,
}

impl Batch {
    /// A batch without tasks.
    pub(crate) fn new() -> Self {
        Self {
            undecided: watch::Sender::new(0),
            slots: Mutex::default(),
            reads: Mutex::default(),
            metrics: Mutex::default(),
        }
    }

    /// A task of the batch. All are made before the first runs.
    pub(crate) fn undecided(&self) -> Undecided<'_> {
        self.undecided.send_modify(|count| *count += 1);
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
        drop(undecided);
        let mut undecided = self.undecided.subscribe();
        undecided.wait_for(|count| *count == 0).await.expect("the batch has the sender");
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
