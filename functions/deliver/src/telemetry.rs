//! The log lines and metrics of deliveries.

use aws_lambda_events::sqs::SqsMessage;
use webhooks_core::delivery::{Delivery, Status, Trigger};
use webhooks_core::outbound::Outcome;
use webhooks_core::ports::{DeliveryWrite, Expect, StoreError};
use webhooks_core::time::Timestamp;
use webhooks_core::traceparent::Traceparent;

use crate::disposition::{Disposition, Handled};

/// The metrics of a batch. One line has them all, because the names and units of metrics make a line
/// three times as long, and CloudWatch bills its bytes.
#[derive(Default)]
pub(crate) struct Metrics {
    attempts: u64,
    begun: u64,
    succeeded: u64,
    failed: u64,
    parked: u64,
    first_attempt_latencies: Vec<u64>,
}

impl Metrics {
    /// Counts an attempt.
    pub(crate) fn add_attempt(&mut self, delivery: &Delivery, began: Timestamp) {
        self.attempts += 1;
        if delivery.attempt_count() == 1 && delivery.trigger == Trigger::Event {
            let latency = delivery.created_at().until(began).as_millis();
            self.first_attempt_latencies.extend(u64::try_from(latency));
        }
    }

    /// Counts what the write of a record changes; nothing when it was not written.
    pub(crate) fn add_write(
        &mut self,
        delivery: &Delivery,
        expect: Expect,
        disposition: Disposition,
        written: &Result<DeliveryWrite, StoreError>,
    ) {
        if !matches!(written, Ok(DeliveryWrite::Applied)) {
            return;
        }
        let is_event = delivery.trigger == Trigger::Event;
        self.begun += u64::from(is_event && expect == Expect::Absent);
        match delivery.status {
            Status::Success => self.succeeded += 1,
            Status::Held => {}
            Status::Failed => self.failed += 1,
            Status::Retrying => self.parked += u64::from(disposition == Disposition::Ack),
        }
    }

    /// Writes the line, unless there is nothing to tell.
    pub(crate) fn log(&self) {
        let some = |count| (count > 0).then_some(count);
        let latencies = &self.first_attempt_latencies;
        if self.attempts + self.begun + self.failed + self.parked > 0 {
            tracing::info!(
                metric.attempts = some(self.attempts),
                metric.deliveries_begun = some(self.begun),
                metric.deliveries_succeeded = some(self.succeeded),
                metric.deliveries_failed = some(self.failed),
                metric.retries_parked = some(self.parked),
                metric.first_attempt_latency_ms =
                    (!latencies.is_empty()).then(|| tracing::field::debug(latencies)),
                "batch handled"
            );
        }
    }
}

/// One line for a batch with tasks that could not be handled; why has been logged for each. To be
/// received for a retry is no failure.
pub(crate) fn log_failed_tasks(handled: &[(&SqsMessage, Handled)]) {
    let failed: Vec<u32> = handled
        .iter()
        .filter(|(_, handled)| handled.disposition.is_failure())
        .map(|(message, _)| receives(message))
        .collect();
    if let Some(receives) = failed.iter().max() {
        tracing::error!(
            metric.tasks_failed = failed.len(),
            metric.failed_task_receives = *receives,
            "tasks failed"
        );
    }
}

/// How often a message was received, this time included.
pub(crate) fn receives(message: &SqsMessage) -> u32 {
    let count = message.attributes.get("ApproximateReceiveCount");
    count.and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// One line for each attempt, without body, secret or address. The line of a delivery that succeeds by
/// its first attempt has the level `debug`: the record says the same, and such lines cost more than the
/// delivery's requests.
pub(crate) fn log_attempt(delivery: &Delivery, outcome: &Outcome) {
    let (status, failure) = match outcome {
        Outcome::Response { status, .. } => (Some(*status), None),
        Outcome::NoResponse { failure, .. } => (None, Some(failure.as_str())),
    };
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                delivery_id = %delivery.id,
                event_id = %delivery.event_id,
                subscription_id = %delivery.subscription_id,
                event_type = %delivery.event_type,
                attempt = delivery.attempt_count(),
                response_status = status,
                failure,
                duration_ms = delivery.attempts.last().map(|attempt| attempt.duration_ms),
                delivery_status = %delivery.status,
                traceparent = delivery.traceparent.as_ref().map(Traceparent::as_str),
                "delivery attempt ended"
            )
        };
    }
    if delivery.status == Status::Success && delivery.attempt_count() == 1 {
        line!(debug);
    } else {
        line!(info);
    }
}

/// One line for each delivery that was postponed or ended without an attempt.
pub(crate) fn log_unsent(delivery: &Delivery) {
    tracing::info!(
        delivery_id = %delivery.id,
        event_id = %delivery.event_id,
        subscription_id = %delivery.subscription_id,
        event_type = %delivery.event_type,
        delivery_status = %delivery.status,
        traceparent = delivery.traceparent.as_ref().map(Traceparent::as_str),
        "delivery put off or ended without an attempt"
    );
}
