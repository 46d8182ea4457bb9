//! What a million deliveries cost. `scripts/idle_cost.py` computes what the service costs when idle.
//!
//! The real handlers run on virtual time over streams of events. Requests and units are counted as AWS
//! bills them. `work.json` has the processor time and the log bytes of a delivery and an event, measured
//! on the deployed programs; `scripts/prices.json` has the prices.
//!
//! What cannot be measured without AWS is assumed, and named in [`assumed`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use test_support::sender::{self, Reply, ScriptedSender};
use test_support::{ManualClock, sample};
use webhooks_core::ports::Clock as _;
use webhooks_local::queues::{DELIVERIES, EVENTS, SLOW_DELIVERIES};
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;
use webhooks_publisher::Event;

use crate::Outcome;
use crate::cost::{BATCH, DATA, Outside, Rig};
use crate::harness::{EVENT_TYPE, text};
use crate::proxy::is_read;
use crate::report::{Check, conclude, number};

/// The memory of the functions `deliver` and `dispatch`, in GB.
pub(crate) const DELIVER_GB: f64 = 0.25;
/// Deliveries of one stream, at least.
const DELIVERIES_LEAST: usize = 300;
/// SQS bills each of these as a request.
const CHUNK_BYTES: usize = 64 * 1024;
/// The time between two looks at the queues when nothing is due.
const STEP: Duration = Duration::from_secs(1);
/// Longer than any retry of a stream waits.
const STEPS_MOST: usize = 600;

/// What only AWS could tell.
mod assumed {
    /// A request to DynamoDB, in ms. An invocation of `deliver` makes three, one after the other.
    pub(super) const DYNAMODB_MS: f64 = 5.0;
    /// A request to SQS, in ms.
    pub(super) const SQS_MS: f64 = 8.0;
    /// The memory at which a function has one whole processor, in GB (AWS documentation).
    pub(super) const PROCESSOR_GB: f64 = 1.769;
}

/// `scripts/prices.json`, as far as deliveries cost it, in USD.
#[derive(Deserialize)]
pub(crate) struct Prices {
    as_of: String,
    region: String,
    pub(crate) per_million: PerMillion,
    #[serde(rename = "lambda_gb_second_arm64")]
    pub(crate) gb_second: f64,
    log_gb: f64,
}

/// Prices of a million.
#[derive(Deserialize)]
pub(crate) struct PerMillion {
    pub(crate) sqs_fair_queue_request: f64,
    pub(crate) dynamodb_write_unit: f64,
    pub(crate) dynamodb_read_unit: f64,
    pub(crate) lambda_request: f64,
    api_request: f64,
}

impl Prices {
    pub(crate) fn read() -> Outcome<Self> {
        serde_json::from_str(include_str!("../../../scripts/prices.json")).map_err(text)
    }
}

/// `work.json`: what one unit takes in the deployed functions.
struct Work(Value);

impl Work {
    fn read() -> Outcome<Self> {
        serde_json::from_str(include_str!("../work.json")).map(Self).map_err(text)
    }

    fn figure(&self, unit: &str, figure: &str) -> f64 {
        self.0["units"][unit][figure].as_f64().unwrap_or(f64::NAN)
    }

    /// A figure for a whole batch of this many: it has a part of its own, and one for each unit.
    fn of_batch(&self, unit: &str, figure: &str, fill: f64) -> f64 {
        let [ten, one] =
            [10, 1].map(|fill| self.figure(&format!("{unit}, batches of {fill}"), figure));
        let each = (10.0 * ten - one) / 9.0;
        (one - each) + each * fill
    }
}

/// A stream of events.
#[derive(Clone, Copy)]
struct Stream {
    fan_out: usize,
    payload_bytes: usize,
    failing_per_cent: usize,
    fill: usize,
    receiver_ms: f64,
}

const USUAL: Stream =
    Stream { fan_out: 1, payload_bytes: 1024, failing_per_cent: 0, fill: BATCH, receiver_ms: 50.0 };

/// USD per million deliveries.
#[derive(Default)]
struct Costs {
    sqs: f64,
    reads: f64,
    writes: f64,
    lambda: f64,
    logs: f64,
}

impl Costs {
    fn total(&self) -> f64 {
        self.sqs + self.reads + self.writes + self.lambda + self.logs
    }
}

pub(crate) async fn run() -> Outcome<bool> {
    let (prices, work) = (Prices::read()?, Work::read()?);
    let streams = [
        USUAL,
        Stream { fill: 3, ..USUAL },
        Stream { fill: 1, ..USUAL },
        Stream { fan_out: 3, ..USUAL },
        Stream { fan_out: 20, ..USUAL },
        Stream { fan_out: 20, fill: 1, ..USUAL },
        Stream { payload_bytes: 300, ..USUAL },
        Stream { payload_bytes: 4 * 1024, ..USUAL },
        Stream { payload_bytes: 64 * 1024, ..USUAL },
        Stream { failing_per_cent: 1, ..USUAL },
        Stream { failing_per_cent: 10, ..USUAL },
        Stream { receiver_ms: 5.0, ..USUAL },
        Stream { receiver_ms: 500.0, ..USUAL },
        Stream { receiver_ms: 10_000.0, ..USUAL },
    ];
    let mut rows = Vec::new();
    let mut totals = Vec::new();
    for stream in streams {
        let costs = measure(stream, &prices, &work).await?;
        rows.push(stream.row(&costs));
        totals.push(costs.total());
    }
    say(format!(
        "USD per million deliveries, published and delivered, at the prices of {} in {}",
        prices.as_of, prices.region
    ));
    let header = [
        "fan-out",
        "bytes",
        "% failing",
        "batch",
        "receiver ms",
        "SQS",
        "reads",
        "writes",
        "Lambda",
        "logs",
        "in all",
    ];
    say(lay_out(&header, &rows, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]));
    say(format!(
        "A million API requests: {:.2} USD for the gateway alone.",
        prices.per_million.api_request
    ));
    let what = "USD per million";
    Ok(conclude(&[
        Check::most(1.20, "full batches", totals[0], what),
        Check::most(5.0, "batches of 1", totals[2], what),
        Check::most(1.0, "fan-out 20", totals[4], what),
    ]))
}

impl Stream {
    fn row(&self, costs: &Costs) -> Vec<String> {
        let counts = [self.fan_out, self.payload_bytes, self.failing_per_cent, self.fill];
        let usd = [costs.sqs, costs.reads, costs.writes, costs.lambda, costs.logs, costs.total()];
        let mut row: Vec<String> = counts.iter().map(ToString::to_string).collect();
        row.push(format!("{}", self.receiver_ms));
        row.extend(usd.map(|usd| format!("{usd:.2}")));
        row
    }
}

/// Runs the handlers over a stream, and adds up its bill.
async fn measure(stream: Stream, prices: &Prices, work: &Work) -> Outcome<Costs> {
    let events = (DELIVERIES_LEAST / stream.fan_out).next_multiple_of(stream.fill).max(2 * BATCH);
    let start = sample::start();
    let clock = ManualClock::at(start);
    let millis = u64::try_from(start.millis()).map_err(text)?;
    let queue_clock = Arc::new(local_sqs::ManualClock::new(millis));
    let attempts = Arc::new(AtomicUsize::new(0));
    let (counter, failing) = (Arc::clone(&attempts), stream.failing_per_cent);
    let sender = ScriptedSender::by(move |_| {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        Reply::Now(sender::status(if number * failing % 100 < failing { 500 } else { 200 }))
    });
    let outside = Outside {
        clock: Arc::new(clock.clone()),
        queue_clock: queue_clock.clone(),
        sender: Arc::new(sender),
        has_breaker: true,
    };
    let webhooks = u64::try_from(stream.fan_out).map_err(text)?;
    let rig = Rig::start(1, webhooks, "http://receiver.example.com/", outside).await?;
    let data = data(stream.payload_bytes)?;
    let published = (0..events).map(|_| Event::of_type(EVENT_TYPE, "u0", &data)).collect();
    rig.publisher.publish_all(published).await.map_err(text)?;

    let (dispatch, deliver) = (rig.functions.dispatch(), rig.functions.deliver());
    let (mut of_events, mut of_tasks) = (0, 0);
    while rig.batch(EVENTS.name, &dispatch, stream.fill).await?.is_some() {
        of_events += 1;
    }
    for _ in 0..STEPS_MOST {
        for queue in [DELIVERIES.name, SLOW_DELIVERIES.name] {
            while rig.batch(queue, &deliver, stream.fill).await?.is_some() {
                of_tasks += 1;
            }
        }
        clock.advance(STEP);
        queue_clock.advance(STEP);
        if clock.now().seconds() % 300 == 0 {
            rig.functions.retry.handle().await.map_err(text)?;
        }
        if failing == 0 {
            break;
        }
    }

    let (made, wanted) = (attempts.load(Ordering::Relaxed), events * stream.fan_out);
    if made < wanted {
        return Err(format!("{made} attempts of {wanted} deliveries"));
    }
    let bill = rig.bill()?;
    let units = |reads: bool| -> f64 {
        let wanted = bill.units.iter().filter(|((_, operation), _)| is_read(operation) == reads);
        wanted.map(|(_, units)| units).sum()
    };
    // What publishing takes: the rig's publisher is not metered.
    let bytes = events * (stream.payload_bytes + 100);
    let publishing = number((events / stream.fill).max(bytes.div_ceil(CHUNK_BYTES)));
    let requests = number(bill.sqs.values().sum()) + publishing;

    let (of_events, of_tasks) = (number(of_events), number(of_tasks));
    let attempts = number(attempts.load(Ordering::Relaxed));
    let processors = DELIVER_GB / assumed::PROCESSOR_GB;
    let cpu_ms = |unit, batches: f64, units: f64| {
        batches * work.of_batch(unit, "cpu_ms", units / batches) / processors
    };
    let ms = cpu_ms("event", of_events, number(events))
        + cpu_ms("delivery", of_tasks, attempts)
        + of_events * (assumed::DYNAMODB_MS + assumed::SQS_MS)
        + of_tasks * (3.0 * assumed::DYNAMODB_MS + stream.receiver_ms);
    let logs = of_events * work.of_batch("event", "log_bytes", number(events) / of_events)
        + of_tasks * work.of_batch("delivery", "log_bytes", attempts / of_tasks);

    let deliveries = number(events * stream.fan_out);
    Ok(Costs {
        sqs: requests * prices.per_million.sqs_fair_queue_request / deliveries,
        reads: units(true) * prices.per_million.dynamodb_read_unit / deliveries,
        writes: units(false) * prices.per_million.dynamodb_write_unit / deliveries,
        lambda: ((of_events + of_tasks) * prices.per_million.lambda_request
            + ms * 1e3 * DELIVER_GB * prices.gb_second)
            / deliveries,
        logs: logs * prices.log_gb / 1e3 / deliveries,
    })
}

/// `data` of about this many bytes, which compresses as JSON of a product does.
fn data(bytes: usize) -> Outcome<Value> {
    let usual: Value = serde_json::from_str(DATA).map_err(text)?;
    if bytes == USUAL.payload_bytes {
        return Ok(usual);
    }
    let item = |number: u64| {
        let id = format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        json!({"id": id, "title": "Write the report", "number": number, "is_done": number.is_multiple_of(3)})
    };
    let mut items = Vec::new();
    let mut length = 12;
    for number in 1.. {
        let item = item(number);
        length += item.to_string().len() + 1;
        if length > bytes {
            break;
        }
        items.push(item);
    }
    Ok(json!({ "items": items }))
}
