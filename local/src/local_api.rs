//! `/_local/…`: what the local system offers beside the API. It asks for no token: whoever reaches
//! the port may do it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use local_sqs::Sqs;
use serde_json::json;
use webhooks_core::ports::{Clock, DeliveriesTable, Subscriptions};

use crate::functions::{CLEANUP_SECONDS, Functions};
use crate::stats;
use crate::system::Addresses;

/// What the endpoints need.
pub(crate) struct LocalApi {
    pub(crate) addresses: Addresses,
    pub(crate) functions: Functions,
    pub(crate) subscriptions: Arc<dyn Subscriptions>,
    pub(crate) deliveries: Arc<dyn DeliveriesTable>,
    pub(crate) sqs: Arc<Sqs>,
    pub(crate) clock: Arc<dyn Clock>,
}

pub(crate) fn router(local: Arc<LocalApi>) -> Router {
    Router::new()
        .route("/_local/ready", get(ready))
        .route("/_local/stats", get(statistics))
        .route("/_local/run/retry", post(run_retry))
        .route("/_local/run/cleanup", post(run_cleanup))
        .with_state(local)
}

/// This is served last of all, so that an answer means that everything is up.
async fn ready(State(local): State<Arc<LocalApi>>) -> Response {
    Json(local.addresses.to_json()).into_response()
}

async fn statistics(State(local): State<Arc<LocalApi>>) -> Response {
    let now = local.clock.now();
    let gathered = stats::gather(&*local.subscriptions, &*local.deliveries, &local.sqs, now).await;
    answer(gathered)
}

/// The schedule's event says nothing, so the body is not looked at.
async fn run_retry(State(local): State<Arc<LocalApi>>) -> Response {
    answer(local.functions.retry.handle().await)
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
        ended => answer(ended),
    }
}

fn answer<T: serde::Serialize, E: std::fmt::Display>(result: Result<T, E>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn failed(status: StatusCode, error: &dyn std::fmt::Display) -> Response {
    (status, Json(json!({"error": error.to_string()}))).into_response()
}
