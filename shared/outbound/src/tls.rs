//! TLS: 1.2 and 1.3, every certificate verified, every handshake a full one.
//!
//! Deliberately absent: session resumption. What a server hands out as a session comes back to
//! whoever the name leads to next time, so that it would let a receiver choose bytes that are sent
//! to somebody else ("TLS Poison", Joshua Maddux, 2020).

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use crate::connection::Stream;
use crate::failure::Failed;

/// Turns connections into trusted ones.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
}

impl Tls {
    pub(crate) fn trusting(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { connector: Arc::new(config).into() })
    }

    /// Shakes hands with the host of the URL.
    pub(crate) async fn secure(
        &self,
        url: &Url,
        stream: Stream,
    ) -> Result<TlsStream<Stream>, Failed> {
        let name = server_name(url).ok_or_else(Failed::unsendable)?;
        self.connector.connect(name, stream).await.map_err(|error| Failed::handshake(&error))
    }
}

/// The authorities that Mozilla trusts, compiled in, so that no file is read when a function starts.
pub(crate) fn public_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// Whom the certificate must be for.
pub(crate) fn server_name(url: &Url) -> Option<ServerName<'static>> {
    match url.host()? {
        Host::Domain(name) => ServerName::try_from(name.to_owned()).ok(),
        Host::Ipv4(address) => Some(ServerName::IpAddress(address.into())),
        Host::Ipv6(address) => Some(ServerName::IpAddress(address.into())),
    }
}
