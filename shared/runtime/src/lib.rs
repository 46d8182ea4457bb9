//! What the `main` of every function shares: [`start`] sets up the logs and runs the function,
//! [`serve`] is that for a function of a queue or a schedule; for the API, `webhooks_api` has its
//! counterpart.
//!
//! Invalid configuration is found before the first event: one line in the log names the variable,
//! and the process ends, which Lambda reports as a failed init.
//!
//! Deliberately absent: AWS clients, so that a function that needs none links none.

pub mod telemetry;

use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a function was not made, or an event not handled.
pub type Error = lambda_runtime::Error;

/// Sets up the logs and runs a function for as long as Lambda keeps the process.
pub async fn start(function: impl Future<Output = Result<(), Error>>) -> ExitCode {
    let ended = async {
        telemetry::init()?;
        function.await
    };
    match ended.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the function cannot run");
            ExitCode::FAILURE
        }
    }
}

/// Makes a function and calls it with one event after the other.
pub async fn serve<T, E, R>(
    make: impl Future<Output = Result<T, Error>>,
    call: impl AsyncFn(&T, LambdaEvent<E>) -> Result<R, Error>,
) -> ExitCode
where
    E: DeserializeOwned,
    R: Serialize,
{
    start(async {
        let function = make.await?;
        lambda_runtime::run(service_fn(|event| call(&function, event))).await
    })
    .await
}
