//! The client against servers of its own, all on loopback.

mod bounds;
mod exchange;
mod name_server;
mod names;
mod receiver;
mod registry;
mod tls;
mod vectors;

use std::time::Duration;

use webhooks_core::outbound::{Failure, HttpResult, OutboundRequest, Outcome};
use webhooks_core::ports::Sender;
use webhooks_core::target::{TargetPolicy, TargetUrl};

use crate::GuardedClient;

/// Long enough that only a bug reaches it.
const AMPLE: Duration = Duration::from_secs(20);
/// For the tests in which the deadline is what is tested.
const SHORT: Duration = Duration::from_millis(200);

fn request(url: &str, timeout: Duration) -> OutboundRequest {
    OutboundRequest {
        url: TargetUrl::parse(url, TargetPolicy::Development).unwrap(),
        headers: vec![("content-type", "application/json".to_owned())],
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

/// Posts with a deadline that has to cut it off, and checks that it did.
async fn assert_cut_off(client: &GuardedClient, url: &str) {
    let HttpResult { outcome, duration_ms } = client.post(request(url, SHORT)).await;
    assert_eq!(failure(&outcome), Some(Failure::Timeout), "{outcome:?}");
    assert!(duration_ms >= 200, "{duration_ms} ms");
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
