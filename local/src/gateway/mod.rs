//! The local gateway: what API Gateway's HTTP API and its JWT authorizer do for the deployed
//! functions.
//!
//! A [`Route`] is a method, a path template and a function. A request is routed, its token is
//! checked, and it becomes the JSON event of payload format 2.0 (`event.rs`) with which the deployed
//! handler is called. The gateway's own responses are those of API Gateway: `{"message":…}`, and 404
//! also for a method that has no route.
//!
//! Deliberately absent: CORS, throttling, custom domains, stages.

mod event;
mod routes;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::future::BoxFuture;
use http_body_util::LengthLimitError;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;
use url::Url;
use webhooks_core::ports::Clock;

use crate::token::{self, Claims};
use event::Context;
use routes::Routes;

/// The largest body an HTTP API passes on (AWS quota). The handlers refuse far smaller ones.
const BODY_BYTES: usize = 10 * 1024 * 1024;
/// How long an HTTP API waits for its function (AWS quota).
const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(30);

/// A deployed handler of API events.
pub type Handler = Arc<
    dyn Fn(lambda_http::Request) -> BoxFuture<'static, lambda_http::Response<lambda_http::Body>>
        + Send
        + Sync,
>;

/// One route of the API.
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with parameters as `{name}`, and the rest of a path as `{name+}`.
    pub path: &'static str,
    /// Whether it needs no token.
    pub is_public: bool,
    /// The function behind it.
    pub handler: Handler,
}

/// The API's front.
pub struct Gateway {
    routes: Routes,
    clock: Arc<dyn Clock>,
    requests: AtomicU64,
}

impl Gateway {
    /// A gateway in front of these routes, which must not be ambiguous.
    pub fn new(routes: Vec<Route>, clock: Arc<dyn Clock>) -> Result<Self, matchit::InsertError> {
        Ok(Self { routes: Routes::new(routes)?, clock, requests: AtomicU64::new(0) })
    }

    async fn handle(&self, request: Request) -> Response {
        let request_id = format!("local-{}", self.requests.fetch_add(1, Ordering::Relaxed));
        let (parts, body) = request.into_parts();
        let mut response = match self.pass_on(&parts, body, &request_id).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        };
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(HeaderName::from_static("apigw-requestid"), id);
        }
        response
    }

    async fn pass_on(
        &self,
        request: &Parts,
        body: Body,
        request_id: &str,
    ) -> Result<Response, Refusal> {
        let method = request.method.as_str();
        let (route, path_parameters) =
            self.routes.find(method, request.uri.path()).ok_or(Refusal::NotFound)?;
        check_host(&request.headers)?;
        let now = self.clock.now();
        let claims = if route.is_public { None } else { Some(self.claims(&request.headers)?) };
        let body = read(body).await?;
        let context = Context {
            route_key: format!("{method} {}", route.path),
            path_parameters,
            claims: claims.as_ref(),
            request_id,
            source_ip: source_ip(request),
            now,
        };
        let event = event::event(request, &body, &context);
        invoke(&route.handler, &event).await
    }

    /// The claims of the token, which comes with or without the prefix `Bearer`.
    fn claims(&self, headers: &HeaderMap) -> Result<Claims, Refusal> {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return Err(Refusal::Unauthorized);
        };
        let value = value.to_str().map_err(|_| Refusal::Unauthorized)?;
        let token = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            Some(_) => return Err(Refusal::Unauthorized),
            None => value,
        };
        token::check(token, self.clock.now()).map_err(|error| {
            tracing::debug!(%error, "a token was refused");
            Refusal::Unauthorized
        })
    }
}

/// What serves every path of the API.
pub async fn serve(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    gateway.handle(request).await
}

/// API Gateway finds an API by the host, so no handler sees a host that cannot be in a URL.
fn check_host(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(host) = headers.get(header::HOST) else { return Ok(()) };
    let url = host.to_str().ok().and_then(|host| Url::parse(&format!("http://{host}/")).ok());
    url.map(|_| ()).ok_or(Refusal::BadRequest)
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    axum::body::to_bytes(body, BODY_BYTES).await.map_err(|error| {
        let too_large = error.source().is_some_and(<dyn Error>::is::<LengthLimitError>);
        // Otherwise the client hung up, was too slow, or sent chunks that are none.
        if too_large { Refusal::TooLarge } else { Refusal::BadRequest }
    })
}

fn source_ip(request: &Parts) -> String {
    let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or_else(String::new, |ConnectInfo(address)| address.ip().to_string())
}

/// Calls a handler as Lambda would: a panic or a late response is a failed invocation.
async fn invoke(handler: &Handler, event: &Value) -> Result<Response, Refusal> {
    let (handler, event) = (handler.clone(), event.to_string());
    let invocation = tokio::spawn(async move { webhooks_api::invoke(&*handler, &event).await });
    let invocation = AbortOnDropHandle::new(invocation);
    let Ok(ended) = tokio::time::timeout(INTEGRATION_TIMEOUT, invocation).await else {
        return Err(Refusal::ServiceUnavailable);
    };
    let response = ended.map_err(|error| broken(&error))?.map_err(|error| broken(&error))?;
    let response = serde_json::from_str(&response).map_err(|error| broken(&error))?;
    event::response(&response).ok_or_else(|| broken(&"its response is not one of HTTP"))
}

fn broken(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "a function of the API failed");
    Refusal::InternalServerError
}

/// A request that reaches no handler, or gets no response from it.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    BadRequest,
    Unauthorized,
    NotFound,
    TooLarge,
    InternalServerError,
    ServiceUnavailable,
}

impl Refusal {
    /// The response of API Gateway.
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "Bad Request"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Not Found"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"),
            Self::InternalServerError => {
                (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            }
            Self::ServiceUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        };
        let mut response = (status, axum::Json(json!({"message": message}))).into_response();
        let nosniff = HeaderValue::from_static("nosniff");
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

#[cfg(test)]
mod tests;
