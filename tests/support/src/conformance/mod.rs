//! The suites that every implementation of a store must pass. Each rule is one sentence of the
//! traits' documentation, or what follows from it.
//!
//! A suite wants a table that is empty at the start and that nothing else writes to. Each rule
//! uses subscriptions of its own, so that rules do not meet each other's rows; the lists that go
//! over everything (`scan_keys`, `due`) are looked at only for the rows of the rule. Rows are left
//! behind.
//!
//! Reads are expected to see every write, also where [`Consistency`] allows less: the suites run
//! on stores without replicas.
//!
//! [`Consistency`]: webhooks_core::ports::Consistency

mod cleanup;
mod due;
mod history;
mod leases;
mod records;
mod recoveries;
mod slots;
mod statistics;
mod subscription_lists;
mod subscription_rows;

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use webhooks_core::ports::{DeliveriesTable, Page, StoreError, Subscriptions};

use crate::ManualClock;

/// A rule's name, and its test, which panics where the rule is broken.
pub type Rule<'a> = (&'static str, LocalBoxFuture<'a, ()>);

/// Lists the functions that test a store as rules of their own names.
macro_rules! rules {
    ($store:expr; $($rule:ident),+ $(,)?) => {
        vec![$((stringify!($rule), futures::FutureExt::boxed_local($rule($store)))),+]
    };
}
use rules;

/// The rules of the Subscriptions table, each to be run once, one after the other.
pub fn subscription_rules(store: &dyn Subscriptions) -> Vec<Rule<'_>> {
    let mut rules = subscription_rows::rules(store);
    rules.extend(subscription_lists::rules(store));
    rules
}

/// The rules of the Deliveries table, each to be run once, one after the other.
///
/// `clock` must be the one that `store` asks for the time; [`crate::sample::start`] is its time
/// whenever a rule begins.
pub fn delivery_rules<'a>(store: &'a dyn DeliveriesTable, clock: &'a ManualClock) -> Vec<Rule<'a>> {
    let mut rules = records::rules(store);
    rules.push(("expired_record_does_not_exist", records::expiry(store, clock).boxed_local()));
    rules.extend(leases::rules(store));
    rules.extend(history::rules(store));
    rules.extend(due::rules(store));
    rules.extend(slots::rules(store));
    rules.extend(statistics::rules(store));
    rules.extend(cleanup::rules(store));
    rules.extend(recoveries::rules(store));
    let from_the_start = |(name, rule): Rule<'a>| {
        let rule = async move {
            clock.set(crate::sample::start());
            rule.await;
        };
        (name, rule.boxed_local())
    };
    rules.into_iter().map(from_the_start).collect()
}

/// Tests every rule of the Subscriptions table on an empty store, and panics with the names of
/// those that are broken.
pub async fn subscriptions(store: &dyn Subscriptions) {
    check(subscription_rules(store)).await;
}

/// Tests every rule of the Deliveries table on an empty store, whose clock is `clock`, and panics
/// with the names of those that are broken.
pub async fn deliveries(store: &dyn DeliveriesTable, clock: &ManualClock) {
    check(delivery_rules(store, clock)).await;
}

async fn check(rules: Vec<Rule<'_>>) {
    let mut broken = Vec::new();
    for (name, rule) in rules {
        // What the rule found wrong was printed when it panicked.
        if AssertUnwindSafe(rule).catch_unwind().await.is_err() {
            broken.push(name);
        }
    }
    assert!(broken.is_empty(), "broken rules: {}", broken.join(", "));
}

/// The result of a store; an error breaks the rule.
#[track_caller]
fn ok<T>(result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| panic!("the store failed: {error}"))
}

/// More pages than any rule has rows: a longer list repeats itself.
const PAGES_MAX: usize = 2_000;

/// The rows of all pages. `page` is asked for each, with the position after the one before.
async fn all_pages<T, P>(
    limit: usize,
    mut page: impl AsyncFnMut(Option<P>) -> Result<Page<T, P>, StoreError>,
) -> Vec<T> {
    let mut rows = Vec::new();
    let mut position = None;
    for _ in 0..PAGES_MAX {
        let Page { items, next } = ok(page(position).await);
        assert!(items.len() <= limit, "{} rows on a page of at most {limit}", items.len());
        rows.extend(items);
        if next.is_none() {
            return rows;
        }
        position = next;
    }
    panic!("the list does not end");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{MemoryDeliveries, MemorySubscriptions};

    #[tokio::test]
    async fn subscriptions_in_memory_keep_every_rule() {
        subscriptions(&MemorySubscriptions::default()).await;
    }

    #[tokio::test]
    async fn deliveries_in_memory_keep_every_rule() {
        let clock = ManualClock::default();
        deliveries(&MemoryDeliveries::new(Arc::new(clock.clone())), &clock).await;
    }
}
