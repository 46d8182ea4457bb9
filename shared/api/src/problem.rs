//! The error responses of the API, which are problems
//! ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).
//!
//! One exhaustive match gives each problem its stable `type` and status. The response has no more
//! than stands here; details of our own failures are logged only.

use std::time::Duration;

use serde::Serialize;
use webhooks_core::delivery::cut;

/// What the `type` of every problem begins with.
pub const TYPE_PREFIX: &str = "urn:webhooks:problem:";
/// The media type of every error.
pub const CONTENT_TYPE: &str = "application/problem+json";
/// The most fields that one problem names, so that a response is not much larger than its request.
const ERRORS_MAX: usize = 100;
/// The most bytes of a field's name, which is as the caller wrote it.
const FIELD_BYTES: usize = 128;

/// A field that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field of the body, or the parameter of the query.
    pub field: String,
    /// What is wrong, as the end of a sentence that begins with the field's name.
    pub message: String,
}

impl FieldError {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        let field = field.into();
        Self { field: cut(&field, FIELD_BYTES).to_owned(), message: message.into() }
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The body is not a JSON object.
    InvalidJson(String),
    /// Fields of the body or parameters of the query are not valid.
    InvalidFields(Vec<FieldError>),
    /// The body is larger than [`webhooks_core::limits::API_BODY_BYTES`].
    BodyTooLarge,
    /// The request has no valid token.
    Unauthorized,
    /// The scopes of the token do not include this one.
    InsufficientScope {
        /// The scope that the route needs.
        scope: &'static str,
    },
    /// The operator has blocked the user.
    UserBlocked,
    /// The user made too many requests of this kind.
    RateLimited {
        /// When the next request is admitted.
        retry_after: Duration,
    },
    /// The resource does not exist, or belongs to another user: the caller cannot tell which.
    NotFound,
    /// The path does not have the method.
    MethodNotAllowed {
        /// The methods that the path has.
        allow: Vec<&'static str>,
    },
    /// The user has as many webhooks as a user may have.
    WebhookLimitReached,
    /// The user has created as many webhooks today as a user may create in a day.
    CreationLimitReached {
        /// When the day ends.
        retry_after: Duration,
    },
    /// The user has asked for as many redeliveries today as a user may ask for in a day.
    RedeliveryLimitReached {
        /// When the day ends.
        retry_after: Duration,
    },
    /// Other requests changed the webhook at each try.
    EditConflict,
    /// The webhook is not active, so nothing is sent to it.
    WebhookInactive,
    /// The endpoint has not proved that it wants the webhook.
    EndpointUnverified,
    /// The delivery is still retrying, so a redelivery would be a duplicate.
    DeliveryRetrying,
    /// The payload of the delivery is not kept, because the owner asked for that.
    PayloadNotKept,
    /// As many recoveries of the webhook are running as may be.
    RecoveryLimitReached,
    /// The service failed.
    Internal,
    /// The service failed, and a later request may succeed.
    Unavailable,
}

/// The body of an error response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Details {
    /// The stable name of the kind of problem: a URI (RFC 9457, section 3.1.1) that cannot be
    /// fetched.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// A short sentence, the same for every problem of the kind.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Every field that is not valid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// One of each kind, with which a test proves the documentation complete.
    pub fn examples() -> Vec<Self> {
        vec![
            Self::InvalidJson(String::new()),
            Self::InvalidFields(Vec::new()),
            Self::BodyTooLarge,
            Self::Unauthorized,
            Self::InsufficientScope { scope: "webhooks:write" },
            Self::UserBlocked,
            Self::RateLimited { retry_after: Duration::ZERO },
            Self::NotFound,
            Self::MethodNotAllowed { allow: vec!["DELETE", "GET"] },
            Self::WebhookLimitReached,
            Self::CreationLimitReached { retry_after: Duration::ZERO },
            Self::RedeliveryLimitReached { retry_after: Duration::ZERO },
            Self::EditConflict,
            Self::WebhookInactive,
            Self::EndpointUnverified,
            Self::DeliveryRetrying,
            Self::PayloadNotKept,
            Self::RecoveryLimitReached,
            Self::Internal,
            Self::Unavailable,
        ]
    }

    /// The body of the error response.
    pub fn details(&self) -> Details {
        let (kind, title, status) = match self {
            Self::InvalidJson(_) => {
                ("urn:webhooks:problem:invalid-json", "The body is not a JSON object", 400)
            }
            Self::InvalidFields(_) => {
                ("urn:webhooks:problem:invalid-fields", "Some fields are not valid", 422)
            }
            Self::BodyTooLarge => {
                ("urn:webhooks:problem:body-too-large", "The body is larger than 64 KiB", 413)
            }
            Self::Unauthorized => {
                ("urn:webhooks:problem:unauthorized", "A valid bearer token is needed", 401)
            }
            Self::InsufficientScope { .. } => (
                "urn:webhooks:problem:insufficient-scope",
                "The token does not have the scope that this request needs",
                403,
            ),
            Self::UserBlocked => (
                "urn:webhooks:problem:user-blocked",
                "The operator of this service has blocked this user",
                403,
            ),
            Self::RateLimited { .. } => {
                ("urn:webhooks:problem:rate-limited", "Too many requests; try again later", 429)
            }
            Self::NotFound => ("urn:webhooks:problem:not-found", "There is no such resource", 404),
            Self::MethodNotAllowed { .. } => (
                "urn:webhooks:problem:method-not-allowed",
                "The path does not have this method",
                405,
            ),
            Self::WebhookLimitReached => (
                "urn:webhooks:problem:webhook-limit-reached",
                "A user may have at most 100 webhooks",
                409,
            ),
            Self::CreationLimitReached { .. } => (
                "urn:webhooks:problem:creation-limit-reached",
                "A user may create at most 300 webhooks a day (UTC), deleted ones included",
                429,
            ),
            Self::RedeliveryLimitReached { .. } => (
                "urn:webhooks:problem:redelivery-limit-reached",
                "A user may ask for at most 1,000 redeliveries a day (UTC)",
                429,
            ),
            Self::EditConflict => (
                "urn:webhooks:problem:edit-conflict",
                "The webhook was changed at the same time",
                409,
            ),
            Self::WebhookInactive => {
                ("urn:webhooks:problem:webhook-inactive", "The webhook is not active", 409)
            }
            Self::EndpointUnverified => (
                "urn:webhooks:problem:endpoint-unverified",
                "The endpoint has not proved that it wants the webhook: POST …/verify",
                409,
            ),
            Self::DeliveryRetrying => {
                ("urn:webhooks:problem:delivery-retrying", "The delivery is still retrying", 409)
            }
            Self::PayloadNotKept => (
                "urn:webhooks:problem:payload-not-kept",
                "The payload is not kept, so that the delivery cannot be repeated",
                409,
            ),
            Self::RecoveryLimitReached => (
                "urn:webhooks:problem:recovery-limit-reached",
                "At most 3 recoveries of a webhook may be running",
                409,
            ),
            Self::Internal => {
                ("urn:webhooks:problem:internal", "Something went wrong on our side", 500)
            }
            Self::Unavailable => {
                ("urn:webhooks:problem:unavailable", "The service is busy; try again", 503)
            }
        };
        let (detail, errors) = match self {
            Self::InvalidJson(detail) => (Some(detail.clone()), Vec::new()),
            Self::InvalidFields(errors) => {
                let named = &errors[..errors.len().min(ERRORS_MAX)];
                (Some(sentence(named)), named.to_vec())
            }
            Self::InsufficientScope { scope } => {
                (Some(format!("the token needs the scope `{scope}`")), Vec::new())
            }
            _ => (None, Vec::new()),
        };
        Details { kind, title, status, detail, errors }
    }

    /// How long to wait before the same request may succeed, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after }
            | Self::CreationLimitReached { retry_after }
            | Self::RedeliveryLimitReached { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

fn sentence(errors: &[FieldError]) -> String {
    let parts: Vec<String> =
        errors.iter().map(|error| format!("`{}` {}", error.field, error.message)).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_its_own_type_and_an_error_status() {
        let kinds: HashSet<_> = Problem::examples().iter().map(|p| p.details().kind).collect();
        assert_eq!(kinds.len(), Problem::examples().len());
        assert!(kinds.iter().all(|kind| kind.starts_with("urn:webhooks:problem:")));
        assert!(Problem::examples().iter().all(|p| (400..600).contains(&p.details().status)));
    }

    #[test]
    fn every_bad_field_is_named() {
        let problem = Problem::InvalidFields(vec![
            FieldError::new("url", "must be a string"),
            FieldError::new("limit", "must be 1 to 100"),
        ]);
        let json = serde_json::to_value(problem.details()).unwrap();
        assert_eq!(json["errors"][1]["field"], "limit");
        assert_eq!(json["detail"], "`url` must be a string; `limit` must be 1 to 100");
    }

    #[test]
    fn many_bad_fields_make_a_bounded_response() {
        let error = FieldError::new("é".repeat(1000), "is not a known field");
        assert_eq!(error.field, "é".repeat(FIELD_BYTES / 2));
        let details = Problem::InvalidFields(vec![error; 1000]).details();
        assert_eq!(details.errors.len(), ERRORS_MAX);
        assert!(details.detail.unwrap().len() < 20_000);
    }
}
