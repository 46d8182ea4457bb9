//! The connections: how `reqwest` is set up, and how many connections it may keep.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};
use reqwest::{Client, redirect, retry};
use rustls::ClientConfig;
use url::{Host, Url};

use crate::resolver::GuardedResolver;
use crate::response::RESPONSE_HEAD_BYTES_MAX;

/// Connections that one pool opens before a new, empty pool takes its place. reqwest bounds the idle
/// connections of one host, not their sum, and a Lambda function may have 1,024 open files.
pub const CONNECTIONS_MAX: usize = 256;
/// Idle connections to one host: as many as a batch of tasks can use concurrently.
const IDLE_PER_HOST_MAX: usize = 10;
/// How long an idle connection is kept. Node.js, Apache and uvicorn close theirs after 5 s, and a
/// request that crosses with the close is a failed attempt.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// How long DNS, TCP and TLS may take together. It bounds the connections that are still being made
/// after the request that asked for them went out on another connection. TCP shares it evenly among
/// the addresses of one family.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pool in use.
pub(crate) struct Pool {
    settings: Settings,
    current: Mutex<Client>,
}

struct Settings {
    resolver: GuardedResolver,
    tls: ClientConfig,
    keep_connections: bool,
    /// The connections that the current pool has opened, at most.
    opened: Arc<AtomicUsize>,
}

impl Pool {
    pub(crate) fn new(
        resolver: GuardedResolver,
        tls: ClientConfig,
        keep_connections: bool,
    ) -> reqwest::Result<Self> {
        let opened = resolver.lookups();
        let settings = Settings { resolver, tls, keep_connections, opened };
        let current = Mutex::new(settings.build()?);
        Ok(Self { settings, current })
    }

    /// The client for one request. It keeps its pool open until it is dropped.
    pub(crate) fn client(&self, url: &Url) -> Client {
        let opened = &self.settings.opened;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            *current = self.settings.build().expect("the same settings were built before");
            opened.store(0, Ordering::Relaxed);
        }
        // Without a lookup it is unknown whether the request opens a connection: count it.
        if !matches!(url.host(), Some(Host::Domain(_))) {
            opened.fetch_add(1, Ordering::Relaxed);
        }
        current.clone()
    }
}

impl Settings {
    fn build(&self) -> reqwest::Result<Client> {
        let idle_per_host = if self.keep_connections { IDLE_PER_HOST_MAX } else { 0 };
        let head_bytes = u32::try_from(RESPONSE_HEAD_BYTES_MAX).unwrap_or(u32::MAX);
        Client::builder()
            .dns_resolver(self.resolver.clone())
            .tls_backend_preconfigured(self.tls.clone())
            .redirect(redirect::Policy::none())
            .no_proxy()
            // Also not what HTTP/2 declares as safe: an attempt is one request.
            .retry(retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(idle_per_host)
            .pool_idle_timeout(IDLE_MAX)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http2_max_header_list_size(head_bytes)
            .default_headers(HeaderMap::from_iter([(
                ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            )]))
            .build()
    }
}
