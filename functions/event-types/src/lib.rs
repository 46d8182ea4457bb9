//! What the API says of itself: `GET /api/webhooks/event-types` is the catalogue, and
//! `GET /api/openapi.json` the description of the API. Requests that no route takes come here, too. It
//! needs no table and no network.

use std::sync::LazyLock;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use webhooks_api::problem::Problem;
use webhooks_api::{
    AccessControl, ApiError, json, json_text, methods, no_query, respond, route_key,
};
use webhooks_core::catalogue::{CATALOGUE, OPERATIONAL};

/// It has only this state, the rate limits of this instance.
static ACCESS: LazyLock<AccessControl> = LazyLock::new(AccessControl::of_reads);

/// `openapi.yaml` as JSON.
const OPENAPI: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

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
    schema: &'static RawValue,
    example: &'static RawValue,
}

/// Handles a request.
pub async fn handle(request: Request) -> Response<Body> {
    let response = match route_key(&request) {
        "GET /api/openapi.json" => openapi(&request),
        "GET /api/webhooks/event-types" => list(&request).await,
        _ => refuse(&request).await,
    };
    respond(&request, response)
}

/// Without a token, so that tools can fetch it.
fn openapi(request: &Request) -> Result<Response<Body>, ApiError> {
    no_query(request)?;
    Ok(json_text(OPENAPI))
}

async fn list(request: &Request) -> Result<Response<Body>, ApiError> {
    let request = ACCESS.admit(request).await?;
    let mut query = request.query();
    let operational: &[_] = match query.optional("include", included) {
        Some(()) => &OPERATIONAL,
        None => &[],
    };
    query.finish()?;
    let items: Vec<Item> = CATALOGUE
        .iter()
        .chain(operational)
        .map(|entry| Item {
            name: entry.name,
            category: entry.category,
            description: entry.description,
            schema: raw(entry.schema),
            example: raw(entry.example),
        })
        .collect();
    let total = items.len();
    json(StatusCode::OK, &Listing { items, total })
}

/// What a request with an unknown path or a method that the path does not have gets.
async fn refuse(request: &Request) -> Result<Response<Body>, ApiError> {
    let admitted = ACCESS.admit(request).await?;
    let allow = methods(&format!("/api/{}", admitted.parameter("proxy")));
    // The parameter is percent-decoded. A path that is only then one of the API's has no route.
    let is_unknown = allow.is_empty() || allow.contains(&request.method().as_str());
    Err(if is_unknown { Problem::NotFound } else { Problem::MethodNotAllowed { allow } }.into())
}

fn included(text: &String) -> Result<(), String> {
    if text == "operational" { Ok(()) } else { Err("must be operational".to_owned()) }
}

fn raw(json: &'static str) -> &'static RawValue {
    serde_json::from_str(json).expect("the build script read it as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use webhooks_api::FALLBACK_ROUTES;
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
        assert_eq!(body["total"], CATALOGUE.len());
        let items = body["items"].as_array().unwrap();
        assert_eq!(items.len(), CATALOGUE.len());
        for (item, entry) in items.iter().zip(&CATALOGUE) {
            assert_eq!(item["name"], entry.name);
            assert_eq!(item["category"], entry.category);
            assert_eq!(item["description"], entry.description);
            assert_eq!(item["schema"]["type"], "object");
        }
        // As they are in the files, with their order of keys.
        assert!(response.text().contains(CATALOGUE[0].schema));
        assert!(response.text().contains(CATALOGUE[0].example));
    }

    #[tokio::test]
    async fn operational_types_are_listed_on_request() {
        let response = send(TestRequest::to(ROUTE).query("include=operational")).await;
        let body = response.json();
        let names = body["items"].as_array().unwrap().iter().map(|item| item["name"].clone());
        let all = CATALOGUE.iter().chain(&OPERATIONAL).map(|entry| entry.name);
        assert!(names.eq(all), "{body}");
        assert_eq!(body["total"], CATALOGUE.len() + OPERATIONAL.len());
        let other = send(TestRequest::to(ROUTE).query("include=all")).await;
        assert_eq!(other.fields(), ["include"]);
    }

    #[tokio::test]
    async fn description_of_the_api_needs_no_token() {
        let request = TestRequest::to("GET /api/openapi.json").without_token();
        let response = send(request.clone()).await;
        assert_eq!((response.status(), &response.json()["openapi"]), (200, &"3.1.0".into()));
        assert_eq!(send(request.query("limit=5")).await.fields(), ["limit"]);
    }

    #[tokio::test]
    async fn missing_token_or_query_is_refused() {
        assert_eq!(send(TestRequest::to(ROUTE).without_token()).await.problem(), "unauthorized");
        assert_eq!(send(TestRequest::to(ROUTE).query("limit=5")).await.fields(), ["limit"]);
    }

    #[tokio::test]
    async fn unsupported_method_returns_405_and_unknown_path_404() {
        for route in FALLBACK_ROUTES {
            let to = |path| TestRequest::to(&route.key()).with("proxy", path);
            for (path, method) in [("webhooks/wh_1/stats", "GET"), ("webhooks/wh_1/test", "POST")] {
                let response = send(to(path)).await;
                if method == route.method {
                    assert_eq!(response.problem(), "not-found", "the path was percent-encoded");
                } else {
                    assert_eq!(response.problem(), "method-not-allowed");
                    assert_eq!(response.header("allow"), Some(method));
                }
            }
            assert_eq!(send(to("webhooks/wh_1/stats/x")).await.problem(), "not-found");
            let anonymous = send(to("webhooks").without_token()).await;
            assert_eq!(anonymous.problem(), "unauthorized");
        }
    }
}
