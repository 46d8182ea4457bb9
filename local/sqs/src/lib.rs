//! A small SQS in one process, for ordinary AWS clients (SDKs, boto3, the AWS CLI) over HTTP.
//!
//! [`Sqs`] is the engine, all queues behind one lock. A *queue* (`queue.rs`) keeps its messages
//! ordered by their next event. A *change* (`state.rs`) is one step of the engine and one entry of the
//! *journal* (`journal.rs`), which survives a restart. The *clock* ([`Clock`]) is an argument.
//! [`router`] is the JSON protocol of SQS (`wire.rs`, `ops`). Move tasks are in `moves.rs`, the checks
//! of a message in `message.rs`, those of a queue in `attributes.rs`, the error codes in `errors.rs`.
//!
//! Standard queues by the rules of AWS. Where these leave a choice:
//!
//! - Messages come in the order in which they became visible. Counts are exact.
//! - A receipt handle is valid until the message is received again. After that, deleting with it
//!   succeeds without an effect, and changing the visibility with it is refused.
//! - A message that was received `maxReceiveCount` times moves to the dead-letter queue as soon
//!   as its visibility timeout ends (at a receive, if the policy came later), with its id, its
//!   send time and its receive count.
//! - A move task makes new messages: new id, new send time, receive count from zero.
//! - The visibility timeouts of one receive may not add up to 12 hours, so
//!   `ChangeMessageVisibility` always refuses 43,200 itself.
//! - A message is received when the response is made, never for a client that has disconnected.
//!
//! Deliberately absent: FIFO queues, the old query (XML) protocol, signatures and permissions,
//! encryption, redrive allow policies, more than one account or region, and the 60 seconds that AWS keeps the name of
//! a deleted queue reserved.

mod attributes;
mod clock;
mod errors;
mod journal;
mod message;
mod moves;
mod ops;
mod queue;
mod state;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

pub use clock::{Clock, ManualClock, Sleep, SystemClock};
pub use errors::{Code, SqsError};
pub use journal::OpenError;
pub use queue::Depth;
pub use wire::{Reply, call, router};

use journal::Journal;
use state::{Change, State};

/// The account that owns everything, in ARNs and queue URLs.
pub const ACCOUNT: &str = "000000000000";

/// The engine. Share it in an [`Arc`].
pub struct Sqs {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl Sqs {
    /// An engine in memory, without queues.
    pub fn new(clock: Arc<dyn Clock>, region: &str) -> Self {
        Self { clock, state: Mutex::new(State::new(region, random_salt())) }
    }

    /// An engine that keeps its queues in a directory, which it creates if it is missing.
    ///
    /// Fails if the directory cannot be used, is in use, or holds a damaged journal.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>, region: &str) -> Result<Self, OpenError> {
        let mut state = State::new(region, random_salt());
        let mut journal = Journal::open(dir, |change| state.apply(change))?;
        journal.rewrite(state.snapshot()).map_err(|source| journal::io_error(dir, source))?;
        state.attach(journal);
        Ok(Self { clock, state: Mutex::new(state) })
    }

    /// Creates a queue, or sets these attributes of an existing one.
    ///
    /// A dead-letter queue has to exist before the queues whose `RedrivePolicy` names it.
    pub fn ensure_queue(&self, name: &str, attributes: &[(&str, &str)]) -> Result<(), SqsError> {
        let attributes: BTreeMap<String, String> =
            attributes.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        self.transact(|state, now| {
            if state.queues.contains_key(name) {
                ops::set_attributes(state, name, &attributes, now)
            } else {
                ops::create_queue(state, name, &attributes, BTreeMap::new(), now)
            }
        })
    }

    /// How many messages a queue holds, or `None` if there is no such queue.
    pub fn depth(&self, queue: &str) -> Result<Option<Depth>, SqsError> {
        self.transact(|state, _| Ok(state.queues.get(queue).map(queue::Queue::depth)))
    }

    /// Makes the received messages of a queue visible again and returns their number. Messages whose
    /// visibility was changed since stay hidden. For a start after the consumers were killed.
    pub fn release(&self, queue: &str) -> Result<usize, SqsError> {
        self.transact(|state, now| {
            let held: Vec<u64> = state.queue(queue)?.held().collect();
            for seq in &held {
                let change = Change::Hidden { queue: queue.to_owned(), seq: *seq, visible_at: now };
                state.record(change)?;
            }
            state.advance(now)?;
            Ok(held.len())
        })
    }

    /// The settable attributes of a queue, in the form of the API.
    pub fn attributes(&self, queue: &str) -> Result<BTreeMap<String, String>, SqsError> {
        self.transact(|state, _| Ok(state.queue(queue)?.config.attributes.to_wire()))
    }

    /// The ARN of a queue of this name, whether or not it exists.
    pub fn queue_arn(&self, queue: &str) -> String {
        self.lock().arn(queue)
    }

    /// How many long polls of a queue wait.
    pub fn waiting(&self, queue: &str) -> usize {
        let state = self.lock();
        state.queues.get(queue).map_or(0, |queue| Arc::strong_count(&queue.wake) - 1)
    }

    /// Runs one operation: first everything that is due, then `act`. Its changes are in the journal
    /// when this returns.
    fn transact<T>(
        &self,
        act: impl FnOnce(&mut State, u64) -> Result<T, SqsError>,
    ) -> Result<T, SqsError> {
        let mut state = self.lock();
        let now = self.clock.now_ms();
        let result = state.advance(now).and_then(|()| act(&mut state, now));
        // Also after a refusal: something may have been due.
        state.commit()?;
        result
    }

    /// A panic leaves at worst an unfinished operation, which no caller has seen.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Random bytes, so that two runs never make the same message ids. The hash keys of the standard
/// library are random enough and cannot fail.
fn random_salt() -> [u8; 16] {
    let half = || RandomState::new().hash_one(ACCOUNT);
    (u128::from(half()) << 64 | u128::from(half())).to_be_bytes()
}
