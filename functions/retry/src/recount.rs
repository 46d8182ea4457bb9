//! Counts the records of an hour again.
//!
//! The counters of an hour are added to after the records are written, so that a crash or a failed request
//! leaves them too low. Whoever notices puts the hour into the due index. The counters that replace them are
//! exact, because
//!
//! * no record of the hour and no counter changed in the last [`QUIET_SECONDS`], longer than any invocation
//!   lasts that writes records: all additions for what is read here have been made or lost;
//! * the counters are replaced only if nothing was added since.
//!
//! Otherwise the hour waits for a later run.

use std::time::Duration;

use webhooks_core::ports::{Chain, DeliveryFilter, Due, StoreError, Waiting, Written};
use webhooks_core::statistics::{Counts, HourCounts, RECOUNT_AFTER_SECONDS};
use webhooks_core::time::Timestamp;

use crate::Retry;

/// How long an hour must have been left alone, in seconds.
const QUIET_SECONDS: u64 = 120;
/// Records that are read by one request.
const PAGE: usize = 200;
/// The most records that are counted for an hour. One with more keeps its counters.
const RECORDS_MAX: usize = 100_000;
/// How long a run counts; the hours that are left are counted by the next.
const TIME_MAX: Duration = Duration::from_mins(1);

/// What became of an hour.
enum Recount {
    Done(Counts),
    /// It is still being written to.
    Unsettled,
}

impl Retry {
    /// Counts hours again, and returns how many were. An error concerns its hour alone.
    pub(crate) async fn recount_all(&self, hours: &[Due], began: Timestamp) -> usize {
        let mut recounted = 0;
        for due in hours {
            if began.until(self.clock.now()) > TIME_MAX {
                break;
            }
            match self.recount(due).await {
                Ok(is_done) => recounted += usize::from(is_done),
                Err(error) => {
                    let (subscription_id, error) = (&due.subscription_id, Chain(&error));
                    tracing::warn!(%subscription_id, %error, "an hour was not counted again");
                }
            }
        }
        recounted
    }

    async fn recount(&self, due: &Due) -> Result<bool, StoreError> {
        let Waiting::Stats(hour) = due.row else { return Ok(false) };
        let now = self.clock.now();
        let Some(before) = self.statistics.hour(&due.subscription_id, hour).await? else {
            return Ok(false);
        };
        let settled = now.minus(Duration::from_secs(QUIET_SECONDS));
        let counts = match self.count(due, &before, settled, now).await? {
            Recount::Done(counts) => counts,
            Recount::Unsettled => {
                self.due_index.postpone(due, now.plus_seconds(RECOUNT_AFTER_SECONDS)).await?;
                return Ok(false);
            }
        };
        let replaced = self.statistics.replace(&due.subscription_id, &before, &counts).await?;
        Ok(replaced == Written::Applied)
    }

    /// What the records of the hour add up to.
    async fn count(
        &self,
        due: &Due,
        before: &HourCounts,
        settled: Timestamp,
        now: Timestamp,
    ) -> Result<Recount, StoreError> {
        if before.last_attempt_at > settled {
            return Ok(Recount::Unsettled);
        }
        let (id, hour) = (&due.subscription_id, before.hour);
        let until = hour.plus_seconds(3600);
        let filter =
            DeliveryFilter { since: Some(hour), until: Some(until), ..DeliveryFilter::default() };
        let (mut counts, mut records, mut position) = (Counts::default(), 0, None);
        loop {
            let page = self.deliveries.page(id, &filter, PAGE, position.as_ref(), now).await?;
            records += page.items.len();
            for delivery in &page.items {
                if delivery.updated_at > settled {
                    return Ok(Recount::Unsettled);
                }
                counts.add(Counts::of(delivery));
            }
            position = page.next;
            if position.is_none() {
                // Records that were erased or have expired stay counted.
                let is_complete = counts.total >= before.counts.total;
                return Ok(Recount::Done(if is_complete { counts } else { before.counts }));
            }
            if records > RECORDS_MAX {
                tracing::warn!(subscription_id = %id, %hour, "an hour has too many records to be counted again");
                return Ok(Recount::Done(before.counts));
            }
        }
    }
}
