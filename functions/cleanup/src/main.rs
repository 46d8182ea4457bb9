//! The Lambda function `cleanup`.

use std::process::ExitCode;

use cleanup::{Cleanup, Request, Reseal, ResealRequest};
use lambda_runtime::LambdaEvent;
use serde_json::{Value, to_value};
use webhooks_aws::Environment;
use webhooks_core::time::Timestamp;
use webhooks_runtime::{Error, serve};

/// How long before Lambda ends the function it stops by itself. A step takes far less.
const MARGIN_MS: i64 = 30_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async { make() }, async |function, event: LambdaEvent<Request>| {
        let ends = i64::try_from(event.context.deadline).unwrap_or(i64::MAX);
        let deadline = Timestamp::from_millis(ends.saturating_sub(MARGIN_MS));
        match event.payload.reseal.clone() {
            Some(request) => Box::pin(reseal(request, deadline)).await,
            None => Ok(to_value(function.handle(event.payload, deadline).await?)?),
        }
    })
    .await
}

/// Reads the keys only now: the cleanup does not need them.
async fn reseal(request: ResealRequest, deadline: Timestamp) -> Result<Value, Error> {
    let environment = Environment::read();
    let sealer = environment.sealer().await?;
    let reseal = Reseal::new(environment.subscriptions()?, sealer, environment.clock());
    Ok(to_value(reseal.handle(request, deadline).await?)?)
}

/// No connection is opened: nobody waits for the first event.
fn make() -> Result<Cleanup, Error> {
    let environment = Environment::read();
    Ok(Cleanup::new(
        environment.subscriptions()?,
        environment.deliveries()?,
        environment.clock(),
        environment.retention_days()?,
    ))
}
