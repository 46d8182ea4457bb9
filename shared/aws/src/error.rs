//! What an error of the SDK means to the ports: try again later, or our fault.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use webhooks_core::ports::{QueueError, Source, StoreError, Written};

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Trying again later may help.
    Unavailable(Source),
    /// Trying again does not help.
    Rejected(Source),
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(source) => Self::Unavailable(source),
            Fault::Rejected(source) => Self::Rejected(source),
        }
    }
}

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(source) => Self::Unavailable(source),
            Fault::Rejected(source) => Self::Rejected(source),
        }
    }
}

/// Sorts an error of the SDK.
pub(crate) fn fault<E>(error: SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let is_transient = match &error {
        SdkError::ServiceError(response) => {
            let code = response.err().code().unwrap_or_default();
            response.raw().status().is_server_error() || is_transient(code)
        }
        SdkError::ConstructionFailure(_) => false,
        _ => true,
    };
    if is_transient { Fault::Unavailable(error.into()) } else { Fault::Rejected(error.into()) }
}

/// Whether a fault that is returned status 4xx is transient: throttling under any of its names,
/// or a conflict with another request.
pub(crate) fn is_transient(code: &str) -> bool {
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
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match result {
        Ok(_) => Ok(Written::Applied),
        Err(error) if error.code() == Some("ConditionalCheckFailedException") => {
            Ok(Written::ConditionFailed)
        }
        Err(error) => Err(fault(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::put_item::PutItemError;
    use webhooks_core::ports::Chain;

    fn response(status: u16, code: &str) -> SdkError<PutItemError, HttpResponse> {
        let meta = ErrorMetadata::builder().code(code).message("why").build();
        let response = HttpResponse::new(status.try_into().unwrap(), "".into());
        SdkError::service_error(PutItemError::generic(meta), response)
    }

    #[test]
    fn only_transient_faults_are_unavailable() {
        for (status, code) in [
            (400, "ThrottlingException"),
            (400, "ProvisionedThroughputExceededException"),
            (400, "TransactionInProgressException"),
            (403, "RequestThrottled"),
            (500, "InternalServerError"),
            (503, "ServiceUnavailable"),
        ] {
            let Fault::Unavailable(source) = fault(response(status, code)) else {
                panic!("{code}")
            };
            let shown = Chain(&*source).to_string();
            assert!(shown.contains(code) && shown.contains("why"), "{shown}");
        }
        let timeout = SdkError::<PutItemError, HttpResponse>::timeout_error("3 s");
        let Fault::Unavailable(source) = fault(timeout) else { panic!("a timeout is transient") };
        assert!(Chain(&*source).to_string().contains("3 s"));
        for code in ["ValidationException", "ResourceNotFoundException", "AccessDeniedException"] {
            assert!(matches!(fault(response(400, code)), Fault::Rejected(_)), "{code}");
        }
    }

    #[test]
    fn condition_that_does_not_hold_is_no_error() {
        let conflict = Err::<(), _>(response(400, "ConditionalCheckFailedException"));
        assert_eq!(written(conflict).unwrap(), Written::ConditionFailed);
        assert!(written(Err::<(), _>(response(400, "ValidationException"))).is_err());
    }
}
