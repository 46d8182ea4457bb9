//! A proxy between the SDK clients and one endpoint of AWS, on loopback: what happens to a call on
//! its way is up to a [`Between`].
//!
//! The calls' signatures do not matter, because no local endpoint looks at them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::CONTENT_LENGTH;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Sleep;

/// More than any body of either service, in bytes.
const BODY_BYTES: usize = 32 * 1024 * 1024;
/// How long the first half of a response has to arrive before the connection is reset.
const HALF_TIME: Duration = Duration::from_millis(20);

/// The services there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The tables.
    DynamoDb,
    /// The queues.
    Sqs,
}

/// One call of an AWS service, as it came in.
#[derive(Debug)]
pub struct Call {
    head: Parts,
    /// Which service it is for.
    pub service: Service,
    /// What is to be done, such as `PutItem`.
    pub operation: String,
    /// The JSON.
    pub body: Bytes,
}

impl Call {
    /// A call that came from nowhere.
    #[cfg(test)]
    pub(crate) fn new(service: Service, operation: &str, body: String) -> Self {
        let (head, ()) = Request::new(()).into_parts();
        Self { head, service, operation: operation.to_owned(), body: body.into() }
    }
}

/// What the client gets to see.
#[derive(Debug)]
pub enum Reaction {
    /// A response.
    Response(Response<Bytes>),
    /// The head and half of the body of a response, and then a reset of the connection.
    Half(Response<Bytes>),
    /// A reset of the connection.
    Reset,
}

/// Where calls go to.
#[derive(Clone)]
pub struct Upstream {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What happens to calls on their way.
pub trait Between: Send + Sync + 'static {
    /// Handles one call.
    fn call(&self, call: Call, upstream: &Upstream) -> impl Future<Output = Reaction> + Send;
}

impl Upstream {
    /// Sends the call to the endpoint and returns its response; `None` if the endpoint sends
    /// nothing.
    pub async fn pass(&self, call: Call) -> Option<Response<Bytes>> {
        let Call { mut head, body, .. } = call;
        head.uri = Uri::try_from(format!("http://{}{}", self.address, head.uri.path())).ok()?;
        head.headers.remove(CONTENT_LENGTH);
        let request = Request::from_parts(head, Full::new(body));
        let (mut head, response) = self.client.request(request).await.ok()?.into_parts();
        let response = Limited::new(response, BODY_BYTES).collect().await.ok()?.to_bytes();
        // The length is set again, because the response may be changed.
        head.headers.remove(CONTENT_LENGTH);
        Some(Response::from_parts(head, response))
    }
}

/// Starts a proxy in front of this endpoint, which runs as long as the process, and says where it
/// listens.
pub async fn serve<B: Between>(upstream: SocketAddr, between: Arc<B>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let upstream = Upstream { address: upstream, client };
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    connections.spawn(converse(stream, Arc::clone(&between), upstream.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    });
    Ok(address)
}

/// The connection is to be reset.
#[derive(Debug)]
struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("reset on purpose")
    }
}

impl std::error::Error for Reset {}

async fn converse<B: Between>(stream: TcpStream, between: Arc<B>, upstream: Upstream) {
    // Whenever this side is the first to close, the other sees a reset.
    let _ = stream.set_zero_linger();
    let service = service_fn(|request: Request<Incoming>| {
        let (between, upstream) = (Arc::clone(&between), upstream.clone());
        async move {
            let call = read(request).await.ok_or(Reset)?;
            match between.call(call, &upstream).await {
                Reaction::Response(response) => Ok(response.map(Text::Whole)),
                Reaction::Half(response) => Ok(response.map(|whole| Text::half(&whole))),
                Reaction::Reset => Err(Reset),
            }
        }
    });
    // An error is a reset, which was meant, or a client that went away, which it may.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn read(request: Request<Incoming>) -> Option<Call> {
    let (head, body) = request.into_parts();
    let (service, operation) = head.headers.get("x-amz-target")?.to_str().ok()?.split_once('.')?;
    let service = if service == "AmazonSQS" { Service::Sqs } else { Service::DynamoDb };
    let operation = operation.to_owned();
    let body = Limited::new(body, BODY_BYTES).collect().await.ok()?.to_bytes();
    Some(Call { head, service, operation, body })
}

/// The body of a response.
enum Text {
    Whole(Bytes),
    /// What is left of the first half, the length of the whole, and when the reset comes.
    Half(Option<Bytes>, u64, Pin<Box<Sleep>>),
}

impl Text {
    fn half(whole: &Bytes) -> Self {
        let length = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        let half = whole.slice(..whole.len() / 2);
        Self::Half(Some(half), length, Box::pin(tokio::time::sleep(HALF_TIME)))
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = Reset;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Reset>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Half(half, _, time) => match half.take() {
                Some(half) => Poll::Ready(Some(Ok(Frame::data(half)))),
                None => time.as_mut().poll(context).map(|()| Some(Err(Reset))),
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Half(_, length, _) => *length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::ErrorKind;
    use std::sync::Mutex;
    use test_support::FakeReceiver;
    use test_support::receiver::Reply;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const REQUEST: &[u8] =
        b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.A\r\ncontent-length: 2\r\n\r\n{}";

    type React = fn(Response<Bytes>) -> Reaction;

    /// Reacts in this order.
    struct Script(Mutex<Vec<React>>);

    impl Between for Script {
        async fn call(&self, call: Call, upstream: &Upstream) -> Reaction {
            assert_eq!((call.service, &*call.operation), (Service::Sqs, "A"));
            let next = self.0.lock().unwrap().remove(0);
            next(upstream.pass(call).await.unwrap())
        }
    }

    #[tokio::test]
    async fn responses_are_complete_truncated_or_missing() {
        let receiver = FakeReceiver::start().await.unwrap();
        receiver.otherwise(Reply::response(200, &[], "12345678"));
        let script: Vec<React> = vec![Reaction::Response, Reaction::Half, |_| Reaction::Reset];
        let proxy = serve(receiver.address(), Arc::new(Script(Mutex::new(script)))).await.unwrap();

        let mut stream = TcpStream::connect(proxy).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n12345678") {
            text.push(char::from(stream.read_u8().await.unwrap()));
        }
        stream.write_all(REQUEST).await.unwrap();
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n1234") {
            text.push(char::from(stream.read_u8().await.unwrap()));
        }
        assert!(text.contains("content-length: 8"), "{text}");
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);

        let mut stream = TcpStream::connect(proxy).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(receiver.received().len(), 3, "each was carried out");
    }
}
