//! Naming, checking and sending.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use webhooks_core::ids::EventId;
use webhooks_core::ports::{Clock, Random};
use webhooks_core::task_batch::batches;
use webhooks_core::traceparent::Traceparent;

use crate::error::{NotAccepted, PublishError, Reason};
use crate::event::Event;
use crate::queue::{Entry, Queue, SqsQueue};
use crate::system::{SystemClock, SystemRandom};

/// How often an entry is sent that SQS refuses without blaming the sender.
const SENDS_MAX: u32 = 4;
/// The wait before the second send; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Publishes events onto one events queue. Cloning it is cheap, and the clones share the client.
///
/// [`crate::data`] has one function more for each event type.
#[derive(Clone)]
pub struct Publisher {
    queue: Arc<dyn Queue>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// An event that was checked and is ready to be sent.
struct Message {
    position: usize,
    event: Event,
    id: EventId,
    body: String,
    group: String,
}

impl Publisher {
    /// A publisher with the machine's clock and randomness.
    pub fn new(client: Client, queue_url: impl Into<String>) -> Self {
        Self::with(client, queue_url, Arc::new(SystemClock), Arc::new(SystemRandom))
    }

    /// A publisher that takes the time of events from `clock` and their names from `random`.
    pub fn with(
        client: Client,
        queue_url: impl Into<String>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let queue = Arc::new(SqsQueue { client, url: queue_url.into() });
        Self { queue, clock, random }
    }

    /// Publishes one event and returns its id.
    pub async fn publish(&self, event: Event) -> Result<EventId, PublishError> {
        let mut accepted = self.publish_all(vec![event]).await?;
        // One event was given, so one id is returned and the error is never made.
        accepted.pop().ok_or(PublishError { accepted, not_accepted: Vec::new() })
    }

    /// Publishes events and returns their ids, in the same order.
    ///
    /// They are sent in requests of at most 10 entries and 1 MiB, one request after another. An
    /// event that is not valid does not keep the others from being sent. After a request that
    /// failed as a whole nothing more is sent. Whatever was not accepted is in the error.
    pub async fn publish_all(&self, events: Vec<Event>) -> Result<Vec<EventId>, PublishError> {
        let (messages, mut not_accepted) = self.prepare(events);
        let sizes: Vec<usize> = messages.iter().map(|message| message.body.len()).collect();

        let mut reasons = Vec::with_capacity(messages.len());
        for batch in batches(&sizes) {
            reasons.extend(self.send(&messages[batch]).await);
            if reasons.iter().any(|reason| matches!(reason, Some(Reason::NoResponse(_)))) {
                break;
            }
        }
        reasons.resize(messages.len(), Some(Reason::NotSent));

        let mut accepted = Vec::with_capacity(messages.len());
        for (Message { position, event, id, .. }, reason) in messages.into_iter().zip(reasons) {
            match reason {
                None => accepted.push(id),
                Some(reason) => not_accepted.push(NotAccepted { position, event, reason }),
            }
        }
        if not_accepted.is_empty() {
            return Ok(accepted);
        }
        not_accepted.sort_by_key(|lost| lost.position);
        Err(PublishError { accepted, not_accepted })
    }

    /// Names and checks events: those that can be sent, and those that cannot.
    fn prepare(&self, events: Vec<Event>) -> (Vec<Message>, Vec<NotAccepted>) {
        let mut messages = Vec::with_capacity(events.len());
        let mut invalid = Vec::new();
        for (position, event) in events.into_iter().enumerate() {
            let event = self.named(event);
            match event.encode() {
                Ok((id, body, group)) => {
                    messages.push(Message { position, event, id, body, group });
                }
                Err(reason) => invalid.push(NotAccepted { position, event, reason }),
            }
        }
        (messages, invalid)
    }

    /// The event with an id and a time, so that each try of sending it carries the same.
    fn named(&self, mut event: Event) -> Event {
        event.event_id.get_or_insert_with(|| {
            format!("evt_{:032x}", u128::from_be_bytes(self.random.bytes()))
        });
        event.occurred_at.get_or_insert_with(|| self.clock.now());
        event
    }

    /// Sends one batch; says of each message why it was not accepted, or nothing.
    async fn send(&self, batch: &[Message]) -> Vec<Option<Reason>> {
        let mut reasons = vec![Some(Reason::NotSent); batch.len()];
        let mut wait = FIRST_WAIT;
        for send in 1..=SENDS_MAX {
            let pending = transient(&reasons);
            if pending.is_empty() {
                break;
            }
            if send > 1 {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            let entry = |index: &usize| {
                let Message { body, group, event, .. } = &batch[*index];
                let traceparent = event.traceparent.as_ref().map(Traceparent::as_str);
                Entry { body, group, traceparent }
            };
            let entries: Vec<_> = pending.iter().map(entry).collect();
            match self.queue.send(&entries).await {
                Ok(results) => {
                    for (index, result) in pending.into_iter().zip(results) {
                        reasons[index] = result.err();
                    }
                }
                Err(error) => {
                    for index in pending {
                        reasons[index] = Some(Reason::NoResponse(error.clone()));
                    }
                    break;
                }
            }
        }
        reasons
    }
}

/// The places of those that are worth sending.
fn transient(reasons: &[Option<Reason>]) -> Vec<usize> {
    let worth = |index: &usize| reasons[*index].as_ref().is_some_and(Reason::is_transient);
    (0..reasons.len()).filter(worth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::EntryResult;
    use async_trait::async_trait;
    use serde_json::json;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU8, Ordering};
    use webhooks_core::event::Event as CoreEvent;
    use webhooks_core::limits::EVENT_DATA_BYTES;
    use webhooks_core::time::Timestamp;

    const NOW: Timestamp = Timestamp::EPOCH;

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            NOW
        }
    }

    /// Each draw is filled with the next number.
    #[derive(Default)]
    struct Counting(AtomicU8);

    impl Random for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    /// Responds to each request from a script and keeps what it was sent.
    struct Script<F> {
        result: F,
        requests: Mutex<Vec<Vec<String>>>,
    }

    #[async_trait]
    impl<F> Queue for Script<F>
    where
        F: Fn(usize, &str) -> Result<EntryResult, String> + Send + Sync,
    {
        async fn send(&self, messages: &[Entry<'_>]) -> Result<Vec<EntryResult>, String> {
            let mut requests = self.requests.lock().unwrap();
            let number = requests.len();
            assert!(messages.iter().all(|message| message.group == "u1"), "the group is the user");
            requests.push(messages.iter().map(|message| message.body.to_owned()).collect());
            messages.iter().map(|message| (self.result)(number, message.body)).collect()
        }
    }

    /// A publisher whose queue gives this response to a body in the request of this number.
    fn publisher<F>(result: F) -> (Publisher, Arc<Script<F>>)
    where
        F: Fn(usize, &str) -> Result<EntryResult, String> + Send + Sync + 'static,
    {
        let queue = Arc::new(Script { result, requests: Mutex::default() });
        let publisher = Publisher {
            queue: queue.clone(),
            clock: Arc::new(Stopped),
            random: Arc::new(Counting::default()),
        };
        (publisher, queue)
    }

    fn refused(sender_fault: bool) -> Reason {
        Reason::Refused { code: "Code".to_owned(), message: "why".to_owned(), sender_fault }
    }

    fn event(n: usize) -> Event {
        Event::of_type("task.created", "u1", &json!({ "n": n }))
    }

    fn events(count: usize) -> Vec<Event> {
        (0..count).map(event).collect()
    }

    fn reasons(error: &PublishError) -> Vec<(usize, &Reason)> {
        error.not_accepted.iter().map(|lost| (lost.position, &lost.reason)).collect()
    }

    #[tokio::test]
    async fn one_event_gets_a_name_and_a_time() {
        let (publisher, queue) = publisher(|_, _| Ok(Ok(())));
        let id = publisher.publish(event(1)).await.unwrap();
        assert_eq!(id.as_str(), "evt_00000000000000000000000000000000");
        let requests = queue.requests.lock().unwrap();
        let read = CoreEvent::parse(&requests[0][0], "m", NOW.plus_seconds(1)).unwrap();
        assert_eq!((read.id, read.time), (id, NOW));
    }

    #[tokio::test]
    async fn name_and_a_time_that_were_given_stay() {
        let (publisher, queue) = publisher(|_, _| Ok(Ok(())));
        let happened = NOW.plus_seconds(5);
        let event = event(1).with_id("task-7-created").with_occurred_at(happened);
        assert_eq!(publisher.publish(event).await.unwrap().as_str(), "task-7-created");
        let requests = queue.requests.lock().unwrap();
        let read = CoreEvent::parse(&requests[0][0], "m", NOW.plus_seconds(9)).unwrap();
        assert_eq!((read.id.as_str(), read.time), ("task-7-created", happened));
    }

    #[tokio::test]
    async fn events_are_sent_in_batches_of_ten_with_their_ids_in_order() {
        let (publisher, queue) = publisher(|_, _| Ok(Ok(())));
        assert!(publisher.publish_all(Vec::new()).await.unwrap().is_empty());
        let ids = publisher.publish_all(events(23)).await.unwrap();
        let requests = queue.requests.lock().unwrap();
        assert_eq!(requests.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 3]);
        let sent = requests.iter().flatten().map(|b| CoreEvent::parse(b, "", NOW).unwrap().id);
        assert_eq!(sent.collect::<Vec<_>>(), ids);
    }

    #[tokio::test(start_paused = true)]
    async fn only_refused_entries_are_sent_again_and_unchanged() {
        let (publisher, queue) = publisher(|request, body| {
            let busy = request < 2 && body.contains(r#""n":1}"#);
            Ok(if busy { Err(refused(false)) } else { Ok(()) })
        });
        assert_eq!(publisher.publish_all(events(3)).await.unwrap().len(), 3);
        let requests = queue.requests.lock().unwrap();
        assert_eq!(requests.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1]);
        assert_eq!(requests[1][0], requests[0][1]);
        assert_eq!(requests[2][0], requests[0][1]);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_entry_is_listed_and_the_others_are_accepted() {
        let (publisher, queue) = publisher(|_, body| {
            Ok(if body.contains(r#""n":2}"#) { Err(refused(false)) } else { Ok(()) })
        });
        let error = publisher.publish_all(events(12)).await.unwrap_err();
        assert_eq!(reasons(&error), [(2, &refused(false))]);
        assert_eq!(error.accepted.len(), 11);
        assert_eq!(
            error.to_string(),
            "1 of 12 events not accepted; event 2 (task.created \
             \"evt_02020202020202020202020202020202\"): SQS refused it: Code: why"
        );
        let sends = queue.requests.lock().unwrap().len();
        assert_eq!(sends, usize::try_from(SENDS_MAX).unwrap() + 1);
    }

    #[tokio::test]
    async fn entry_at_fault_is_not_sent_again() {
        let (publisher, queue) = publisher(|_, _| Ok(Err(refused(true))));
        let error = publisher.publish(event(1)).await.unwrap_err();
        assert_eq!(reasons(&error), [(0, &refused(true))]);
        assert_eq!(queue.requests.lock().unwrap().len(), 1);
        assert!(error.into_transient().is_empty());
    }

    #[tokio::test]
    async fn failed_request_returns_the_unsent_events_with_their_ids() {
        let (publisher, queue) =
            publisher(
                |request, _| {
                    if request == 1 { Err("no response".to_owned()) } else { Ok(Ok(())) }
                },
            );
        let error = publisher.publish_all(events(23)).await.unwrap_err();
        assert_eq!(queue.requests.lock().unwrap().len(), 2);
        assert_eq!(error.accepted.len(), 10);
        let no_response = Reason::NoResponse("no response".to_owned());
        let expected =
            (10..20).map(|n| (n, &no_response)).chain((20..23).map(|n| (n, &Reason::NotSent)));
        assert_eq!(reasons(&error), expected.collect::<Vec<_>>());

        let again = publisher.publish_all(error.into_transient()).await.unwrap();
        let requests = queue.requests.lock().unwrap();
        assert_eq!(requests[2], requests[1], "the second try carries the same bytes");
        assert_eq!(again.len(), 13);
    }

    #[tokio::test]
    async fn events_that_are_not_valid_are_named_and_not_sent() {
        let (publisher, queue) = publisher(|_, _| Ok(Ok(())));
        let large = json!({ "k": "x".repeat(EVENT_DATA_BYTES) });
        let large = Event::of_type("task.created", "u1", &large).with_id("large-1");
        let unknown = Event::of_type("task.eaten", "u1", &json!({}));
        let error = publisher.publish_all(vec![unknown, event(1), large]).await.unwrap_err();
        assert_eq!(error.accepted.len(), 1);
        assert_eq!(queue.requests.lock().unwrap().concat().len(), 1);
        let text = error.to_string();
        assert!(text.contains("event 0 (task.eaten \"evt_"), "{text}");
        assert!(
            text.contains(
                "event 2 (task.created \"large-1\"): `data` must be at most 262144 bytes"
            ),
            "{text}"
        );
        assert!(error.into_transient().is_empty());
    }
}
