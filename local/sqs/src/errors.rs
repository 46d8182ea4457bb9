//! SQS's error codes in all their spellings.
//!
//! The JSON protocol names an error by its shape (`QueueDoesNotExist`); the header
//! `x-amzn-query-error` carries the code of the older query protocol
//! (`AWS.SimpleQueueService.NonExistentQueue`), which is what boto3 shows. Both must be right.
//! Source: the `awsQueryError` and `httpError` traits of the `sqs-2012-11-05` service model.

use thiserror::Error;

/// The prefix that the query protocol puts before some of its codes.
const QUERY_PREFIX: &str = "AWS.SimpleQueueService.";

/// What kind of error it is, named as the JSON protocol names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are AWS's own and documented there")]
pub enum Code {
    BatchEntryIdsNotDistinct,
    BatchRequestTooLong,
    EmptyBatchRequest,
    InternalFailure,
    InvalidAttributeName,
    InvalidAttributeValue,
    InvalidBatchEntryId,
    InvalidMessageContents,
    InvalidParameterValue,
    MessageNotInflight,
    MissingParameter,
    OverLimit,
    PurgeQueueInProgress,
    QueueDoesNotExist,
    QueueNameExists,
    ReceiptHandleIsInvalid,
    RequestTooLarge,
    ResourceNotFound,
    Serialization,
    TooManyEntriesInBatchRequest,
    UnknownOperation,
    UnsupportedOperation,
}

impl Code {
    /// Shape name with namespace (`__type`), query code, HTTP status.
    const fn names(self) -> (&'static str, &'static str, u16) {
        match self {
            Self::BatchEntryIdsNotDistinct => (
                "com.amazonaws.sqs#BatchEntryIdsNotDistinct",
                "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
                400,
            ),
            Self::BatchRequestTooLong => (
                "com.amazonaws.sqs#BatchRequestTooLong",
                "AWS.SimpleQueueService.BatchRequestTooLong",
                400,
            ),
            Self::EmptyBatchRequest => (
                "com.amazonaws.sqs#EmptyBatchRequest",
                "AWS.SimpleQueueService.EmptyBatchRequest",
                400,
            ),
            Self::InternalFailure => {
                ("com.amazon.coral.service#InternalFailure", "InternalFailure", 500)
            }
            Self::InvalidAttributeName => {
                ("com.amazonaws.sqs#InvalidAttributeName", "InvalidAttributeName", 400)
            }
            Self::InvalidAttributeValue => {
                ("com.amazonaws.sqs#InvalidAttributeValue", "InvalidAttributeValue", 400)
            }
            Self::InvalidBatchEntryId => (
                "com.amazonaws.sqs#InvalidBatchEntryId",
                "AWS.SimpleQueueService.InvalidBatchEntryId",
                400,
            ),
            Self::InvalidMessageContents => {
                ("com.amazonaws.sqs#InvalidMessageContents", "InvalidMessageContents", 400)
            }
            Self::InvalidParameterValue => (
                "com.amazon.coral.service#InvalidParameterValueException",
                "InvalidParameterValue",
                400,
            ),
            Self::MessageNotInflight => (
                "com.amazonaws.sqs#MessageNotInflight",
                "AWS.SimpleQueueService.MessageNotInflight",
                400,
            ),
            Self::MissingParameter => (
                "com.amazon.coral.service#MissingRequiredParameterException",
                "MissingParameter",
                400,
            ),
            Self::OverLimit => ("com.amazonaws.sqs#OverLimit", "OverLimit", 403),
            Self::PurgeQueueInProgress => (
                "com.amazonaws.sqs#PurgeQueueInProgress",
                "AWS.SimpleQueueService.PurgeQueueInProgress",
                403,
            ),
            Self::QueueDoesNotExist => (
                "com.amazonaws.sqs#QueueDoesNotExist",
                "AWS.SimpleQueueService.NonExistentQueue",
                400,
            ),
            Self::QueueNameExists => {
                ("com.amazonaws.sqs#QueueNameExists", "QueueAlreadyExists", 400)
            }
            Self::ReceiptHandleIsInvalid => {
                ("com.amazonaws.sqs#ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 404)
            }
            Self::RequestTooLarge => {
                ("com.amazon.coral.service#RequestEntityTooLarge", "RequestEntityTooLarge", 413)
            }
            Self::ResourceNotFound => {
                ("com.amazonaws.sqs#ResourceNotFoundException", "ResourceNotFoundException", 404)
            }
            Self::Serialization => {
                ("com.amazon.coral.service#SerializationException", "SerializationException", 400)
            }
            Self::TooManyEntriesInBatchRequest => (
                "com.amazonaws.sqs#TooManyEntriesInBatchRequest",
                "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
                400,
            ),
            Self::UnknownOperation => (
                "com.amazon.coral.service#UnknownOperationException",
                "UnknownOperationException",
                400,
            ),
            Self::UnsupportedOperation => (
                "com.amazonaws.sqs#UnsupportedOperation",
                "AWS.SimpleQueueService.UnsupportedOperation",
                400,
            ),
        }
    }

    /// The value of `__type` in a JSON error body.
    pub const fn shape(self) -> &'static str {
        self.names().0
    }

    /// The code of the query protocol, which boto3 shows to its users.
    pub const fn query_code(self) -> &'static str {
        self.names().1
    }

    /// The code in the `Failed` list of a batch, where AWS writes no prefix.
    pub fn entry_code(self) -> &'static str {
        let code = self.query_code();
        code.strip_prefix(QUERY_PREFIX).unwrap_or(code)
    }

    /// The HTTP status of the answer.
    pub const fn status(self) -> u16 {
        self.names().2
    }

    /// Whether the caller is to blame.
    pub const fn sender_fault(self) -> bool {
        self.status() < 500
    }
}

/// A request that was refused, or (only [`Code::InternalFailure`]) that we failed to serve.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {message}", code.query_code())]
pub struct SqsError {
    /// Which of SQS's errors it is.
    pub code: Code,
    /// AWS's wording where it is known.
    pub message: String,
}

impl SqsError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::new(
            Code::MissingParameter,
            format!("The request must contain the parameter {parameter}."),
        )
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameterValue, message)
    }

    pub(crate) fn parameter(
        value: impl std::fmt::Display,
        parameter: &str,
        reason: impl std::fmt::Display,
    ) -> Self {
        Self::invalid(format!(
            "Value {value} for parameter {parameter} is invalid. Reason: {reason}"
        ))
    }

    pub(crate) fn no_queue() -> Self {
        Self::new(Code::QueueDoesNotExist, "The specified queue does not exist.")
    }

    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(Code::InternalFailure, cause.to_string())
    }
}
