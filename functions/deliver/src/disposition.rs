//! What becomes of the message of a task.

use std::time::Duration;

use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::limits::QUEUE_WAIT_MAX_SECONDS;
use webhooks_core::ports::{Random, Refusal};
use webhooks_core::time::Timestamp;

use crate::effects::Effect;

/// The retry function looks at a delivery that waits in the queue this long after its moment: by
/// then its message has been lost.
const LOST_AFTER_SECONDS: u64 = 900;

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// It is acknowledged: nothing is left to do with it.
    Ack,
    /// It becomes visible after this time, its visibility timeout.
    RetryAfter(Duration),
    /// A copy that the queue delays by this time takes its place, and it is acknowledged.
    Delay(Duration),
    /// It becomes visible when its present visibility timeout ends.
    Nack,
    /// The same, but sooner: after this time. The cause passes within seconds.
    NackFor(Duration),
}

/// A message becomes visible soon for so many receives. A table that does not recover meanwhile would
/// otherwise use up the receives of the queue, and have each attempt made again every minute.
const SOON_RECEIVES_MAX: u32 = 3;
/// When that is: after 30 to 60 s.
const SOON_MIN: Duration = Duration::from_secs(30);
const SOON_JITTER_SECONDS: u64 = 30;

impl Disposition {
    /// For a task whose moment has not come: the queue delays a copy of the message until then if it can. The
    /// message itself does not wait, because a queue has at most 120,000 messages in flight (AWS quota), and
    /// delayed ones do not count.
    ///
    /// The wait is cut to whole seconds, which is never less than what a receiver asked for,
    /// because that is whole seconds before the jitter.
    pub(crate) fn until(at: Timestamp, now: Timestamp) -> Self {
        let wait = now.until(at).as_secs();
        if wait <= QUEUE_WAIT_MAX_SECONDS {
            Self::Delay(Duration::from_secs(wait))
        } else {
            Self::Ack
        }
    }

    /// For a task that failed because a table is throttled or not reachable.
    pub(crate) fn unavailable(receives: u32, random: &dyn Random) -> Self {
        if receives > SOON_RECEIVES_MAX {
            return Self::Nack;
        }
        Self::NackFor(SOON_MIN + Duration::from_secs(random.up_to(SOON_JITTER_SECONDS)))
    }

    /// That of a message with this task and another, neither of which is acknowledged.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::NackFor(one), Self::NackFor(other)) => Self::NackFor(one.max(other)),
            _ => Self::Nack,
        }
    }

    /// Whether the task failed on our side.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Nack | Self::NackFor(_))
    }

    /// For a task whose write or lease was refused. Another copy of the task was faster, or our own
    /// request was repeated because its response was lost; the record says what is left to do.
    pub(crate) fn after_refusal(refusal: &Refusal, now: Timestamp) -> Self {
        match refusal {
            Refusal::Missing | Refusal::Ended => Self::Ack,
            Refusal::ChangedMeanwhile(record) => {
                record.next_retry_at.map_or(Self::Ack, |at| Self::until(at, now))
            }
            // Should the function that has the lease have died, this message takes over.
            Refusal::Leased { until } => Self::RetryAfter(Duration::from_secs(
                now.until(*until)
                    .as_millis()
                    .div_ceil(1000)
                    .try_into()
                    .expect("a lease lasts about a minute"),
            )),
        }
    }
}

/// Puts the next attempt off until `at`: a delayed copy of the message makes it, if the queue can delay a
/// message that long, else one that the retry function sends.
pub(crate) fn wait(delivery: &mut Delivery, at: Timestamp, now: Timestamp) -> Disposition {
    let disposition = Disposition::until(at, now);
    let due_at = match disposition {
        Disposition::Delay(_) => at.plus_seconds(LOST_AFTER_SECONDS),
        Disposition::Ack
        | Disposition::RetryAfter(_)
        | Disposition::Nack
        | Disposition::NackFor(_) => at,
    };
    delivery.wait(at, due_at, now);
    disposition
}

/// What became of a task.
pub(crate) struct Handled {
    /// What becomes of the message.
    pub(crate) disposition: Disposition,
    /// What is to be counted.
    pub(crate) effect: Option<Effect>,
}

impl Handled {
    /// For a task whose write was refused. A record that has ended or is held may have been written by our own
    /// request, whose response was lost, and then nobody has counted it.
    pub(crate) fn after_refusal(refusal: &Refusal, delivery: &Delivery, now: Timestamp) -> Self {
        let is_done = match refusal {
            Refusal::Ended => true,
            Refusal::ChangedMeanwhile(record) => record.status == Status::Held,
            Refusal::Missing | Refusal::Leased { .. } => false,
        };
        let effect = is_done.then(|| Effect::recount(delivery));
        Self { disposition: Disposition::after_refusal(refusal, now), effect }
    }
}

impl From<Disposition> for Handled {
    fn from(disposition: Disposition) -> Self {
        Self { disposition, effect: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::SeededRandom;

    #[test]
    fn task_is_hidden_briefly_for_the_first_receives_of_an_outage_only() {
        let random = SeededRandom::new(1);
        for receives in 1..=SOON_RECEIVES_MAX {
            let Disposition::NackFor(hidden) = Disposition::unavailable(receives, &random) else {
                panic!("hidden for minutes at receive {receives}");
            };
            assert!((30..=60).contains(&hidden.as_secs()), "hidden for {hidden:?}");
        }
        assert_eq!(Disposition::unavailable(SOON_RECEIVES_MAX + 1, &random), Disposition::Nack);
    }
}
