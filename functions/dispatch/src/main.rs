//! The Lambda function `dispatch`.

use std::process::ExitCode;

use dispatch::Dispatch;
use futures::future::join;
use webhooks_aws::Environment;
use webhooks_runtime::{Error, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(Box::pin(make()), async |function, event| Ok(function.handle(event.payload).await)).await
}

/// No connection to the dead-letter queue: few events need it.
async fn make() -> Result<Dispatch, Error> {
    let environment = Environment::read();
    let subscriptions = environment.subscriptions_without_secrets()?;
    let queue = environment.deliveries_queue()?;
    let function = Dispatch {
        subscriptions: subscriptions.clone(),
        queue: queue.clone(),
        dead_letters: environment.events_dlq()?,
    };
    join(subscriptions.open_connection(), queue.open_connection()).await;
    Ok(function)
}
