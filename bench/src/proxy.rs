//! A proxy on loopback between an SDK client and the endpoint of a service, which has each request
//! say what it costs and gives that to the [`Meter`].

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::meter::{Meter, is_told};

/// More than any answer of either service.
const BODY_BYTES: usize = 32 * 1024 * 1024;
const SQS: &str = "AmazonSQS";

/// The proxy; it stops when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    _server: AbortOnDropHandle<()>,
}

struct Pass {
    upstream: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    meter: Arc<Meter>,
}

impl Proxy {
    /// One in front of this endpoint.
    pub(crate) async fn start(upstream: SocketAddr, meter: Arc<Meter>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let pass = Arc::new(Pass { upstream, client, meter });
        let router = Router::new().fallback(serve).with_state(pass);
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, _server: AbortOnDropHandle::new(server) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(State(pass): State<Arc<Pass>>, request: Request) -> Result<Response, StatusCode> {
    // The signature does not cover what is changed here, but no local endpoint looks at it.
    pass.on(request).await.ok_or(StatusCode::BAD_GATEWAY)
}

impl Pass {
    async fn on(&self, request: Request) -> Option<Response> {
        let (mut parts, body) = request.into_parts();
        let (service, operation) = target(&parts.headers)?;
        let mut body = to_bytes(body, BODY_BYTES).await.ok()?;
        if service != SQS && is_told(&operation) {
            body = asking(&body)?;
        }
        let path = parts.uri.path_and_query()?;
        parts.uri = format!("http://{}{path}", self.upstream).parse::<Uri>().ok()?;
        parts.headers.remove(header::CONTENT_LENGTH);
        let forwarded = Request::from_parts(parts, Full::new(body.clone()));
        let (head, answer) = self.client.request(forwarded).await.ok()?.into_parts();
        let answer = to_bytes(Body::new(answer), BODY_BYTES).await.ok()?;
        let ok = head.status.is_success();
        if service == SQS {
            self.meter.sqs(&operation, &body, ok, &answer);
        } else {
            self.meter.dynamodb(&operation, ok, &answer);
        }
        Some(Response::from_parts(head, Body::from(answer)))
    }
}

/// The service and the operation: `AmazonSQS.SendMessage`, `DynamoDB_20120810.GetItem`.
fn target(headers: &HeaderMap) -> Option<(String, String)> {
    let (service, operation) = headers.get("x-amz-target")?.to_str().ok()?.split_once('.')?;
    Some((service.to_owned(), operation.to_owned()))
}

/// The same request, which asks to be told what it costs.
fn asking(body: &[u8]) -> Option<Bytes> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    body.as_object_mut()?.insert("ReturnConsumedCapacity".to_owned(), json!("INDEXES"));
    Some(Bytes::from(body.to_string()))
}
