//! The Lambda function `event-types`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    webhooks_runtime::start(webhooks_api::run(event_types::handle)).await
}
