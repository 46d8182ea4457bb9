//! The outbound guard as an attacker meets it: through the API of a system that was started with
//! `--strict-targets`, and through a name server of the attacker's own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use test_support::FakeReceiver;
use tokio::net::UdpSocket;

use crate::harness::{Local, event, text, token};

const TABLE: &str = include_str!("../../shared/outbound/vectors/targets.tsv");
/// What a user reads about a name that leads to where deliveries may not go.
const BLOCKED: &str =
    "blocked: The host resolves to an address that deliveries may not connect to.";

/// The URLs of the table for the deployed guard, and whether each is accepted.
fn urls() -> impl Iterator<Item = (String, bool)> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let deployed = columns[1] == "strict" && !columns[0].starts_with("dns: ");
        let url = || serde_json::from_str(&format!("\"{}\"", columns[0])).unwrap();
        deployed.then(|| (url(), columns[2] == "accepted"))
    })
}

fn webhook(url: &str) -> Value {
    json!({"url": url, "event_types": ["task.created"], "retry_count": 0})
}

#[tokio::test]
async fn private_url_is_rejected_with_its_field() {
    let local = Local::start_with(&["--strict-targets"]).await;
    let token = token("u");
    let (id, _) = local.subscribe("u", webhook("https://example.com/")).await;
    let path = format!("/api/webhooks/{id}");
    let (mut refused, mut accepted) = (0, 0);
    for (url, fits) in urls() {
        for (method, path, body, good) in [
            ("POST", "/api/webhooks", webhook(&url), 201),
            ("PATCH", path.as_str(), json!({"url": url}), 200),
        ] {
            let (status, answer) = local.call(method, path, Some(&token), Some(body)).await;
            if fits {
                assert_eq!(status, good, "{method} {url:?}: {answer}");
            } else {
                assert_eq!(status, 422, "{method} {url:?}: {answer}");
                assert_eq!(answer["type"], "urn:webhooks:problem:invalid-fields", "{url:?}");
                assert_eq!(answer["errors"].as_array().unwrap().len(), 1, "{url:?}: {answer}");
                assert_eq!(answer["errors"][0]["field"], "url", "{url:?}: {answer}");
            }
        }
        if fits { accepted += 1 } else { refused += 1 }
    }
    assert!(refused >= 150 && accepted >= 20, "{refused} refused, {accepted} accepted");
}

#[tokio::test]
async fn stored_private_url_is_blocked_at_delivery_and_test() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = FakeReceiver::start().await.unwrap();
    let port = receiver.address().port();
    let lax = Local::start_in(dir.path()).await;
    let mut ids = Vec::new();
    for url in [
        receiver.url("/"),
        format!("http://localhost:{port}/"),
        format!("https://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://[::1]:{port}/"),
        "https://192.168.0.1/".to_owned(),
        "https://printer.local/".to_owned(),
    ] {
        ids.push(lax.subscribe("u", webhook(&url)).await.0);
    }
    lax.kill();

    let flags = ["--strict-targets", "--data-dir", dir.path().to_str().unwrap()];
    let strict = Local::start_with(&flags).await;
    strict.publish(&event("u", "task.created", 1)).await;
    for id in &ids {
        let delivery = strict.ended("u", id, 1).await.remove(0);
        assert_eq!(
            (&delivery["status"], &delivery["attempt_count"]),
            (&json!("failed"), &json!(1))
        );
        assert!(text(&delivery["error"]).starts_with("blocked: "), "{delivery}");
        let path = format!("/api/webhooks/{id}/test");
        let tested = strict.expect(200, "POST", &path, "u", None).await;
        assert_eq!((&tested["success"], &tested["status_code"]), (&json!(false), &Value::Null));
        assert!(text(&tested["error"]).starts_with("blocked: "), "{tested}");
    }
    assert_eq!(receiver.received().len(), 0);
    strict.drained().await;
}

#[tokio::test]
async fn private_dns_answers_are_blocked() {
    let names = NameServer::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    let server = names.address.to_string();
    let local = Local::start_with(&["--strict-targets", "--name-server", &server]).await;
    let url = format!("https://hooks.attacker.test:{}/", receiver.address().port());
    let (id, _) = local.subscribe("u", webhook(&url)).await;
    let path = format!("/api/webhooks/{id}/test");
    let mut asked = 0;
    for answer in [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "169.254.169.254",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "8.8.8.8 127.0.0.1",
        "127.0.0.1 8.8.8.8",
        "8.8.8.8 ::1",
        "2606:4700:4700::1111 127.0.0.1",
    ] {
        names.set("hooks.attacker.test", answer);
        let tested = local.expect(200, "POST", &path, "u", None).await;
        assert_eq!(tested["error"], BLOCKED, "{answer}");
        let delivery_id = text(&tested["delivery_id"]);
        let shown = format!("/api/webhooks/{id}/deliveries/{delivery_id}");
        let shown = local.expect(200, "GET", &shown, "u", None).await.to_string();
        for address in answer.split(' ') {
            assert!(!shown.contains(&format!("{address}\"")), "{shown}");
            assert!(!shown.contains(&format!(" {address}")), "{shown}");
        }
        // Nothing is remembered from one attempt to the next.
        assert!(names.questions() >= asked + 2, "{answer}: {} after {asked}", names.questions());
        asked = names.questions();
    }
    names.set("hooks.attacker.test", "");
    let tested = local.expect(200, "POST", &path, "u", None).await;
    assert_eq!(tested["error"], "dns: The host name has no address.");
    assert_eq!(receiver.received().len(), 0);
}

/// Without the strict policy an answer of the same name server leads to the receiver. This proves that
/// the tests above ask it.
#[tokio::test]
async fn named_name_server_is_asked() {
    let names = NameServer::start().await;
    let receiver = FakeReceiver::start().await.unwrap();
    let server = names.address.to_string();
    let local = Local::start_with(&["--name-server", &server]).await;
    names.set("hooks.attacker.test", "127.0.0.1");
    let url = format!("http://hooks.attacker.test:{}/", receiver.address().port());
    let (id, _) = local.subscribe("u", webhook(&url)).await;
    local.publish(&event("u", "task.created", 1)).await;
    assert_eq!(local.ended("u", &id, 1).await[0]["status"], "success");
    assert_eq!(receiver.received().len(), 1);
    // An answer with an address that is forbidden in development too.
    names.set("mixed.attacker.test", "127.0.0.1 169.254.169.254");
    let url = format!("http://mixed.attacker.test:{}/", receiver.address().port());
    let (id, _) = local.subscribe("v", webhook(&url)).await;
    local.publish(&event("v", "task.created", 2)).await;
    assert_eq!(local.ended("v", &id, 1).await[0]["error"], BLOCKED);
    assert_eq!(receiver.received().len(), 1);
}

/// A name server with configured answers.
struct NameServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    zones: HashMap<String, Vec<IpAddr>>,
    questions: usize,
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let zones = Arc::clone(&state);
        tokio::spawn(async move {
            let mut question = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut question).await.unwrap();
                let answer = zones.lock().unwrap().answer(&question[..length]);
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self { address, state }
    }

    /// From now on, the name has these addresses, with spaces between.
    fn set(&self, name: &str, addresses: &str) {
        let addresses = addresses.split_whitespace().map(|one| one.parse().unwrap()).collect();
        self.state.lock().unwrap().zones.insert(name.to_owned(), addresses);
    }

    fn questions(&self) -> usize {
        self.state.lock().unwrap().questions
    }
}

impl State {
    /// The answer to one question, as RFC 1035 has it (section 4.1).
    fn answer(&mut self, message: &[u8]) -> Vec<u8> {
        self.questions += 1;
        let (mut labels, mut at) = (Vec::new(), 12);
        while message[at] > 0 {
            let next = at + 1 + usize::from(message[at]);
            labels.push(String::from_utf8(message[at + 1..next].to_vec()).unwrap().to_lowercase());
            at = next;
        }
        let question = &message[12..at + 5];
        let wanted = u16::from_be_bytes([message[at + 1], message[at + 2]]);
        let addresses = self.zones.get(&labels.join(".")).cloned().unwrap_or_default();
        let records: Vec<(u16, Vec<u8>)> = addresses
            .into_iter()
            .map(|address| match address {
                IpAddr::V4(address) => (1, address.octets().to_vec()),
                IpAddr::V6(address) => (28, address.octets().to_vec()),
            })
            .filter(|(kind, _)| *kind == wanted)
            .collect();
        let mut answer = message[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
        answer.extend(question);
        for (kind, address) in records {
            // The name of the question; class IN; five minutes, for whoever would keep it.
            answer.extend([0xc0, 12, 0, u8::try_from(kind).unwrap(), 0, 1, 0, 0, 1, 44, 0]);
            answer.push(u8::try_from(address.len()).unwrap());
            answer.extend(address);
        }
        answer
    }
}
