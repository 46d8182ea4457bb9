//! What an error of the SDK means to the ports: try again later, or our fault.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use webhooks_core::ports::{QueueError, StoreError, Written};

/// What went wrong with a request, in words for the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Trying again later may help.
    Unavailable(String),
    /// Trying again does not help.
    Rejected(String),
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(text) => Self::Unavailable(text),
            Fault::Rejected(text) => Self::Rejected(text),
        }
    }
}

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(text) => Self::Unavailable(text),
            Fault::Rejected(text) => Self::Rejected(text),
        }
    }
}

/// Sorts an error of the SDK.
pub(crate) fn fault<E>(error: &SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ServiceError(answer) => {
            let code = answer.err().code().unwrap_or("no error code");
            let message = answer.err().message().unwrap_or("no message");
            let text = format!("{code}: {message}");
            if answer.raw().status().is_server_error() || passes_by_itself(code) {
                Fault::Unavailable(text)
            } else {
                Fault::Rejected(text)
            }
        }
        SdkError::ConstructionFailure(_) => Fault::Rejected(chain(error)),
        _ => Fault::Unavailable(chain(error)),
    }
}

/// Whether a fault that is answered with status 4xx passes by itself: throttles of every name,
/// and other requests in the way.
pub(crate) fn passes_by_itself(code: &str) -> bool {
    code.contains("Throttl")
        || matches!(
            code,
            "ProvisionedThroughputExceededException"
                | "ProvisionedThroughputExceeded"
                | "RequestLimitExceeded"
                | "OverLimit"
                | "TransactionConflict"
                | "TransactionConflictException"
                | "TransactionInProgressException"
                | "ReplicatedWriteConflictException"
        )
}

/// What became of a conditional write.
pub(crate) fn written<O, E>(
    result: Result<O, SdkError<E, HttpResponse>>,
) -> Result<Written, StoreError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match result {
        Ok(_) => Ok(Written::Applied),
        Err(error) if error.code() == Some("ConditionalCheckFailedException") => {
            Ok(Written::ConditionFailed)
        }
        Err(error) => Err(fault(&error).into()),
    }
}

/// An error and its causes: the SDK's own text only says at which stage a request failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::put_item::PutItemError;

    fn answer(status: u16, code: &str) -> SdkError<PutItemError, HttpResponse> {
        let meta = ErrorMetadata::builder().code(code).message("why").build();
        let response = HttpResponse::new(status.try_into().unwrap(), "".into());
        SdkError::service_error(PutItemError::generic(meta), response)
    }

    #[test]
    fn what_passes_by_itself_is_no_fault_of_ours() {
        for (status, code) in [
            (400, "ThrottlingException"),
            (400, "ProvisionedThroughputExceededException"),
            (400, "TransactionInProgressException"),
            (403, "RequestThrottled"),
            (500, "InternalServerError"),
            (503, "ServiceUnavailable"),
        ] {
            let text = format!("{code}: why");
            assert_eq!(fault(&answer(status, code)), Fault::Unavailable(text));
        }
        let timeout = SdkError::<PutItemError, HttpResponse>::timeout_error("3 s");
        assert!(matches!(fault(&timeout), Fault::Unavailable(text) if text.contains("3 s")));
        for code in ["ValidationException", "ResourceNotFoundException", "AccessDeniedException"] {
            let text = format!("{code}: why");
            assert_eq!(fault(&answer(400, code)), Fault::Rejected(text));
        }
    }

    #[test]
    fn a_condition_that_does_not_hold_is_a_conflict() {
        let conflict = Err::<(), _>(answer(400, "ConditionalCheckFailedException"));
        assert_eq!(written(conflict).unwrap(), Written::ConditionFailed);
        assert!(written(Err::<(), _>(answer(400, "ValidationException"))).is_err());
    }
}
