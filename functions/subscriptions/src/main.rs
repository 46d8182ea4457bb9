//! The Lambda function `subscriptions`.

use std::process::ExitCode;

use subscriptions::SubscriptionsApi;
use webhooks_aws::Environment;
use webhooks_runtime::{Error, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(Box::pin(make()), async |function, event| Ok(function.handle(event.payload).await)).await
}

async fn make() -> Result<SubscriptionsApi, Error> {
    let environment = Environment::read();
    let subscriptions = environment.subscriptions().await?;
    let function = SubscriptionsApi {
        subscriptions: subscriptions.clone(),
        deliveries: environment.deliveries()?,
        clock: environment.clock(),
        random: environment.random(),
        policy: environment.target_policy()?,
        retention: environment.retention()?,
    };
    subscriptions.open_connection().await;
    Ok(function)
}
