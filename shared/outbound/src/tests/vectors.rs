//! The table in `vectors/targets.tsv`, line by line.

use std::collections::BTreeSet;

use webhooks_core::outbound::{Failure, Outcome};
use webhooks_core::target::{TargetPolicy, TargetUrl};

use super::name_server::NameServer;
use super::receiver::Receiver;
use super::{failure, has_server_name, post};
use crate::resolver::{GuardedResolver, ResolveError};
use crate::{ADDRESSES_MAX, GuardedClient};

const TABLE: &str = include_str!("../../vectors/targets.tsv");

struct Vector {
    line: usize,
    input: String,
    policy: TargetPolicy,
    verdict: &'static str,
    reason: &'static str,
}

fn vectors() -> Vec<Vector> {
    let lines = TABLE.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    lines.map(|(index, line)| parse(index + 1, line)).collect()
}

fn parse(line: usize, text: &'static str) -> Vector {
    let columns: Vec<&str> = text.split('\t').collect();
    let [input, policy, verdict, reason, source] = columns[..] else { panic!("line {line}") };
    assert!(!source.is_empty(), "line {line}");
    assert_eq!(reason.is_empty(), !["refused", "blocked"].contains(&verdict), "line {line}");
    let policy = match policy {
        "strict" => TargetPolicy::Strict,
        "development" => TargetPolicy::Development,
        _ => panic!("line {line}"),
    };
    let input = serde_json::from_str(&format!("\"{input}\"")).unwrap();
    Vector { line, input, policy, verdict, reason }
}

fn urls() -> Vec<Vector> {
    vectors().into_iter().filter(|vector| !vector.input.starts_with("dns: ")).collect()
}

fn answers() -> Vec<Vector> {
    let vectors = vectors().into_iter().filter_map(|vector| {
        let input = vector.input.strip_prefix("dns: ")?.to_owned();
        Some(Vector { input, ..vector })
    });
    vectors.collect()
}

/// A name server with a name for each answer.
async fn name_server() -> NameServer {
    let server = NameServer::start().await;
    server.set("private.vectors.test", "A 10.0.0.1");
    server.set("public.vectors.test", "A 8.8.8.8");
    server.set("mixed.vectors.test", "A 8.8.8.8, A 169.254.169.254");
    server.set("alias.vectors.test", "CNAME private.vectors.test");
    server.set("self.vectors.test", "CNAME self.vectors.test");
    for vector in answers() {
        server.set(&name(&vector), &vector.input);
    }
    server
}

fn name(vector: &Vector) -> String {
    format!("line-{}.vectors.test", vector.line)
}

#[test]
fn table_is_large_and_has_no_repetitions() {
    let vectors = vectors();
    assert!(vectors.len() >= 200, "{}", vectors.len());
    let distinct: BTreeSet<_> =
        vectors.iter().map(|vector| (&vector.input, format!("{:?}", vector.policy))).collect();
    assert_eq!(distinct.len(), vectors.len());
}

#[test]
fn urls_are_accepted_or_refused_as_the_table_says() {
    let mut wrong = Vec::new();
    for Vector { line, input, policy, verdict, reason } in urls() {
        let result = TargetUrl::parse(&input, policy);
        let right = match &result {
            // What is accepted has a host whose certificate can be asked for.
            Ok(target) => verdict == "accepted" && has_server_name(target.url()),
            Err(error) => verdict == "refused" && error.to_string().contains(reason),
        };
        if !right {
            wrong.push(format!("line {line}: {input}: {result:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A URL may have been stored when the policy was laxer.
#[tokio::test]
async fn url_refused_when_strict_is_blocked_when_sent() {
    let server = name_server().await;
    let client = GuardedClient::with_name_servers(TargetPolicy::Strict, &[server.address]).unwrap();
    for Vector { line, input, policy, verdict, .. } in urls() {
        if policy == TargetPolicy::Strict && verdict == "refused" {
            let outcome = post(&client, &input).await;
            assert_eq!(failure(&outcome), Some(Failure::Blocked), "line {line}: {input}");
        }
    }
    assert_eq!(server.questions(), 0);
}

#[tokio::test]
async fn answers_are_allowed_or_blocked_as_the_table_says() {
    let server = name_server().await;
    for vector in answers() {
        let resolver =
            GuardedResolver::from_name_servers(vector.policy, &[server.address]).unwrap();
        let (verdict, reason) = match resolver.addresses(&name(&vector)).await {
            Ok(addresses) => {
                let records = vector.input.split(", ").count();
                let expected = records.min(ADDRESSES_MAX);
                assert_eq!(addresses.len(), expected, "line {}: {addresses:?}", vector.line);
                ("allowed", "")
            }
            Err(ResolveError::Forbidden(range)) => ("blocked", range.name()),
            Err(_) => ("failed", ""),
        };
        let expected = (vector.verdict, vector.reason);
        assert_eq!((verdict, reason), expected, "line {}: {}", vector.line, vector.input);
    }
}

/// The whole client, with a listener at the port that the URL names on each of the addresses.
#[tokio::test]
async fn blocked_answer_opens_no_connection() {
    let server = name_server().await;
    let receiver = Receiver::responding("HTTP/1.1 200 OK\r\n\r\n").await;
    let port = receiver.address.port();
    for vector in answers() {
        if vector.verdict != "blocked" {
            continue;
        }
        let client = GuardedClient::with_name_servers(vector.policy, &[server.address]).unwrap();
        let outcome = post(&client, &format!("https://{}:{port}/", name(&vector))).await;
        let Outcome::NoResponse { failure: Failure::Blocked, detail } = outcome else {
            panic!("line {}: {outcome:?}", vector.line)
        };
        for record in vector.input.split(", ") {
            let (_, value) = record.split_once(' ').unwrap();
            assert!(!detail.contains(value), "line {}: {detail}", vector.line);
        }
    }
    assert_eq!(receiver.connections(), 0);
}
