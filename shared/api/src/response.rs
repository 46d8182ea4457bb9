//! The responses of the API, and what an error becomes.

use http::HeaderValue;
use http::StatusCode;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use webhooks_core::ports::{Chain, QueueError, StoreError};

use crate::problem::{self, Problem};
use crate::request::{AuthenticatedRequest, route_key};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The caller sees all of it.
    #[error("the request is refused: {0:?}")]
    Problem(Problem),
    /// A table failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The response cannot be written as JSON.
    #[error("the response cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// The response of a handler, or that of its error. A failure of the service is logged here and
/// nowhere else, and its response names only the kind.
pub fn respond(request: &Request, result: Result<Response<Body>, ApiError>) -> Response<Body> {
    let error = match result {
        Ok(response) => {
            log_change(request, &response, None);
            return response;
        }
        Err(ApiError::Problem(known)) => {
            let response = problem(&known);
            log_change(request, &response, Some(known.details().kind));
            return response;
        }
        Err(error) => error,
    };
    tracing::error!(error = %Chain(&error), http.route = route_key(request), "the request failed");
    match error {
        ApiError::Store(StoreError::Unavailable(_))
        | ApiError::Queue(QueueError::Unavailable(_)) => problem(&Problem::Unavailable),
        _ => problem(&Problem::Internal),
    }
}

/// One line for each change that a user made or tried to make, without the values.
fn log_change(request: &Request, response: &Response<Body>, problem: Option<&str>) {
    if request.method().is_safe() {
        return;
    }
    let Ok(request) = AuthenticatedRequest::new(request) else { return };
    tracing::info!(
        user_id = %request.caller(),
        http.route = request.route(),
        subscription_id = request.parameter("id"),
        delivery_id = request.parameter("delivery_id"),
        http.source_ip = request.source_ip(),
        fields = request.field_names(),
        location = response.headers().get(LOCATION).and_then(|path| path.to_str().ok()),
        http.status = response.status().as_u16(),
        problem,
        "change by a user"
    );
}

/// A response of JSON.
pub fn json<T: Serialize>(status: StatusCode, body: &T) -> Result<Response<Body>, ApiError> {
    Ok(with_body(status, "application/json", serde_json::to_string(body)?))
}

/// 200 with JSON that is there already.
pub fn json_text(body: &str) -> Response<Body> {
    with_body(StatusCode::OK, "application/json", body.to_owned())
}

/// 201 and the path of the new resource.
pub fn created<T: Serialize>(location: &str, body: &T) -> Result<Response<Body>, ApiError> {
    let mut response = json(StatusCode::CREATED, body)?;
    let location = HeaderValue::from_str(location).expect("a path is a header value");
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// 204.
pub fn no_content() -> Response<Body> {
    empty(StatusCode::NO_CONTENT)
}

/// The response that tells of a problem.
pub fn problem(problem: &Problem) -> Response<Body> {
    let details = problem.details();
    let body = serde_json::to_string(&details).expect("strings and numbers are JSON");
    let status = StatusCode::from_u16(details.status).expect("the status of a problem is valid");
    let mut response = with_body(status, problem::CONTENT_TYPE, body);
    let authenticate = match problem {
        Problem::Unauthorized => Some("Bearer".to_owned()),
        // RFC 6750, section 3.1.
        Problem::InsufficientScope { scope } => {
            Some(format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""))
        }
        _ => None,
    };
    if let Some(value) = authenticate {
        let value = HeaderValue::from_str(&value).expect("the names of scopes are ASCII");
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    if let Problem::MethodNotAllowed { allow } = problem {
        let allow =
            HeaderValue::from_str(&allow.join(", ")).expect("the names of methods are ASCII");
        response.headers_mut().insert(ALLOW, allow);
    }
    if let Some(wait) = problem.retry_after() {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
    }
    response
}

fn with_body(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = empty(status);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    *response.body_mut() = Body::Text(body);
    response
}

/// A response that no cache keeps, because it concerns one caller at one moment.
fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::FieldError;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn error(error: impl Into<ApiError>) -> (u16, Response<Body>, Value) {
        let response = respond(&Request::default(), Err(error.into()));
        let body = serde_json::from_slice(response.body()).unwrap();
        (response.status().as_u16(), response, body)
    }

    #[test]
    fn response_is_json_without_caching() {
        let response = created("/api/webhooks/x", &json!({"a": 1})).unwrap();
        assert_eq!(response.status(), 201);
        let headers = response.headers();
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["location"], "/api/webhooks/x");
        assert_eq!(*response.body(), Body::Text("{\"a\":1}".to_owned()));
        assert_eq!(*no_content().body(), Body::Empty);
    }

    #[test]
    fn problem_has_the_form_of_rfc_9457() {
        let (status, response, body) =
            error(Problem::InvalidFields(vec![FieldError::new("url", "is required")]));
        assert_eq!(status, 422);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(
            body,
            json!({
                "type": "urn:webhooks:problem:invalid-fields",
                "title": "Some fields are not valid",
                "status": 422,
                "detail": "`url` is required",
                "errors": [{"field": "url", "message": "is required"}],
            })
        );
    }

    #[test]
    fn problems_of_the_token_ask_for_another_one() {
        for known in Problem::examples() {
            let (_, response, _) = error(known.clone());
            let header = response.headers().get("www-authenticate").map(HeaderValue::as_bytes);
            let expected: Option<&[u8]> = match known {
                Problem::Unauthorized => Some(b"Bearer"),
                Problem::InsufficientScope { .. } => {
                    Some(b"Bearer error=\"insufficient_scope\", scope=\"webhooks:write\"")
                }
                _ => None,
            };
            assert_eq!(header, expected);
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        }
    }

    #[test]
    fn only_405_names_the_methods_of_the_path() {
        for known in Problem::examples() {
            let (status, response, _) = error(known);
            let allow = response.headers().get("allow").map(HeaderValue::as_bytes);
            assert_eq!(allow, (status == 405).then_some(&b"DELETE, GET"[..]));
        }
    }

    #[test]
    fn every_429_says_when_to_try_again_in_whole_seconds() {
        for known in Problem::examples() {
            let (status, response, _) = error(known.clone());
            assert_eq!(response.headers().contains_key("retry-after"), status == 429, "{known:?}");
        }
        for (wait, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (86_400_000, "86400")]
        {
            let wait = Problem::RateLimited { retry_after: Duration::from_millis(wait) };
            assert_eq!(error(wait).1.headers()["retry-after"], seconds);
        }
    }

    #[test]
    fn internal_error_details_are_not_in_the_response() {
        let detail = || "user-1 at 10.0.0.1".to_owned();
        let undecodable = StoreError::Undecodable { key: detail(), reason: detail() };
        for (failure, expected) in [
            (ApiError::from(StoreError::Unavailable(detail().into())), 503),
            (QueueError::Unavailable(detail().into()).into(), 503),
            (StoreError::Rejected(detail().into()).into(), 500),
            (QueueError::Rejected(detail().into()).into(), 500),
            (undecodable.into(), 500),
        ] {
            let (status, _, body) = error(failure);
            assert_eq!(status, expected);
            assert!(!body.to_string().contains("10.0.0.1"), "{body}");
        }
    }
}
