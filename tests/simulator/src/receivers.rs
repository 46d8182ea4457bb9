//! The endpoints that webhooks point at: each has its own fate, drawn from its URL and the seed.

use std::collections::BTreeMap;
use std::time::Duration;

use test_support::SeededRandom;
use webhooks_core::outbound::{Failure, HttpResult, Outcome, RetryAfter};
use webhooks_core::time::Timestamp;

use crate::plan::ABUSE_AFTER_SECONDS;

/// How an endpoint behaves for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behavior {
    Responds,
    /// Returns 2xx so often in a thousand, else 500.
    Flaky(u64),
    Fails(u16),
    Redirects,
    Gone,
    /// Asks with this status to wait this many seconds, as a number or as a date.
    Asks(u16, u64, bool),
    Hangs,
    Resets,
    Refuses,
    Blocked,
    Slow,
    /// Returns 200 after this many seconds, unless the timeout is shorter.
    Lags(u64),
}

/// What endpoints do during an outage.
const OUTAGE: [Behavior; 2] = [Behavior::Fails(503), Behavior::Refuses];

/// One endpoint: what it does until when, and in the end.
struct Endpoint {
    phases: Vec<(Timestamp, Behavior)>,
    finally: Behavior,
    random: SeededRandom,
}

/// All endpoints.
#[derive(Default)]
pub(crate) struct Receivers(BTreeMap<String, Endpoint>);

/// What the endpoint of a run may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiverSettings {
    /// The seed.
    pub(crate) seed: u64,
    /// When the run begins.
    pub(crate) start: Timestamp,
    /// Endpoints that are well all along, in a thousand.
    pub(crate) well: u64,
    /// Endpoints that never recover, in a thousand.
    pub(crate) lost: u64,
    /// Whether every response comes immediately.
    pub(crate) quick: bool,
    /// Until when all of them are down; well from then on.
    pub(crate) down_until: Option<Timestamp>,
    /// Whether they change from day to day rather than from minute to minute.
    pub(crate) lasting: bool,
    /// Whether there is an abusive user, and whether all of that user's webhooks have one URL.
    pub(crate) abuse: Option<bool>,
}

/// When they behave again, so that a run comes to rest, in seconds from the start.
const ABUSE_UNTIL_SECONDS: u64 = 900;
/// How the URLs of an abusive user begin.
pub(crate) const ABUSIVE: &str = "https://abusive";

impl Receivers {
    /// The response to a POST that began at `now`, and how long it takes.
    pub(crate) fn respond(
        &mut self,
        url: &str,
        now: Timestamp,
        timeout: Duration,
        receiver_settings: ReceiverSettings,
    ) -> (HttpResult, Duration) {
        let endpoint =
            self.0.entry(url.to_owned()).or_insert_with(|| Endpoint::new(url, receiver_settings));
        let behavior = match receiver_settings.down_until {
            Some(until) if now < until => OUTAGE[usize::from(now.millis() % 2 == 0)],
            Some(_) => Behavior::Responds,
            None => endpoint.behavior(now),
        };
        let random = &endpoint.random;
        let (outcome, took) = outcome(behavior, now, timeout, random);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(0);
        (HttpResult { outcome, response_headers: None, duration_ms }, took)
    }
}

impl Endpoint {
    fn new(url: &str, receiver_settings: ReceiverSettings) -> Self {
        let hash = url.bytes().fold(receiver_settings.seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3).rotate_left(9)
        });
        let random = SeededRandom::new(hash);
        if let Some(has_one_url) = receiver_settings.abuse.filter(|_| url.starts_with(ABUSIVE)) {
            return Self::abusive(random, has_one_url, receiver_settings.start);
        }
        let well = random.chance(receiver_settings.well);
        let mut phases = Vec::new();
        let mut until = receiver_settings.start;
        let count = if well { 0 } else { 1 + random.below(4) };
        for _ in 0..count {
            let lengths = if receiver_settings.lasting {
                [600, 86_400, 300_000, 700_000]
            } else {
                [5, 60, 600, 7_200]
            };
            let seconds = lengths[usize::try_from(random.below(4)).unwrap_or(0)];
            until = until.plus_seconds(1 + random.below(seconds));
            phases.push((until, behavior(&random, receiver_settings)));
        }
        let lost = !well && random.chance(receiver_settings.lost);
        let finally = if lost { behavior(&random, receiver_settings) } else { Behavior::Responds };
        Self { phases, finally, random }
    }

    /// Quick at first, then as bad as it gets.
    fn abusive(random: SeededRandom, has_one_url: bool, start: Timestamp) -> Self {
        let worst = match random.below(4) {
            _ if has_one_url => Behavior::Fails(500),
            0 => Behavior::Hangs,
            1 => Behavior::Resets,
            _ => Behavior::Lags(9),
        };
        let from = start.plus_seconds(ABUSE_AFTER_SECONDS - 1);
        let phases =
            vec![(from, Behavior::Responds), (start.plus_seconds(ABUSE_UNTIL_SECONDS), worst)];
        Self { phases, finally: Behavior::Responds, random }
    }

    fn behavior(&self, now: Timestamp) -> Behavior {
        self.phases
            .iter()
            .find(|(until, _)| now < *until)
            .map_or(self.finally, |(_, behavior)| *behavior)
    }
}

fn behavior(
    random: &SeededRandom,
    ReceiverSettings { quick, lasting, .. }: ReceiverSettings,
) -> Behavior {
    match random.below(if quick { 12 } else { 15 }) {
        0 | 1 => Behavior::Responds,
        2 | 3 => Behavior::Flaky(300 + random.below(600)),
        4 | 5 => {
            Behavior::Fails([500, 404, 503, 400][usize::try_from(random.below(4)).unwrap_or(0)])
        }
        6 => Behavior::Redirects,
        7 => Behavior::Gone,
        8 => Behavior::Asks(429, 1 + random.below(60), false),
        9 => {
            let most = if lasting { 200_000 } else { 4_000 };
            Behavior::Asks(503, 1 + random.below(most), random.chance(500))
        }
        10 => Behavior::Refuses,
        11 => Behavior::Blocked,
        12 => Behavior::Hangs,
        13 => Behavior::Resets,
        _ => Behavior::Slow,
    }
}

fn outcome(
    behavior: Behavior,
    now: Timestamp,
    timeout: Duration,
    random: &SeededRandom,
) -> (Outcome, Duration) {
    let soon = Duration::from_millis(1 + random.below(300));
    let status = |status, retry_after| {
        let excerpt = "response".to_owned();
        (Outcome::Response { status, retry_after, excerpt }, soon)
    };
    let nothing = |failure: Failure, took| {
        (Outcome::NoResponse { failure, detail: "simulated".to_owned() }, took)
    };
    match behavior {
        Behavior::Responds => status(200, None),
        Behavior::Flaky(often) => status(if random.chance(often) { 204 } else { 500 }, None),
        Behavior::Fails(code) => status(code, None),
        Behavior::Redirects => status(302, None),
        Behavior::Gone => status(410, None),
        Behavior::Asks(code, seconds, as_date) => {
            let at = RetryAfter::At(now.plus_seconds(seconds));
            status(code, Some(if as_date { at } else { RetryAfter::Seconds(seconds) }))
        }
        Behavior::Hangs => nothing(Failure::Timeout, timeout),
        Behavior::Resets => nothing(Failure::Protocol, soon),
        Behavior::Refuses => nothing(Failure::Connect, soon),
        Behavior::Blocked => nothing(Failure::Blocked, Duration::ZERO),
        Behavior::Lags(seconds) => {
            let took = Duration::from_secs(seconds);
            if took >= timeout {
                return nothing(Failure::Timeout, timeout);
            }
            (Outcome::Response { status: 200, retry_after: None, excerpt: String::new() }, took)
        }
        Behavior::Slow => {
            let took = Duration::from_millis(random.below(20_000));
            if took >= timeout {
                return nothing(Failure::Timeout, timeout);
            }
            (Outcome::Response { status: 200, retry_after: None, excerpt: String::new() }, took)
        }
    }
}
