//! Signing secrets leave the system in two responses, and in nothing else that it ever writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem::find;
use serde_json::{Value, json};

use crate::harness::{Local, event, text, token};

/// Everything that the system said or wrote, each with where it was.
#[derive(Default)]
struct Emitted(Vec<(String, Vec<u8>)>);

impl Emitted {
    fn keep(&mut self, place: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.0.push((place.into(), text.into()));
    }

    /// Every file in a directory and in those below it.
    fn keep_files(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.keep_files(&path);
            } else {
                self.keep(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }

    /// Where any form of a secret stands.
    fn places(&self, secret: &str) -> Vec<(&str, &'static str)> {
        let forms = forms(secret);
        let mut places = Vec::new();
        for (place, bytes) in &self.0 {
            for (name, form) in &forms {
                if find(bytes, form).is_some() {
                    places.push((place.as_str(), *name));
                }
            }
        }
        places
    }
}

/// The ways in which a secret may be written.
fn forms(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let key = secret.strip_prefix("whsec_").unwrap();
    let bytes = STANDARD.decode(key).unwrap();
    // As JSON lists of numbers, and as `Debug` prints bytes.
    let numbers = |separator: &str| {
        let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
        numbers.join(separator)
    };
    let mut forms = vec![
        ("the text behind the prefix", key.trim_end_matches('=').to_owned().into_bytes()),
        ("url-safe base64", URL_SAFE_NO_PAD.encode(&bytes).into_bytes()),
        ("hex", hex::encode(&bytes).into_bytes()),
        ("upper hex", hex::encode_upper(&bytes).into_bytes()),
        ("hex of the text", hex::encode(secret).into_bytes()),
        ("a list of numbers", numbers(",").into_bytes()),
        ("a list of numbers with spaces", numbers(", ").into_bytes()),
        ("the bytes", bytes),
    ];
    // Base64 of the text, wherever in a base64 of more it begins.
    for skip in 0..3 {
        let shifted = STANDARD_NO_PAD.encode(&key.as_bytes()[skip..]);
        // The last characters also hold bits of what follows.
        let whole = shifted.len() - 4;
        forms.push(("base64 of the text", shifted[..whole].to_owned().into_bytes()));
    }
    forms
}

/// Makes calls of the API, and keeps the responses.
struct Caller<'a> {
    local: &'a Local,
    emitted: Emitted,
    secrets: Vec<String>,
    tokens: BTreeMap<String, String>,
}

impl Caller<'_> {
    async fn call(&mut self, method: &str, path: &str, user: &str, body: Option<Value>) -> Value {
        let token = self.tokens.entry(user.to_owned()).or_insert_with(|| token(user));
        let (status, response) = self.local.call(method, path, Some(token), body).await;
        self.emitted.keep(format!("{method} {path} by {user}: {status}"), response.to_string());
        response
    }

    /// A call whose response must show one secret, once.
    async fn shown(&mut self, path: &str, user: &str, body: Value) -> String {
        let (_, mut response) = self.local.call("POST", path, Some(&token(user)), Some(body)).await;
        let secret = text(&response["secret"].take());
        assert!(secret.starts_with("whsec_"));
        assert!(!self.secrets.contains(&secret), "a secret came twice");
        self.secrets.push(secret);
        // The rest of it tells no secret, nor an earlier one.
        self.emitted.keep(format!("POST {path} without `secret`"), response.to_string());
        text(&response["id"])
    }
}

#[tokio::test]
async fn secret_is_shown_only_when_created() {
    let dir = tempfile::tempdir().unwrap();
    let local = Local::start_recorded(dir.path()).await;
    let mut caller = Caller {
        local: &local,
        emitted: Emitted::default(),
        secrets: Vec::new(),
        tokens: BTreeMap::new(),
    };
    let paths = ["", "/fail/1", "/status/500", "/gone"];
    let mut webhooks = Vec::new();
    for (n, path) in paths.into_iter().enumerate() {
        let user = if n == 0 { "bob" } else { "alice" };
        let url = format!("{}{path}", local.receiver);
        let request = json!({"url": url, "event_types": ["task.created"], "retry_count": 0});
        webhooks.push((user, caller.shown("/api/webhooks", user, request).await));
    }
    // One whose old secrets still sign, and one whose old secret does not.
    for (webhook, overlap) in [(1, 3600), (1, 7200), (2, 0)] {
        let (user, id) = webhooks[webhook].clone();
        let path = format!("/api/webhooks/{id}/rotate-secret");
        caller.shown(&path, user, json!({"overlap_seconds": overlap})).await;
    }
    assert_eq!(caller.secrets.len(), 7);

    for user in ["alice", "bob"] {
        local.publish(&event(user, "task.created", 1)).await;
    }
    local.publish_raw(r#"{"event_type":"no.such.type","user_id":"alice","data":{}}"#).await;
    local.publish_raw("no JSON").await;
    for (user, id) in &webhooks {
        local.ended(user, id, 1).await;
    }
    use_every_route(&mut caller, &webhooks).await;
    local.drained().await;
    look_from_behind(&local, &mut caller.emitted).await;

    let Caller { mut emitted, secrets, .. } = caller;
    local.interrupt();
    emitted.keep_files(dir.path());
    check_recording(&emitted);
    for secret in &secrets {
        assert_eq!(emitted.places(secret), [], "{} places were searched", emitted.0.len());
    }
}

/// Every route, also with requests that are refused and quoted back.
async fn use_every_route(caller: &mut Caller<'_>, webhooks: &[(&str, String)]) {
    for (user, id) in webhooks {
        let path = format!("/api/webhooks/{id}");
        caller.call("GET", &path, user, None).await;
        caller.call("GET", &path, "mallory", None).await;
        caller.call("POST", &format!("{path}/test"), user, None).await;
        let history = caller.call("GET", &format!("{path}/deliveries"), user, None).await;
        let delivery = text(&history["items"][0]["id"]);
        let delivery = format!("{path}/deliveries/{delivery}");
        caller.call("GET", &delivery, user, None).await;
        caller.call("POST", &format!("{delivery}/redeliver"), user, None).await;
        caller.call("PATCH", &path, user, Some(json!({"description": "new"}))).await;
        caller.call("PATCH", &path, user, Some(json!({"secret": "x", "secrets": []}))).await;
        caller.call("GET", &format!("{path}?fields=secret"), user, None).await;
    }
    for user in ["alice", "bob"] {
        caller.call("GET", "/api/webhooks", user, None).await;
    }
    caller.call("GET", "/api/webhooks/event-types", "alice", None).await;
    let (user, id) = webhooks.last().unwrap();
    caller.call("DELETE", &format!("/api/webhooks/{id}"), user, None).await;
    for path in ["/_local/ready", "/_local/stats"] {
        let (_, response) = caller.local.call("GET", path, None, None).await;
        caller.emitted.keep(path, response.to_string());
    }
    for schedule in ["retry", "cleanup"] {
        let path = format!("/_local/run/{schedule}");
        let (_, response) = caller.local.call("POST", &path, None, None).await;
        caller.emitted.keep(path, response.to_string());
    }
}

/// What somebody sees who can read the tables and the queues.
async fn look_from_behind(local: &Local, emitted: &mut Emitted) {
    for table in ["webhook-subscriptions", "webhook-deliveries"] {
        let rows = local.dynamodb("Scan", &json!({"TableName": table})).await;
        assert!(rows["Count"].as_u64().unwrap() > 0, "{table} is empty");
        assert!(rows.get("LastEvaluatedKey").is_none(), "{table} is longer");
        emitted.keep(format!("an export of {table}"), rows.to_string());
    }
    let body = json!({
        "QueueUrl": local.queue("webhook-events-dlq"),
        "MaxNumberOfMessages": 10,
        "MessageAttributeNames": ["All"],
    });
    let dead = local.sqs("ReceiveMessage", &body).await;
    assert_eq!(dead["Messages"].as_array().unwrap().len(), 2);
    emitted.keep("the dead-letter queues", dead.to_string());
}

/// That there was something to find: a search that looks at nothing finds nothing.
fn check_recording(emitted: &Emitted) {
    let has = |place: &str, text: &str| {
        let found = emitted.0.iter().find(|(name, _)| name.ends_with(place));
        let bytes = &found.unwrap_or_else(|| panic!("{place} was not kept")).1;
        assert!(find(bytes, text.as_bytes()).is_some(), "{place}");
    };
    has("/stdout", "signature sha256 ✓ v1 ✓");
    has("/stderr", "TRACE");
    has("/stderr", "hyper");
    has("/stderr", "aws_smithy");
    has("/dynamodb.sqlite", "secrets");
    has("an export of webhook-subscriptions", "sealed");
    let journal = emitted.0.iter().any(|(name, _)| name.contains("/data/sqs/"));
    assert!(journal, "the queues' journal was not kept");
}

#[test]
fn search_finds_every_form_of_a_secret() {
    let key: [u8; 32] = std::array::from_fn(|n| u8::try_from(n * 37 % 251).unwrap());
    let secret = format!("whsec_{}", STANDARD.encode(key));
    for written in [
        secret.clone().into_bytes(),
        secret["whsec_".len()..].to_owned().into_bytes(),
        key.to_vec(),
        format!("{key:?}").into_bytes(),
        json!({"k": key}).to_string().into_bytes(),
        hex::encode_upper(key).into_bytes(),
        URL_SAFE_NO_PAD.encode(key).into_bytes(),
        STANDARD.encode(&secret).into_bytes(),
        STANDARD.encode(format!("{{\"a\":\"{secret}\"}}")).into_bytes(),
        STANDARD.encode(format!("{{\"ab\":\"{secret}\"}}")).into_bytes(),
        STANDARD.encode(format!("{{\"abc\":\"{secret}\"}}")).into_bytes(),
    ] {
        let mut emitted = Emitted::default();
        emitted.keep("here", [b"before ".as_slice(), &written, b" after"].concat());
        let shown = String::from_utf8_lossy(&written).into_owned();
        assert!(!emitted.places(&secret).is_empty(), "{shown}");
        let other = format!("whsec_{}", STANDARD.encode([9; 32]));
        assert_eq!(emitted.places(&other), [], "{shown}");
    }
}
