//! The Lambda function `test-webhook`.

use std::process::ExitCode;
use std::sync::Arc;

use test_webhook::TestWebhook;
use webhooks_aws::Environment;
use webhooks_aws::clients::DYNAMODB;
use webhooks_outbound::GuardedClient;
use webhooks_runtime::{Error, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(Box::pin(make()), async |function, event| Ok(function.handle(event.payload).await)).await
}

async fn make() -> Result<TestWebhook, Error> {
    let environment = Environment::read();
    environment.opening(&[DYNAMODB], function(&environment)).await
}

async fn function(environment: &Environment) -> Result<TestWebhook, Error> {
    let policy = environment.target_policy()?;
    let deliveries = environment.deliveries()?;
    Ok(TestWebhook {
        subscriptions: environment.subscriptions().await?,
        deliveries: deliveries.clone(),
        statistics: deliveries,
        sender: Arc::new(GuardedClient::new(policy)?),
        clock: environment.clock(),
        random: environment.random(),
        policy,
        retention: environment.retention()?,
    })
}
