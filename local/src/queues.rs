//! The queues of the service and their event source mappings, equal to those of `template.yaml`.

use std::time::Duration;

use local_sqs::{Sqs, SqsError};

/// The region of the local system, in ARNs and clients.
pub const REGION: &str = "us-east-1";
/// How long a queue keeps a message: 14 days, the longest SQS allows.
const RETENTION_SECONDS: &str = "1209600";
/// How long a receive waits for a message unless it names a time itself.
const LONG_POLL_SECONDS: &str = "20";

/// A queue that a function reads, and its dead-letter queue.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// The queue's name.
    pub name: &'static str,
    /// Its dead-letter queue's name.
    pub dead_letter_queue: &'static str,
    /// The visibility timeout in seconds: six times the function's timeout, as AWS advises.
    pub visibility_seconds: u32,
    /// The number of receives after which a message moves to the dead-letter queue.
    pub max_receives: u32,
    /// The timeout of the function.
    pub function_timeout: Duration,
    /// The most messages of a batch.
    pub batch_size: i32,
    /// The most batches that are handled concurrently.
    pub concurrency: usize,
}

/// Where events are published.
pub const EVENTS: Queue = Queue {
    name: "webhook-events",
    dead_letter_queue: "webhook-events-dlq",
    visibility_seconds: 180,
    max_receives: 200,
    function_timeout: Duration::from_secs(30),
    batch_size: 10,
    concurrency: 20,
};

/// The deliveries at endpoints that are known to answer quickly. Each wait counts as a receive, so it allows many.
pub const DELIVERIES: Queue = Queue {
    name: "webhook-deliveries",
    dead_letter_queue: "webhook-deliveries-dlq",
    visibility_seconds: 540,
    max_receives: 50,
    function_timeout: Duration::from_secs(90),
    batch_size: 10,
    concurrency: 400,
};

/// All other deliveries.
pub const SLOW_DELIVERIES: Queue =
    Queue { name: "webhook-deliveries-slow", concurrency: 200, ..DELIVERIES };

/// Creates the queues; existing messages stay. Messages that a killed process was handling become
/// visible immediately instead of at the end of their visibility timeout.
pub fn create(sqs: &Sqs, queues: &[Queue]) -> Result<(), SqsError> {
    for queue in queues {
        sqs.ensure_queue(
            queue.dead_letter_queue,
            &[("MessageRetentionPeriod", RETENTION_SECONDS)],
        )?;
        let redrive = serde_json::json!({
            "deadLetterTargetArn": sqs.queue_arn(queue.dead_letter_queue),
            "maxReceiveCount": queue.max_receives,
        });
        sqs.ensure_queue(
            queue.name,
            &[
                ("VisibilityTimeout", &queue.visibility_seconds.to_string()),
                ("MessageRetentionPeriod", RETENTION_SECONDS),
                ("ReceiveMessageWaitTimeSeconds", LONG_POLL_SECONDS),
                ("RedrivePolicy", &redrive.to_string()),
            ],
        )?;
        sqs.release(queue.name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::template::{Template, target};

    use super::*;

    #[test]
    fn queues_are_those_of_the_template() {
        let template = Template::deployed();
        let sqs = Sqs::new(std::sync::Arc::new(local_sqs::SystemClock), REGION);
        create(&sqs, &[EVENTS, DELIVERIES, SLOW_DELIVERIES]).unwrap();
        let triggers = template.triggers();
        assert_eq!(triggers.len(), 3);
        for trigger in triggers {
            let queue = match trigger.queue.as_str() {
                "EventsQueue" => EVENTS,
                "DeliveriesQueue" => DELIVERIES,
                "DeliveriesSlowQueue" => SLOW_DELIVERIES,
                other => panic!("{other} is not known here"),
            };
            let deployed = template.properties(&trigger.queue);
            let redrive = &deployed["RedrivePolicy"];
            assert_eq!(redrive["maxReceiveCount"], queue.max_receives);
            let (dlq, _) = target(&redrive["deadLetterTargetArn"]).unwrap();
            for (name, deployed) in
                [(queue.name, deployed), (queue.dead_letter_queue, template.properties(dlq))]
            {
                let local = sqs.attributes(name).unwrap();
                let default = local_sqs::default_attributes();
                for attribute in [
                    "DelaySeconds",
                    "MaximumMessageSize",
                    "MessageRetentionPeriod",
                    "ReceiveMessageWaitTimeSeconds",
                    "VisibilityTimeout",
                ] {
                    let expected = deployed.get(attribute).map(ToString::to_string);
                    let expected = expected.unwrap_or_else(|| default[attribute].clone());
                    assert_eq!(local[attribute], expected, "{name} {attribute}");
                }
            }
            assert_eq!(trigger.batch_size, u64::try_from(queue.batch_size).unwrap());
            assert_eq!(trigger.concurrency, queue.concurrency as u64);
            let (_, function) = template.functions().find(|(f, _)| *f == trigger.function).unwrap();
            assert_eq!(function["Timeout"], queue.function_timeout.as_secs());
        }
    }
}
