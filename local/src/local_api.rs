//! `/_local/…`: what the local system offers besides the API.
//!
//! It asks for no token, so it must not obey web pages: it refuses requests of a foreign origin, and
//! hosts that are names other than `localhost`, which a page can point at this machine (DNS
//! rebinding).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use local_sqs::Sqs;
use serde_json::json;
use webhooks_core::ports::{Clock, DeliveriesTable, Subscriptions};

use crate::banner::USER;
use crate::functions::{CLEANUP_SECONDS, Functions};
use crate::stats;
use crate::system::Addresses;
use crate::token;

/// What the endpoints need.
pub(crate) struct LocalApi {
    pub(crate) addresses: Addresses,
    pub(crate) functions: Functions,
    pub(crate) subscriptions: Arc<dyn Subscriptions>,
    pub(crate) deliveries: Arc<dyn DeliveriesTable>,
    pub(crate) sqs: Arc<Sqs>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Where the console gets a token for the user `dev`.
pub(crate) const TOKEN_PATH: &str = "/_local/token";

pub(crate) fn router(local: Arc<LocalApi>) -> Router {
    Router::new()
        .route("/_local/ready", get(ready))
        .route("/_local/stats", get(statistics))
        .route(TOKEN_PATH, post(issue_token))
        .route("/_local/run/retry", post(run_retry))
        .route("/_local/run/cleanup", post(run_cleanup))
        .layer(from_fn_with_state(local.addresses.api, guard))
        .with_state(local)
}

async fn guard(State(api): State<SocketAddr>, request: Request, next: Next) -> Response {
    let mut response = match check_source(request.headers(), api) {
        Ok(()) => next.run(request).await,
        Err(reason) => failed(StatusCode::FORBIDDEN, &reason),
    };
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn check_source(headers: &HeaderMap, api: SocketAddr) -> Result<(), &'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST).unwrap_or_default();
    if !is_own_host(host, api) {
        return Err("the Host header must be a loopback name or the address of --api-addr");
    }
    // A page of this very host and port is not foreign.
    match text(ORIGIN) {
        Some(origin) if origin.strip_prefix("http://") != Some(host) => {
            Err("the Origin header names another site")
        }
        _ => Ok(()),
    }
}

/// Whether a `Host` names this machine. An API that listens on all addresses accepts each of them:
/// no DNS name is among them.
fn is_own_host(host: &str, api: SocketAddr) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip == api.ip() || api.ip().is_unspecified(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// The API starts last, so a response means that everything is up.
async fn ready(State(local): State<Arc<LocalApi>>) -> Response {
    Json(local.addresses.to_json()).into_response()
}

/// The same token as the banner has.
async fn issue_token(State(local): State<Arc<LocalApi>>) -> Response {
    let user = USER.parse().expect("the name is a user id");
    respond(token::issue(&user, local.clock.now()).map(|token| json!({"token": token})))
}

async fn statistics(State(local): State<Arc<LocalApi>>) -> Response {
    let now = local.clock.now();
    let gathered = stats::gather(&*local.subscriptions, &*local.deliveries, &local.sqs, now).await;
    respond(gathered)
}

/// The schedule's event is empty, so the body is ignored.
async fn run_retry(State(local): State<Arc<LocalApi>>) -> Response {
    respond(local.functions.retry.handle().await)
}

async fn run_cleanup(State(local): State<Arc<LocalApi>>, body: Bytes) -> Response {
    let event = if body.is_empty() { &b"{}"[..] } else { &body[..] };
    let request: cleanup::Request = match serde_json::from_slice(event) {
        Ok(request) => request,
        Err(error) => return failed(StatusCode::BAD_REQUEST, &error),
    };
    let deadline = local.clock.now().plus_seconds(CLEANUP_SECONDS);
    match local.functions.cleanup.handle(request, deadline).await {
        Err(error @ cleanup::Error::Days) => failed(StatusCode::BAD_REQUEST, &error),
        result => respond(result),
    }
}

fn respond<T: serde::Serialize, E: std::fmt::Display>(result: Result<T, E>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn failed(status: StatusCode, error: &dyn std::fmt::Display) -> Response {
    (status, Json(json!({"error": error.to_string()}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(api: &str, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        headers.extend(origin.map(|origin| (ORIGIN, origin.parse().unwrap())));
        check_source(&headers, api.parse().unwrap()).is_ok()
    }

    #[test]
    fn foreign_hosts_are_refused() {
        let on_loopback = |host| is_allowed("127.0.0.1:3000", host, None);
        for host in ["localhost:3000", "LOCALHOST", "127.0.0.1:3000", "127.0.0.9", "[::1]:3000"] {
            assert!(on_loopback(host), "{host}");
        }
        let foreign =
            ["", "evil.example", "localhost.evil.example:3000", "a@b", "192.0.2.1:3000", "a b"];
        for host in foreign {
            assert!(!on_loopback(host), "{host}");
        }
        assert!(is_allowed("192.0.2.1:3000", "192.0.2.1:3000", None));
        assert!(is_allowed("0.0.0.0:3000", "192.0.2.1:3000", None));
        assert!(!is_allowed("0.0.0.0:3000", "evil.example:3000", None));
    }

    #[test]
    fn foreign_origins_are_refused() {
        let from = |origin| is_allowed("127.0.0.1:3000", "localhost:3000", Some(origin));
        assert!(from("http://localhost:3000"));
        for origin in ["null", "", "http://localhost:4000", "https://localhost:3000", "http://evil"]
        {
            assert!(!from(origin), "{origin}");
        }
    }
}
