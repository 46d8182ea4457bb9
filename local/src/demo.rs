//! `cargo dev demo`: two webhooks, one event of each type, the deliveries, an endpoint that is retried
//! after 2 s and 4 s, and verified signatures.
//!
//! It uses what users use: the API with a token, and the publisher's library. The first step that
//! does not happen ends it with an error.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use webhooks_aws::clients;
use webhooks_core::catalogue::EventType;
use webhooks_core::ids::UserId;
use webhooks_publisher::{Event, Publisher};

use crate::queues::EVENTS;
use crate::receiver::Received;
use crate::system::{self, Addresses, Options, System};
use crate::terminal::say;
use crate::{http, table, token};

const USER: &str = "demo";
/// The path of the endpoint that fails at first.
const FLAKY_PATH: &str = "/fail/2";
/// The shortest waits before the second and the third attempt, in milliseconds: 2 s and 4 s less a
/// tolerance for clocks.
const WAITS_MS: [i64; 2] = [1_900, 3_900];
/// The time limit of all first attempts.
const FIRST_ATTEMPTS: Duration = Duration::from_secs(20);
/// The time limit of all attempts of the failing endpoint.
const RETRIES: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

type Result<T, E = String> = std::result::Result<T, E>;

/// Runs the demo in a system of its own.
pub async fn run() -> Result<()> {
    say("Starting a system of its own, in memory, on free ports …");
    let options = Options::on_free_ports();
    let clock = options.clock.clone();
    let system = system::start(options).await.map_err(|error| error.to_string())?;
    let user: UserId = USER.parse().map_err(|_| "the user's name is no id".to_owned())?;
    let token = token::issue(&user, clock.now()).map_err(|error| error.to_string())?;
    let result = Demo { system: &system, token }.run().await;
    system.stop().await;
    result
}

struct Demo<'a> {
    system: &'a System,
    token: String,
}

impl Demo<'_> {
    async fn run(&self) -> Result<()> {
        let start = Instant::now();
        let types: Vec<&str> = EventType::all().map(EventType::name).collect();
        let receiver = Addresses::url(self.system.addresses().receiver);
        say("\n1. Two webhooks: one wants every event type, one has an endpoint that fails twice");
        let steady = self.create(&format!("{receiver}/all"), &types).await?;
        let flaky = self.create(&format!("{receiver}{FLAKY_PATH}"), &types[..1]).await?;

        say(format!("\n2. One event of each of the {} types goes onto the queue", types.len()));
        self.publish().await?;

        say("\n3. The deliveries, as the API lists them");
        let deliveries = self.wait_for_deliveries(&steady, types.len()).await?;
        say(show(&deliveries, &types)?);

        say(format!(
            "4. The endpoint {FLAKY_PATH} returns 500 twice, then 200; the waits are 2 s and 4 s"
        ));
        self.watch_retries().await?;
        let retried = self.wait_for_deliveries(&flaky, 1).await?;
        let attempts = &retried[0]["attempt_count"];
        if attempts != 3 {
            return Err(format!("the failing endpoint took {attempts} attempts instead of 3"));
        }
        say(format!("   delivered with attempt {attempts}"));

        self.check_signatures(types.len() + 3)?;
        say(format!(
            "\nEverything happened as expected, in {:.1} s.",
            start.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let api = self.system.addresses().api;
        http::call(api, method, path, Some(&self.token), body).await
    }

    async fn create(&self, url: &str, event_types: &[&str]) -> Result<String> {
        let body = json!({"url": url, "event_types": event_types});
        let (status, webhook) = self.call("POST", "/api/webhooks", Some(&body)).await?;
        let Some(id) = webhook["id"].as_str().filter(|_| status == 201) else {
            return Err(format!("POST /api/webhooks responded {status}: {webhook}"));
        };
        let kinds = if let [only] = event_types {
            (*only).to_owned()
        } else {
            format!("{} event types", event_types.len())
        };
        say(format!("   {id}  {url}  ({kinds})"));
        Ok(id.to_owned())
    }

    async fn publish(&self) -> Result<()> {
        let addresses = self.system.addresses();
        let client = clients::sqs(&clients::local(&Addresses::url(addresses.sqs)));
        let publisher = Publisher::new(client, addresses.queue_url(EVENTS.name));
        let events = EventType::all()
            .map(|event_type| {
                let data: Value = serde_json::from_str(event_type.entry().example)
                    .map_err(|error| format!("the sample of {event_type}: {error}"))?;
                Ok(Event::of_type(event_type.name(), USER, &data))
            })
            .collect::<Result<Vec<_>>>()?;
        let ids = publisher.publish_all(events).await.map_err(|error| error.to_string())?;
        say(format!("   {} messages accepted by {}", ids.len(), addresses.queue_url(EVENTS.name)));
        Ok(())
    }

    /// The deliveries of a webhook, once there are `count` and all have succeeded.
    async fn wait_for_deliveries(&self, webhook: &str, count: usize) -> Result<Vec<Value>> {
        let path = format!("/api/webhooks/{webhook}/deliveries?limit=100");
        let mut last = Value::Null;
        let found = poll(FIRST_ATTEMPTS, async || {
            let (status, page) = self.call("GET", &path, None).await?;
            if status != 200 {
                return Err(format!("GET {path} responded {status}: {page}"));
            }
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let done = items.iter().filter(|item| item["status"] == "success").count();
            last = page;
            Ok((items.len() == count && done == count).then_some(items))
        })
        .await?;
        found.ok_or_else(|| format!("not all of the {count} deliveries succeeded: {last}"))
    }

    async fn watch_retries(&self) -> Result<()> {
        let mut shown = 0;
        let seen = poll(RETRIES, async || {
            let attempts = self.received_at(FLAKY_PATH);
            for (index, attempt) in attempts.iter().enumerate().skip(shown) {
                let waited = index
                    .checked_sub(1)
                    .map(|before| wait_ms(&attempts[before], attempt))
                    .map_or_else(String::new, |ms| format!("  {:.1} s later", seconds(ms)));
                say(format!("   attempt {}  → {}{waited}", index + 1, attempt.status));
            }
            shown = attempts.len();
            Ok((attempts.len() >= 3).then_some(attempts))
        })
        .await?;
        let attempts = seen.ok_or_else(|| format!("only {shown} of 3 attempts were made"))?;
        for (pair, least) in attempts.windows(2).zip(WAITS_MS) {
            let waited = wait_ms(&pair[0], &pair[1]);
            if waited < least {
                return Err(format!("a retry came after {waited} ms, too early"));
            }
        }
        Ok(())
    }

    fn received_at(&self, path: &str) -> Vec<Received> {
        let mut received = self.system.receiver().received();
        received.retain(|received| received.path == path);
        received
    }

    fn check_signatures(&self, expected: usize) -> Result<()> {
        let received = self.system.receiver().received();
        let valid = received.iter().filter(|received| received.signature.is_valid()).count();
        say("\n5. The receiver verified every signature over the bytes it received; the last one:");
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature", "x-webhook-signature"]
        {
            let headers = received.last().map_or(&[][..], |last| &last.headers);
            let value = headers.iter().find(|(known, _)| known == name);
            say(format!("   {name}: {}", value.map_or("(missing)", |(_, value)| value)));
        }
        say(format!("   {valid} of {} requests carry two valid signatures", received.len()));
        if valid != received.len() || valid < expected {
            return Err(format!("{valid} valid signatures instead of {expected}"));
        }
        Ok(())
    }
}

/// Calls `check` until it returns a value, for at most `limit`.
async fn poll<T>(
    limit: Duration,
    mut check: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let end = tokio::time::Instant::now() + limit;
    loop {
        let found = check().await?;
        if found.is_some() || tokio::time::Instant::now() >= end {
            return Ok(found);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn wait_ms(before: &Received, after: &Received) -> i64 {
    after.received_at.millis() - before.received_at.millis()
}

fn seconds(millis: i64) -> f64 {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).as_secs_f64()
}

/// The deliveries as a table in the order of the catalogue; a missing type is an error.
fn show(deliveries: &[Value], types: &[&str]) -> Result<String> {
    let by_type: HashMap<&str, &Value> = deliveries
        .iter()
        .filter_map(|delivery| Some((delivery["event_type"].as_str()?, delivery)))
        .collect();
    let rows = types
        .iter()
        .map(|&event_type| {
            let delivery =
                by_type.get(event_type).ok_or(format!("{event_type} was not delivered"))?;
            let text = |field: &str| match &delivery[field] {
                Value::String(text) => text.clone(),
                Value::Null => "-".to_owned(),
                other => other.to_string(),
            };
            Ok(vec![
                event_type.to_owned(),
                text("status"),
                text("response_status"),
                text("attempt_count"),
                format!("{} ms", text("duration_ms")),
                text("id"),
            ])
        })
        .collect::<Result<Vec<_>>>()?;
    let header = ["event type", "status", "HTTP", "attempts", "latency", "delivery"];
    Ok(table::lay_out(&header, &rows, &[2, 3, 4]))
}
