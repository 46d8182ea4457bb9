//! What others are promised beside a user who does their worst.
//!
//! These rules hold in fault-free runs, where only the abusive user's endpoints are slow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use webhooks_core::breaker::SLOW_SECONDS;
use webhooks_core::delivery_queue::DeliveryQueue;
use webhooks_core::host_health::{HOST_OPEN_AFTER_WEBHOOKS, HostId};
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::limits::FAST_TASKS_PER_PERIOD;
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::functions::HOST_CONCURRENCY;
use crate::harness::Function;
use crate::milestones::Milestone;
use crate::model::{Model, Sent, lagging};
use crate::rules::Rule;

/// The most tasks of one owner that may be in flight in the fast queue: a burst spans two periods.
const FAST_IN_FLIGHT: usize = 2 * FAST_TASKS_PER_PERIOD;
/// How long after its acceptance an event may reach a quick endpoint.
const LATE: Duration = Duration::from_secs(10);
/// How long after an attempt became slow its endpoint counts as slow.
const MARKED_LATE: Duration = Duration::from_secs(1);
/// Retries at a host that fails, besides one for each webhook and one for each probe.
const RETRIES_MOST: u64 = 20;
/// The least time between two probes.
const PROBES_SECONDS: u64 = 30;

/// What the endpoints of one owner at one host did since the last success.
#[derive(Default)]
pub(super) struct HostFailures {
    webhooks: BTreeSet<SubscriptionId>,
    since: Option<Timestamp>,
    retries: u64,
}

/// A POST as these rules see it.
pub(super) struct Attempt<'a> {
    pub(super) subscription: &'a SubscriptionId,
    pub(super) event: &'a str,
    pub(super) number: u32,
    pub(super) url: &'a str,
}

impl Model {
    /// A call of deliver handles a batch of the slow or the fast queue, with tasks of these
    /// subscriptions.
    pub(crate) fn delivers(&mut self, number: u64, is_slow: bool, tasks: &[SubscriptionId]) {
        if is_slow {
            self.slow_calls.insert(number);
            return;
        }
        let owner = |id: &SubscriptionId| Some(self.subscriptions.get(id)?.user.clone());
        let owners = tasks.iter().filter_map(owner).collect();
        self.fast_calls.insert(number, owners);
        if !self.is_fault_free {
            return;
        }
        self.fast_calls.retain(|call, _| *call == number || self.calls.contains_key(call));
        let mut in_flight = BTreeMap::<&UserId, usize>::new();
        for owner in self.fast_calls.values().flatten() {
            *in_flight.entry(owner).or_default() += 1;
        }
        let most = in_flight.into_iter().max_by_key(|(_, tasks)| *tasks);
        if let Some((owner, tasks)) = most.filter(|(_, tasks)| *tasks > FAST_IN_FLIGHT) {
            let detail = format!("{tasks} tasks of {owner}");
            self.violate(Rule::FastBounded, || detail);
        }
    }

    /// The calls of deliver that are under way, by the queue of their batch: fast and slow.
    pub(crate) fn delivering(&self) -> (usize, usize) {
        let calls = self.calls.iter().filter(|(_, call)| call.function == Function::Deliver);
        let (slow, fast): (Vec<_>, Vec<_>) =
            calls.partition(|(number, _)| self.slow_calls.contains(number));
        (fast.len(), slow.len())
    }

    /// Holds a POST to what others are promised.
    pub(super) fn check_isolation(
        &mut self,
        attempt: &Attempt<'_>,
        invocation: u64,
        (from, now): (Timestamp, Timestamp),
    ) {
        if !self.is_fault_free {
            return;
        }
        let Attempt { subscription, event, number, url } = attempt;
        let is_fast = !self.slow_calls.contains(&invocation);
        let misplaced = |s: Option<&Subscription>| {
            s.is_some_and(|s| s.health.is_slow(now) && s.health.open_until.is_none())
        };
        if is_fast && !self.was(subscription, from, now, |s| !misplaced(s)) {
            self.violate(Rule::FastIsQuick, || format!("{subscription}, {url}"));
        }
        let owner = self.subscriptions.get(*subscription).map(|versions| versions.user.clone());
        let Some(owner) = owner else { return };
        let is_abuser = self.abuser.as_deref() == Some(owner.as_str());
        if is_abuser && *number > 1 {
            let failures = self.host_failures.entry((owner, HostId::of(url))).or_default();
            failures.retries += 1;
            let lasted = failures.since.map_or(0, |since| since.until(now).as_secs());
            let webhooks = failures.webhooks.len();
            let most = webhooks as u64 + RETRIES_MOST + lasted / PROBES_SECONDS;
            let retries = failures.retries;
            if webhooks > 2 * HOST_OPEN_AFTER_WEBHOOKS && retries > most {
                self.violate(Rule::HostOpens, || format!("{url}: {retries} retries"));
            }
            return;
        }
        if self.abuser.is_none() || is_abuser || *number > 1 {
            return;
        }
        let Some(accepted) = self.events.get(*event).map(|event| event.accepted) else { return };
        // It was quick when the event was accepted, and since, and its circuit breaker was closed.
        let is_quick = !self.was(subscription, lagging(accepted), now, |s| {
            s.is_none_or(|s| {
                !s.is_active
                    || s.health.open_until.is_some()
                    || DeliveryQueue::for_endpoint(s, accepted) == DeliveryQueue::Slow
            })
        });
        let is_redelivery = self.recoveries.contains_key(*subscription)
            || self.repeats.contains_key(&((*event).to_owned(), (*subscription).clone()));
        if !is_quick || is_redelivery {
            return;
        }
        self.reach(Milestone::Undisturbed);
        let waited = accepted.until(now);
        if waited > LATE {
            self.violate(Rule::OthersOnTime, || {
                format!("{event} to {subscription} after {waited:?}")
            });
        }
    }

    /// No call has more attempts under way at one host for one owner than it may.
    pub(super) fn check_host_concurrency(&mut self, invocation: u64, now: Timestamp) {
        let Some(call) = self.calls.get(&invocation) else { return };
        let Some(newest) = call.sent.last() else { return };
        let place = |sent: &Sent| (owner_of(self, &sent.subscription), HostId::of(&sent.url));
        let under_way = call.sent.iter().filter(|sent| now < sent.responded);
        let count = under_way.filter(|sent| place(sent) == place(newest)).count();
        if count >= HOST_CONCURRENCY {
            self.reach(Milestone::HostBusy);
        }
        if count > HOST_CONCURRENCY {
            self.violate(Rule::HostBounded, || format!("{count} attempts"));
        }
    }

    /// Whether a slow attempt was noticed while it went on, and what its response says of the host.
    pub(super) fn check_response(
        &mut self,
        subscription: &SubscriptionId,
        url: &str,
        is_2xx: bool,
        (began, now): (Timestamp, Timestamp),
    ) {
        let slow_at = began.plus_seconds(SLOW_SECONDS);
        let is_slow = now >= slow_at.plus(MARKED_LATE);
        // One that was moved meanwhile is not marked for its former endpoint.
        let is_marked = self.was(subscription, began, now, |s| {
            s.is_none_or(|s| s.health.is_slow(slow_at) || s.url.as_str() != url)
        });
        if self.is_fault_free && is_slow && !is_marked {
            self.violate(Rule::SlowIsMarked, || subscription.to_string());
        }
        let Some(owner) = owner_of(self, subscription) else { return };
        let failures = self.host_failures.entry((owner, HostId::of(url))).or_default();
        if is_2xx {
            *failures = HostFailures::default();
        } else {
            failures.webhooks.insert(subscription.clone());
            failures.since.get_or_insert(now);
        }
    }
}

fn owner_of(model: &Model, id: &SubscriptionId) -> Option<UserId> {
    model.subscriptions.get(id).map(|versions| versions.user.clone())
}
