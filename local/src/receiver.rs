//! A receiver for trying things out: it prints and verifies each webhook, and its path selects the
//! response.
//!
//! It reads the secrets from the Subscriptions table, which only this process can do: a real receiver
//! gets its secret once, when the webhook is created. It verifies as a real receiver does, over the
//! raw bytes: the reference's header, and Standard Webhooks with its check of the timestamp.
//!
//! | path | response |
//! |---|---|
//! | `/fail/N` | 500 to the first N attempts of each delivery, then 200 |
//! | `/status/CODE` | that status |
//! | `/slow/SECONDS` | 200 after that time |
//! | `/gone` | 410 |
//! | `GET /received` | the last 1,000 requests, newest last |
//! | anything else | 200 |

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use url::{Host, Url};
use webhooks_core::ports::{Clock, Consistency, StoreError, Subscriptions};
use webhooks_core::secret::SecretOpener;
use webhooks_core::signature::{SIGNATURE_HEADER, verify_reference, verify_standard};
use webhooks_core::signing_key::SigningKey;
use webhooks_core::time::Timestamp;

use crate::terminal::say;

/// How many requests are kept.
const KEPT: usize = 1_000;
/// Larger than any delivery: 256 KiB of data with every character escaped.
const BODY_BYTES: usize = 4 * 1024 * 1024;
/// The tolerance of the timestamp (Standard Webhooks 1.0 advises five minutes).
const TOLERANCE_SECONDS: u64 = 5 * 60;
/// The longest delay of a response.
const SLOW_MAX: Duration = Duration::from_mins(2);
/// How much of a body is printed, in characters.
const EXCERPT_CHARS: usize = 100;
const PAGE: usize = 100;

/// One request.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// When.
    pub received_at: Timestamp,
    /// Path and query.
    pub path: String,
    /// `X-Webhook-Event`.
    pub event_type: Option<String>,
    /// `X-Webhook-Delivery-Id`.
    pub delivery_id: Option<String>,
    /// `X-Webhook-Attempt`.
    pub attempt: Option<u32>,
    /// Which signatures are valid.
    pub signature: Verification,
    /// The status of the response.
    pub status: u16,
    /// Every header, with its name in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, with invalid UTF-8 replaced.
    pub body: String,
}

/// Which signatures are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Whether any webhook points here, so that there is a secret to verify with.
    pub secret_known: bool,
    /// `X-Webhook-Signature`.
    pub reference: bool,
    /// `webhook-signature`, and the timestamp is recent.
    pub standard: bool,
}

impl Verification {
    /// Whether both are valid.
    pub fn is_valid(self) -> bool {
        self.reference && self.standard
    }
}

/// A webhook that points here.
struct Known {
    path: String,
    keys: Vec<SigningKey>,
}

/// The receiver.
pub struct Receiver {
    subscriptions: Arc<dyn Subscriptions>,
    opener: Arc<dyn SecretOpener>,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
    prints: bool,
    received: Mutex<VecDeque<Received>>,
    known: tokio::sync::Mutex<Vec<Known>>,
}

impl Receiver {
    /// A receiver that listens at `address` and, with `prints`, prints one line per request.
    pub fn new(
        subscriptions: Arc<dyn Subscriptions>,
        opener: Arc<dyn SecretOpener>,
        clock: Arc<dyn Clock>,
        address: SocketAddr,
        prints: bool,
    ) -> Self {
        let (received, known) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { subscriptions, opener, clock, address, prints, received, known }
    }

    /// The requests so far, newest last.
    pub fn received(&self) -> Vec<Received> {
        self.kept().iter().cloned().collect()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<Received>> {
        // A panic leaves no entry half changed.
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn receive(&self, request: &Parts, body: &Bytes) -> ScriptedResponse {
        let header = |name: &str| text(&request.headers, name);
        let attempt = header("x-webhook-attempt").and_then(|attempt| attempt.parse().ok());
        let response = ScriptedResponse::of(request.uri.path(), attempt);
        let path = request.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let signature = self.verify(&request.headers, &path, body).await;
        let received = Received {
            received_at: self.clock.now(),
            path,
            event_type: header("x-webhook-event"),
            delivery_id: header("x-webhook-delivery-id"),
            attempt,
            signature,
            status: response.status.as_u16(),
            headers: all(&request.headers),
            body: String::from_utf8_lossy(body).into_owned(),
        };
        if self.prints {
            say(line(&received));
        }
        let mut kept = self.kept();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(received);
        response
    }

    /// Verifies with the secrets read so far, and reads the table again only if none is valid. Of
    /// concurrent requests only the first reads it.
    async fn verify(&self, headers: &HeaderMap, path: &str, body: &Bytes) -> Verification {
        let now = self.clock.now();
        let mut known = self.known.lock().await;
        let verification = verify(&known, headers, path, body, now);
        if verification.is_valid() {
            return verification;
        }
        match self.look_up().await {
            Ok(found) => *known = found,
            Err(error) => tracing::warn!(%error, "the receiver cannot read the secrets"),
        }
        verify(&known, headers, path, body, now)
    }

    async fn look_up(&self) -> Result<Vec<Known>, StoreError> {
        let mut known = Vec::new();
        let mut after = None;
        loop {
            let page = self.subscriptions.scan_keys(PAGE, after.as_ref()).await?;
            for row in page.items.iter().filter(|row| !row.deleted) {
                let (user, id) = (&row.user_id, &row.subscription_id);
                let found = self.subscriptions.get(user, id, Consistency::Strong).await?;
                let Some(subscription) = found else { continue };
                if let Some(path) = path_here(&subscription.url, self.address) {
                    let secrets = subscription.signing_secrets(&*self.opener, self.clock.now());
                    let secrets = secrets.map_err(|error| subscription.undecodable(error))?;
                    known.push(Known { path, keys: secrets.iter().cloned().collect() });
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(known);
            }
        }
    }
}

/// The path and query of a URL that points at this receiver.
fn path_here(url: &str, address: SocketAddr) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let is_here = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback() || address.ip() == ip,
        Host::Ipv6(ip) => ip.is_loopback() || address.ip() == ip,
    };
    if !is_here || url.port_or_known_default() != Some(address.port()) {
        return None;
    }
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(format!("{}{query}", url.path()))
}

fn verify(
    known: &[Known],
    headers: &HeaderMap,
    path: &str,
    body: &Bytes,
    now: Timestamp,
) -> Verification {
    let header = |name| text(headers, name).unwrap_or_default();
    let body = std::str::from_utf8(body).ok();
    let id = header("webhook-id");
    let timestamp = header("webhook-timestamp").parse::<i64>().ok();
    let keys = known.iter().filter(|known| known.path == path).flat_map(|known| &known.keys);
    let mut result = Verification::default();
    for key in keys {
        result.secret_known = true;
        let Some(body) = body else { continue };
        result.reference |= match key {
            SigningKey::Hmac(secret) => verify_reference(secret, body, &header(SIGNATURE_HEADER)),
            // It is an HMAC, which a key pair does not make.
            SigningKey::Ed25519(_) => !headers.contains_key(SIGNATURE_HEADER),
        };
        result.standard |= timestamp.is_some_and(|timestamp| {
            now.seconds().abs_diff(timestamp) <= TOLERANCE_SECONDS
                && verify_standard(key, &id, timestamp, body, &header("webhook-signature"))
        });
    }
    result
}

/// The response that a path selects.
#[derive(Debug, PartialEq, Eq)]
struct ScriptedResponse {
    status: StatusCode,
    delay: Duration,
}

impl ScriptedResponse {
    fn of(path: &str, attempt: Option<u32>) -> Self {
        let mut parts = path.trim_start_matches('/').split('/');
        let (word, number) = (parts.next(), parts.next().unwrap_or_default());
        let now = |status| Self { status, delay: Duration::ZERO };
        match word {
            Some("fail") => {
                let failures: u32 = number.parse().unwrap_or(0);
                let fails = attempt.unwrap_or(1) <= failures;
                now(if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK })
            }
            Some("status") => now(number.parse().unwrap_or(StatusCode::OK)),
            Some("slow") => {
                let delay = Duration::from_secs(number.parse().unwrap_or(0)).min(SLOW_MAX);
                Self { status: StatusCode::OK, delay }
            }
            Some("gone") => now(StatusCode::GONE),
            _ => now(StatusCode::OK),
        }
    }
}

/// One line of text; control characters of the sender become spaces.
fn line(received: &Received) -> String {
    let mark = |is_valid| if is_valid { '✓' } else { '✗' };
    let signature = match received.signature {
        Verification { secret_known: false, .. } => "unknown (no webhook has this URL)".to_owned(),
        verification => {
            format!("sha256 {} v1 {}", mark(verification.reference), mark(verification.standard))
        }
    };
    let time = received.received_at.to_string();
    let excerpt: String = received.body.chars().take(EXCERPT_CHARS).collect();
    let dots = if excerpt.len() < received.body.len() { "…" } else { "" };
    let line = format!(
        "{}  {:<22} {:<30} attempt {}  signature {signature}  → {}  {excerpt}{dots}",
        &time[11..23],
        received.event_type.as_deref().unwrap_or("-"),
        received.delivery_id.as_deref().unwrap_or("-"),
        received.attempt.map_or_else(|| "-".to_owned(), |attempt| attempt.to_string()),
        received.status,
    );
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The HTTP interface of the receiver.
pub fn router(receiver: Arc<Receiver>) -> Router {
    Router::new()
        .route("/received", get(list).fallback(take))
        .fallback(take)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(receiver)
}

async fn list(State(receiver): State<Arc<Receiver>>) -> Json<Vec<Received>> {
    Json(receiver.received())
}

async fn take(State(receiver): State<Arc<Receiver>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "POST a webhook, or GET /received\n")
            .into_response();
    }
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let ScriptedResponse { status, delay } = receiver.receive(&parts, &body).await;
    tokio::time::sleep(delay).await;
    (status, status.canonical_reason().unwrap_or_default()).into_response()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn all(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use webhooks_core::secret::SigningSecrets;
    use webhooks_core::signature;
    use webhooks_core::subscription::SignatureScheme;

    const NOW: i64 = 1_800_000_000;
    const BODY: &str = r#"{"event_id":"e"}"#;

    fn secret(n: u8) -> SigningKey {
        SigningKey::from_random(SignatureScheme::Hmac, &[n; 32])
    }

    fn headers(secrets: &[u8], at: i64) -> HeaderMap {
        let mut secrets = secrets.iter().map(|n| secret(*n));
        let current = secrets.next().unwrap();
        let secrets = SigningSecrets { current, previous: secrets.collect() };
        signature::headers(&secrets, "dlv_1", Timestamp::from_seconds(at), BODY)
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<Vec<(axum::http::HeaderName, axum::http::HeaderValue)>>()
            .into_iter()
            .collect()
    }

    fn verified(headers: &HeaderMap, path: &str, body: &'static str) -> Verification {
        let known = [
            Known { path: "/other".to_owned(), keys: vec![secret(9)] },
            Known { path: "/hook?a=1".to_owned(), keys: vec![secret(1), secret(2)] },
        ];
        verify(&known, headers, path, &Bytes::from(body), Timestamp::from_seconds(NOW))
    }

    #[test]
    fn signatures_cover_the_exact_bytes() {
        let good = Verification { secret_known: true, reference: true, standard: true };
        assert_eq!(verified(&headers(&[1], NOW), "/hook?a=1", BODY), good);
        assert_eq!(verified(&headers(&[2, 1], NOW), "/hook?a=1", BODY), good);
        let neither = Verification { reference: false, standard: false, ..good };
        assert_eq!(verified(&headers(&[1], NOW), "/hook?a=1", r#"{"event_id": "e"}"#), neither);
        assert_eq!(verified(&headers(&[3], NOW), "/hook?a=1", BODY), neither);
        assert_eq!(verified(&HeaderMap::new(), "/hook?a=1", BODY), neither);
    }

    #[test]
    fn old_timestamp_is_invalid() {
        let old = headers(&[1], NOW - 301);
        let expected = Verification { secret_known: true, reference: true, standard: false };
        assert_eq!(verified(&old, "/hook?a=1", BODY), expected);
        assert!(verified(&headers(&[1], NOW - 300), "/hook?a=1", BODY).standard);
    }

    #[test]
    fn secrets_of_other_paths_are_ignored() {
        assert_eq!(verified(&headers(&[1], NOW), "/hook", BODY), Verification::default());
        assert!(!verified(&headers(&[1], NOW), "/other", BODY).is_valid());
    }

    #[test]
    fn urls_of_other_hosts_and_ports_are_ignored() {
        let address = "127.0.0.1:4000".parse().unwrap();
        let path = |url| path_here(url, address);
        assert_eq!(path("http://localhost:4000/a?b=c").as_deref(), Some("/a?b=c"));
        assert_eq!(path("http://127.0.0.1:4000").as_deref(), Some("/"));
        assert_eq!(path("http://[::1]:4000/").as_deref(), Some("/"));
        for foreign in ["http://localhost:4001/", "http://localhost/", "https://example.com:4000/"]
        {
            assert_eq!(path(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn path_selects_the_response() {
        let status = |path, attempt| ScriptedResponse::of(path, attempt).status.as_u16();
        assert_eq!([1, 2, 3].map(|n| status("/fail/2", Some(n))), [500, 500, 200]);
        assert_eq!(status("/fail/1", None), 500);
        assert_eq!(status("/status/418/x", Some(1)), 418);
        assert_eq!(status("/status/9999", Some(1)), 200);
        assert_eq!(status("/gone", Some(1)), 410);
        assert_eq!(status("/", None), 200);
        assert_eq!(ScriptedResponse::of("/slow/3", None).delay, Duration::from_secs(3));
        assert_eq!(ScriptedResponse::of("/slow/99999", None).delay, SLOW_MAX);
    }

    #[test]
    fn printed_line_has_no_control_characters() {
        let received = Received {
            received_at: Timestamp::from_seconds(NOW),
            path: "/".to_owned(),
            event_type: Some("task.created".to_owned()),
            delivery_id: Some("dlv_1".to_owned()),
            attempt: Some(2),
            signature: Verification { secret_known: true, reference: true, standard: false },
            status: 200,
            headers: Vec::new(),
            body: format!("a\n\x1b[31m{}", "é".repeat(200)),
        };
        let line = line(&received);
        assert!(line.contains("attempt 2  signature sha256 ✓ v1 ✗  → 200"), "{line}");
        assert!(line.ends_with("é…") && !line.chars().any(char::is_control), "{line}");
    }
}
