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

/// Responds with the user and the body it was called with; `/panic` panics.
fn gateway() -> Gateway {
    let echo: Handler = Arc::new(|request| {
        Box::pin(async move {
            let caller = webhooks_api::AuthenticatedRequest::new(&request).unwrap();
            let user = caller.caller().to_string();
            let body = json!({"user": user, "body": String::from_utf8_lossy(request.body())});
            lambda_http::Response::builder()
                .header("x-a", "b")
                .body(body.to_string().into())
                .unwrap()
        })
    });
    let panics: Handler = Arc::new(|_| Box::pin(async { panic!("on purpose") }));
    let routes = vec![
        Route { method: "POST", path: "/echo/{id}", is_public: false, handler: echo },
        Route { method: "POST", path: "/panic", is_public: false, handler: panics },
    ];
    Gateway::new(routes, Arc::new(FixedClock)).unwrap()
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
    let response = gateway().handle(request.body(body.into()).unwrap()).await;
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn good_request_reaches_its_handler() {
    let (status, headers, body) = send(Method::POST, "/echo/1", &[&bearer()], "hello").await;
    assert_eq!((status, &body), (200, &json!({"user": "grace", "body": "hello"})));
    assert_eq!(headers["x-a"], "b");
    assert_eq!(headers["apigw-requestid"], "local-0");
    let lower = bearer().replacen("Bearer", "bearer", 1);
    assert_eq!(send(Method::POST, "/echo/1", &[&lower], "").await.0, 200);
}

#[tokio::test]
async fn bad_token_returns_401() {
    let good = bearer();
    let basic = good.replacen("Bearer", "Basic", 1);
    for tokens in
        [vec![], vec!["Bearer x"], vec!["Bearer"], vec![""], vec![&*basic], vec![&*good, &*good]]
    {
        let (status, headers, body) = send(Method::POST, "/echo/1", &tokens, "").await;
        assert_eq!((status, body), (401, json!({"message": "Unauthorized"})), "{tokens:?}");
        assert_eq!(headers["www-authenticate"], "Bearer");
        assert_eq!(headers["content-type"], "application/json");
    }
    let bare = good.replacen("Bearer ", "", 1);
    assert_eq!(send(Method::POST, "/echo/1", &[&bare], "").await.0, 200);
}

#[tokio::test]
async fn unknown_path_or_method_returns_404() {
    for (method, path) in [(Method::POST, "/echo"), (Method::GET, "/echo/1")] {
        let (status, _, body) = send(method, path, &[], "").await;
        assert_eq!((status, body), (404, json!({"message": "Not Found"})), "{path}");
    }
}

#[tokio::test]
async fn failed_invocation_returns_500_and_huge_body_returns_413() {
    let (status, _, body) = send(Method::POST, "/panic", &[&bearer()], "").await;
    assert_eq!((status, body), (500, json!({"message": "Internal Server Error"})));
    let huge = vec![b'x'; BODY_BYTES + 1];
    let (status, _, body) = send(Method::POST, "/echo/1", &[&bearer()], huge).await;
    assert_eq!((status, body), (413, json!({"message": "Request Entity Too Large"})));
}

#[tokio::test]
async fn invalid_host_returns_400() {
    for (host, expected) in [("a", 401), ("127.0.0.1:3000", 401), ("]", 400), ("a:x", 400)] {
        let request = Request::post("/echo/1").header(header::HOST, host);
        let response = gateway().handle(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), expected, "{host}");
    }
}
