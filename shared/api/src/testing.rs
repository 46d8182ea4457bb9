//! For tests: requests in the JSON that API Gateway sends, and responses in the JSON that it
//! receives. Both pass through `lambda_http`, as in Lambda.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambda_http::{Body, Request, Response};
use serde_json::{Map, Value, json};
use webhooks_core::time::Timestamp;

use crate::invoke;

/// A request under construction.
#[derive(Clone, Debug)]
pub struct TestRequest {
    route: String,
    subject: Option<String>,
    parameters: Map<String, Value>,
    headers: Map<String, Value>,
    query: String,
    scope: Option<String>,
    millis: i64,
    body: Option<String>,
    is_base64: bool,
}

impl TestRequest {
    /// A request to a route (`GET /api/webhooks/{id}`) by the user `alice`.
    pub fn to(route: &str) -> Self {
        Self {
            route: route.to_owned(),
            subject: Some("alice".to_owned()),
            parameters: Map::new(),
            headers: json!({"accept": "*/*", "content-type": "application/json"})
                .as_object()
                .cloned()
                .expect("it is an object"),
            query: String::new(),
            scope: None,
            millis: 1_769_851_800_000,
            body: None,
            is_base64: false,
        }
    }

    /// By this user instead of `alice`.
    #[must_use]
    pub fn by(mut self, subject: &str) -> Self {
        self.subject = Some(subject.to_owned());
        self
    }

    /// Without a token.
    #[must_use]
    pub fn without_token(mut self) -> Self {
        self.subject = None;
        self
    }

    /// With a token of these scopes.
    #[must_use]
    pub fn scope(mut self, scopes: &str) -> Self {
        self.scope = Some(scopes.to_owned());
        self
    }

    /// Received at this time.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Self {
        self.millis = time.millis();
        self
    }

    /// With this value of the path parameter `{name}`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.insert(name.to_owned(), value.into());
        self
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.into());
        self
    }

    /// With this query string.
    #[must_use]
    pub fn query(mut self, raw: &str) -> Self {
        raw.clone_into(&mut self.query);
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string());
        self
    }

    /// With any text as body.
    #[must_use]
    pub fn text(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    /// With any bytes as body, in base64.
    #[must_use]
    pub fn bytes(mut self, body: &[u8]) -> Self {
        self.body = Some(STANDARD.encode(body));
        self.is_base64 = true;
        self
    }

    /// The JSON that API Gateway sends.
    pub fn json(&self) -> Value {
        let (method, path) = self.route.split_once(' ').expect("a route is a method and a path");
        let path = self.parameters.iter().fold(path.to_owned(), |path, (name, value)| {
            path.replace(&format!("{{{name}}}"), value.as_str().unwrap_or_default())
        });
        let mut context = json!({
            "accountId": "123456789012",
            "apiId": "api-id",
            "domainName": "id.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "id",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "curl/8.5.0",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": self.route,
            "stage": "$default",
            "time": "31/Jan/2026:09:30:00 +0000",
            "timeEpoch": self.millis,
        });
        if let Some(subject) = &self.subject {
            let mut claims =
                json!({"sub": subject, "iss": "https://issuer.example", "exp": "1769855400"});
            if let Some(scope) = &self.scope {
                claims["scope"] = scope.as_str().into();
            }
            context["authorizer"] = json!({"jwt": {"claims": claims, "scopes": null}});
        }
        let mut event = json!({
            "version": "2.0",
            "routeKey": self.route,
            "rawPath": path,
            "rawQueryString": self.query,
            "headers": self.headers,
            "requestContext": context,
            "isBase64Encoded": self.is_base64,
        });
        if !self.parameters.is_empty() {
            event["pathParameters"] = Value::Object(self.parameters.clone());
        }
        if let Some(body) = &self.body {
            event["body"] = body.as_str().into();
        }
        event
    }

    /// The route, as in `routeKey`.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Sends the request to a handler.
    pub async fn send<F>(&self, handler: impl FnMut(Request) -> F) -> TestResponse
    where
        F: Future<Output = Response<Body>> + Send,
    {
        let response = invoke(handler, &self.json().to_string()).await;
        let response = response.expect("events and responses have the form of API Gateway");
        TestResponse(serde_json::from_str(&response).expect("a response is JSON"))
    }
}

/// A response as API Gateway receives it.
#[derive(Clone, Debug, PartialEq)]
pub struct TestResponse(pub Value);

impl TestResponse {
    /// The HTTP status.
    pub fn status(&self) -> u64 {
        self.0["statusCode"].as_u64().expect("a status")
    }

    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0["headers"][name].as_str()
    }

    /// The body as it is sent; empty when there is none.
    pub fn text(&self) -> &str {
        self.0["body"].as_str().unwrap_or_default()
    }

    /// The body as bytes, which are base64 in the event when they are binary.
    pub fn bytes(&self) -> Vec<u8> {
        match self.0["isBase64Encoded"].as_bool() {
            Some(true) => STANDARD.decode(self.text()).expect("a binary body is base64"),
            _ => self.text().as_bytes().to_vec(),
        }
    }

    /// The body.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes()).expect("the body is JSON")
    }

    /// The last part of a problem's `type`.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let body = self.json();
        assert_eq!(body["status"], self.status());
        let kind = body["type"].as_str().expect("a problem has a type");
        kind.strip_prefix("urn:webhooks:problem:").expect("of ours").to_owned()
    }

    /// The fields that a problem names.
    pub fn fields(&self) -> Vec<String> {
        let body = self.json();
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap_or_default().to_owned()).collect()
    }
}
