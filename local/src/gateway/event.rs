//! HTTP requests as the JSON that Lambda gets from an HTTP API, payload format 2.0, and the response
//! back (<https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>).

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use webhooks_core::time::Timestamp;

use crate::token::Claims;

/// What the gateway adds to a request.
pub(super) struct Context<'a> {
    /// `METHOD /path/{template}`.
    pub(super) route_key: String,
    pub(super) path_parameters: BTreeMap<String, String>,
    /// Of the token; nothing on a route without a token.
    pub(super) claims: Option<&'a Claims>,
    pub(super) request_id: &'a str,
    pub(super) source_ip: String,
    pub(super) now: Timestamp,
}

/// The event that a request becomes.
pub(super) fn event(request: &Parts, body: &Bytes, context: &Context<'_>) -> Value {
    let path = request.uri.path();
    let query = request.uri.query().unwrap_or_default();
    let mut headers = joined_headers(&request.headers);
    headers.insert("x-forwarded-proto".to_owned(), "http".to_owned());
    let mut event = json!({
        "version": "2.0",
        "routeKey": context.route_key,
        "rawPath": path,
        "rawQueryString": query,
        "requestContext": {
            "accountId": local_sqs::ACCOUNT,
            "apiId": "local",
            "domainName": headers.get("host"),
            "domainPrefix": "local",
            "http": {
                "method": request.method.as_str(),
                "path": path,
                "protocol": format!("{:?}", request.version),
                "sourceIp": context.source_ip,
                "userAgent": headers.get("user-agent").cloned().unwrap_or_default(),
            },
            "requestId": context.request_id,
            "routeKey": context.route_key,
            "stage": "$default",
            "time": common_log_time(context.now),
            "timeEpoch": context.now.millis(),
        },
        "isBase64Encoded": false,
    });
    event["headers"] = json!(headers);
    if let Some(claims) = context.claims {
        event["requestContext"]["authorizer"] =
            json!({"jwt": {"claims": texts(claims), "scopes": null}});
    }
    // What is empty is absent in the real event, too.
    if !query.is_empty() {
        event["queryStringParameters"] = json!(joined_query(query));
    }
    if !context.path_parameters.is_empty() {
        event["pathParameters"] = json!(context.path_parameters);
    }
    match std::str::from_utf8(body) {
        Ok("") => {}
        Ok(text) => event["body"] = json!(text),
        Err(_) => {
            event["body"] = json!(STANDARD.encode(body));
            event["isBase64Encoded"] = json!(true);
        }
    }
    event
}

/// Names in lower case, repeats joined by commas. `Cookie` has a place of its own in the real
/// event; no route reads it.
fn joined_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    joined(headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    }))
}

fn joined_query(query: &str) -> BTreeMap<String, String> {
    joined(url::form_urlencoded::parse(query.as_bytes()).into_owned())
}

fn joined(pairs: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::<String, String>::new();
    for (name, value) in pairs {
        all.entry(name).and_modify(|known| *known = format!("{known},{value}")).or_insert(value);
    }
    all
}

/// API Gateway turns every claim into text: numbers as digits, lists as `[a b]`.
fn texts(claims: &Claims) -> Map<String, Value> {
    claims.iter().map(|(name, value)| (name.clone(), Value::String(text(value)))).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

/// `31/Jan/2026:09:30:00 +0000`.
fn common_log_time(now: Timestamp) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let iso = now.to_string();
    let month = iso[5..7].parse::<usize>().unwrap_or(1);
    format!("{}/{}/{}:{} +0000", &iso[8..10], MONTHS[month - 1], &iso[..4], &iso[11..19])
}

/// The HTTP response of a handler's response; `None` if it is not one.
pub(super) fn response(response: &Value) -> Option<Response> {
    let status = response["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok())?;
    let body = response["body"].as_str().unwrap_or_default();
    let body = if response["isBase64Encoded"].as_bool() == Some(true) {
        Bytes::from(STANDARD.decode(body).ok()?)
    } else {
        Bytes::from(body.to_owned())
    };
    let mut sent = Response::new(Body::from(body));
    *sent.status_mut() = StatusCode::from_u16(status).ok()?;
    for (name, value) in response["headers"].as_object().into_iter().flatten() {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        sent.headers_mut().insert(name, HeaderValue::from_str(value.as_str()?).ok()?);
    }
    for cookie in response["cookies"].as_array().into_iter().flatten() {
        let cookie = HeaderValue::from_str(cookie.as_str()?).ok()?;
        sent.headers_mut().append(axum::http::header::SET_COOKIE, cookie);
    }
    Some(sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn built(request: axum::http::request::Builder, body: &[u8]) -> Value {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let claims = json!({"sub": "u1", "exp": 1_769_851_800, "aud": ["a", "b"]});
        let context = Context {
            route_key: "PATCH /api/webhooks/{id}".to_owned(),
            path_parameters: BTreeMap::from([("id".to_owned(), "wh_1".to_owned())]),
            claims: claims.as_object(),
            request_id: "r-1",
            source_ip: "127.0.0.1".to_owned(),
            now: Timestamp::parse("2026-01-31T09:30:00.5Z").unwrap(),
        };
        event(&parts, &Bytes::copy_from_slice(body), &context)
    }

    #[test]
    fn event_is_that_of_an_http_api() {
        let request = Request::patch("/api/webhooks/wh_1?limit=5&status=a&status=b+%C3%A9")
            .header("Host", "127.0.0.1:3000")
            .header("User-Agent", "curl/8")
            .header("X-Many", "1")
            .header("x-many", "2");
        // Recorded in the form the AWS documentation shows, with this request's values.
        let expected = json!({
            "version": "2.0",
            "routeKey": "PATCH /api/webhooks/{id}",
            "rawPath": "/api/webhooks/wh_1",
            "rawQueryString": "limit=5&status=a&status=b+%C3%A9",
            "headers": {"host": "127.0.0.1:3000", "user-agent": "curl/8", "x-forwarded-proto": "http", "x-many": "1,2"},
            "queryStringParameters": {"limit": "5", "status": "a,b é"},
            "requestContext": {
                "accountId": "000000000000",
                "apiId": "local",
                "authorizer": {"jwt": {
                    "claims": {"sub": "u1", "exp": "1769851800", "aud": "[a b]"},
                    "scopes": null,
                }},
                "domainName": "127.0.0.1:3000",
                "domainPrefix": "local",
                "http": {
                    "method": "PATCH",
                    "path": "/api/webhooks/wh_1",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "127.0.0.1",
                    "userAgent": "curl/8",
                },
                "requestId": "r-1",
                "routeKey": "PATCH /api/webhooks/{id}",
                "stage": "$default",
                "time": "31/Jan/2026:09:30:00 +0000",
                "timeEpoch": 1_769_851_800_500_i64,
            },
            "pathParameters": {"id": "wh_1"},
            "body": "{\"is_active\":false}",
            "isBase64Encoded": false,
        });
        let event = built(request, br#"{"is_active":false}"#);
        assert_eq!(event, expected);
        let request = lambda_http::request::from_str(&event.to_string()).unwrap();
        let request = webhooks_api::AuthenticatedRequest::new(&request).unwrap();
        assert_eq!(request.caller().as_str(), "u1");
        assert_eq!(request.parameter("id"), "wh_1");
    }

    #[test]
    fn empty_fields_are_absent_and_binary_bodies_are_base64() {
        let event = built(Request::get("/api/webhooks"), b"");
        assert!(event.get("body").is_none() && event.get("queryStringParameters").is_none());
        let event = built(Request::get("/api/webhooks"), b"\xff\x00");
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
    }

    #[test]
    fn response_keeps_status_and_headers() {
        let response = json!({
            "statusCode": 201, "headers": {"location": "/x", "content-type": "application/json"},
            "multiValueHeaders": {}, "body": "{}", "isBase64Encoded": false, "cookies": [],
        });
        let response = super::response(&response).unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()["location"], "/x");
    }

    #[test]
    fn invalid_response_is_refused() {
        for bad in [
            json!({}),
            json!({"statusCode": 42}),
            json!({"statusCode": 200, "headers": {"a b": "c"}}),
            json!({"statusCode": 200, "headers": {"a": "c\n"}}),
            json!({"statusCode": 200, "body": "%", "isBase64Encoded": true}),
        ] {
            assert!(response(&bad).is_none(), "{bad}");
        }
    }
}
