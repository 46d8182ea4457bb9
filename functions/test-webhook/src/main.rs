//! The Lambda function `test-webhook`.

use std::process::ExitCode;
use std::sync::Arc;

use test_webhook::TestWebhook;
use webhooks_aws::Environment;
use webhooks_outbound::GuardedClient;
use webhooks_runtime::{Error, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(Box::pin(make()), async |function, event| Ok(function.handle(event.payload).await)).await
}

async fn make() -> Result<TestWebhook, Error> {
    let environment = Environment::read();
    let policy = environment.target_policy()?;
    let subscriptions = environment.subscriptions().await?;
    let function = TestWebhook {
        subscriptions: subscriptions.clone(),
        deliveries: environment.deliveries()?,
        sender: Arc::new(GuardedClient::new(policy)?),
        clock: environment.clock(),
        random: environment.random(),
        policy,
        retention: environment.retention()?,
    };
    subscriptions.open_connection().await;
    Ok(function)
}
