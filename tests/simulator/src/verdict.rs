//! What must hold when the run has come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use webhooks_api::testing::TestRequest;
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::{Delivery, DeliveryTask, Status, Trigger};
use webhooks_core::ids::{DeliveryId, SubscriptionId};
use webhooks_core::latency::Histogram;
use webhooks_core::limits::{PAGE_MAX, RECOVERIES_RUNNING_MAX};
use webhooks_core::recovery::RecoveryStatus;
use webhooks_core::statistics::Counts;
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::executor::lock;
use crate::functions::{ask, clean_as};
use crate::harness::{Function, Harness};
use crate::milestones::Milestone;
use crate::model::{Model, Published};
use crate::plan::OUTAGE_ARRIVED_SECONDS;
use crate::rules::Rule;

/// Checks the end of a run.
pub(crate) fn check(harness: &Arc<Harness>) {
    let records: BTreeMap<DeliveryId, Delivery> = harness
        .deliveries
        .snapshot()
        .into_iter()
        .map(|row| (row.delivery.id.clone(), row.delivery))
        .collect();
    let dead = [&harness.tasks, &harness.slow_tasks].map(|queue| lock(queue).dead().to_vec());
    let tasks: Vec<DeliveryTask> = dead
        .iter()
        .flatten()
        .filter_map(|message| DeliveryTask::from_json(&message.body).ok())
        .flat_map(DeliveryTask::split)
        .collect();
    let given_up = tasks.iter().filter_map(DeliveryTask::delivery_id).cloned().collect();
    let unbegun = tasks
        .iter()
        .filter_map(|task| match task {
            DeliveryTask::FirstAttempt(new) => {
                Some((new.event_id.as_str().to_owned(), new.subscription_id.clone()))
            }
            _ => None,
        })
        .collect();
    let counters = counters(harness);
    let end = End { records, given_up, unbegun, counters, now: harness.now() };
    {
        let mut model = lock(&harness.model);
        end.nothing_waits(&mut model);
        end.nothing_is_lost(&mut model, harness);
        end.recoveries_are_complete(&mut model, harness);
        end.outages_are_recovered(&mut model, harness);
        end.disabled_is_told(&mut model);
        end.attempts_add_up(&mut model);
        if harness.options.outage {
            end.all_arrived(&mut model, harness.plan.start);
        }
        end.statistics_add_up(&mut model);
        bad_events_are_kept(&mut model, harness);
    }
    check_api(harness, &end);
    check_cleanup(harness);
}

struct End {
    records: BTreeMap<DeliveryId, Delivery>,
    /// Deliveries whose message ended in the dead-letter queue.
    given_up: BTreeSet<DeliveryId>,
    /// Of which events and webhooks.
    unbegun: BTreeSet<(String, SubscriptionId)>,
    counters: BTreeMap<SubscriptionId, Counts>,
    now: Timestamp,
}

fn counters(harness: &Harness) -> BTreeMap<SubscriptionId, Counts> {
    let mut sums: BTreeMap<SubscriptionId, Counts> = BTreeMap::new();
    for (id, hour) in harness.deliveries.all_counters() {
        // The history does not say which latencies were counted.
        let counts = Counts { latency: Histogram::default(), ..hour.counts };
        sums.entry(id).or_default().add(counts);
    }
    sums
}

impl End {
    fn nothing_waits(&self, model: &mut Model) {
        for record in self.records.values().filter(|record| !record.has_ended()) {
            if record.status != Status::Held {
                model.violate(Rule::Ends, || record.id.to_string());
                continue;
            }
            // Those whose message was given up wait for the operator.
            let id = &record.subscription_id;
            let rests = |s: &Subscription| !s.is_active;
            if !self.given_up.contains(&record.id)
                && !model.was(id, self.now, self.now, |s| s.is_none_or(rests))
            {
                model.violate(Rule::HeldDelivered, || record.id.to_string());
            }
        }
    }

    /// Every accepted event × subscription that matched all along has its delivery.
    fn nothing_is_lost(&self, model: &mut Model, harness: &Harness) {
        let of: BTreeMap<(&str, &SubscriptionId), &Delivery> = self
            .records
            .values()
            .filter(|record| record.trigger == Trigger::Event)
            .map(|record| ((record.event_id.as_str(), &record.subscription_id), record))
            .collect();
        let mut broken = Vec::new();
        for (name, event) in &model.events {
            let Some(dispatched) = event.dispatched else {
                let kept = lock(&harness.events).dead().iter().any(|m| is_of(&m.body, &m.id, name));
                if !kept {
                    broken.push((Rule::Dispatched, name.clone()));
                }
                continue;
            };
            for (id, versions) in &model.subscriptions {
                if versions.user != event.owner || !matched(model, id, event, dispatched) {
                    continue;
                }
                let deleted = model.was(id, event.accepted, self.now, |s| s.is_none());
                let paused =
                    model.was(id, event.accepted, self.now, |s| s.is_none_or(|s| !s.is_active));
                let record = of.get(&(name.as_str(), id));
                let kept = self.unbegun.contains(&(name.clone(), id.clone())) || versions.cleaned;
                let what = || format!("{name} for {id}");
                match record {
                    None if !deleted && !kept => broken.push((Rule::NothingLost, what())),
                    Some(record) if record.end_reason.is_some() && !paused => {
                        broken.push((Rule::NoNeedlessEnd, what()));
                    }
                    _ => {}
                }
            }
        }
        for (again, id, asked) in &model.promised {
            let kept = self.records.contains_key(again)
                || self.given_up.contains(again)
                || model.subscriptions.get(id).is_some_and(|versions| versions.cleaned);
            if !kept && !model.was(id, *asked, self.now, |s| s.is_none()) {
                broken.push((Rule::Repeated, format!("{again} for {id}")));
            }
        }
        for (rule, detail) in broken {
            model.violate(rule, || detail);
        }
    }

    /// A recovery that is done has redelivered every delivery of the time it was asked for.
    fn recoveries_are_complete(&self, model: &mut Model, harness: &Harness) {
        for recovery in harness.deliveries.all_recoveries() {
            let of = &recovery.subscription_id;
            match recovery.status {
                RecoveryStatus::Running => {
                    model.violate(Rule::RecoveryEnds, || recovery.id.to_string());
                }
                RecoveryStatus::Cancelled => model.reach(Milestone::RecoveryCancelled),
                RecoveryStatus::Done if recovery.page > 0 => model.reach(Milestone::Recovered),
                RecoveryStatus::Done => {}
            }
            let is_whole = !model.was_deleted(of, self.now)
                && model.subscriptions.get(of).is_some_and(|versions| !versions.cleaned);
            if recovery.status != RecoveryStatus::Done || !is_whole {
                continue;
            }
            if recovery.selection.is_of_held() {
                continue;
            }
            let asked = recovery.created_at();
            let selection = &recovery.selection;
            let missing = self.records.values().find(|record| {
                let was = model.delivery_at(&record.id, asked);
                let moment = record.created_at();
                let again = recovery.redelivery(record).delivery_id;
                record.subscription_id == *of
                    && (selection.since..selection.until).contains(&moment)
                    && was.is_some_and(|was| selection.selects(&was))
                    && !self.records.contains_key(&again)
                    && !self.given_up.contains(&again)
            });
            if let Some(missing) = missing {
                model.violate(Rule::Recovered, || format!("{} by {}", missing.id, recovery.id));
            }
            let made = self.records.values().filter(|record| {
                record.subscription_id == *of
                    && record.trigger == Trigger::Recovery
                    && record.created_at() == asked
            });
            let (made, given_up) = (made.count() as u64, self.given_up.len() as u64);
            if made + given_up < recovery.sent {
                model.violate(Rule::Recovered, || {
                    format!("{}: sent {}, {made} records", recovery.id, recovery.sent)
                });
            }
        }
    }

    /// Each webhook that asks for it is told that another of its owner was disabled.
    fn disabled_is_told(&self, model: &mut Model) {
        let event_type: EventType = "webhook.disabled".parse().expect("it is an operational type");
        for (about, at) in model.disabled.clone() {
            let owner = model.subscriptions[&about].user.clone();
            let others = model.subscriptions.iter().filter(|(id, versions)| {
                // The cleanup erases the history of a deleted webhook.
                let is_kept = !versions.cleaned && !model.was_deleted(id, self.now);
                versions.user == owner && **id != about && is_kept
            });
            let asking = others.filter(|(id, _)| {
                // They are told just before, and a table may then take long for the write.
                let (from, until) = (at.minus(Duration::from_mins(1)), at.plus_seconds(60));
                !model.was(id, from, until, |s| {
                    s.is_none_or(|s| !s.is_active || !s.names(event_type))
                })
            });
            let asking: Vec<_> = asking.map(|(id, _)| id.clone()).collect();
            for id in asking {
                let is_told = self.records.values().any(|record| {
                    record.subscription_id == id
                        && record.event_type == event_type
                        && record.data.as_str().contains(about.as_str())
                });
                if is_told {
                    model.reach(Milestone::Told);
                } else {
                    model.violate(Rule::Told, || format!("{id} of {about}, disabled at {at}"));
                }
            }
        }
    }

    /// Every outage that ended has its recovery, unless the webhook was deleted or has too many.
    fn outages_are_recovered(&self, model: &mut Model, harness: &Harness) {
        let all = harness.deliveries.all_recoveries();
        for (id, since, until) in model.outages.clone() {
            // Those of what was held count among the automatic ones, too.
            let automatic: Vec<_> = all
                .iter()
                .filter(|recovery| recovery.subscription_id == id && recovery.is_automatic)
                .map(|recovery| recovery.selection.ended_since)
                .collect();
            let count = automatic.iter().filter(|began| **began == Some(since)).count();
            if count == 1 {
                model.reach(Milestone::OutageRecovered);
            }
            let is_whole = !model.was_deleted(&id, self.now)
                && model.subscriptions.get(&id).is_some_and(|versions| !versions.cleaned)
                && automatic.len() < RECOVERIES_RUNNING_MAX;
            if count > 1 || (count == 0 && is_whole) {
                let what = || format!("{count} of {id}, from {since} to {until}");
                model.violate(Rule::OutageRecovered, what);
            }
        }
    }

    /// Every delivery has arrived, by one POST that got a 2xx response, and in time.
    fn all_arrived(&self, model: &mut Model, start: Timestamp) {
        let latest = start.plus_seconds(OUTAGE_ARRIVED_SECONDS);
        let late = self
            .records
            .values()
            .find(|record| record.status != Status::Success || record.updated_at > latest);
        if let Some(record) = late {
            model.violate(Rule::OutageSurvived, || {
                format!("{} at {}", record.id, record.updated_at)
            });
        }
        let twice = model.tracks.iter().find(|(_, track)| track.got_2xx != 1);
        if let Some(id) = twice.map(|(id, _)| id.clone()) {
            model.violate(Rule::OutageSurvived, || id.to_string());
        }
    }

    /// Every POST is in a record, unless its writer died, was refused or was overtaken.
    fn attempts_add_up(&self, model: &mut Model) {
        let mut broken = Vec::new();
        for (id, track) in &model.tracks {
            let Some(record) = self.records.get(id) else { continue };
            let what = || {
                let attempts = record.attempt_count();
                format!("{id}: {} POSTs, {attempts} recorded, {}", track.posts, track.unrecorded)
            };
            if track.posts != record.attempt_count() + track.unrecorded + track.cleaned {
                broken.push((Rule::PostsAddUp, what()));
            }
            // Two instances that find the same state concurrently both send its operational event.
            let may_be_sent_twice = record.event_type.is_operational();
            if model.is_fault_free && track.unrecorded > 0 && !may_be_sent_twice {
                broken.push((Rule::OnceWithoutFaults, what()));
            }
            let success = record.status == Status::Success;
            if success && track.got_2xx == 0 {
                broken.push((Rule::SuccessIs2xx, what()));
            }
            // The record with the success may have been erased with its webhook.
            let has_all = track.unrecorded + track.cleaned == 0;
            if !success && track.got_2xx > 0 && has_all {
                broken.push((Rule::SuccessIs2xx, what()));
            }
            if let Some((at, url)) = track.got_410.as_ref().filter(|_| model.is_fault_free) {
                let stopped = model.was(&track.subscription, *at, self.now, |s| {
                    s.is_none_or(|s| !s.is_active || s.url != *url)
                });
                if !stopped && record.trigger != Trigger::Test {
                    broken.push((Rule::GoneDisables, what()));
                }
            }
        }
        for (rule, detail) in broken {
            model.violate(rule, || detail);
        }
    }

    /// Counters are exact, but for those of which an hour could not be put into the due index, or a message was
    /// given up. These may be too low.
    fn statistics_add_up(&self, model: &mut Model) {
        let mut broken = Vec::new();
        for (id, versions) in &model.subscriptions {
            if versions.cleaned || model.was_deleted(id, self.now) {
                continue;
            }
            let sum = self.counters.get(id).copied().unwrap_or_default();
            let history = self.history(id);
            let may_miss = versions.may_miss_counts || self.has_given_up(id);
            let is_below = sum.total <= history.total
                && sum.success <= history.success
                && sum.failed <= history.failed
                && sum.attempts <= history.attempts;
            if sum != history && !(may_miss && is_below) {
                broken.push(format!("{id}: counted {sum:?}, history {history:?}"));
            }
        }
        for detail in broken {
            model.violate(Rule::StatisticsAgree, || detail);
        }
    }

    /// Whether a message of a delivery of this webhook ended in the dead-letter queue.
    fn has_given_up(&self, id: &SubscriptionId) -> bool {
        let mut given_up = self.given_up.iter().filter_map(|id| self.records.get(id));
        given_up.any(|record| record.subscription_id == *id)
    }

    fn history(&self, id: &SubscriptionId) -> Counts {
        let mut counts = Counts::default();
        for record in self.records.values().filter(|record| record.subscription_id == *id) {
            counts.total += 1;
            counts.success += u64::from(record.status == Status::Success);
            counts.failed += u64::from(record.status == Status::Failed);
            counts.held += i64::from(record.status == Status::Held);
            counts.attempts += u64::from(record.attempt_count());
        }
        counts
    }
}

/// Whether a subscription wanted an event from its acceptance until it was dispatched. One that the
/// service has disabled gets its deliveries as failed ones.
fn matched(model: &Model, id: &SubscriptionId, event: &Published, dispatched: Timestamp) -> bool {
    !model.was(id, event.accepted, dispatched, |subscription| {
        subscription.is_none_or(|subscription| {
            let mut wanted = subscription.event_types.iter();
            let gets = subscription.is_active
                || subscription.disabled_reason.is_some()
                || subscription.is_holding();
            !gets || !wanted.any(|wanted| wanted.to_string() == event.event_type)
        })
    })
}

/// Whether a message publishes the event of this name.
fn is_of(body: &str, message: &str, name: &str) -> bool {
    message == name || body.contains(&format!(r#""event_id":"{name}""#))
}

fn bad_events_are_kept(model: &mut Model, harness: &Harness) {
    let rejected = harness.dead_letter_queue.events();
    for body in model.bad.clone() {
        let sent = rejected.iter().any(|event| event.body == body);
        let kept = sent || lock(&harness.events).dead().iter().any(|m| m.body == body);
        if !kept {
            model.violate(Rule::BadKept, || body);
        }
    }
    let bad = |body: &String| model.bad.contains(body);
    if let Some(event) = rejected.iter().find(|event| !bad(&event.body)) {
        model.violate(Rule::BadKept, || event.body.clone());
    }
}

/// What users are shown is what is in the tables, and nobody else is shown it.
fn check_api(harness: &Arc<Harness>, end: &End) {
    let call = harness.without_faults(Function::Api);
    // One webhook of each run is enough: there are many runs.
    let mut webhooks = harness.subscriptions.snapshot();
    let chosen = harness.random.below(webhooks.len() as u64);
    let chosen = usize::try_from(chosen).ok().filter(|at| *at < webhooks.len());
    if let Some(webhook) = chosen.map(|at| webhooks.swap_remove(at)) {
        let (owner, id) = (webhook.user_id.as_str(), webhook.id.as_str());
        let owned = harness.subscriptions.snapshot().into_iter();
        let owned = owned.filter(|other| other.user_id == webhook.user_id);
        let owned: BTreeSet<SubscriptionId> = owned.map(|other| other.id).collect();
        let get = TestRequest::to("GET /api/webhooks/{id}").with("id", id);
        let all = TestRequest::to("GET /api/webhooks").by(owner).query("limit=100");
        let list = TestRequest::to("GET /api/webhooks/{id}/deliveries").with("id", id);
        let responses = async {
            let shown = ask(harness, &call, &get.clone().by(owner)).await;
            let listed = ask(harness, &call, &list.by(owner).query("limit=100")).await;
            let stranger = ask(harness, &call, &get.by("stranger")).await;
            let all = ask(harness, &call, &all).await;
            let mut across = 0;
            let mut query = "limit=100".to_owned();
            loop {
                let page = TestRequest::to("GET /api/deliveries").by(owner).query(&query);
                let page = ask(harness, &call, &page).await.json();
                across += page["items"].as_array().map_or(0, Vec::len);
                let Some(next) = page["next_cursor"].as_str() else { break };
                query = format!("limit=100&cursor={next}");
            }
            (shown.json(), listed.json(), across, all.json(), stranger.status())
        };
        let Some((shown, listed, across, all, stranger)) = responses.now_or_never() else {
            return;
        };
        let counts = end.counters.get(&webhook.id).copied().unwrap_or_default();
        let statistics = &shown["statistics"];
        let reported = (
            statistics["total_deliveries"].as_u64(),
            statistics["successful_deliveries"].as_u64(),
            statistics["failed_deliveries"].as_u64(),
        );
        let rows = end.records.values().filter(|r| r.subscription_id == webhook.id).count();
        let rows_of_owner =
            end.records.values().filter(|r| owned.contains(&r.subscription_id)).count();
        let mut model = lock(&harness.model);
        if reported != (Some(counts.total), Some(counts.success), Some(counts.failed)) {
            model.violate(Rule::Shown, || shown.to_string());
        }
        if listed["items"].as_array().map(Vec::len) != Some(rows.min(PAGE_MAX)) {
            model.violate(Rule::Shown, || listed.to_string());
        }
        if across != rows_of_owner {
            model.violate(Rule::Shown, || format!("{across} of {rows_of_owner} deliveries"));
        }
        if all["items"].as_array().map(Vec::len) != Some(owned.len().min(PAGE_MAX)) {
            model.violate(Rule::Shown, || all.to_string());
        }
        if stranger != 404 {
            model.violate(Rule::Stranger, || format!("{id}: {stranger}"));
        }
    }
}

/// After one undisturbed cleanup nothing is left of deleted webhooks.
fn check_cleanup(harness: &Arc<Harness>) {
    let call = harness.without_faults(Function::Cleanup);
    // The first may only finish the round that an earlier one began.
    for _ in 0..2 {
        let _ = clean_as(harness, &call, None, Duration::from_mins(10)).now_or_never();
    }
    let (left, now) = (harness.subscriptions.tombstones(), harness.now());
    let mut model = lock(&harness.model);
    if left > 0 {
        model.violate(Rule::CleanupFinishes, || format!("{left} tombstones"));
    }
    // What was written after the deletion may be there, until it expires.
    let rows = harness.deliveries.snapshot().into_iter().map(|row| row.delivery);
    for row in rows {
        let written = model.written_at(&row.id).unwrap_or(now);
        let deleted = |until| model.was_deleted(&row.subscription_id, until);
        if deleted(now) && !deleted(written) {
            let of = &row.subscription_id;
            model.violate(Rule::CleanupFinishes, || format!("{} of {of}", row.id));
        }
    }
}
