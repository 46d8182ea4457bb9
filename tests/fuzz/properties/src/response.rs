//! Responses of receivers.

use std::time::Duration;

use test_support::sample;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use webhooks_core::delivery::{Attempt, Trigger};
use webhooks_core::kept_headers::KeptHeaders;
use webhooks_core::limits::{
    ERROR_KEEP_BYTES, RESPONSE_KEEP_BYTES, RETRY_AFTER_MAX_SECONDS, RETRY_COUNT_MAX,
};
use webhooks_core::outbound::{Failure, HttpResult, OutboundRequest, Outcome, RetryAfter};
use webhooks_core::ports::Sender as _;
use webhooks_core::retry::{JITTER_MAX_PER_MILLE, Next, RetryPolicy};
use webhooks_core::schedule::RetrySchedule;
use webhooks_core::target::TargetPolicy;
use webhooks_outbound::GuardedClient;

use crate::text;

/// Long enough that only a bug reaches it: the server closes the connection after its response.
const AMPLE: Duration = Duration::from_secs(20);

/// The value of a `Retry-After` header.
pub fn retry_after(input: &[u8]) {
    let Some(value) = text(input) else { return };
    let after = RetryAfter::parse(value);
    let digits = value.trim();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = digits.parse().unwrap_or(u64::MAX);
        assert_eq!(after, Some(RetryAfter::Seconds(seconds)));
    }
    assert_eq!(RetryAfter::parse(&format!(" {value}\t")), after, "space around it matters");

    let now = sample::start();
    let schedule = RetrySchedule::Exponential { retry_count: RETRY_COUNT_MAX };
    let policy = RetryPolicy { schedule: &schedule };
    let decide = |retry_after| {
        let outcome = Outcome::Response { status: 503, retry_after, excerpt: String::new() };
        let Next::RetryAt(at) = policy.decide(1, &outcome, now, JITTER_MAX_PER_MILLE) else {
            panic!("a 503 is retried");
        };
        now.until(at)
    };
    let wait = decide(after);
    assert!(wait >= decide(None), "it shortens the wait");
    let most = Duration::from_secs(RETRY_AFTER_MAX_SECONDS);
    assert!(wait <= most + most / 10, "{wait:?}");
}

/// Everything that a receiver sends on one connection, read by the client that is deployed.
pub fn response(input: &[u8]) {
    thread_local! {
        // Real sockets need the real time.
        static CLIENT: (Runtime, GuardedClient) = (
            Builder::new_current_thread().enable_all().build().unwrap(),
            GuardedClient::with_name_servers(TargetPolicy::Development, &[]).unwrap(),
        );
    }
    let response = CLIENT.with(|(runtime, client)| runtime.block_on(exchange(client, input)));
    let attempt = Attempt::new(sample::start(), Trigger::Event, KeptHeaders::default(), &response);
    assert!(attempt.response_excerpt.len() <= RESPONSE_KEEP_BYTES);
    assert!(attempt.no_response.as_ref().is_none_or(|none| none.detail.len() <= ERROR_KEEP_BYTES));
    match &response.outcome {
        Outcome::Response { status, excerpt, .. } => {
            // Only 101 of the 1xx statuses ends an exchange.
            assert!(matches!(status, 101 | 200..=999), "{status} ends no exchange");
            assert!(excerpt.len() <= RESPONSE_KEEP_BYTES);
            assert_eq!(attempt.error().is_none(), (200..=299).contains(status));
            // Nothing is made a response that does not begin as one, but for empty lines before it.
            let begun = input.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
            assert!(input[begun..].starts_with(b"HTTP/1."), "the response does not begin as one");
        }
        Outcome::NoResponse { failure, detail } => {
            assert!(!detail.is_empty() && attempt.error().is_some());
            assert_ne!(*failure, Failure::Timeout, "it waits for what cannot come");
            assert_ne!(*failure, Failure::Blocked, "{detail}");
        }
    }
}

async fn exchange(client: &GuardedClient, bytes: &[u8]) -> HttpResult {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, bytes).await;
        // The client ends the exchange.
        std::future::pending::<()>().await;
    };
    let request = OutboundRequest {
        url,
        headers: vec![("content-type", "application/json".to_owned())],
        owner_headers: Vec::new(),
        wait: Duration::ZERO,
        body: "{}".to_owned(),
        timeout: AMPLE,
    };
    tokio::select! {
        response = client.post(request) => response,
        () = server => unreachable!("it never ends"),
    }
}

/// Reads the request, responds with these bytes, and hangs up.
async fn serve(mut stream: TcpStream, bytes: &[u8]) {
    let mut request = Vec::new();
    while !request.ends_with(b"{}") {
        if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    // The client may have had enough before the end.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
}
