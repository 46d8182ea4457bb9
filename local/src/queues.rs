//! The queues of the service and how they are read, in one place.

use std::time::Duration;

use local_sqs::{Sqs, SqsError};

/// The region that all names and clients of the local system carry.
pub const REGION: &str = "us-east-1";
/// How long a queue keeps a message: 14 days, the longest SQS allows.
const RETENTION_SECONDS: &str = "1209600";

/// A queue that a function reads, and its dead-letter queue.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// The queue's name.
    pub name: &'static str,
    /// Its dead-letter queue's name.
    pub dead_letter_queue: &'static str,
    /// How long a received message stays hidden, in seconds: six times the function's timeout, as
    /// AWS advises.
    pub visibility_seconds: u32,
    /// After how many receives a message moves to the dead-letter queue.
    pub max_receives: u32,
    /// How long the function that reads it may take.
    pub function_timeout: Duration,
    /// Messages in one batch.
    pub batch_size: i32,
    /// Batches in the function's hands at once.
    pub concurrency: usize,
}

/// Where events are published.
pub const EVENTS: Queue = Queue {
    name: "webhook-events",
    dead_letter_queue: "webhook-events-dlq",
    visibility_seconds: 180,
    max_receives: 10,
    function_timeout: Duration::from_secs(30),
    batch_size: 10,
    concurrency: 20,
};

/// Where deliveries wait for their next attempt. A wait is a receive, so that there are many.
pub const DELIVERIES: Queue = Queue {
    name: "webhook-deliveries",
    dead_letter_queue: "webhook-deliveries-dlq",
    visibility_seconds: 540,
    max_receives: 50,
    function_timeout: Duration::from_secs(90),
    batch_size: 10,
    concurrency: 400,
};

/// Creates queues; messages that they hold already stay. What the functions of a process that was
/// killed had in their hands comes back at once, not only when its visibility runs out.
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
                ("RedrivePolicy", &redrive.to_string()),
            ],
        )?;
        sqs.release(queue.name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use deployment::Template;

    use super::*;

    #[test]
    fn they_are_read_as_the_deployed_ones_are() {
        let template = Template::deployed().unwrap();
        let triggers = template.triggers();
        assert_eq!(triggers.len(), 2);
        for trigger in triggers {
            let queue = match trigger.queue.as_str() {
                "EventsQueue" => EVENTS,
                "DeliveriesQueue" => DELIVERIES,
                other => panic!("{other} is not known here"),
            };
            let deployed = template.properties(&trigger.queue);
            assert_eq!(deployed["VisibilityTimeout"], queue.visibility_seconds);
            assert_eq!(deployed["RedrivePolicy"]["maxReceiveCount"], queue.max_receives);
            assert_eq!(deployed["MessageRetentionPeriod"].to_string(), RETENTION_SECONDS);
            assert_eq!(trigger.batch_size, u64::try_from(queue.batch_size).unwrap());
            assert_eq!(trigger.concurrency, queue.concurrency as u64);
            let (_, function) = template.functions().find(|(f, _)| *f == trigger.function).unwrap();
            assert_eq!(function["Timeout"], queue.function_timeout.as_secs());
        }
    }
}
