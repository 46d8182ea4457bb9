//! One queue and its messages, ordered by their next event.
//!
//! Invariants (checked by `Queue::check` in the tests):
//! - each message is in exactly one of `visible`, `delayed` and `in_flight`, under its
//!   `visible_at`, and its `place` says which;
//! - each message is in `by_age` under its `sent_at`.
//!
//! So the next message to receive, to become visible and to expire are each the first element of a
//! set, and nothing iterates over all messages.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::attributes::Attributes;
use crate::message::{Message, Place};

/// Most messages of a standard queue that may be in flight.
pub(crate) const MAX_IN_FLIGHT: usize = 120_000;

/// What a queue is, without its messages. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueConfig {
    pub(crate) name: String,
    pub(crate) created_at: u64,
    pub(crate) modified_at: u64,
    pub(crate) purged_at: Option<u64>,
    pub(crate) attributes: Attributes,
    pub(crate) tags: BTreeMap<String, String>,
}

/// How many messages a queue holds. SQS calls its counts approximate; these are exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that can be received now.
    pub visible: usize,
    /// Messages that were received and are hidden, also those that wait for a retry.
    pub in_flight: usize,
    /// Messages whose delay is not over.
    pub delayed: usize,
}

impl Depth {
    /// All messages.
    pub fn total(self) -> usize {
        self.visible + self.in_flight + self.delayed
    }
}

/// A time in milliseconds and a message number.
type TimeKey = (u64, u64);

pub(crate) struct Queue {
    pub(crate) config: QueueConfig,
    messages: HashMap<u64, Message>,
    visible: BTreeSet<TimeKey>,
    delayed: BTreeSet<TimeKey>,
    in_flight: BTreeSet<TimeKey>,
    by_age: BTreeSet<TimeKey>,
    /// Wakes the long polls of this queue.
    pub(crate) wake: Arc<Notify>,
}

impl Queue {
    pub(crate) fn new(config: QueueConfig) -> Self {
        Self {
            config,
            messages: HashMap::new(),
            visible: BTreeSet::new(),
            delayed: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            by_age: BTreeSet::new(),
            wake: Arc::default(),
        }
    }

    pub(crate) fn depth(&self) -> Depth {
        Depth {
            visible: self.visible.len(),
            in_flight: self.in_flight.len(),
            delayed: self.delayed.len(),
        }
    }

    pub(crate) fn message(&self, seq: u64) -> Option<&Message> {
        self.messages.get(&seq)
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.by_age.iter().filter_map(|(_, seq)| self.messages.get(seq))
    }

    pub(crate) fn insert(&mut self, message: Message) {
        let seq = message.seq;
        self.by_age.insert((message.sent_at, seq));
        self.place(message.place).insert((message.visible_at, seq));
        if message.place == Place::Visible {
            self.wake.notify_waiters();
        }
        self.messages.insert(seq, message);
    }

    pub(crate) fn take(&mut self, seq: u64) -> Option<Message> {
        let message = self.messages.remove(&seq)?;
        self.by_age.remove(&(message.sent_at, seq));
        self.place(message.place).remove(&(message.visible_at, seq));
        Some(message)
    }

    /// The messages in flight whose visibility has not changed since their receive.
    pub(crate) fn held(&self) -> impl Iterator<Item = u64> {
        let timeout_ms = u64::from(self.config.attributes.visibility) * 1_000;
        let in_flight = self.in_flight.iter().filter_map(|(_, seq)| self.messages.get(seq));
        in_flight
            .filter(move |message| message.visible_at == message.received_at + timeout_ms)
            .map(|message| message.seq)
    }

    /// Removes all messages.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.visible.clear();
        self.delayed.clear();
        self.in_flight.clear();
        self.by_age.clear();
    }

    /// The next message to receive: the one that has been visible for longest.
    pub(crate) fn next_visible(&self) -> Option<&Message> {
        self.visible.first().and_then(|(_, seq)| self.messages.get(seq))
    }

    /// When the next hidden message becomes visible.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let first = |set: &BTreeSet<TimeKey>| set.first().map(|(at, _)| *at);
        first(&self.delayed).into_iter().chain(first(&self.in_flight)).min()
    }

    /// When the oldest message reaches the end of the retention period.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        let retention_ms = u64::from(self.config.attributes.retention) * 1_000;
        self.by_age.first().map(|(sent_at, _)| sent_at.saturating_add(retention_ms))
    }

    /// The oldest message, if its retention period is over.
    pub(crate) fn next_expired(&self, now: u64) -> Option<u64> {
        self.next_expiry().filter(|at| *at <= now)?;
        self.by_age.first().map(|(_, seq)| *seq)
    }

    /// A hidden message that is due to become visible.
    pub(crate) fn next_hidden_due(&self, now: u64) -> Option<&Message> {
        let due = |set: &BTreeSet<TimeKey>| set.first().filter(|(at, _)| *at <= now).copied();
        let (_, seq) = due(&self.delayed).into_iter().chain(due(&self.in_flight)).min()?;
        self.messages.get(&seq)
    }

    fn place(&mut self, place: Place) -> &mut BTreeSet<TimeKey> {
        match place {
            Place::Visible => &mut self.visible,
            Place::Delayed => &mut self.delayed,
            Place::InFlight => &mut self.in_flight,
        }
    }

    #[cfg(test)]
    pub(crate) fn check(&self) {
        let sets = self.visible.len() + self.delayed.len() + self.in_flight.len();
        assert_eq!(sets, self.messages.len());
        assert_eq!(self.by_age.len(), self.messages.len());
        for (seq, message) in &self.messages {
            let set = match message.place {
                Place::Visible => &self.visible,
                Place::Delayed => &self.delayed,
                Place::InFlight => &self.in_flight,
            };
            assert!(set.contains(&(message.visible_at, *seq)));
            assert!(self.by_age.contains(&(message.sent_at, *seq)));
        }
    }
}
