//! The Lambda function `delivery-history`.

use std::process::ExitCode;

use delivery_history::DeliveryHistory;
use webhooks_aws::Environment;
use webhooks_aws::clients::DYNAMODB;
use webhooks_runtime::{Error, start};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    start(async {
        let (api, problems) = Box::pin(prepare()).await?;
        webhooks_api::run(|request| api.handle(request), problems).await
    })
    .await
}

/// No connection to the queue: few requests need it.
async fn prepare() -> Result<(DeliveryHistory, Option<String>), Error> {
    let environment = Environment::read();
    let api = environment.opening(&[DYNAMODB], async { function(&environment) }).await?;
    Ok((api, environment.problem_base_url()?))
}

fn function(environment: &Environment) -> Result<DeliveryHistory, Error> {
    let deliveries = environment.deliveries()?;
    Ok(DeliveryHistory::new(
        environment.subscriptions()?,
        deliveries.clone(),
        deliveries,
        environment.deliveries_slow_queue()?,
        environment.clock(),
        environment.random(),
        environment.retention()?,
    ))
}
