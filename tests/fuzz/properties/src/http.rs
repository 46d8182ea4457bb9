//! Bytes on a connection of the local gateway.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use test_support::{ManualClock, sample};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_util::sync::CancellationToken;
use webhooks_api::{AuthenticatedRequest, FALLBACK_ROUTES, ROUTES};
use webhooks_core::ports::Clock;
use webhooks_local::gateway::{self, Gateway, Handler, Route};
use webhooks_local::listener::{Bounds, connection};
use webhooks_local::token;

use crate::run;

/// The placeholder of a valid token of Alice in an input: a fuzzer cannot sign.
const TOKEN: &[u8] = b"{token}";
/// The statuses that the gateway itself responds with.
const STATUSES: [&str; 7] = ["200", "400", "401", "404", "413", "414", "431"];

/// Everything that a client sends on one connection.
pub fn gateway(input: &[u8]) {
    let handled = Arc::new(AtomicUsize::new(0));
    let sent = with_token(input);
    let responses = run(exchange(router(&handled), sent));
    let handled = handled.load(Ordering::SeqCst);
    let tokens = input.windows(TOKEN.len()).filter(|bytes| *bytes == TOKEN).count();
    assert!(handled <= tokens, "{handled} requests were let in with {tokens} tokens");

    let responses = String::from_utf8(responses).unwrap();
    let mut accepted = 0;
    let mut rest = responses.as_str();
    while !rest.is_empty() {
        let (head, after) = rest.split_once("\r\n\r\n").unwrap();
        let status = head.strip_prefix("HTTP/1.").and_then(|head| head.get(2..5)).unwrap();
        if status == "100" {
            rest = after;
            continue;
        }
        assert!(STATUSES.contains(&status), "{head}");
        accepted += usize::from(status == "200");
        // The response to HEAD tells of a body that does not follow.
        let length = if after.starts_with("HTTP/1.") { 0 } else { content_length(head) };
        let body = after.get(..length.min(after.len())).unwrap();
        if status != "200" && !body.is_empty() {
            // The gateway's own responses, and those of the listener before it.
            let is_error = body.starts_with("{\"message\":") || head.contains("/problem+json");
            assert!(is_error, "{head}{body}");
        }
        rest = &after[body.len()..];
    }
    assert_eq!(accepted, handled, "{responses}");
}

fn content_length(head: &str) -> usize {
    let lengths = head.lines().filter_map(|line| line.strip_prefix("content-length: "));
    lengths.map(|length| length.parse::<usize>().unwrap()).sum()
}

fn with_token(input: &[u8]) -> Vec<u8> {
    let token = token::issue(&sample::user("alice"), sample::start()).unwrap();
    let mut sent = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(TOKEN.len()).position(|bytes| bytes == TOKEN) {
        sent.extend(&rest[..at]);
        sent.extend(token.as_bytes());
        rest = &rest[at + TOKEN.len()..];
    }
    sent.extend(rest);
    sent
}

/// Every route of the API, with a function behind it that counts.
fn router(handled: &Arc<AtomicUsize>) -> Router {
    let handler = |key: String| -> Handler {
        let handled = handled.clone();
        Arc::new(move |request| {
            handled.fetch_add(1, Ordering::SeqCst);
            let request = AuthenticatedRequest::new(&request).unwrap();
            assert_eq!(request.caller().as_str(), "alice");
            assert_eq!(request.route(), key);
            // Whatever it has can be read or refused.
            let _ = (request.no_query(), request.optional_body());
            Box::pin(async { webhooks_api::json(StatusCode::OK, &"done").unwrap() })
        })
    };
    let routes = ROUTES.iter().chain(FALLBACK_ROUTES).map(|route| {
        let handler = handler(route.key());
        Route { method: route.method, path: route.path, is_public: false, handler }
    });
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let gateway = Arc::new(Gateway::new(routes.collect(), clock).unwrap());
    Router::new().fallback(gateway::serve).with_state(gateway)
}

/// Sends all and reads until the server has had enough. Time is not waited for: where the server
/// waits for more, its timeout comes immediately.
async fn exchange(router: Router, sent: Vec<u8>) -> Vec<u8> {
    let (mut client, server) = duplex(64 * 1024);
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let stop = CancellationToken::new();
    let served = connection(server, router, peer, Bounds::default(), stop);
    let mut responses = Vec::new();
    let talk = async {
        let (mut from, mut to) = tokio::io::split(&mut client);
        let write = async {
            // The server may have had enough before the end.
            let _ = to.write_all(&sent).await;
        };
        let ((), read) = tokio::join!(write, from.read_to_end(&mut responses));
        read.unwrap();
    };
    tokio::join!(served, talk);
    responses
}
