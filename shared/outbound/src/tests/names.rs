//! Hosts that are names: what they resolve to decides whether they are connected to.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use webhooks_core::outbound::{Failure, Outcome};
use webhooks_core::ports::Sender as _;
use webhooks_core::target::TargetPolicy;

use super::name_server::NameServer;
use super::receiver::{OK, Receiver, read_request};
use super::{AMPLE, SHORT, development, failure, post, post_past_deadline, request, status};
use crate::GuardedClient;
use crate::resolver::{GuardedResolver, ResolveError};

fn client(policy: TargetPolicy, server: &NameServer) -> GuardedClient {
    GuardedClient::with_name_servers(policy, &[server.address]).unwrap()
}

#[tokio::test]
async fn forbidden_address_is_neither_connected_to_nor_shown() {
    let server = NameServer::start().await;
    let receiver = Receiver::responding(OK).await;
    server.set("hooks.test", "A 127.0.0.1, A 1.1.1.1");
    let url = format!("https://hooks.test:{}/", receiver.address.port());
    let outcome = post(&client(TargetPolicy::Strict, &server), &url).await;
    let Outcome::NoResponse { failure, detail } = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure, Failure::Blocked);
    assert!(!detail.contains("127") && !detail.contains("loopback"), "{detail}");
    assert_eq!(receiver.connections(), 0);
    // The same answer is connected to where it may be: a client that blocks all fails this test.
    server.set("hooks.test", "A 127.0.0.1");
    let url = format!("http://hooks.test:{}/", receiver.address.port());
    assert_eq!(status(&post(&client(TargetPolicy::Development, &server), &url).await), Some(200));
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn host_that_is_an_address_is_checked_without_a_resolver() {
    let receiver = Receiver::responding(OK).await;
    let strict = GuardedClient::with_name_servers(TargetPolicy::Strict, &[]).unwrap();
    for host in ["127.0.0.1", "[::1]", "192.168.0.1"] {
        let outcome = post(&strict, &format!("https://{host}:{}/", receiver.address.port())).await;
        assert_eq!(failure(&outcome), Some(Failure::Blocked), "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn plain_http_accepted_in_development_is_blocked_when_strict() {
    let server = NameServer::start().await;
    server.set("hooks.test", "A 127.0.0.1");
    let outcome = post(&client(TargetPolicy::Strict, &server), "http://hooks.test/").await;
    assert_eq!(failure(&outcome), Some(Failure::Blocked), "{outcome:?}");
    assert_eq!(server.questions(), 0);
}

#[tokio::test]
async fn each_connection_resolves_anew() {
    let server = NameServer::start().await;
    let receiver =
        Receiver::responding(OK.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
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
    // The name is bound again, to a forbidden address: the old answer is not used.
    server.set("hooks.test", "A 169.254.169.254");
    assert_eq!(failure(&post(&client, &url).await), Some(Failure::Blocked));
    assert_eq!(receiver.connections(), 2);
}

/// DNS rebinding cannot move a connection that is kept: it goes to the address that was vetted.
#[tokio::test]
async fn kept_connection_stays_with_the_vetted_address_and_a_new_one_is_vetted() {
    let server = NameServer::start().await;
    let (receiver, _requests) = Receiver::keeping_alive().await;
    let client = client(TargetPolicy::Development, &server);
    let url = format!("http://hooks.test:{}/", receiver.address.port());
    server.set("hooks.test", "A 127.0.0.1");
    assert_eq!(status(&post(&client, &url).await), Some(200));
    server.set("hooks.test", "A 169.254.169.254");
    assert_eq!(status(&post(&client, &url).await), Some(200));
    assert_eq!(receiver.connections(), 1);
    let (first, second) = tokio::join!(post(&client, &url), post(&client, &url));
    let outcomes = [first, second];
    assert!(outcomes.iter().any(|outcome| status(outcome) == Some(200)), "{outcomes:?}");
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn name_without_an_address_is_a_dns_failure() {
    let server = NameServer::start().await;
    let client = client(TargetPolicy::Strict, &server);
    for zone in ["EMPTY", "SERVFAIL", "NXDOMAIN", "CNAME nowhere.test"] {
        server.set("hooks.test", zone);
        let outcome = post(&client, "https://hooks.test/").await;
        assert_eq!(failure(&outcome), Some(Failure::Dns), "{zone}: {outcome:?}");
    }
}

#[tokio::test]
async fn missing_name_server_is_a_dns_failure() {
    let outcome = post(&development(), "http://hooks.test/").await;
    assert_eq!(failure(&outcome), Some(Failure::Dns), "{outcome:?}");
}

#[tokio::test]
async fn deadline_that_passes_during_the_lookup_is_a_dns_failure() {
    let server = NameServer::start().await;
    server.set("hooks.test", "SILENCE");
    let client = client(TargetPolicy::Development, &server);
    let outcome = post_past_deadline(&client, "http://hooks.test/").await;
    assert_eq!(failure(&outcome), Some(Failure::Dns), "{outcome:?}");
}

#[tokio::test]
async fn silent_name_server_is_a_dns_failure_within_the_default_deadline() {
    let server = NameServer::start().await;
    server.set("hooks.test", "SILENCE");
    let client = client(TargetPolicy::Development, &server);
    let result = client.post(request("http://hooks.test/", AMPLE)).await;
    assert_eq!(failure(&result.outcome), Some(Failure::Dns), "{result:?}");
    assert!(result.duration_ms < 6_000, "{result:?}");
}

#[tokio::test]
async fn unanswered_ipv6_question_does_not_hold_up_ipv4() {
    let server = NameServer::start().await;
    let receiver = Receiver::responding(OK).await;
    server.set("hooks.test", "A 127.0.0.1, AAAA SILENCE");
    let client = client(TargetPolicy::Development, &server);
    let url = format!("http://hooks.test:{}/", receiver.address.port());
    let result = client.post(request(&url, AMPLE)).await;
    assert_eq!(status(&result.outcome), Some(200), "{result:?}");
    assert!(result.duration_ms < 900, "asked a second time: {result:?}");
}

#[tokio::test]
async fn host_with_an_underscore_is_resolved() {
    let server = NameServer::start().await;
    let receiver = Receiver::responding(OK).await;
    let client = client(TargetPolicy::Development, &server);
    for host in ["my_app.test", "_my.test", "my_.a_b.test"] {
        server.set(host, "A 127.0.0.1");
        let url = format!("http://{host}:{}/", receiver.address.port());
        assert_eq!(status(&post(&client, &url).await), Some(200), "{host}");
    }
    // Without a name server.
    let url = format!("http://my_app.localhost:{}/", receiver.address.port());
    assert_eq!(status(&post(&development(), &url).await), Some(200));
}

#[tokio::test]
async fn localhost_needs_no_name_server() {
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
async fn one_of_several_addresses_that_answers_is_taken() {
    let server = NameServer::start().await;
    let receiver = Receiver::responding(OK).await;
    // Nobody listens on the first two.
    server.set("hooks.test", "A 127.0.0.3, A 127.0.0.2, A 127.0.0.1");
    let url = format!("http://hooks.test:{}/", receiver.address.port());
    assert_eq!(status(&post(&client(TargetPolicy::Development, &server), &url).await), Some(200));
    assert_eq!(receiver.connections(), 1);
}

/// A full queue of connections looks like a host that is down: it sends nothing.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn silent_address_leaves_time_for_the_others() {
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
async fn all_of_many_addresses_are_vetted_and_some_are_tried() {
    let server = NameServer::start().await;
    let many: Vec<String> = (2..=20).map(|last| format!("A 127.0.0.{last}")).collect();
    server.set("hooks.test", &many.join(", "));
    let resolver =
        GuardedResolver::from_name_servers(TargetPolicy::Development, &[server.address]).unwrap();
    let addresses = resolver.addresses("hooks.test").await.unwrap();
    assert_eq!(addresses.len(), crate::ADDRESSES_MAX);
    server.set("hooks.test", &format!("{}, A 169.254.169.254", many.join(", ")));
    let blocked = resolver.addresses("hooks.test").await;
    assert!(matches!(blocked, Err(ResolveError::Forbidden(_))), "{blocked:?}");
}

/// The error does not tell what listens behind a name that is blocked.
#[tokio::test]
async fn blocked_name_has_the_same_error_with_and_without_a_listener() {
    let server = NameServer::start().await;
    let strict = client(TargetPolicy::Strict, &server);
    let receiver = Receiver::responding(OK).await;
    let mut errors = std::collections::BTreeSet::new();
    for zone in ["A 127.0.0.1", "A 127.0.0.2", "A 10.0.0.1", "AAAA ::1", "A 8.8.8.8, A 10.0.0.1"] {
        server.set("hooks.test", zone);
        let url = format!("https://hooks.test:{}/", receiver.address.port());
        errors.insert(format!("{:?}", post(&strict, &url).await));
    }
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(receiver.connections(), 0);
}
