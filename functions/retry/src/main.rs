//! The Lambda function `retry`.

use std::process::ExitCode;

use retry::Retry;
use serde::de::IgnoredAny;
use webhooks_aws::Environment;
use webhooks_runtime::{Error, serve};

/// Nothing of the schedule's event is needed.
type Event = lambda_runtime::LambdaEvent<IgnoredAny>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(Box::pin(make()), async |function, _: Event| Ok(function.handle().await?)).await
}

/// Besides making the function, remembers from when on the index of deliveries by status is complete: this
/// function runs within minutes of every deployment.
async fn make() -> Result<Retry, Error> {
    let environment = Environment::read();
    let deliveries = environment.deliveries()?;
    deliveries.begin_status_index().await?;
    Ok(Retry::new(
        deliveries.clone(),
        deliveries.clone(),
        deliveries,
        environment.deliveries_slow_queue()?,
        environment.clock(),
    ))
}
