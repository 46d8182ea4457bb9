//! HTTP/2, which is used where the endpoint offers it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use webhooks_core::outbound::Failure;
use webhooks_core::target::TargetPolicy;

use super::tls::{Identity, identity};
use super::{excerpt, failure, post, status};
use crate::{GuardedClient, Options};

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Behaviour {
    Respond,
    RefuseStream,
    CloseWithoutError,
    RespondWithHead(usize),
}

struct Server {
    url: String,
    client: GuardedClient,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

fn acceptor(identity: Identity) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config).into()
}

/// Starts a server, and a client that trusts it.
async fn start(behaviour: Behaviour) -> Server {
    let identity = identity("localhost");
    let mut roots = RootCertStore::empty();
    roots.add(identity.certificate.clone()).unwrap();
    let options = Options { name_servers: Some(Vec::new()), roots, idle_per_host: 10 };
    let client = GuardedClient::with_options(TargetPolicy::Development, options).unwrap();

    let acceptor = acceptor(identity);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let connections = Arc::new(AtomicUsize::new(0));
    let requests = Arc::new(AtomicUsize::new(0));
    let server =
        Server { url, client, connections: connections.clone(), requests: requests.clone() };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, connections, requests) =
                (acceptor.clone(), Arc::clone(&connections), Arc::clone(&requests));
            tokio::spawn(async move {
                // The client may have found another connection.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let Ok(mut http) = h2::server::handshake(stream).await else { return };
                let mut used = false;
                while let Some(Ok((request, respond))) = http.accept().await {
                    requests.fetch_add(1, Ordering::SeqCst);
                    connections.fetch_add(usize::from(!used), Ordering::SeqCst);
                    used = true;
                    match behaviour {
                        Behaviour::CloseWithoutError => http.abrupt_shutdown(Reason::NO_ERROR),
                        _ => drop(tokio::spawn(handle(behaviour, request, respond))),
                    }
                }
            });
        }
    });
    server
}

async fn handle(
    behaviour: Behaviour,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    assert_eq!(request.method(), "POST");
    let mut body = request.into_body();
    let mut received = Vec::new();
    while let Some(part) = body.data().await {
        received.extend(part.unwrap());
    }
    assert_eq!(received, b"{}");
    let mut response = Response::builder().status(202);
    match behaviour {
        Behaviour::RefuseStream => return respond.send_reset(Reason::REFUSED_STREAM),
        Behaviour::RespondWithHead(size) => {
            for _ in 0..size / 1024 {
                response = response.header("x", "y".repeat(1024 - 33));
            }
        }
        _ => {}
    }
    let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from_static(b"over HTTP/2"), true).unwrap();
}

#[tokio::test]
async fn concurrent_deliveries_share_a_connection() {
    let server = start(Behaviour::Respond).await;
    assert_eq!(excerpt(&post(&server.client, &server.url).await), "over HTTP/2");
    let posts = (0..10).map(|_| post(&server.client, &server.url));
    for outcome in futures::future::join_all(posts).await {
        assert_eq!(status(&outcome), Some(202), "{outcome:?}");
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 11);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

/// Some clients repeat such requests by themselves. Here each request is an attempt that is recorded.
#[tokio::test]
async fn refused_or_aborted_request_is_not_repeated() {
    for behaviour in [Behaviour::RefuseStream, Behaviour::CloseWithoutError] {
        let server = start(behaviour).await;
        let outcome = post(&server.client, &server.url).await;
        assert_eq!(failure(&outcome), Some(Failure::Protocol), "{outcome:?}");
        assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn head_is_bounded_in_size() {
    for (size, passes) in [(60 << 10, true), (66 << 10, false), (1 << 20, false)] {
        let server = start(Behaviour::RespondWithHead(size)).await;
        let outcome = post(&server.client, &server.url).await;
        let expected = (!passes).then_some(Failure::Protocol);
        assert_eq!(failure(&outcome), expected, "{size}: {outcome:?}");
    }
}
