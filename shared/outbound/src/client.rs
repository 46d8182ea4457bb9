//! One POST, from the request to its outcome.

use std::net::SocketAddr;

use async_trait::async_trait;
use hickory_resolver::net::NetError;
use rustls::RootCertStore;
use tokio::time::Instant;
use url::Url;
use webhooks_core::outbound::{HttpResult, OutboundRequest, Outcome};
use webhooks_core::ports::Sender;
use webhooks_core::target::{TargetPolicy, TargetUrl};

use crate::connection;
use crate::exchange::{self, Post};
use crate::failure::Failed;
use crate::resolver::GuardedResolver;
use crate::tls::{self, Tls};

/// Sends POSTs to public addresses, and nowhere else.
#[derive(Clone)]
pub struct GuardedClient {
    policy: TargetPolicy,
    resolver: GuardedResolver,
    tls: Tls,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The system's name servers cannot be read.
    #[error("the name servers cannot be configured")]
    NameServers(#[from] NetError),
    /// TLS cannot be set up.
    #[error("TLS cannot be configured")]
    Tls(#[from] rustls::Error),
}

impl GuardedClient {
    /// A client that asks the system's name servers. Make one and share it.
    pub fn new(policy: TargetPolicy) -> Result<Self, BuildError> {
        Self::build(policy, GuardedResolver::from_system(policy)?, tls::public_roots())
    }

    /// A client that asks the given name servers, over UDP and TCP. The guard is the same.
    pub fn with_name_servers(
        policy: TargetPolicy,
        servers: &[SocketAddr],
    ) -> Result<Self, BuildError> {
        let resolver = GuardedResolver::from_name_servers(policy, servers)?;
        Self::build(policy, resolver, tls::public_roots())
    }

    pub(crate) fn build(
        policy: TargetPolicy,
        resolver: GuardedResolver,
        roots: RootCertStore,
    ) -> Result<Self, BuildError> {
        Ok(Self { policy, resolver, tls: Tls::trusting(roots)? })
    }

    async fn send(&self, request: OutboundRequest) -> Result<Outcome, Failed> {
        // The URL may have been accepted under a laxer policy.
        let target =
            TargetUrl::parse(request.url.as_str(), self.policy).map_err(Failed::refused_url)?;
        let url = target.url();
        let post = exchange::post(url, &request.headers, request.body)?;
        let addresses = self.addresses(url).await?;
        self.exchange(url, &addresses, post).await
    }

    /// Every address that may be connected to for this URL, with its port.
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, Failed> {
        let host = url.host().ok_or_else(Failed::unsendable)?;
        let port = url.port_or_known_default().ok_or_else(Failed::unsendable)?;
        let addresses = self.resolver.resolve(&host).await?;
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    async fn exchange(
        &self,
        url: &Url,
        addresses: &[SocketAddr],
        post: Post,
    ) -> Result<Outcome, Failed> {
        let stream = connection::open(addresses).await?;
        if url.scheme() == "https" {
            exchange::make(self.tls.secure(url, stream).await?, post).await
        } else {
            exchange::make(stream, post).await
        }
    }
}

#[async_trait]
impl Sender for GuardedClient {
    async fn post(&self, request: OutboundRequest) -> HttpResult {
        let started = Instant::now();
        let timeout = request.timeout;
        let outcome = match tokio::time::timeout(timeout, self.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(failed)) => failed.into(),
            Err(_) => Failed::deadline(timeout).into(),
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        HttpResult { outcome, duration_ms }
    }
}
