//! Requests as `lambda_http` hands them over, once their caller is known.

use std::str::FromStr;

use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt as _};
use serde_json::Value;
use webhooks_core::ids::UserId;
use webhooks_core::time::Timestamp;

use crate::access::Access;
use crate::body;
use crate::fields::Fields;
use crate::problem::Problem;
use crate::query::Query;
use crate::routes::ROUTES;

/// What the scopes of this service begin with.
const SCOPES: &str = "webhooks:";

/// A request whose caller API Gateway's authorizer has authenticated.
#[derive(Clone, Debug)]
pub struct AuthenticatedRequest<'a> {
    caller: UserId,
    request: &'a Request,
}

impl<'a> AuthenticatedRequest<'a> {
    /// Reads the caller: the `sub` of the token that the authorizer has checked.
    pub fn new(request: &'a Request) -> Result<Self, Problem> {
        let authorizer = request.request_context_ref().and_then(RequestContext::authorizer);
        let caller = authorizer
            .and_then(|authorizer| authorizer.jwt.as_ref())
            .and_then(|jwt| jwt.claims.get("sub"))
            .and_then(|subject| subject.parse().ok())
            .ok_or(Problem::Unauthorized)?;
        Ok(Self { caller, request })
    }

    /// The user who sent the request.
    pub fn caller(&self) -> &UserId {
        &self.caller
    }

    /// The route that API Gateway chose: `GET /api/webhooks/{id}`.
    pub fn route(&self) -> &'a str {
        route_key(self.request)
    }

    /// What its route does. A route that does not exist only reads.
    pub fn access(&self) -> Access {
        let route = ROUTES.iter().find(|route| route.key() == self.route());
        route.map_or(Access::Read, |route| route.access)
    }

    /// Whether the token allows this scope. Only a token that names scopes of this service is
    /// restricted, because identity providers put scopes of their own into every token.
    pub fn has_scope(&self, scope: &str) -> bool {
        let context = self.request.request_context_ref();
        let jwt = context.and_then(RequestContext::authorizer).and_then(|by| by.jwt.as_ref());
        let Some(jwt) = jwt else { return false };
        let claims = ["scope", "scp"].into_iter().filter_map(|name| jwt.claims.get(name));
        // API Gateway writes a list as `[a b]`.
        let claims = claims.flat_map(|claim| claim.split(['[', ']', ' ', ',']));
        let listed = jwt.scopes.iter().flatten().map(String::as_str);
        // Some identity providers put the name of the API before a scope: `https://api.example/a`.
        let names = claims.chain(listed).filter_map(|name| name.rsplit('/').next());
        let mut ours = names.filter(|name| name.starts_with(SCOPES)).peekable();
        ours.peek().is_none() || ours.any(|name| name == scope)
    }

    /// When API Gateway received the request.
    pub fn received_at(&self) -> Timestamp {
        match self.request.request_context_ref() {
            Some(RequestContext::ApiGatewayV2(context)) => {
                Timestamp::from_millis(context.time_epoch)
            }
            _ => Timestamp::EPOCH,
        }
    }

    /// The address from which the request came.
    pub fn source_ip(&self) -> &'a str {
        match self.request.request_context_ref() {
            Some(RequestContext::ApiGatewayV2(context)) => {
                context.http.source_ip.as_deref().unwrap_or_default()
            }
            _ => "",
        }
    }

    /// The fields that the body names, for the log.
    pub fn field_names(&self) -> String {
        body::field_names(self.request.body())
    }

    /// An id in the path. A text that is not an id is not found, like an id that does not exist.
    pub fn id<T: FromStr>(&self, parameter: &str) -> Result<T, Problem> {
        self.parameter(parameter).parse().map_err(|_| Problem::NotFound)
    }

    /// A parameter of the path; empty when it is absent.
    pub fn parameter(&self, name: &str) -> &str {
        let parameters = self.request.path_parameters_ref();
        parameters.and_then(|parameters| parameters.first(name)).unwrap_or_default()
    }

    /// The parameters of the query string.
    pub fn query(&self) -> Query {
        Query::new(self.request.query_string_parameters_ref())
    }

    /// Refuses every parameter of the query string.
    pub fn no_query(&self) -> Result<(), Problem> {
        self.query().finish()
    }

    /// The fields of the body, which must be a JSON object.
    pub fn body(&self) -> Result<Fields<Value>, Problem> {
        body::fields(self.request.body())
    }

    /// The fields of the body, where no body counts as an empty object.
    pub fn optional_body(&self) -> Result<Fields<Value>, Problem> {
        match self.request.body() {
            Body::Empty => Ok(body::no_fields()),
            Body::Text(text) if text.is_empty() => Ok(body::no_fields()),
            _ => self.body(),
        }
    }
}

/// Refuses every parameter of the query string, where no caller is known.
pub fn no_query(request: &Request) -> Result<(), Problem> {
    Query::new(request.query_string_parameters_ref()).finish()
}

/// The route that API Gateway chose; empty if the event has none.
pub fn route_key(request: &Request) -> &str {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => {
            context.route_key.as_deref().unwrap_or_default()
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use webhooks_core::ids::SubscriptionId;

    fn request(authorizer: &Value) -> Request {
        let event = json!({
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
        });
        lambda_http::request::from_str(&event.to_string()).unwrap()
    }

    #[test]
    fn caller_is_the_subject_of_the_token() {
        let request = request(&json!({"jwt": {"claims": {"sub": "user-1"}, "scopes": null}}));
        let request = AuthenticatedRequest::new(&request).unwrap();
        assert_eq!(request.caller().as_str(), "user-1");
        assert_eq!(request.route(), "GET /api/webhooks/{id}");
    }

    #[test]
    fn token_with_scopes_of_this_service_is_restricted_to_them() {
        let allows = |authorizer: &Value| {
            let request = request(authorizer);
            let request = AuthenticatedRequest::new(&request).unwrap();
            Access::ALL.map(|access| request.has_scope(access.scope()))
        };
        let with = |claim: &str, value: &str| json!({"jwt": {"claims": {"sub": "u", claim: value}, "scopes": null}});
        let (all, read) = ([true; 4], [true, false, false, false]);
        for (authorizer, expected) in [
            (with("iss", "x"), all),
            (with("scope", ""), all),
            (with("scope", "openid profile"), all),
            (with("scope", "openid webhooks:read"), read),
            (with("scp", "[openid webhooks:read]"), read),
            (with("scp", "webhooks:read"), read),
            (with("scope", "https://api.example/webhooks:read"), read),
            (with("scope", "webhooks:unknown"), [false; 4]),
            (with("scope", "webhooks:readers"), [false; 4]),
            (with("scope", "webhooks:test webhooks:write"), [false, true, true, false]),
            (
                json!({"jwt": {"claims": {"sub": "u"}, "scopes": ["webhooks:redeliver"]}}),
                [false, false, false, true],
            ),
        ] {
            assert_eq!(allows(&authorizer), expected, "{authorizer}");
        }
    }

    #[test]
    fn request_without_a_usable_subject_is_unauthorized() {
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
            let request = request(&authorizer);
            let error = AuthenticatedRequest::new(&request).unwrap_err();
            assert_eq!(error, Problem::Unauthorized, "{authorizer}");
        }
    }

    #[test]
    fn malformed_id_is_not_found() {
        let request = request(&json!({"jwt": {"claims": {"sub": "user-1"}, "scopes": null}}));
        let request = AuthenticatedRequest::new(&request).unwrap();
        assert_eq!(request.id::<SubscriptionId>("id"), Err(Problem::NotFound));
        assert_eq!(request.id::<SubscriptionId>("delivery_id"), Err(Problem::NotFound));
    }
}
