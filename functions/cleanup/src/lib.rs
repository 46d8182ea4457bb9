//! Cleanup: deletes old deliveries, and the rows of deleted subscriptions.
//!
//! Rows have a TTL as well, which is free. The cleanup is for a retention shorter than the one that
//! rows were written with, and for the rows of subscriptions that were deleted.
//!
//! It reads the subscriptions of all users in the order of the table, and their rows in batches. It
//! stops before its time is up, or when the table is throttled or fails, and saves its position;
//! the next run continues from there.

mod reseal;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use webhooks_core::limits::RETENTION_DAYS_MAX;
use webhooks_core::ports::{CleanupState, Clock, StoreError, SubscriptionKey, Subscriptions};
use webhooks_core::time::Timestamp;

pub use reseal::{Position, Reseal, ResealReport, ResealRequest};

/// Subscriptions that one request reads.
const SUBSCRIPTIONS: usize = 100;
/// Rows that are read and deleted together.
const ROWS: usize = 100;

/// The function and its ports.
pub struct Cleanup {
    subscriptions: Arc<dyn Subscriptions>,
    state: Arc<dyn CleanupState>,
    clock: Arc<dyn Clock>,
    retention_days: u32,
}

/// The schedule's event, or an operator's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Request {
    /// How long deliveries are kept this time, in days.
    #[serde(default)]
    pub days: Option<u32>,
    /// Asks for [`Reseal`] in place of the cleanup.
    #[serde(default)]
    pub reseal: Option<ResealRequest>,
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows deleted.
    pub deleted: usize,
    /// Subscriptions looked at.
    pub subscriptions: usize,
    /// Whether everything was looked at; if not, the next run continues.
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
    /// The function over these ports. `retention_days` says how long deliveries are kept when the
    /// event does not say.
    pub fn new(
        subscriptions: Arc<dyn Subscriptions>,
        state: Arc<dyn CleanupState>,
        clock: Arc<dyn Clock>,
        retention_days: u32,
    ) -> Self {
        Self { subscriptions, state, clock, retention_days }
    }

    /// Does one run, and stops soon after `deadline`.
    pub async fn handle(&self, request: Request, deadline: Timestamp) -> Result<Report, Error> {
        let days = request.days.unwrap_or(self.retention_days);
        if days > RETENTION_DAYS_MAX {
            return Err(Error::Days);
        }
        let retention = Duration::from_secs(u64::from(days) * 24 * 3600);
        let before = self.clock.now().minus(retention);

        let mut report = Report::default();
        let mut position = self.state.position().await?;
        loop {
            let page = self.subscriptions.scan_keys(SUBSCRIPTIONS, position.as_ref()).await?;
            for row in &page.items {
                let cleaned = self.row(row, before, deadline, &mut report).await;
                if !matches!(cleaned, Ok(true)) {
                    self.state.set_position(position.as_ref()).await?;
                    return cleaned.map(|_| ended(report));
                }
                position = Some(row.clone());
            }
            position = page.next;
            if position.is_none() {
                self.state.set_position(None).await?;
                report.finished = true;
                return Ok(ended(report));
            }
        }
    }

    /// Cleans up one subscription; `false` when the time ran out, or the table took no delete.
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
                self.state.all_keys(id, ROWS).await?
            } else {
                self.state.expired_keys(id, before, ROWS).await?
            };
            if keys.is_empty() {
                break;
            }
            let left = self.state.delete(id, &keys).await?;
            report.deleted += keys.len() - left.len();
            if left.len() == keys.len() {
                // The table is throttled. To go on would take the capacity of the deliveries.
                return Ok(false);
            }
        }
        if row.deleted {
            self.subscriptions.delete_unused_hosts(&row.user_id).await?;
            self.subscriptions.delete_tombstone(&row.user_id, &row.subscription_id).await?;
        }
        report.subscriptions += 1;
        Ok(true)
    }
}

/// Logs the report of a run that did not fail.
fn ended(report: Report) -> Report {
    tracing::info!(
        metric.runs_succeeded = 1,
        deleted = report.deleted,
        subscriptions = report.subscriptions,
        finished = report.finished,
        "cleanup ended"
    );
    report
}
