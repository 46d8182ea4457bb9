//! The ports in memory. Each is a handle on shared state (a clone sees the same rows) and returns
//! the same for the same calls: rows are in ordered maps, and nothing waits.
//!
//! Reads always see every write, whatever consistency was asked for.

mod deliveries;
mod queues;
mod subscriptions;

pub use deliveries::{MemoryDeliveries, StoredDelivery};
pub use queues::{MemoryDeadLetterQueue, MemoryEventBus, MemoryTaskQueue};
pub use subscriptions::MemorySubscriptions;

use webhooks_core::ports::Page;

/// The first `limit` of `rows`; `position` names the last of them when more follow.
fn paged<T, P>(
    rows: impl Iterator<Item = T>,
    limit: usize,
    position: impl Fn(&T) -> P,
) -> Page<T, P> {
    let mut rows = rows.peekable();
    let items: Vec<T> = rows.by_ref().take(limit).collect();
    let next = rows.peek().and_then(|_| items.last().map(position));
    Page { items, next }
}
