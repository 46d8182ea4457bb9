//! Fault injection on the deployed programs: the bootstraps of the functions run as processes, with
//! the local queues and tables, and with faulty proxies between them.
//!
//! * A [`relay`] is a proxy between the functions and an endpoint of AWS; [`Faults`] is one that
//!   fails, by rates and a seed, as the services and the network do.
//! * A [`Pool`] stands in for Lambda: it runs the bootstraps of one function, hands them events
//!   through the Runtime API, enforces the timeout, replaces what was killed.
//! * [`run_faults`] publishes events, kills processes while they work, and then checks the result:
//!   every event must have reached its webhooks, with the right number of attempts, and every POST
//!   that came twice must have a recorded cause.
//! * [`run_kill_test`] kills and restarts the whole local system, which is one process.
//!
//! For tests and benches only. Deliberately absent: crashes of AWS itself; what it has accepted, it
//! keeps.

mod causes;
mod clock;
mod environment;
mod fault_run;
mod faults;
mod harness;
mod kill_test;
mod plan;
mod pool;
mod receivers;
pub mod relay;
mod report;
mod testbed;
mod verdict;
mod wire;

pub use causes::Cause;
pub use environment::{Failed, Program};
pub use fault_run::{FaultRun, run_faults};
pub use faults::{Fault, Faults, Rates};
pub use harness::Webhook;
pub use kill_test::{KillTest, run_kill_test};
pub use plan::Endpoint;
pub use pool::{BatchMessage, Ended, Invocation, Kills, Pool};
pub use receivers::Post;
pub use testbed::{Bootstraps, TestbedOptions};
pub use verdict::Report;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A result, or what kept a run from going on.
pub type Outcome<T> = Result<T, String>;

/// What the ids of our events begin with.
const EVENT_ID: &str = "event-";

/// Locks what no panic leaves half-written: every change under these locks is one statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ids of deliveries that a text names: `dlv_` and 26 characters.
fn delivery_ids(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("dlv_").filter_map(|(start, _)| text.get(start..start + 30))
}

/// The ids of our events that a text names: `event-` and a number.
fn event_ids(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(EVENT_ID).filter_map(|(start, _)| {
        let digits = text.get(start + EVENT_ID.len()..)?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        (end > 0).then(|| &text[start..start + EVENT_ID.len() + end])
    })
}

/// An error in words.
fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
