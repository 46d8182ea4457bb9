//! What publishers, owners and receivers see of a system: its endpoints and its API.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use futures::future::{join_all, try_join, try_join_all};
use retry::Retry;
use serde_json::{Value, json};
use test_support::{ManualClock, MemoryTaskQueue};
use tokio::sync::RwLock;
use webhooks_aws::{DynamoDeliveries, SystemClock, clients};
use webhooks_core::delivery::Delivery;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::limits::{DUE_SHARDS, PAGE_MAX};
use webhooks_core::ports::{
    Clock as _, Consistency, DeliveriesTable, DeliveryFilter, Due, Expect, Version,
};
use webhooks_core::time::Timestamp;
use webhooks_local::queues::{DELIVERIES, EVENTS, SLOW_DELIVERIES};
use webhooks_local::system::{Addresses, DELIVERIES_TABLE};
use webhooks_local::{http, token};
use webhooks_publisher::{Event, Publisher};

use crate::faults::{Faults, Rates};
use crate::plan::{EVENT_TYPE, Endpoint};
use crate::receivers::Receivers;
use crate::{EVENT_ID, Outcome, relay, text};

/// Requests that publish at the same time, and events in one of them.
const PUBLISHERS: usize = 4;
const BATCH: usize = 10;
/// Publishing pauses while the queues hold this many messages, so that the functions always have work, and
/// owners change webhooks that still have messages in the queues.
const AHEAD: usize = 400;
/// The most tries of a request.
const TRIES: usize = 1_000;
/// When hours are counted again, after the run: they have been left alone by then.
const RECOUNT_AFTER: Duration = Duration::from_mins(15);
/// How long ago a parked delivery fell due whose time has been made to pass: so long that the retry
/// function does not take it for sent. (What falls due within its next five minutes it sends with
/// a delay, for which a run would have to wait.)
const OVERDUE_MS: i64 = 11 * 60 * 1000;
/// Rows of the due index in one read.
const PAGE: usize = 500;
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often it is looked whether anything is left.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(250);

/// A webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its id.
    pub id: SubscriptionId,
    /// Its owner.
    pub user: String,
    /// What kind of endpoint it has.
    pub endpoint: Endpoint,
}

/// The messages of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// That can be received.
    pub(crate) ready: usize,
    /// That were received or are held back.
    pub(crate) hidden: usize,
}

/// An event that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) id: String,
    pub(crate) user: String,
}

/// A system from outside.
pub(crate) struct Harness {
    addresses: Addresses,
    pub(crate) receivers: Receivers,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) publishing: Arc<Faults>,
    pub(crate) deliveries: Arc<dyn DeliveriesTable>,
    /// Held for writing while the system is down, and for reading by all but publishers.
    pub(crate) up: RwLock<()>,
    publisher: Publisher,
    sqs: aws_sdk_sqs::Client,
}

impl Harness {
    /// Subscribes this many users. What they publish goes through a proxy with these faults; `on_post`
    /// is called for each POST, see [`Receivers::start`].
    pub(crate) async fn open(
        addresses: Addresses,
        users: usize,
        seed: u64,
        publishing: Rates,
        on_post: impl Fn(&str) + Send + Sync + 'static,
    ) -> Outcome<Self> {
        let endpoints: Vec<Vec<Endpoint>> = (0..users).map(Endpoint::of_user).collect();
        let receivers = Receivers::start(endpoints.concat(), seed, on_post).await.map_err(text)?;
        let publishing = Faults::new(publishing, seed.wrapping_add(2));
        let proxy = relay::serve(addresses.sqs, Arc::clone(&publishing)).await.map_err(text)?;
        let sqs = |address: SocketAddr| clients::sqs(&clients::local(&Addresses::url(address)));
        let tables = clients::dynamodb(&clients::local(&Addresses::url(addresses.dynamodb)));
        let table = DELIVERIES_TABLE.to_owned();
        let mut harness = Self {
            addresses,
            receivers,
            webhooks: Vec::new(),
            publisher: Publisher::new(sqs(proxy), addresses.queue_url(EVENTS.name)),
            publishing,
            deliveries: Arc::new(DynamoDeliveries::new(tables, table, Arc::new(SystemClock))),
            up: RwLock::new(()),
            sqs: sqs(addresses.sqs),
        };
        for (user, endpoints) in endpoints.into_iter().enumerate() {
            for endpoint in endpoints {
                harness.subscribe(&user_name(user), endpoint).await?;
            }
        }
        Ok(harness)
    }

    async fn subscribe(&mut self, user: &str, endpoint: Endpoint) -> Outcome<()> {
        let body = json!({
            "url": self.receivers.url(self.webhooks.len()),
            "event_types": [EVENT_TYPE],
            "retry_count": endpoint.retry_count(),
        });
        let webhook = self.api(user, "POST", "/api/webhooks", Some(&body), 201).await?;
        let id = webhook["id"].as_str().unwrap_or_default();
        let id = id.parse().map_err(|_| format!("{id} is no webhook id"))?;
        self.webhooks.push(Webhook { id, user: user.to_owned(), endpoint });
        Ok(())
    }

    /// Makes a request of the API for a user, whose response must have this status.
    async fn api(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
        expected: u16,
    ) -> Outcome<Value> {
        let id: UserId = user.parse().map_err(|_| format!("{user} is no user id"))?;
        let token = token::issue(&id, SystemClock.now()).map_err(text)?;
        let _up = self.up.read().await;
        let (status, response) =
            http::call(self.addresses.api, method, path, Some(&token), body).await?;
        if status == expected { Ok(response) } else { Err(format!("{method} {path}: {response}")) }
    }

    /// Pauses or resumes the webhooks that are to be paused.
    pub(crate) async fn set_active(&self, is_active: bool) -> Outcome<()> {
        for webhook in self.webhooks.iter().filter(|one| one.endpoint == Endpoint::Paused) {
            let path = format!("/api/webhooks/{}", webhook.id);
            let body = json!({ "is_active": is_active });
            self.api(&webhook.user, "PATCH", &path, Some(&body), 200).await?;
        }
        Ok(())
    }

    /// Deletes the webhooks that are to be deleted.
    pub(crate) async fn delete(&self) -> Outcome<()> {
        for webhook in self.webhooks.iter().filter(|one| one.endpoint == Endpoint::Deleted) {
            let path = format!("/api/webhooks/{}", webhook.id);
            self.api(&webhook.user, "DELETE", &path, None, 204).await?;
        }
        Ok(())
    }

    /// The statistics that a webhook's owner is shown; `None` if it has been deleted.
    pub(crate) async fn statistics(&self, webhook: &Webhook) -> Outcome<Option<Value>> {
        if webhook.endpoint == Endpoint::Deleted {
            return Ok(None);
        }
        let path = format!("/api/webhooks/{}", webhook.id);
        let mut shown = self.api(&webhook.user, "GET", &path, None, 200).await?;
        Ok(Some(shown["statistics"].take()))
    }

    /// The messages of the events queue and the deliveries queue.
    pub(crate) async fn depth(&self) -> Outcome<Depth> {
        let names = [EVENTS.name, DELIVERIES.name, SLOW_DELIVERIES.name];
        let depths = try_join_all(names.map(|name| self.depth_of(name))).await?;
        Ok(Depth {
            ready: depths.iter().map(|depth| depth.ready).sum(),
            hidden: depths.iter().map(|depth| depth.hidden).sum(),
        })
    }

    /// The messages that were given up: events, and tasks.
    pub(crate) async fn dead(&self) -> Outcome<(usize, usize)> {
        let events = self.depth_of(EVENTS.dead_letter_queue).await?;
        let tasks = self.depth_of(DELIVERIES.dead_letter_queue).await?;
        Ok((events.ready + events.hidden, tasks.ready + tasks.hidden))
    }

    async fn depth_of(&self, queue: &str) -> Outcome<Depth> {
        let names = [
            Attribute::ApproximateNumberOfMessages,
            Attribute::ApproximateNumberOfMessagesNotVisible,
            Attribute::ApproximateNumberOfMessagesDelayed,
        ];
        let _up = self.up.read().await;
        let request = self.sqs.get_queue_attributes();
        let request = request.queue_url(self.addresses.queue_url(queue));
        let response = request.set_attribute_names(Some(names.to_vec())).send().await;
        let depths = response.map_err(|error| format!("{error:?}"))?.attributes.unwrap_or_default();
        let depth = |name| depths.get(name).and_then(|text| text.parse::<usize>().ok());
        let [Some(ready), Some(received), Some(delayed)] = names.each_ref().map(depth) else {
            return Err(format!("{queue}: no depth"));
        };
        Ok(Depth { ready, hidden: received + delayed })
    }

    /// The deliveries that wait for a retry.
    pub(crate) async fn waiting(&self) -> Outcome<Vec<Due>> {
        let mut all = self.due().await?;
        all.retain(|due| due.row.delivery_id().is_some());
        Ok(all)
    }

    /// Has the hours counted again whose statistics may miss something, as the retry function does some minutes
    /// later.
    pub(crate) async fn recount(&self) -> Outcome<()> {
        let later = ManualClock::at(SystemClock.now().plus(RECOUNT_AFTER));
        let table = &self.deliveries;
        let queue = Arc::new(MemoryTaskQueue::default());
        let retry = Retry::new(table.clone(), table.clone(), table.clone(), queue, Arc::new(later));
        retry.handle().await.map(drop).map_err(text)
    }

    /// Everything in the due index.
    async fn due(&self) -> Outcome<Vec<Due>> {
        let _up = self.up.read().await;
        let ever = SystemClock.now().plus(Duration::from_hours(10_000));
        let mut all = Vec::new();
        for shard in 0..DUE_SHARDS {
            let mut after = None;
            loop {
                let page = self.deliveries.due(shard, ever, PAGE, after.as_ref()).await;
                let page = page.map_err(text)?;
                all.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(all)
    }

    /// Makes parked deliveries overdue.
    pub(crate) async fn bring_forward(&self) -> Outcome<()> {
        let now = SystemClock.now();
        let overdue = Timestamp::from_millis(now.millis() - OVERDUE_MS);
        for due in self.waiting().await?.iter().filter(|due| due.due_at > now) {
            let Some(id) = due.row.delivery_id() else { continue };
            let subscription = &due.subscription_id;
            let record = self.deliveries.get(subscription, id, Consistency::Strong).await;
            let Some(mut record) = record.map_err(text)? else { continue };
            // Those that wait in the queue are looked at later than they are tried again.
            if record.due_at == record.next_retry_at && record.due_at == Some(due.due_at) {
                let version = Version::of(&record);
                record.wait(overdue, overdue, now);
                let put = self.deliveries.put(&record, Expect::Unchanged(version));
                put.await.map_err(text)?;
            }
        }
        Ok(())
    }

    /// Every record of a webhook.
    pub(crate) async fn records(&self, webhook: &Webhook) -> Outcome<Vec<Delivery>> {
        let _up = self.up.read().await;
        let (mut all, mut before, now) = (Vec::new(), None, SystemClock.now());
        loop {
            let filter = DeliveryFilter::default();
            let page = self.deliveries.page(&webhook.id, &filter, PAGE_MAX, before.as_ref(), now);
            let page = page.await.map_err(text)?;
            all.extend(page.items);
            before = page.next;
            if before.is_none() {
                return Ok(all);
            }
        }
    }

    /// Publishes this many events, for each user in turn, while owners change their webhooks. Returns
    /// when all are accepted.
    pub(crate) async fn run_workload(&self, events: usize) -> Outcome<Vec<Published>> {
        let count = AtomicUsize::new(0);
        let (published, ()) =
            try_join(self.publish(events, &count), self.change_webhooks(events, &count)).await?;
        Ok(published)
    }

    async fn publish(&self, events: usize, count: &AtomicUsize) -> Outcome<Vec<Published>> {
        let users: BTreeSet<&str> = self.webhooks.iter().map(|webhook| &*webhook.user).collect();
        let event = |number| Published {
            id: format!("{EVENT_ID}{number}"),
            user: user_name(number % users.len().max(1)),
        };
        let published: Vec<Published> = (0..events).map(event).collect();
        let shares = published.chunks(events.div_ceil(PUBLISHERS).max(1)).map(|share| async {
            for batch in share.chunks(BATCH) {
                while self.depth().await?.ready > AHEAD {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                self.publish_batch(batch).await?;
                count.fetch_add(batch.len(), Ordering::Relaxed);
            }
            Ok::<(), String>(())
        });
        join_all(shares).await.into_iter().collect::<Outcome<()>>()?;
        Ok(published)
    }

    /// Publishes until everything is accepted, as a publisher must.
    async fn publish_batch(&self, batch: &[Published]) -> Outcome<()> {
        let event = |one: &Published| {
            let data = json!({"user": one.user, "title": "Write the report"});
            Event::of_type(EVENT_TYPE, &one.user, &data).with_id(&one.id)
        };
        let mut events: Vec<Event> = batch.iter().map(event).collect();
        for _ in 0..TRIES {
            let Err(error) = self.publisher.publish_all(events).await else { return Ok(()) };
            events = error.not_accepted.into_iter().map(|one| one.event).collect();
        }
        Err(format!("{} events are not accepted", events.len()))
    }

    /// What owners do while their events come in: some pause and resume, some delete.
    async fn change_webhooks(&self, events: usize, count: &AtomicUsize) -> Outcome<()> {
        let reached = async |share: usize| {
            while count.load(Ordering::Relaxed) < share {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        reached(events / 4).await;
        self.set_active(false).await?;
        reached(events / 2).await;
        self.delete().await?;
        reached(events * 3 / 4).await;
        self.set_active(true).await
    }

    /// Waits until nothing is left, or nothing moves any more for so long; says what is left.
    /// `look` is asked each time whether work is still under way.
    pub(crate) async fn drain(
        &self,
        patience: Duration,
        look: impl AsyncFn(Depth) -> Outcome<bool>,
    ) -> Outcome<Depth> {
        let (mut before, mut moved) = ((Depth::default(), 0), Instant::now());
        loop {
            let depth = self.depth().await?;
            let nothing = !look(depth).await? && depth == Depth::default();
            if nothing && self.waiting().await?.is_empty() {
                return Ok(depth);
            }
            let now = (depth, self.receivers.count());
            if now != before {
                (before, moved) = (now, Instant::now());
            } else if moved.elapsed() > patience {
                return Ok(depth);
            }
            tokio::time::sleep(DRAIN_LOOK_EVERY).await;
        }
    }
}

/// The name of a user, by its number.
fn user_name(user: usize) -> String {
    format!("user-{user}")
}
