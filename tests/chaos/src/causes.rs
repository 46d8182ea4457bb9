//! Why a POST came twice: from the records of the pools, the proxies and the functions' logs.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use serde_json::Value;

use crate::delivery_ids;
use crate::pool::{Ended, Invocation};
use crate::receivers::Post;

/// Why a POST came twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The process was killed between the POST and the write of the record.
    Killed,
    /// The function took too long and was ended between the POST and the write of the record.
    TimedOut,
    /// The record could not be written.
    WriteFailed,
    /// The message became visible again while a process was still handling it.
    VisibleAgain,
    /// The whole system was killed between the POST and the write of the record.
    SystemKilled,
    /// Two messages: the event was published twice, because the answer had been lost.
    PublishedTwice,
    /// Two messages: the event was dispatched twice, because the first time it did not end well.
    DispatchedTwice,
    /// Two messages: the task was sent twice, because the answer had been lost.
    SentTwice,
}

impl Cause {
    /// In a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Killed => "killed between the POST and the write",
            Self::TimedOut => "timed out between the POST and the write",
            Self::WriteFailed => "the write of the record failed",
            Self::VisibleAgain => "the message became visible again while it was handled",
            Self::SystemKilled => "the system was killed between the POST and the write",
            Self::PublishedTwice => "the event was published twice (answer lost)",
            Self::DispatchedTwice => "the event was dispatched twice (killed or failed)",
            Self::SentTwice => "the task was sent twice (answer lost)",
        }
    }
}

/// When a function logged that its task failed, by the id of the delivery.
pub(crate) type ErrorLogs = HashMap<String, Vec<Instant>>;

pub(crate) fn error_logs(logs: &[(Instant, String)]) -> ErrorLogs {
    let mut all = ErrorLogs::new();
    for (at, line) in logs {
        for id in delivery_ids(line) {
            all.entry(id.to_owned()).or_default().push(*at);
        }
    }
    all
}

/// The invocations of deliver that handled each delivery.
pub(crate) struct InFlight<'a>(HashMap<String, Vec<&'a Invocation>>);

impl<'a> InFlight<'a> {
    pub(crate) fn new(invocations: &'a [Invocation]) -> Self {
        let mut in_flight: HashMap<String, Vec<&Invocation>> = HashMap::new();
        for invocation in invocations {
            let ids: BTreeSet<&str> = invocation
                .messages
                .iter()
                .flat_map(|message| delivery_ids(&message.body))
                .collect();
            for id in ids {
                in_flight.entry(id.to_owned()).or_default().push(invocation);
            }
        }
        Self(in_flight)
    }

    /// Why a POST came again.
    pub(crate) fn cause(
        &self,
        first: &Post,
        second: &Post,
        origins: &Origins,
        error_logs: &ErrorLogs,
    ) -> Option<Cause> {
        let id = &*first.delivery_id;
        let before = self.at(id, first.at);
        for one in before.iter().filter(|one| one.ended <= second.at) {
            match one.how {
                Ended::Killed => return Some(Cause::Killed),
                Ended::TimedOut => return Some(Cause::TimedOut),
                Ended::Answered | Ended::Error | Ended::Crashed => {}
            }
        }
        let complained = error_logs.get(id).map_or(&[][..], Vec::as_slice);
        if complained.iter().any(|at| *at >= first.at && *at <= second.at) {
            return Some(Cause::WriteFailed);
        }
        let after = self.at(id, second.at);
        let pair = before
            .iter()
            .flat_map(|one| after.iter().map(move |other| (*one, *other)))
            .find(|(one, other)| overlap(one, other));
        match pair {
            Some((one, other))
                if messages(one, id).any(|m| messages(other, id).any(|n| n == m)) =>
            {
                Some(Cause::VisibleAgain)
            }
            Some(_) => origins.of(id, &first.event_id),
            // Duplicates that came in one batch.
            None if before.iter().any(|one| messages(one, id).count() > 1) => {
                origins.of(id, &first.event_id)
            }
            None => None,
        }
    }

    /// Those in which the delivery was at this moment. A POST that was on its way when its process was
    /// killed comes in later: then, the last one in which the delivery was before.
    pub(crate) fn at(&self, id: &str, at: Instant) -> Vec<&'a Invocation> {
        let all = self.0.get(id).map_or(&[][..], Vec::as_slice);
        let begun = all.iter().copied().filter(|one| one.began <= at);
        let exact: Vec<_> = begun.clone().filter(|one| at <= one.ended).collect();
        if exact.is_empty() {
            begun.max_by_key(|one| one.ended).into_iter().collect()
        } else {
            exact
        }
    }

    /// What is known of a POST, in words.
    pub(crate) fn shown(&self, post: &Post) -> String {
        let at = self.at(&post.delivery_id, post.at);
        let one = |one: &Invocation| {
            let (began, ended) =
                (post.at - one.began, one.ended.saturating_duration_since(post.at));
            format!(
                "{began:?} after the beginning and {ended:?} before the end of one {:?}",
                one.how
            )
        };
        at.into_iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

fn overlap(one: &Invocation, other: &Invocation) -> bool {
    !std::ptr::eq(one, other) && one.began < other.ended && other.began < one.ended
}

/// The ids of the messages that ask for a delivery.
fn messages<'a>(invocation: &'a Invocation, id: &'a str) -> impl Iterator<Item = &'a str> {
    let named = invocation.messages.iter().filter(move |message| message.body.contains(id));
    named.map(|message| &*message.message_id)
}

/// How the messages came about that ask for a delivery.
pub(crate) struct Origins {
    /// In how many messages an event was published.
    messages: HashMap<String, BTreeSet<String>>,
    /// How often an event was dispatched.
    dispatches: HashMap<String, usize>,
    /// How many requests there were to send a task.
    sends: HashMap<String, usize>,
}

impl Origins {
    pub(crate) fn new(dispatched: &[Invocation], sends: HashMap<String, usize>) -> Self {
        let mut messages: HashMap<String, BTreeSet<String>> = HashMap::new();
        let mut dispatches: HashMap<String, usize> = HashMap::new();
        for message in dispatched.iter().flat_map(|invocation| &invocation.messages) {
            let event: Value = serde_json::from_str(&message.body).unwrap_or_default();
            let id = event["event_id"].as_str().unwrap_or_default();
            messages.entry(id.to_owned()).or_default().insert(message.message_id.clone());
            *dispatches.entry(id.to_owned()).or_default() += 1;
        }
        Self { messages, dispatches, sends }
    }

    /// Why there were two messages for a delivery.
    fn of(&self, delivery_id: &str, event_id: &str) -> Option<Cause> {
        if self.messages.get(event_id).is_some_and(|messages| messages.len() > 1) {
            return Some(Cause::PublishedTwice);
        }
        if self.dispatches.get(event_id).is_some_and(|times| *times > 1) {
            return Some(Cause::DispatchedTwice);
        }
        (*self.sends.get(delivery_id)? > 1).then_some(Cause::SentTwice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    use crate::pool::BatchMessage;

    const ID: &str = "dlv_00000000000000000000000000";

    /// Moments, in seconds.
    struct Times(Instant);

    impl Times {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }

        fn post(&self, seconds: u64) -> Post {
            Post {
                at: self.at(seconds),
                webhook: 0,
                delivery_id: ID.to_owned(),
                attempt: 1,
                event_id: "event-1".to_owned(),
                user: "user-1".to_owned(),
                taken: true,
            }
        }

        fn invocation(&self, message: &str, (began, ended): (u64, u64), how: Ended) -> Invocation {
            let body = format!(r#"{{"event_id":"event-1","delivery_id":"{ID}"}}"#);
            let messages = vec![BatchMessage { message_id: message.to_owned(), body }];
            Invocation { began: self.at(began), ended: self.at(ended), how, messages }
        }
    }

    /// The cause of a second POST at 6 s after one at 2 s.
    fn cause(
        delivered: &[(&str, (u64, u64), Ended)],
        dispatched: &[&str],
        sends: usize,
        complained: bool,
    ) -> Option<Cause> {
        let times = Times(Instant::now());
        let invocation = |(message, when, how): &(&str, (u64, u64), Ended)| {
            times.invocation(message, *when, *how)
        };
        let delivered: Vec<_> = delivered.iter().map(invocation).collect();
        let dispatched: Vec<_> = dispatched
            .iter()
            .map(|message| times.invocation(message, (0, 1), Ended::Answered))
            .collect();
        let origins = Origins::new(&dispatched, HashMap::from([(ID.to_owned(), sends)]));
        let log = format!(r#"{{"message":"the task failed","delivery_id":"{ID}"}}"#);
        let logs: Vec<_> = complained.then(|| (times.at(3), log)).into_iter().collect();
        let in_flight = InFlight::new(&delivered);
        in_flight.cause(&times.post(2), &times.post(6), &origins, &error_logs(&logs))
    }

    #[test]
    fn evidence_determines_the_cause_of_a_duplicate() {
        let answered = ("m1", (1, 4), Ended::Answered);
        let again = ("m1", (5, 7), Ended::Answered);
        let killed = ("m1", (1, 3), Ended::Killed);
        let late = ("m1", (0, 1), Ended::Killed);
        let timed_out = ("m1", (1, 3), Ended::TimedOut);
        let duplicates = [("m1", (1, 7), Ended::Answered), ("m2", (3, 8), Ended::Answered)];
        let same = [("m1", (1, 7), Ended::Answered), ("m1", (3, 8), Ended::Answered)];
        for (delivered, dispatched, sends, complained, expected) in [
            (&[killed, again][..], &["e1"][..], 1, false, Some(Cause::Killed)),
            (&[late, again], &["e1"], 1, false, Some(Cause::Killed)),
            (&[timed_out, again], &["e1"], 1, false, Some(Cause::TimedOut)),
            (&[answered, again], &["e1"], 1, true, Some(Cause::WriteFailed)),
            (&[answered, again], &["e1"], 1, false, None),
            (&same, &["e1"], 1, false, Some(Cause::VisibleAgain)),
            (&duplicates, &["e1", "e2"], 1, false, Some(Cause::PublishedTwice)),
            (&duplicates, &["e1", "e1"], 1, false, Some(Cause::DispatchedTwice)),
            (&duplicates, &["e1"], 2, false, Some(Cause::SentTwice)),
            (&duplicates, &["e1"], 1, false, None),
        ] {
            let found = cause(delivered, dispatched, sends, complained);
            assert_eq!(found, expected, "{delivered:?} {dispatched:?} {sends} {complained}");
        }
    }
}
