//! What became of every event, and why some POSTs came twice: from what the receivers, the pools,
//! the proxies and the tables have seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;
use webhooks_aws::SystemClock;
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::limits::PAGE_MAX;
use webhooks_core::ports::{Clock as _, DeliveryFilter};

use crate::faults::Fault;
use crate::pool::{Ended, Invocation};
use crate::receivers::Post;
use crate::run::Published;
use crate::stage::{Depth, Stage, Webhook};
use crate::{Outcome, delivery_ids, text};

/// How long after a kill a POST may still come in that was on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Why a POST came twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The process was killed between the POST and the write of the record.
    Killed,
    /// The function took too long and was ended between the POST and the write of the record.
    TimedOut,
    /// The record could not be written.
    WriteFailed,
    /// The message became visible again while a process still had it in its hands.
    VisibleAgain,
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
            Self::VisibleAgain => "the message became visible again while in hand",
            Self::PublishedTwice => "the event was published twice (answer lost)",
            Self::DispatchedTwice => "the event was dispatched twice (killed or failed)",
            Self::SentTwice => "the task was sent twice (answer lost)",
        }
    }
}

/// What a run says of itself.
pub(crate) struct Evidence {
    pub(crate) seed: u64,
    pub(crate) events: Vec<Published>,
    pub(crate) storm: Duration,
    pub(crate) all: Duration,
    pub(crate) left: Depth,
    pub(crate) waiting: usize,
}

/// What a run has shown.
#[derive(Debug, Default)]
pub struct Report {
    /// Events that were accepted.
    pub events: usize,
    /// Deliveries whose end was known beforehand: to webhooks that stay as they are.
    pub expected: usize,
    /// Of those, the ones that were delivered, after the attempts that were known beforehand.
    pub delivered: usize,
    /// Of those, the ones that failed as they had to.
    pub failed: usize,
    /// Of those, the ones that nobody knows of.
    pub lost: Vec<String>,
    /// Whatever else is not as promised.
    pub wrong: Vec<String>,
    /// What became of deliveries to webhooks that were paused, deleted or gone meanwhile.
    pub changed: BTreeMap<&'static str, usize>,
    /// POSTs that came in.
    pub posts: usize,
    /// POSTs that came in more than once with the same attempt number, by cause.
    pub duplicates: BTreeMap<Cause, usize>,
    /// Those for which no cause was seen.
    pub unexplained: Vec<String>,
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
    /// Invocations by function and how they ended.
    pub invocations: BTreeMap<(&'static str, Ended), usize>,
    /// Calls that went through the proxies.
    pub calls: usize,
    /// What went wrong with them.
    pub faults: BTreeMap<Fault, usize>,
    /// How long it stormed, and the whole run.
    pub times: (Duration, Duration),
}

impl Report {
    /// Whether everything is as promised: nothing lost, nothing wrong, nothing left, every POST
    /// that came twice explained.
    pub fn is_good(&self) -> bool {
        let clean = self.lost.is_empty() && self.wrong.is_empty() && self.unexplained.is_empty();
        let ended = self.delivered + self.failed == self.expected;
        clean && ended && self.left == 0 && self.waiting == 0 && self.dead == (0, 0)
    }
}

pub(crate) async fn judge(stage: &Stage, evidence: Evidence) -> Outcome<Report> {
    let posts = stage.receivers.posts();
    let (dispatched, delivered) = stage.invocations();
    let mut report = Report {
        events: evidence.events.len(),
        posts: posts.len(),
        left: evidence.left.ready + evidence.left.hidden,
        waiting: evidence.waiting,
        dead: stage.dead()?,
        times: (evidence.storm, evidence.all),
        ..Report::default()
    };
    for pool in [&stage.dispatch, &stage.deliver, &stage.retry, &stage.cleanup] {
        report.processes += pool.started();
        for invocation in pool.invocations() {
            *report.invocations.entry((pool.name(), invocation.how)).or_default() += 1;
        }
    }
    for faults in [&stage.tables, &stage.queues, &stage.publishing] {
        report.calls += faults.calls();
        for (fault, times) in faults.happened() {
            *report.faults.entry(fault).or_default() += times;
        }
    }
    let hands = Hands::new(&delivered);
    report.judge_posts(&stage.webhooks, &posts, &hands);
    let origins = Origins::new(&dispatched, stage.queues.sends());
    report.explain(&posts, &hands, &origins, &complaints(&stage.deliver.complaints()));
    let taken: BTreeSet<&str> =
        posts.iter().filter(|post| post.taken).map(|post| &*post.delivery_id).collect();
    for webhook in &stage.webhooks {
        let records = records(stage, webhook).await?;
        report.judge_records(webhook, &records, &taken);
        if webhook.endpoint.changes() {
            report.count_changed(webhook, &records);
        } else {
            report.judge_events(webhook, &records, &evidence);
        }
        if let Some(shown) = stage.statistics(webhook).await? {
            report.judge_statistics(webhook, &records, &shown);
        }
    }
    Ok(report)
}

/// Every record of a webhook.
async fn records(stage: &Stage, webhook: &Webhook) -> Outcome<Vec<Delivery>> {
    let (mut all, mut before, now) = (Vec::new(), None, SystemClock.now());
    loop {
        let filter = DeliveryFilter::default();
        let page = stage.deliveries.page(&webhook.id, &filter, PAGE_MAX, before.as_ref(), now);
        let page = page.await.map_err(text)?;
        all.extend(page.items);
        before = page.next;
        if before.is_none() {
            return Ok(all);
        }
    }
}

impl Report {
    /// Nothing may come to anybody but the owner, nor after a deletion, and always under one id.
    fn judge_posts(&mut self, webhooks: &[Webhook], posts: &[Post], hands: &Hands) {
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
            if webhook.deleted.is_some_and(|deleted| {
                post.at > deleted
                    && !hands.at(&post.delivery_id, post.at).any(|one| one.began <= deleted)
            }) {
                self.wrong.push(format!("{what}: came after the deletion"));
            }
        }
    }

    /// Whatever the webhook, a record tells the truth.
    fn judge_records(&mut self, webhook: &Webhook, records: &[Delivery], taken: &BTreeSet<&str>) {
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
    fn judge_events(&mut self, webhook: &Webhook, records: &[Delivery], evidence: &Evidence) {
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
                    let why = record.attempts.last().and_then(|last| last.error.as_deref());
                    let why = why.unwrap_or("no error");
                    self.wrong.push(format!("{what}: {found:?} ({why}), expected {expected:?}"));
                }
                (Status::Success, _) => self.delivered += 1,
                _ => self.failed += 1,
            }
        }
    }

    fn count_changed(&mut self, webhook: &Webhook, records: &[Delivery]) {
        if webhook.deleted.is_some() {
            return;
        }
        for record in records {
            let what = match (record.status, record.end_reason) {
                (Status::Success, _) => "delivered",
                (Status::Failed, None) => "failed: http 410",
                (Status::Failed, Some(reason)) => reason.as_str(),
                (Status::Retrying, _) => "still waiting",
            };
            *self.changed.entry(what).or_default() += 1;
        }
    }

    /// Counters may be too low, never too high.
    fn judge_statistics(&mut self, webhook: &Webhook, records: &[Delivery], shown: &Value) {
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

    fn explain(
        &mut self,
        posts: &[Post],
        hands: &Hands,
        origins: &Origins,
        complaints: &Complaints,
    ) {
        let mut same: BTreeMap<(&str, u32), Vec<&Post>> = BTreeMap::new();
        for post in posts {
            same.entry((&post.delivery_id, post.attempt)).or_default().push(post);
        }
        for posts in same.values() {
            for pair in posts.windows(2) {
                let [first, second] = pair else { continue };
                match cause(first, second, hands, origins, complaints) {
                    Some(cause) => *self.duplicates.entry(cause).or_default() += 1,
                    None => self.unexplained.push(format!(
                        "{} attempt {} of {}",
                        second.delivery_id, second.attempt, second.event_id
                    )),
                }
            }
        }
    }
}

/// Why a POST came again.
fn cause(
    first: &Post,
    second: &Post,
    hands: &Hands,
    origins: &Origins,
    complaints: &Complaints,
) -> Option<Cause> {
    let id = &*first.delivery_id;
    let before: Vec<&Invocation> = hands.at(id, first.at).collect();
    for one in before.iter().filter(|one| one.ended <= second.at) {
        match one.how {
            Ended::Killed => return Some(Cause::Killed),
            Ended::TimedOut => return Some(Cause::TimedOut),
            _ => {}
        }
    }
    let complained = complaints.get(id).map_or(&[][..], Vec::as_slice);
    if complained.iter().any(|at| *at >= first.at && *at <= second.at) {
        return Some(Cause::WriteFailed);
    }
    let after: Vec<&Invocation> = hands.at(id, second.at).collect();
    let message = |invocation: &Invocation| -> Vec<String> {
        let named = invocation.messages.iter().filter(|message| message.body.contains(id));
        named.map(|message| message.message_id.clone()).collect()
    };
    let overlaps = |one: &Invocation, other: &Invocation| {
        !std::ptr::eq(one, other) && one.began < other.ended && other.began < one.ended
    };
    let pair = before
        .iter()
        .flat_map(|one| after.iter().map(move |other| (*one, *other)))
        .find(|(one, other)| overlaps(one, other));
    match pair {
        Some((one, other)) if message(one).iter().any(|id| message(other).contains(id)) => {
            Some(Cause::VisibleAgain)
        }
        Some(_) => origins.of(id, &first.event_id),
        // Twins that came in one batch.
        None if before.iter().any(|one| message(one).len() > 1) => origins.of(id, &first.event_id),
        None => None,
    }
}

/// When a function logged that its task failed, by the id of the delivery.
type Complaints = HashMap<String, Vec<Instant>>;

fn complaints(logs: &[(Instant, String)]) -> Complaints {
    let mut all = Complaints::new();
    for (at, line) in logs {
        for id in delivery_ids(line) {
            all.entry(id.to_owned()).or_default().push(*at);
        }
    }
    all
}

/// In which invocations of deliver a delivery was.
struct Hands<'a>(HashMap<String, Vec<&'a Invocation>>);

impl<'a> Hands<'a> {
    fn new(invocations: &'a [Invocation]) -> Self {
        let mut hands: HashMap<String, Vec<&Invocation>> = HashMap::new();
        for invocation in invocations {
            let ids: BTreeSet<&str> = invocation
                .messages
                .iter()
                .flat_map(|message| delivery_ids(&message.body))
                .collect();
            for id in ids {
                hands.entry(id.to_owned()).or_default().push(invocation);
            }
        }
        Self(hands)
    }

    /// Those in which the delivery was at this moment; or else, just before.
    fn at(&self, id: &str, at: Instant) -> impl Iterator<Item = &'a Invocation> {
        let all = self.0.get(id).map_or(&[][..], Vec::as_slice);
        let within = |one: &&&Invocation, slack| one.began <= at && at <= one.ended + slack;
        let exact = all.iter().any(|one| within(&one, Duration::ZERO));
        let slack = if exact { Duration::ZERO } else { ON_ITS_WAY };
        all.iter().filter(move |one| within(one, slack)).copied().collect::<Vec<_>>().into_iter()
    }
}

/// How the messages came about that ask for a delivery.
struct Origins {
    /// In how many messages an event was published.
    messages: HashMap<String, BTreeSet<String>>,
    /// How often an event was dispatched.
    dispatches: HashMap<String, usize>,
    /// How many requests there were to send a task.
    sends: HashMap<String, usize>,
}

impl Origins {
    fn new(dispatched: &[Invocation], sends: HashMap<String, usize>) -> Self {
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

/// A webhook and an event, in words.
struct Shown<'a>(&'a Webhook, &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(webhook, event) = self;
        write!(f, "{event} for {} ({:?}) of {}", webhook.id, webhook.endpoint, webhook.user)
    }
}
