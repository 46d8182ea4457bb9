//! The system's clock and randomness: the one place that asks for either.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use webhooks_core::ports::{Clock, Random, Timer};
use webhooks_core::time::Timestamp;

/// The wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock behind the port")]
        let now = SystemTime::now();
        // A clock set before 1970 or after 9999 is broken; the epoch at least does not panic.
        Timestamp::from_system_time(now).unwrap_or(Timestamp::EPOCH)
    }
}

#[async_trait]
impl Timer for SystemClock {
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The operating system's randomness, fit for secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        #[expect(clippy::disallowed_methods, reason = "this is the randomness behind the port")]
        let filled = getrandom::fill(buffer);
        // Going on with bytes that can be guessed would be worse than not going on.
        assert!(filled.is_ok(), "the operating system has no randomness");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_runs_and_randomness_differs() {
        assert!(SystemClock.now() > Timestamp::from_seconds(1_700_000_000));
        let random: &dyn Random = &SystemRandom;
        assert_ne!(random.bytes::<16>(), random.bytes::<16>());
    }
}
