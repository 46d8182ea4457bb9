//! `GET /api/webhooks/event-types`: the catalogue of event types. It needs no table, no network and
//! no configuration.

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use webhooks_api::problem::Problem;
use webhooks_api::{ApiError, AuthenticatedRequest, json, respond};
use webhooks_core::catalogue::CATALOGUE;

#[derive(Serialize)]
struct Listing {
    items: Vec<Item>,
    total: usize,
}

#[derive(Serialize)]
struct Item {
    name: &'static str,
    category: &'static str,
    description: &'static str,
}

/// Handles a request.
#[cfg_attr(not(test), expect(clippy::unused_async, reason = "API handlers have one signature"))]
pub async fn handle(request: Request) -> Response<Body> {
    respond(&request, list(&request))
}

fn list(request: &Request) -> Result<Response<Body>, ApiError> {
    let request = AuthenticatedRequest::new(request)?;
    if request.route() != "GET /api/webhooks/event-types" {
        return Err(Problem::NotFound.into());
    }
    request.no_query()?;
    let items = CATALOGUE.iter().map(|entry| Item {
        name: entry.name,
        category: entry.category,
        description: entry.description,
    });
    json(StatusCode::OK, &Listing { items: items.collect(), total: CATALOGUE.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use webhooks_api::testing::{TestRequest, TestResponse};

    const ROUTE: &str = "GET /api/webhooks/event-types";

    async fn send(request: TestRequest) -> TestResponse {
        request.send(handle).await
    }

    #[tokio::test]
    async fn every_event_type_is_listed() {
        let response = send(TestRequest::to(ROUTE)).await;
        assert_eq!(response.status(), 200);
        let body = response.json();
        assert_eq!(body["total"], 17);
        assert_eq!(body["items"].as_array().unwrap().len(), 17);
        assert_eq!(
            body["items"][0].to_string(),
            r#"{"category":"email","description":"Email received and indexed","name":"email.received"}"#
        );
    }

    #[tokio::test]
    async fn missing_token_query_or_other_route_is_refused() {
        assert_eq!(send(TestRequest::to(ROUTE).without_token()).await.problem(), "unauthorized");
        assert_eq!(send(TestRequest::to(ROUTE).query("limit=5")).await.fields(), ["limit"]);
        assert_eq!(send(TestRequest::to("GET /api/webhooks")).await.problem(), "not-found");
    }
}
