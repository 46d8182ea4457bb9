//! Dispatch: events in, one delivery for each subscription that wants them out.
//!
//! A task is a message of a deliveries queue. It asks for the deliveries of one event to several
//! webhooks of one queue, so that the message has the payload once.
//!
//! An event that can never be handled goes to the dead-letter queue with its reason. One that
//! cannot be handled now is a batch item failure, so that it is received again. Doing an event twice
//! is harmless: its deliveries have the same names again.
//!
//! Deliberately absent: state that matters. Whatever was sent before a crash is sent again. An
//! instance counts what each owner adds to the fast queue ([`FastTasks`]); a new one begins at zero.

mod schemas;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures::future::{join, join_all};
use webhooks_core::delivery::NewDelivery;
use webhooks_core::delivery_queue::{DeliveryQueue, FastTasks, is_slow_owner};
use webhooks_core::event::{Event, EventError};
use webhooks_core::ids::{DeliveryId, UserId};
use webhooks_core::limits::{FIRST_ATTEMPTS_BYTES, FIRST_ATTEMPTS_PER_TASK, REDRIVE_WINDOW_MS};
use webhooks_core::ports::{
    Chain, DeadLetterQueue, Outgoing, RejectedEvent, StoreError, Subscriptions, TaskQueue,
    UserSubscriptions,
};
use webhooks_core::subscription::UnreadableSubscription;
use webhooks_core::task_batch::send_tasks;
use webhooks_core::time::Timestamp;
use webhooks_core::traceparent::{TRACEPARENT, Traceparent};

use schemas::Schemas;

/// The function and its ports.
pub struct Dispatch {
    subscriptions: Arc<dyn Subscriptions>,
    queue: Arc<dyn TaskQueue>,
    slow_queue: Arc<dyn TaskQueue>,
    dead_letter_queue: Arc<dyn DeadLetterQueue>,
    fast_tasks: Arc<FastTasks>,
    schemas: Option<Schemas>,
}

/// A delivery to be asked for, and the records of the batch that need it to be.
struct Wanted {
    delivery: NewDelivery,
    queue: DeliveryQueue,
    /// The record that it was made from.
    record: usize,
    /// Whether its webhook can be read. The task of one that cannot comes back again and again.
    is_readable: bool,
    records: BTreeSet<usize>,
}

type Queried = BTreeMap<UserId, Result<UserSubscriptions, StoreError>>;

/// The owners of a batch.
struct Owners {
    queried: Queried,
    /// Those whose tasks all use the slow queue.
    slow: BTreeSet<UserId>,
    now: Timestamp,
}

impl Owners {
    fn new(queried: Queried, now: Timestamp) -> Self {
        let is_slow = |found: &UserSubscriptions| is_slow_owner(found.items.iter().flatten(), now);
        let slow = queried
            .iter()
            .filter(|(_, found)| found.as_ref().is_ok_and(is_slow))
            .map(|(owner, _)| owner.clone())
            .collect();
        Self { queried, slow, now }
    }
}

/// When the last event of a batch was sent, which is about now. An old event may find an endpoint
/// slow that no longer is, which does no harm.
fn sent_last(batch: &SqsEvent) -> Timestamp {
    let sent = |record: &SqsMessage| record.attributes.get("SentTimestamp")?.parse().ok();
    let last = batch.records.iter().filter_map(sent).max().unwrap_or_default();
    Timestamp::from_millis(last)
}

impl Dispatch {
    /// The function over these ports: `queue` is the deliveries queue of quick endpoints, `slow_queue`
    /// that of all others, `dead_letter_queue` that of the events.
    pub fn new(
        subscriptions: Arc<dyn Subscriptions>,
        queue: Arc<dyn TaskQueue>,
        slow_queue: Arc<dyn TaskQueue>,
        dead_letter_queue: Arc<dyn DeadLetterQueue>,
    ) -> Self {
        let fast_tasks = Arc::default();
        Self { subscriptions, queue, slow_queue, dead_letter_queue, fast_tasks, schemas: None }
    }

    /// Checks the `data` of each event against the schema of its type, if it is to be strict.
    #[must_use]
    pub fn with_strict_event_data(self, is_strict: bool) -> Self {
        Self { schemas: is_strict.then(Schemas::compile), ..self }
    }

    /// The same function, which goes on with these counts.
    #[must_use]
    pub fn with_fast_tasks(self, fast_tasks: Arc<FastTasks>) -> Self {
        Self { fast_tasks, ..self }
    }

    /// Handles one batch; returns the batch item failures.
    pub async fn handle(&self, batch: SqsEvent) -> SqsBatchResponse {
        let parsed = join_all(batch.records.iter().map(|record| self.parse(record))).await;
        let owners = self.owners(parsed.iter().flatten().flatten()).await;

        let mut failed = BTreeSet::new();
        let owners = Owners::new(owners, sent_last(&batch));
        let mut tasks = Tasks::default();
        for (index, event) in parsed.iter().enumerate() {
            match event {
                Ok(Some(event)) => {
                    if !tasks.add(&owners, &self.fast_tasks, index, event) {
                        failed.insert(index);
                    }
                }
                Ok(None) => {}
                Err(BatchItemFailure) => {
                    failed.insert(index);
                }
            }
        }
        let mut counts = vec![0_usize; parsed.len()];
        for index in tasks.wanted.values().flat_map(|wanted| &wanted.records) {
            counts[*index] += 1;
        }
        let (refused, requested) = self.send(tasks).await;
        failed.extend(refused);
        let (mut accepted, mut blocked) = (Vec::new(), 0_usize);
        for (index, (record, event)) in batch.records.iter().zip(&parsed).enumerate() {
            if let Ok(Some(event)) = event
                && !failed.contains(&index)
            {
                let is_blocked =
                    matches!(owners.queried.get(&event.owner), Some(Ok(of)) if of.is_blocked);
                accepted.push(format!("{}:{}", event.id, counts[index]));
                blocked += usize::from(is_blocked);
                log_event(event, record, counts[index], is_blocked);
            }
        }
        tracing::info!(
            events = accepted.join(" "),
            metric.events_accepted = accepted.len(),
            metric.events_failed = some(failed.len()),
            metric.events_of_blocked_users = some(blocked),
            metric.deliveries_requested = some(requested),
            "events dispatched"
        );
        response(&batch, &failed)
    }

    /// The event of a record; nothing when it went to the dead-letter queue.
    async fn parse(&self, record: &SqsMessage) -> Result<Option<Event>, BatchItemFailure> {
        let Some((message_id, sent)) = acceptance(record) else {
            tracing::error!(message_id = record.message_id, "the record has no SentTimestamp");
            return Err(BatchItemFailure);
        };
        let body = record.body.as_deref().unwrap_or_default();
        let checked = |event: Event| match &self.schemas {
            Some(schemas) => schemas.check(&event).map(|()| event),
            None => Ok(event),
        };
        match Event::parse(body, message_id, sent).and_then(checked) {
            Ok(event) => Ok(Some(Event { traceparent: traceparent(record), ..event })),
            Err(error) => self.reject(body, message_id, sent, &error).await.map(|()| None),
        }
    }

    async fn reject(
        &self,
        body: &str,
        message_id: &str,
        sent: Timestamp,
        error: &EventError,
    ) -> Result<(), BatchItemFailure> {
        let rejected = RejectedEvent {
            body: body.to_owned(),
            message_id: message_id.to_owned(),
            sent,
            reason: error.reason(),
            detail: error.to_string(),
        };
        if let Err(error) = self.dead_letter_queue.send(&rejected).await {
            tracing::error!(message_id, error = %Chain(&error), "a bad event could not be dead-lettered");
            return Err(BatchItemFailure);
        }
        tracing::warn!(
            metric.events_rejected = 1,
            message_id,
            reason = rejected.reason,
            detail = rejected.detail,
            "event rejected"
        );
        Ok(())
    }

    /// The subscriptions of every owner in the batch: one query each, concurrently.
    async fn owners(&self, events: impl Iterator<Item = &Event>) -> Queried {
        let names: BTreeSet<UserId> = events.map(|event| event.owner.clone()).collect();
        let queries = names.into_iter().map(|owner| async move {
            let found = self.subscriptions.list_by_user(&owner).await;
            match &found {
                Ok(listed) => {
                    listed.items.iter().filter_map(|listed| listed.as_ref().err()).for_each(log);
                }
                Err(error) => {
                    tracing::error!(error = %Chain(error), "the subscriptions of an owner could not be read");
                }
            }
            (owner, found)
        });
        join_all(queries).await.into_iter().collect()
    }

    /// Sends the tasks. Returns the records whose tasks were not all taken, and how many deliveries were
    /// requested.
    async fn send(&self, tasks: Tasks) -> (BTreeSet<usize>, usize) {
        let all = tasks.wanted.into_values();
        let (fast, slow): (Vec<_>, Vec<_>) =
            all.partition(|wanted| wanted.queue == DeliveryQueue::Fast);
        let (fast, slow) =
            join(send_to(self.queue.as_ref(), fast), send_to(self.slow_queue.as_ref(), slow)).await;
        (&fast.0 | &slow.0, fast.1 + slow.1)
    }
}

/// A count for a log line, which leaves out a count of zero: CloudWatch bills the bytes of its name and unit.
fn some(count: usize) -> Option<usize> {
    (count > 0).then_some(count)
}

async fn send_to(queue: &dyn TaskQueue, wanted: Vec<Wanted>) -> (BTreeSet<usize>, usize) {
    if wanted.is_empty() {
        return (BTreeSet::new(), 0);
    }
    let deliveries = wanted.len();
    let parts = parts(wanted);
    let tasks: Vec<Outgoing> = parts
        .iter()
        .map(|part| {
            let deliveries = part.iter().map(|wanted| wanted.delivery.clone()).collect();
            Outgoing::first_attempts(deliveries).expect("a part has a delivery")
        })
        .collect();
    let refused = send_tasks(queue, &tasks).await;
    let refused: Vec<&Wanted> =
        refused.into_iter().filter_map(|index| parts.get(index)).flatten().collect();
    if !refused.is_empty() {
        tracing::error!(deliveries, refused = refused.len(), "tasks were not taken");
    }
    let requested = deliveries - refused.len();
    (refused.into_iter().flat_map(|wanted| &wanted.records).copied().collect(), requested)
}

/// The deliveries of each task.
fn parts(wanted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let mut of_records = BTreeMap::<(usize, bool), Vec<Wanted>>::new();
    for wanted in wanted {
        of_records.entry((wanted.record, wanted.is_readable)).or_default().push(wanted);
    }
    let mut parts = Vec::new();
    for mut rest in of_records.into_values() {
        while let Some(first) = rest.first() {
            let bytes = first.delivery.data.as_str().len().max(1);
            let most = (FIRST_ATTEMPTS_BYTES / bytes).clamp(1, FIRST_ATTEMPTS_PER_TASK);
            let after = rest.split_off(most.min(rest.len()));
            parts.push(std::mem::replace(&mut rest, after));
        }
    }
    parts
}

/// The record cannot be handled now, and is to be received again. Why has been logged.
struct BatchItemFailure;

/// The deliveries of a batch.
#[derive(Default)]
struct Tasks {
    wanted: BTreeMap<DeliveryId, Wanted>,
    /// How many of each owner use the fast queue.
    fast: BTreeMap<UserId, usize>,
}

impl Tasks {
    /// Adds the deliveries of one event; `false` when its owner's subscriptions could not be read.
    /// Duplicates in the batch name the same deliveries, which are sent once.
    fn add(&mut self, owners: &Owners, fast: &FastTasks, index: usize, event: &Event) -> bool {
        let Some(Ok(subscriptions)) = owners.queried.get(&event.owner) else {
            return false;
        };
        if subscriptions.is_blocked {
            return true;
        }
        let wanting = subscriptions.items.iter().filter_map(|listed| match listed {
            Ok(readable) => readable
                .wants(event)
                .then(|| (&readable.id, DeliveryQueue::for_endpoint(readable, owners.now), true)),
            Err(unreadable) => unreadable.may_want(event.event_type).then_some((
                &unreadable.id,
                DeliveryQueue::Slow,
                false,
            )),
        });
        for (id, queue, is_readable) in wanting {
            let delivery = NewDelivery::of_event(event, id);
            let wanted = self.wanted.entry(delivery.delivery_id.clone()).or_insert_with(|| {
                let count = self.fast.entry(event.owner.clone()).or_default();
                let is_fast = queue == DeliveryQueue::Fast
                    && !owners.slow.contains(&event.owner)
                    && fast.add(&event.owner, *count, owners.now);
                *count += usize::from(is_fast);
                let queue = if is_fast { DeliveryQueue::Fast } else { DeliveryQueue::Slow };
                Wanted { delivery, queue, record: index, is_readable, records: BTreeSet::new() }
            });
            wanted.records.insert(index);
        }
        true
    }
}

/// The row may be of another version. Its events are not lost: deliver fails to read it, too, and
/// the tasks wait in the queue and its dead-letter queue until a version is deployed that can.
fn log(unreadable: &UnreadableSubscription) {
    let UnreadableSubscription { user_id, id, reason, .. } = unreadable;
    tracing::error!(%user_id, subscription_id = %id, reason, "a subscription cannot be read");
}

/// The line of one event. The line of the batch has its id and the number of its deliveries, so the level is
/// `debug` unless it says more: such lines cost as much as the read of a record.
fn log_event(event: &Event, record: &SqsMessage, deliveries: usize, is_blocked: bool) {
    let traceparent = event.traceparent.as_ref().map(Traceparent::as_str);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                event_id = %event.id,
                message_id = record.message_id,
                event_type = %event.event_type,
                tasks = deliveries,
                traceparent,
                user_blocked = is_blocked.then_some(true),
                "event dispatched"
            )
        };
    }
    if is_blocked || traceparent.is_some() {
        line!(info);
    } else {
        line!(debug);
    }
}

/// The `traceparent` of a record; one that is not valid is ignored.
fn traceparent(record: &SqsMessage) -> Option<Traceparent> {
    record.message_attributes.get(TRACEPARENT)?.string_value.as_deref()?.parse().ok()
}

/// The id and the time with which the events queue accepted an event. A redriven message has another id
/// and time, and those of its acceptance as attributes (`scripts/redrive.py`): with them its deliveries
/// have the same ids as before.
fn acceptance(record: &SqsMessage) -> Option<(&str, Timestamp)> {
    let sent: i64 = record.attributes.get("SentTimestamp")?.parse().ok()?;
    let attribute = |name: &str| record.message_attributes.get(name)?.string_value.as_deref();
    let accepted =
        attribute(RejectedEvent::SENT_TIMESTAMP).and_then(|time| time.parse::<i64>().ok());
    let accepted = attribute(RejectedEvent::MESSAGE_ID).zip(accepted);
    let (id, millis) = accepted
        .filter(|(_, accepted)| (0..=REDRIVE_WINDOW_MS).contains(&(sent - accepted)))
        .unwrap_or((record.message_id.as_deref().unwrap_or_default(), sent));
    Some((id, Timestamp::from_millis(millis)))
}

fn response(batch: &SqsEvent, failed: &BTreeSet<usize>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    for record in failed.iter().filter_map(|index| batch.records.get(*index)) {
        // Lambda takes an empty identifier as "the whole batch has failed", which is the right
        // result for a record without an id.
        response.add_failure(record.message_id.clone().unwrap_or_default());
    }
    response
}
