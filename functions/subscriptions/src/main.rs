//! The Lambda function `subscriptions`.

use std::process::ExitCode;

use subscriptions::SubscriptionsApi;
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

async fn prepare() -> Result<(SubscriptionsApi, Option<String>), Error> {
    let environment = Environment::read();
    let api = environment.opening(&[DYNAMODB], function(&environment)).await?;
    Ok((api, environment.problem_base_url()?))
}

async fn function(environment: &Environment) -> Result<SubscriptionsApi, Error> {
    let deliveries = environment.deliveries()?;
    Ok(SubscriptionsApi::new(
        environment.subscriptions()?,
        environment.sealer().await?,
        deliveries.clone(),
        deliveries,
        environment.deliveries_slow_queue()?,
        environment.clock(),
        environment.random(),
        environment.target_policy()?,
        environment.retention()?,
    )
    .with_default_schedule(environment.default_retry_schedule()?)
    .with_endpoint_verification(environment.endpoint_verification()?))
}
