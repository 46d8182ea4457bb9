//! The Lambda function `dispatch`.

use std::process::ExitCode;

use dispatch::Dispatch;
use webhooks_aws::Environment;
use webhooks_aws::clients::{DYNAMODB, SQS};
use webhooks_runtime::{Error, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(Box::pin(make()), async |function, event| Ok(function.handle(event.payload).await)).await
}

async fn make() -> Result<Dispatch, Error> {
    let environment = Environment::read();
    environment.opening(&[DYNAMODB, SQS], async { function(&environment) }).await
}

fn function(environment: &Environment) -> Result<Dispatch, Error> {
    Ok(Dispatch::new(
        environment.subscriptions()?,
        environment.deliveries_queue()?,
        environment.deliveries_slow_queue()?,
        environment.events_dlq()?,
    )
    .with_strict_event_data(environment.strict_event_data()?))
}
