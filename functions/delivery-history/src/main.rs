//! The Lambda function `deliveries`.

use std::process::ExitCode;

use delivery_history::DeliveryHistory;
use webhooks_aws::Environment;
use webhooks_aws::clients::DYNAMODB;
use webhooks_runtime::{Error, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(Box::pin(make()), async |function, event| Ok(function.handle(event.payload).await)).await
}

/// No connection to the queue: few requests need it.
async fn make() -> Result<DeliveryHistory, Error> {
    let environment = Environment::read();
    environment.opening(&[DYNAMODB], async { function(&environment) }).await
}

fn function(environment: &Environment) -> Result<DeliveryHistory, Error> {
    Ok(DeliveryHistory {
        subscriptions: environment.subscriptions_without_secrets()?,
        deliveries: environment.deliveries()?,
        queue: environment.deliveries_queue()?,
        clock: environment.clock(),
        random: environment.random(),
    })
}
