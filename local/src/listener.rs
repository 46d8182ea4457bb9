//! What stands between a port and a router: HTTP/1.1 with a bound on everything that a client can
//! make last or grow.
//!
//! API Gateway keeps such bounds for the deployed functions. Here they keep a slow or greedy client
//! of one port from taking the connections and the memory of the others.
//!
//! Deliberately absent: TLS, HTTP/2, and a bound on how long an answer takes; a long poll is long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
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

/// Connections that are open at once; the next ones wait to be accepted. Every poller and every
/// batch in the hands of a function has one of its own.
const CONNECTIONS: usize = 4_096;
/// How long a client may take to send the head of a request, and how long it may send nothing
/// between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The head of a request, in bytes; a longer one is answered 431. API Gateway allows 10,240.
const HEAD_BYTES: usize = 16 * 1024;
/// The headers of a request; more are answered 431.
const HEADERS: usize = 100;
/// How long to wait after a connection could not be accepted: the system is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of one listener that tests make smaller.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections that are open at once.
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

/// Serves until `stop`, then lets the requests that have begun finish.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        // Whoever ended is forgotten, so that the set does not grow.
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

/// The next client, once there is room for it; nothing when it cannot be accepted now.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are small, and whoever waits for one waits for all of it.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            None
        }
    }
}

/// Serves one connection until its client is done with it or `stop`.
pub async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    peer: SocketAddr,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request, peer, bounds).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_timeout)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
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

async fn answer(
    mut router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    bounds: Bounds,
) -> Response {
    let mut request =
        request.map(|body| Body::new(Timed { body, end: Box::pin(sleep(bounds.body_timeout)) }));
    request.extensions_mut().insert(ConnectInfo(peer));
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
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

    /// Answers with the body, or says why there is none.
    async fn echo(request: Request<Body>) -> Result<Bytes, String> {
        axum::body::to_bytes(request.into_body(), BODY_BYTES)
            .await
            .map_err(|error| std::error::Error::source(&error).unwrap().to_string())
    }

    fn router() -> Router {
        Router::new().route("/", post(echo))
    }

    /// A client of a connection of its own. Time jumps to the next timeout when all wait.
    fn client() -> DuplexStream {
        let (client, server) = duplex(64 * 1024);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let stop = CancellationToken::new();
        tokio::spawn(connection(server, router(), peer, Bounds::default(), stop));
        client
    }

    /// All that the server says until it hangs up.
    async fn answer_to(request: &[u8]) -> String {
        let mut client = client();
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_answered_and_an_idle_client_is_left() {
        let began = tokio::time::Instant::now();
        let answer = answer_to(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hi"), "{answer}");
        assert!(began.elapsed() >= HEAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_ends_is_hung_up_on() {
        for head in ["", "P", "POST / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nx: y\r\n"] {
            let answer = answer_to(head.as_bytes()).await;
            assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_is_hung_up_on() {
        let mut client = client();
        let began = tokio::time::Instant::now();
        let mut sent = 0;
        // A byte a second: never silent for long.
        while client.write_all(b"a").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
            sent += 1;
            assert!(sent < 100, "it is still listened to");
        }
        assert!(began.elapsed() >= HEAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_an_error() {
        for body in
            ["content-length: 10\r\n\r\nhi", "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"]
        {
            let answer = answer_to(format!("POST / HTTP/1.1\r\n{body}").as_bytes()).await;
            assert!(answer.contains("the body did not arrive in time"), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_large_is_refused() {
        let long = format!("POST / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(HEAD_BYTES));
        assert!(answer_to(long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
        let many = format!("POST / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(HEADERS + 1));
        assert!(answer_to(many.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    }

    #[tokio::test]
    async fn there_are_no_more_connections_than_there_may_be() {
        const REQUEST: &[u8] =
            b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds { connections: 1, ..Bounds::default() };
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router(), bounds, stop.clone()));

        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        // The first has been accepted when its answer comes; the second has not been.
        first.write_all(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        first.read_exact(&mut answer).await.unwrap();
        assert_eq!(
            second.try_read(&mut [0; 1]).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );

        drop(first);
        let mut answer = String::new();
        second.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hi"), "{answer}");
        stop.cancel();
        server.await.unwrap();
    }
}
