//! The queues in memory. They only record: a test or a simulator decides what is received.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use webhooks_core::delivery::DeliveryTask;
use webhooks_core::limits::{QUEUE_BATCH_BYTES, QUEUE_BATCH_ENTRIES};
use webhooks_core::operational::OperationalEvent;
use webhooks_core::ports::{
    DeadLetterQueue, EventBus, EventBusError, Outgoing, QueueError, RejectedEvent, TaskQueue,
};

use crate::lock;

/// The longest delay of a message (AWS quota).
const DELAY_MAX: Duration = Duration::from_mins(15);
/// A visibility timeout must be shorter (AWS quota).
const VISIBILITY_TIMEOUT_END: Duration = Duration::from_hours(12);

/// The deliveries queue in memory; a clone sees the same messages. It keeps to the limits of the
/// real one.
#[derive(Clone, Debug, Default)]
pub struct MemoryTaskQueue(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    sent: Vec<Outgoing>,
    batches: usize,
    visibility_changes: Vec<(String, Duration)>,
    refuse_next: Vec<usize>,
    refuse_all: bool,
}

impl MemoryTaskQueue {
    /// What was sent and not taken yet, in order.
    pub fn sent(&self) -> Vec<Outgoing> {
        lock(&self.0).sent.clone()
    }

    /// Takes everything that was sent, in order.
    pub fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut lock(&self.0).sent)
    }

    /// Takes everything that was sent, in order, whatever its delay; each delivery by itself.
    pub fn take_tasks(&self) -> Vec<DeliveryTask> {
        self.take().into_iter().flat_map(|outgoing| outgoing.task.split()).collect()
    }

    /// How many requests to send there were.
    pub fn batches(&self) -> usize {
        lock(&self.0).batches
    }

    /// Takes the visibility timeouts that were set, each with its receipt handle, in order.
    pub fn take_visibility_changes(&self) -> Vec<(String, Duration)> {
        std::mem::take(&mut lock(&self.0).visibility_changes)
    }

    /// Takes nothing from now on.
    pub fn refuse_all(&self) {
        lock(&self.0).refuse_all = true;
    }

    /// Takes everything again.
    pub fn accept_all(&self) {
        lock(&self.0).refuse_all = false;
    }

    /// Does not take these entries of the next request to send.
    pub fn refuse_next(&self, indexes: &[usize]) {
        lock(&self.0).refuse_next = indexes.to_vec();
    }
}

#[async_trait]
impl TaskQueue for MemoryTaskQueue {
    async fn send(&self, tasks: &[Outgoing]) -> Result<Vec<usize>, QueueError> {
        check(tasks)?;
        let mut state = lock(&self.0);
        state.batches += 1;
        if state.refuse_all {
            return Ok((0..tasks.len()).collect());
        }
        let mut refused = std::mem::take(&mut state.refuse_next);
        refused.retain(|index| *index < tasks.len());
        let taken = tasks.iter().enumerate().filter(|(index, _)| !refused.contains(index));
        state.sent.extend(taken.map(|(_, outgoing)| outgoing.clone()));
        Ok(refused)
    }

    async fn change_visibility(&self, messages: &[(String, Duration)]) -> Result<(), QueueError> {
        let too_long = messages.iter().find(|(_, timeout)| *timeout >= VISIBILITY_TIMEOUT_END);
        if let Some((_, timeout)) = too_long {
            let error = format!("{timeout:?} is too long a visibility timeout");
            return Err(QueueError::Rejected(error.into()));
        }
        lock(&self.0).visibility_changes.extend_from_slice(messages);
        Ok(())
    }
}

fn check(tasks: &[Outgoing]) -> Result<(), QueueError> {
    if tasks.len() > QUEUE_BATCH_ENTRIES {
        let error = format!("{} entries are too many", tasks.len());
        return Err(QueueError::Rejected(error.into()));
    }
    let mut bytes = 0;
    for outgoing in tasks {
        if outgoing.delay > DELAY_MAX {
            let error = format!("{:?} is too long a delay", outgoing.delay);
            return Err(QueueError::Rejected(error.into()));
        }
        bytes += outgoing.task.to_json()?.len();
    }
    if bytes > QUEUE_BATCH_BYTES {
        return Err(QueueError::Rejected(format!("{bytes} bytes are too many").into()));
    }
    Ok(())
}

/// The dead-letter queue in memory; a clone sees the same events.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeadLetterQueue(Arc<Mutex<Vec<RejectedEvent>>>);

impl MemoryDeadLetterQueue {
    /// What was sent and not taken yet, in order.
    pub fn events(&self) -> Vec<RejectedEvent> {
        lock(&self.0).clone()
    }

    /// Takes everything that was sent, in order.
    pub fn take(&self) -> Vec<RejectedEvent> {
        std::mem::take(&mut lock(&self.0))
    }
}

#[async_trait]
impl DeadLetterQueue for MemoryDeadLetterQueue {
    async fn send(&self, event: &RejectedEvent) -> Result<(), QueueError> {
        lock(&self.0).push(event.clone());
        Ok(())
    }
}

/// The operator's event bus in memory; a clone sees the same events.
#[derive(Clone, Debug, Default)]
pub struct MemoryEventBus {
    events: Arc<Mutex<Vec<OperationalEvent>>>,
    is_down: Arc<AtomicBool>,
}

impl MemoryEventBus {
    /// Takes everything that was put on it, in order.
    pub fn take(&self) -> Vec<OperationalEvent> {
        std::mem::take(&mut lock(&self.events))
    }

    /// Has every request fail from now on.
    pub fn go_down(&self) {
        self.is_down.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl EventBus for MemoryEventBus {
    async fn put(&self, events: &[OperationalEvent]) -> Result<usize, EventBusError> {
        if self.is_down.load(Ordering::Relaxed) {
            return Err(EventBusError("the bus is down".into()));
        }
        lock(&self.events).extend(events.iter().cloned());
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn outgoing(n: u64, delay: u64) -> Outgoing {
        let subscription = sample::subscription("u", 1);
        let task = Outgoing::first_attempt(sample::new_delivery(&subscription, n));
        Outgoing { delay: Duration::from_secs(delay), ..task }
    }

    #[tokio::test]
    async fn memory_queue_refuses_what_sqs_refuses() {
        let queue = MemoryTaskQueue::default();
        let eleven: Vec<Outgoing> = (0..11).map(|n| outgoing(n, 0)).collect();
        let mut large = outgoing(1, 0);
        if let DeliveryTask::FirstAttempt(new) = &mut large.task {
            new.data = sample::data(&format!(r#"{{"k":"{}"}}"#, "x".repeat(250_000)));
        }
        assert!(queue.send(&eleven).await.is_err());
        assert!(queue.send(&[outgoing(1, 901)]).await.is_err());
        assert!(queue.send(&vec![large; 5]).await.is_err());
        assert!(queue.send(&[outgoing(1, 900)]).await.is_ok());
        let longest = VISIBILITY_TIMEOUT_END.saturating_sub(Duration::from_secs(1));
        assert!(
            queue.change_visibility(&[("r1".to_owned(), VISIBILITY_TIMEOUT_END)]).await.is_err()
        );
        assert!(queue.change_visibility(&[("r1".to_owned(), longest)]).await.is_ok());
        assert_eq!(queue.take_visibility_changes(), [("r1".to_owned(), longest)]);
        assert_eq!(queue.take_tasks().len(), 1);
    }
}
