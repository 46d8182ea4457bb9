//! The local system, a receiver, and who publishes events.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use serde_json::json;
use tokio::task::JoinSet;
use webhooks_aws::{SystemClock, clients};
use webhooks_core::ids::UserId;
use webhooks_core::ports::Clock as _;
use webhooks_local::queues::EVENTS;
use webhooks_local::system::{self, Addresses, Options, System};
use webhooks_local::{http, token};
use webhooks_publisher::{Event, Publisher};

use crate::Outcome;
use crate::receiver::{Arrival, Receiver};

/// The type of every event.
pub(crate) const EVENT_TYPE: &str = "task.completed";
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A system of its own and all that is around it.
pub(crate) struct Harness {
    pub(crate) receiver: Receiver,
    pub(crate) publisher: Publisher,
    system: System,
    sqs: aws_sdk_sqs::Client,
}

/// One event that was published.
pub(crate) struct Sent {
    pub(crate) event_id: String,
    /// When the call that published it began.
    pub(crate) at: Instant,
}

impl Harness {
    pub(crate) async fn start() -> Outcome<Self> {
        let system = system::start(Options::on_free_ports()).await.map_err(text)?;
        let addresses = system.addresses();
        let sqs = clients::sqs(&clients::local(&Addresses::url(addresses.sqs)));
        let publisher = Publisher::new(sqs.clone(), addresses.queue_url(EVENTS.name));
        let receiver = Receiver::start().await.map_err(text)?;
        Ok(Self { receiver, publisher, system, sqs })
    }

    /// Creates a webhook for [`EVENT_TYPE`], through the API.
    pub(crate) async fn subscribe(
        &self,
        user: &str,
        url: &str,
        timeout_seconds: u32,
    ) -> Outcome<()> {
        let id: UserId = user.parse().map_err(|_| format!("{user} is no user id"))?;
        let token = token::issue(&id, SystemClock.now()).map_err(text)?;
        let body =
            json!({"url": url, "event_types": [EVENT_TYPE], "timeout_seconds": timeout_seconds});
        let api = self.system.addresses().api;
        let response = http::call(api, "POST", "/api/webhooks", Some(&token), Some(&body)).await?;
        if response.0 == 201 { Ok(()) } else { Err(format!("no webhook: {response:?}")) }
    }

    /// Publishes `rate` events a second, for each user in turn. No event waits for the one before:
    /// a slow system must not slow the load that it is measured by.
    pub(crate) async fn publish_steadily(
        &self,
        name: &str,
        users: &[String],
        rate: u32,
        seconds: u32,
    ) -> Outcome<Vec<Sent>> {
        let mut calls = JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
        for (user, number) in users.iter().cycle().zip(0..rate as usize * seconds as usize) {
            ticks.tick().await;
            let event_id = format!("{name}-{number}");
            let event = event(user, number).with_id(&event_id);
            let publisher = self.publisher.clone();
            let at = Instant::now();
            calls.spawn(async move {
                publisher.publish(event).await.map_err(text)?;
                Ok(Sent { event_id, at })
            });
        }
        calls.join_all().await.into_iter().collect()
    }

    /// When the webhook of each event came first.
    pub(crate) fn first_arrivals(&self) -> HashMap<String, Instant> {
        let arrivals = self.receiver.arrivals().into_iter().rev();
        arrivals.map(|Arrival { event_id, at, .. }| (event_id, at)).collect()
    }

    /// How many messages of a queue are in flight.
    pub(crate) async fn in_flight(&self, queue: &str) -> Outcome<u64> {
        let name = Attribute::ApproximateNumberOfMessagesNotVisible;
        let request = self.sqs.get_queue_attributes();
        let request = request.queue_url(self.system.addresses().queue_url(queue));
        let answer = request.attribute_names(name.clone()).send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let count = answer.attributes.as_ref().and_then(|all| all.get(&name)?.parse().ok());
        count.ok_or_else(|| format!("{queue}: no depth"))
    }

    /// Stops the system.
    pub(crate) async fn stop(self) {
        self.system.stop().await;
    }
}

/// A small event.
pub(crate) fn event(user: &str, number: usize) -> Event {
    let data = json!({"task_id": format!("task-{number}"), "title": "Write the report"});
    Event::of_type(EVENT_TYPE, user, &data)
}

/// An error in words.
pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
