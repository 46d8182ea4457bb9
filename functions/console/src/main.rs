//! The Lambda function `console`.

use std::process::ExitCode;
use std::sync::Arc;

use console::{Console, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    webhooks_runtime::start(async {
        let console = Arc::new(Console::new(&Settings::from_environment()?));
        let handler = move |request| {
            let console = console.clone();
            async move { console.handle(&request) }
        };
        webhooks_api::run(handler, None).await
    })
    .await
}
