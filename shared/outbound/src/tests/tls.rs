//! TLS: certificates, versions and sessions.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, mpsc};

use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use webhooks_core::outbound::{Failure, Outcome};
use webhooks_core::target::{TargetPolicy, TargetUrl};

use super::receiver::Receiver;
use super::{development, excerpt, failure, has_server_name, post};
use crate::{GuardedClient, Options};

/// A certificate and its key.
pub(super) struct Identity {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

pub(super) fn identity(host: &str) -> Identity {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([host.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    Identity { certificate: cert.der().clone(), key }
}

fn expired(host: &str) -> Identity {
    let mut params = CertificateParams::new([host.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Identity { certificate: certificate.der().clone(), key }
}

fn server_config(identity: Identity) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.key);
    Arc::new(config.unwrap())
}

/// Serves each connection with TLS, and returns the port and the kind of each handshake. It closes
/// the connection without `close_notify`.
fn serve(identity: Identity) -> (u16, mpsc::Receiver<Option<HandshakeKind>>) {
    let config = server_config(identity);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, handshakes) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, stream.unwrap());
            respond(&mut stream, "HTTP/1.0 200 OK\r\n\r\nover TLS");
            // The test may be over.
            let _ = sender.send(stream.conn.handshake_kind());
        }
    });
    (port, handshakes)
}

/// Serves one connection with TLS, and reports how the client closes it after the response.
fn serve_until_closed(identity: Identity) -> (u16, mpsc::Receiver<std::io::Result<usize>>) {
    let config = server_config(identity);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, end) = mpsc::channel();
    std::thread::spawn(move || {
        let session = ServerConnection::new(config).unwrap();
        let mut stream = StreamOwned::new(session, listener.accept().unwrap().0);
        respond(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        sender.send(stream.read(&mut [0; 1])).unwrap();
    });
    (port, end)
}

/// A client that does not trust the certificate closes the connection before the request is
/// complete.
fn respond(stream: &mut (impl Read + Write), response: &str) {
    let mut buffer = [0; 4096];
    let mut request = Vec::new();
    while !request.ends_with(b"{}") {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => request.extend(&buffer[..read]),
            _ => return,
        }
    }
    stream.write_all(response.as_bytes()).unwrap();
    stream.flush().unwrap();
}

fn trusting(certificate: CertificateDer<'static>) -> GuardedClient {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let options = Options { name_servers: Some(Vec::new()), roots, idle_per_host: 0 };
    GuardedClient::with_options(TargetPolicy::Development, options).unwrap()
}

fn assert_tls_failure(outcome: &Outcome, expected: &str) {
    let Outcome::NoResponse { failure: Failure::Tls, detail } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(detail.contains(expected), "{detail}");
}

#[tokio::test]
async fn trusted_certificate_is_accepted() {
    let identity = identity("localhost");
    let client = trusting(identity.certificate.clone());
    let (port, _) = serve(identity);
    // The body ends with the connection, which the server closes without `close_notify`.
    let outcome = post(&client, &format!("https://localhost:{port}/")).await;
    assert_eq!(excerpt(&outcome), "over TLS");
}

#[tokio::test]
async fn client_sends_close_notify() {
    let identity = identity("localhost");
    let client = trusting(identity.certificate.clone());
    let (port, end) = serve_until_closed(identity);
    let outcome = post(&client, &format!("https://localhost:{port}/")).await;
    assert_eq!(excerpt(&outcome), "ok");
    let end = tokio::task::spawn_blocking(move || end.recv().unwrap());
    assert_eq!(end.await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn untrusted_certificate_is_a_tls_failure() {
    let (port, _) = serve(identity("localhost"));
    let outcome = post(&development(), &format!("https://localhost:{port}/")).await;
    assert_tls_failure(&outcome, "trusted authority");
}

#[tokio::test]
async fn certificate_for_another_host_is_a_tls_failure() {
    let identity = identity("other.test");
    let client = trusting(identity.certificate.clone());
    let (port, _) = serve(identity);
    let outcome = post(&client, &format!("https://localhost:{port}/")).await;
    assert_tls_failure(&outcome, "not for this host");
}

#[tokio::test]
async fn expired_certificate_is_a_tls_failure() {
    let identity = expired("localhost");
    let client = trusting(identity.certificate.clone());
    let (port, _) = serve(identity);
    let outcome = post(&client, &format!("https://localhost:{port}/")).await;
    assert_tls_failure(&outcome, "expired");
}

#[tokio::test]
async fn server_without_tls_is_a_tls_failure() {
    for greeting in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let receiver = Receiver::start(move |mut stream| async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut hello = [0; 1024];
            assert!(stream.read(&mut hello).await.unwrap() > 0);
            stream.write_all(greeting.as_bytes()).await.unwrap();
        })
        .await;
        let outcome = post(&development(), &format!("https://{}/", receiver.address)).await;
        assert_eq!(failure(&outcome), Some(Failure::Tls), "{greeting:?}: {outcome:?}");
    }
}

/// A resumed session would carry bytes of the server's choice to whichever address the name has next.
#[tokio::test]
async fn no_session_is_resumed() {
    let identity = identity("localhost");
    let client = trusting(identity.certificate.clone());
    let (port, handshakes) = serve(identity);
    for _ in 0..3 {
        let outcome = post(&client, &format!("https://localhost:{port}/")).await;
        assert_eq!(excerpt(&outcome), "over TLS");
        assert_eq!(handshakes.recv().unwrap(), Some(HandshakeKind::Full));
    }
}

/// The server hello selects a version below 1.2 with a cipher of its time.
#[tokio::test]
async fn old_versions_are_neither_offered_nor_accepted() {
    for version in [0, 1, 2] {
        let (sender, mut hellos) = tokio::sync::mpsc::unbounded_channel();
        let receiver = Receiver::start(move |mut stream| {
            let sender = sender.clone();
            async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut hello = vec![0; 4096];
                let length = stream.read(&mut hello).await.unwrap();
                hello.truncate(length);
                sender.send(hello).unwrap();
                let mut response = vec![0x16, 3, version, 0, 0x2a, 2, 0, 0, 0x26, 3, version];
                response.extend([7; 32]);
                response.extend([0, 0xc0, 0x13, 0]);
                stream.write_all(&response).await.unwrap();
                // The client sends an alert.
                let _ = stream.read(&mut [0; 64]).await;
            }
        })
        .await;
        let outcome = post(&development(), &format!("https://{}/", receiver.address)).await;
        assert_tls_failure(&outcome, "could not be agreed");
        // The extension `supported_versions` with 1.3 and 1.2 (RFC 8446, section 4.2.1).
        let offer = [0, 0x2b, 0, 5, 4, 3, 4, 3, 3];
        let hello = hellos.recv().await.unwrap();
        assert!(hello.windows(offer.len()).any(|window| window == offer), "{hello:02x?}");
    }
}

#[test]
fn every_accepted_host_is_a_valid_tls_server_name() {
    let letters = ["a", "0", "-", "_", "ü"];
    let longer = |labels: &[String]| -> Vec<String> {
        labels.iter().flat_map(|label| letters.map(|letter| format!("{label}{letter}"))).collect()
    };
    let one = longer(&[String::new()]);
    let two = longer(&one);
    let labels = [longer(&two), two, one].concat();
    let mut accepted = 0;
    for label in labels {
        for host in [format!("{label}.example"), format!("example.{label}")] {
            let url = TargetUrl::parse(&format!("https://{host}/"), TargetPolicy::Strict);
            if let Ok(target) = url {
                assert!(has_server_name(target.url()), "{host}");
                accepted += 1;
            }
        }
    }
    assert!(accepted > 100, "{accepted}");
}
