//! TLS: whom to believe.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use webhooks_core::outbound::{Failure, Outcome};
use webhooks_core::target::TargetPolicy;

use super::receiver::Receiver;
use super::{development, excerpt, failure, post};
use crate::GuardedClient;
use crate::resolver::GuardedResolver;

/// A certificate and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn identity(host: &str) -> Identity {
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

/// Serves one connection with TLS, and returns its port. It hangs up without a TLS goodbye.
fn serve(identity: Identity) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        // A client that does not trust the certificate breaks off here.
        let mut buffer = [0; 4096];
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            match stream.read(&mut buffer) {
                Ok(read) if read > 0 => request.extend(&buffer[..read]),
                _ => return,
            }
        }
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nover TLS").unwrap();
    });
    port
}

fn trusting(certificate: CertificateDer<'static>) -> GuardedClient {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let resolver = GuardedResolver::from_name_servers(TargetPolicy::Development, &[]).unwrap();
    GuardedClient::build(TargetPolicy::Development, resolver, roots).unwrap()
}

fn assert_tls_failure(outcome: &Outcome, expected: &str) {
    let Outcome::NoResponse { failure: Failure::Tls, detail } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(detail.contains(expected), "{detail}");
}

#[tokio::test]
async fn a_trusted_certificate_is_accepted() {
    let identity = identity("localhost");
    let client = trusting(identity.certificate.clone());
    let port = serve(identity);
    // The body ends with the connection, and the server says no goodbye.
    let outcome = post(&client, &format!("https://localhost:{port}/")).await;
    assert_eq!(excerpt(&outcome), "over TLS");
}

#[tokio::test]
async fn an_untrusted_certificate_is_a_tls_failure() {
    let port = serve(identity("localhost"));
    let outcome = post(&development(), &format!("https://localhost:{port}/")).await;
    assert_tls_failure(&outcome, "trusted authority");
}

#[tokio::test]
async fn a_certificate_for_another_host_is_a_tls_failure() {
    let identity = identity("other.test");
    let client = trusting(identity.certificate.clone());
    let port = serve(identity);
    let outcome = post(&client, &format!("https://localhost:{port}/")).await;
    assert_tls_failure(&outcome, "not for this host");
}

#[tokio::test]
async fn an_expired_certificate_is_a_tls_failure() {
    let identity = expired("localhost");
    let client = trusting(identity.certificate.clone());
    let port = serve(identity);
    let outcome = post(&client, &format!("https://localhost:{port}/")).await;
    assert_tls_failure(&outcome, "expired");
}

#[tokio::test]
async fn a_server_without_tls_is_a_tls_failure() {
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
