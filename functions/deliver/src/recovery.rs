//! A page of a recovery: sends the redeliveries, then the message of the next page, then writes the
//! row; see [`webhooks_core::recovery`].

use std::time::Duration;

use webhooks_core::breaker::BreakerState;
use webhooks_core::ids::{RecoveryId, SubscriptionId};
use webhooks_core::limits::QUEUE_WAIT_MAX_SECONDS;
use webhooks_core::ports::{Chain, Consistency, DeliveryFilter, Outgoing, StoreError};
use webhooks_core::recovery::{PAGE_WAIT, Recovery, RecoveryStatus, page_size};
use webhooks_core::subscription::Subscription;
use webhooks_core::task_batch::send_tasks;
use webhooks_core::time::Timestamp;

use crate::Deliver;
use crate::disposition::{Disposition, Handled};

/// A message of a page that the row has not reached comes back after this wait: the function that
/// sent it is about to write the row.
const EARLY_WAIT: Duration = Duration::from_secs(5);

/// How long after a page the attempt of its first task begins.
const FIRST_START: Duration = Duration::from_millis(250);
/// The attempts of a page begin within this time. The next page follows a second after this one.
const SPREAD: Duration = Duration::from_millis(700);

impl Deliver {
    /// Handles the message of a page. A failure on our side brings it back.
    pub(crate) async fn recovery_page(
        &self,
        subscription_id: &SubscriptionId,
        recovery_id: &RecoveryId,
        page: Option<u32>,
    ) -> Handled {
        let handled = self.page(subscription_id, recovery_id, page).await;
        handled
            .unwrap_or_else(|error| {
                let error = Chain(&error);
                tracing::error!(%subscription_id, %recovery_id, %error, "the recovery page failed");
                Disposition::Nack
            })
            .into()
    }

    async fn page(
        &self,
        subscription_id: &SubscriptionId,
        recovery_id: &RecoveryId,
        page: Option<u32>,
    ) -> Result<Disposition, StoreError> {
        let found = self.recoveries.recovery(subscription_id, recovery_id).await?;
        let Some(recovery) = found.filter(Recovery::is_running) else {
            return Ok(Disposition::Ack);
        };
        match page {
            Some(page) if page < recovery.page => return Ok(Disposition::Ack),
            Some(page) if page > recovery.page => return Ok(Disposition::RetryAfter(EARLY_WAIT)),
            _ => {}
        }
        let consistency = Consistency::Strong;
        let subscription =
            self.subscriptions.get(&recovery.user_id, subscription_id, consistency).await?;
        match subscription.filter(|subscription| subscription.is_active) {
            Some(subscription) => self.next_page(recovery, &subscription).await,
            None => self.end_recovery(recovery, RecoveryStatus::Cancelled).await,
        }
    }

    async fn next_page(
        &self,
        mut recovery: Recovery,
        subscription: &Subscription,
    ) -> Result<Disposition, StoreError> {
        let now = self.clock.now();
        let number = recovery.page;
        if let BreakerState::Open(until) = subscription.health.state(now) {
            // What is sent to an endpoint that is down would use up its attempts there.
            let wait = now.until(until).min(Duration::from_secs(QUEUE_WAIT_MAX_SECONDS));
            recovery.wait(now.plus(wait), now);
            self.recoveries.put_recovery(&recovery, number).await?;
            return Ok(self.send_page(&recovery, number, whole_seconds(wait)).await);
        }
        let selection = &recovery.selection;
        let filter = DeliveryFilter {
            status: Some(selection.status),
            since: Some(selection.since),
            until: Some(selection.until),
            ..DeliveryFilter::default()
        };
        let limit = page_size(subscription).min(self.recovery_page);
        let after = recovery.position.as_ref();
        let found =
            self.recoveries.oldest(&recovery.subscription_id, &filter, limit, after, now).await?;
        let tasks: Vec<Outgoing> = found
            .items
            .iter()
            .filter(|delivery| selection.selects(delivery))
            .enumerate()
            .map(|(n, delivery)| recovery.task(delivery).starting_at(start_of(n, limit, now)))
            .collect();
        if !send_tasks(self.slow_queue.as_ref(), &tasks).await.is_empty() {
            // The page is sent again: its redeliveries have the same ids then.
            return Ok(Disposition::Nack);
        }
        let sent = u64::try_from(tasks.len()).expect("a page is small");
        let Some(position) = found.next else {
            recovery.sent += sent;
            return self.end_recovery(recovery, RecoveryStatus::Done).await;
        };
        if self.send_page(&recovery, number + 1, PAGE_WAIT).await != Disposition::Ack {
            return Ok(Disposition::Nack);
        }
        recovery.advance(sent, position, self.clock.now());
        // On a conflict another message of this page was faster, or the owner has cancelled.
        self.recoveries.put_recovery(&recovery, number).await?;
        Ok(Disposition::Ack)
    }

    /// Sends the message of the first page. Without it, the retry function sends one later.
    pub(crate) async fn begin_recovery(&self, recovery: &Recovery) {
        tracing::info!(
            subscription_id = %recovery.subscription_id,
            recovery_id = %recovery.id,
            "the recovery of an outage begins"
        );
        self.send_page(recovery, 0, Duration::ZERO).await;
    }

    async fn send_page(&self, recovery: &Recovery, page: u32, delay: Duration) -> Disposition {
        let task = recovery.page_task(page, delay);
        let refused = send_tasks(self.slow_queue.as_ref(), &[task]).await;
        if refused.is_empty() { Disposition::Ack } else { Disposition::Nack }
    }

    async fn end_recovery(
        &self,
        mut recovery: Recovery,
        status: RecoveryStatus,
    ) -> Result<Disposition, StoreError> {
        recovery.end(status, self.clock.now());
        self.recoveries.put_recovery(&recovery, recovery.page).await?;
        tracing::info!(
            subscription_id = %recovery.subscription_id,
            recovery_id = %recovery.id,
            status = status.as_str(),
            sent = recovery.sent,
            "recovery ended"
        );
        Ok(Disposition::Ack)
    }
}

/// When the attempt of the `n`th task of a page of this size begins: in order. The first one waits, so that
/// all have arrived.
fn start_of(n: usize, size: usize, now: Timestamp) -> Timestamp {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    let size = u32::try_from(size.max(1)).unwrap_or(u32::MAX);
    now.plus(FIRST_START + SPREAD.saturating_mul(n) / size)
}

/// SQS delays messages by whole seconds.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(u64::try_from(wait.as_millis().div_ceil(1000)).expect("a wait is short"))
}
