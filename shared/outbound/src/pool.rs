//! The connections: how `reqwest` is set up, and how many connections it may keep.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};
use reqwest::{Client, redirect, retry};
use rustls::ClientConfig;
use tower_layer::Layer;
use tower_service::Service;

use crate::resolver::GuardedResolver;
use crate::response::RESPONSE_HEAD_BYTES_MAX;

/// Connections that one pool opens before a new, empty pool takes its place. reqwest bounds the idle
/// connections of one host, not their sum, and a Lambda function may have 1,024 open files.
pub const CONNECTIONS_MAX: usize = 256;
/// Idle connections to one host: as many as a batch of tasks uses concurrently, unless one owner has many webhooks there.
pub(crate) const IDLE_PER_HOST_MAX: usize = 10;
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
    idle_per_host: usize,
    /// The connections that the current pool has opened.
    opened: Arc<AtomicUsize>,
}

impl Pool {
    pub(crate) fn new(
        resolver: GuardedResolver,
        tls: ClientConfig,
        idle_per_host: usize,
    ) -> reqwest::Result<Self> {
        let settings = Settings { resolver, tls, idle_per_host, opened: Arc::default() };
        let current = Mutex::new(settings.build()?);
        Ok(Self { settings, current })
    }

    /// The client for one request. It keeps its pool open until it is dropped.
    pub(crate) fn client(&self) -> Client {
        let opened = &self.settings.opened;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            *current = self.settings.build().expect("the same settings were built before");
            opened.store(0, Ordering::Relaxed);
        }
        current.clone()
    }
}

impl Settings {
    fn build(&self) -> reqwest::Result<Client> {
        let head_bytes = u32::try_from(RESPONSE_HEAD_BYTES_MAX).unwrap_or(u32::MAX);
        Client::builder()
            .dns_resolver(self.resolver.clone())
            .connector_layer(CountConnections(Arc::clone(&self.opened)))
            .tls_backend_preconfigured(self.tls.clone())
            .redirect(redirect::Policy::none())
            .no_proxy()
            // Also not what HTTP/2 declares as safe: an attempt is one request.
            .retry(retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(self.idle_per_host)
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

/// Counts the connections that are opened.
#[derive(Clone)]
struct CountConnections(Arc<AtomicUsize>);

impl<S> Layer<S> for CountConnections {
    type Service = CountedConnector<S>;

    fn layer(&self, inner: S) -> CountedConnector<S> {
        CountedConnector { inner, opened: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
struct CountedConnector<S> {
    inner: S,
    opened: Arc<AtomicUsize>,
}

impl<S: Service<R>, R> Service<R> for CountedConnector<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.inner.call(request)
    }
}
