use super::*;

use axum::http::Method;
use serde_json::{Value, json};
use webhooks_core::time::Timestamp;

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }
}

fn respond(response: Value) -> ApiGatewayV2httpResponse {
    serde_json::from_value(response).unwrap()
}

/// Answers with the user and the body it was called with; `/panic` panics.
fn gateway() -> Gateway {
    let echo: Handler = Arc::new(|request| {
        Box::pin(async move {
            let jwt = request.request_context.authorizer.unwrap().jwt.unwrap();
            let body = json!({"user": jwt.claims["sub"], "body": request.body}).to_string();
            respond(
                json!({"statusCode": 200, "headers": {"x-a": "b"}, "body": body, "cookies": []}),
            )
        })
    });
    let panics: Handler = Arc::new(|_| Box::pin(async { panic!("on purpose") }));
    let routes = vec![
        Route { method: "POST", path: "/echo/{id}", handler: echo },
        Route { method: "POST", path: "/panic", handler: panics },
    ];
    Gateway::new(routes, Arc::new(FixedClock))
}

fn bearer() -> String {
    format!("Bearer {}", token::issue(&"grace".parse().unwrap(), FixedClock.now()).unwrap())
}

async fn send(
    method: Method,
    path: &str,
    tokens: &[&str],
    body: impl Into<Body>,
) -> (u16, HeaderMap, Value) {
    let mut request = Request::builder().method(method).uri(path);
    for token in tokens {
        request = request.header(header::AUTHORIZATION, *token);
    }
    let answer = gateway().answer(request.body(body.into()).unwrap()).await;
    let (parts, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_good_request_reaches_its_handler_and_comes_back() {
    let (status, headers, body) = send(Method::POST, "/echo/1", &[&bearer()], "hello").await;
    assert_eq!((status, &body), (200, &json!({"user": "grace", "body": "hello"})));
    assert_eq!(headers["x-a"], "b");
    assert_eq!(headers["apigw-requestid"], "local-0");
    let lower = bearer().replacen("Bearer", "bearer", 1);
    assert_eq!(send(Method::POST, "/echo/1", &[&lower], "").await.0, 200);
}

#[tokio::test]
async fn every_bad_token_is_a_problem() {
    let good = bearer();
    let bare = good.replacen("Bearer ", "", 1);
    let basic = good.replacen("Bearer", "Basic", 1);
    for tokens in [
        vec![],
        vec!["Bearer x"],
        vec!["Bearer"],
        vec![""],
        vec![&*bare],
        vec![&*basic],
        vec![&*good, &*good],
    ] {
        let (status, headers, body) = send(Method::POST, "/echo/1", &tokens, "").await;
        assert_eq!(status, 401, "{tokens:?}");
        assert_eq!(headers["www-authenticate"], "Bearer");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(body["type"], "urn:webhooks:problem:unauthorized");
    }
}

#[tokio::test]
async fn what_no_route_takes_is_a_problem() {
    let (status, _, body) = send(Method::POST, "/echo", &[&bearer()], "").await;
    assert_eq!((status, &body["type"]), (404, &json!("urn:webhooks:problem:not-found")));
    let (status, headers, body) = send(Method::GET, "/echo/1", &[], "").await;
    assert_eq!((status, &body["type"]), (405, &json!("urn:webhooks:problem:method-not-allowed")));
    assert_eq!(headers["allow"], "POST");
}

#[tokio::test]
async fn a_panic_is_a_500_and_a_huge_body_a_413() {
    let (status, _, body) = send(Method::POST, "/panic", &[&bearer()], "").await;
    assert_eq!((status, &body["type"]), (500, &json!("urn:webhooks:problem:internal")));
    let (status, _, _) =
        send(Method::POST, "/echo/1", &[&bearer()], vec![b'x'; BODY_BYTES + 1]).await;
    assert_eq!(status, 413);
}
