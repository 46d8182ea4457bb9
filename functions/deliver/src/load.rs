//! What a task is about: its delivery and the subscription.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use futures::future::join;
use webhooks_core::delivery::{Delivery, DeliveryTask, NewDelivery, Status, Trigger};
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::{Chain, Consistency, Expect, Outgoing, StoreError, Version};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::batch::Batch;
use crate::disposition::{Disposition, Handled};
use crate::effects::Effect;
use crate::{Deliver, Task};

/// The delivery of a task.
pub(crate) enum Loaded {
    /// It has no record yet.
    New(NewDelivery),
    /// Its record.
    Existing(Delivery),
}

impl Loaded {
    /// Whether nothing is left to do.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Existing(delivery) if delivery.has_ended())
    }

    /// Acknowledges a message whose task is done. The invocation that did it may have ended before it counted
    /// it, so the hour is counted again.
    pub(crate) fn done_before(&self) -> Handled {
        let effect = match self {
            Self::Existing(delivery) => {
                Some(Effect::recount(delivery).with_exhausted_again(delivery))
            }
            Self::New(_) => None,
        };
        Handled { disposition: Disposition::Ack, effect }
    }

    /// The status of its record.
    pub(crate) fn status(&self) -> Option<Status> {
        match self {
            Self::New(_) => None,
            Self::Existing(delivery) => Some(delivery.status),
        }
    }

    /// Whether it is held already.
    pub(crate) fn is_held(&self) -> bool {
        self.status() == Some(Status::Held)
    }

    /// The earliest moment of the attempt; a new delivery may be attempted immediately.
    pub(crate) fn not_before(&self) -> Option<Timestamp> {
        match self {
            Self::New(_) => None,
            Self::Existing(delivery) => delivery.next_retry_at,
        }
    }

    /// The slot of the rate limit that it has reserved.
    pub(crate) fn slot(&self) -> Option<Timestamp> {
        match self {
            Self::New(_) => None,
            Self::Existing(delivery) => delivery.next_retry_at.filter(|_| delivery.has_slot),
        }
    }

    /// Whether the retry function counts the message of this delivery as lost, and sends another.
    pub(crate) fn is_overdue(&self, now: Timestamp) -> bool {
        matches!(self, Self::Existing(delivery) if delivery.due_at.is_some_and(|at| at <= now))
    }

    /// The task that asks for its next attempt.
    pub(crate) fn task(&self) -> Outgoing {
        match self {
            Self::New(new) => Outgoing::first_attempt(new.clone()),
            Self::Existing(_) => self.retry(),
        }
    }

    /// The task of a later attempt.
    pub(crate) fn retry(&self) -> Outgoing {
        let (subscription_id, delivery_id, owner) = match self {
            Self::New(new) => (&new.subscription_id, &new.delivery_id, &new.user_id),
            Self::Existing(delivery) => {
                (&delivery.subscription_id, &delivery.id, &delivery.user_id)
            }
        };
        let (subscription_id, delivery_id) = (subscription_id.clone(), delivery_id.clone());
        Outgoing::retry(subscription_id, delivery_id, Some(owner), Duration::ZERO)
    }

    /// The record to be changed and written, and what the table must have for that.
    pub(crate) fn into_record(self, now: Timestamp, retention: Duration) -> (Delivery, Expect) {
        match self {
            Self::New(new) => {
                let expires_at = new.delivery_id.moment().plus(retention);
                (Delivery::new(&new, now, expires_at), Expect::Absent)
            }
            Self::Existing(delivery) => {
                let version = Version::of(&delivery);
                (delivery, Expect::Unchanged(version))
            }
        }
    }
}

impl Deliver {
    /// Reads what the first attempts of a batch are about, in one request for each table. Where that fails,
    /// each task reads for itself.
    pub(crate) async fn load_together(&self, tasks: &[Task<'_>], batch: &Batch) {
        let first: Vec<&NewDelivery> = tasks.iter().filter_map(first_attempt).collect();
        if first.len() < 2 {
            return;
        }
        let names: BTreeSet<_> =
            first.iter().map(|new| (&new.user_id, &new.subscription_id)).collect();
        let deliveries: BTreeSet<_> =
            first.iter().map(|new| (&new.subscription_id, &new.delivery_id)).collect();
        let (names, deliveries) = (Vec::from_iter(names), Vec::from_iter(deliveries));
        let (subscriptions, without_record) = join(
            self.subscriptions.get_several(&names),
            self.deliveries.without_record(&deliveries),
        )
        .await;
        match subscriptions {
            Ok(found) => found.into_iter().for_each(|found| batch.note_read(found)),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the webhooks of a batch were not read together");
            }
        }
        match without_record {
            Ok(absent) => batch.note_without_record(absent),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the records of a batch were not read together");
            }
        }
    }

    /// Reads the delivery of a task, and its subscription where there is one. Nothing when there is
    /// nobody to deliver to and no record that says so.
    pub(crate) async fn load(
        &self,
        task: DeliveryTask,
        message: &SqsMessage,
        batch: &Batch,
    ) -> Result<Option<(Loaded, Option<Subscription>)>, StoreError> {
        match task {
            DeliveryTask::RecoveryPage { .. } => Ok(None),
            DeliveryTask::FirstAttempts(_) => unreachable!("the tasks of a batch are split"),
            DeliveryTask::FirstAttempt(new) => {
                self.load_first(new, consistency(message), batch).await
            }
            DeliveryTask::Retry { subscription_id, delivery_id, .. } => {
                let consistency = Consistency::Strong;
                let record =
                    self.deliveries.get(&subscription_id, &delivery_id, consistency).await?;
                let Some(delivery) = record else { return Ok(None) };
                let subscription =
                    self.read(&delivery.user_id, &subscription_id, consistency, batch).await?;
                Ok(Some((Loaded::Existing(delivery), subscription)))
            }
        }
    }

    async fn load_first(
        &self,
        new: NewDelivery,
        consistency: Consistency,
        batch: &Batch,
    ) -> Result<Option<(Loaded, Option<Subscription>)>, StoreError> {
        let record = async {
            if consistency == Consistency::Eventual && batch.is_without_record(&new.delivery_id) {
                return Ok(None);
            }
            self.deliveries.get(&new.subscription_id, &new.delivery_id, consistency).await
        };
        let (record, subscription) = futures::future::join(
            record,
            self.subscription(&new.user_id, &new.subscription_id, consistency, batch),
        )
        .await;
        match (record?, subscription?) {
            (Some(delivery), subscription) => Ok(Some((Loaded::Existing(delivery), subscription))),
            (None, Some(subscription)) => Ok(Some((Loaded::New(new), Some(subscription)))),
            (None, None) => {
                // Nothing was ever sent, and nobody is left to look at a record of it.
                let dropped = (new.trigger == Trigger::Event).then_some(1);
                tracing::info!(
                    metric.deliveries_dropped = dropped,
                    delivery_id = %new.delivery_id,
                    event_id = %new.event_id,
                    "the webhook was deleted, the task is dropped"
                );
                Ok(None)
            }
        }
    }

    /// Reads a subscription. An eventually consistent read is believed only when it finds an active
    /// one: what it misses, or sees paused, may have been made or resumed just before its event was
    /// dispatched.
    async fn subscription(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
        batch: &Batch,
    ) -> Result<Option<Subscription>, StoreError> {
        let found = self.read(user_id, id, consistency, batch).await?;
        let is_active = found.as_ref().is_some_and(|subscription| subscription.is_active);
        if is_active || consistency == Consistency::Strong {
            return Ok(found);
        }
        self.read(user_id, id, Consistency::Strong, batch).await
    }

    /// Reads a subscription, or waits for the task of the batch that reads it. A failed read is
    /// repeated by the next task that waits.
    async fn read(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
        batch: &Batch,
    ) -> Result<Option<Subscription>, StoreError> {
        let read = batch.read(user_id, id, consistency);
        let get = || self.subscriptions.get(user_id, id, consistency);
        read.get_or_try_init(get).await.cloned()
    }
}

/// The delivery of a first attempt that is received for the first time.
fn first_attempt<'a>(task: &'a Task<'_>) -> Option<&'a NewDelivery> {
    match &task.asks {
        Some(DeliveryTask::FirstAttempt(new))
            if consistency(task.from.message) == Consistency::Eventual =>
        {
            Some(new)
        }
        _ => None,
    }
}

/// A first receive reads cheaply: the condition of the write meets a record that the read misses.
/// Every later one must see what an earlier one wrote.
fn consistency(message: &SqsMessage) -> Consistency {
    let count = message.attributes.get("ApproximateReceiveCount").map(String::as_str);
    if count == Some("1") { Consistency::Eventual } else { Consistency::Strong }
}
