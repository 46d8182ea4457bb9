//! What AWS bills for one event that is delivered by its first attempt, to one subscription.
//!
//! The handlers are driven here, in batches of 10, instead of by the pollers: how full a poller's
//! batches are depends on the moment, and the count must not.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};
use local_sqs::Sqs;
use serde_json::{Map, Value, json};
use test_support::{Intercepted, sample};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use webhooks_aws::tables::{self, TableNames};
use webhooks_aws::{
    DynamoDeliveries, DynamoSubscriptions, Sealer, SqsDeadLetterQueue, SqsTaskQueue, SystemClock,
    SystemRandom, clients,
};
use webhooks_core::breaker::Health;
use webhooks_core::ports::{Clock, Sender, Subscriptions};
use webhooks_core::secret::{SecretSealer as _, SubscriptionSecrets};
use webhooks_core::target::TargetPolicy;
use webhooks_core::verification::EndpointVerification;
use webhooks_local::dynamodb;
use webhooks_local::functions::{Functions, Ports};
use webhooks_local::poller::Handler;
use webhooks_local::queues::{self, DELIVERIES, EVENTS, SLOW_DELIVERIES};
use webhooks_local::system::{Addresses, DELIVERIES_TABLE, SUBSCRIPTIONS_TABLE};
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;
use webhooks_outbound::GuardedClient;
use webhooks_publisher::{Event, Publisher};

use crate::Outcome;
use crate::dead::NoBreaker;
use crate::harness::{EVENT_TYPE, text};
use crate::proxy::{self, Bill, Meter, is_read};
use crate::receiver::Receiver;
use crate::report::{Check, conclude, number};

/// Messages in one batch, as deployed.
pub(crate) const BATCH: usize = 10;
/// `data` of 1 KiB, as a product would send it.
pub(crate) const DATA: &str = include_str!("../../../shared/aws/tests/data/payload-1kb.json");
const SEALING_KEY: &str = "bench:YSBzZWFsaW5nIGtleSBmb3IgYmVuY2htYXJrcy4gb2s=";

/// What a run cost.
struct Measured {
    bill: Bill,
    events: usize,
    batches: usize,
}

pub(crate) async fn run(events: usize) -> Outcome<bool> {
    let one = measure(events, 1).await?;
    say(format!("{events} events of one user, in batches of {BATCH}, `data` of 1 KiB"));
    say(one.table());
    let met = conclude(&one.checks());
    let many = measure(events, BATCH).await?;
    say(format!("The same of {BATCH} users, so that no two events of a batch share anything"));
    say(many.table());
    Ok(conclude(&[many.reads()]) && met)
}

impl Measured {
    fn checks(&self) -> [Check; 5] {
        let (events, batches) = (number(self.events), number(self.batches));
        let sqs = number(self.bill.sqs.values().sum());
        let of = |operation: &'static str| {
            self.units(move |what, done| what == DELIVERIES_TABLE && done == operation)
        };
        let (record, counters) = (of("PutItem"), of("UpdateItem"));
        let writes = self.units(|_, operation| !is_read(operation));
        [
            Check::most(0.6, "SQS after publishing", sqs / events, "requests/event"),
            self.reads(),
            Check::most(1.0, "writes of the record", record / events, "units/event"),
            Check::most(1.0, "writes of counters", counters / batches, "units/batch"),
            Check::most(0.0, "writes of indexes and all else", writes - record - counters, "units"),
        ]
    }

    fn reads(&self) -> Check {
        let reads = self.units(|_, operation| is_read(operation));
        Check::most(2.0, "reads", reads / number(self.events), "units/event")
    }

    /// The units of every table (or index) and operation that `counts`.
    fn units(&self, counts: impl Fn(&str, &str) -> bool) -> f64 {
        let counted =
            self.bill.units.iter().filter(|((what, operation), _)| counts(what, operation));
        counted.map(|(_, units)| units).sum()
    }

    /// Everything on the bill.
    fn table(&self) -> String {
        let row = |what: &str, operation: &str, amount: f64, unit: &str| {
            let per_event = format!("{:.3}", amount / number(self.events));
            let cells = [what, operation, &amount.to_string(), &per_event, unit];
            cells.map(str::to_owned).to_vec()
        };
        let requests = self.bill.sqs.iter();
        let requests = requests.map(|(operation, n)| row("SQS", operation, number(*n), "requests"));
        let units = self.bill.units.iter().map(|((what, operation), units)| {
            let unit = if is_read(operation) { "read units" } else { "write units" };
            row(what, operation, *units, unit)
        });
        let rows: Vec<_> = requests.chain(units).collect();
        lay_out(&["billed", "operation", "in all", "per event", "unit"], &rows, &[2, 3])
    }
}

/// Publishes events of this many users in turn, handles them, and returns what that cost.
async fn measure(events: usize, users: usize) -> Outcome<Measured> {
    let receiver = Receiver::start().await.map_err(text)?;
    let data: Value = serde_json::from_str(DATA).map_err(text)?;
    let of_user = |number| Event::of_type(EVENT_TYPE, format!("u{}", number % users), &data);
    let outside = Outside {
        clock: Arc::new(SystemClock),
        queue_clock: Arc::new(local_sqs::SystemClock),
        sender: Arc::new(GuardedClient::new(TargetPolicy::Development).map_err(text)?),
        has_breaker: true,
    };
    let rig = Rig::start(users, 1, &receiver.healthy("cost"), outside).await?;
    // An instance reads the list of blocked hosts once a minute, not for each event.
    rig.publisher.publish_all(vec![of_user(0)]).await.map_err(text)?;
    rig.handle(EVENTS.name, rig.functions.dispatch()).await?;
    rig.handle(DELIVERIES.name, rig.functions.deliver()).await?;
    *rig.meter.lock().map_err(text)? = Bill::default();
    rig.publisher.publish_all((0..events).map(of_user).collect()).await.map_err(text)?;
    rig.handle(EVENTS.name, rig.functions.dispatch()).await?;
    // What one owner has in excess of the bound of the fast queue costs the same in the slow one.
    let mut batches = 0;
    for queue in [DELIVERIES.name, SLOW_DELIVERIES.name] {
        batches += rig.handle(queue, rig.functions.deliver()).await?;
    }
    let bill = rig.bill()?;
    let came = receiver.arrivals().len() - 1;
    if came != events || bill.unknown > 0 {
        return Err(format!("{came} of {events} webhooks came; {} requests failed", bill.unknown));
    }
    Ok(Measured { bill, events, batches })
}

/// What a rig takes from outside.
pub(crate) struct Outside {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) queue_clock: Arc<dyn local_sqs::Clock>,
    pub(crate) sender: Arc<dyn Sender>,
    /// Whether the circuit breaker remembers failures.
    pub(crate) has_breaker: bool,
}

/// The handlers, on metered clients, and a publisher, on one that is not.
pub(crate) struct Rig {
    meter: Meter,
    sqs: aws_sdk_sqs::Client,
    pub(crate) functions: Functions,
    pub(crate) publisher: Publisher,
}

impl Rig {
    /// With this many users, who have this many subscriptions each, to this URL.
    pub(crate) async fn start(
        users: usize,
        webhooks: u64,
        url: &str,
        outside: Outside,
    ) -> Outcome<Self> {
        let Outside { clock, queue_clock, sender, has_breaker } = outside;
        let sqs_address = serve_queues(queue_clock).await?;
        let tables_address = serve_tables().await?;
        let meter = Meter::default();
        let sqs_proxy = proxy::start(sqs_address, meter.clone()).await.map_err(text)?;
        let tables_proxy = proxy::start(tables_address, meter.clone()).await.map_err(text)?;

        let names = TableNames {
            subscriptions: SUBSCRIPTIONS_TABLE.to_owned(),
            deliveries: DELIVERIES_TABLE.to_owned(),
        };
        let unmetered = clients::dynamodb(&clients::local(&Addresses::url(tables_address)));
        tables::create(&unmetered, &names).await.map_err(text)?;
        let sealer = Arc::new(Sealer::parse(SEALING_KEY, Arc::new(SystemRandom)).map_err(text)?);
        let store = |client| DynamoSubscriptions::new(client, names.subscriptions.clone());
        let unmetered = store(unmetered);
        for user in 0..users {
            for number in 1..=webhooks {
                let mut subscription = sample::subscription(&format!("u{user}"), number);
                url.clone_into(&mut subscription.url);
                let secret = sample::secret(&format!("u{user}"), number);
                let sealed = sealer.seal(&secret.into(), &subscription.user_id, &subscription.id);
                subscription.secrets = SubscriptionSecrets::new(sealed);
                subscription.health = Health::default().record_quick_success();
                unmetered.create(&subscription).await.map_err(text)?;
            }
        }

        let sqs = clients::sqs(&clients::local(&Addresses::url(sqs_proxy)));
        let tables = clients::dynamodb(&clients::local(&Addresses::url(tables_proxy)));
        let queue = SqsTaskQueue::new(sqs.clone(), queue_url(DELIVERIES.name));
        let slow_queue = SqsTaskQueue::new(sqs.clone(), queue_url(SLOW_DELIVERIES.name));
        let dead_letter_queue =
            SqsDeadLetterQueue::new(sqs.clone(), queue_url(EVENTS.dead_letter_queue));
        let subscriptions: Arc<dyn Subscriptions> = if has_breaker {
            Arc::new(store(tables.clone()))
        } else {
            Arc::new(Intercepted::new(store(tables.clone()), NoBreaker))
        };
        let functions = Functions::new(&Ports {
            subscriptions,
            sealer,
            deliveries: Arc::new(DynamoDeliveries::new(tables, names.deliveries, clock.clone())),
            queue: Arc::new(queue),
            slow_queue: Arc::new(slow_queue),
            dead_letter_queue: Arc::new(dead_letter_queue),
            sender,
            clock,
            timer: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            policy: TargetPolicy::Development,
            verification: EndpointVerification::Off,
            strict_event_data: false,
        });
        let publisher = Publisher::new(
            clients::sqs(&clients::local(&Addresses::url(sqs_address))),
            queue_url(EVENTS.name),
        );
        Ok(Self { meter, sqs, functions, publisher })
    }

    /// Gives a handler the next messages of a queue, at most this many, and deletes what it did not
    /// report as failed; nothing when there is no message. Says how many were reported.
    pub(crate) async fn batch(
        &self,
        queue: &str,
        handler: &Handler,
        most: usize,
    ) -> Outcome<Option<usize>> {
        let request = self.sqs.receive_message().queue_url(queue_url(queue)).wait_time_seconds(0);
        let request = request.max_number_of_messages(i32::try_from(most).map_err(text)?);
        let request = request.message_attribute_names("All");
        let request = request.message_system_attribute_names(MessageSystemAttributeName::All);
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let messages = response.messages.unwrap_or_default();
        if messages.is_empty() {
            return Ok(None);
        }
        let records: Vec<Value> = messages.iter().map(|message| record(queue, message)).collect();
        let batch = serde_json::from_value(json!({ "Records": records })).map_err(text)?;
        let failed = handler(batch).await?.batch_item_failures;
        let is_done = |message: &Message| {
            !failed
                .iter()
                .any(|failed| Some(&failed.item_identifier) == message.message_id.as_ref())
        };
        let done = messages.iter().filter(|message| is_done(message));
        let entries = done.enumerate().filter_map(|(index, message)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(message.receipt_handle.as_deref()?).build().ok()
        });
        let entries: Vec<_> = entries.collect();
        if !entries.is_empty() {
            let request = self.sqs.delete_message_batch().queue_url(queue_url(queue));
            let request = request.set_entries(Some(entries));
            request.send().await.map_err(|error| format!("{error:?}"))?;
        }
        Ok(Some(failed.len()))
    }

    /// Handles batches until there is none; says how many there were. None may fail.
    async fn handle(&self, queue: &str, handler: Handler) -> Outcome<usize> {
        let mut batches = 0;
        while let Some(failed) = self.batch(queue, &handler, BATCH).await? {
            batches += 1;
            if failed > 0 {
                return Err(format!("{queue}: {failed} records of a batch failed"));
            }
        }
        Ok(batches)
    }

    /// What was billed until now.
    pub(crate) fn bill(&self) -> Outcome<Bill> {
        Ok(self.meter.lock().map_err(text)?.clone())
    }
}

/// What Lambda hands on of a message, as far as the handlers look at it.
fn record(queue: &str, message: &Message) -> Value {
    let attributes = message.attributes.iter().flatten();
    let attributes: Map<String, Value> =
        attributes.map(|(name, value)| (name.as_str().to_owned(), json!(value))).collect();
    json!({
        "eventSourceARN": queue,
        "messageId": message.message_id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": attributes,
    })
}

/// Only the path counts: where requests go, the client says.
fn queue_url(queue: &str) -> String {
    format!("http://localhost/{}/{queue}", local_sqs::ACCOUNT)
}

async fn serve_queues(clock: Arc<dyn local_sqs::Clock>) -> Outcome<SocketAddr> {
    let sqs = Arc::new(Sqs::new(clock, queues::REGION));
    queues::create(&sqs, &[*EVENTS, *DELIVERIES, *SLOW_DELIVERIES]).map_err(text)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    tokio::spawn(async move { axum::serve(listener, local_sqs::router(sqs)).await });
    Ok(address)
}

async fn serve_tables() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    tokio::spawn(dynamodb::serve(listener, dynamodb::open(None)?, CancellationToken::new()));
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::check;

    #[tokio::test]
    async fn delivered_event_keeps_to_the_budget() {
        let one_user = measure(2 * BATCH, 1).await.unwrap();
        let (table, met) = check(&one_user.checks());
        assert!(met && one_user.batches == 2, "\n{}\n{table}", one_user.table());
        let many_users = measure(BATCH, BATCH).await.unwrap();
        assert!(check(&[many_users.reads()]).1, "\n{}", many_users.table());
    }
}
