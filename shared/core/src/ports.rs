//! What the handlers need of the outside, as traits.
//!
//! The stores have one method per access pattern, each one atomic request. Every implementation
//! passes the same conformance suite.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::breaker::Health;
use crate::catalogue::EventType;
use crate::delivery::{Delivery, DeliveryTask, NewDelivery, Status, TaskError};
use crate::host_health::{HostHealth, HostId};
use crate::ids::{DeliveryId, EventId, RecoveryId, SubscriptionId, UserId};
use crate::operational::OperationalEvent;
use crate::outbound::{HttpResult, OutboundRequest};
use crate::rate_limit::{SlotUpdate, Update};
use crate::recovery::{Outcomes, Recovery};
use crate::statistics::{Addition, Counts, HourCounts};
use crate::subscription::{Subscription, UnreadableSubscription};
use crate::time::Timestamp;

/// What a port reports as the cause of its error: usually an error of the AWS SDK.
pub type Source = Box<dyn Error + Send + Sync>;

/// Why a table could not do what was asked. A row that is missing is no error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The table is throttled, not reachable or responds with a transient fault.
    #[error("the table is not available")]
    Unavailable(#[source] Source),
    /// This version cannot read a row of the table.
    #[error("the row {key} cannot be read: {reason}")]
    Undecodable {
        /// Both parts of the row's key.
        key: String,
        /// What is wrong with it, without its contents.
        reason: String,
    },
    /// The table refuses the request itself: the fault is ours.
    #[error("the table refuses the request")]
    Rejected(#[source] Source),
}

/// Why a queue could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue is throttled, not reachable or responds with a transient fault.
    #[error("the queue is not available")]
    Unavailable(#[source] Source),
    /// The queue refuses the request itself: the fault is ours.
    #[error("the queue refuses the request")]
    Rejected(#[source] Source),
    /// A task cannot be written as a message.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// Why an event bus could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("the event bus is not available, or refuses the request")]
pub struct EventBusError(#[source] pub Source);

/// Shows an error with all its sources, each after a colon: the message of an error alone leaves its
/// source out.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// It may miss writes of the last moments, and costs half.
    Eventual,
    /// It sees every write that was acknowledged.
    Strong,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page<T, P> {
    /// The rows, newest first. May be fewer than asked for although more follow.
    pub items: Vec<T>,
    /// Where the next page begins: after this position. `None` at the end.
    pub next: Option<P>,
}

/// A subscription of a list. One row that cannot be read does not fail the list.
pub type ListedSubscription = Result<Subscription, UnreadableSubscription>;

/// The subscriptions of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSubscriptions {
    /// Whether the operator has blocked the user: events make no deliveries then.
    pub is_blocked: bool,
    /// All of them.
    pub items: Vec<ListedSubscription>,
}

/// What became of a request to create a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It is in the table.
    Created,
    /// The user has as many as one may have.
    LimitReached,
    /// The user has made as many today as one may make in a day.
    DailyLimitReached,
}

/// What became of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the table.
    Applied,
    /// The row is not (or no longer) as the condition says.
    ConditionFailed,
}

/// What became of a conditional write of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionWrite {
    /// The table has it.
    Applied,
    /// The condition does not hold for the subscription that the table has, which is this one.
    Conflict(Box<Subscription>),
    /// The table has no such subscription.
    Missing,
}

impl SubscriptionWrite {
    /// Whether the table has it.
    pub fn is_applied(&self) -> bool {
        matches!(self, Self::Applied)
    }
}

/// What became of a conditional write of a host's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostWrite {
    /// The table has it.
    Applied,
    /// The table has this version instead.
    Conflict(HostHealth),
}

/// What became of a conditional write of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryWrite {
    /// The table has it.
    Applied,
    /// The condition does not hold, for this reason.
    Refused(Refusal),
}

/// Why the table refuses a write of a delivery: what it has instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such record.
    Missing,
    /// The delivery has ended.
    Ended,
    /// This record waits for another attempt than expected: another copy of the task was faster.
    ChangedMeanwhile(Box<Delivery>),
    /// Another copy of the task makes the attempt; its lease ends then.
    Leased {
        /// When the lease ends by itself.
        until: Timestamp,
    },
}

impl DeliveryWrite {
    /// Whether the table has it.
    pub fn is_applied(&self) -> bool {
        *self == Self::Applied
    }

    /// A write that expected this record, or none, and met another or the end of the lease on it.
    pub fn refused(
        found: Option<Delivery>,
        expected: Option<Version>,
        lease_until: Option<Timestamp>,
    ) -> Self {
        Self::Refused(match (found, lease_until) {
            (None, _) => Refusal::Missing,
            (Some(found), _) if found.has_ended() => Refusal::Ended,
            (Some(found), Some(until)) if expected == Some(Version::of(&found)) => {
                Refusal::Leased { until }
            }
            (Some(found), _) => Refusal::ChangedMeanwhile(Box::new(found)),
        })
    }
}

/// A row of the Subscriptions table as the cleanup meets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionKey {
    /// The owner.
    pub user_id: UserId,
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// Whether only its tombstone is left.
    pub deleted: bool,
}

/// The Subscriptions table. Ownership is part of the key: nothing is found without its owner.
#[async_trait]
pub trait Subscriptions: Send + Sync {
    /// Stores a new one, unless the user has [`crate::limits::WEBHOOKS_PER_USER`] already, or has
    /// made [`crate::limits::WEBHOOKS_CREATED_PER_DAY`] on the day it was created at.
    async fn create(&self, subscription: &Subscription) -> Result<Creation, StoreError>;

    /// The one of this owner and name.
    async fn get(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError>;

    /// Those of these, which differ, that are found, read with eventual consistency: in one request, where
    /// that is possible. What it does not return may exist.
    async fn get_several(
        &self,
        names: &[(&UserId, &SubscriptionId)],
    ) -> Result<Vec<Subscription>, StoreError> {
        let mut found = Vec::new();
        for (user_id, id) in names {
            found.extend(self.get(user_id, id, Consistency::Eventual).await?);
        }
        Ok(found)
    }

    /// At most `limit` of a user, newest first, those older than `before`.
    async fn page(
        &self,
        user_id: &UserId,
        limit: usize,
        before: Option<&SubscriptionId>,
    ) -> Result<Page<ListedSubscription, SubscriptionId>, StoreError>;

    /// All of a user, and whether the operator has blocked the user, in one query with strong
    /// consistency.
    async fn list_by_user(&self, user_id: &UserId) -> Result<UserSubscriptions, StoreError>;

    /// Replaces one, if its version in the table is still `expected_version`. Its health is
    /// replaced too.
    async fn update(
        &self,
        subscription: &Subscription,
        expected_version: u64,
    ) -> Result<SubscriptionWrite, StoreError>;

    /// Replaces only the health of one, if it is still `expected`. Its version rises as with any
    /// change, so that nobody who read it before writes the old health back.
    async fn set_health(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        expected: &Health,
        health: &Health,
    ) -> Result<SubscriptionWrite, StoreError>;

    /// How the webhooks of an owner at a host did, read with eventual consistency.
    async fn host_health(&self, user_id: &UserId, host: &HostId) -> Result<HostHealth, StoreError>;

    /// Replaces the health of a host, if the version in the table is the one before.
    async fn set_host_health(
        &self,
        user_id: &UserId,
        host: &HostId,
        health: &HostHealth,
    ) -> Result<HostWrite, StoreError>;

    /// Deletes what is known of an owner's hosts, if the owner has no webhook. For the cleanup only.
    async fn delete_unused_hosts(&self, user_id: &UserId) -> Result<(), StoreError>;

    /// Deletes one and leaves a tombstone for the cleanup. `false` when there is none.
    async fn delete(&self, user_id: &UserId, id: &SubscriptionId) -> Result<bool, StoreError>;

    /// At most `limit` rows and tombstones of all users, in the table's own order, those after
    /// `after`. For the cleanup only.
    async fn scan_keys(
        &self,
        limit: usize,
        after: Option<&SubscriptionKey>,
    ) -> Result<Page<SubscriptionKey, SubscriptionKey>, StoreError>;

    /// Removes a tombstone.
    async fn delete_tombstone(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<(), StoreError>;

    /// Counts a redelivery that a user asks for. The condition fails when the user has asked for
    /// [`crate::limits::REDELIVERIES_PER_DAY`] on the day of `now`.
    async fn count_redelivery(
        &self,
        user_id: &UserId,
        now: Timestamp,
    ) -> Result<Written, StoreError>;

    /// Whether the operator has blocked the user; eventually consistent.
    async fn is_user_blocked(&self, user_id: &UserId) -> Result<bool, StoreError>;

    /// The hosts that the operator has blocked; eventually consistent.
    async fn blocked_hosts(&self) -> Result<Vec<String>, StoreError>;
}

/// Which deliveries a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Only those of this status.
    pub status: Option<Status>,
    /// Only those of this type.
    pub event_type: Option<EventType>,
    /// Only those of this event, redeliveries included.
    pub event_id: Option<EventId>,
    /// Only those whose event happened at this moment or later.
    pub since: Option<Timestamp>,
    /// Only those whose event happened before this moment.
    pub until: Option<Timestamp>,
}

/// What a record must be for a write of it to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is none.
    Absent,
    /// It is as it was read.
    Unchanged(Version),
    /// It is as it was read, and nobody has a lease on it.
    Free {
        /// As what it was read.
        version: Version,
        /// When it was asked for.
        now: Timestamp,
    },
}

impl Expect {
    /// The record that must be there.
    pub fn version(self) -> Option<Version> {
        match self {
            Self::Absent => None,
            Self::Unchanged(version) | Self::Free { version, .. } => Some(version),
        }
    }
}

/// What tells a record that has not ended from the record that it was or will be. Whoever writes what adds to
/// counters must know both exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// `retrying` or `held`: one that has ended does not change.
    pub status: Status,
    /// The attempts that it has.
    pub attempts: u32,
}

impl Version {
    /// That of this record.
    pub fn of(delivery: &Delivery) -> Self {
        Self { status: delivery.status, attempts: delivery.attempt_count() }
    }

    /// A record that waits for its next attempt, after this many.
    pub fn retrying(attempts: u32) -> Self {
        Self { status: Status::Retrying, attempts }
    }
}

/// A lease on a record that has not ended, so that two copies of a task do not both POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Names the holder: the same holder may take its lease again.
    pub holder: String,
    /// When it was asked for.
    pub now: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// A row of the due index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// When the retry function must look at it.
    pub due_at: Timestamp,
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// What waits.
    pub row: Waiting,
}

/// What waits in the due index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waiting {
    /// A delivery, for its next attempt.
    Delivery(DeliveryId),
    /// A recovery, for its next page.
    Recovery(RecoveryId),
    /// The counters of an hour, to be counted again.
    Stats(Timestamp),
}

impl Waiting {
    /// The delivery that waits.
    pub fn delivery_id(&self) -> Option<&DeliveryId> {
        match self {
            Self::Delivery(id) => Some(id),
            Self::Recovery(_) | Self::Stats(_) => None,
        }
    }
}

/// A row of the Deliveries table as the cleanup meets it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RowKey {
    /// A delivery.
    Delivery(DeliveryId),
    /// The payload of a delivery, when it has a row of its own.
    Payload(DeliveryId),
    /// A recovery.
    Recovery(RecoveryId),
    /// The counters of an hour.
    Stats(Timestamp),
    /// The next free slot of the rate limit.
    NextSlot,
    /// How many recoveries its owner has started.
    StartedRecoveries,
}

/// The records of the Deliveries table.
#[async_trait]
pub trait Deliveries: Send + Sync {
    /// One record; an expired one does not exist.
    async fn get(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        consistency: Consistency,
    ) -> Result<Option<Delivery>, StoreError>;

    /// Those of these deliveries, which differ, that have no record, read with eventual consistency: in
    /// one request, where that is possible. What it does not return may have one.
    async fn without_record(
        &self,
        deliveries: &[(&SubscriptionId, &DeliveryId)],
    ) -> Result<BTreeSet<DeliveryId>, StoreError> {
        let mut absent = BTreeSet::new();
        for (subscription_id, id) in deliveries {
            if self.get(subscription_id, id, Consistency::Eventual).await?.is_none() {
                absent.insert((*id).clone());
            }
        }
        Ok(absent)
    }

    /// Writes a whole record, and ends any lease on it, if it is as expected. An expired record that
    /// refuses the write counts as missing. The first write of a record decides whether the payload
    /// has a row of its own; it is written before the record, so that no record lacks its payload.
    async fn put(&self, delivery: &Delivery, expect: Expect) -> Result<DeliveryWrite, StoreError>;

    /// Takes a lease on a record that is as it was read and has no other holder's lease.
    async fn lease(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        version: Version,
        lease: &Lease,
    ) -> Result<DeliveryWrite, StoreError>;

    /// Updates the next free slot of a subscription's rate limit, which is kept for some days after
    /// `now`.
    async fn update_next_slot(
        &self,
        subscription_id: &SubscriptionId,
        update: Update,
        now: Timestamp,
    ) -> Result<SlotUpdate, StoreError>;

    /// Records of a subscription, newest first, those older than `before`, in one read that looks at
    /// no more than one record after the next `limit`: so there can be fewer than `limit` although more
    /// follow (see [`Page::next`]). Expired ones are not shown, as of `now`. A payload that has a row of
    /// its own is not read: `data` is empty then.
    async fn page(
        &self,
        subscription_id: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        before: Option<&DeliveryId>,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError>;
}

/// The sparse index of the deliveries that wait for an attempt.
#[async_trait]
pub trait DueIndex: Send + Sync {
    /// At most `limit` rows of one shard of the due index, earliest first, with `due_at` up to
    /// and including `until`, those after `after`.
    async fn due(
        &self,
        shard: u8,
        until: Timestamp,
        limit: usize,
        after: Option<&Due>,
    ) -> Result<Page<Due, Due>, StoreError>;

    /// Moves a row of the due index to `due_at`, if it still stands where `due` says.
    async fn postpone(&self, due: &Due, due_at: Timestamp) -> Result<Written, StoreError>;
}

/// The counters of each subscription and hour.
#[async_trait]
pub trait Statistics: Send + Sync {
    /// Adds to the counters of one hour. After an error they may have been added to. An hour that is in the
    /// due index already keeps its place.
    async fn count(
        &self,
        subscription_id: &SubscriptionId,
        hour: Timestamp,
        addition: &Addition,
    ) -> Result<(), StoreError>;

    /// The counters of every hour from `since` on.
    async fn counters(
        &self,
        subscription_id: &SubscriptionId,
        since: Timestamp,
    ) -> Result<Vec<HourCounts>, StoreError>;

    /// The counters of one hour, read with strong consistency.
    async fn hour(
        &self,
        subscription_id: &SubscriptionId,
        hour: Timestamp,
    ) -> Result<Option<HourCounts>, StoreError>;

    /// Replaces the counters of an hour by `counts` and takes the hour out of the due index, if nothing was
    /// added since `before` was read.
    async fn replace(
        &self,
        subscription_id: &SubscriptionId,
        before: &HourCounts,
        counts: &Counts,
    ) -> Result<Written, StoreError>;
}

/// What the cleanup needs of the Deliveries table.
#[async_trait]
pub trait CleanupState: Send + Sync {
    /// At most `limit` keys of rows that belong to a time before `before`. Deliveries that are
    /// still `retrying` are left out, and so are their payloads. `limit` is at least 2: a payload comes
    /// before its delivery.
    async fn expired_keys(
        &self,
        subscription_id: &SubscriptionId,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError>;

    /// At most `limit` keys of all rows of a subscription.
    async fn all_keys(
        &self,
        subscription_id: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError>;

    /// Deletes rows, and returns those that could not be deleted this time.
    async fn delete(
        &self,
        subscription_id: &SubscriptionId,
        keys: &[RowKey],
    ) -> Result<Vec<RowKey>, StoreError>;

    /// Where the last cleanup stopped, if it was not done.
    async fn position(&self) -> Result<Option<SubscriptionKey>, StoreError>;

    /// Remembers where a cleanup stopped; `None` when it was done.
    async fn set_position(&self, position: Option<&SubscriptionKey>) -> Result<(), StoreError>;
}

/// The recoveries of each subscription, and what they read of its deliveries.
#[async_trait]
pub trait Recoveries: Send + Sync {
    /// Stores a new one, unless there is one of its id. One of an outage is stored only if the
    /// subscription's last one was of another outage. Which of two outages is later is not told by their begins:
    /// the first failure of an outage may have begun before the outage before it.
    async fn create_recovery(&self, recovery: &Recovery) -> Result<Written, StoreError>;

    /// How many a subscription's owner has started, read with strong consistency.
    async fn started_recoveries(&self, subscription_id: &SubscriptionId)
    -> Result<u64, StoreError>;

    /// Stores a new one that the owner asks for, if the owner has started `started` before it: so no two
    /// requests find the same limit not reached.
    async fn start_recovery(
        &self,
        recovery: &Recovery,
        started: u64,
    ) -> Result<Written, StoreError>;

    /// The one of this id, read with strong consistency. An expired one does not exist.
    async fn recovery(
        &self,
        subscription_id: &SubscriptionId,
        id: &RecoveryId,
    ) -> Result<Option<Recovery>, StoreError>;

    /// At most `limit` of a subscription, newest first, read with strong consistency. Expired ones
    /// are not shown.
    async fn recoveries(
        &self,
        subscription_id: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<Recovery>, StoreError>;

    /// Replaces one, if it is running and its next page is `expected_page`.
    async fn put_recovery(
        &self,
        recovery: &Recovery,
        expected_page: u32,
    ) -> Result<Written, StoreError>;

    /// Records of a subscription, oldest first, those newer than `after`, read with strong
    /// consistency: at most `limit`, and possibly fewer although more follow (see [`Page::next`]).
    /// Expired ones are not shown, as of `now`.
    async fn oldest(
        &self,
        subscription_id: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        after: Option<&DeliveryId>,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError>;

    /// What became of the redeliveries of the recovery that was asked for at this moment.
    async fn outcomes(
        &self,
        subscription_id: &SubscriptionId,
        created_at: Timestamp,
    ) -> Result<Outcomes, StoreError>;
}

/// The whole Deliveries table.
pub trait DeliveriesTable: Deliveries + DueIndex + Statistics + CleanupState + Recoveries {}

impl<T: Deliveries + DueIndex + Statistics + CleanupState + Recoveries> DeliveriesTable for T {}

/// A task and how long the queue is to hold it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The task.
    pub task: DeliveryTask,
    /// The time until it can be received, in whole seconds, at most 900 (AWS quota).
    pub delay: Duration,
    /// The `MessageGroupId`, by which SQS fair queues keep one user from delaying the others.
    pub group: String,
}

impl Outgoing {
    /// The first attempt of a delivery, now, in the group of its owner.
    pub fn first_attempt(new: NewDelivery) -> Self {
        let group = new.user_id.message_group();
        Self { task: DeliveryTask::FirstAttempt(new), delay: Duration::ZERO, group }
    }

    /// The first attempts of one event's deliveries, now; nothing when there is none.
    pub fn first_attempts(deliveries: Vec<NewDelivery>) -> Option<Self> {
        let group = deliveries.first()?.user_id.message_group();
        let task = DeliveryTask::first_attempts(deliveries);
        Some(Self { task, delay: Duration::ZERO, group })
    }

    /// A later attempt. Who does not know the owner, because the due index has only keys, leaves the
    /// task in the group of its subscription.
    pub fn retry(
        subscription_id: SubscriptionId,
        delivery_id: DeliveryId,
        owner: Option<&UserId>,
        delay: Duration,
    ) -> Self {
        let group =
            owner.map_or_else(|| subscription_id.as_str().to_owned(), UserId::message_group);
        let task = DeliveryTask::Retry { subscription_id, delivery_id, start_at: None };
        Self { task, delay, group }
    }

    /// The same task with an attempt that is not made before this moment, which is near.
    #[must_use]
    pub fn starting_at(mut self, at: Timestamp) -> Self {
        if let DeliveryTask::FirstAttempt(NewDelivery { start_at, .. })
        | DeliveryTask::Retry { start_at, .. } = &mut self.task
        {
            *start_at = Some(at);
        }
        self
    }

    /// A page of a recovery, in the group of the owner or, where nobody knows it, of the subscription.
    pub fn recovery_page(
        subscription_id: SubscriptionId,
        recovery_id: RecoveryId,
        page: Option<u32>,
        owner: Option<&UserId>,
        delay: Duration,
    ) -> Self {
        let group =
            owner.map_or_else(|| subscription_id.as_str().to_owned(), UserId::message_group);
        let task = DeliveryTask::RecoveryPage { subscription_id, recovery_id, page };
        Self { task, delay, group }
    }
}

/// The deliveries queue.
#[async_trait]
pub trait TaskQueue: Send + Sync {
    /// Sends at most [`crate::limits::QUEUE_BATCH_ENTRIES`] tasks in one request, and returns
    /// the indexes of those that the queue did not take.
    async fn send(&self, tasks: &[Outgoing]) -> Result<Vec<usize>, QueueError>;

    /// Sets the visibility timeout of received messages, each named by its receipt handle.
    async fn change_visibility(&self, messages: &[(String, Duration)]) -> Result<(), QueueError>;
}

/// A message that can never be handled, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedEvent {
    /// The body as it was received.
    pub body: String,
    /// The id it had on its queue.
    pub message_id: String,
    /// When its queue accepted it.
    pub sent: Timestamp,
    /// The stable name of the reason.
    pub reason: &'static str,
    /// One sentence that names the field.
    pub detail: String,
}

impl RejectedEvent {
    /// The message attribute with the id that an event had when it was accepted.
    pub const MESSAGE_ID: &str = "message_id";
    /// The message attribute with the time at which an event was accepted, in milliseconds since the
    /// epoch.
    pub const SENT_TIMESTAMP: &str = "sent_timestamp";
}

/// The dead-letter queue of the events.
#[async_trait]
pub trait DeadLetterQueue: Send + Sync {
    /// Sends an event there.
    async fn send(&self, event: &RejectedEvent) -> Result<(), QueueError>;
}

/// The event bus of the operator.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Puts at most [`crate::limits::EVENT_BUS_ENTRIES`] events on the bus in one request, and returns how
    /// many of them it did not take.
    async fn put(&self, events: &[OperationalEvent]) -> Result<usize, EventBusError>;
}

/// The guarded HTTP client.
#[async_trait]
pub trait Sender: Send + Sync {
    /// Does what takes time and needs no request, so that a request that is signed after it is sent
    /// immediately.
    async fn prepare(&self) {}

    /// Makes one POST. A receiver that fails is an ordinary result.
    async fn post(&self, request: OutboundRequest) -> HttpResult;
}

/// The clock.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// A timer.
#[async_trait]
pub trait Timer: Send + Sync {
    /// Waits so long.
    async fn sleep(&self, duration: Duration);
}

/// Randomness, fit for secrets.
pub trait Random: Send + Sync {
    /// Fills a buffer with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}

impl dyn Random + '_ {
    /// So many random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number from 0 to `most`, very nearly evenly.
    pub fn up_to(&self, most: u64) -> u64 {
        u64::from_be_bytes(self.bytes()) % (most + 1)
    }
}
