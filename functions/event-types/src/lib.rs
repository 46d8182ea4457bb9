//! `GET /api/webhooks/event-types`: the catalogue of event types. It needs no table, no network and
//! no configuration.

use serde::Serialize;
use webhooks_api::{
    ApiGatewayV2httpRequest, ApiGatewayV2httpResponse, Failure, Request, json, respond,
};
use webhooks_core::catalogue::CATALOGUE;
use webhooks_core::problem::Problem;

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

/// Answers a request.
#[expect(clippy::unused_async, reason = "every function of the API is called in the same way")]
pub async fn handle(request: ApiGatewayV2httpRequest) -> ApiGatewayV2httpResponse {
    respond(&request, answer(&request))
}

fn answer(request: &ApiGatewayV2httpRequest) -> Result<ApiGatewayV2httpResponse, Failure> {
    let request = Request::read(request)?;
    if request.route() != "GET /api/webhooks/event-types" {
        return Err(Problem::NotFound.into());
    }
    request.no_query()?;
    let items = CATALOGUE.iter().map(|entry| Item {
        name: entry.name,
        category: entry.category,
        description: entry.description,
    });
    json(200, &Listing { items: items.collect(), total: CATALOGUE.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use webhooks_api::testing::{Call, Reply};

    const ROUTE: &str = "GET /api/webhooks/event-types";

    async fn send(call: Call) -> Reply {
        Reply::of(&handle(call.request()).await)
    }

    #[tokio::test]
    async fn every_event_type_is_listed() {
        let reply = send(Call::to(ROUTE)).await;
        assert_eq!(reply.status(), 200);
        let body = reply.json();
        assert_eq!(body["total"], 17);
        assert_eq!(body["items"].as_array().unwrap().len(), 17);
        assert_eq!(
            body["items"][0].to_string(),
            r#"{"category":"email","description":"Email received and indexed","name":"email.received"}"#
        );
    }

    #[tokio::test]
    async fn what_cannot_be_answered_says_why() {
        assert_eq!(send(Call::to(ROUTE).by_nobody()).await.problem(), "unauthorized");
        assert_eq!(send(Call::to(ROUTE).query("limit=5")).await.fields(), ["limit"]);
        assert_eq!(send(Call::to("GET /api/webhooks")).await.problem(), "not-found");
    }
}
