//! The system clock, which a test can put forward for the queues.

use std::time::Duration;

use local_sqs::{Clock, Sleep, SystemClock};
use tokio::sync::watch;

/// A clock that runs like that on the wall and can be put forward; that wakes those who wait.
#[derive(Debug)]
pub(crate) struct SkippingClock {
    skipped_ms: watch::Sender<u64>,
}

impl SkippingClock {
    /// A clock that has not been advanced.
    pub(crate) fn new() -> Self {
        Self { skipped_ms: watch::Sender::new(0) }
    }

    /// Puts it forward.
    pub(crate) fn skip(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.skipped_ms.send_modify(|skipped| *skipped = skipped.saturating_add(by));
    }
}

impl Clock for SkippingClock {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms().saturating_add(*self.skipped_ms.borrow())
    }

    fn sleep_until(&self, at_ms: u64) -> Sleep<'_> {
        let mut skipped = self.skipped_ms.subscribe();
        Box::pin(async move {
            while let wait @ 1.. = at_ms.saturating_sub(self.now_ms()) {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                    _ = skipped.changed() => {}
                }
            }
        })
    }
}
