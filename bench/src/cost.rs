//! What AWS bills for one event that is delivered by its first attempt, to one subscription.
//!
//! The handlers are driven here, in batches of 10, instead of by the pollers: how full a poller's
//! batches are depends on the moment, and the count must not.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};
use deliver::Deliver;
use dispatch::Dispatch;
use local_sqs::Sqs;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use webhooks_aws::tables::{self, TableNames};
use webhooks_aws::{
    DynamoDeliveries, DynamoSubscriptions, Sealer, SqsDeadLetters, SqsTaskQueue, SystemClock,
    SystemRandom, clients,
};
use webhooks_core::ids::SubscriptionId;
use webhooks_core::limits::RETENTION_DAYS_DEFAULT;
use webhooks_core::ports::{Clock as _, Random as _, Subscriptions as _};
use webhooks_core::secret::Secret;
use webhooks_core::subscription::{NewSubscription, Subscription};
use webhooks_core::target::TargetPolicy;
use webhooks_local::queues::{self, DELIVERIES, EVENTS};
use webhooks_local::system::{Addresses, DELIVERIES_TABLE, SUBSCRIPTIONS_TABLE};
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;
use webhooks_local::dynamodb;
use webhooks_outbound::GuardedClient;
use webhooks_publisher::{Event, Publisher};

use crate::Outcome;
use crate::meter::{Bill, Meter};
use crate::proxy::Proxy;
use crate::receiver::Receiver;
use crate::report::{Check, all_met, number, targets};
use crate::world::{EVENT_TYPE, text};

const BATCH: usize = 10;
/// `data` of 1 KiB, as a product would send it: the row keeps it compressed.
const DATA: &str = include_str!("../../shared/aws/tests/data/payload-1kb.json");
const SEALING_KEY: &str = "bench:YSBzZWFsaW5nIGtleSBmb3IgYmVuY2htYXJrcy4gb2s=";
const RETENTION: std::time::Duration =
    std::time::Duration::from_hours(24 * RETENTION_DAYS_DEFAULT as u64);

/// What a run cost.
struct Measured {
    bill: Bill,
    events: usize,
    batches: usize,
}

pub(crate) async fn run(events: u32) -> Outcome<bool> {
    let events = events as usize;
    let one = measure(events, 1).await?;
    say(format!("{events} events of one user, in batches of {BATCH}, `data` of 1 KiB"));
    say(one.table());
    let checks = one.checks();
    say(targets(&checks));
    let many = measure(events, BATCH).await?;
    say(format!("The same with {BATCH} users, so that no two events of a batch share a query or a counter"));
    say(many.table());
    let reads = many.reads();
    say(targets(std::slice::from_ref(&reads)));
    Ok(all_met(&checks) && reads.is_met())
}

impl Measured {
    /// The budget of docs/ARCHITECTURE.md.
    fn checks(&self) -> [Check; 6] {
        let record = |operation: &str| {
            self.bill.units(|spent| {
                !spent.reads && spent.index.is_none() && spent.operation == operation
            })
        };
        let writes = self.bill.units(|spent| !spent.reads && spent.index.is_none());
        let index = self.bill.units(|spent| !spent.reads && spent.index.is_some());
        let (puts, adds) = (record("PutItem"), record("UpdateItem"));
        let (events, batches) = (number(self.events), number(self.batches));
        let sqs = number(self.bill.sqs_requests()) / events;
        [
            Check::at_most(0.6, "SQS after publishing", sqs, "requests/event"),
            self.reads(),
            Check::at_most(1.0, "writes of the record", puts / events, "units/event"),
            Check::at_most(1.0, "writes of the counters", adds / batches, "units/batch"),
            Check::at_most(0.0, "other writes", writes - puts - adds, "units"),
            Check::at_most(0.0, "writes of an index", index, "units"),
        ]
    }

    fn reads(&self) -> Check {
        let reads = self.bill.units(|spent| spent.reads);
        Check::at_most(2.0, "reads", reads / number(self.events), "units/event")
    }

    /// Everything on the bill.
    fn table(&self) -> String {
        let row = |what: String, operation: &str, amount: f64, unit: &str| {
            let per_event = format!("{:.3}", amount / number(self.events));
            vec![what, operation.to_owned(), format!("{amount}"), per_event, unit.to_owned()]
        };
        let sqs = self.bill.sqs.iter().map(|(operation, requests)| {
            row("SQS".to_owned(), operation, number(*requests), "requests")
        });
        let dynamodb = self.bill.dynamodb.iter().map(|(spent, units)| {
            let index = spent.index.as_ref().map(|name| format!(", index {name}"));
            let what = format!("{}{}", spent.table, index.unwrap_or_default());
            row(what, &spent.operation, *units, if spent.reads { "read units" } else { "write units" })
        });
        let rows: Vec<_> = sqs.chain(dynamodb).collect();
        lay_out(&["billed", "operation", "in all", "per event", "unit"], &rows, &[2, 3])
    }
}

/// Publishes events of so many users in turn, handles them, and says what that cost.
async fn measure(events: usize, users: usize) -> Outcome<Measured> {
    let receiver = Receiver::start().await.map_err(text)?;
    let rig = Rig::start().await?;
    for user in 0..users {
        rig.subscribe(&format!("u{user}"), &receiver.healthy(&format!("{user}"))).await?;
    }
    let data: Value = serde_json::from_str(DATA).map_err(text)?;
    let batch = (0..events).map(|n| Event::of_type(EVENT_TYPE, format!("u{}", n % users), &data));
    rig.publisher.publish_all(batch.collect()).await.map_err(text)?;

    let dispatch = &rig.dispatch;
    rig.pump(EVENTS.name, async |batch| dispatch.handle(batch).await).await?;
    let deliver = &rig.deliver;
    let batches = rig.pump(DELIVERIES.name, async |batch| deliver.handle(batch).await).await?;

    let bill = rig.meter.bill();
    if receiver.count() != events || bill.refused != 0 {
        let (came, refused) = (receiver.count(), bill.refused);
        return Err(format!("{came} of {events} webhooks came, {refused} requests were refused"));
    }
    Ok(Measured { bill, events, batches })
}

/// The handlers, on adapters whose requests are metered.
struct Rig {
    meter: Arc<Meter>,
    dispatch: Dispatch,
    deliver: Deliver,
    /// Metered.
    sqs: aws_sdk_sqs::Client,
    addresses: Addresses,
    /// Not metered.
    publisher: Publisher,
    /// Not metered.
    subscriptions: DynamoSubscriptions,
    _proxies: [Proxy; 2],
    _servers: [AbortOnDropHandle<()>; 2],
}

impl Rig {
    async fn start() -> Outcome<Self> {
        let (sqs_server, sqs_address) = serve_sqs().await?;
        let (tables_server, tables_address) = serve_tables().await?;
        let meter = Arc::new(Meter::default());
        let sqs_proxy = Proxy::start(sqs_address, meter.clone()).await.map_err(text)?;
        let tables_proxy = Proxy::start(tables_address, meter.clone()).await.map_err(text)?;

        let tables = client_of_tables(tables_address);
        let names = TableNames {
            subscriptions: SUBSCRIPTIONS_TABLE.to_owned(),
            deliveries: DELIVERIES_TABLE.to_owned(),
        };
        tables::create(&tables, &names).await.map_err(text)?;
        let sealer = Arc::new(Sealer::parse(SEALING_KEY, Arc::new(SystemRandom)).map_err(text)?);
        let store = |client| {
            DynamoSubscriptions::new(client, names.subscriptions.clone(), sealer.clone())
        };

        // Only the addresses of the two services count here.
        let unmetered = Addresses {
            api: sqs_address,
            sqs: sqs_address,
            dynamodb: tables_address,
            receiver: sqs_address,
        };
        let addresses = Addresses { sqs: sqs_proxy.address(), ..unmetered };
        let sqs = client_of_queues(sqs_proxy.address());
        let metered = client_of_tables(tables_proxy.address());
        let clock = Arc::new(SystemClock);
        let subscriptions = Arc::new(store(metered.clone()));
        let queue = Arc::new(SqsTaskQueue::new(sqs.clone(), addresses.queue_url(DELIVERIES.name)));
        let dead_letters = addresses.queue_url(EVENTS.dead_letters);
        Ok(Self {
            dispatch: Dispatch {
                subscriptions: subscriptions.clone(),
                queue: queue.clone(),
                dead_letters: Arc::new(SqsDeadLetters::new(sqs.clone(), dead_letters)),
            },
            deliver: Deliver {
                subscriptions,
                deliveries: Arc::new(DynamoDeliveries::new(metered, names.deliveries, clock.clone())),
                queue,
                sender: Arc::new(GuardedClient::new(TargetPolicy::Development).map_err(text)?),
                clock,
                random: Arc::new(SystemRandom),
                policy: TargetPolicy::Development,
                retention: RETENTION,
            },
            publisher: Publisher::new(
                client_of_queues(sqs_address),
                unmetered.queue_url(EVENTS.name),
            ),
            subscriptions: store(tables),
            meter,
            sqs,
            addresses,
            _proxies: [sqs_proxy, tables_proxy],
            _servers: [sqs_server, tables_server],
        })
    }

    async fn subscribe(&self, user: &str, url: &str) -> Outcome<()> {
        let body = json!({"url": url, "event_types": [EVENT_TYPE]});
        let body = body.as_object().cloned().unwrap_or_default();
        let wish = NewSubscription::parse(body, TargetPolicy::Development)
            .map_err(|errors| format!("no subscription: {errors:?}"))?;
        let now = SystemClock.now();
        let user = user.parse().map_err(|_| format!("{user} is no user id"))?;
        let id = SubscriptionId::new(now, SystemRandom.bytes());
        let secret = Secret::from_random(&SystemRandom.bytes());
        let subscription = Subscription::new(user, id, wish, secret, now);
        self.subscriptions.create(&subscription).await.map(drop).map_err(text)
    }

    /// Hands the messages of a queue to a handler until there are none; says in how many batches.
    async fn pump(
        &self,
        queue: &str,
        handler: impl AsyncFn(SqsEvent) -> SqsBatchResponse,
    ) -> Outcome<usize> {
        let url = self.addresses.queue_url(queue);
        for batches in 0.. {
            let messages = self.receive(&url).await?;
            if messages.is_empty() {
                return Ok(batches);
            }
            let records: Vec<Value> = messages.iter().map(record).collect();
            let event = serde_json::from_value(json!({ "Records": records })).map_err(text)?;
            let failed = handler(event).await.batch_item_failures;
            if !failed.is_empty() {
                return Err(format!("{queue}: {} records of a batch failed", failed.len()));
            }
            self.delete(&url, &messages).await?;
        }
        Err("unreachable: the batches are not counted to an end".to_owned())
    }

    async fn receive(&self, url: &str) -> Outcome<Vec<Message>> {
        let request = self
            .sqs
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All");
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        Ok(answer.messages.unwrap_or_default())
    }

    async fn delete(&self, url: &str, messages: &[Message]) -> Outcome<()> {
        let entries = messages.iter().enumerate().filter_map(|(index, message)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(message.receipt_handle.as_deref()?)
                .build()
                .ok()
        });
        let request = self.sqs.delete_message_batch().queue_url(url);
        let deleted = request.set_entries(Some(entries.collect())).send().await;
        deleted.map(drop).map_err(|error| format!("{error:?}"))
    }
}

/// What Lambda hands on of a message, as far as the handlers look at it.
fn record(message: &Message) -> Value {
    let attributes: serde_json::Map<String, Value> = message
        .attributes
        .iter()
        .flatten()
        .map(|(name, value)| (name.as_str().to_owned(), json!(value)))
        .collect();
    json!({
        "messageId": message.message_id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": attributes,
        "messageAttributes": {},
        "eventSource": "aws:sqs",
    })
}

async fn listen() -> Outcome<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    Ok((listener, address))
}

async fn serve_sqs() -> Outcome<(AbortOnDropHandle<()>, SocketAddr)> {
    let (listener, address) = listen().await?;
    let sqs = Arc::new(Sqs::new(Arc::new(local_sqs::SystemClock), queues::REGION));
    queues::create(&sqs).map_err(text)?;
    let server = tokio::spawn(async move {
        // It ends only when it is aborted.
        let _ = axum::serve(listener, local_sqs::router(sqs)).await;
    });
    Ok((AbortOnDropHandle::new(server), address))
}

async fn serve_tables() -> Outcome<(AbortOnDropHandle<()>, SocketAddr)> {
    let (listener, address) = listen().await?;
    let database = dynamodb::open(None)?;
    let server = tokio::spawn(dynamodb::serve(listener, database, CancellationToken::new()));
    Ok((AbortOnDropHandle::new(server), address))
}

fn client_of_queues(address: SocketAddr) -> aws_sdk_sqs::Client {
    clients::sqs(&clients::local(&Addresses::url(address)))
}

fn client_of_tables(address: SocketAddr) -> aws_sdk_dynamodb::Client {
    clients::dynamodb(&clients::local(&Addresses::url(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_delivered_event_keeps_to_the_budget() {
        let measured = measure(20, 1).await.unwrap();
        assert_eq!(measured.batches, 2);
        let checks = measured.checks();
        assert!(all_met(&checks), "\n{}\n{}", measured.table(), targets(&checks));
    }

    #[tokio::test]
    async fn reads_keep_to_the_budget_when_every_event_has_its_own_user() {
        let measured = measure(10, 10).await.unwrap();
        assert!(measured.reads().is_met(), "\n{}", measured.table());
    }
}
