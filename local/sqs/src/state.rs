//! The state machine: all queues, and the changes that lead from one state to the next.
//!
//! Every operation reads the state and acts only through [`State::record`], which applies a
//! [`Change`] and adds it to the journal. Replaying the journal applies the same changes with the
//! same code. Only the end of a delay or of a visibility timeout is no change: it follows from the
//! message's `visible_at`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::ACCOUNT;
use crate::errors::SqsError;
use crate::journal::Journal;
use crate::message::{Message, Place, md5_hex};
use crate::moves::MoveTask;
use crate::queue::{Queue, QueueConfig};

/// Changes of one operation are written as one record, unless they grow beyond this.
const MAX_RECORD_BYTES: usize = 8 * 1_048_576;

/// One step from a state to the next. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Change {
    /// A queue is new or has new attributes, tags or times.
    QueuePut(QueueConfig),
    QueueDeleted {
        queue: String,
    },
    Purged {
        queue: String,
        at: u64,
    },
    /// A message is new in a queue. Also how a snapshot lists the messages that there are.
    Sent {
        queue: String,
        message: Message,
    },
    Received {
        queue: String,
        seq: u64,
        at: u64,
        visible_at: u64,
    },
    /// The visibility timeout of a message in flight was changed.
    Hidden {
        queue: String,
        seq: u64,
        visible_at: u64,
    },
    /// Deleted by a consumer, or at the end of the retention period.
    Deleted {
        queue: String,
        seq: u64,
    },
    /// The message moved to the dead-letter queue.
    DeadLettered {
        from: String,
        to: String,
        seq: u64,
        at: u64,
        source_arn: String,
    },
    /// Moved out of a dead-letter queue by a move task, as a new message.
    Redriven {
        from: String,
        to: String,
        seq: u64,
        new_seq: u64,
        new_id: String,
        at: u64,
    },
    /// A move task is new or has progressed.
    Task(MoveTask),
    /// Message numbers below this one are used.
    NextSeq(u64),
}

/// A change that refers to something unknown; in a journal this means damage.
#[derive(Debug, thiserror::Error)]
#[error("the change refers to {0}, which does not exist")]
pub(crate) struct UnknownTarget(String);

pub(crate) struct State {
    pub(crate) region: String,
    pub(crate) queues: BTreeMap<String, Queue>,
    /// Move tasks, oldest first.
    pub(crate) tasks: Vec<MoveTask>,
    next_seq: u64,
    /// Makes the ids of this run unique.
    id_salt: [u8; 16],
    journal: Option<Journal>,
    /// Applied changes that are not written yet, as JSON separated by commas.
    pending: String,
    /// Wakes all long polls when the next due time becomes earlier.
    pub(crate) timers: Arc<Notify>,
    /// The due time that the long polls wait for.
    known_due: u64,
}

impl State {
    pub(crate) fn new(region: &str, id_salt: [u8; 16]) -> Self {
        Self {
            region: region.to_owned(),
            queues: BTreeMap::new(),
            tasks: Vec::new(),
            next_seq: 1,
            id_salt,
            journal: None,
            pending: String::new(),
            timers: Arc::default(),
            known_due: u64::MAX,
        }
    }

    pub(crate) fn attach(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    pub(crate) fn arn(&self, queue: &str) -> String {
        format!("arn:aws:sqs:{}:{ACCOUNT}:{queue}", self.region)
    }

    /// The name of the queue with this ARN, if there is one.
    pub(crate) fn queue_by_arn(&self, arn: &str) -> Option<&str> {
        let name = arn.rsplit(':').next()?;
        let (name, _) = self.queues.get_key_value(name)?;
        (self.arn(name) == arn).then_some(name.as_str())
    }

    pub(crate) fn queue(&self, name: &str) -> Result<&Queue, SqsError> {
        self.queues.get(name).ok_or_else(SqsError::no_queue)
    }

    /// An unused message number and message id.
    pub(crate) fn next_id(&mut self) -> (u64, String) {
        let seq = self.next_seq;
        self.next_seq += 1;
        (seq, make_id(&self.id_salt, seq))
    }

    /// Applies a change and adds it to the journal.
    pub(crate) fn record(&mut self, change: Change) -> Result<(), SqsError> {
        if self.journal.is_some() {
            let text = serde_json::to_string(&change).map_err(SqsError::internal)?;
            if !self.pending.is_empty() {
                self.pending.push(',');
            }
            self.pending.push_str(&text);
        }
        self.apply(change).map_err(SqsError::internal)?;
        if self.pending.len() > MAX_RECORD_BYTES { self.write() } else { Ok(()) }
    }

    /// Ends an operation: writes its changes, and wakes long polls if something is due earlier.
    pub(crate) fn commit(&mut self) -> Result<(), SqsError> {
        self.write()?;
        let due = self.next_due().unwrap_or(u64::MAX);
        if due < self.known_due {
            self.timers.notify_waiters();
        }
        self.known_due = due;
        Ok(())
    }

    fn write(&mut self) -> Result<(), SqsError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if self.pending.is_empty() {
            return Ok(());
        }
        let record = format!("[{}]", std::mem::take(&mut self.pending));
        journal.append(&record).map_err(SqsError::internal)?;
        if journal.should_compact() {
            self.compact();
        }
        Ok(())
    }

    /// Replaces the journal by a snapshot. If that fails, the long journal remains valid, and the next
    /// attempt waits until it has grown again.
    fn compact(&mut self) {
        let Some(mut journal) = self.journal.take() else { return };
        if let Err(error) = journal.rewrite(self.snapshot()) {
            tracing::warn!(error = %error, "could not compact the journal");
            journal.postpone_compaction();
        }
        self.journal = Some(journal);
    }

    /// The changes that lead from an empty to the current state.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Change> {
        let queues = self.queues.values().flat_map(|queue| {
            let name = &queue.config.name;
            let sent = queue
                .messages()
                .map(|message| Change::Sent { queue: name.clone(), message: message.clone() });
            std::iter::once(Change::QueuePut(queue.config.clone())).chain(sent)
        });
        std::iter::once(Change::NextSeq(self.next_seq))
            .chain(queues)
            .chain(self.tasks.iter().cloned().map(Change::Task))
    }

    /// The time of the next event that a long poll may wait for.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let queues = self.queues.values().filter_map(Queue::next_due);
        queues.chain(self.tasks.iter().filter_map(MoveTask::next_step)).min()
    }

    /// Does everything that is due.
    pub(crate) fn advance(&mut self, now: u64) -> Result<(), SqsError> {
        let expiry = self.queues.values().filter_map(Queue::next_expiry).min();
        if self.next_due().into_iter().chain(expiry).min().is_none_or(|due| due > now) {
            return Ok(());
        }
        let names: Vec<String> = self.queues.keys().cloned().collect();
        for name in names {
            self.expire(&name, now)?;
            self.show_due(&name, now)?;
        }
        self.run_move_tasks(now)
    }

    fn expire(&mut self, name: &str, now: u64) -> Result<(), SqsError> {
        while let Some(seq) = self.queue(name)?.next_expired(now) {
            self.record(Change::Deleted { queue: name.to_owned(), seq })?;
        }
        Ok(())
    }

    fn show_due(&mut self, name: &str, now: u64) -> Result<(), SqsError> {
        while let Some(message) = self.queue(name)?.next_hidden_due(now) {
            let seq = message.seq;
            if !self.dead_letter(name, seq, now)? {
                self.update(name, seq, |message| message.place = Place::Visible)
                    .map_err(SqsError::internal)?;
            }
        }
        Ok(())
    }

    /// Moves a message to the dead-letter queue if it was received `maxReceiveCount` times. If that
    /// queue was deleted, the message stays, as on AWS.
    pub(crate) fn dead_letter(&mut self, name: &str, seq: u64, now: u64) -> Result<bool, SqsError> {
        let queue = self.queue(name)?;
        let (Some(message), Some(redrive)) = (queue.message(seq), &queue.config.attributes.redrive)
        else {
            return Ok(false);
        };
        if message.receive_count < redrive.max_receive_count {
            return Ok(false);
        }
        let Some(to) = self.queue_by_arn(&redrive.target_arn).filter(|to| *to != name) else {
            return Ok(false);
        };
        let change = Change::DeadLettered {
            from: name.to_owned(),
            to: to.to_owned(),
            seq,
            at: now,
            source_arn: self.arn(name),
        };
        self.record(change).map(|()| true)
    }

    /// Applies a change, of an operation or of the journal.
    pub(crate) fn apply(&mut self, change: Change) -> Result<(), UnknownTarget> {
        match change {
            Change::QueuePut(config) => match self.queues.get_mut(&config.name) {
                Some(queue) => queue.config = config,
                None => {
                    self.queues.insert(config.name.clone(), Queue::new(config));
                }
            },
            Change::QueueDeleted { queue } => {
                let deleted = self.queues.remove(&queue).ok_or_else(|| no_queue(&queue))?;
                deleted.wake.notify_waiters();
            }
            Change::Purged { queue, at } => {
                let queue = self.queue_mut(&queue)?;
                queue.clear();
                queue.config.purged_at = Some(at);
            }
            Change::Sent { queue, message } => {
                self.next_seq = self.next_seq.max(message.seq + 1);
                self.queue_mut(&queue)?.insert(message);
            }
            Change::Received { queue, seq, at, visible_at } => {
                self.update(&queue, seq, |message| {
                    message.receive_count = message.receive_count.saturating_add(1);
                    message.first_received_at.get_or_insert(at);
                    message.received_at = at;
                    message.visible_at = visible_at;
                    message.place = Place::InFlight;
                })?;
            }
            Change::Hidden { queue, seq, visible_at } => {
                self.update(&queue, seq, |message| message.visible_at = visible_at)?;
            }
            Change::Deleted { queue, seq } => {
                self.take(&queue, seq)?;
            }
            Change::DeadLettered { from, to, seq, at, source_arn } => {
                let mut message = self.take(&from, seq)?;
                message.visible_at = at;
                message.place = Place::Visible;
                message.source_arn = Some(source_arn);
                self.queue_mut(&to)?.insert(message);
            }
            Change::Redriven { from, to, seq, new_seq, new_id, at } => {
                let message = self.take(&from, seq)?;
                self.next_seq = self.next_seq.max(new_seq + 1);
                self.queue_mut(&to)?.insert(message.into_new(new_seq, new_id, at));
            }
            Change::Task(task) => self.put_task(task),
            Change::NextSeq(next_seq) => self.next_seq = self.next_seq.max(next_seq),
        }
        Ok(())
    }

    fn queue_mut(&mut self, name: &str) -> Result<&mut Queue, UnknownTarget> {
        self.queues.get_mut(name).ok_or_else(|| no_queue(name))
    }

    fn take(&mut self, queue: &str, seq: u64) -> Result<Message, UnknownTarget> {
        let missing = || UnknownTarget(format!("message {seq} of queue {queue}"));
        self.queue_mut(queue)?.take(seq).ok_or_else(missing)
    }

    fn update(
        &mut self,
        queue: &str,
        seq: u64,
        update: impl FnOnce(&mut Message),
    ) -> Result<(), UnknownTarget> {
        let mut message = self.take(queue, seq)?;
        update(&mut message);
        self.queue_mut(queue)?.insert(message);
        Ok(())
    }
}

fn no_queue(name: &str) -> UnknownTarget {
    UnknownTarget(format!("queue {name}"))
}

/// An id in the shape of a random UUID.
pub(crate) fn make_id(salt: &[u8; 16], number: u64) -> String {
    let mut input = salt.to_vec();
    input.extend_from_slice(&number.to_be_bytes());
    let hex = md5_hex(&input);
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
