//! TLS: 1.2 and 1.3, every certificate verified, every handshake a full one.
//!
//! Deliberately absent: session resumption. A server's session ticket would be sent to whichever
//! address the name resolves to next time, so a receiver could choose bytes that are sent to
//! somebody else ("TLS Poison", Joshua Maddux, 2020).

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};

/// The client's settings. HTTP/2 is used where the server offers it.
pub(crate) fn config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The certificate authorities that Mozilla trusts, compiled in, so that a function reads no file
/// when it starts.
pub(crate) fn public_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}
