//! What an endpoint that never responds costs, with the circuit breaker and without it.
//!
//! The real handlers run on virtual time, for as many days as it takes until the endpoint is
//! disabled and nothing waits any more. Requests and units are counted as AWS bills them; what an
//! attempt costs is the time that a function waits for it.
//!
//! Deliberately absent: the functions' own CPU time, which is small beside a wait of seconds, and
//! publishing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use test_support::sender::{Reply, ScriptedSender};
use test_support::{Effect, Interceptor, ManualClock, sample};
use webhooks_core::outbound::{Failure, HttpResult, Outcome as Attempted};
use webhooks_core::ports::{Clock as _, StoreError};
use webhooks_local::queues::{DELIVERIES, EVENTS, SLOW_DELIVERIES};
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::bill::{DELIVER_GB, Prices};
use crate::cost::{BATCH, Outside, Rig};
use crate::harness::{event, text};
use crate::proxy::is_read;
use crate::report::number;

/// For how many days events are published: longer than it takes until the endpoint is disabled.
const DAYS: u64 = 6;
/// The virtual time between two looks at the queues.
const STEP: Duration = Duration::from_secs(10);
/// What a hanging attempt takes: the default timeout.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What was spent.
#[derive(Clone, Copy)]
struct Spent {
    attempts: f64,
    requests: f64,
    writes: f64,
    reads: f64,
    invocations: f64,
    gb_seconds: f64,
}

pub(crate) async fn run(events: usize) -> Outcome<bool> {
    say(format!(
        "{events} and {} events over {DAYS} days for one endpoint that hangs for {} s each time. What \
         comes with the number of events is told apart from what does not (attempts of the breaker, \
         queries of the retry schedule).",
        2 * events,
        TIMEOUT.as_secs()
    ));
    let prices = Prices::read()?;
    let without = part(events, false).await?;
    let with = part(events, true).await?;
    let header = ["", "attempts", "SQS", "writes", "reads", "invocations", "GB-s", "USD"];
    let rows = [
        without.of_a_million.row("a million events, without the breaker", &prices),
        with.of_a_million.row("a million events, with the breaker", &prices),
        without.of_the_endpoint.row("the endpoint itself, without the breaker", &prices),
        with.of_the_endpoint.row("the endpoint itself, with the breaker", &prices),
    ];
    say(lay_out(&header, &rows, &[1, 2, 3, 4, 5, 6, 7]));
    Ok(with.of_a_million.usd(&prices) < without.of_a_million.usd(&prices))
}

/// What comes with the events, and what would come without them.
struct Parts {
    of_a_million: Spent,
    of_the_endpoint: Spent,
}

/// Takes the two apart by twice as many events.
async fn part(events: usize, has_breaker: bool) -> Outcome<Parts> {
    let once = watch(events, has_breaker).await?;
    let twice = watch(2 * events, has_breaker).await?;
    let of_events = twice.plus(once.times(-1.0));
    Ok(Parts {
        of_a_million: of_events.times(1e6 / number(events)),
        of_the_endpoint: once.plus(of_events.times(-1.0)),
    })
}

/// Publishes the events evenly, and drives the handlers and the retry schedule through the days.
async fn watch(events: usize, has_breaker: bool) -> Outcome<Spent> {
    let start = sample::start();
    let clock = ManualClock::at(start);
    let millis = u64::try_from(start.millis()).map_err(text)?;
    let queue_clock = Arc::new(local_sqs::ManualClock::new(millis));
    let sender = ScriptedSender::by(|_| {
        let detail = "no response".to_owned();
        let outcome = Attempted::NoResponse { failure: Failure::Timeout, detail };
        let duration_ms = u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        Reply::Now(HttpResult { outcome, response_headers: None, duration_ms })
    });
    let outside = Outside {
        clock: Arc::new(clock.clone()),
        queue_clock: queue_clock.clone(),
        sender: Arc::new(sender.clone()),
        has_breaker,
    };
    let rig = Rig::start(1, 1, "http://dead.example.com/", outside).await?;
    let (dispatch, deliver) = (rig.functions.dispatch(), rig.functions.deliver());

    let days = Duration::from_hours(24 * DAYS);
    let steps = days.as_secs() / STEP.as_secs();
    let (mut published, mut invocations) = (0, 0);
    let (mut attempts, mut waited) = (0, Duration::ZERO);
    // A day without events follows: then nothing waits any more.
    for step in 0..steps + steps / DAYS {
        let due = (step + 1) * u64::try_from(events).map_err(text)? / steps;
        while published < events && u64::try_from(published).map_err(text)? < due {
            rig.publisher.publish(event("u0", published)).await.map_err(text)?;
            published += 1;
            while rig.batch(EVENTS.name, &dispatch, BATCH).await?.is_some() {}
        }
        while rig.batch(DELIVERIES.name, &deliver, BATCH).await?.is_some()
            || rig.batch(SLOW_DELIVERIES.name, &deliver, BATCH).await?.is_some()
        {
            invocations += 1;
            let made = sender.take().len();
            attempts += made;
            waited += if made > 0 { TIMEOUT } else { Duration::ZERO };
        }
        if clock.now().seconds() % 300 < i64::try_from(STEP.as_secs()).map_err(text)? {
            rig.functions.retry.handle().await.map_err(text)?;
        }
        clock.advance(STEP);
        queue_clock.advance(STEP);
    }
    let bill = rig.bill()?;
    let units = |reads: bool| {
        let wanted = bill.units.iter().filter(|((_, operation), _)| is_read(operation) == reads);
        wanted.map(|(_, units)| units).sum()
    };
    Ok(Spent {
        attempts: number(attempts),
        requests: number(bill.sqs.values().sum()),
        writes: units(false),
        reads: units(true),
        invocations: number(invocations),
        gb_seconds: waited.as_secs_f64() * DELIVER_GB,
    })
}

impl Spent {
    fn plus(self, other: Self) -> Self {
        Self {
            attempts: self.attempts + other.attempts,
            requests: self.requests + other.requests,
            writes: self.writes + other.writes,
            reads: self.reads + other.reads,
            invocations: self.invocations + other.invocations,
            gb_seconds: self.gb_seconds + other.gb_seconds,
        }
    }

    fn times(self, factor: f64) -> Self {
        Self {
            attempts: self.attempts * factor,
            requests: self.requests * factor,
            writes: self.writes * factor,
            reads: self.reads * factor,
            invocations: self.invocations * factor,
            gb_seconds: self.gb_seconds * factor,
        }
    }

    fn usd(self, prices: &Prices) -> f64 {
        let millions = self.requests * prices.per_million.sqs_fair_queue_request
            + self.writes * prices.per_million.dynamodb_write_unit
            + self.reads * prices.per_million.dynamodb_read_unit
            + self.invocations * prices.per_million.lambda_request;
        millions / 1e6 + self.gb_seconds * prices.gb_second
    }

    fn row(self, name: &str, prices: &Prices) -> Vec<String> {
        let count = |amount: f64| match amount.abs() {
            1e5.. => format!("{:.2} M", amount / 1e6),
            _ => format!("{amount:.0}"),
        };
        [
            name.to_owned(),
            count(self.attempts),
            count(self.requests),
            count(self.writes),
            count(self.reads),
            count(self.invocations),
            count(self.gb_seconds),
            format!("{:.2}", self.usd(prices)),
        ]
        .to_vec()
    }
}

/// Skips the writes of the health, so that every endpoint always looks healthy.
pub(crate) struct NoBreaker;

#[async_trait]
impl Interceptor for NoBreaker {
    async fn before(&self, call: &'static str) -> Result<Effect, StoreError> {
        Ok(if call == "subscriptions.set_health" { Effect::Skipped } else { Effect::Done })
    }
}
