//! Concurrent changes of the table during a request, and a table that fails.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use test_support::{Effect, Interceptor, MemorySubscriptions};
use webhooks_core::breaker::Health;
use webhooks_core::ports::{StoreError, Subscriptions as _};
use webhooks_core::subscription::Patch;

/// What happens besides the request.
#[derive(Clone, Copy)]
pub(super) enum Event {
    /// Somebody changes the description before each of this many updates.
    Changes(usize),
    /// The endpoint's health changes before the first update.
    EndpointFails,
    /// Somebody deletes the webhook before the update.
    Deletes,
    /// The response of an update is lost, and the SDK retries the update.
    LosesResponse,
    /// The table cannot be read.
    Unavailable,
    /// The row cannot be decoded.
    Undecodable,
}

pub(super) struct Concurrent {
    pub(super) table: MemorySubscriptions,
    pub(super) event: Event,
    pub(super) updates: AtomicUsize,
}

impl Concurrent {
    async fn before_update(&self) -> Result<(), StoreError> {
        let number = self.updates.fetch_add(1, Ordering::SeqCst) + 1;
        let mut row = self.table.snapshot().remove(0);
        match self.event {
            Event::Changes(times) if number <= times => {
                let version = row.version;
                let description = Some(Some(format!("change {number} of others")));
                row.apply(Patch { description, ..Patch::default() }, row.updated_at);
                assert!(self.table.update(&row, version).await?.is_applied());
            }
            Event::EndpointFails if number == 1 => {
                let health = Health { consecutive_failures: 7, ..Health::default() };
                let set =
                    self.table.set_health(&row.user_id, &row.id, &row.health, &health).await?;
                assert!(set.is_applied());
            }
            Event::Deletes => assert!(self.table.delete(&row.user_id, &row.id).await?),
            _ => {}
        }
        Ok(())
    }
}

#[async_trait]
impl Interceptor for Concurrent {
    async fn before(&self, call: &'static str) -> Result<Effect, StoreError> {
        match (call, self.event) {
            ("subscriptions.get", Event::Unavailable) => {
                return Err(StoreError::Unavailable("throttled at 10.0.0.1".into()));
            }
            ("subscriptions.get", Event::Undecodable) => {
                let (key, reason) = ("alice/sub_1".to_owned(), "at 10.0.0.1".to_owned());
                return Err(StoreError::Undecodable { key, reason });
            }
            ("subscriptions.update", Event::LosesResponse) => return Ok(Effect::Repeated),
            ("subscriptions.update", _) => self.before_update().await?,
            _ => {}
        }
        Ok(Effect::Done)
    }
}
