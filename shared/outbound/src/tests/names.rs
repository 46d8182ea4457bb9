//! Hosts that are names: what they resolve to decides.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use webhooks_core::outbound::{Failure, Outcome};
use webhooks_core::target::TargetPolicy;

use super::name_server::NameServer;
use super::receiver::{Receiver, read_request};
use super::{assert_cut_off, development, failure, post, status};
use crate::GuardedClient;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn client(policy: TargetPolicy, server: &NameServer) -> GuardedClient {
    GuardedClient::with_name_servers(policy, &[server.address]).unwrap()
}

#[tokio::test]
async fn a_forbidden_address_is_never_connected_to_nor_told() {
    let server = NameServer::start().await;
    let receiver = Receiver::answering(OK).await;
    server.set("hooks.test", "A 127.0.0.1, A 1.1.1.1");
    let url = format!("https://hooks.test:{}/", receiver.address.port());
    let outcome = post(&client(TargetPolicy::Strict, &server), &url).await;
    let Outcome::NoResponse { failure, detail } = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure, Failure::Blocked);
    assert!(!detail.contains("127") && !detail.contains("loopback"), "{detail}");
    assert_eq!(receiver.connections(), 0);
    // The same answer connects where it may: the test would notice a guard that blocks all.
    server.set("hooks.test", "A 127.0.0.1");
    let url = format!("http://hooks.test:{}/", receiver.address.port());
    assert_eq!(status(&post(&client(TargetPolicy::Development, &server), &url).await), Some(200));
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_host_that_is_an_address_is_checked_without_a_resolver() {
    let receiver = Receiver::answering(OK).await;
    let strict = GuardedClient::with_name_servers(TargetPolicy::Strict, &[]).unwrap();
    for host in ["127.0.0.1", "[::1]", "192.168.0.1"] {
        let outcome = post(&strict, &format!("https://{host}:{}/", receiver.address.port())).await;
        assert_eq!(failure(&outcome), Some(Failure::Blocked), "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn plain_http_that_was_accepted_in_development_is_blocked_when_strict() {
    let server = NameServer::start().await;
    server.set("hooks.test", "A 127.0.0.1");
    let outcome = post(&client(TargetPolicy::Strict, &server), "http://hooks.test/").await;
    assert_eq!(failure(&outcome), Some(Failure::Blocked), "{outcome:?}");
    assert_eq!(server.questions(), 0);
}

#[tokio::test]
async fn each_attempt_resolves_and_connects_anew() {
    let server = NameServer::start().await;
    let receiver = Receiver::start(|mut stream| async move {
        // It keeps the connection open, and would answer a second request on it.
        loop {
            read_request(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = client(TargetPolicy::Development, &server);
    let url = format!("http://hooks.test:{}/", receiver.address.port());
    server.set("hooks.test", "A 127.0.0.1");
    assert_eq!(status(&post(&client, &url).await), Some(200));
    assert_eq!(server.questions(), 2, "one for A, one for AAAA");
    assert_eq!(status(&post(&client, &url).await), Some(200));
    assert_eq!(server.questions(), 4);
    assert_eq!(receiver.connections(), 2);
    // The name is bound again, to where nothing may go: the old answer and connection are no help.
    server.set("hooks.test", "A 169.254.169.254");
    assert_eq!(failure(&post(&client, &url).await), Some(Failure::Blocked));
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_name_without_an_address_is_a_dns_failure() {
    let server = NameServer::start().await;
    let client = client(TargetPolicy::Strict, &server);
    for zone in ["EMPTY", "SERVFAIL", "NXDOMAIN", "CNAME nowhere.test"] {
        server.set("hooks.test", zone);
        let outcome = post(&client, "https://hooks.test/").await;
        assert_eq!(failure(&outcome), Some(Failure::Dns), "{zone}: {outcome:?}");
    }
}

#[tokio::test]
async fn no_name_server_at_all_is_a_dns_failure() {
    let outcome = post(&development(), "http://hooks.test/").await;
    assert_eq!(failure(&outcome), Some(Failure::Dns), "{outcome:?}");
}

#[tokio::test]
async fn the_deadline_covers_dns() {
    let server = NameServer::start().await;
    server.set("hooks.test", "SILENCE");
    assert_cut_off(&client(TargetPolicy::Development, &server), "http://hooks.test/").await;
}

#[tokio::test]
async fn localhost_needs_no_name_server_and_takes_the_address_that_answers() {
    // Whatever the machine is configured with, also nothing.
    let client = GuardedClient::new(TargetPolicy::Development).unwrap();
    let mut listeners = vec![TcpListener::bind("127.0.0.1:0").await.unwrap()];
    // Some machines have no IPv6.
    listeners.extend(TcpListener::bind("[::1]:0").await);
    for listener in listeners {
        let receiver = Receiver::listen(listener, |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        });
        let url = format!("http://localhost:{}/", receiver.address.port());
        assert_eq!(status(&post(&client, &url).await), Some(200), "{}", receiver.address);
    }
}
