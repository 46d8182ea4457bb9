//! Serves HTTP/1.1 on a port, with a bound on everything that a client can make last or grow.
//!
//! API Gateway keeps such bounds for the deployed functions. Here they keep a slow or greedy client
//! of one port from taking the connections and the memory of the others. Like API Gateway, it
//! refuses a request whose lines end in a bare LF (`strict_lines`) and one without exactly one
//! `Host` header.
//!
//! Deliberately absent: TLS, HTTP/2, and a bound on how long a response takes; a long poll is long.

mod strict_lines;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use url::Url;

use strict_lines::StrictLines;

/// Open connections; further ones wait to be accepted. Every poller and every batch that a function
/// is handling has one of its own.
const CONNECTIONS: usize = 4_096;
/// How long a client may take to send the head of a request, and how long it may send nothing
/// between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes; a longer one gets 431. API Gateway allows 10,240.
const HEAD_BYTES: usize = 16 * 1024;
/// The most headers of a request; more get 431.
const HEADERS: usize = 100;
/// The pause after a connection could not be accepted: the process has run out of a resource.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of one listener that tests make smaller.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections.
    pub connections: usize,
    /// How long the head of a request may take.
    pub head_timeout: Duration,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: CONNECTIONS, head_timeout: HEAD_TIMEOUT, body_timeout: BODY_TIMEOUT }
    }
}

/// Serves until `stop`, then finishes the requests that have begun.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        // Finished connections leave the set, so that it does not grow.
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, router, peer, bounds, stop).await;
            drop(permit);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Accepts the next connection, once there is room for it; `None` when accepting it fails.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Responses are small and should not wait for more data.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            None
        }
    }
}

/// Serves one connection until its client closes it or `stop`.
pub async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    peer: SocketAddr,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(respond(router, request, peer, bounds).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_timeout)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(StrictLines::new(stream)), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Whether a `Host` names a host, with or without a port (RFC 9112, section 3.2), and can be a part of a URL.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(value.as_bytes()) else { return false };
    let url = Url::parse(&format!("http://{authority}/"));
    !authority.as_str().contains('@') && url.is_ok_and(|url| Uri::try_from(url.as_str()).is_ok())
}

async fn respond(
    mut router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    bounds: Bounds,
) -> Response {
    let mut hosts = request.headers().get_all(HOST).iter();
    if !hosts.next().is_some_and(is_host) || hosts.next().is_some() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    // Where the end of the body is not known in advance, the next head cannot be checked.
    let is_last = request.headers().contains_key(TRANSFER_ENCODING);
    let mut request =
        request.map(|body| Body::new(Timed { body, end: Box::pin(sleep(bounds.body_timeout)) }));
    request.extensions_mut().insert(ConnectInfo(peer));
    let Ok(mut response) = router.call(request).await;
    if is_last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A body that ends with an error when it has not arrived in time.
struct Timed {
    body: Incoming,
    end: Pin<Box<Sleep>>,
}

/// The body of a request did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
struct TooSlow;

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.end.as_mut().poll(context));
        Poll::Ready(Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use axum::routing::post;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::net::TcpStream;

    const BODY_BYTES: usize = 1024;

    const HEAD: &str = "POST / HTTP/1.1\r\nhost: a\r\n";

    /// Returns the body, or says why there is none.
    async fn echo(request: Request<Body>) -> Result<Bytes, String> {
        axum::body::to_bytes(request.into_body(), BODY_BYTES)
            .await
            .map_err(|error| std::error::Error::source(&error).unwrap().to_string())
    }

    fn router() -> Router {
        Router::new().route("/", post(echo))
    }

    /// A client with a connection of its own. The paused clock advances to the next timeout.
    fn client() -> DuplexStream {
        let (client, server) = duplex(64 * 1024);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let stop = CancellationToken::new();
        tokio::spawn(connection(server, router(), peer, Bounds::default(), stop));
        client
    }

    /// All that the server sends until it closes the connection.
    async fn response_to(request: impl AsRef<[u8]>) -> String {
        let mut client = client();
        client.write_all(request.as_ref()).await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_is_closed_after_the_response() {
        let start = tokio::time::Instant::now();
        let response = response_to(format!("{HEAD}content-length: 2\r\n\r\nhi")).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.ends_with("hi"), "{response}");
        assert!(start.elapsed() >= HEAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_head_times_out() {
        for head in ["", "P", "POST / HTTP/1.1\r\n", HEAD] {
            let response = response_to(head).await;
            assert!(!response.starts_with("HTTP/1.1 2"), "{response}");
        }
        // A byte a second: never silent for long.
        let mut client = client();
        let start = tokio::time::Instant::now();
        while client.write_all(b"a").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
            assert!(start.elapsed() < 3 * HEAD_TIMEOUT, "the connection stays open");
        }
        assert!(start.elapsed() >= HEAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_body_times_out() {
        for body in
            ["content-length: 10\r\n\r\nhi", "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"]
        {
            let response = response_to(format!("{HEAD}{body}")).await;
            assert!(response.contains("the body did not arrive in time"), "{response}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn large_head_gets_431() {
        let long = format!("{HEAD}x: {}\r\n\r\n", "y".repeat(HEAD_BYTES));
        let many = format!("{HEAD}{}\r\n", "x: y\r\n".repeat(HEADERS));
        for head in [long, many] {
            assert!(response_to(head).await.starts_with("HTTP/1.1 431 "));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn request_without_exactly_one_valid_host_gets_400() {
        let bad = ["`a", "a b", "a/b", "a?b", "u@a", "a:99999", "a:x", "[::g]", "[::1", "é", ""];
        let bad = bad.map(|host| format!("host: {host}\r\n"));
        let count = ["", "host: a\r\nhost: a\r\n", "host: a\r\nHost: b\r\n"].map(String::from);
        for hosts in bad.iter().chain(&count) {
            let response =
                response_to(format!("POST / HTTP/1.1\r\n{hosts}content-length: 0\r\n\r\n")).await;
            assert!(response.starts_with("HTTP/1.1 400 "), "{hosts:?}: {response}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bare_lf_in_a_head_gets_400() {
        let good = format!("{HEAD}content-length: 3\r\n\r\na\nb");
        // The body may hold whatever it wants, and the next head is checked again.
        let response = response_to(format!("{good}{good}")).await;
        assert_eq!(response.matches("HTTP/1.1 200").count(), 2, "{response}");
        for bad in [
            good.replacen("\r\n", "\n", 1),
            good.replace("host: a\r\n", "host: a\n"),
            good.replace("3\r\n\r\n", "3\n\n"),
            good.replace("3\r\n\r\n", "3\r\n\n"),
        ] {
            let response = response_to(&bad).await;
            assert!(response.starts_with("HTTP/1.1 400 "), "{bad:?}: {response}");
            let response = response_to(format!("{good}{bad}")).await;
            assert!(response.contains("HTTP/1.1 400 "), "{bad:?}: {response}");
        }
        // After a chunked body the connection is closed.
        let chunked = format!("{HEAD}transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
        let response = response_to(format!("{chunked}{good}")).await;
        assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{response}");
        assert!(response.contains("connection: close"), "{response}");
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds { connections: 1, ..Bounds::default() };
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router(), bounds, stop.clone()));

        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let last = format!("{HEAD}connection: close\r\ncontent-length: 2\r\n\r\nhi");
        second.write_all(last.as_bytes()).await.unwrap();
        // The first connection is accepted when its response comes; the second one waits.
        first.write_all(format!("{HEAD}content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        first.read_exact(&mut [0; 15]).await.unwrap();
        let unread = second.try_read(&mut [0; 1]).unwrap_err();
        assert_eq!(unread.kind(), std::io::ErrorKind::WouldBlock);

        drop(first);
        let mut response = String::new();
        second.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("hi"), "{response}");
        stop.cancel();
        server.await.unwrap();
    }
}
