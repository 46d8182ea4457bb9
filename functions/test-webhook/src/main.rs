//! The Lambda function `test-webhook`.

use std::process::ExitCode;
use std::sync::Arc;

use test_webhook::TestWebhook;
use webhooks_aws::Environment;
use webhooks_aws::clients::DYNAMODB;
use webhooks_outbound::GuardedClient;
use webhooks_runtime::{Error, start};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    start(async {
        let (api, problems) = Box::pin(prepare()).await?;
        webhooks_api::run(|request| api.handle(request), problems).await
    })
    .await
}

async fn prepare() -> Result<(TestWebhook, Option<String>), Error> {
    let environment = Environment::read();
    let api = environment.opening(&[DYNAMODB], function(&environment)).await?;
    Ok((api, environment.problem_base_url()?))
}

async fn function(environment: &Environment) -> Result<TestWebhook, Error> {
    let deliveries = environment.deliveries()?;
    Ok(TestWebhook::new(
        environment.subscriptions()?,
        environment.sealer().await?,
        deliveries.clone(),
        deliveries.clone(),
        deliveries,
        Arc::new(GuardedClient::new(environment.target_policy()?)?),
        environment.clock(),
        environment.random(),
        environment.retention()?,
    ))
}
