//! What API Gateway hands a function.

use std::str::FromStr;

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use serde_json::{Map, Value};
use webhooks_core::ids::UserId;
use webhooks_core::problem::Problem;

use crate::body;
use crate::query::Query;

/// A request whose caller is known.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    caller: UserId,
    inner: &'a ApiGatewayV2httpRequest,
}

impl<'a> Request<'a> {
    /// Finds out who calls: the `sub` of the token that the authorizer has checked.
    pub fn read(inner: &'a ApiGatewayV2httpRequest) -> Result<Self, Problem> {
        let authorizer = inner.request_context.authorizer.as_ref();
        let caller = authorizer
            .and_then(|authorizer| authorizer.jwt.as_ref())
            .and_then(|jwt| jwt.claims.get("sub"))
            .and_then(|subject| subject.parse().ok())
            .ok_or(Problem::Unauthorized)?;
        Ok(Self { caller, inner })
    }

    /// Who calls.
    pub fn caller(&self) -> &UserId {
        &self.caller
    }

    /// The route that API Gateway chose: `GET /api/webhooks/{id}`.
    pub fn route(&self) -> &str {
        route_key(self.inner)
    }

    /// An id in the path. What is no id at all answers as a missing one does.
    pub fn id<T: FromStr>(&self, parameter: &str) -> Result<T, Problem> {
        self.parameter(parameter).parse().map_err(|_| Problem::NotFound)
    }

    /// A parameter in the path as it was sent; empty when it is not there.
    pub fn parameter(&self, name: &str) -> &str {
        self.inner.path_parameters.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The parameters after the question mark.
    pub fn query(&self) -> Query {
        Query::parse(self.inner.raw_query_string.as_deref().unwrap_or_default())
    }

    /// Refuses every parameter after the question mark.
    pub fn no_query(&self) -> Result<(), Problem> {
        self.query().finish()
    }

    /// The body, which must be a JSON object.
    pub fn body(&self) -> Result<Map<String, Value>, Problem> {
        let text = self.inner.body.as_deref().unwrap_or_default();
        body::object(text, self.inner.is_base64_encoded)
    }

    /// The body, where none at all is as good as an empty object.
    pub fn optional_body(&self) -> Result<Map<String, Value>, Problem> {
        match self.inner.body.as_deref() {
            None | Some("") => Ok(Map::new()),
            Some(_) => self.body(),
        }
    }
}

/// The route that API Gateway chose; empty when it did not say.
pub(crate) fn route_key(request: &ApiGatewayV2httpRequest) -> &str {
    let inner = request.request_context.route_key.as_deref();
    request.route_key.as_deref().or(inner).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use webhooks_core::ids::SubscriptionId;

    fn event(authorizer: &Value) -> ApiGatewayV2httpRequest {
        serde_json::from_value(json!({
            "version": "2.0",
            "routeKey": "GET /api/webhooks/{id}",
            "rawPath": "/api/webhooks/x",
            "rawQueryString": "",
            "headers": {},
            "pathParameters": {"id": "x"},
            "requestContext": {
                "routeKey": "GET /api/webhooks/{id}",
                "authorizer": authorizer,
                "http": {"method": "GET", "path": "/api/webhooks/x"},
            },
            "isBase64Encoded": false,
        }))
        .unwrap()
    }

    #[test]
    fn the_caller_is_the_subject_of_the_token() {
        let event = event(&json!({"jwt": {"claims": {"sub": "user-1"}, "scopes": null}}));
        let request = Request::read(&event).unwrap();
        assert_eq!(request.caller().as_str(), "user-1");
        assert_eq!(request.route(), "GET /api/webhooks/{id}");
    }

    #[test]
    fn nobody_calls_without_a_usable_subject() {
        let long = "x".repeat(257);
        for authorizer in [
            Value::Null,
            json!({}),
            json!({"lambda": {"sub": "u"}}),
            json!({"jwt": {"claims": null, "scopes": null}}),
            json!({"jwt": {"claims": {"iss": "https://issuer.example"}, "scopes": null}}),
            json!({"jwt": {"claims": {"sub": ""}, "scopes": null}}),
            json!({"jwt": {"claims": {"sub": "a\u{0}b"}, "scopes": null}}),
            json!({"jwt": {"claims": {"sub": long}, "scopes": null}}),
        ] {
            let event = event(&authorizer);
            assert_eq!(Request::read(&event).unwrap_err(), Problem::Unauthorized, "{authorizer}");
        }
    }

    #[test]
    fn what_is_no_id_is_not_found() {
        let event = event(&json!({"jwt": {"claims": {"sub": "user-1"}, "scopes": null}}));
        let request = Request::read(&event).unwrap();
        assert_eq!(request.id::<SubscriptionId>("id"), Err(Problem::NotFound));
        assert_eq!(request.id::<SubscriptionId>("delivery_id"), Err(Problem::NotFound));
    }
}
