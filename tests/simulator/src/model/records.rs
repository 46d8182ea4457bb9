//! What every write of a record, of its counters and of the due index is held to.

use std::time::Duration;

use webhooks_core::delivery::{Delivery, EndReason, Status, Trigger};
use webhooks_core::ids::{DeliveryId, SubscriptionId};
use webhooks_core::limits::RETRY_AFTER_MAX_SECONDS;
use webhooks_core::outbound::RetryAfter;
use webhooks_core::ports::{Expect, RowKey};
use webhooks_core::retry::JITTER_MAX;
use webhooks_core::statistics::Counts;
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::harness::Function;
use crate::milestones::Milestone;
use crate::model::{Model, Said, Sent, counts_of, lagging};
use crate::rules::Rule;

/// Waits that are longer are left to the table.
const QUEUE_WAIT: Duration = Duration::from_mins(15);

/// What became of a write of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Written,
    Conflict,
    Failed,
}

/// One write of a record.
struct Write<'a> {
    now: Timestamp,
    /// What the writer can have read at the earliest.
    from: Timestamp,
    number: u64,
    before: Option<&'a Delivery>,
    after: &'a Delivery,
    /// The POST that it records.
    sent: Option<Sent>,
}

impl Model {
    /// A record was written, or was to be.
    pub(crate) fn put(
        &mut self,
        now: Timestamp,
        number: u64,
        before: Option<&Delivery>,
        (after, expect): (&Delivery, Expect),
        put: Put,
    ) {
        let from = lagging(self.calls.get(&number).map_or(now, |call| call.began));
        let known = expect.version().map_or(0, |version| version.attempts);
        let sent = if after.attempt_count() > known { self.take_sent(number, after) } else { None };
        let track = self.track(&after.id, &after.subscription_id);
        if put == Put::Written {
            let write = Write { now, from, number, before, after, sent };
            self.check_write(&write);
            self.written(&write);
            return;
        }
        let raced = track.versions.iter().any(|(since, _)| *since >= from);
        let leased = match expect {
            Expect::Free { now, .. } => track.leased_until.is_some_and(|until| now < until),
            Expect::Absent | Expect::Unchanged(_) => false,
        };
        track.unrecorded += u32::from(sent.is_some());
        if put == Put::Failed {
            return;
        }
        self.reach(Milestone::Overtaken);
        // The cleanup may have taken the record of a deleted webhook away.
        let deleted = || self.was(&after.subscription_id, from, now, |s| s.is_none());
        if !raced && !leased && !deleted() {
            self.violate(Rule::RefusedRightly, || format!("{} by call {number}", after.id));
        }
    }

    /// The POST of this call that the record's last attempt is about. Two copies of a task may be
    /// in one batch; then it is the one whose response came when the record says it changed, and was
    /// what it says.
    fn take_sent(&mut self, number: u64, record: &Delivery) -> Option<Sent> {
        let sent = &mut self.calls.get_mut(&number)?.sent;
        let status = record.attempts.last()?.response_status;
        let likeness = |one: &Sent| {
            let then = one.responded == record.updated_at;
            (then, then && one.said.status == status)
        };
        let of_it = sent.iter().enumerate().filter(|(_, one)| one.delivery == record.id);
        let (found, _) = of_it.max_by_key(|(_, one)| likeness(one))?;
        Some(sent.remove(found))
    }

    /// A lease on a record was given.
    pub(crate) fn leased(&mut self, id: &DeliveryId, until: Timestamp) {
        if let Some(track) = self.tracks.get_mut(id) {
            track.leased_until = Some(until);
        }
    }

    fn check_write(&mut self, write: &Write<'_>) {
        let Write { before, after, sent, .. } = write;
        let old = before.map_or(0, Delivery::attempt_count);
        let new = after.attempt_count();
        let waits = after.status == Status::Retrying;
        let owner = self.subscriptions.get(&after.subscription_id).map(|v| &v.user);
        let rules = [
            (before.is_none_or(|before| !before.has_ended()), Rule::EndsOnce),
            (new == old + u32::from(sent.is_some()), Rule::Recorded),
            (waits == after.due_at.is_some(), Rule::InDueIndex),
            (waits == after.next_retry_at.is_some(), Rule::InDueIndex),
            (owner == Some(&after.user_id), Rule::OwnRecord),
            (self.stops_rightly(write), Rule::StopsRightly),
            (self.waits_rightly(write), Rule::WaitsRightly),
            (self.fails_rightly(write), Rule::FailsRightly),
            (self.holds_rightly(write), Rule::HoldsRightly),
            (self.parks_rightly(write), Rule::ParksRightly),
            (self.is_undisturbed(write), Rule::Undisturbed),
        ];
        for (_, rule) in rules.into_iter().filter(|(holds, _)| !holds) {
            self.violate(rule, || {
                let said = sent.as_ref().map(|sent| sent.said);
                format!("{} {}, attempts {old} to {new}, {said:?}", after.id, after.status)
            });
        }
    }

    fn written(&mut self, write: &Write<'_>) {
        let Write { now, number, before, after, sent, .. } = write;
        self.note_milestones(write);
        match after.due_at {
            Some(due_at) => self.due.insert(after.id.clone(), due_at),
            None => self.due.remove(&after.id),
        };
        let counts = counts_of(*before, after);
        if let Some(call) = self.calls.get_mut(number) {
            call.uncounted.entry(after.subscription_id.clone()).or_default().add(counts);
            if sent.as_ref().is_some_and(Sent::failed_slowly) {
                call.slow.insert(after.subscription_id.clone());
            }
        }
        let track = self.track(&after.id, &after.subscription_id);
        if after.has_ended() {
            track.ended = Some(*now);
        }
        track.sent_again = None;
        track.leased_until = None;
        track.versions.push((*now, (*after).clone()));
    }

    fn note_milestones(&mut self, write: &Write<'_>) {
        let Write { now, before, after, sent, .. } = write;
        let is_held = |before: &Delivery| before.status == Status::Held;
        let far = after.next_retry_at.is_some_and(|at| now.until(at) > QUEUE_WAIT);
        let asked = sent.as_ref().is_some_and(|sent| asked_for(sent.said, *now) > 0);
        let reached = [
            (after.status == Status::Retrying && sent.is_none(), Milestone::Parked),
            (after.status == Status::Held, Milestone::Held),
            (before.is_some_and(is_held) && after.has_ended(), Milestone::HeldDelivered),
            (after.status == Status::Retrying && asked, Milestone::RetryAfter),
            (far && sent.is_some(), Milestone::WaitedInTable),
            (after.end_reason == Some(EndReason::EndpointDisabled), Milestone::EndedDisabled),
            (after.end_reason == Some(EndReason::WebhookDeleted), Milestone::EndedDeleted),
            (after.status == Status::Failed && after.attempts.len() > 1, Milestone::Exhausted),
            (
                after.status == Status::Success && after.attempts.len() > 1,
                Milestone::SucceededLater,
            ),
            (after.trigger == Trigger::Redelivery && sent.is_some(), Milestone::Redelivered),
            (after.trigger == Trigger::Test, Milestone::Tested),
        ];
        for (_, milestone) in reached.into_iter().filter(|(reached, _)| *reached) {
            self.reach(milestone);
        }
    }

    /// After a POST: success after 2xx, failure after what cannot get better, and else a retry
    /// exactly while some are left.
    fn stops_rightly(&self, write: &Write<'_>) -> bool {
        let Write { from, now, after, sent: Some(sent), .. } = write else { return true };
        let said = sent.said;
        let attempts = after.attempt_count();
        match after.status {
            Status::Held => false,
            Status::Success => said.is_2xx(),
            Status::Failed => !said.is_2xx(),
            Status::Retrying => {
                let left = self.was(&after.subscription_id, *from, *now, |s| {
                    s.is_some_and(|s| s.retry_schedule.wait_after(attempts).is_some())
                });
                left && !said.is_2xx() && !said.is_410() && !said.blocked
            }
        }
    }

    /// Whether a record is held only because its webhook was paused to hold what arrives.
    fn holds_rightly(&self, write: &Write<'_>) -> bool {
        let Write { from, now, after, sent, .. } = write;
        after.status != Status::Held
            || (sent.is_none()
                && self.was(&after.subscription_id, *from, *now, |s| {
                    s.is_some_and(Subscription::is_holding)
                }))
    }

    /// Whether a record that failed did so by the rules.
    fn fails_rightly(&self, write: &Write<'_>) -> bool {
        let Write { from, now, after, sent, .. } = write;
        let id = &after.subscription_id;
        if after.status != Status::Failed || after.trigger == Trigger::Test {
            return true;
        }
        match (after.end_reason, sent) {
            (Some(EndReason::WebhookDeleted), None) => self.was(id, *from, *now, |s| s.is_none()),
            (Some(EndReason::EndpointDisabled), None) => {
                let ends = |s: &Subscription| !s.is_active && !s.is_holding();
                self.was(id, *from, *now, |s| s.is_some_and(ends))
            }
            (None, Some(sent)) => {
                let attempts = after.attempt_count();
                let exhausted = self.was(id, *from, *now, |s| {
                    s.is_some_and(|s| s.retry_schedule.wait_after(attempts).is_none())
                });
                exhausted || sent.said.is_410() || sent.said.blocked
            }
            _ => false,
        }
    }

    /// After a POST that is to be repeated: at least as long as the policy and the receiver say,
    /// and at most a tenth or 90 seconds longer.
    fn waits_rightly(&self, write: &Write<'_>) -> bool {
        let Write { from, now, after, sent: Some(sent), .. } = write else { return true };
        let Some(at) = after.next_retry_at else { return true };
        let asked = Duration::from_secs(asked_for(sent.said, sent.responded));
        let wait = sent.responded.until(at);
        self.was(&after.subscription_id, *from, *now, |s| {
            let schedule = s.map(|s| &s.retry_schedule);
            schedule.and_then(|s| s.wait_after(after.attempt_count())).is_some_and(|least| {
                let least = least.max(asked);
                (least..=least + (least / 10).min(JITTER_MAX)).contains(&wait)
            })
        })
    }

    /// Whether a record that waits without an attempt does so for a slot of its rate limit, or because of
    /// a breaker, and longer than that is open.
    fn parks_rightly(&self, write: &Write<'_>) -> bool {
        let Write { from, now, after, sent, .. } = write;
        let Some(at) = after.next_retry_at.filter(|_| sent.is_none()) else { return true };
        self.was(&after.subscription_id, *from, *now, |s| {
            s.is_some_and(|s| {
                if after.has_slot {
                    s.rate_limit.is_some()
                } else {
                    s.health.open_until.is_some_and(|until| until <= at)
                }
            })
        }) || self.host_was_open(&after.subscription_id, (*from, *now), at)
    }

    /// Whether a write without an attempt leaves the retry alone that another call is making.
    fn is_undisturbed(&self, write: &Write<'_>) -> bool {
        let Some(track) = self.tracks.get(&write.after.id) else { return true };
        let other = |(call, number): &(u64, u32)| *call != write.number && *number > 1;
        write.sent.is_some() || !track.flying.iter().any(other)
    }

    /// A record was written and its writer does not know: it will not count it.
    pub(crate) fn response_lost(&mut self, number: u64, written: &Delivery) {
        let versions = self.tracks.get(&written.id).map_or(&[][..], |track| &track.versions);
        let before = versions.iter().rev().nth(1).map(|(_, delivery)| delivery);
        let counts = counts_of(before, written);
        self.not_counted(number, &written.subscription_id, counts);
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.slow.remove(&written.subscription_id);
        if call.function == Function::Test {
            self.not_recounted(&written.subscription_id);
        }
    }

    fn take_uncounted(&mut self, number: u64, id: &SubscriptionId, counts: Counts) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let open = call.uncounted.entry(id.clone()).or_default();
        let left = (
            open.total.checked_sub(counts.total),
            open.success.checked_sub(counts.success),
            open.failed.checked_sub(counts.failed),
            open.attempts.checked_sub(counts.attempts),
        );
        if let (Some(total), Some(success), Some(failed), Some(attempts)) = left {
            let held = open.held - counts.held;
            *open = Counts { total, success, failed, held, attempts, ..Counts::default() };
        } else {
            self.violate(Rule::NoneOvercounted, || format!("{counts:?} {id}"));
        }
    }

    /// Counters were added to.
    pub(crate) fn counted(&mut self, number: u64, id: &SubscriptionId, counts: Counts) {
        self.take_uncounted(number, id, counts);
    }

    /// Counters were not added to: that request failed.
    pub(crate) fn not_counted(&mut self, number: u64, id: &SubscriptionId, counts: Counts) {
        self.take_uncounted(number, id, counts);
    }

    /// An hour was not put into the due index, so what was missed in it stays missing.
    pub(crate) fn not_recounted(&mut self, id: &SubscriptionId) {
        if let Some(versions) = self.subscriptions.get_mut(id) {
            versions.may_miss_counts = true;
        }
    }

    /// The retry function sent a task. One that it takes for lost it sends again, and then not
    /// before its grace has passed.
    pub(crate) fn sent_by_retry(&mut self, now: Timestamp, number: u64, id: &DeliveryId) {
        let began = self.calls.get(&number).map_or(now, |call| call.began);
        let Some(track) = self.tracks.get(id) else { return };
        let Some(before) = track.sent_again else { return };
        let grace = Duration::from_secs(retry::GRACE_SECONDS);
        if before < began && before.until(began) < grace {
            self.violate(Rule::Grace, || format!("{id} was sent again at {before}"));
        }
    }

    /// A row of the due index was moved, because its task is sent again.
    pub(crate) fn postponed(&mut self, number: u64, id: &DeliveryId, due_at: Timestamp) {
        self.sent_by_retry(due_at, number, id);
        self.due.insert(id.clone(), due_at);
        self.reach(Milestone::SentAgain);
        if let Some(track) = self.tracks.get_mut(id) {
            track.sent_again = Some(due_at);
        }
    }

    /// The cleanup deleted a row.
    pub(crate) fn row_deleted(
        &mut self,
        now: Timestamp,
        number: u64,
        of: &SubscriptionId,
        key: &RowKey,
    ) {
        let keeps = self.calls.get(&number).and_then(|call| call.keeps).unwrap_or_default();
        let began = self.calls.get(&number).map_or(now, |call| call.began);
        let mut waits = false;
        let moment = match key {
            RowKey::Delivery(id) => {
                self.due.remove(id);
                if let Some(track) = self.tracks.get_mut(id) {
                    let last = track.versions.last();
                    // What is held expires.
                    waits = last.is_some_and(|(_, delivery)| delivery.status == Status::Retrying);
                    track.cleaned += last.map_or(0, |(_, delivery)| delivery.attempt_count());
                    track.versions.clear();
                    track.ended.get_or_insert(now);
                }
                id.moment()
            }
            // The table in memory has no payloads apart from their records.
            RowKey::Payload(id) => id.moment(),
            RowKey::Recovery(id) => id.moment(),
            RowKey::Stats(hour) => *hour,
            // They go with their webhook only.
            RowKey::NextSlot | RowKey::StartedRecoveries => now,
        };
        let is_old = moment.plus(keeps) < now && !waits;
        if self.was(of, began, now, |s| s.is_none()) {
            self.reach(Milestone::CleanedDeleted);
            return;
        }
        self.reach(Milestone::CleanedOld);
        if let Some(versions) = self.subscriptions.get_mut(of) {
            versions.cleaned = true;
        }
        if !is_old {
            self.violate(Rule::CleanedRightly, || format!("{key:?} of {of}"));
        }
    }
}

/// The seconds that a receiver asked to wait for, from the moment of its response, capped.
fn asked_for(said: Said, responded: Timestamp) -> u64 {
    if !matches!(said.status, Some(429 | 502 | 503 | 504)) {
        return 0;
    }
    let seconds = match said.retry_after {
        None => 0,
        Some(RetryAfter::Seconds(seconds)) => seconds,
        Some(RetryAfter::At(at)) => {
            u64::try_from(responded.until(at).as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
        }
    };
    seconds.min(RETRY_AFTER_MAX_SECONDS)
}
