//! Recoveries: jobs that redeliver what failed in a time range.
//!
//! A *recovery* is a row beside the deliveries of its subscription. It is worked off in *pages*, each
//! of which is one message of the slow deliveries queue. The row has the number of the page that is
//! next and the *position*: the last delivery of the page before.
//!
//! A page is sent in this order: the redeliveries, then the message of the next page, then the row on
//! condition that it still has this page. So at every moment the queue has a message for the page that
//! the row names, and a message of an earlier page finds that nothing is left to do. A page that is
//! sent twice sends the same redeliveries: their ids are derived from the recovery and the original.
//! Should the queue lose a message, the due index has the row too, and the retry function sends another.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::breaker::Health;
use crate::catalogue::EventType;
use crate::delivery::{Delivery, NewDelivery, Status, Trigger, UnknownName, named};
use crate::ids::{DeliveryId, RecoveryId, SubscriptionId, UserId};
use crate::limits::{
    OCCURRED_AT_AHEAD_MS, OCCURRED_AT_WINDOW_MS, RECOVERY_PAGE_MAX, RECOVERY_PER_SECOND_DEFAULT,
};
use crate::ports::Outgoing;
use crate::rate_limit::RateLimit;
use crate::subscription::Subscription;
use crate::time::Timestamp;

/// The retry function looks at a recovery this long after the moment of its next page: by then the
/// message of that page has been lost.
const LOST_AFTER_SECONDS: u64 = 900;
/// How long before its acceptance an event may have happened.
const HAPPENED_BEFORE: Duration = Duration::from_millis(OCCURRED_AT_WINDOW_MS.unsigned_abs());
/// How far the moment of a delivery may lie ahead of the clock.
const HELD_AHEAD: Duration = Duration::from_millis(2 * OCCURRED_AT_AHEAD_MS.unsigned_abs());
/// The wait between two pages.
pub const PAGE_WAIT: Duration = Duration::from_secs(1);

named! {
    /// How far a recovery has come.
    RecoveryStatus {
        /// More pages follow.
        Running = "running",
        /// Every delivery that matches has been sent.
        Done = "done",
        /// Its owner cancelled it, or its webhook was paused, disabled or deleted.
        Cancelled = "cancelled",
    }
}

/// A job that redelivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Its id. Its moment is when it was asked for.
    pub id: RecoveryId,
    /// The subscription.
    pub subscription_id: SubscriptionId,
    /// The owner.
    pub user_id: UserId,
    /// Whether the service has started it by itself.
    pub is_automatic: bool,
    /// How far it has come.
    pub status: RecoveryStatus,
    /// Which deliveries it sends again.
    pub selection: Selection,
    /// The number of the next page, from 0.
    pub page: u32,
    /// The last delivery of the page before.
    pub position: Option<DeliveryId>,
    /// The redeliveries that were sent.
    pub sent: u64,
    /// When the row was last written.
    pub updated_at: Timestamp,
    /// When the retry function must look at it; set exactly while it is running.
    pub due_at: Option<Timestamp>,
    /// When the row may be deleted.
    pub expires_at: Timestamp,
}

/// Which deliveries a recovery sends again: those of an event whose payload is kept, not tests and not
/// redeliveries, which are of events that are found by themselves. One of held deliveries sends all of
/// them, and makes no new ones: they have not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Those whose event happened at this moment or later.
    pub since: Timestamp,
    /// Those whose event happened before this moment.
    pub until: Timestamp,
    /// Those of this status.
    pub status: Status,
    /// Those of these types; of every type when there is none.
    pub event_types: Vec<EventType>,
    /// Those that ended at this moment or later.
    pub ended_since: Option<Timestamp>,
}

impl Selection {
    /// Whether it is of held deliveries, which are delivered themselves.
    pub fn is_of_held(&self) -> bool {
        self.status == Status::Held
    }

    /// Whether a delivery of its time and status is one of them.
    pub fn selects(&self, delivery: &Delivery) -> bool {
        delivery.status == self.status
            && (self.is_of_held()
                || (delivery.trigger == Trigger::Event && !delivery.is_payload_erased))
            && (self.event_types.is_empty() || self.event_types.contains(&delivery.event_type))
            && self.ended_since.is_none_or(|since| delivery.updated_at >= since)
    }
}

/// What became of the redeliveries of a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Those that a receiver answered with 2xx.
    pub succeeded: u64,
    /// Those that ended without a 2xx.
    pub failed: u64,
}

/// An id for a recovery of a webhook that starts now; `known` are the others, newest first.
///
/// The redeliveries of a recovery are those of its millisecond, so no two may have the same.
pub fn next_id(known: &[Recovery], now: Timestamp, random: [u8; 10]) -> RecoveryId {
    let after = |newest: &Recovery| newest.created_at().plus(Duration::from_millis(1)).max(now);
    RecoveryId::new(known.first().map_or(now, after), random)
}

impl Recovery {
    /// A recovery that has sent nothing.
    pub fn new(
        id: RecoveryId,
        subscription: &Subscription,
        selection: Selection,
        retention: Duration,
    ) -> Self {
        let now = id.moment();
        Self {
            subscription_id: subscription.id.clone(),
            user_id: subscription.user_id.clone(),
            is_automatic: false,
            status: RecoveryStatus::Running,
            selection,
            page: 0,
            position: None,
            sent: 0,
            updated_at: now,
            due_at: Some(now.plus_seconds(LOST_AFTER_SECONDS)),
            expires_at: now.plus(retention),
            id,
        }
    }

    /// The recovery that delivers all that is held, when the owner resumes the webhook.
    ///
    /// It is stored before the webhook becomes active. A page that finds the webhook paused cancels it,
    /// but no page comes before its message or, if there is none, the retry function, which waits for
    /// longer than any request takes.
    pub fn of_held(id: RecoveryId, subscription: &Subscription, retention: Duration) -> Self {
        let now = id.moment();
        let selection = Selection {
            since: now.minus(retention),
            // The moment of a delivery is that of its event, by the publisher's clock.
            until: now.plus(HELD_AHEAD),
            status: Status::Held,
            event_types: Vec::new(),
            ended_since: None,
        };
        Self { is_automatic: true, ..Self::new(id, subscription, selection, retention) }
    }

    /// The recovery of what failed in an outage, which a success ends now. `health` is that of before
    /// it; nothing if the breaker was closed then. The table has at most one of each outage.
    ///
    /// Redeliveries are no events, so no other recovery of an outage sends them again if they fail.
    pub fn of_outage(
        id: RecoveryId,
        subscription: &Subscription,
        health: &Health,
        retention: Duration,
    ) -> Option<Self> {
        let since = health.failing_since.filter(|_| health.open_until.is_some())?;
        let selection = Selection {
            // What ended in the outage may have happened as long before it as retries last.
            since: since.minus(subscription.retry_schedule.total() + HAPPENED_BEFORE),
            until: id.moment().plus(HELD_AHEAD),
            status: Status::Failed,
            event_types: Vec::new(),
            ended_since: Some(since),
        };
        Some(Self { is_automatic: true, ..Self::new(id, subscription, selection, retention) })
    }

    /// When the outage began that it is of.
    pub fn outage(&self) -> Option<Timestamp> {
        self.selection.ended_since.filter(|_| self.is_automatic)
    }

    /// When it was asked for.
    pub fn created_at(&self) -> Timestamp {
        self.id.moment()
    }

    /// Whether more pages follow.
    pub fn is_running(&self) -> bool {
        self.status == RecoveryStatus::Running
    }

    /// The task of a page.
    pub fn page_task(&self, page: u32, delay: Duration) -> Outgoing {
        let (subscription_id, id) = (self.subscription_id.clone(), self.id.clone());
        Outgoing::recovery_page(subscription_id, id, Some(page), Some(&self.user_id), delay)
    }

    /// The task that sends a delivery again: a held one itself, another as its redelivery.
    pub fn task(&self, of: &Delivery) -> Outgoing {
        if self.selection.is_of_held() {
            let (subscription_id, id) = (of.subscription_id.clone(), of.id.clone());
            return Outgoing::retry(subscription_id, id, Some(&of.user_id), Duration::ZERO);
        }
        Outgoing::first_attempt(self.redelivery(of))
    }

    /// The redelivery of a delivery: the same whenever it is asked again.
    pub fn redelivery(&self, of: &Delivery) -> NewDelivery {
        let delivery_id = redelivery_id(&self.id, &of.id);
        NewDelivery { trigger: Trigger::Recovery, ..NewDelivery::redelivery_of(of, delivery_id) }
    }

    /// Goes on to the page after `position`.
    pub fn advance(&mut self, sent: u64, position: DeliveryId, now: Timestamp) {
        self.page += 1;
        self.position = Some(position);
        self.sent += sent;
        self.updated_at = now;
        self.due_at = Some(now.plus_seconds(LOST_AFTER_SECONDS));
    }

    /// Puts the next page off until `at`.
    pub fn wait(&mut self, at: Timestamp, now: Timestamp) {
        self.updated_at = now;
        self.due_at = Some(at.plus_seconds(LOST_AFTER_SECONDS));
    }

    /// Ends it.
    pub fn end(&mut self, status: RecoveryStatus, now: Timestamp) {
        self.status = status;
        self.updated_at = now;
        self.due_at = None;
    }
}

/// The redeliveries of one page: what is sent in [`PAGE_WAIT`].
pub fn page_size(subscription: &Subscription) -> usize {
    let per_second =
        subscription.rate_limit.map_or(RECOVERY_PER_SECOND_DEFAULT, RateLimit::per_second);
    usize::try_from(per_second).unwrap_or(usize::MAX).min(RECOVERY_PAGE_MAX)
}

/// The time part is the recovery's, the random part a hash of both ids.
fn redelivery_id(recovery: &RecoveryId, original: &DeliveryId) -> DeliveryId {
    let mut hash = Sha256::new();
    // Both have a fixed length, so no two pairs run together.
    hash.update(recovery.as_str());
    hash.update(original.as_str());
    let digest = hash.finalize();
    let mut random = [0; 10];
    random.copy_from_slice(&digest[..10]);
    DeliveryId::new(recovery.moment(), random)
}
