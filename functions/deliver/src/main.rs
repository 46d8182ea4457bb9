//! The Lambda function `deliver`.

use std::process::ExitCode;
use std::sync::Arc;

use deliver::Deliver;
use webhooks_aws::Environment;
use webhooks_aws::clients::DYNAMODB;
use webhooks_core::ports::EventBus;
use webhooks_outbound::GuardedClient;
use webhooks_runtime::{Error, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(Box::pin(make()), async |function, event| Ok(function.handle(event.payload).await)).await
}

/// No connection to the queue: a delivery that succeeds needs none.
async fn make() -> Result<Deliver, Error> {
    let environment = Environment::read();
    environment.opening(&[DYNAMODB], function(&environment)).await
}

async fn function(environment: &Environment) -> Result<Deliver, Error> {
    let deliveries = environment.deliveries()?;
    let event_bus = environment.operational_event_bus().map(|bus| bus as Arc<dyn EventBus>);
    Ok(Deliver::new(
        environment.subscriptions()?,
        environment.sealer().await?,
        deliveries.clone(),
        deliveries.clone(),
        deliveries,
        environment.deliveries_queue()?,
        environment.deliveries_slow_queue()?,
        Arc::new(GuardedClient::new(environment.target_policy()?)?),
        environment.clock(),
        environment.timer(),
        environment.random(),
        environment.retention()?,
    )
    .with_event_bus(event_bus))
}
