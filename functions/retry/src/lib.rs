//! Retry: sends tasks for the deliveries that fall due.
//!
//! The due index holds exactly the deliveries that wait for an attempt, the recoveries that are
//! running, and the hours whose records are to be counted again. The function runs every
//! [`PERIOD_SECONDS`] and handles each row by its time:
//!
//! * due within [`LOOK_AHEAD_SECONDS`]: it sends a task that the queue delays until that time. This
//!   is longer than two periods, because a schedule keeps to the minute and a run can fail: what
//!   falls due between two runs has been sent by the one before;
//! * due in the last [`GRACE_SECONDS`]: its task has been sent and is on its way, nothing is done;
//! * due before that: its message was lost. The function moves the row to now and then sends a
//!   task. While rows cannot be written nothing is sent, so that no run adds to a backlog that
//!   nobody can work off. What the queue then refuses waits for another grace.
//!
//! A task that is sent twice does no harm: the record says what is left to do.
//!
//! After the tasks it recounts the hours in the index from their records; see `recount`.

mod recount;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use webhooks_core::limits::DUE_SHARDS;
use webhooks_core::ports::{
    Clock, Deliveries, Due, DueIndex, Outgoing, Statistics, StoreError, TaskQueue, Waiting,
};
use webhooks_core::task_batch::send_tasks;
use webhooks_core::time::Timestamp;

/// How often the function runs, in seconds.
pub const PERIOD_SECONDS: u64 = 300;
/// How far ahead a run looks, in seconds: a run that is a minute late after one that failed still
/// finds its rows sent. The queue can delay a message for 900 s.
pub const LOOK_AHEAD_SECONDS: u64 = 2 * PERIOD_SECONDS + 60;
/// How long a task that was sent is given before it counts as lost, in seconds.
pub const GRACE_SECONDS: u64 = 600;
/// Rows of the index that are read by one request and sent together.
const PAGE: usize = 500;
/// Pages of one shard in one run; what is left is due first in the next.
const PAGES_MAX: usize = 100;
/// Overdue rows that are moved concurrently and then sent.
const BATCH: usize = 50;

/// The function and its ports.
pub struct Retry {
    due_index: Arc<dyn DueIndex>,
    deliveries: Arc<dyn Deliveries>,
    statistics: Arc<dyn Statistics>,
    queue: Arc<dyn TaskQueue>,
    clock: Arc<dyn Clock>,
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Tasks sent on time.
    pub sent: usize,
    /// Tasks sent again because their message was lost.
    pub sent_again: usize,
    /// Tasks the queue did not take; a later run sends them.
    pub refused: usize,
    /// Hours whose records were counted again.
    pub recounted: usize,
}

/// Why a run did not finish. The next one does what this one did not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The index could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Retry {
    /// The function over these ports: `queue` is the deliveries queue.
    pub fn new(
        due_index: Arc<dyn DueIndex>,
        deliveries: Arc<dyn Deliveries>,
        statistics: Arc<dyn Statistics>,
        queue: Arc<dyn TaskQueue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { due_index, deliveries, statistics, queue, clock }
    }

    /// Does one run.
    pub async fn handle(&self) -> Result<Report, Error> {
        let now = self.clock.now();
        let shards = join_all((0..DUE_SHARDS).map(|shard| self.shard(shard, now))).await;
        let mut all = Report::default();
        let mut hours = Vec::new();
        for shard in shards {
            let (report, due) = shard?;
            hours.extend(due);
            all.sent += report.sent;
            all.sent_again += report.sent_again;
            all.refused += report.refused;
        }
        all.recounted = self.recount_all(&hours, now).await;
        tracing::info!(
            metric.runs_succeeded = 1,
            metric.retries_sent = all.sent,
            metric.retries_sent_again = all.sent_again,
            metric.retries_refused = all.refused,
            hours_recounted = all.recounted,
            "retries sent"
        );
        Ok(all)
    }

    /// Sends the tasks of a shard, and returns the hours that are to be counted again.
    async fn shard(&self, shard: u8, now: Timestamp) -> Result<(Report, Vec<Due>), Error> {
        let mut report = Report::default();
        let mut hours = Vec::new();
        let mut after: Option<Due> = None;
        for _ in 0..PAGES_MAX {
            let until = now.plus_seconds(LOOK_AHEAD_SECONDS);
            let page = self.due_index.due(shard, until, PAGE, after.as_ref()).await?;
            let (of_hours, tasks): (Vec<_>, Vec<_>) =
                page.items.into_iter().partition(|due| matches!(due.row, Waiting::Stats(_)));
            hours.extend(of_hours.into_iter().filter(|due| due.due_at <= now));
            self.send(&tasks, now, &mut report).await?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok((report, hours))
    }

    async fn send(&self, rows: &[Due], now: Timestamp, report: &mut Report) -> Result<(), Error> {
        let (on_time, late): (Vec<&Due>, Vec<&Due>) =
            rows.iter().filter(|due| wants_task(due, now)).partition(|due| due.due_at > now);
        let refused = self.send_tasks(&on_time, now).await;
        report.refused += refused;
        report.sent += on_time.len() - refused;
        for late in late.chunks(BATCH) {
            let moved = join_all(late.iter().map(|due| self.due_index.postpone(due, now))).await;
            // A conflict is no reason not to send: the row may have been moved by a request of this run
            // whose response was lost, and if the record has moved on, the task does no harm.
            let written = late.iter().zip(&moved).filter(|(_, moved)| moved.is_ok());
            let rows: Vec<&Due> = written.map(|(due, _)| *due).collect();
            let refused = self.send_tasks(&rows, now).await;
            report.refused += refused;
            report.sent_again += rows.len() - refused;
            moved.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        Ok(())
    }

    /// Sends the tasks of rows, and says how many of them the queue did not take.
    async fn send_tasks(&self, rows: &[&Due], now: Timestamp) -> usize {
        let tasks: Vec<Outgoing> = rows.iter().filter_map(|due| task(due, now)).collect();
        send_tasks(self.queue.as_ref(), &tasks).await.len()
    }
}

fn wants_task(due: &Due, now: Timestamp) -> bool {
    due.due_at > now || due.due_at.plus_seconds(GRACE_SECONDS) <= now
}

/// The task of a row; the counters of an hour have none.
fn task(due: &Due, now: Timestamp) -> Option<Outgoing> {
    let left = now.until(due.due_at).as_millis().div_ceil(1000);
    let left = u64::try_from(left).expect("a wait within the look-ahead is a small number");
    let delay = Duration::from_secs(left);
    let subscription_id = due.subscription_id.clone();
    match &due.row {
        Waiting::Delivery(id) => Some(Outgoing::retry(subscription_id, id.clone(), None, delay)),
        Waiting::Recovery(id) => {
            Some(Outgoing::recovery_page(subscription_id, id.clone(), None, None, delay))
        }
        Waiting::Stats(_) => None,
    }
}
