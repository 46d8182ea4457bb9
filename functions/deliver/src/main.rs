//! The Lambda function `deliver`.

use std::process::ExitCode;
use std::sync::Arc;

use deliver::Deliver;
use futures::future::join;
use webhooks_aws::Environment;
use webhooks_outbound::GuardedClient;
use webhooks_runtime::{Error, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(Box::pin(make()), async |function, event| Ok(function.handle(event.payload).await)).await
}

async fn make() -> Result<Deliver, Error> {
    let environment = Environment::read();
    let policy = environment.target_policy()?;
    let subscriptions = environment.subscriptions().await?;
    let queue = environment.deliveries_queue()?;
    let function = Deliver {
        subscriptions: subscriptions.clone(),
        deliveries: environment.deliveries()?,
        queue: queue.clone(),
        sender: Arc::new(GuardedClient::new(policy)?),
        clock: environment.clock(),
        random: environment.random(),
        policy,
        retention: environment.retention()?,
    };
    join(subscriptions.open_connection(), queue.open_connection()).await;
    Ok(function)
}
