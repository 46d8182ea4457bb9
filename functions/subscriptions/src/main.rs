//! The Lambda function `subscriptions`.

use std::process::ExitCode;

use subscriptions::SubscriptionsApi;
use webhooks_aws::Environment;
use webhooks_aws::clients::DYNAMODB;
use webhooks_runtime::{Error, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(Box::pin(make()), async |function, event| Ok(function.handle(event.payload).await)).await
}

async fn make() -> Result<SubscriptionsApi, Error> {
    let environment = Environment::read();
    environment.opening(&[DYNAMODB], function(&environment)).await
}

async fn function(environment: &Environment) -> Result<SubscriptionsApi, Error> {
    Ok(SubscriptionsApi {
        subscriptions: environment.subscriptions().await?,
        statistics: environment.deliveries()?,
        clock: environment.clock(),
        random: environment.random(),
        policy: environment.target_policy()?,
        retention: environment.retention()?,
    })
}
