//! Hosts that are names: what they resolve to decides.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use url::Host;
use webhooks_core::outbound::{Failure, Outcome};
use webhooks_core::target::TargetPolicy;

use super::name_server::NameServer;
use super::receiver::{Receiver, read_request};
use super::{SHORT, assert_cut_off, development, failure, post, status};
use crate::GuardedClient;
use crate::resolver::{GuardedResolver, ResolveError};

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
    // One for A, one for AAAA, and more if the machine is so slow that they are asked again.
    let asked = server.questions();
    assert!(asked >= 2, "{asked}");
    assert_eq!(status(&post(&client, &url).await), Some(200));
    assert!(server.questions() >= asked + 2, "{asked}");
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

#[tokio::test]
async fn of_several_addresses_one_that_answers_is_taken() {
    let server = NameServer::start().await;
    let receiver = Receiver::answering(OK).await;
    // Nobody listens on the first two.
    server.set("hooks.test", "A 127.0.0.3, A 127.0.0.2, A 127.0.0.1");
    let url = format!("http://hooks.test:{}/", receiver.address.port());
    assert_eq!(status(&post(&client(TargetPolicy::Development, &server), &url).await), Some(200));
    assert_eq!(receiver.connections(), 1);
}

/// A full queue of connections looks like a host that is down: nothing comes back.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_address_that_does_not_answer_does_not_hold_up_the_others() {
    let answers = TcpListener::bind("127.0.0.3:0").await.unwrap();
    let port = answers.local_addr().unwrap().port();
    Receiver::listen(answers, |mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
    });
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind(SocketAddr::from(([127, 0, 0, 2], port))).unwrap();
    let silent = silent.listen(1).unwrap();
    let address = silent.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    let server = NameServer::start().await;
    server.set("hooks.test", "A 127.0.0.2, A 127.0.0.3");
    let url = format!("http://hooks.test:{port}/");
    assert_eq!(status(&post(&client(TargetPolicy::Development, &server), &url).await), Some(200));
}

#[tokio::test]
async fn of_many_addresses_all_are_vetted_and_some_are_tried() {
    let server = NameServer::start().await;
    let many: Vec<String> = (2..=20).map(|last| format!("A 127.0.0.{last}")).collect();
    server.set("hooks.test", &many.join(", "));
    let resolver =
        GuardedResolver::from_name_servers(TargetPolicy::Development, &[server.address]).unwrap();
    let addresses = resolver.resolve(&Host::Domain("hooks.test")).await.unwrap();
    assert_eq!(addresses.len(), crate::ADDRESSES_MAX);
    server.set("hooks.test", &format!("{}, A 169.254.169.254", many.join(", ")));
    let blocked = resolver.resolve(&Host::Domain("hooks.test")).await;
    assert!(matches!(blocked, Err(ResolveError::Forbidden(_))), "{blocked:?}");
}

/// Whoever asks cannot tell what listens behind a name that is blocked.
#[tokio::test]
async fn a_blocked_name_is_told_in_the_same_words_whether_somebody_listens_or_not() {
    let server = NameServer::start().await;
    let strict = client(TargetPolicy::Strict, &server);
    let receiver = Receiver::answering(OK).await;
    let mut told = std::collections::BTreeSet::new();
    for zone in ["A 127.0.0.1", "A 127.0.0.2", "A 10.0.0.1", "AAAA ::1", "A 8.8.8.8, A 10.0.0.1"] {
        server.set("hooks.test", zone);
        let url = format!("https://hooks.test:{}/", receiver.address.port());
        told.insert(format!("{:?}", post(&strict, &url).await));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(receiver.connections(), 0);
}
