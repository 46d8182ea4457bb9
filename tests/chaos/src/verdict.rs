//! What became of every event: from what the receivers and the tables have seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use webhooks_core::delivery::{Attempt, Delivery, Status};

use crate::Outcome;
use crate::faults::{Fault, Faults};
use crate::harness::{Depth, Harness, Published, Webhook};
use crate::pool::{Ended, Pool};
use crate::receivers::Post;

/// What a run says of itself.
pub(crate) struct Evidence {
    pub(crate) seed: u64,
    pub(crate) events: Vec<Published>,
    pub(crate) with_faults: Duration,
    pub(crate) all: Duration,
    pub(crate) left: Depth,
}

/// What a run has shown.
#[derive(Debug, Default)]
pub struct Report {
    /// Events that were accepted.
    pub events: usize,
    /// Deliveries whose end was known beforehand: to webhooks that stay as they are.
    pub expected: usize,
    /// Expected deliveries that succeeded after the expected number of attempts.
    pub delivered: usize,
    /// Expected deliveries that failed as expected.
    pub failed: usize,
    /// Expected deliveries without a record.
    pub lost: Vec<String>,
    /// Whatever else is not as promised.
    pub wrong: Vec<String>,
    /// POSTs that came in.
    pub posts: usize,
    /// POSTs that repeat the id and attempt number of an earlier one.
    pub repeated: usize,
    /// Messages that stayed in the queues.
    pub left: usize,
    /// Records that still wait for a retry.
    pub waiting: usize,
    /// Messages that were given up: events and tasks.
    pub dead: (usize, usize),
    /// Deliveries that the statistics miss.
    pub uncounted: usize,
    /// Processes that were started.
    pub processes: usize,
    /// How often the whole system was killed.
    pub system_kills: usize,
    /// Invocations by function and how they ended.
    pub invocations: BTreeMap<(&'static str, Ended), usize>,
    /// Calls that went through the proxies.
    pub calls: usize,
    /// What went wrong with them.
    pub faults: BTreeMap<Fault, usize>,
    /// How long there were faults, and the whole run.
    pub times: (Duration, Duration),
}

impl Report {
    /// Whether everything is as promised: nothing lost, nothing wrong, nothing left, and at most one in a
    /// thousand deliveries missing in the statistics.
    pub fn is_good(&self) -> bool {
        let clean = self.lost.is_empty() && self.wrong.is_empty();
        let ended = self.delivered + self.failed == self.expected;
        let counted = self.uncounted * 1_000 <= self.expected;
        clean && ended && counted && self.left == 0 && self.waiting == 0 && self.dead == (0, 0)
    }
}

/// Checks what the receivers and the tables have recorded.
pub(crate) async fn check(harness: &Harness, evidence: Evidence) -> Outcome<Report> {
    harness.recount().await?;
    let posts = harness.receivers.posts();
    let mut report = Report {
        events: evidence.events.len(),
        posts: posts.len(),
        left: evidence.left.ready + evidence.left.hidden,
        waiting: harness.waiting().await?.len(),
        dead: harness.dead().await?,
        times: (evidence.with_faults, evidence.all),
        ..Report::default()
    };
    report.count_faults(&[&harness.publishing]);
    report.check_posts(&harness.webhooks, &posts);
    let distinct: BTreeSet<_> =
        posts.iter().map(|post| (&post.delivery_id, post.attempt)).collect();
    report.repeated = posts.len() - distinct.len();
    let taken: BTreeSet<&str> =
        posts.iter().filter(|post| post.taken).map(|post| &*post.delivery_id).collect();
    for webhook in &harness.webhooks {
        let records = harness.records(webhook).await?;
        report.check_records(webhook, &records, &taken);
        if !webhook.endpoint.changes() {
            report.check_events(webhook, &records, &evidence);
        }
        if let Some(shown) = harness.statistics(webhook).await? {
            report.check_statistics(webhook, &records, &shown);
        }
    }
    Ok(report)
}

impl Report {
    /// Adds what went wrong in these proxies.
    pub(crate) fn count_faults(&mut self, proxies: &[&Faults]) {
        for faults in proxies {
            self.calls += faults.calls();
            for (fault, times) in faults.happened() {
                *self.faults.entry(fault).or_default() += times;
            }
        }
    }

    /// Adds what a function did.
    pub(crate) fn count_invocations(&mut self, pool: &Pool) {
        self.processes += pool.started();
        for (how, times) in pool.ended() {
            *self.invocations.entry((pool.name(), how)).or_default() += times;
        }
    }

    /// Nothing may come to anybody but the owner, and always under one id.
    fn check_posts(&mut self, webhooks: &[Webhook], posts: &[Post]) {
        let mut ids: HashMap<(usize, &str), &str> = HashMap::new();
        for post in posts {
            let Some(webhook) = webhooks.get(post.webhook) else { continue };
            let what = Shown(webhook, &post.event_id);
            if webhook.user != post.user {
                self.wrong.push(format!("{what}: came to somebody else"));
            }
            let id = ids.entry((post.webhook, &post.event_id)).or_insert(&post.delivery_id);
            if *id != post.delivery_id {
                self.wrong.push(format!("{what}: two ids"));
            }
        }
    }

    /// Whatever the webhook, a record tells the truth.
    fn check_records(&mut self, webhook: &Webhook, records: &[Delivery], taken: &BTreeSet<&str>) {
        for record in records {
            let what = Shown(webhook, record.event_id.as_str());
            if record.status == Status::Success && !taken.contains(record.id.as_str()) {
                self.wrong.push(format!("{what}: a success that nobody has seen"));
            }
            if record.status == Status::Failed && taken.contains(record.id.as_str()) {
                let why = record.end_reason.map_or("failed", |reason| reason.as_str());
                // Killed before the write, and paused or deleted before the next try.
                if !webhook.endpoint.changes() {
                    self.wrong.push(format!("{what}: {why}, although it was taken"));
                }
            }
        }
    }

    /// What must have become of the events of a webhook that stays as it is.
    fn check_events(&mut self, webhook: &Webhook, records: &[Delivery], evidence: &Evidence) {
        let mut by_event: HashMap<&str, Vec<&Delivery>> = HashMap::new();
        for record in records {
            by_event.entry(record.event_id.as_str()).or_default().push(record);
        }
        for event in evidence.events.iter().filter(|event| event.user == webhook.user) {
            self.expected += 1;
            let what = Shown(webhook, &event.id);
            let [record] = by_event.get(&*event.id).map_or(&[][..], Vec::as_slice) else {
                match by_event.get(&*event.id).map_or(0, Vec::len) {
                    0 => self.lost.push(what.to_string()),
                    several => self.wrong.push(format!("{what}: {several} records")),
                }
                continue;
            };
            let expected = webhook.endpoint.expected(evidence.seed, &event.id);
            match (record.status, record.attempt_count()) {
                found if found != expected => {
                    let why = record.attempts.last().and_then(Attempt::error);
                    let why = why.as_deref().unwrap_or("no error");
                    self.wrong.push(format!("{what}: {found:?} ({why}), expected {expected:?}"));
                }
                (Status::Success, _) => self.delivered += 1,
                _ => self.failed += 1,
            }
        }
    }

    /// Counters may be too low, never too high.
    fn check_statistics(&mut self, webhook: &Webhook, records: &[Delivery], shown: &Value) {
        let ended = |status| records.iter().filter(|one| one.status == status).count();
        for (name, known) in [
            ("total_deliveries", records.len()),
            ("successful_deliveries", ended(Status::Success)),
            ("failed_deliveries", ended(Status::Failed)),
        ] {
            let counted = shown[name].as_u64().and_then(|counted| usize::try_from(counted).ok());
            match counted.and_then(|counted| known.checked_sub(counted)) {
                Some(missing) if name == "total_deliveries" => self.uncounted += missing,
                Some(_) => {}
                None => {
                    let id = &webhook.id;
                    self.wrong.push(format!("{id}: {name} is {counted:?}, but there are {known}"));
                }
            }
        }
    }
}

/// A webhook and an event, in words.
struct Shown<'a>(&'a Webhook, &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(webhook, event) = self;
        write!(f, "{event} for {} ({:?}) of {}", webhook.id, webhook.endpoint, webhook.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use test_support::sample;
    use webhooks_core::ids::EventId;

    use crate::plan::Endpoint;

    #[test]
    fn event_without_its_record_is_lost_and_a_wrong_end_is_reported() {
        let webhook = Webhook {
            id: sample::subscription_id("u", 1),
            user: "u".to_owned(),
            endpoint: Endpoint::Healthy,
        };
        let published = |id: &str| Published { id: id.to_owned(), user: "u".to_owned() };
        let evidence = Evidence {
            seed: 1,
            events: vec![published("event-1"), published("event-2")],
            with_faults: Duration::ZERO,
            all: Duration::ZERO,
            left: Depth::default(),
        };
        let event_id: EventId = "event-2".parse().unwrap();
        let record = Delivery { event_id, ..sample::delivery(&webhook.id, 2) };
        let mut report = Report::default();
        report.check_events(&webhook, &[record], &evidence);
        assert_eq!((report.expected, report.lost.len(), report.wrong.len()), (2, 1, 1));
        assert!(report.lost[0].starts_with("event-1 for"), "{report:?}");
        assert!(report.wrong[0].contains("Retrying"), "{report:?}");
        assert!(!report.is_good());
    }
}
