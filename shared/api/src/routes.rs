//! Every route of the API.
//!
//! [`ROUTES`] are those that a client can use. [`FALLBACK_ROUTES`] get the requests below `/api/` that no other
//! route takes, so that they are answered with a problem: 405 with the methods of the path ([`methods`]), or
//! 404. API Gateway itself would answer 404 to both.

use crate::access::Access;

/// A route and the function that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path; what is in braces is a path parameter, and with a plus sign the whole rest.
    pub path: &'static str,
    /// The function's name: that of its folder.
    pub function: &'static str,
    /// Whether it needs no token.
    pub is_public: bool,
    /// What it needs of its caller.
    pub access: Access,
}

impl Route {
    /// As API Gateway writes it in `routeKey`.
    pub fn key(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Every route there is.
pub const ROUTES: &[Route] = &[
    route("GET", "/api/webhooks/event-types", "event-types", Access::Read),
    public("GET", "/api/openapi.json", "event-types"),
    route("POST", "/api/webhooks", "subscriptions", Access::Change),
    route("GET", "/api/webhooks", "subscriptions", Access::Read),
    route("DELETE", "/api/webhooks", "subscriptions", Access::Change),
    route("GET", "/api/webhooks/{id}", "subscriptions", Access::Read),
    route("PATCH", "/api/webhooks/{id}", "subscriptions", Access::Change),
    route("DELETE", "/api/webhooks/{id}", "subscriptions", Access::Change),
    route("POST", "/api/webhooks/{id}/rotate-secret", "subscriptions", Access::Change),
    route("GET", "/api/webhooks/{id}/stats", "subscriptions", Access::Read),
    route("POST", "/api/webhooks/{id}/verify", "test-webhook", Access::Test),
    route("POST", "/api/webhooks/{id}/test", "test-webhook", Access::Test),
    route("GET", "/api/deliveries", "delivery-history", Access::Read),
    route("GET", "/api/webhooks/{id}/deliveries", "delivery-history", Access::Read),
    route("GET", "/api/webhooks/{id}/deliveries/{delivery_id}", "delivery-history", Access::Read),
    route(
        "POST",
        "/api/webhooks/{id}/deliveries/{delivery_id}/redeliver",
        "delivery-history",
        Access::Redeliver,
    ),
    route("POST", "/api/webhooks/{id}/recoveries", "delivery-history", Access::Redeliver),
    route("GET", "/api/webhooks/{id}/recoveries", "delivery-history", Access::Read),
    route("GET", "/api/webhooks/{id}/recoveries/{recovery_id}", "delivery-history", Access::Read),
    route(
        "DELETE",
        "/api/webhooks/{id}/recoveries/{recovery_id}",
        "delivery-history",
        Access::Redeliver,
    ),
    public("GET", "/console", "console"),
    public("GET", "/console/{path+}", "console"),
];

/// The routes for requests with a method that API Gateway knows and that no other route takes. There is none
/// for `OPTIONS`: API Gateway answers preflight requests (CORS) itself.
pub const FALLBACK_ROUTES: &[Route] = &[
    route("GET", FALLBACK_PATH, "event-types", Access::Read),
    route("HEAD", FALLBACK_PATH, "event-types", Access::Read),
    route("POST", FALLBACK_PATH, "event-types", Access::Read),
    route("PUT", FALLBACK_PATH, "event-types", Access::Read),
    route("PATCH", FALLBACK_PATH, "event-types", Access::Read),
    route("DELETE", FALLBACK_PATH, "event-types", Access::Read),
];

const FALLBACK_PATH: &str = "/api/{proxy+}";

/// The methods of a path in alphabetical order; none if the API does not have the path.
pub fn methods(path: &str) -> Vec<&'static str> {
    let matching = ROUTES.iter().filter(|route| is_match(route.path, path));
    // The path of a literal route is not one of the route with a parameter in its place.
    let parameters = |route: &&Route| route.path.matches('{').count();
    let Some(best) = matching.min_by_key(parameters) else { return Vec::new() };
    let same_path = ROUTES.iter().filter(|route| route.path == best.path);
    let mut methods: Vec<_> = same_path.map(|route| route.method).collect();
    methods.sort_unstable();
    methods
}

/// Whether a path is one of a route's, whose parameters each stand for one part that is not empty.
fn is_match(route: &str, path: &str) -> bool {
    let (mut expected, mut parts) = (route.split('/'), path.split('/'));
    loop {
        match (expected.next(), parts.next()) {
            (None, None) => return true,
            (Some(name), Some(part)) if name.starts_with('{') && !part.is_empty() => {}
            (Some(name), Some(part)) if name == part => {}
            _ => return false,
        }
    }
}

const fn route(
    method: &'static str,
    path: &'static str,
    function: &'static str,
    access: Access,
) -> Route {
    Route { method, path, function, is_public: false, access }
}

const fn public(method: &'static str, path: &'static str, function: &'static str) -> Route {
    Route { is_public: true, ..route(method, path, function, Access::Read) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_route_is_listed_once() {
        let keys: HashSet<_> = ROUTES.iter().map(Route::key).collect();
        assert_eq!(keys.len(), ROUTES.len());
        assert!(keys.contains("GET /api/webhooks/{id}"));
    }

    #[test]
    fn methods_of_a_path_are_those_of_its_most_literal_route() {
        assert_eq!(methods("/api/webhooks"), ["DELETE", "GET", "POST"]);
        assert_eq!(methods("/api/webhooks/event-types"), ["GET"]);
        assert_eq!(methods("/api/webhooks/wh_1"), ["DELETE", "GET", "PATCH"]);
        assert_eq!(methods("/api/webhooks/wh_1/recoveries/rec_1"), ["DELETE", "GET"]);
        for path in ["", "/api", "/api/", "/api/webhooks/", "/api/webhooks//test", "/api/users"] {
            assert!(methods(path).is_empty(), "{path}");
        }
    }
}
