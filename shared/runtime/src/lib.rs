//! What the `main` of every function shares: the logs, and serving Lambda's events.
//!
//! A function's `main` names how it is made and how it is called; [`serve`] does the rest. What is
//! wrong with the configuration is found before the first event: one line in the log names the
//! variable, and the process ends, which Lambda reports as a failed init.
//!
//! Deliberately absent: AWS clients, so that a function that needs none links none.

pub mod telemetry;

use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a function was not made, or an event not handled.
pub type Error = lambda_runtime::Error;

/// Starts the logs, makes the function, and hands it one event after the other for as long as
/// Lambda keeps the process.
pub async fn serve<T, E, R>(
    make: impl Future<Output = Result<T, Error>>,
    call: impl AsyncFn(&T, LambdaEvent<E>) -> Result<R, Error>,
) -> ExitCode
where
    E: DeserializeOwned,
    R: Serialize,
{
    let ended = async {
        telemetry::init()?;
        let function = make.await?;
        lambda_runtime::run(service_fn(|event| call(&function, event))).await
    };
    match ended.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the function cannot run");
            ExitCode::FAILURE
        }
    }
}
