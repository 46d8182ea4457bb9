//! `cargo dev stats`: the success rate of the last 24 hours, the waiting retries, and the webhooks
//! that failed most in 7 days. In AWS, the dashboard shows them; here they come from the tables.
//!
//! Success and failure come from the hourly counters, so the first hour counts as a whole.

use std::time::Duration;

use local_sqs::Sqs;
use serde::{Deserialize, Serialize};
use webhooks_core::limits::DUE_SHARDS;
use webhooks_core::ports::{
    Consistency, DeliveriesTable, StoreError, SubscriptionKey, Subscriptions, Waiting,
};
use webhooks_core::statistics::{self, Counts};
use webhooks_core::time::Timestamp;

use crate::queues::{DELIVERIES, EVENTS, SLOW_DELIVERIES};
use crate::table;

const HOUR: Duration = Duration::from_hours(1);
const PAGE: usize = 500;
/// How many failing webhooks are listed.
const TOP: usize = 10;

/// The statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// When they were read.
    pub as_of: Timestamp,
    /// Deliveries of events of the last 24 hours.
    pub last_24_hours: Totals,
    /// Waiting retries.
    pub retries: Retries,
    /// The webhooks with the most failed deliveries in 7 days, worst first.
    pub top_failing_7_days: Vec<Failing>,
    /// The depth of each queue.
    pub queues: Vec<QueueDepth>,
}

/// Deliveries by their status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// All deliveries.
    pub total: u64,
    /// Deliveries that ended with a 2xx.
    pub successful: u64,
    /// Deliveries that ended without one.
    pub failed: u64,
    /// Deliveries that have not ended.
    pub retrying: u64,
    /// The percentage of successes among the ended deliveries.
    pub success_rate: Option<f64>,
}

impl Totals {
    fn to_text(self) -> String {
        let header = ["deliveries", "successful", "failed", "retrying", "success rate"];
        let counts = [self.total, self.successful, self.failed, self.retrying];
        let rate = self.success_rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2} %"));
        let row = counts.iter().map(u64::to_string).chain([rate]).collect();
        table::lay_out(&header, &[row], &[0, 1, 2, 3, 4])
    }
}

impl From<Counts> for Totals {
    fn from(counts: Counts) -> Self {
        Self {
            total: counts.total,
            successful: counts.success,
            failed: counts.failed,
            retrying: counts.retrying(),
            success_rate: counts.success_rate(),
        }
    }
}

/// Waiting retries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// Deliveries that wait for their next attempt.
    pub waiting: usize,
    /// Waiting deliveries that the next run of the retry function sends.
    pub due: usize,
}

/// A webhook that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The webhook.
    pub webhook_id: String,
    /// Its owner.
    pub user_id: String,
    /// Its URL; `None` if it has been deleted.
    pub url: Option<String>,
    /// Failed deliveries.
    pub failed: u64,
    /// All deliveries.
    pub total: u64,
}

/// How many messages a queue holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDepth {
    /// The queue.
    pub queue: String,
    /// Messages that can be received now.
    pub visible: usize,
    /// Messages that were received and are hidden, also those that wait for a retry.
    pub in_flight: usize,
    /// Messages whose delay is not over.
    pub delayed: usize,
}

/// Reads the tables and the queues.
pub async fn gather(
    subscriptions: &dyn Subscriptions,
    deliveries: &dyn DeliveriesTable,
    sqs: &Sqs,
    now: Timestamp,
) -> Result<Stats, StoreError> {
    let (day, week) = (now.minus(24 * HOUR).hour(), now.minus(7 * 24 * HOUR).hour());
    let mut last_day = Counts::default();
    let mut failing = Vec::new();
    for row in all_subscriptions(subscriptions).await? {
        let hours = deliveries.counters(&row.subscription_id, week).await?;
        hours.iter().filter(|hour| hour.hour >= day).for_each(|hour| last_day.add(hour.counts));
        let counts = statistics::Totals::of(&hours).counts;
        if counts.failed > 0 {
            failing.push((counts, row));
        }
    }
    failing.sort_by_key(|(counts, _)| std::cmp::Reverse(counts.failed));
    failing.truncate(TOP);
    let mut top = Vec::new();
    for (counts, row) in failing {
        let (user, id) = (&row.user_id, &row.subscription_id);
        let found = subscriptions.get(user, id, Consistency::Strong).await?;
        top.push(Failing {
            webhook_id: id.to_string(),
            user_id: user.to_string(),
            url: found.map(|subscription| subscription.url),
            failed: counts.failed,
            total: counts.total,
        });
    }
    Ok(Stats {
        as_of: now,
        last_24_hours: last_day.into(),
        retries: retries(deliveries, now).await?,
        top_failing_7_days: top,
        queues: depths(sqs),
    })
}

async fn all_subscriptions(
    subscriptions: &dyn Subscriptions,
) -> Result<Vec<SubscriptionKey>, StoreError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = subscriptions.scan_keys(PAGE, after.as_ref()).await?;
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

async fn retries(deliveries: &dyn DeliveriesTable, now: Timestamp) -> Result<Retries, StoreError> {
    let ever = Timestamp::from_millis(i64::MAX);
    let mut retries = Retries::default();
    for shard in 0..DUE_SHARDS {
        let mut after = None;
        loop {
            let page = deliveries.due(shard, ever, PAGE, after.as_ref()).await?;
            after = page.next;
            let waiting = page.items.iter().filter(|due| !matches!(due.row, Waiting::Stats(_)));
            for due in waiting {
                retries.waiting += 1;
                retries.due += usize::from(due.due_at <= now);
            }
            if after.is_none() {
                break;
            }
        }
    }
    Ok(retries)
}

fn depths(sqs: &Sqs) -> Vec<QueueDepth> {
    [
        EVENTS.name,
        EVENTS.dead_letter_queue,
        DELIVERIES.name,
        SLOW_DELIVERIES.name,
        DELIVERIES.dead_letter_queue,
    ]
    .into_iter()
    .filter_map(|queue| {
        let depth = sqs.depth(queue).ok().flatten()?;
        Some(QueueDepth {
            queue: queue.to_owned(),
            visible: depth.visible,
            in_flight: depth.in_flight,
            delayed: depth.delayed,
        })
    })
    .collect()
}

impl Stats {
    /// The statistics as text.
    pub fn to_text(&self) -> String {
        let Retries { waiting, due } = self.retries;
        format!(
            "As of {}\n\nLast 24 hours\n{}\nWaiting retries: {waiting}, due now: {due}\n\n\
             Top failing webhooks, 7 days\n{}\nQueues\n{}",
            self.as_of,
            self.last_24_hours.to_text(),
            self.failing_text(),
            self.queues_text(),
        )
    }

    fn queues_text(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .queues
            .iter()
            .map(|depth| {
                let counts = [depth.visible, depth.in_flight, depth.delayed];
                std::iter::once(depth.queue.clone())
                    .chain(counts.iter().map(usize::to_string))
                    .collect()
            })
            .collect();
        table::lay_out(&["queue", "visible", "in flight", "delayed"], &rows, &[1, 2, 3])
    }

    fn failing_text(&self) -> String {
        if self.top_failing_7_days.is_empty() {
            return "none\n".to_owned();
        }
        let rows: Vec<Vec<String>> = self
            .top_failing_7_days
            .iter()
            .map(|failing| {
                vec![
                    failing.failed.to_string(),
                    failing.total.to_string(),
                    failing.webhook_id.clone(),
                    failing.user_id.clone(),
                    failing.url.clone().unwrap_or_else(|| "(deleted)".to_owned()),
                ]
            })
            .collect();
        table::lay_out(&["failed", "of", "webhook", "user", "url"], &rows, &[0, 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_shows_rate_retries_and_failing_webhooks() {
        let mut stats = Stats {
            as_of: Timestamp::from_seconds(1_800_000_000),
            last_24_hours: Counts { total: 10, success: 6, failed: 2, ..Counts::default() }.into(),
            retries: Retries { waiting: 2, due: 1 },
            top_failing_7_days: Vec::new(),
            queues: Vec::new(),
        };
        let text = stats.to_text();
        assert!(text.contains("75.00 %"), "{text}");
        assert!(text.contains("Waiting retries: 2, due now: 1"), "{text}");
        assert!(text.contains("7 days\nnone"), "{text}");
        stats.top_failing_7_days.push(Failing {
            webhook_id: "wh_1".to_owned(),
            user_id: "u1".to_owned(),
            url: None,
            failed: 2,
            total: 10,
        });
        assert!(stats.to_text().contains("     2  10  wh_1     u1    (deleted)"));
    }
}
