//! The error codes of SQS in each protocol.
//!
//! The JSON protocol names an error by its shape (`QueueDoesNotExist`); the header
//! `x-amzn-query-error` carries the code of the older query protocol
//! (`AWS.SimpleQueueService.NonExistentQueue`), which is what boto3 shows. Both must be right.
//! Source: the `awsQueryError` and `httpError` traits of the `sqs-2012-11-05` service model.

use thiserror::Error;

/// The kind of an error, named as the JSON protocol names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    RequestEntityTooLarge,
    ResourceNotFound,
    Serialization,
    TooManyEntriesInBatchRequest,
    UnknownOperation,
    UnsupportedOperation,
}

impl Code {
    /// The value of `__type` in a JSON error body.
    pub fn shape(self) -> String {
        let common = |name: &str| format!("com.amazon.coral.service#{name}");
        match self {
            Self::InternalFailure | Self::RequestEntityTooLarge => common(&format!("{self:?}")),
            Self::MissingParameter => common("MissingRequiredParameterException"),
            Self::InvalidParameterValue | Self::Serialization | Self::UnknownOperation => {
                common(&format!("{self:?}Exception"))
            }
            Self::ResourceNotFound => format!("com.amazonaws.sqs#{self:?}Exception"),
            _ => format!("com.amazonaws.sqs#{self:?}"),
        }
    }

    /// The code of the query protocol, which boto3 shows to its users.
    pub fn query_code(self) -> String {
        match self {
            Self::BatchEntryIdsNotDistinct
            | Self::BatchRequestTooLong
            | Self::EmptyBatchRequest
            | Self::InvalidBatchEntryId
            | Self::MessageNotInflight
            | Self::PurgeQueueInProgress
            | Self::QueueDoesNotExist
            | Self::TooManyEntriesInBatchRequest
            | Self::UnsupportedOperation => {
                format!("AWS.SimpleQueueService.{}", self.entry_code())
            }
            _ => self.entry_code(),
        }
    }

    /// The code in the `Failed` list of a batch, where AWS writes no prefix.
    pub fn entry_code(self) -> String {
        match self {
            Self::QueueDoesNotExist => "NonExistentQueue".to_owned(),
            Self::QueueNameExists => "QueueAlreadyExists".to_owned(),
            Self::ResourceNotFound | Self::Serialization | Self::UnknownOperation => {
                format!("{self:?}Exception")
            }
            _ => format!("{self:?}"),
        }
    }

    /// The HTTP status of the response.
    pub const fn status(self) -> u16 {
        match self {
            Self::OverLimit | Self::PurgeQueueInProgress => 403,
            Self::ReceiptHandleIsInvalid | Self::ResourceNotFound => 404,
            Self::RequestEntityTooLarge => 413,
            Self::InternalFailure => 500,
            _ => 400,
        }
    }

    /// Whether the caller is to blame.
    pub const fn is_sender_fault(self) -> bool {
        self.status() < 500
    }
}

/// A request that was refused, or (only [`Code::InternalFailure`]) that we failed to serve.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {message}", code.query_code())]
pub struct SqsError {
    /// The kind.
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
