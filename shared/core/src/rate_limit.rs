//! The rate limit of a subscription, smoothed over the whole fleet.
//!
//! Deliveries are spread over slots that are one interval apart. The table keeps one number per
//! subscription, the start of the next free slot; reserving `n` slots moves it `n` intervals on.
//! (This is the generic cell rate algorithm without a burst allowance; the number is its theoretical
//! arrival time.) A batch reserves all its slots with one update of that number:
//!
//! * Behind others, [`Update::Extend`] adds to the number whatever it is, so that writers that
//!   come together do not conflict.
//! * After a pause, when the number lies in the past, [`Update::Restart`] sets it: unused slots are
//!   lost, so that a pause earns no burst.
//!
//! Which of the two it is depends on the number, which the caller may know from earlier or not; a
//! wrong guess fails its condition, and the failure brings the number. So an update costs one write
//! where the guess is right and rarely more than two. A reservation that is not used, or is made
//! twice by a duplicate, delays others by as many intervals and breaks nothing.

use std::time::Duration;

use crate::ids::SubscriptionId;
use crate::limits::RATE_LIMIT_MAX;
use crate::ports::{Deliveries, StoreError};
use crate::time::Timestamp;

/// How often a reservation is tried against those of others.
const TRIES: usize = 5;
/// A delivery whose slot begins within this time is not postponed: it is sent when the slot begins.
pub const NEAR: Duration = Duration::from_secs(1);
/// How late a delivery may still use its slot: messages come back within about a second of their time. A
/// later one reserves another.
pub const SLOT_LENGTH: Duration = Duration::from_secs(1);

/// Deliveries per second, from 1 to [`RATE_LIMIT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit(u32);

/// A value that is not a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number of deliveries per second from 1 to {RATE_LIMIT_MAX}")]
pub struct NotARateLimit;

/// The start of the next free slot, in microseconds since the Unix epoch: milliseconds would be too
/// coarse for the higher rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextSlot(pub i64);

/// A conditional update of the next free slot, all in microseconds. It returns the new number, or
/// fails and returns the number that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// `SET next_slot = next_slot + :add`, if `next_slot >= :now`.
    Extend {
        /// `:add`
        add: i64,
        /// `:now`
        now: i64,
    },
    /// `SET next_slot = :to`, if `attribute_not_exists(next_slot) OR next_slot < :now`.
    Restart {
        /// `:to`
        to: i64,
        /// `:now`
        now: i64,
    },
}

/// When a delivery with a reserved slot is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Allow,
    /// Not before this moment; then without asking again, for the slot is its own.
    WaitUntil(Timestamp),
}

impl RateLimit {
    /// A limit within the bounds.
    pub fn new(per_second: u32) -> Result<Self, NotARateLimit> {
        if (1..=RATE_LIMIT_MAX).contains(&per_second) {
            Ok(Self(per_second))
        } else {
            Err(NotARateLimit)
        }
    }

    /// Deliveries per second.
    pub fn per_second(self) -> u32 {
        self.0
    }

    /// The time between two slots, in microseconds, rounded up so that the rate is never exceeded.
    fn interval(self) -> i64 {
        i64::from(1_000_000u32.div_ceil(self.0))
    }

    /// The update that reserves `count` slots, judging by what is known of the next free slot:
    /// from an earlier reservation, from a row that was read anyway, or from an update that failed.
    pub fn reserve(self, known: Option<NextSlot>, now: Timestamp, count: u32) -> Update {
        let now = now.millis().saturating_mul(1_000);
        let add = self.interval() * i64::from(count);
        match known {
            Some(NextSlot(next)) if next >= now => Update::Extend { add, now },
            _ => Update::Restart { to: now.saturating_add(add), now },
        }
    }

    /// What the `count` deliveries may do whose update has returned `after`, first slot first.
    pub fn admissions(
        self,
        after: NextSlot,
        count: u32,
        now: Timestamp,
    ) -> impl Iterator<Item = Admission> {
        (0..i64::from(count)).rev().map(move |slots_behind| {
            let start = after.0.saturating_sub(self.interval() * (slots_behind + 1));
            // Rounded up to the clock's milliseconds: never before the slot.
            let start = Timestamp::from_millis(start.saturating_add(999).div_euclid(1_000));
            if start <= now { Admission::Allow } else { Admission::WaitUntil(start) }
        })
    }
}

impl Update {
    /// What the table does with this update: the new number, or the number that failed the condition.
    pub fn apply(self, current: Option<NextSlot>) -> SlotUpdate {
        match (self, current) {
            (Self::Extend { add, now }, Some(NextSlot(next))) if next >= now => {
                SlotUpdate::Applied(NextSlot(next.saturating_add(add)))
            }
            (Self::Restart { to, now }, current) if current.is_none_or(|next| next.0 < now) => {
                SlotUpdate::Applied(NextSlot(to))
            }
            (_, current) => SlotUpdate::ConditionFailed(current),
        }
    }
}

impl Admission {
    /// The beginning of the slot; `now` when it has begun.
    pub fn start(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Allow => now,
            Self::WaitUntil(start) => start,
        }
    }
}

/// What became of an [`Update`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotUpdate {
    /// The table has this number.
    Applied(NextSlot),
    /// The condition does not hold for the number that the table has, which is this one.
    ConditionFailed(Option<NextSlot>),
}

/// Reserves `count` slots of a subscription, first slot first. A wrong guess is corrected by the number
/// that the table returns.
pub async fn reserve(
    deliveries: &dyn Deliveries,
    subscription_id: &SubscriptionId,
    limit: RateLimit,
    count: u32,
    now: Timestamp,
) -> Result<Vec<Timestamp>, StoreError> {
    let mut known = None;
    for _ in 0..TRIES {
        let update = limit.reserve(known, now, count);
        match deliveries.update_next_slot(subscription_id, update, now).await? {
            SlotUpdate::Applied(after) => {
                let admissions = limit.admissions(after, count, now);
                return Ok(admissions.map(|admission| admission.start(now)).collect());
            }
            SlotUpdate::ConditionFailed(current) => known = current,
        }
    }
    Err(StoreError::Unavailable("the next free slot changes all the time".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn limit(per_second: u32) -> RateLimit {
        RateLimit::new(per_second).unwrap()
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// Reserves as a function does: guess, and on failure judge by what is there. Counts the writes.
    fn reserve(
        table: &mut Option<NextSlot>,
        known: Option<NextSlot>,
        limit: RateLimit,
        now: Timestamp,
        count: u32,
    ) -> (Vec<Timestamp>, u32) {
        let mut known = known;
        for writes in 1.. {
            match limit.reserve(known, now, count).apply(*table) {
                SlotUpdate::Applied(after) => {
                    *table = Some(after);
                    let admissions = limit.admissions(after, count, now);
                    return (admissions.map(|admission| admission.start(now)).collect(), writes);
                }
                SlotUpdate::ConditionFailed(current) => known = current,
            }
        }
        unreachable!("an update that knows the number succeeds")
    }

    #[test]
    fn batch_on_an_idle_webhook_starts_now_and_is_spread() {
        let mut table = None;
        let (starts, writes) = reserve(&mut table, None, limit(4), NOW, 5);
        assert_eq!(starts, [0, 250, 500, 750, 1_000].map(at));
        assert_eq!((table, writes), (Some(NextSlot(1_250_000)), 1));
    }

    #[test]
    fn batch_behind_others_follows_them_with_one_write_when_it_knows_of_them() {
        let mut table = Some(NextSlot(10_000_000));
        let stale = Some(NextSlot(5_000_000));
        let (starts, writes) = reserve(&mut table, stale, limit(1), NOW, 2);
        assert_eq!((starts, writes), (vec![at(10_000), at(11_000)], 1));
        let (starts, writes) = reserve(&mut table, None, limit(1), NOW, 1);
        assert_eq!((starts, writes), (vec![at(12_000)], 2), "a wrong guess costs one write more");
    }

    #[test]
    fn pause_earns_no_burst() {
        let mut table = Some(NextSlot(1_000_000));
        let (starts, _) = reserve(&mut table, None, limit(2), at(60_000), 3);
        assert_eq!(starts, [60_000, 60_500, 61_000].map(at));
    }

    #[test]
    fn values_that_are_not_a_rate_are_refused() {
        for bad in [0, 1_001, u32::MAX] {
            assert_eq!(RateLimit::new(bad), Err(NotARateLimit), "{bad}");
        }
        assert_eq!(RateLimit::new(1_000).unwrap().per_second(), 1_000);
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        for number in [i64::MIN, -1, 0, i64::MAX] {
            let known = Some(NextSlot(number));
            let update = limit(1).reserve(known, at(i64::MAX), u32::MAX);
            if let SlotUpdate::Applied(after) = update.apply(known) {
                assert!(limit(1).admissions(after, 3, NOW).count() == 3);
            }
        }
    }

    proptest! {
        #[test]
        fn any_mix_of_writers_stays_within_the_rate_and_wastes_nothing_while_busy(
            per_second in 1..=1_000u32,
            batches in proptest::collection::vec((0..400i64, 1..=10u32, 0..3usize), 1..60),
        ) {
            let limit = limit(per_second);
            let mut table = None;
            let mut seen = vec![None];
            let mut now = 1_000_000;
            let mut starts = Vec::new();
            for (pause, count, stale) in batches {
                now += pause;
                let known = seen[seen.len().saturating_sub(1 + stale)];
                let idle = table.is_none_or(|next: NextSlot| next.0 < now * 1_000);
                let (slots, writes) = reserve(&mut table, known, limit, at(now), count);
                prop_assert!(writes <= 2);
                if idle {
                    prop_assert_eq!(slots[0], at(now), "an idle webhook does not wait");
                }
                prop_assert!(slots.iter().all(|start| *start >= at(now)));
                starts.extend(slots.iter().map(|start| start.millis()));
                seen.push(table);
            }
            // In no second that begins with a delivery are there more than the limit allows; the
            // rounding to milliseconds may push one more into it.
            for (n, start) in starts.iter().enumerate() {
                let in_second = starts[n..].iter().take_while(|other| **other < start + 1_000).count();
                prop_assert!(in_second <= usize::try_from(per_second).unwrap() + 1);
            }
            prop_assert!(starts.is_sorted());
        }
    }
}
