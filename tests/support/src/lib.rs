//! For tests only: stand-ins for everything outside of the handlers, and the suites that show
//! that a stand-in and the real thing keep the same rules.
//!
//! * [`ManualClock`] and [`SeededRandom`] make time and chance repeatable; [`sample`] builds
//!   domain values.
//! * [`memory`] holds the ports in memory, [`ScriptedSender`] responds in place of receivers. All
//!   are handles: a clone shares the state, so a test keeps one and gives the other away.
//! * [`conformance`] is the suite that every implementation of a store must pass:
//!   `conformance::subscriptions(&store).await` and
//!   `conformance::deliveries(&store, &clock).await`, each on an empty store. They panic with the
//!   names of the rules that were broken.
//! * [`Intercepted`] asks an [`Interceptor`] before each call of a port: to let it fail, to skip it, or
//!   to change the table first. [`Failing`] lets one kind of call fail.
//! * [`LogLines`] keeps what a test logs.
//! * [`FakeReceiver`] is a real HTTP server on loopback, for tests of the whole system.
//!
//! Deliberately absent: AWS, wall-clock time and threads of its own.

pub mod clock;
pub mod conformance;
pub mod intercept;
pub mod log_lines;
pub mod memory;
pub mod random;
pub mod receiver;
pub mod sample;
pub mod sealer;
pub mod sender;

pub use clock::ManualClock;
pub use intercept::{Effect, Failing, Intercepted, Interceptor};
pub use log_lines::LogLines;
pub use memory::{
    MemoryDeadLetterQueue, MemoryDeliveries, MemoryEventBus, MemorySubscriptions, MemoryTaskQueue,
};
pub use random::SeededRandom;
pub use receiver::FakeReceiver;
pub use sealer::TestSealer;
pub use sender::ScriptedSender;

/// The headers of a request that the embedded tables take for signed. They do not check by whom.
pub const UNCHECKED_SIGNATURE: [(&str, &str); 2] = [
    ("x-amz-date", "20260131T093000Z"),
    (
        "authorization",
        "AWS4-HMAC-SHA256 Credential=local/20260131/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
    ),
];

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks what no panic leaves half-written: every change under these locks is one statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
