//! The queues of the service and their event source mappings, as `template.yaml` deploys them.

use std::sync::LazyLock;
use std::time::Duration;

use local_sqs::{Sqs, SqsError};
use serde_json::Value;

use crate::template::Template;

/// The region of the local system, in ARNs and clients.
pub const REGION: &str = "us-east-1";
/// A queue that a function reads, and its dead-letter queue.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// The queue's name.
    pub name: &'static str,
    /// Its dead-letter queue's name.
    pub dead_letter_queue: &'static str,
    /// How long both queues keep a message, in seconds.
    pub retention_seconds: u64,
    /// How long a receive waits for a message unless it names a time itself, in seconds.
    pub receive_wait_seconds: u64,
    /// The visibility timeout in seconds.
    pub visibility_seconds: u64,
    /// The number of receives after which a message moves to the dead-letter queue.
    pub max_receives: u64,
    /// The timeout of the function.
    pub function_timeout: Duration,
    /// The most messages of a batch.
    pub batch_size: i32,
    /// The most batches that are handled concurrently.
    pub concurrency: usize,
}

/// Where events are published.
pub static EVENTS: LazyLock<Queue> =
    LazyLock::new(|| Queue::deployed("EventsQueue", "webhook-events", "webhook-events-dlq"));
/// The deliveries at endpoints that are known to respond quickly.
pub static DELIVERIES: LazyLock<Queue> = LazyLock::new(|| {
    Queue::deployed("DeliveriesQueue", "webhook-deliveries", "webhook-deliveries-dlq")
});
/// All other deliveries.
pub static SLOW_DELIVERIES: LazyLock<Queue> = LazyLock::new(|| {
    Queue::deployed("DeliveriesSlowQueue", "webhook-deliveries-slow", "webhook-deliveries-dlq")
});

impl Queue {
    /// The queue of a resource of the template.
    fn deployed(resource: &str, name: &'static str, dead_letter_queue: &'static str) -> Self {
        let template = Template::deployed();
        let triggers = template.triggers();
        let trigger = triggers.iter().find(|trigger| trigger.queue == resource);
        let trigger =
            trigger.expect("a test starts the system with the template that is compiled in");
        let mut functions = template.functions();
        let function = functions.find(|(folder, _)| *folder == trigger.function);
        let (_, function) = function.expect("a trigger is a part of its function");
        let queue = template.properties(resource);
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        Self {
            name,
            dead_letter_queue,
            retention_seconds: number(&queue["MessageRetentionPeriod"]),
            receive_wait_seconds: number(&queue["ReceiveMessageWaitTimeSeconds"]),
            visibility_seconds: number(&queue["VisibilityTimeout"]),
            max_receives: number(&queue["RedrivePolicy"]["maxReceiveCount"]),
            function_timeout: Duration::from_secs(number(&function["Timeout"])),
            batch_size: trigger.batch_size,
            concurrency: trigger.concurrency,
        }
    }
}

/// Creates the queues; existing messages stay. Messages that a killed process was handling become
/// visible immediately instead of at the end of their visibility timeout.
pub fn create(sqs: &Sqs, queues: &[Queue]) -> Result<(), SqsError> {
    for queue in queues {
        let retention = queue.retention_seconds.to_string();
        sqs.ensure_queue(queue.dead_letter_queue, &[("MessageRetentionPeriod", &retention)])?;
        let redrive = serde_json::json!({
            "deadLetterTargetArn": sqs.queue_arn(queue.dead_letter_queue),
            "maxReceiveCount": queue.max_receives,
        });
        sqs.ensure_queue(
            queue.name,
            &[
                ("VisibilityTimeout", &queue.visibility_seconds.to_string()),
                ("MessageRetentionPeriod", &retention),
                ("ReceiveMessageWaitTimeSeconds", &queue.receive_wait_seconds.to_string()),
                ("RedrivePolicy", &redrive.to_string()),
            ],
        )?;
        sqs.release(queue.name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_have_the_values_of_the_template() {
        let Queue { visibility_seconds, max_receives, batch_size, concurrency, .. } = *EVENTS;
        assert_eq!((visibility_seconds, max_receives), (180, 200));
        assert_eq!((batch_size, concurrency), (10, 20));
        let sqs = Sqs::new(std::sync::Arc::new(local_sqs::SystemClock), REGION);
        create(&sqs, &[*EVENTS]).unwrap();
        let attributes = sqs.attributes(EVENTS.name).unwrap();
        assert_eq!(attributes["MessageRetentionPeriod"], "1209600");
        assert_eq!(attributes["ReceiveMessageWaitTimeSeconds"], "20");
        assert_eq!(attributes["VisibilityTimeout"], "180");
    }
}
