//! Sends many tasks in as few requests as the queue's limits allow.

use std::ops::Range;

use futures::StreamExt as _;

use crate::delivery::{DeliveryTask, NewDelivery};
use crate::limits::{QUEUE_BATCH_BYTES, QUEUE_BATCH_ENTRIES};
use crate::ports::{Outgoing, TaskQueue};

/// How often a task that the queue did not take is sent again before the caller gets an error.
const TRIES: usize = 3;
/// Concurrent requests.
const CONCURRENT_REQUESTS: usize = 8;

/// Sends all, and returns the indexes of those that the queue did not take after
/// all tries, in ascending order.
pub async fn send_tasks(queue: &dyn TaskQueue, tasks: &[Outgoing]) -> Vec<usize> {
    let sizes: Vec<usize> = tasks.iter().map(|outgoing| size_at_most(&outgoing.task)).collect();
    let mut refused: Vec<usize> = futures::stream::iter(batches(&sizes))
        .map(|batch| send_batch(queue, tasks, batch))
        .buffer_unordered(CONCURRENT_REQUESTS)
        .collect::<Vec<_>>()
        .await
        .concat();
    refused.sort_unstable();
    refused
}

async fn send_batch(queue: &dyn TaskQueue, tasks: &[Outgoing], batch: Range<usize>) -> Vec<usize> {
    let mut left: Vec<usize> = batch.collect();
    for _ in 0..TRIES {
        let entries: Vec<Outgoing> = left.iter().map(|index| tasks[*index].clone()).collect();
        // A request that failed as a whole may have been carried out: sending twice is harmless,
        // because both messages name the same delivery.
        if let Ok(refused) = queue.send(&entries).await {
            left = refused.into_iter().filter_map(|at| left.get(at).copied()).collect();
        }
        if left.is_empty() {
            break;
        }
    }
    left
}

/// Cuts a row of sizes into runs of at most [`QUEUE_BATCH_ENTRIES`] entries and
/// [`QUEUE_BATCH_BYTES`] bytes. An entry that is too large by itself is alone.
pub fn batches(sizes: &[usize]) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, size) in sizes.iter().enumerate() {
        let full = index - start == QUEUE_BATCH_ENTRIES || bytes + size > QUEUE_BATCH_BYTES;
        if full && index > start {
            batches.push(start..index);
            start = index;
            bytes = 0;
        }
        bytes += size;
    }
    if start < sizes.len() {
        batches.push(start..sizes.len());
    }
    batches
}

/// At least as many bytes as the task has as a message.
fn size_at_most(task: &DeliveryTask) -> usize {
    const KEYS_AND_NAMES: usize = 400;
    // A character of an id takes at most six bytes as a JSON escape.
    const ID: usize = 40;
    let event = |new: &NewDelivery| {
        new.data.as_str().len() + 6 * (new.user_id.as_str().len() + new.event_id.as_str().len())
    };
    KEYS_AND_NAMES
        + match task {
            DeliveryTask::FirstAttempt(new) => event(new),
            DeliveryTask::FirstAttempts(all) => all.first().map_or(0, event) + ID * all.len(),
            DeliveryTask::Retry { .. } | DeliveryTask::RecoveryPage { .. } => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_hold_everything_once_and_keep_the_limits(
            sizes in proptest::collection::vec(0..QUEUE_BATCH_BYTES, 0..60),
        ) {
            let batches = batches(&sizes);
            let all: Vec<usize> = batches.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
            for batch in batches {
                prop_assert!(batch.len() <= QUEUE_BATCH_ENTRIES);
                prop_assert!(sizes[batch].iter().sum::<usize>() <= QUEUE_BATCH_BYTES);
            }
        }
    }

    #[test]
    fn small_tasks_share_requests() {
        assert_eq!(batches(&[1; 25]), [0..10, 10..20, 20..25]);
        assert_eq!(batches(&[QUEUE_BATCH_BYTES, 1]), [0..1, 1..2]);
        assert!(batches(&[]).is_empty());
    }
}
