//! The API's front: what API Gateway's HTTP API and its JWT authorizer do for the deployed
//! functions.
//!
//! A [`Route`] is a method, a path template and the function behind it. A request is routed, its
//! token is checked, and it becomes the JSON event of payload format 2.0 (`event.rs`) that the very
//! handler that is deployed is called with. The gateway's own refusals are problems like those of
//! the handlers.
//!
//! Deliberately absent: CORS, throttling, custom domains, stages.

mod event;
mod routes;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::future::BoxFuture;
use http_body_util::LengthLimitError;
use tokio_util::task::AbortOnDropHandle;
use webhooks_core::ports::Clock;
use webhooks_core::problem::{CONTENT_TYPE, Problem};

use crate::token::{self, Claims};
use event::Context;
use routes::{Routed, Template};

/// The largest body an HTTP API passes on (AWS quota). The handlers refuse far smaller ones.
const BODY_BYTES: usize = 10 * 1024 * 1024;
/// How long an HTTP API waits for its function (AWS quota).
const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(30);

/// A deployed handler of API events.
pub type Handler = Arc<
    dyn Fn(ApiGatewayV2httpRequest) -> BoxFuture<'static, ApiGatewayV2httpResponse> + Send + Sync,
>;

/// One route of the API.
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with parameters as `{name}`.
    pub path: &'static str,
    /// The function behind it.
    pub handler: Handler,
}

impl Template for Route {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &str {
        self.path
    }
}

/// The API's front.
pub struct Gateway {
    routes: Vec<Route>,
    clock: Arc<dyn Clock>,
    requests: AtomicU64,
}

impl Gateway {
    /// A gateway in front of these routes.
    pub fn new(routes: Vec<Route>, clock: Arc<dyn Clock>) -> Self {
        Self { routes, clock, requests: AtomicU64::new(0) }
    }

    async fn answer(&self, request: Request) -> Response {
        let request_id = format!("local-{}", self.requests.fetch_add(1, Ordering::Relaxed));
        let (parts, body) = request.into_parts();
        let mut answer = match self.pass_on(&parts, body, &request_id).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.into_response(),
        };
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            answer.headers_mut().insert(HeaderName::from_static("apigw-requestid"), id);
        }
        answer
    }

    async fn pass_on(
        &self,
        request: &Parts,
        body: Body,
        request_id: &str,
    ) -> Result<Response, Refusal> {
        let method = request.method.as_str();
        let (route, path_parameters) = match routes::route(&self.routes, method, request.uri.path())
        {
            Routed::To(route, parameters) => (route, parameters),
            Routed::OtherMethods(allowed) => return Err(Refusal::method(&allowed)),
            Routed::Nowhere => return Err(Problem::NotFound.into()),
        };
        let now = self.clock.now();
        let claims = self.claims(&request.headers)?;
        let body = read(body).await?;
        let context = Context {
            route_key: format!("{method} {}", route.path),
            path_parameters,
            claims: &claims,
            request_id,
            source_ip: source_ip(request),
            now,
        };
        let event = event::event(request, &body, &context);
        invoke(&route.handler, event).await
    }

    fn claims(&self, headers: &HeaderMap) -> Result<Claims, Refusal> {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return Err(Refusal::unauthorized());
        };
        let (scheme, token) =
            value.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::unauthorized());
        }
        token::check(token.trim(), self.clock.now()).map_err(|error| {
            tracing::debug!(%error, "a token was refused");
            Refusal::unauthorized()
        })
    }
}

/// What serves every path of the API.
pub async fn serve(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    gateway.answer(request).await
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    axum::body::to_bytes(body, BODY_BYTES).await.map_err(|error| {
        let too_large = error.source().is_some_and(<dyn Error>::is::<LengthLimitError>);
        let problem = if too_large {
            Problem::BodyTooLarge
        } else {
            // The client hung up, was too slow, or sent chunks that are none.
            Problem::InvalidJson("the body did not arrive in full".to_owned())
        };
        problem.into()
    })
}

fn source_ip(request: &Parts) -> String {
    let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or_else(String::new, |ConnectInfo(address)| address.ip().to_string())
}

/// Calls a handler as Lambda would: a panic or a late answer is a failed invocation.
async fn invoke(handler: &Handler, event: serde_json::Value) -> Result<Response, Refusal> {
    let event = serde_json::from_value(event).map_err(|error| broken(&error))?;
    let invocation = AbortOnDropHandle::new(tokio::spawn(handler(event)));
    let Ok(ended) = tokio::time::timeout(INTEGRATION_TIMEOUT, invocation).await else {
        return Err(Problem::Unavailable.into());
    };
    let response = ended.map_err(|error| broken(&error))?;
    let response = serde_json::to_value(response).map_err(|error| broken(&error))?;
    event::answer(&response).ok_or_else(|| broken(&"its answer is none that HTTP can carry"))
}

fn broken(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "a function of the API failed");
    Problem::Internal.into()
}

/// A request that reaches no handler, or gets no answer from it.
struct Refusal {
    problem: Problem,
    header: Option<(HeaderName, String)>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, header: None }
    }
}

impl Refusal {
    fn method(allowed: &[&str]) -> Self {
        let header = Some((header::ALLOW, allowed.join(", ")));
        Self { problem: Problem::MethodNotAllowed, header }
    }

    fn unauthorized() -> Self {
        let header = Some((header::WWW_AUTHENTICATE, "Bearer".to_owned()));
        Self { problem: Problem::Unauthorized, header }
    }

    fn into_response(self) -> Response {
        let mut response = problem(&self.problem);
        if let Some((name, Ok(value))) =
            self.header.map(|(name, value)| (name, HeaderValue::try_from(value)))
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The HTTP answer that tells of a problem.
pub(crate) fn problem(problem: &Problem) -> Response {
    let details = problem.details();
    let body = serde_json::to_vec(&details).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(details.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

#[cfg(test)]
mod tests;
