//! What the checker knows, and what it checks after every step.
//!
//! It sees what receivers see (every POST), the responses to publishers and users, and every version
//! that ever stood in a table. From the handlers it takes nothing.

mod abuse;
mod endpoints;
mod hosts;
mod posts;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use webhooks_core::breaker::SLOW_SECONDS;
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::host_health::{HostHealth, HostId};
use webhooks_core::ids::{DeliveryId, SubscriptionId, UserId};
use webhooks_core::outbound::{Failure, Outcome, RetryAfter};
use webhooks_core::statistics::Counts;
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::harness::Function;
use crate::milestones::{Milestone, Milestones};
use crate::model::abuse::HostFailures;
use crate::model::endpoints::Endpoint;
pub(crate) use crate::model::posts::Posted;
pub(crate) use crate::model::records::Put;
use crate::rules::{Rule, Violation};

/// An eventually consistent read misses at most the writes of this many milliseconds.
pub(crate) const LAG_MS: u64 = 1_000;

/// An event whose acceptance was confirmed to its publisher.
pub(crate) struct Published {
    pub(crate) owner: UserId,
    pub(crate) event_type: &'static str,
    data: String,
    pub(crate) accepted: Timestamp,
    /// When its message was first acknowledged.
    pub(crate) dispatched: Option<Timestamp>,
    /// What receivers got of it first.
    body: String,
}

/// A subscription, by every version that ever stood in the table.
pub(crate) struct Versions {
    pub(crate) user: UserId,
    pub(crate) all: Vec<(Timestamp, Option<Subscription>)>,
    /// Whether the counters may stay too low.
    pub(crate) may_miss_counts: bool,
    /// Whether the cleanup has taken old rows away.
    pub(crate) cleaned: bool,
    endpoint: Endpoint,
}

/// A delivery, as receivers and the table saw it.
pub(crate) struct Track {
    pub(crate) subscription: SubscriptionId,
    body: String,
    /// POSTs that were made, and those of them that no record can know of.
    pub(crate) posts: u32,
    pub(crate) unrecorded: u32,
    /// POSTs whose record the cleanup took away.
    pub(crate) cleaned: u32,
    ended: Option<Timestamp>,
    /// Attempts under way: the call that makes each, and its number.
    flying: Vec<(u64, u32)>,
    /// POSTs that got a 2xx response.
    pub(crate) got_2xx: u32,
    pub(crate) got_410: Option<(Timestamp, String)>,
    versions: Vec<(Timestamp, Delivery)>,
    /// Until when somebody has a lease on the record.
    leased_until: Option<Timestamp>,
    /// When the retry function last sent it again because its message was lost.
    sent_again: Option<Timestamp>,
}

/// What a receiver said.
#[derive(Clone, Copy, Debug)]
struct Said {
    status: Option<u16>,
    blocked: bool,
    retry_after: Option<RetryAfter>,
}

impl Said {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Response { status, retry_after, .. } => {
                Self { status: Some(*status), blocked: false, retry_after: *retry_after }
            }
            Outcome::NoResponse { failure, .. } => {
                Self { status: None, blocked: *failure == Failure::Blocked, retry_after: None }
            }
        }
    }

    fn is_2xx(self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    fn is_410(self) -> bool {
        self.status == Some(410)
    }
}

/// A POST whose record has not been written yet.
struct Sent {
    delivery: DeliveryId,
    subscription: SubscriptionId,
    url: String,
    said: Said,
    began: Timestamp,
    /// When the receiver had responded.
    responded: Timestamp,
}

impl Sent {
    fn failed_slowly(&self) -> bool {
        let took = self.began.until(self.responded);
        !self.said.is_2xx() && !self.said.is_410() && took >= Duration::from_secs(SLOW_SECONDS)
    }
}

/// A call of a function.
struct Call {
    function: Function,
    began: Timestamp,
    sent: Vec<Sent>,
    /// Attempts that failed, by when they began.
    failed: Vec<(SubscriptionId, Timestamp)>,
    uncounted: BTreeMap<SubscriptionId, Counts>,
    /// Webhooks of which it wrote down an attempt that failed slowly.
    slow: BTreeSet<SubscriptionId>,
    /// What this call of the cleanup may delete: what is older than this.
    keeps: Option<Duration>,
}

/// What the checker knows.
pub(crate) struct Model {
    pub(crate) is_fault_free: bool,
    /// The abusive user of the run.
    abuser: Option<String>,
    /// Calls of deliver that handle a batch of the slow queue.
    slow_calls: BTreeSet<u64>,
    /// The owners of the tasks of those that handle a batch of the fast queue.
    fast_calls: BTreeMap<u64, Vec<UserId>>,
    /// What the endpoints of each owner's hosts did.
    host_failures: BTreeMap<(UserId, HostId), HostFailures>,
    pub(crate) violation: Option<Violation>,
    pub(crate) milestones: Milestones,
    pub(crate) events: BTreeMap<String, Published>,
    pub(crate) subscriptions: BTreeMap<SubscriptionId, Versions>,
    pub(crate) tracks: BTreeMap<DeliveryId, Track>,
    /// The due index.
    pub(crate) due: BTreeMap<DeliveryId, Timestamp>,
    /// How often an owner asked for an event to be repeated.
    pub(crate) repeats: BTreeMap<(String, SubscriptionId), usize>,
    /// Webhooks that the service disabled, and when.
    pub(crate) disabled: Vec<(SubscriptionId, Timestamp)>,
    /// Outages that ended, of webhooks that recover by themselves: when they began and ended.
    pub(crate) outages: Vec<(SubscriptionId, Timestamp, Timestamp)>,
    /// How often an owner asked for a recovery, or the service began one.
    pub(crate) recoveries: BTreeMap<SubscriptionId, usize>,
    /// Events that can never be handled.
    pub(crate) bad: Vec<String>,
    /// Redeliveries that the API has accepted, and since when.
    pub(crate) promised: Vec<(DeliveryId, SubscriptionId, Timestamp)>,
    /// How each owner's hosts did.
    hosts: BTreeMap<(UserId, HostId), Vec<(Timestamp, HostHealth)>>,
    /// Whoever had a URL once.
    urls: BTreeMap<String, Vec<SubscriptionId>>,
    names: BTreeMap<(String, SubscriptionId), BTreeSet<DeliveryId>>,
    /// The `webhook-id` of each event and webhook.
    message_ids: BTreeMap<(String, SubscriptionId), String>,
    calls: BTreeMap<u64, Call>,
    /// The POSTs of the last second to each webhook.
    rates: BTreeMap<SubscriptionId, Vec<Timestamp>>,
}

impl Model {
    pub(crate) fn new(is_fault_free: bool, abuser: Option<String>) -> Self {
        Self {
            is_fault_free,
            abuser,
            slow_calls: BTreeSet::new(),
            fast_calls: BTreeMap::new(),
            host_failures: BTreeMap::new(),
            violation: None,
            milestones: Milestones::default(),
            events: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            tracks: BTreeMap::new(),
            due: BTreeMap::new(),
            repeats: BTreeMap::new(),
            disabled: Vec::new(),
            outages: Vec::new(),
            recoveries: BTreeMap::new(),
            bad: Vec::new(),
            promised: Vec::new(),
            hosts: BTreeMap::new(),
            urls: BTreeMap::new(),
            names: BTreeMap::new(),
            message_ids: BTreeMap::new(),
            calls: BTreeMap::new(),
            rates: BTreeMap::new(),
        }
    }

    /// The first broken rule counts.
    pub(crate) fn violate(&mut self, rule: Rule, detail: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, detail: detail() });
        }
    }

    pub(crate) fn began(&mut self, number: u64, function: Function, now: Timestamp) {
        let call = Call {
            function,
            began: now,
            sent: vec![],
            failed: vec![],
            uncounted: BTreeMap::new(),
            slow: BTreeSet::new(),
            keeps: None,
        };
        self.calls.insert(number, call);
    }

    /// A call of the cleanup was given a retention.
    pub(crate) fn cleans(&mut self, number: u64, keeps: Duration) {
        if let Some(call) = self.calls.get_mut(&number) {
            call.keeps = Some(keeps);
        }
    }

    /// An invocation ended: whatever it did must have been written and counted.
    pub(crate) fn finished(&mut self, number: u64, now: Timestamp) {
        let Some(call) = self.calls.remove(&number) else { return };
        if let Some(sent) = call.sent.first() {
            let id = sent.delivery.clone();
            self.violate(Rule::AllRecorded, || format!("{id} in call {number}"));
        }
        if let Some((id, counts)) = call.uncounted.iter().find(|(_, c)| **c != Counts::default()) {
            self.violate(Rule::AllCounted, || format!("{counts:?} of {id}"));
        }
        self.check_endpoints(&call.failed, call.began, now);
    }

    /// An invocation died: what it did not write is lost to the records.
    pub(crate) fn died(&mut self, number: u64) {
        let Some(call) = self.calls.remove(&number) else { return };
        for sent in call.sent {
            if let Some(track) = self.tracks.get_mut(&sent.delivery) {
                track.unrecorded += 1;
            }
        }
        // No message brings a test back.
        if call.function == Function::Test {
            call.uncounted.keys().for_each(|id| self.not_recounted(id));
        }
        for track in self.tracks.values_mut() {
            track.flying.retain(|(call, _)| *call != number);
        }
        for versions in self.subscriptions.values_mut() {
            versions.endpoint.probes.retain(|(call, _)| *call != number);
        }
    }

    /// Calls of a function that are under way.
    pub(crate) fn under_way(&self, function: Function) -> usize {
        self.calls.values().filter(|call| call.function == function).count()
    }

    pub(crate) fn published(
        &mut self,
        id: String,
        owner: UserId,
        event_type: &'static str,
        data: String,
        now: Timestamp,
    ) {
        let (accepted, body) = (now, String::new());
        let event = Published { owner, event_type, data, accepted, dispatched: None, body };
        self.events.entry(id).or_insert(event);
    }

    /// The message of an event was deleted from the queue.
    pub(crate) fn dispatched(&mut self, event: &str, now: Timestamp) {
        if let Some(event) = self.events.get_mut(event) {
            event.dispatched.get_or_insert(now);
        }
    }

    /// The version of a subscription that stood there at a moment.
    pub(crate) fn subscription_at(
        &self,
        user: &UserId,
        id: &SubscriptionId,
        moment: Timestamp,
    ) -> Option<Subscription> {
        let versions = self.subscriptions.get(id).filter(|versions| versions.user == *user)?;
        at(&versions.all, moment).cloned().flatten()
    }

    /// The last version that was not a tombstone.
    pub(crate) fn last_subscription(
        &self,
        user: &UserId,
        id: &SubscriptionId,
    ) -> Option<Subscription> {
        let versions = self.subscriptions.get(id).filter(|versions| versions.user == *user)?;
        versions.all.iter().rev().find_map(|(_, version)| version.clone())
    }

    pub(crate) fn subscriptions_at(&self, user: &UserId, moment: Timestamp) -> Vec<Subscription> {
        self.subscriptions.keys().filter_map(|id| self.subscription_at(user, id, moment)).collect()
    }

    pub(crate) fn delivery_at(&self, id: &DeliveryId, moment: Timestamp) -> Option<Delivery> {
        at(&self.tracks.get(id)?.versions, moment).cloned()
    }

    /// When a record was written last.
    pub(crate) fn written_at(&self, id: &DeliveryId) -> Option<Timestamp> {
        self.tracks.get(id)?.versions.last().map(|(since, _)| *since)
    }

    /// Whether a subscription was ever so from one moment to another.
    pub(crate) fn was(
        &self,
        id: &SubscriptionId,
        from: Timestamp,
        to: Timestamp,
        so: impl Fn(Option<&Subscription>) -> bool,
    ) -> bool {
        let Some(versions) = self.subscriptions.get(id) else { return so(None) };
        // What stood there at `from` was written last before it.
        let first = versions.all.partition_point(|(since, _)| *since <= from);
        let standing = first.checked_sub(1).and_then(|at| versions.all[at].1.as_ref());
        so(standing)
            || versions.all[first..]
                .iter()
                .take_while(|(since, _)| *since <= to)
                .any(|(_, version)| so(version.as_ref()))
    }

    /// Whether a webhook was deleted at some time until then.
    pub(crate) fn was_deleted(&self, id: &SubscriptionId, until: Timestamp) -> bool {
        self.subscriptions.get(id).is_some_and(|versions| {
            versions.all.iter().any(|(since, version)| *since <= until && version.is_none())
        })
    }

    pub(crate) fn reach(&mut self, milestone: Milestone) {
        self.milestones.insert(milestone);
    }
}

/// What the write of a record adds to the counters.
fn counts_of(before: Option<&Delivery>, record: &Delivery) -> Counts {
    let attempts = record.attempt_count() - before.map_or(0, Delivery::attempt_count);
    let held = |of: Option<&Delivery>| i64::from(of.is_some_and(|of| of.status == Status::Held));
    Counts {
        total: u64::from(before.is_none()),
        success: u64::from(record.status == Status::Success),
        failed: u64::from(record.status == Status::Failed),
        held: held(Some(record)) - held(before),
        attempts: attempts.into(),
        ..Counts::default()
    }
}

/// What an eventually consistent read of this moment may still see.
fn lagging(moment: Timestamp) -> Timestamp {
    moment.minus(Duration::from_millis(LAG_MS))
}

/// What stood there at a moment.
fn at<T>(versions: &[(Timestamp, T)], moment: Timestamp) -> Option<&T> {
    let first = versions.partition_point(|(since, _)| *since <= moment);
    first.checked_sub(1).map(|at| &versions[at].1)
}
