//! The client against servers of its own, all on loopback.

mod bounds;
mod exchange;
mod http2;
mod name_server;
mod names;
mod pool;
mod receiver;
mod registry;
mod tls;
mod vectors;

use std::time::Duration;

use webhooks_core::outbound::{Failure, HttpResult, OutboundRequest, Outcome};
use webhooks_core::ports::Sender;
use webhooks_core::target::TargetPolicy;

use rustls::pki_types::ServerName;
use url::Url;

use crate::GuardedClient;

/// Long enough that only a bug reaches it.
const AMPLE: Duration = Duration::from_secs(20);
/// For the tests in which the deadline is what is tested.
const SHORT: Duration = Duration::from_millis(200);

fn request(url: &str, timeout: Duration) -> OutboundRequest {
    OutboundRequest {
        url: url.to_owned(),
        headers: vec![("content-type", "application/json".to_owned())],
        owner_headers: Vec::new(),
        wait: Duration::ZERO,
        body: "{}".to_owned(),
        timeout,
    }
}

fn development() -> GuardedClient {
    GuardedClient::with_name_servers(TargetPolicy::Development, &[]).unwrap()
}

async fn post(client: &GuardedClient, url: &str) -> Outcome {
    client.post(request(url, AMPLE)).await.outcome
}

/// Posts with a short deadline, and checks that the attempt lasted until it passed.
async fn post_past_deadline(client: &GuardedClient, url: &str) -> Outcome {
    let HttpResult { outcome, duration_ms, .. } = client.post(request(url, SHORT)).await;
    assert!((200..10_000).contains(&duration_ms), "{duration_ms} ms: {outcome:?}");
    outcome
}

fn failure(outcome: &Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Response { .. } => None,
        Outcome::NoResponse { failure, .. } => Some(*failure),
    }
}

fn status(outcome: &Outcome) -> Option<u16> {
    match outcome {
        Outcome::Response { status, .. } => Some(*status),
        Outcome::NoResponse { .. } => None,
    }
}

fn excerpt(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Response { excerpt, .. } => excerpt,
        Outcome::NoResponse { .. } => panic!("{outcome:?}"),
    }
}

/// Whether TLS can ask for a certificate of the URL's host.
fn has_server_name(url: &Url) -> bool {
    let host = url.host_str().unwrap().trim_matches(['[', ']']);
    ServerName::try_from(host).is_ok()
}
