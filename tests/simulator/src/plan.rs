//! What a seed determines: how large the run is, what fails in it, and what its users do.

use std::time::Duration;

use test_support::{SeededRandom, sample};
use webhooks_core::time::Timestamp;

use crate::queue::QueueFaults;
use crate::receivers::ReceiverSettings;

/// What fails, in a thousand of its chances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Faults {
    /// A function dies, before or after a request.
    pub(crate) crash: u64,
    /// A request fails and is not carried out.
    pub(crate) fail: u64,
    /// A request is carried out and its response is lost.
    pub(crate) lost: u64,
    /// A request is carried out twice.
    pub(crate) repeat: u64,
    /// A request takes seconds.
    pub(crate) slow: u64,
    /// An eventually consistent read misses the writes of the last second.
    pub(crate) stale: u64,
    /// An entry of a batch is not taken.
    pub(crate) refuse: u64,
    /// What the queues and the schedules do, though seldom.
    pub(crate) queue: u64,
}

impl Faults {
    /// Nothing fails.
    pub(crate) const NONE: Self =
        Self { crash: 0, fail: 0, lost: 0, repeat: 0, slow: 0, stale: 0, refuse: 0, queue: 0 };

    fn draw(random: &SeededRandom) -> Self {
        // Most faults are absent from a run or common in it: both find more than an even mix.
        let rate = |most: u64| if random.chance(400) { 0 } else { 1 + random.below(most) };
        Self {
            crash: rate(30),
            fail: rate(60),
            lost: rate(40),
            repeat: rate(40),
            slow: rate(100),
            stale: rate(900),
            refuse: rate(300),
            queue: rate(200),
        }
    }

    /// What the queues do.
    pub(crate) fn queue(self) -> QueueFaults {
        QueueFaults {
            twice: self.queue,
            still_visible: self.queue / 4,
            not_deleted: self.queue,
            late: self.queue,
            shuffle: if self.queue > 0 { 500 } else { 0 },
        }
    }
}

/// How long a part is down at most, in milliseconds. While the tables are down for half an hour an
/// event is received ten times, and goes to the dead-letter queue; a task does within eight hours.
const OUTAGE_MAX_MS: [u64; 4] = [60_000, 900_000, 3_600_000, 40_000_000];

/// How long receivers are down in an outage of theirs.
pub(crate) const OUTAGE_SECONDS: u64 = 2 * 3_600;
/// By when everything has arrived that was published in such an outage, in seconds from its begin.
///
/// An attempt that fails at its end is the fourth at most: the next one follows after 2 hours, and up to a
/// tenth of jitter. A delivery that meets the breaker open, or the probe of another, waits as long again as
/// it has waited: twice the time until then. The breaker has closed by then, because a delivery that
/// was parked before the end comes at the latest after twice the outage. Ten minutes are for the jitter of
/// parked deliveries and the schedule of the retry function.
pub(crate) const OUTAGE_ARRIVED_SECONDS: u64 = 2 * (OUTAGE_SECONDS + 7_200 + 720) + 600;

/// A time in which one part fails nearly always.
#[derive(Clone, Copy, Debug)]
struct Outage {
    part: &'static str,
    from: Timestamp,
    until: Timestamp,
    rate: u64,
}

/// What a user or a publisher does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Publish {
        user: usize,
        event_type: usize,
        named: bool,
        twice: bool,
    },
    PublishBad(usize),
    /// An event follows immediately if it is `then_published`: a replica may not know the webhook yet.
    Create {
        user: usize,
        then_published: bool,
    },
    Pause {
        user: usize,
    },
    Resume {
        user: usize,
        then_published: bool,
    },
    ChangeUrl {
        user: usize,
    },
    ChangeRetries {
        user: usize,
        retries: u64,
    },
    ChangeHolding {
        user: usize,
        holds: bool,
    },
    ChangeTypes {
        user: usize,
        event_type: usize,
    },
    Rotate {
        user: usize,
        overlap: Option<u64>,
    },
    Delete {
        user: usize,
    },
    Test {
        user: usize,
    },
    Redeliver {
        user: usize,
    },
    Recover {
        user: usize,
        successes: bool,
        cancelled: bool,
    },
    Cleanup {
        days: Option<u32>,
    },
    /// Webhooks of an abusive user.
    CreateAbusive {
        user: usize,
        webhooks: usize,
    },
}

/// A user who does their worst: many webhooks whose endpoints respond quickly at first, then slowly or
/// not at all, or all at one URL; bursts of events; changes, tests and redeliveries without end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abuse {
    pub(crate) user: usize,
    /// Whether all webhooks have one URL.
    pub(crate) has_one_url: bool,
}

/// How much happens in a run, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// A few events, from a burst to an afternoon.
    Small,
    /// Many events to few webhooks, in minutes.
    Crowd,
    /// A few events a day, for a week and a half.
    Week,
}

/// What a seed determines.
pub(crate) struct Plan {
    pub(crate) start: Timestamp,
    /// Nothing fails on our side and every receiver responds immediately, so that everything must happen
    /// exactly once and on time.
    pub(crate) is_fault_free: bool,
    pub(crate) subscriptions: Vec<(usize, u64)>,
    pub(crate) abuse: Option<Abuse>,
    pub(crate) actions: Vec<(Timestamp, Action)>,
    pub(crate) faults: Faults,
    /// When the faults end.
    pub(crate) settles: Timestamp,
    outages: Vec<Outage>,
    pub(crate) receiver_settings: ReceiverSettings,
    /// What the daily cleanup keeps, in days.
    pub(crate) keeps_days: Option<u32>,
    /// Batches in the hands of deliver immediately.
    pub(crate) concurrency: usize,
    pub(crate) batch: usize,
    /// How long a queue gathers messages for a batch.
    pub(crate) window: Duration,
}

/// What the draws of an abusive user are made with, besides the seed.
const ABUSE_SEED: u64 = 0xAB05_E000_0000_0000;
/// When an abusive user's endpoints begin to misbehave, in seconds from the start.
pub(crate) const ABUSE_AFTER_SECONDS: u64 = 30;

/// Event types that are used, so that some match and some do not.
pub(crate) const TYPES: [&str; 3] = ["email.received", "task.created", "task.completed"];

impl Plan {
    pub(crate) fn draw(seed: u64, random: &SeededRandom) -> Self {
        let start = sample::start();
        let is_fault_free = random.chance(250);
        let size = match random.below(20) {
            0 | 1 => Size::Crowd,
            2 | 3 => Size::Week,
            _ => Size::Small,
        };
        let (users, webhooks) = match size {
            Size::Small => (1 + draw(random, 3), draw(random, 4)),
            Size::Crowd | Size::Week => (1, draw(random, 2)),
        };
        let subscriptions = (0..=webhooks)
            .map(|_| (draw(random, users), [0, 1, 3, 3, 3, 10][draw(random, 6)]))
            .collect();
        let span = match size {
            // A burst, a busy hour, or an afternoon.
            Size::Small => [2_000, 60_000, 900_000, 7_200_000][draw(random, 4)],
            Size::Crowd => [20_000, 300_000][draw(random, 2)],
            Size::Week => 10 * 24 * 3_600_000,
        };
        let settles = start.plus(Duration::from_millis(span)).plus_seconds(60);
        let faults = if is_fault_free { Faults::NONE } else { Faults::draw(random) };
        let outages = if is_fault_free { 0 } else { random.below(3) };
        // Drawn apart, so that the other users do the same with and without this one.
        let abusive = SeededRandom::new(seed ^ ABUSE_SEED);
        let abuse = (size == Size::Small && abusive.chance(120))
            .then(|| Abuse { user: users, has_one_url: abusive.chance(400) });
        let mut plan = Self {
            start,
            abuse,
            is_fault_free,
            subscriptions,
            actions: actions(random, (size, users), start, span, is_fault_free),
            faults,
            settles,
            outages: (0..outages).map(|_| outage(random, start, span)).collect(),
            receiver_settings: ReceiverSettings {
                seed,
                start,
                well: [300, 700][draw(random, 2)],
                lost: if size == Size::Small { [0, 0, 300][draw(random, 3)] } else { 600 },
                quick: is_fault_free,
                down_until: None,
                lasting: size == Size::Week,
                abuse: None,
            },
            keeps_days: if size == Size::Week { [None, Some(1)][draw(random, 2)] } else { None },
            concurrency: if is_fault_free { 4 } else { 1 + draw(random, 4) },
            batch: 1 + draw(random, 10),
            window: Duration::from_millis([1, 50, 500][draw(random, 3)]),
        };
        if let Some(abuse) = abuse {
            // As deployed: the queue of slow endpoints is full, the other one has slots.
            plan.batch = 10;
            plan.receiver_settings.abuse = Some(abuse.has_one_url);
            plan.actions.extend(abusive_actions(&abusive, abuse, start, span));
            plan.actions.sort_by_key(|(at, _)| *at);
        }
        plan
    }

    /// Two hours in which every receiver is down, with events all along. Nothing else fails.
    pub(crate) fn outage_of_receivers(self, random: &SeededRandom) -> Self {
        let down_until = self.start.plus_seconds(OUTAGE_SECONDS);
        let publish = |_| {
            let at = Duration::from_millis(1_000 + random.below(OUTAGE_SECONDS * 1_100));
            let event_type = draw(random, TYPES.len());
            let action = Action::Publish { user: 0, event_type, named: true, twice: false };
            (self.start.plus(at), action)
        };
        let mut actions: Vec<(Timestamp, Action)> = (0..40).map(publish).collect();
        actions.sort_by_key(|(at, _)| *at);
        Self {
            is_fault_free: true,
            abuse: None,
            subscriptions: vec![(0, 0), (0, 0)],
            actions,
            faults: Faults::NONE,
            settles: down_until.plus_seconds(1_000),
            outages: Vec::new(),
            receiver_settings: ReceiverSettings {
                down_until: Some(down_until),
                abuse: None,
                ..self.receiver_settings
            },
            keeps_days: None,
            ..self
        }
    }

    /// How often a request fails now because its part is down.
    pub(crate) fn outage(&self, what: &str, now: Timestamp) -> Option<u64> {
        self.outages
            .iter()
            .find(|outage| {
                what.starts_with(outage.part) && outage.from <= now && now < outage.until
            })
            .map(|outage| outage.rate)
    }
}

fn draw(random: &SeededRandom, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap_or(0)
}

fn outage(random: &SeededRandom, start: Timestamp, span: u64) -> Outage {
    let part = ["subscriptions.", "deliveries.", "queue.", "deliveries.put", "subscriptions.get"]
        [draw(random, 5)];
    let from = start.plus(Duration::from_millis(random.below(span)));
    let most = OUTAGE_MAX_MS[draw(random, OUTAGE_MAX_MS.len())];
    let until = from.plus(Duration::from_millis(random.below(span.min(most))));
    Outage { part, from, until, rate: [300, 900, 1000][draw(random, 3)] }
}

fn actions(
    random: &SeededRandom,
    (size, users): (Size, usize),
    start: Timestamp,
    span: u64,
    is_fault_free: bool,
) -> Vec<(Timestamp, Action)> {
    let events = match size {
        Size::Small => 2 + random.below(10),
        Size::Crowd => 20 + random.below(40),
        Size::Week => 15 + random.below(15),
    };
    let changes = random.below(6);
    let moment = || start.plus(Duration::from_millis(500 + random.below(span)));
    let mut actions: Vec<(Timestamp, Action)> =
        (0..events).map(|_| (moment(), publish(random, users, is_fault_free))).collect();
    for _ in 0..changes {
        // Now and then two changes come at the same moment.
        let at = match actions.last() {
            Some((last, _)) if random.chance(250) => *last,
            _ => moment(),
        };
        actions.push((at, change(random, users)));
    }
    actions.sort_by_key(|(at, _)| *at);
    actions
}

/// The abusive user's endpoints behave until [`ABUSE_AFTER_SECONDS`]; then a burst of events comes.
fn abusive_actions(
    random: &SeededRandom,
    Abuse { user, .. }: Abuse,
    start: Timestamp,
    span: u64,
) -> Vec<(Timestamp, Action)> {
    let event = |named| Action::Publish { user, event_type: 0, named, twice: false };
    let mut actions = vec![
        (start, Action::CreateAbusive { user, webhooks: 16 + draw(random, 15) }),
        (start.plus_seconds(1), event(true)),
    ];
    let burst = start.plus_seconds(ABUSE_AFTER_SECONDS);
    for number in 0..3 + random.below(4) {
        actions.push((burst.plus(Duration::from_millis(number * 700)), event(false)));
    }
    for _ in 0..random.below(12) {
        let at = burst.plus(Duration::from_millis(random.below(span.max(60_000))));
        let action = match random.below(6) {
            0 => Action::Pause { user },
            1 => Action::Resume { user, then_published: false },
            2 => Action::ChangeUrl { user },
            3 => Action::Test { user },
            _ => Action::Redeliver { user },
        };
        actions.push((at, action));
    }
    // And now and then a flood of redeliveries.
    let at = burst.plus(Duration::from_millis(random.below(span.max(60_000))));
    let redeliveries = if random.chance(300) { 20 } else { 0 };
    actions.extend((0..redeliveries).map(|_| (at, Action::Redeliver { user })));
    actions
}

fn publish(random: &SeededRandom, users: usize, is_fault_free: bool) -> Action {
    if random.chance(30) {
        return Action::PublishBad(draw(random, 4));
    }
    let (user, event_type) = (draw(random, users), draw(random, TYPES.len()));
    let named = random.chance(700);
    Action::Publish {
        user,
        event_type,
        named,
        twice: named && !is_fault_free && random.chance(100),
    }
}

fn change(random: &SeededRandom, users: usize) -> Action {
    let user = draw(random, users);
    match random.below(17) {
        0 => Action::Create { user, then_published: random.chance(700) },
        1 | 2 => Action::Pause { user },
        3 | 4 => Action::Resume { user, then_published: random.chance(700) },
        5 => Action::ChangeUrl { user },
        6 => Action::ChangeRetries { user, retries: random.below(5) },
        7 => Action::ChangeTypes { user, event_type: draw(random, TYPES.len()) },
        8 => Action::Rotate { user, overlap: [None, Some(0), Some(60)][draw(random, 3)] },
        9 | 10 => Action::Delete { user },
        11 => Action::Test { user },
        12 => Action::Redeliver { user },
        13 | 14 => {
            Action::Recover { user, successes: random.chance(300), cancelled: random.chance(200) }
        }
        15 => Action::ChangeHolding { user, holds: random.chance(600) },
        _ => Action::Cleanup { days: [None, Some(1)][draw(random, 2)] },
    }
}
