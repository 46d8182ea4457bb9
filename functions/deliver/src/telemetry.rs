//! The log lines and metrics of deliveries.

use aws_lambda_events::sqs::SqsEvent;
use webhooks_core::delivery::{Delivery, Status, Trigger};
use webhooks_core::outbound::Outcome;
use webhooks_core::ports::{DeliveryWrite, Expect, StoreError};
use webhooks_core::time::Timestamp;

use crate::disposition::{Disposition, Handled};

/// What the write of a record adds to the metrics; nothing when it was not written.
#[derive(Default)]
pub(crate) struct Measured {
    begun: Option<u64>,
    succeeded: Option<u64>,
    failed: Option<u64>,
    parked: Option<u64>,
}

impl Measured {
    pub(crate) fn new(
        delivery: &Delivery,
        expect: Expect,
        disposition: Disposition,
        written: &Result<DeliveryWrite, StoreError>,
    ) -> Self {
        if !matches!(written, Ok(DeliveryWrite::Applied)) {
            return Self::default();
        }
        let is_event = delivery.trigger == Trigger::Event;
        let one_if = |condition: bool| condition.then_some(1);
        Self {
            begun: one_if(is_event && expect == Expect::Absent),
            succeeded: one_if(delivery.status == Status::Success),
            failed: one_if(delivery.status == Status::Failed),
            parked: one_if(delivery.status == Status::Retrying && disposition == Disposition::Ack),
        }
    }
}

/// One line for a batch with tasks that could not be handled; why has been logged for each. To be
/// received for a retry is no failure.
pub(crate) fn log_failed_tasks(batch: &SqsEvent, handled: &[Handled]) {
    let tasks = batch.records.iter().zip(handled);
    let failed: Vec<u64> = tasks
        .filter(|(_, handled)| handled.disposition == Disposition::Nack)
        .map(|(record, _)| {
            let receives = record.attributes.get("ApproximateReceiveCount");
            receives.and_then(|count| count.parse().ok()).unwrap_or(1)
        })
        .collect();
    if let Some(receives) = failed.iter().max() {
        tracing::error!(
            metric.tasks_failed = failed.len(),
            metric.failed_task_receives = *receives,
            "tasks failed"
        );
    }
}

/// One line for each attempt, without body, secret or address.
pub(crate) fn log_attempt(
    delivery: &Delivery,
    outcome: &Outcome,
    began: Timestamp,
    measured: &Measured,
) {
    let (status, failure) = match outcome {
        Outcome::Response { status, .. } => (Some(*status), None),
        Outcome::NoResponse { failure, .. } => (None, Some(failure.as_str())),
    };
    let is_first = delivery.attempt_count() == 1 && delivery.trigger == Trigger::Event;
    let latency = delivery.created_at().until(began).as_millis();
    tracing::info!(
        metric.attempts = 1,
        metric.deliveries_begun = measured.begun,
        metric.deliveries_succeeded = measured.succeeded,
        metric.deliveries_failed = measured.failed,
        metric.retries_parked = measured.parked,
        metric.first_attempt_latency_ms = is_first.then(|| u64::try_from(latency).ok()).flatten(),
        delivery_id = %delivery.id,
        event_id = %delivery.event_id,
        subscription_id = %delivery.subscription_id,
        event_type = %delivery.event_type,
        attempt = delivery.attempt_count(),
        response_status = status,
        failure,
        duration_ms = delivery.attempts.last().map(|attempt| attempt.duration_ms),
        delivery_status = %delivery.status,
        "delivery attempt ended"
    );
}

/// One line for each delivery that was put off or ended without an attempt.
pub(crate) fn log_unsent(delivery: &Delivery, measured: &Measured) {
    tracing::info!(
        metric.deliveries_begun = measured.begun,
        metric.deliveries_failed = measured.failed,
        metric.retries_parked = measured.parked,
        delivery_id = %delivery.id,
        event_id = %delivery.event_id,
        subscription_id = %delivery.subscription_id,
        event_type = %delivery.event_type,
        delivery_status = %delivery.status,
        "delivery put off or ended without an attempt"
    );
}
