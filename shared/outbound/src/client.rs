//! One POST, from the request to its outcome.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hickory_resolver::net::NetError;
use http::Method;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING,
};
use reqwest::{Client, Request, Response, redirect, retry};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;
use webhooks_core::limits::{RESPONSE_KEEP_BYTES, RESPONSE_READ_BYTES};
use webhooks_core::outbound::{Answer, OutboundRequest, Outcome, RetryAfter};
use webhooks_core::ports::Sender;
use webhooks_core::target::{TargetPolicy, TargetUrl};

use crate::failure::{Failed, is_unexpected_end};
use crate::resolver::GuardedResolver;

/// The headers of one response; more are no response.
pub const RESPONSE_HEADERS_MAX: usize = 100;

/// The bytes that a character which begins within a limit may have outside of it, in UTF-8.
const CHARACTER_OVERHANG: usize = 3;

/// Sends POSTs to public addresses, and nowhere else.
#[derive(Clone, Debug)]
pub struct GuardedClient {
    policy: TargetPolicy,
    http: Client,
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
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be built")]
    Http(#[from] reqwest::Error),
}

impl GuardedClient {
    /// A client that asks the system's name servers. Make one and share it.
    pub fn new(policy: TargetPolicy) -> Result<Self, BuildError> {
        Self::build(policy, GuardedResolver::from_system(policy)?, public_roots())
    }

    /// A client that asks the given name servers, over UDP and TCP. The guard is the same.
    pub fn with_name_servers(
        policy: TargetPolicy,
        servers: &[SocketAddr],
    ) -> Result<Self, BuildError> {
        Self::build(policy, GuardedResolver::from_name_servers(policy, servers)?, public_roots())
    }

    pub(crate) fn build(
        policy: TargetPolicy,
        resolver: GuardedResolver,
        roots: RootCertStore,
    ) -> Result<Self, BuildError> {
        Ok(Self { policy, http: http_client(resolver, tls_config(roots)?)? })
    }

    async fn exchange(&self, request: OutboundRequest) -> Result<Outcome, Failed> {
        // The URL may have been accepted under a laxer policy. This is also the check of hosts
        // that are addresses, which no resolver sees.
        let target =
            TargetUrl::parse(request.url.as_str(), self.policy).map_err(Failed::refused_url)?;
        let mut post = Request::new(Method::POST, target.url().clone());
        *post.headers_mut() = header_map(&request.headers)?;
        *post.body_mut() = Some(request.body.into());
        read_response(self.http.execute(post).await?).await
    }
}

#[async_trait]
impl Sender for GuardedClient {
    async fn post(&self, request: OutboundRequest) -> Answer {
        let started = Instant::now();
        let timeout = request.timeout;
        let outcome = match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(failed)) => failed.into(),
            Err(_) => Failed::deadline(timeout).into(),
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Answer { outcome, duration_ms }
    }
}

/// The authorities that Mozilla trusts, compiled in, so that no file is read when a function starts.
pub(crate) fn public_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// TLS 1.2 and 1.3, HTTP/1.1 only.
fn tls_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where a client is built")]
fn http_client(resolver: GuardedResolver, tls: ClientConfig) -> Result<Client, reqwest::Error> {
    Client::builder()
        .dns_resolver(resolver)
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        // An idle connection would go to an address that was vetted for an earlier attempt.
        .pool_max_idle_per_host(0)
        .http1_only()
        .http1_max_headers(RESPONSE_HEADERS_MAX)
        // Whatever features another crate may switch on, a small response stays small.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .build()
}

fn header_map(headers: &[(&'static str, String)]) -> Result<HeaderMap, Failed> {
    let mut map = HeaderMap::with_capacity(headers.len() + 1);
    // A client that keeps no connections has to say so (RFC 9112, section 9.6).
    map.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in headers {
        let name = name.parse::<HeaderName>().map_err(|_| Failed::invalid_header())?;
        let value = value.parse::<HeaderValue>().map_err(|_| Failed::invalid_header())?;
        map.append(name, value);
    }
    Ok(map)
}

async fn read_response(mut response: Response) -> Result<Outcome, Failed> {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(RetryAfter::parse);
    let excerpt = read_excerpt(&mut response).await?;
    Ok(Outcome::Response { status, retry_after, excerpt })
}

/// Reads the body up to its limit. What lies behind the limit is never asked for: the connection
/// is dropped with the response.
async fn read_excerpt(response: &mut Response) -> Result<String, Failed> {
    let ends_with_connection =
        response.content_length().is_none() && !response.headers().contains_key(TRANSFER_ENCODING);
    let mut kept = Vec::new();
    let mut read = 0;
    while read < RESPONSE_READ_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = RESPONSE_KEEP_BYTES + CHARACTER_OVERHANG - kept.len();
                kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
                read += chunk.len();
            }
            Ok(None) => break,
            // Old servers end such a body by hanging up, and many forget to say so in TLS. The
            // status is known and nothing says that the body is short.
            Err(error) if ends_with_connection && is_unexpected_end(&error) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(decode_excerpt(&kept))
}

/// Decodes leniently, and cuts at a character's boundary.
fn decode_excerpt(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(RESPONSE_KEEP_BYTES));
    text
}
