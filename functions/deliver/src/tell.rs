//! Tells what has happened to webhooks: the owner's other webhooks that ask for it, and the operator.
//!
//! deliver reads the owner's webhooks when there is something to tell, and sends a task for each that
//! wants it. Most owners have none that names an operational type. They would pay with a read for each
//! delivery that fails, so an instance remembers them for [`REMEMBERED`] and does not ask again for
//! `delivery.exhausted`. The operator's event bus gets everything, whether or not anybody asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use futures::future::{join, join_all};
use webhooks_core::catalogue::EventType;
use webhooks_core::ids::UserId;
use webhooks_core::limits::EVENT_BUS_ENTRIES;
use webhooks_core::operational::{Audience, OperationalEvent};
use webhooks_core::ports::{Chain, Outgoing, UserSubscriptions};
use webhooks_core::task_batch::send_tasks;
use webhooks_core::time::Timestamp;

use crate::Deliver;
use crate::batch::lock;

/// How long an instance remembers that nobody asks.
const REMEMBERED: Duration = Duration::from_secs(10);
/// The owners that an instance remembers, at most.
const REMEMBERED_MAX: usize = 10_000;

/// The owners none of whose webhooks names an operational type, and when that was read.
#[derive(Default)]
pub(crate) struct NobodyAsks(Mutex<HashMap<UserId, Timestamp>>);

impl NobodyAsks {
    fn contains(&self, owner: &UserId, now: Timestamp) -> bool {
        let read = lock(&self.0);
        read.get(owner).is_some_and(|at| at.until(now) < REMEMBERED)
    }

    fn note(&self, owner: &UserId, webhooks: &UserSubscriptions, now: Timestamp) {
        let asks = EventType::operational().any(|event_type| {
            webhooks.items.iter().any(|listed| match listed {
                Ok(webhook) => webhook.names(event_type),
                Err(unreadable) => unreadable.may_want(event_type),
            })
        });
        let mut read = lock(&self.0);
        if asks {
            read.remove(owner);
            return;
        }
        if read.len() >= REMEMBERED_MAX {
            read.clear();
        }
        read.insert(owner.clone(), now);
    }
}

impl Deliver {
    /// Tells everything. What cannot be told is logged and counted. Returns whether all owners were told.
    pub(crate) async fn tell(&self, events: Vec<OperationalEvent>) -> bool {
        if events.is_empty() {
            return true;
        }
        let now = self.clock.now();
        let mut owners: BTreeMap<&UserId, Vec<&OperationalEvent>> = BTreeMap::new();
        for event in events.iter().filter(|event| event.audience != Audience::Operator) {
            owners.entry(&event.event.owner).or_default().push(event);
        }
        let owners = owners.into_iter().filter(|(owner, events)| {
            let all_exhausted =
                events.iter().all(|event| event.event.event_type.name() == "delivery.exhausted");
            !(all_exhausted && self.nobody_asks.contains(owner, now))
        });
        let owners = owners.map(|(owner, events)| self.tell_owner(owner, events, now));
        let (told, ()) = join(join_all(owners), self.tell_operator(&events)).await;
        told.into_iter().all(|is_told| is_told)
    }

    async fn tell_operator(&self, events: &[OperationalEvent]) {
        let Some(bus) = &self.event_bus else { return };
        let new = events.iter().filter(|event| event.audience != Audience::Owner);
        let new: Vec<OperationalEvent> = new.cloned().collect();
        for events in new.chunks(EVENT_BUS_ENTRIES) {
            let refused = bus.put(events).await.unwrap_or_else(|error| {
                tracing::error!(error = %Chain(&error), "operational events were not put on the event bus");
                events.len()
            });
            if refused > 0 {
                tracing::error!(
                    metric.operational_events_failed = refused,
                    "the operator was not told everything"
                );
            }
        }
    }

    async fn tell_owner(
        &self,
        owner: &UserId,
        events: Vec<&OperationalEvent>,
        now: Timestamp,
    ) -> bool {
        let webhooks = match self.subscriptions.list_by_user(owner).await {
            Ok(webhooks) => webhooks,
            Err(error) => {
                tracing::error!(
                    metric.operational_events_failed = events.len(),
                    error = %Chain(&error),
                    "the webhooks to be told could not be read"
                );
                return false;
            }
        };
        self.nobody_asks.note(owner, &webhooks, now);
        let tasks: Vec<Outgoing> = events.iter().flat_map(|event| event.tasks(&webhooks)).collect();
        if tasks.is_empty() {
            return true;
        }
        let refused = send_tasks(self.slow_queue.as_ref(), &tasks).await;
        if !refused.is_empty() {
            tracing::error!(
                metric.operational_events_failed = refused.len(),
                "operational events were not taken by the queue"
            );
        }
        refused.is_empty()
    }
}
