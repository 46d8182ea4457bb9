//! What the checker knows, and what it checks after every step.
//!
//! It sees what receivers see (every POST), what publishers and users were told, and every version
//! that ever stood in a table. From the handlers it takes nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use webhooks_core::delivery::{Delivery, Status, Trigger};
use webhooks_core::ids::{DeliveryId, SubscriptionId, UserId};
use webhooks_core::outbound::OutboundRequest;
use webhooks_core::ports::{Expect, RowKey};
use webhooks_core::statistics::Counts;
use webhooks_core::subscription::{DisabledReason, Subscription};
use webhooks_core::time::Timestamp;

use crate::world::Function;

/// An eventually consistent read misses at most the writes of so many milliseconds.
pub(crate) const LAG_MS: u64 = 1_000;
/// How early an attempt may be: visibility timeouts count whole seconds.
const EARLY_MS: i64 = 1_000;
/// How late a retry may be when nothing fails and every answer comes at once.
const LATE_SECONDS: u64 = 10;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// How it was broken.
    pub detail: String,
}

/// A POST on its way.
pub(crate) struct Posted<'a> {
    pub(crate) invocation: u64,
    pub(crate) request: &'a OutboundRequest,
    pub(crate) status: Option<u16>,
}

/// What became of a write of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Written,
    Conflict,
    Failed,
}

/// An event that its publisher was told is accepted.
pub(crate) struct Published {
    pub(crate) owner: UserId,
    pub(crate) event_type: &'static str,
    data: String,
    pub(crate) accepted: Timestamp,
    /// When its message was first acknowledged.
    pub(crate) dispatched: Option<Timestamp>,
}

/// A subscription, by every version that ever stood in the table.
pub(crate) struct Versions {
    pub(crate) user: UserId,
    pub(crate) all: Vec<(Timestamp, Option<Subscription>)>,
    /// What the counters must add up to, and by how much they may be too low.
    pub(crate) counts: Counts,
    pub(crate) uncounted: Counts,
    gone_answered: bool,
    last_success: Option<Timestamp>,
}

/// A delivery, as receivers and the table saw it.
pub(crate) struct Track {
    pub(crate) subscription: SubscriptionId,
    pub(crate) event: String,
    body: String,
    /// POSTs that were made, and those of them that no record can know of.
    pub(crate) posts: u32,
    pub(crate) unrecorded: u32,
    ended: Option<Timestamp>,
    flying: Vec<(u64, u32)>,
    pub(crate) got_2xx: bool,
    pub(crate) got_410: Option<(Timestamp, String)>,
    versions: Vec<(Timestamp, Delivery)>,
}

/// A call of a function.
struct Call {
    function: Function,
    began: Timestamp,
    /// POSTs whose record has not been written yet.
    posted: Vec<DeliveryId>,
    uncounted: BTreeMap<SubscriptionId, Counts>,
}

/// What the checker knows.
pub(crate) struct Model {
    pub(crate) is_calm: bool,
    pub(crate) violation: Option<Violation>,
    pub(crate) events: BTreeMap<String, Published>,
    pub(crate) subscriptions: BTreeMap<SubscriptionId, Versions>,
    pub(crate) tracks: BTreeMap<DeliveryId, Track>,
    /// The due index.
    pub(crate) due: BTreeMap<DeliveryId, Timestamp>,
    /// How often an owner asked for an event to be repeated.
    pub(crate) repeats: BTreeMap<(String, SubscriptionId), usize>,
    /// Events that can never be handled.
    pub(crate) bad: Vec<String>,
    /// Redeliveries that an owner was told will happen, and since when.
    pub(crate) promised: Vec<(DeliveryId, SubscriptionId, Timestamp)>,
    urls: BTreeMap<String, SubscriptionId>,
    names: BTreeMap<(String, SubscriptionId), BTreeSet<DeliveryId>>,
    calls: BTreeMap<u64, Call>,
}

/// The body that receivers get.
#[derive(Deserialize)]
struct Body<'a> {
    event_id: String,
    event_type: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Model {
    pub(crate) fn new(is_calm: bool) -> Self {
        Self {
            is_calm,
            violation: None,
            events: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            tracks: BTreeMap::new(),
            due: BTreeMap::new(),
            repeats: BTreeMap::new(),
            bad: Vec::new(),
            promised: Vec::new(),
            urls: BTreeMap::new(),
            names: BTreeMap::new(),
            calls: BTreeMap::new(),
        }
    }

    /// The first broken rule counts.
    pub(crate) fn violate(&mut self, rule: &'static str, detail: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, detail: detail() });
        }
    }

    pub(crate) fn began(&mut self, number: u64, function: Function, now: Timestamp) {
        let call = Call { function, began: now, posted: vec![], uncounted: BTreeMap::new() };
        self.calls.insert(number, call);
    }

    /// An invocation answered: whatever it did must have been written and counted.
    pub(crate) fn finished(&mut self, number: u64) {
        let Some(call) = self.calls.remove(&number) else { return };
        if let Some(id) = call.posted.first() {
            self.violate("every attempt is written", || format!("{id} in call {number}"));
        }
        if let Some((id, counts)) = call.uncounted.iter().find(|(_, c)| **c != Counts::default()) {
            self.violate("every delivery is counted", || format!("{counts:?} of {id}"));
        }
    }

    /// An invocation died: what it did not write is lost to the records.
    pub(crate) fn died(&mut self, number: u64) {
        let Some(call) = self.calls.remove(&number) else { return };
        for id in call.posted {
            if let Some(track) = self.tracks.get_mut(&id) {
                track.unrecorded += 1;
            }
        }
        for (id, counts) in call.uncounted {
            if let Some(subscription) = self.subscriptions.get_mut(&id) {
                subscription.uncounted.add(counts);
            }
        }
        for track in self.tracks.values_mut() {
            track.flying.retain(|(call, _)| *call != number);
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
        let event = Published { owner, event_type, data, accepted: now, dispatched: None };
        self.events.entry(id).or_insert(event);
    }

    /// The queue was told to delete the message of an event.
    pub(crate) fn dispatched(&mut self, event: &str, now: Timestamp) {
        if let Some(event) = self.events.get_mut(event) {
            event.dispatched.get_or_insert(now);
        }
    }

    /// A subscription was written.
    pub(crate) fn subscription_stands(
        &mut self,
        now: Timestamp,
        user: &UserId,
        id: &SubscriptionId,
        version: Option<Subscription>,
    ) {
        let versions = self.subscriptions.entry(id.clone()).or_insert_with(|| Versions {
            user: user.clone(),
            all: Vec::new(),
            counts: Counts::default(),
            uncounted: Counts::default(),
            gone_answered: false,
            last_success: None,
        });
        let before = versions.all.last().and_then(|(_, before)| before.as_ref());
        let reason = version.as_ref().and_then(|version| version.disabled_reason);
        let disabled = reason.filter(|_| before.is_some_and(|before| before.is_active));
        let unjust = match disabled {
            Some(DisabledReason::EndpointGone) => !versions.gone_answered,
            Some(DisabledReason::EndpointFailing) => {
                let span = std::time::Duration::from_secs(5 * 24 * 3600 - 1);
                self.is_calm && versions.last_success.is_some_and(|at| at > now.minus(span))
            }
            None => false,
        };
        if let Some(version) = &version {
            self.urls.insert(version.url.clone(), id.clone());
        }
        versions.all.push((now, version));
        if unjust {
            self.violate("a webhook is disabled for a reason", || format!("{id}: {reason:?}"));
        }
    }

    /// The version that stood there at a moment.
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

    /// Whether a subscription was ever so from one moment to another.
    pub(crate) fn was(
        &self,
        id: &SubscriptionId,
        from: Timestamp,
        to: Timestamp,
        so: impl Fn(Option<&Subscription>) -> bool,
    ) -> bool {
        let Some(versions) = self.subscriptions.get(id) else { return so(None) };
        let mut standing: Option<&Subscription> = None;
        for (since, version) in &versions.all {
            if *since > to {
                break;
            }
            if *since > from && so(standing) {
                return true;
            }
            standing = version.as_ref();
        }
        so(standing)
    }

    /// A POST left the house.
    pub(crate) fn posted(&mut self, now: Timestamp, posted: &Posted<'_>) -> Option<DeliveryId> {
        let Posted { invocation, request, status } = *posted;
        let header = |name| {
            request.headers.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
        };
        let url = request.url.as_str();
        let Some(subscription) = self.urls.get(url).cloned() else {
            self.violate("POSTs go where somebody subscribed", || url.to_owned());
            return None;
        };
        let (id, number) = (header("webhook-id"), header("x-webhook-attempt").parse::<u32>());
        let body = serde_json::from_str::<Body<'_>>(&request.body);
        let (Ok(id), Ok(number), Ok(body)) = (id.parse::<DeliveryId>(), number, body) else {
            self.violate("a POST has its headers and its body", || format!("{id}: {url}"));
            return None;
        };
        let (began, function) = match self.calls.get(&invocation) {
            Some(call) => (call.began, call.function),
            None => (now, Function::Deliver),
        };
        self.check_event(&body, &subscription);
        self.check_name(&id, &body.event_id, &subscription);
        self.check_subscription(&id, &subscription, url, (began, now), function);
        self.check_record(&id, number, (began, now));

        let track = self.track(&id, &subscription, &body.event_id);
        if track.body.is_empty() {
            track.body.clone_from(&request.body);
        }
        let same = track.body == request.body;
        track.posts += 1;
        track.flying.push((invocation, number));
        track.got_2xx |= status.is_some_and(|status| (200..300).contains(&status));
        if status == Some(410) {
            track.got_410.get_or_insert((now, url.to_owned()));
        }
        if !same {
            self.violate("every attempt has the same body", || id.to_string());
        }
        if let Some(versions) = self.subscriptions.get_mut(&subscription) {
            versions.gone_answered |= status == Some(410);
            if status.is_some_and(|status| (200..300).contains(&status)) {
                versions.last_success = Some(now);
            }
        }
        if let Some(call) = self.calls.get_mut(&invocation) {
            call.posted.push(id.clone());
        }
        Some(id)
    }

    fn check_event(&mut self, body: &Body<'_>, to: &SubscriptionId) {
        let owner = self.subscriptions.get(to).map(|versions| versions.user.clone());
        let problem = match self.events.get(&body.event_id) {
            // A test has a sample of its own, which its owner may ask for again.
            None if body.event_id.starts_with("test_") => None,
            None => Some("only what was published is delivered"),
            Some(event) if Some(&event.owner) != owner.as_ref() => Some("never to another user"),
            Some(event) if event.event_type != body.event_type || event.data != body.data.get() => {
                Some("what was published is delivered unchanged")
            }
            Some(_) => None,
        };
        if let Some(rule) = problem {
            self.violate(rule, || format!("{} to {to}", body.event_id));
        }
    }

    fn check_name(&mut self, id: &DeliveryId, event: &str, subscription: &SubscriptionId) {
        let key = (event.to_owned(), subscription.clone());
        let most = 1 + self.repeats.get(&key).copied().unwrap_or(0);
        let names = self.names.entry(key).or_default();
        names.insert(id.clone());
        if names.len() > most {
            self.violate("the same webhook-id throughout", || format!("{event}: {id}"));
        }
    }

    fn check_subscription(
        &mut self,
        id: &DeliveryId,
        subscription: &SubscriptionId,
        url: &str,
        (began, now): (Timestamp, Timestamp),
        function: Function,
    ) {
        let from = lagging(began);
        let there = self.was(subscription, from, now, |s| s.is_some_and(|s| s.url == url));
        let active = self.was(subscription, from, now, |s| s.is_some_and(|s| s.is_active));
        let open = !self.was(subscription, from, now, |s| {
            s.is_some_and(|s| s.health.open_until.is_none_or(|until| until <= now))
        });
        if !there {
            self.violate("nothing is sent after a deletion", || format!("{id} to {url}"));
        }
        if function == Function::Test {
            return;
        }
        if !active {
            self.violate("nothing is sent to a paused webhook", || format!("{id} to {url}"));
        }
        if open {
            self.violate("an open circuit breaker is respected", || format!("{id} to {url}"));
        }
    }

    fn check_record(&mut self, id: &DeliveryId, number: u32, (began, now): (Timestamp, Timestamp)) {
        let Some(track) = self.tracks.get(id) else { return };
        let from = lagging(began);
        let ended = track.ended.is_some_and(|ended| ended < from);
        let twice = number > 1 && track.flying.iter().any(|(_, other)| *other > 1);
        let last = track.versions.last();
        let known = last.map_or(0, |(_, delivery)| delivery.attempt_count());
        let due = last.and_then(|(_, delivery)| delivery.next_retry_at);
        let late = self.is_calm && due.is_some_and(|due| due.plus_seconds(LATE_SECONDS) < now);
        // Every version that the caller can have read says that it is too early.
        let first = track.versions.partition_point(|(since, _)| *since <= from);
        let seen = first.checked_sub(1).map(|first| &track.versions[first..]);
        let early = |at: Timestamp| at.millis() > now.millis() + EARLY_MS;
        let all_wait = seen.is_some_and(|seen| {
            seen.iter().all(|(_, delivery)| delivery.next_retry_at.is_some_and(early))
        });
        let rules = [
            (ended, "nothing is sent after the end of a delivery"),
            (twice, "a retry is made once at a time"),
            (number > known + 1, "attempts are numbered one by one"),
            (all_wait, "no retry comes early"),
            (late, "retries are on time when nothing fails"),
        ];
        for (_, rule) in rules.into_iter().filter(|(broken, _)| *broken) {
            self.violate(rule, || format!("{id}, attempt {number}, due {due:?}"));
        }
    }

    fn track(&mut self, id: &DeliveryId, subscription: &SubscriptionId, event: &str) -> &mut Track {
        self.tracks.entry(id.clone()).or_insert_with(|| Track {
            subscription: subscription.clone(),
            event: event.to_owned(),
            body: String::new(),
            posts: 0,
            unrecorded: 0,
            ended: None,
            flying: Vec::new(),
            got_2xx: false,
            got_410: None,
            versions: Vec::new(),
        })
    }

    /// The receiver's answer has come.
    pub(crate) fn answered(&mut self, number: u64, id: &DeliveryId) {
        if let Some(track) = self.tracks.get_mut(id)
            && let Some(at) = track.flying.iter().position(|(call, _)| *call == number)
        {
            track.flying.remove(at);
        }
    }

    /// A record was written, or was to be.
    pub(crate) fn put(
        &mut self,
        now: Timestamp,
        number: u64,
        before: Option<&Delivery>,
        (after, expect): (&Delivery, Expect),
        put: Put,
    ) {
        let began = self.calls.get(&number).map_or(now, |call| call.began);
        let known = match expect {
            Expect::Absent => 0,
            Expect::Retrying { attempts } => attempts,
        };
        let posted = after.attempt_count() > known && self.take_posted(number, &after.id);
        let track = self.track(&after.id, &after.subscription_id, after.event_id.as_str());
        if put == Put::Written {
            self.written(now, number, before, after, (began, posted));
            return;
        }
        let from = lagging(began);
        let raced = track.versions.iter().any(|(since, _)| *since >= from);
        track.unrecorded += u32::from(posted);
        // The cleanup may have taken the record of a deleted webhook away.
        let deleted = || self.was(&after.subscription_id, from, now, |s| s.is_none());
        if put == Put::Conflict && !raced && !deleted() {
            self.violate("a write is refused only when another came first", || {
                format!("{} by call {number}", after.id)
            });
        }
    }

    fn take_posted(&mut self, number: u64, id: &DeliveryId) -> bool {
        let Some(call) = self.calls.get_mut(&number) else { return false };
        let found = call.posted.iter().position(|posted| posted == id);
        found.map(|at| call.posted.remove(at)).is_some()
    }

    fn written(
        &mut self,
        now: Timestamp,
        number: u64,
        before: Option<&Delivery>,
        after: &Delivery,
        (began, posted): (Timestamp, bool),
    ) {
        let old = before.map_or(0, Delivery::attempt_count);
        let new = after.attempt_count();
        let waits = after.status == Status::Retrying;
        let owner = self.subscriptions.get(&after.subscription_id).map(|v| v.user.clone());
        let rules = [
            (before.is_some_and(Delivery::has_ended), "a delivery that has ended never changes"),
            (new < old || new > old + 1, "attempts are recorded one by one"),
            ((new > old) != posted, "what is recorded is what was sent"),
            (waits != after.due_at.is_some(), "what waits stands in the due index"),
            (waits != after.next_retry_at.is_some(), "what waits knows until when"),
            (owner.as_ref() != Some(&after.user_id), "a record belongs to the webhook's owner"),
            (!self.ends_rightly(after, lagging(began), now), "a delivery fails for a reason"),
        ];
        for (_, rule) in rules.into_iter().filter(|(broken, _)| *broken) {
            self.violate(rule, || format!("{} {}, {old} to {new}", after.id, after.status));
        }
        match after.due_at {
            Some(due_at) => self.due.insert(after.id.clone(), due_at),
            None => self.due.remove(&after.id),
        };
        let counts = Counts {
            total: u64::from(before.is_none()),
            success: u64::from(after.status == Status::Success),
            failed: u64::from(after.status == Status::Failed),
        };
        if let Some(versions) = self.subscriptions.get_mut(&after.subscription_id) {
            versions.counts.add(counts);
        }
        if let Some(call) = self.calls.get_mut(&number) {
            call.uncounted.entry(after.subscription_id.clone()).or_default().add(counts);
        }
        let track = self.track(&after.id, &after.subscription_id, after.event_id.as_str());
        if after.has_ended() {
            track.ended = Some(now);
        }
        track.versions.push((now, after.clone()));
    }

    /// Whether a record that failed did so by the rules; one that did not fail does.
    fn ends_rightly(&self, record: &Delivery, from: Timestamp, now: Timestamp) -> bool {
        let id = &record.subscription_id;
        if record.status != Status::Failed || record.trigger == Trigger::Test {
            return true;
        }
        if record.end_reason.is_some() {
            return self.was(id, from, now, |s| s.is_none_or(|s| !s.is_active));
        }
        let gone = record.attempts.last().is_some_and(|last| last.response_status == Some(410));
        let exhausted =
            self.was(id, from, now, |s| s.is_some_and(|s| s.retry_count < record.attempt_count()));
        gone || exhausted || record.was_blocked()
    }

    /// A record was written and its writer does not know: it will not count it.
    pub(crate) fn answer_lost(&mut self, number: u64, written: &Delivery) {
        let counts = Counts {
            total: u64::from(
                self.tracks.get(&written.id).is_some_and(|track| track.versions.len() == 1),
            ),
            success: u64::from(written.status == Status::Success),
            failed: u64::from(written.status == Status::Failed),
        };
        self.take_uncounted(number, &written.subscription_id, counts);
        if let Some(versions) = self.subscriptions.get_mut(&written.subscription_id) {
            versions.uncounted.add(counts);
        }
    }

    fn take_uncounted(&mut self, number: u64, id: &SubscriptionId, counts: Counts) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let open = call.uncounted.entry(id.clone()).or_default();
        let left = (
            open.total.checked_sub(counts.total),
            open.success.checked_sub(counts.success),
            open.failed.checked_sub(counts.failed),
        );
        if let (Some(total), Some(success), Some(failed)) = left {
            *open = Counts { total, success, failed };
        } else {
            self.violate("nothing is counted that was not written", || format!("{counts:?} {id}"));
        }
    }

    /// Counters were added to.
    pub(crate) fn counted(&mut self, number: u64, id: &SubscriptionId, counts: Counts) {
        self.take_uncounted(number, id, counts);
    }

    /// Counters were not added to: that request failed.
    pub(crate) fn not_counted(&mut self, number: u64, id: &SubscriptionId, counts: Counts) {
        self.take_uncounted(number, id, counts);
        if let Some(versions) = self.subscriptions.get_mut(id) {
            versions.uncounted.add(counts);
        }
    }

    pub(crate) fn postponed(&mut self, id: &DeliveryId, due_at: Timestamp) {
        self.due.insert(id.clone(), due_at);
    }

    /// The cleanup deleted a row.
    pub(crate) fn row_deleted(&mut self, now: Timestamp, of: &SubscriptionId, key: &RowKey) {
        if let RowKey::Delivery(id) = key {
            self.due.remove(id);
            if let Some(track) = self.tracks.get_mut(id) {
                track.versions.clear();
            }
        }
        let lives = self.was(of, now, now, |s| s.is_some());
        if lives {
            self.violate("only what is old or deleted is cleaned up", || format!("{key:?}"));
        }
    }
}

/// What an eventually consistent read of this moment may still see.
fn lagging(moment: Timestamp) -> Timestamp {
    moment.minus(std::time::Duration::from_millis(LAG_MS))
}

/// What stood there at a moment.
fn at<T>(versions: &[(Timestamp, T)], moment: Timestamp) -> Option<&T> {
    versions.iter().rev().find(|(since, _)| *since <= moment).map(|(_, version)| version)
}
