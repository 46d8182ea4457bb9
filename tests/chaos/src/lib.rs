//! Fault injection on the deployed programs: the bootstraps of the functions run as processes, with
//! the local queues and tables, and with faulty proxies between them.
//!
//! * A [`relay`] is a proxy between the functions and an endpoint of AWS; [`Faults`] is one that
//!   fails, by rates and a seed, as the services and the network do.
//! * A [`Pool`] stands in for Lambda: it runs the bootstraps of one function, hands them events
//!   through the Runtime API, enforces the timeout, replaces what was killed.
//! * [`run_faults`] publishes events, kills processes while they work, and then checks the result:
//!   every event must have reached its webhooks, with the right number of attempts, and nothing
//!   may come to another user or under two ids.
//! * [`run_kill_test`] kills and restarts the whole local system, which is one process; [`run_recovery`] does so
//!   during a recovery.
//!
//! For tests and benches only. Deliberately absent: crashes of AWS itself; what it has accepted, it
//! keeps.

mod clock;
mod environment;
mod fault_run;
mod faults;
mod harness;
mod kill_test;
mod plan;
mod pool;
mod receivers;
mod recovery_run;
pub mod relay;
mod report;
mod testbed;
mod verdict;
mod wire;

pub use environment::{Failed, Program};
pub use fault_run::{FaultRun, run_faults};
pub use faults::{Fault, Faults, Rates};
pub use harness::Webhook;
pub use kill_test::{KillTest, run_kill_test};
pub use plan::Endpoint;
pub use pool::{Ended, Kills, Pool};
pub use receivers::Post;
pub use recovery_run::{Recovered, RecoveryRun, run_recovery};
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

/// An error in words.
fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
