//! Rows of the tables, as DynamoDB's JSON brings them, read by the stores that are deployed.
//!
//! An input is a JSON object of attributes that take the place of those of a good row, so that every
//! row can be made and the fuzzer need not invent the good part; `null` takes an attribute away.
//! The tables are a stub of the HTTP client: it hands out the row and keeps what is written.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use test_support::{ManualClock, SeededRandom, sample};
use webhooks_aws::{DynamoDeliveries, DynamoSubscriptions, Sealer};
use webhooks_core::delivery::Delivery;
use webhooks_core::ports::{
    Consistency, Deliveries as _, Expect, Random, StoreError, Subscriptions as _,
};
use webhooks_core::secret::{
    PreviousSecret, SealedSecret, Secret, SecretOpener as _, SecretSealer as _,
};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::{run, text};

/// The reason why a row cannot be read, in characters: it names attributes, and quotes nothing.
const REASON_CHARS: usize = 120;

/// Attributes of a row of the Subscriptions table.
pub fn subscription_row(input: &[u8]) {
    thread_local! {
        static STORE: (Table, DynamoSubscriptions) = {
            let table = Table::default();
            let store = table.subscriptions();
            (table, store)
        };
    }
    let Some(changes) = attributes(input) else { return };
    STORE.with(|(table, store)| check_subscription(table, store, changes));
}

fn check_subscription(table: &Table, store: &DynamoSubscriptions, changes: Map<String, Value>) {
    let good = sample_subscription();
    let row = table.write(store.update(&good, 1));
    table.hold(&changed(row, changes));
    let Some(read) = checked(run(store.get(&good.user_id, &good.id, Consistency::Strong))) else {
        return;
    };
    let row = table.write(store.update(&read, 1));
    table.hold(&row);
    let again = checked(run(store.get(&good.user_id, &good.id, Consistency::Strong)));
    assert_eq!(again, Some(read), "it does not survive its row");
}

/// Attributes of a row of the Deliveries table; or the bytes of a deflated payload (where the first
/// byte is even) or of deflated attempts.
pub fn delivery_row(input: &[u8]) {
    let changes = attributes(input).unwrap_or_else(|| {
        let (name, bytes) = match input.split_first() {
            Some((first, rest)) if first % 2 == 1 => ("a", rest),
            Some((_, rest)) => ("p", rest),
            None => ("p", input),
        };
        Map::from_iter([(name.to_owned(), json!({"B": STANDARD.encode(bytes)}))])
    });
    thread_local! {
        static STORE: (Table, DynamoDeliveries) = {
            let table = Table::default();
            let store = table.deliveries();
            (table, store)
        };
    }
    STORE.with(|(table, store)| check_delivery(table, store, changes));
}

fn check_delivery(table: &Table, store: &DynamoDeliveries, changes: Map<String, Value>) {
    let good = sample_delivery();
    let row = table.write(store.put(&good, Expect::Absent));
    table.hold(&changed(row, changes));
    let get = || store.get(&good.subscription_id, &good.id, Consistency::Strong);
    let Some(read) = checked(run(get())) else { return };
    let row = table.write(store.put(&read, Expect::Absent));
    assert_eq!(row.contains_key("due_at"), row.contains_key("due_shard"), "half in the index");
    table.hold(&row);
    assert_eq!(checked(run(get())), Some(read), "it does not survive its row");
}

/// Line by line: the keys; then any bytes, which make a secret, a user and a change of a bit.
pub fn secrets(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (keys_text, rest) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    if let Some(keys_text) = text(keys_text) {
        check_keys(keys_text);
    }
    let mut bytes = [0; 32];
    let taken = rest.len().min(32);
    bytes[..taken].copy_from_slice(&rest[..taken]);
    let secret = Secret::from_random(&bytes);
    check_secret(&secret);

    let bit = rest.get(32..36).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    check_sealed(&secret, bit);
}

fn check_sealed(secret: &Secret, bit: u32) {
    let Subscription { user_id, id, .. } = sample::subscription("u1", 1);
    let (old, rotated) = (sealer("k1", 1), sealer("k2", 2));
    let open = |with: &Sealer, sealed: &SealedSecret| {
        with.open(sealed, &user_id, &id).map(|opened| opened.expose().to_string())
    };
    let sealed = old.seal(&secret.clone().into(), &user_id, &id);
    let bytes = sealed.as_bytes();
    assert!(!bytes.windows(secret.expose().len()).any(|part| part == secret.expose().as_bytes()));
    assert_eq!(open(&rotated, &sealed).unwrap(), secret.expose());
    let resealed = rotated.reseal(&sealed, &user_id, &id).unwrap().unwrap();
    assert_eq!(open(&rotated, &resealed).unwrap(), secret.expose());
    assert!(open(&old, &resealed).is_err(), "it is still sealed with the old key");

    // One changed bit anywhere, and it does not open.
    let mut changed = bytes.to_vec();
    let bit = usize::try_from(bit).unwrap() % (changed.len() * 8);
    changed[bit / 8] ^= 1 << (bit % 8);
    let changed = open(&rotated, &SealedSecret::new(changed));
    assert!(changed.is_err(), "bit {bit} of a sealed secret does not matter");
}

fn check_keys(keys_text: &str) {
    // An error has nothing of the text, by its type.
    let Ok(sealer) = Sealer::parse(keys_text, random()) else { return };
    let shown = format!("{sealer:?}");
    for (id, key) in keys_text.split(',').map(|key| key.trim().split_once(':').unwrap()) {
        assert!((1..=32).contains(&id.len()));
        assert_eq!(STANDARD.decode(key).unwrap().len(), 32);
        assert!(!shown.contains(key), "the sealer prints a key");
    }
}

fn check_secret(secret: &Secret) {
    let shown = format!("{secret:?}");
    assert_eq!(shown, "Secret(…)");
    assert_eq!(Secret::parse(secret.expose()).unwrap().expose(), secret.expose());
}

/// The attributes that an input names.
fn attributes(input: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(input) {
        Ok(Value::Object(attributes)) => Some(attributes),
        _ => None,
    }
}

fn changed(mut row: Map<String, Value>, changes: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in changes {
        if value.is_null() {
            row.remove(&name);
        } else {
            row.insert(name, value);
        }
    }
    row
}

/// What was read; what cannot be read says why without quoting it.
fn checked<T>(read: Result<Option<T>, StoreError>) -> Option<T> {
    match read {
        Ok(row) => row,
        Err(StoreError::Undecodable { reason, .. }) => {
            check_reason(&reason);
            None
        }
        // What is no DynamoDB JSON never gets through the SDK.
        Err(StoreError::Unavailable(_) | StoreError::Rejected(_)) => None,
    }
}

fn check_reason(reason: &str) {
    assert!(!reason.is_empty() && reason.chars().count() <= REASON_CHARS, "{reason}");
    assert!(!reason.contains("whsec_"), "{reason}");
}

fn sample_subscription() -> Subscription {
    let mut subscription = sample::subscription("u1", 1);
    let sealed = subscription.secrets.current.clone();
    subscription.secrets.previous.push(PreviousSecret { sealed, expires_at: sample::at(60) });
    subscription
}

fn sample_delivery() -> Delivery {
    let mut delivery = sample::delivery(&sample::subscription_id("u1", 1), 1);
    delivery.attempts = vec![sample::attempt(3)];
    delivery.wait(sample::at(9), sample::at(8), sample::at(7));
    delivery
}

/// Seals with the key `current`, and opens with `k1` and those before `current`.
fn sealer(current: &str, keys: u8) -> Sealer {
    let keys = (1..=keys).map(|n| (format!("k{n}"), [n; 32]));
    Sealer::from_keys(current, keys, random()).unwrap()
}

fn random() -> Arc<dyn Random> {
    Arc::new(SeededRandom::new(1))
}

/// A table of one row, behind the SDK's client.
#[derive(Clone, Debug, Default)]
struct Table(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    row: String,
    written: Option<Map<String, Value>>,
}

impl Table {
    fn subscriptions(&self) -> DynamoSubscriptions {
        DynamoSubscriptions::new(self.client(), "subscriptions".to_owned())
    }

    /// Nothing has expired yet.
    fn deliveries(&self) -> DynamoDeliveries {
        let clock = Arc::new(ManualClock::at(Timestamp::EPOCH));
        DynamoDeliveries::new(self.client(), "deliveries".to_owned(), clock)
    }

    /// Does a write, and returns the row as it was written.
    fn write<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Map<String, Value> {
        run(write).unwrap();
        self.0.lock().unwrap().written.take().unwrap()
    }

    fn hold(&self, row: &Map<String, Value>) {
        self.0.lock().unwrap().row = json!({"Item": row}).to_string();
    }

    fn client(&self) -> Client {
        let connector = SharedHttpConnector::new(self.clone());
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("local", "local", None, None, "local"))
            .endpoint_url("http://table.test")
            .retry_config(RetryConfig::disabled())
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        Client::from_conf(config)
    }
}

/// The row that a put or an update of all attributes writes.
fn written(request: &Value) -> Option<Map<String, Value>> {
    if let Some(item) = request["Item"].as_object() {
        return Some(item.clone());
    }
    request["UpdateExpression"].as_str()?;
    let mut row = request["Key"].as_object()?.clone();
    let names = request["ExpressionAttributeNames"].as_object()?.values().filter_map(Value::as_str);
    for name in names {
        let value = request["ExpressionAttributeValues"][format!(":{name}")].clone();
        row.insert(name.to_owned(), value);
    }
    Some(row)
}

impl HttpConnector for Table {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let mut contents = self.0.lock().unwrap();
        let response = match written(&body) {
            Some(row) => {
                contents.written = Some(row);
                "{}".to_owned()
            }
            None => contents.row.clone(),
        };
        let response = HttpResponse::new(200.try_into().unwrap(), SdkBody::from(response));
        HttpConnectorFuture::ready(Ok(response))
    }
}
