//! What a function answers.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, InvalidHeaderValue, LOCATION, WWW_AUTHENTICATE};
use serde::Serialize;
use webhooks_core::ports::{Chain, QueueError, StoreError};
use webhooks_core::problem::{self, FieldError, Problem};

use crate::request::route_key;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The caller is told all of it.
    #[error("the request is refused: {0:?}")]
    Problem(Problem),
    /// A table did not do what it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A queue did not do what it should.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The answer cannot be written as JSON.
    #[error("the answer cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    /// A header of the answer cannot be written.
    #[error("the answer cannot be written: {0}")]
    Header(#[from] InvalidHeaderValue),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Vec<FieldError>> for Failure {
    fn from(errors: Vec<FieldError>) -> Self {
        Self::Problem(Problem::InvalidFields(errors))
    }
}

/// The answer, or the problem that stands for the failure. A failure of ours is logged, here and
/// nowhere else, and the caller is told only its kind.
pub fn respond(
    request: &ApiGatewayV2httpRequest,
    answer: Result<ApiGatewayV2httpResponse, Failure>,
) -> ApiGatewayV2httpResponse {
    let failure = match answer {
        Ok(response) => return response,
        Err(Failure::Problem(told)) => return problem(&told),
        Err(failure) => failure,
    };
    tracing::error!(error = %Chain(&failure), http.route = route_key(request), "the request failed");
    match failure {
        Failure::Store(StoreError::Unavailable(_)) | Failure::Queue(QueueError::Unavailable(_)) => {
            problem(&Problem::Unavailable)
        }
        _ => problem(&Problem::Internal),
    }
}

/// An answer of JSON.
pub fn json<T: Serialize>(status: u16, body: &T) -> Result<ApiGatewayV2httpResponse, Failure> {
    let body = serde_json::to_string(body)?;
    Ok(with_body(status, "application/json", body))
}

/// 201 and where the new thing is.
pub fn created<T: Serialize>(
    location: &str,
    body: &T,
) -> Result<ApiGatewayV2httpResponse, Failure> {
    let mut response = json(201, body)?;
    response.headers.insert(LOCATION, HeaderValue::from_str(location)?);
    Ok(response)
}

/// 204.
pub fn no_content() -> ApiGatewayV2httpResponse {
    empty(204)
}

/// What is told when a request was not done.
pub fn problem(problem: &Problem) -> ApiGatewayV2httpResponse {
    let details = problem.details();
    // Strings and numbers can always be written.
    let body = serde_json::to_string(&details).unwrap_or_default();
    let mut response = with_body(details.status, problem::CONTENT_TYPE, body);
    if *problem == Problem::Unauthorized {
        response.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn with_body(status: u16, content_type: &'static str, body: String) -> ApiGatewayV2httpResponse {
    let mut response = empty(status);
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.body = Some(Body::Text(body));
    response
}

/// What is told is about one caller at one moment: nothing may keep it.
fn empty(status: u16) -> ApiGatewayV2httpResponse {
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = i64::from(status);
    response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sent(response: &ApiGatewayV2httpResponse) -> Value {
        serde_json::to_value(response).unwrap()
    }

    fn failed(failure: impl Into<Failure>) -> Value {
        sent(&respond(&ApiGatewayV2httpRequest::default(), Err(failure.into())))
    }

    #[test]
    fn an_answer_is_json_that_nothing_keeps() {
        let response = sent(&created("/api/webhooks/x", &json!({"a": 1})).unwrap());
        assert_eq!(
            response,
            json!({
                "statusCode": 201,
                "headers": {
                    "content-type": "application/json",
                    "cache-control": "no-store",
                    "location": "/api/webhooks/x",
                },
                "multiValueHeaders": {},
                "body": "{\"a\":1}",
                "isBase64Encoded": false,
                "cookies": [],
            })
        );
        assert!(sent(&no_content()).get("body").is_none());
    }

    #[test]
    fn a_problem_is_what_the_rfc_says() {
        let response = failed(vec![FieldError::new("url", "is required")]);
        assert_eq!(response["statusCode"], 422);
        assert_eq!(response["headers"]["content-type"], "application/problem+json");
        assert_eq!(response["headers"]["cache-control"], "no-store");
        let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
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
    fn only_a_missing_token_is_asked_for() {
        for known in Problem::examples() {
            let response = failed(known.clone());
            assert_eq!(
                response["headers"]["www-authenticate"].as_str(),
                (known == Problem::Unauthorized).then_some("Bearer")
            );
        }
    }

    #[test]
    fn our_own_failures_are_told_only_by_kind() {
        let detail = || String::from("user-1 at 10.0.0.1");
        let undecodable = StoreError::Undecodable { key: detail(), reason: detail() };
        for (failure, status) in [
            (Failure::from(StoreError::Unavailable(detail().into())), 503),
            (QueueError::Unavailable(detail().into()).into(), 503),
            (StoreError::Rejected(detail().into()).into(), 500),
            (QueueError::Rejected(detail().into()).into(), 500),
            (undecodable.into(), 500),
        ] {
            let response = failed(failure);
            assert_eq!(response["statusCode"], status);
            assert!(!response.to_string().contains("10.0.0.1"), "{response}");
        }
    }
}
