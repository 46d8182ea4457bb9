//! How messages are divided into requests.

use std::ops::Range;

use webhooks_core::limits::{QUEUE_BATCH_BYTES, QUEUE_BATCH_ENTRIES};

/// Divides messages of these sizes, in bytes, into consecutive batches.
///
/// A batch holds at most [`QUEUE_BATCH_ENTRIES`] messages and [`QUEUE_BATCH_BYTES`] in total. A
/// message that is too large by itself gets a batch of its own, which the queue will refuse; an
/// event that was checked is never that large.
pub(crate) fn batches(sizes: &[usize]) -> Vec<Range<usize>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_batch_is_full_at_ten_entries_or_one_mebibyte() {
        let lengths =
            |sizes: &[usize]| batches(sizes).iter().map(ExactSizeIterator::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[1; 10]), [10]);
        assert_eq!(lengths(&[1; 21]), [10, 10, 1]);
        let half = QUEUE_BATCH_BYTES / 2;
        assert_eq!(lengths(&[half, half]), [2]);
        assert_eq!(lengths(&[half, half, 1]), [2, 1]);
        assert_eq!(lengths(&[half, half + 1]), [1, 1]);
        assert_eq!(lengths(&[QUEUE_BATCH_BYTES + 1, 1]), [1, 1]);
    }

    proptest! {
        #[test]
        fn every_message_is_in_one_batch_and_no_batch_is_too_large(
            sizes in prop::collection::vec(1..=QUEUE_BATCH_BYTES, 0..60),
        ) {
            let batches = batches(&sizes);
            let all: Vec<usize> = batches.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
            for batch in &batches {
                prop_assert!((1..=QUEUE_BATCH_ENTRIES).contains(&batch.len()));
                prop_assert!(sizes[batch.clone()].iter().sum::<usize>() <= QUEUE_BATCH_BYTES);
            }
        }

        #[test]
        fn no_batch_could_have_taken_the_next_message(
            sizes in prop::collection::vec(1..=QUEUE_BATCH_BYTES, 0..60),
        ) {
            for batch in batches(&sizes) {
                let with_next = sizes.get(batch.start..=batch.end);
                prop_assert!(
                    batch.len() == QUEUE_BATCH_ENTRIES
                        || with_next.is_none_or(|s| s.iter().sum::<usize>() > QUEUE_BATCH_BYTES)
                );
            }
        }
    }
}
