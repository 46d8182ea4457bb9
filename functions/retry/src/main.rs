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
    serve(async { make() }, async |function, _: Event| Ok(function.handle().await?)).await
}

/// No connection is opened: nobody waits for the first event.
fn make() -> Result<Retry, Error> {
    let environment = Environment::read();
    let deliveries = environment.deliveries()?;
    Ok(Retry::new(
        deliveries.clone(),
        deliveries.clone(),
        deliveries,
        environment.deliveries_slow_queue()?,
        environment.clock(),
    ))
}
