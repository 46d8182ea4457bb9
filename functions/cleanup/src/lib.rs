//! Cleanup: old deliveries out, and whatever belonged to deleted subscriptions.
//!
//! Rows carry a TTL as well, so this is not needed for anything to end; it is for a shorter
//! retention than the one rows were written with, and for what a deleted subscription leaves.
//!
//! It walks the subscriptions of everybody in the table's own order, and their rows in batches. It
//! stops before its time is up and remembers where; the next run goes on from there.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use webhooks_core::limits::RETENTION_DAYS_MAX;
use webhooks_core::ports::{CleanupState, Clock, StoreError, SubscriptionKey, Subscriptions};
use webhooks_core::time::Timestamp;

/// Subscriptions that are read at once.
const SUBSCRIPTIONS: usize = 100;
/// Rows that are deleted at once.
const ROWS: usize = 100;

/// The function and what it may touch.
pub struct Cleanup {
    /// Whose deliveries there are.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// The rows of the Deliveries table, and the position of the cleanup.
    pub cleanup_state: Arc<dyn CleanupState>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How long deliveries are kept when the event does not say, in days.
    pub retention_days: u32,
}

/// The schedule's event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Request {
    /// How long deliveries are kept this time, in days.
    #[serde(default)]
    pub days: Option<u32>,
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows deleted.
    pub deleted: usize,
    /// Subscriptions looked at.
    pub subscriptions: usize,
    /// Whether everything was looked at; if not, the next run goes on.
    pub finished: bool,
}

/// Why a run did not happen, or did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The event asks for a retention that cannot be.
    #[error("`days` must be a whole number from 0 to {RETENTION_DAYS_MAX}")]
    Days,
    /// A table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Cleanup {
    /// Does one run, and stops soon after `deadline`.
    pub async fn handle(&self, request: Request, deadline: Timestamp) -> Result<Report, Error> {
        let days = request.days.unwrap_or(self.retention_days);
        if days > RETENTION_DAYS_MAX {
            return Err(Error::Days);
        }
        let retention = Duration::from_secs(u64::from(days) * 24 * 3600);
        let before = self.clock.now().minus(retention);

        let mut report = Report::default();
        let mut position = self.cleanup_state.position().await?;
        loop {
            let page = self.subscriptions.scan_keys(SUBSCRIPTIONS, position.as_ref()).await?;
            for row in &page.items {
                if !self.row(row, before, deadline, &mut report).await? {
                    self.cleanup_state.set_position(position.as_ref()).await?;
                    return Ok(told(report));
                }
                position = Some(row.clone());
            }
            position = page.next;
            if position.is_none() {
                self.cleanup_state.set_position(None).await?;
                report.finished = true;
                return Ok(told(report));
            }
        }
    }

    /// Cleans up one subscription; `false` when the time ran out.
    async fn row(
        &self,
        row: &SubscriptionKey,
        before: Timestamp,
        deadline: Timestamp,
        report: &mut Report,
    ) -> Result<bool, Error> {
        loop {
            if self.clock.now() >= deadline {
                return Ok(false);
            }
            let id = &row.subscription_id;
            let keys = if row.deleted {
                self.cleanup_state.all_keys(id, ROWS).await?
            } else {
                self.cleanup_state.expired_keys(id, before, ROWS).await?
            };
            if keys.is_empty() {
                break;
            }
            let left = self.cleanup_state.delete(id, &keys).await?;
            report.deleted += keys.len() - left.len();
        }
        if row.deleted {
            self.subscriptions.delete_tombstone(&row.user_id, &row.subscription_id).await?;
        }
        report.subscriptions += 1;
        Ok(true)
    }
}

fn told(report: Report) -> Report {
    tracing::info!(
        deleted = report.deleted,
        subscriptions = report.subscriptions,
        finished = report.finished,
        "cleaned up"
    );
    report
}
