//! The clock and the randomness of the machine, for services that do not pass their own.

use webhooks_core::ports::{Clock, Random};
use webhooks_core::time::Timestamp;

/// The machine's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port's implementation")]
    fn now(&self) -> Timestamp {
        Timestamp::from_system_time(std::time::SystemTime::now()).unwrap_or(Timestamp::EPOCH)
    }
}

/// The operating system's random number generator.
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    /// # Panics
    ///
    /// Where the operating system has no randomness: without it, two events could get one name and
    /// one of them would be lost as the other's duplicate.
    #[expect(clippy::disallowed_methods, reason = "this is the port's implementation")]
    fn fill(&self, buffer: &mut [u8]) {
        assert!(getrandom::fill(buffer).is_ok(), "the operating system gives no randomness");
    }
}
