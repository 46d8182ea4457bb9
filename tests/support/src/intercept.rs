//! One fault layer for all ports: [`Intercepted`] asks an [`Interceptor`] before each call of the
//! port behind it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use webhooks_core::breaker::Health;
use webhooks_core::delivery::Delivery;
use webhooks_core::host_health::{HostHealth, HostId};
use webhooks_core::ids::{DeliveryId, RecoveryId, SubscriptionId, UserId};
use webhooks_core::ports::{
    CleanupState, Consistency, Creation, DeadLetterQueue, Deliveries, DeliveryFilter,
    DeliveryWrite, Due, DueIndex, Expect, HostWrite, Lease, ListedSubscription, Outgoing, Page,
    QueueError, Recoveries, RejectedEvent, RowKey, Statistics, StoreError, SubscriptionKey,
    SubscriptionWrite, Subscriptions, TaskQueue, UserSubscriptions, Version, Written,
};
use webhooks_core::rate_limit::{NextSlot, SlotUpdate, Update};
use webhooks_core::recovery::{Outcomes, Recovery};
use webhooks_core::statistics::{Addition, Counts, HourCounts};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

/// What happens to a call that does not fail immediately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is carried out.
    Done,
    /// It is carried out twice and the second result is returned, as when an SDK retries a request whose
    /// response was lost.
    Repeated,
    /// The result says that it was carried out, and it is not.
    Skipped,
}

/// Decides about each call of a port.
#[async_trait]
pub trait Interceptor: Send + Sync {
    /// Called before each call, with its name: the port and the method, such as
    /// `subscriptions.get`. After an error the call is not carried out.
    async fn before(&self, call: &'static str) -> Result<Effect, StoreError>;
}

/// Lets every call of one name fail without an effect; a clone stops with it.
#[derive(Clone, Debug)]
pub struct Failing {
    call: &'static str,
    stopped: Arc<AtomicBool>,
}

impl Failing {
    /// The call by its name, such as `deliveries.put`.
    pub fn call(call: &'static str) -> Self {
        Self { call, stopped: Arc::default() }
    }

    /// From now on no call fails.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Interceptor for Failing {
    async fn before(&self, call: &'static str) -> Result<Effect, StoreError> {
        if call == self.call && !self.stopped.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable(format!("{call} fails").into()));
        }
        Ok(Effect::Done)
    }
}

/// A port whose calls an interceptor decides about.
#[derive(Clone, Debug)]
pub struct Intercepted<P, I> {
    inner: P,
    interceptor: I,
}

impl<P, I> Intercepted<P, I> {
    /// Has `interceptor` decide about the calls of `inner`.
    pub fn new(inner: P, interceptor: I) -> Self {
        Self { inner, interceptor }
    }

    /// The port behind, whose calls are not intercepted.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// The interceptor.
    pub fn interceptor(&self) -> &I {
        &self.interceptor
    }
}

impl<P: Sync, I: Interceptor> Intercepted<P, I> {
    async fn call<T: Applied, E: PortError, F: Future<Output = Result<T, E>> + Send>(
        &self,
        name: &'static str,
        call: impl Fn() -> F + Send,
    ) -> Result<T, E> {
        match self.interceptor.before(name).await.map_err(E::of)? {
            Effect::Done => call().await,
            Effect::Repeated => {
                call().await?;
                call().await
            }
            Effect::Skipped => Ok(T::applied()),
        }
    }
}

/// An error of a port, made of what an interceptor reports.
trait PortError {
    fn of(error: StoreError) -> Self;
}

impl PortError for StoreError {
    fn of(error: StoreError) -> Self {
        error
    }
}

impl PortError for QueueError {
    fn of(error: StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// The response to a write that was applied, or to a read that finds nothing.
trait Applied {
    fn applied() -> Self;
}

macro_rules! applied {
    ($($type:ty: $value:expr, [$($generic:ident),*];)+) => {
        $(impl<$($generic),*> Applied for $type {
            fn applied() -> Self {
                $value
            }
        })+
    };
}

applied! {
    (): (), [];
    bool: true, [];
    u64: 0, [];
    Creation: Creation::Created, [];
    DeliveryWrite: DeliveryWrite::Applied, [];
    Written: Written::Applied, [];
    SlotUpdate: SlotUpdate::Applied(NextSlot(0)), [];
    Outcomes: Outcomes::default(), [];
    SubscriptionWrite: SubscriptionWrite::Applied, [];
    UserSubscriptions: UserSubscriptions::default(), [];
    HostHealth: HostHealth::default(), [];
    HostWrite: HostWrite::Applied, [];
    Option<T>: None, [T];
    Vec<T>: Vec::new(), [T];
    BTreeSet<T>: BTreeSet::new(), [T];
    Page<T, P>: Page { items: Vec::new(), next: None }, [T, P];
}

/// Implements ports for [`Intercepted`]: each method under the name `PORT.METHOD`.
macro_rules! intercept {
    ($($port:ident as $name:literal {
        $(fn $method:ident($($arg:ident: $type:ty),*) -> Result<$ok:ty, $error:ty>;)+
    })+) => {
        $(#[async_trait]
        impl<P: $port, I: Interceptor> $port for Intercepted<P, I> {
            $(async fn $method(&self, $($arg: $type),*) -> Result<$ok, $error> {
                let name = concat!($name, ".", stringify!($method));
                self.call(name, || self.inner.$method($($arg),*)).await
            })+
        })+
    };
}

intercept! {
    Subscriptions as "subscriptions" {
        fn create(subscription: &Subscription) -> Result<Creation, StoreError>;
        fn get(user_id: &UserId, id: &SubscriptionId, consistency: Consistency)
            -> Result<Option<Subscription>, StoreError>;
        fn get_several(names: &[(&UserId, &SubscriptionId)])
            -> Result<Vec<Subscription>, StoreError>;
        fn page(user_id: &UserId, limit: usize, before: Option<&SubscriptionId>)
            -> Result<Page<ListedSubscription, SubscriptionId>, StoreError>;
        fn list_by_user(user_id: &UserId) -> Result<UserSubscriptions, StoreError>;
        fn update(subscription: &Subscription, expected_version: u64)
            -> Result<SubscriptionWrite, StoreError>;
        fn set_health(user_id: &UserId, id: &SubscriptionId, expected: &Health, health: &Health)
            -> Result<SubscriptionWrite, StoreError>;
        fn host_health(user_id: &UserId, host: &HostId) -> Result<HostHealth, StoreError>;
        fn set_host_health(user_id: &UserId, host: &HostId, health: &HostHealth)
            -> Result<HostWrite, StoreError>;
        fn delete_unused_hosts(user_id: &UserId) -> Result<(), StoreError>;
        fn delete(user_id: &UserId, id: &SubscriptionId) -> Result<bool, StoreError>;
        fn scan_keys(limit: usize, after: Option<&SubscriptionKey>)
            -> Result<Page<SubscriptionKey, SubscriptionKey>, StoreError>;
        fn delete_tombstone(user_id: &UserId, id: &SubscriptionId) -> Result<(), StoreError>;
        fn count_redelivery(user_id: &UserId, now: Timestamp) -> Result<Written, StoreError>;
        fn is_user_blocked(user_id: &UserId) -> Result<bool, StoreError>;
        fn blocked_hosts() -> Result<Vec<String>, StoreError>;
    }
    Deliveries as "deliveries" {
        fn get(subscription_id: &SubscriptionId, id: &DeliveryId, consistency: Consistency)
            -> Result<Option<Delivery>, StoreError>;
        fn without_record(deliveries: &[(&SubscriptionId, &DeliveryId)])
            -> Result<BTreeSet<DeliveryId>, StoreError>;
        fn put(delivery: &Delivery, expect: Expect) -> Result<DeliveryWrite, StoreError>;
        fn lease(subscription_id: &SubscriptionId, id: &DeliveryId, version: Version, lease: &Lease)
            -> Result<DeliveryWrite, StoreError>;
        fn update_next_slot(subscription_id: &SubscriptionId, update: Update, now: Timestamp)
            -> Result<SlotUpdate, StoreError>;
        fn page(
            subscription_id: &SubscriptionId,
            filter: &DeliveryFilter,
            limit: usize,
            before: Option<&DeliveryId>,
            now: Timestamp
        ) -> Result<Page<Delivery, DeliveryId>, StoreError>;
    }
    DueIndex as "due_index" {
        fn due(shard: u8, until: Timestamp, limit: usize, after: Option<&Due>)
            -> Result<Page<Due, Due>, StoreError>;
        fn postpone(due: &Due, due_at: Timestamp) -> Result<Written, StoreError>;
    }
    Statistics as "statistics" {
        fn count(
            subscription_id: &SubscriptionId,
            hour: Timestamp,
            addition: &Addition
        ) -> Result<(), StoreError>;
        fn counters(subscription_id: &SubscriptionId, since: Timestamp)
            -> Result<Vec<HourCounts>, StoreError>;
        fn hour(subscription_id: &SubscriptionId, hour: Timestamp)
            -> Result<Option<HourCounts>, StoreError>;
        fn replace(subscription_id: &SubscriptionId, before: &HourCounts, counts: &Counts)
            -> Result<Written, StoreError>;
    }
    Recoveries as "recoveries" {
        fn create_recovery(recovery: &Recovery) -> Result<Written, StoreError>;
        fn started_recoveries(subscription_id: &SubscriptionId) -> Result<u64, StoreError>;
        fn start_recovery(recovery: &Recovery, started: u64) -> Result<Written, StoreError>;
        fn recovery(subscription_id: &SubscriptionId, id: &RecoveryId)
            -> Result<Option<Recovery>, StoreError>;
        fn recoveries(subscription_id: &SubscriptionId, limit: usize)
            -> Result<Vec<Recovery>, StoreError>;
        fn put_recovery(recovery: &Recovery, expected_page: u32) -> Result<Written, StoreError>;
        fn oldest(
            subscription_id: &SubscriptionId,
            filter: &DeliveryFilter,
            limit: usize,
            after: Option<&DeliveryId>,
            now: Timestamp
        ) -> Result<Page<Delivery, DeliveryId>, StoreError>;
        fn outcomes(subscription_id: &SubscriptionId, created_at: Timestamp)
            -> Result<Outcomes, StoreError>;
    }
    CleanupState as "cleanup_state" {
        fn expired_keys(subscription_id: &SubscriptionId, before: Timestamp, limit: usize)
            -> Result<Vec<RowKey>, StoreError>;
        fn all_keys(subscription_id: &SubscriptionId, limit: usize)
            -> Result<Vec<RowKey>, StoreError>;
        fn delete(subscription_id: &SubscriptionId, keys: &[RowKey])
            -> Result<Vec<RowKey>, StoreError>;
        fn position() -> Result<Option<SubscriptionKey>, StoreError>;
        fn set_position(position: Option<&SubscriptionKey>) -> Result<(), StoreError>;
    }
    TaskQueue as "queue" {
        fn send(tasks: &[Outgoing]) -> Result<Vec<usize>, QueueError>;
        fn change_visibility(messages: &[(String, Duration)]) -> Result<(), QueueError>;
    }
    DeadLetterQueue as "dead_letter_queue" {
        fn send(event: &RejectedEvent) -> Result<(), QueueError>;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualClock, MemoryDeliveries, MemorySubscriptions, MemoryTaskQueue};
    use crate::{conformance, sample};

    struct Skipping;

    #[async_trait]
    impl Interceptor for Skipping {
        async fn before(&self, _: &'static str) -> Result<Effect, StoreError> {
            Ok(Effect::Skipped)
        }
    }

    #[tokio::test]
    async fn failed_and_skipped_calls_have_no_effect() {
        let one = sample::subscription("u", 1);
        let failing = Failing::call("subscriptions.create");
        let table = Intercepted::new(MemorySubscriptions::default(), failing.clone());
        assert!(matches!(table.create(&one).await, Err(StoreError::Unavailable(_))));
        assert!(table.inner().snapshot().is_empty());
        failing.stop();
        assert_eq!(table.create(&one).await.unwrap(), Creation::Created);
        assert_eq!(table.inner().snapshot().len(), 1);

        let skipping = Intercepted::new(MemorySubscriptions::default(), Skipping);
        assert_eq!(skipping.create(&one).await.unwrap(), Creation::Created);
        assert!(skipping.inner().snapshot().is_empty());

        let failing = Failing::call("queue.change_visibility");
        let queue = Intercepted::new(MemoryTaskQueue::default(), failing);
        assert!(queue.send(&[]).await.is_ok());
        assert!(matches!(queue.change_visibility(&[]).await, Err(QueueError::Unavailable(_))));
    }

    #[tokio::test]
    async fn intercepted_ports_pass_conformance() {
        let none = || Failing::call("none");
        conformance::subscriptions(&Intercepted::new(MemorySubscriptions::default(), none())).await;
        let clock = ManualClock::default();
        let table = MemoryDeliveries::new(Arc::new(clock.clone()));
        conformance::deliveries(&Intercepted::new(table, none()), &clock).await;
    }
}
