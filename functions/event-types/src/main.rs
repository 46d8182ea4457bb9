//! The Lambda function `event-types`.

use std::process::ExitCode;

use webhooks_aws::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    webhooks_runtime::start(async {
        let environment = Settings::from_env();
        let problems = environment.problem_base_url()?;
        webhooks_api::run(event_types::handle, problems).await
    })
    .await
}
