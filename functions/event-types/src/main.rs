//! The Lambda function `event-types`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    webhooks_runtime::serve(async { Ok(()) }, async |&(), event| {
        Ok(event_types::handle(event.payload).await)
    })
    .await
}
