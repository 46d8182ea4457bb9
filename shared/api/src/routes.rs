//! Every route of the API.

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
}
