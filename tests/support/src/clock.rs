//! A clock that moves only when a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use webhooks_core::ports::{Clock, Timer};
use webhooks_core::time::Timestamp;

/// A clock that moves only when a test moves it; a clone is the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.millis())))
    }

    /// Sets it, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.millis(), Ordering::SeqCst);
    }

    /// Moves it forwards, and returns the new time.
    pub fn advance(&self, duration: Duration) -> Timestamp {
        let now = self.now().plus(duration);
        self.set(now);
        now
    }
}

impl Default for ManualClock {
    /// Stands at [`crate::sample::start`].
    fn default() -> Self {
        Self::at(crate::sample::start())
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Waits on tokio's clock, which a test may pause.
#[async_trait]
impl Timer for ManualClock {
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
