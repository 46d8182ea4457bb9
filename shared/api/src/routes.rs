//! Every route of the API.

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
}

impl Route {
    /// As API Gateway writes it in `routeKey`.
    pub fn key(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Every route there is.
pub const ROUTES: &[Route] = &[
    route("GET", "/api/webhooks/event-types", "event-types"),
    public("GET", "/api/openapi.json", "event-types"),
    route("POST", "/api/webhooks", "subscriptions"),
    route("GET", "/api/webhooks", "subscriptions"),
    route("GET", "/api/webhooks/{id}", "subscriptions"),
    route("PATCH", "/api/webhooks/{id}", "subscriptions"),
    route("DELETE", "/api/webhooks/{id}", "subscriptions"),
    route("POST", "/api/webhooks/{id}/rotate-secret", "subscriptions"),
    route("GET", "/api/webhooks/{id}/stats", "subscriptions"),
    route("POST", "/api/webhooks/{id}/test", "test-webhook"),
    route("GET", "/api/webhooks/{id}/deliveries", "delivery-history"),
    route("GET", "/api/webhooks/{id}/deliveries/{delivery_id}", "delivery-history"),
    route("POST", "/api/webhooks/{id}/deliveries/{delivery_id}/redeliver", "delivery-history"),
    public("GET", "/console", "console"),
    public("GET", "/console/{path+}", "console"),
];

const fn route(method: &'static str, path: &'static str, function: &'static str) -> Route {
    Route { method, path, function, is_public: false }
}

const fn public(method: &'static str, path: &'static str, function: &'static str) -> Route {
    Route { is_public: true, ..route(method, path, function) }
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
