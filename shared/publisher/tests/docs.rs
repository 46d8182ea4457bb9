//! What the docs say is complete, their snippets are the files that run, and the vector that the
//! snippets are checked with is what the service signs.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use webhooks_core::delivery::EndReason;
use webhooks_core::event::{Event, payload};
use webhooks_core::outbound::Failure;
use webhooks_core::secret::{Secret, SigningSecrets};
use webhooks_core::signature;
use webhooks_core::signing_key::SigningKey;
use webhooks_core::time::Timestamp;

#[expect(unreachable_pub, reason = "the snippet is written to be copied into a crate")]
#[path = "../../../docs/snippets/verify.rs"]
mod verify;

#[derive(Deserialize)]
struct Vector {
    message: String,
    secret: String,
    previous_secret: String,
    now: i64,
    headers: BTreeMap<String, String>,
    body: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    secret: Option<String>,
    body: Option<String>,
    now: Option<i64>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    standard: bool,
    reference: bool,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn vector() -> Vector {
    serde_json::from_str(&read("docs/snippets/vector.json")).unwrap()
}

#[track_caller]
fn assert_names(document: &str, what: &str) {
    assert!(read(document).contains(what), "{document} does not have: {what}");
}

/// The strings that a function of a source file returns.
fn strings(path: &str, function: &str) -> Vec<String> {
    let source = read(path);
    let (_, tail) = source.split_once(&format!("fn {function}(")).unwrap();
    let (body, _) = tail.split_once("\n    }\n").unwrap();
    let parts = body.split("=> \"").skip(1);
    parts.map(|part| part.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn vector_is_what_the_service_signs() {
    let vector = vector();
    let now = Timestamp::from_seconds(vector.now);
    let event = Event::parse(&vector.message, "", now).unwrap();
    assert_eq!(payload(&event.id, event.event_type, event.time, &event.data), vector.body);

    let secrets = SigningSecrets {
        current: Secret::parse(&vector.secret).unwrap().into(),
        previous: vec![Secret::parse(&vector.previous_secret).unwrap().into()],
    };
    let signed = signature::headers(&secrets, &vector.headers["webhook-id"], now, &vector.body);
    let signed: BTreeMap<_, _> = signed.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
    assert_eq!(signed, vector.headers);
}

/// The vector was made by another implementation, and an Ed25519 signature is deterministic.
#[test]
fn ed25519_vector_is_what_the_service_signs() {
    let vector: Value = serde_json::from_str(&read("docs/snippets/vector_ed25519.json")).unwrap();
    let text = |name: &str| vector[name].as_str().unwrap();
    let key = |name: &str| SigningKey::parse(text(name)).unwrap();
    let (current, previous) = (key("private_key"), vec![key("previous_private_key")]);
    assert_eq!(current.public_key().unwrap(), text("public_key"));
    let now = Timestamp::from_seconds(vector["now"].as_i64().unwrap());
    let id = vector["headers"]["webhook-id"].as_str().unwrap();
    let secrets = SigningSecrets { current, previous };
    let signed = signature::headers(&secrets, id, now, text("body"));
    let signed: BTreeMap<_, _> = signed.into_iter().collect();
    assert_eq!(json!(signed), vector["headers"]);
}

#[test]
fn rust_snippet_decides_each_case_as_expected() {
    let vector = vector();
    assert!(vector.cases.len() > 10);
    for case in &vector.cases {
        let secret = case.secret.as_ref().unwrap_or(&vector.secret);
        let body = case.body.as_ref().unwrap_or(&vector.body).as_bytes();
        let now = case.now.unwrap_or(vector.now);
        let header = |name: &str| {
            let given = case.headers.get(name).or_else(|| vector.headers.get(name));
            given.map_or("", String::as_str)
        };
        let standard = verify::verify_standard(
            secret,
            header("webhook-id"),
            header("webhook-timestamp"),
            header("webhook-signature"),
            body,
            now,
        );
        assert_eq!(standard, case.standard, "{}", case.name);
        let reference = verify::verify_reference(secret, header("x-webhook-signature"), body);
        assert_eq!(reference, case.reference, "{}", case.name);
    }
}

#[test]
fn every_snippet_stands_in_its_guide_as_it_runs() {
    let mut quoted = 0;
    for entry in fs::read_dir(root().join("docs/snippets")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let guide = match name.split('.').next() {
            Some("verify" | "verify_ed25519" | "endpoint") => "docs/WEBHOOKS.md",
            Some("publish") => "docs/PUBLISHING.md",
            _ => continue,
        };
        assert_names(guide, &read(&format!("docs/snippets/{name}")));
        quoted += 1;
    }
    assert_eq!(quoted, 11);
    assert_names("docs/PUBLISHING.md", &read("shared/publisher/examples/publish.rs"));
}

#[test]
fn guide_for_publishers_names_every_reason_of_a_bad_event() {
    let reasons = strings("shared/core/src/event.rs", "reason");
    assert!(reasons.len() >= 10, "{reasons:?}");
    for reason in reasons {
        assert_names("docs/PUBLISHING.md", &format!("`{reason}`"));
    }
}

#[test]
fn guide_for_receivers_names_every_error_and_header() {
    let mut names: Vec<&str> = Failure::ALL.iter().map(|failure| failure.as_str()).collect();
    assert!(names.len() >= 6, "{names:?}");
    names.extend(EndReason::ALL.iter().map(|reason| reason.as_str()));
    names.extend(["http", "redirect"]);
    for name in names {
        assert_names("docs/WEBHOOKS.md", &format!("`{name}`"));
    }
    for header in vector().headers.keys() {
        let guide = read("docs/WEBHOOKS.md").to_lowercase();
        assert!(guide.contains(&format!("`{header}`")), "{header}");
    }
}
