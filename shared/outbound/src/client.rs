//! One POST, from the request to its outcome.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::net::NetError;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::RootCertStore;
use tokio::time::{Instant, timeout_at};
use webhooks_core::kept_headers::KeptHeaders;
use webhooks_core::outbound::{HttpResult, OutboundRequest, Outcome};
use webhooks_core::ports::Sender;
use webhooks_core::target::{TargetPolicy, TargetUrl};

use crate::failure::Failed;
use crate::pool::{IDLE_PER_HOST_MAX, Pool};
use crate::resolver::{GuardedResolver, LookupState};
use crate::{response, tls};

/// Sends POSTs to public addresses only.
pub struct GuardedClient {
    policy: TargetPolicy,
    pool: Pool,
}

/// What the local system, a test or a benchmark may set. The checks of addresses are the same in every client.
pub struct Options {
    /// The name servers, asked over UDP and TCP; without them, those of the system.
    pub name_servers: Option<Vec<SocketAddr>>,
    /// The certificate authorities that are trusted.
    pub roots: RootCertStore,
    /// How many idle connections to one host are kept for the next requests.
    pub idle_per_host: usize,
}

impl Default for Options {
    /// As deployed.
    fn default() -> Self {
        let (roots, idle_per_host) = (tls::public_roots(), IDLE_PER_HOST_MAX);
        Self { name_servers: None, roots, idle_per_host }
    }
}

/// Why a client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The system's name servers cannot be read.
    #[error("the name servers cannot be configured")]
    NameServers(#[from] NetError),
    /// TLS cannot be configured.
    #[error("TLS cannot be configured")]
    Tls(#[from] rustls::Error),
    /// The HTTP client cannot be configured.
    #[error("the HTTP client cannot be configured")]
    Http(#[from] reqwest::Error),
}

impl GuardedClient {
    /// A client as deployed. Build one and share it: it holds the connections.
    pub fn new(policy: TargetPolicy) -> Result<Self, BuildError> {
        Self::with_options(policy, Options::default())
    }

    /// A client that asks the given name servers.
    pub fn with_name_servers(
        policy: TargetPolicy,
        servers: &[SocketAddr],
    ) -> Result<Self, BuildError> {
        let name_servers = Some(servers.to_vec());
        Self::with_options(policy, Options { name_servers, ..Options::default() })
    }

    /// A client with options.
    pub fn with_options(policy: TargetPolicy, options: Options) -> Result<Self, BuildError> {
        let resolver = match options.name_servers {
            None => GuardedResolver::from_system(policy)?,
            Some(servers) => GuardedResolver::from_name_servers(policy, &servers)?,
        };
        let pool = Pool::new(resolver, tls::config(options.roots)?, options.idle_per_host)?;
        Ok(Self { policy, pool })
    }

    async fn send(
        &self,
        request: OutboundRequest,
        deadline: Instant,
    ) -> Result<(Outcome, KeptHeaders), Failed> {
        // The URL may have been accepted under a laxer policy.
        let target = TargetUrl::parse(&request.url, self.policy).map_err(Failed::refused_url)?;
        let url = target.url().clone();
        let headers = header_map(&request)?;
        let client = self.pool.client();
        let post = client.post(url).headers(headers).body(request.body).build()?;

        let lookup = LookupState::default();
        let mut response = timeout_at(deadline, lookup.track(client.execute(post)))
            .await
            .map_err(|_| Self::no_response_in_time(&lookup, request.timeout))??;
        response::check_head(&response)?;
        let status = response.status().as_u16();
        let retry_after = response::retry_after(response.headers());
        let headers = response::kept_headers(response.headers());
        let excerpt = response::read_excerpt(&mut response, deadline).await;
        Ok((Outcome::Response { status, retry_after, excerpt }, headers))
    }

    fn no_response_in_time(lookup: &LookupState, timeout: Duration) -> Failed {
        if lookup.is_pending() { Failed::name_server_silent() } else { Failed::deadline(timeout) }
    }
}

fn header_map(request: &OutboundRequest) -> Result<HeaderMap, Failed> {
    let OutboundRequest { headers, owner_headers, .. } = request;
    let mut map = HeaderMap::with_capacity(headers.len() + owner_headers.len());
    let parse = |name: &str, value: &str| {
        let name = name.parse::<HeaderName>().map_err(|_| Failed::invalid_header())?;
        let value = value.parse::<HeaderValue>().map_err(|_| Failed::invalid_header())?;
        Ok::<_, Failed>((name, value))
    };
    for (name, value) in headers {
        let (name, value) = parse(name, value)?;
        map.append(name, value);
    }
    for (name, value) in owner_headers {
        let (name, mut value) = parse(name.as_str(), value.expose())?;
        value.set_sensitive(true);
        map.append(name, value);
    }
    Ok(map)
}

#[async_trait]
impl Sender for GuardedClient {
    async fn post(&self, request: OutboundRequest) -> HttpResult {
        if !request.wait.is_zero() {
            tokio::time::sleep(request.wait).await;
        }
        let started = Instant::now();
        let deadline = started + request.timeout;
        let (outcome, response_headers) = match self.send(request, deadline).await {
            Ok((outcome, headers)) => (outcome, Some(headers)),
            Err(failed) => (failed.into(), None),
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        HttpResult { outcome, response_headers, duration_ms }
    }
}
