//! A standard queue as SQS describes it: at least once, in no order, with visibility timeouts,
//! delays, receive counts and a dead-letter queue.

use serde_json::{Value, json};
use test_support::SeededRandom;
use webhooks_core::time::Timestamp;

/// One message, or one of two copies of it that SQS happens to have.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: String,
    sent: Timestamp,
    visible_at: Timestamp,
    receives: u32,
    receipts: Vec<u64>,
}

/// A message in a function's hands.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) receipt: String,
    sent: Timestamp,
    receives: u32,
}

/// What the queue does that it may, but seldom does. Times in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueFaults {
    /// A message is there twice.
    pub(crate) twice: u64,
    /// A message that was received can be received again immediately.
    pub(crate) still_visible: u64,
    /// A message that was deleted comes again.
    pub(crate) not_deleted: u64,
    /// A message that was sent can be received minutes later only.
    pub(crate) late: u64,
    /// Messages come in another order than they were sent in.
    pub(crate) shuffle: u64,
}

pub(crate) struct Queue {
    prefix: &'static str,
    visibility_seconds: u64,
    max_receives: u32,
    messages: Vec<Message>,
    dead: Vec<Message>,
    next: u64,
}

impl Queue {
    pub(crate) fn new(prefix: &'static str, visibility_seconds: u64, max_receives: u32) -> Self {
        let (messages, dead) = (Vec::new(), Vec::new());
        // No two queues have the same receipt handle.
        let next = u64::from(prefix.as_bytes()[0]) << 32;
        Self { prefix, visibility_seconds, max_receives, messages, dead, next }
    }

    /// Takes a message in, and returns its id.
    pub(crate) fn send(
        &mut self,
        body: String,
        delay_seconds: u64,
        now: Timestamp,
        queue_faults: QueueFaults,
        random: &SeededRandom,
    ) -> String {
        self.next += 1;
        let id = format!("{}{}", self.prefix, self.next);
        let late = if random.chance(queue_faults.late) { random.below(300) } else { 0 };
        let visible_at = now.plus_seconds(delay_seconds + late);
        let message =
            Message { id: id.clone(), body, sent: now, visible_at, receives: 0, receipts: vec![] };
        if random.chance(queue_faults.twice) {
            let most = if random.chance(250) { 7_200 } else { 30 };
            let visible_at = visible_at.plus_seconds(random.below(most));
            self.messages.push(Message { visible_at, ..message.clone() });
        }
        self.messages.push(message);
        id
    }

    /// When the next message can be received.
    pub(crate) fn next_visible(&self) -> Option<Timestamp> {
        self.messages.iter().map(|message| message.visible_at).min()
    }

    /// Hands out at most `most` messages. One that was received too often is moved to the
    /// dead-letter queue instead.
    pub(crate) fn receive(
        &mut self,
        most: usize,
        now: Timestamp,
        queue_faults: QueueFaults,
        random: &SeededRandom,
    ) -> Vec<Received> {
        let max = self.max_receives;
        let worn = |message: &mut Message| message.visible_at <= now && message.receives >= max;
        self.dead.extend(self.messages.extract_if(.., worn));
        if random.chance(queue_faults.shuffle) {
            for index in (1..self.messages.len()).rev() {
                let other = usize::try_from(random.below(index as u64 + 1)).unwrap_or(0);
                self.messages.swap(index, other);
            }
        }
        let visible = self.messages.iter_mut().filter(|message| message.visible_at <= now);
        let mut received = Vec::new();
        for message in visible.take(most) {
            self.next += 1;
            message.receives += 1;
            message.receipts.push(self.next);
            message.visible_at = if random.chance(queue_faults.still_visible) {
                now.plus(std::time::Duration::from_millis(random.below(5_000)))
            } else {
                now.plus_seconds(self.visibility_seconds)
            };
            received.push(Received {
                id: message.id.clone(),
                body: message.body.clone(),
                receipt: self.next.to_string(),
                sent: message.sent,
                receives: message.receives,
            });
        }
        received
    }

    /// Hides a received message from now on. A receipt of an earlier receive still works, as it
    /// often does.
    pub(crate) fn change_visibility(&mut self, receipt: &str, seconds: u64, now: Timestamp) {
        if let Some(at) = self.position(receipt) {
            self.messages[at].visible_at = now.plus_seconds(seconds);
        }
    }

    /// Deletes a received message.
    pub(crate) fn delete(&mut self, receipt: &str) {
        if let Some(at) = self.position(receipt) {
            self.messages.remove(at);
        }
    }

    fn position(&self, receipt: &str) -> Option<usize> {
        let receipt: u64 = receipt.parse().ok()?;
        self.messages.iter().position(|message| message.receipts.contains(&receipt))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// What was received too often.
    pub(crate) fn dead(&self) -> &[Message] {
        &self.dead
    }
}

/// The event that Lambda makes of a batch.
pub(crate) fn event(batch: &[Received]) -> Value {
    let records: Vec<Value> = batch
        .iter()
        .map(|message| {
            json!({
                "messageId": message.id,
                "receiptHandle": message.receipt,
                // The ids of the slow queue begin with an s.
                "eventSourceARN": if message.id.starts_with('s') { "tasks-slow" } else { "tasks" },
                "body": message.body,
                "attributes": {
                    "ApproximateReceiveCount": message.receives.to_string(),
                    "SentTimestamp": message.sent.millis().to_string(),
                },
            })
        })
        .collect();
    json!({ "Records": records })
}
