//! Why a command ends without having done what it was asked for, and the exit code of each reason.

use std::io;
use std::process::ExitCode;

/// The reason. Its text is what the user reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It was done, and the result is a failure: a test that got no 2xx, a signature that is not valid.
    #[error("{0}")]
    Failed(String),
    /// A flag, an argument or a file is wrong.
    #[error("{0}")]
    Usage(String),
    /// There is no such webhook, delivery or recovery.
    #[error("{0}")]
    NotFound(String),
    /// The service refuses it: token, scope, limit or state.
    #[error("{0}")]
    Refused(String),
    /// The service cannot be reached or fails.
    #[error("{0}")]
    Unavailable(String),
    /// Whoever read the output has closed it, which is no error.
    #[error("the output is closed")]
    OutputClosed,
}

impl Error {
    /// The exit code, as docs/CLI.md lists it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::OutputClosed => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Refused(_) => 4,
            Self::Unavailable(_) => 5,
        })
    }
}

/// Of the output. Errors of files are made where the file is known.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("cannot write the output: {error}")),
        }
    }
}
