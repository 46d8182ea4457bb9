//! Publishes an event onto the queue whose URL is given, and two more in one request.
//!
//! Region, credentials and endpoint come from the usual environment variables of AWS
//! (`AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL_SQS`).

#![expect(clippy::print_stdout, reason = "the example shows what it did")]

use aws_config::BehaviorVersion;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use webhooks_publisher::data::{EmailReceived, TaskCompleted};
use webhooks_publisher::{Event, Publisher};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let queue_url = args.next().ok_or("usage: publish QUEUE_URL [USER_ID]")?;
    let user_id = args.next().unwrap_or_else(|| "alice".to_owned());

    // The client and the publisher are made once, at the start of the service.
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    let publisher = Publisher::new(aws_sdk_sqs::Client::new(&config), queue_url);

    // One event: one function per event type.
    let email = EmailReceived {
        email_id: "msg-123".to_owned(),
        subject: Some("Meeting Reminder".to_owned()),
        from: Some("john@example.com".to_owned()),
        ..EmailReceived::default()
    };
    println!("accepted {}", publisher.email_received(&user_id, email).await?);

    // Many events in one request.
    let completed = |task_id: &str| {
        let task = TaskCompleted { task_id: task_id.to_owned(), ..TaskCompleted::default() };
        Event::new(&user_id, &task)
    };
    for id in publisher.publish_all(vec![completed("task-7"), completed("task-8")]).await? {
        println!("accepted {id}");
    }
    Ok(())
}
