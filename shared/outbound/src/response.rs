//! What is read of a response.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, RETRY_AFTER};
use hyper::ext::ReasonPhrase;
use reqwest::Response;
use tokio::time::{Instant, timeout_at};
use webhooks_core::kept_headers::KeptHeaders;
use webhooks_core::limits::{RESPONSE_KEEP_BYTES, RESPONSE_READ_BYTES};
use webhooks_core::outbound::RetryAfter;

use crate::failure::Failed;

/// The headers that one response may have.
pub const RESPONSE_HEADERS_MAX: usize = 100;
/// The size that a response's head may have: its reason phrase, and the names and values of its
/// headers with `HEADER_OVERHEAD` bytes for each header.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// What HTTP/2 adds for each header when it limits a head (RFC 9113, section 6.5.2).
const HEADER_OVERHEAD: usize = 32;
/// The bytes that a character which begins within a limit may have outside of it, in UTF-8.
const CHARACTER_OVERHANG: usize = 3;

/// Refuses a head that is too large. It counts the head after it was parsed, so that the same head
/// has the same result however it is split into packets. hyper's own limit is far higher.
pub(crate) fn check_head(response: &Response) -> Result<(), Failed> {
    let headers = response.headers();
    let reason = response.extensions().get::<ReasonPhrase>();
    let size = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + HEADER_OVERHEAD)
        .sum::<usize>()
        + reason.map_or(0, |reason| reason.as_bytes().len());
    if headers.len() > RESPONSE_HEADERS_MAX || size > RESPONSE_HEAD_BYTES_MAX {
        return Err(Failed::head_too_large());
    }
    Ok(())
}

pub(crate) fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    headers.get(RETRY_AFTER)?.to_str().ok().and_then(RetryAfter::parse)
}

/// The headers as they are kept. A value that is no text is decoded leniently.
pub(crate) fn kept_headers(headers: &HeaderMap) -> KeptHeaders {
    let texts: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    KeptHeaders::new(texts.iter().map(|(name, value)| (*name, value.as_ref())))
}

/// Reads the body up to its limit, its end or the deadline. What lies behind the limit is never
/// asked for: the connection is closed with the response.
pub(crate) async fn read_excerpt(response: &mut Response, deadline: Instant) -> String {
    let mut kept = Vec::new();
    let mut read = 0;
    while read < RESPONSE_READ_BYTES {
        let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await else { break };
        let room = RESPONSE_KEEP_BYTES + CHARACTER_OVERHANG - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        read += chunk.len();
    }
    match content_encoding(response.headers()) {
        Some(encoding) if !kept.is_empty() => format!("[body with content-encoding {encoding}]"),
        _ => text(&kept),
    }
}

/// The encoding of the body, where it has one.
fn content_encoding(headers: &HeaderMap) -> Option<&str> {
    let encoding = headers.get(CONTENT_ENCODING)?.to_str().unwrap_or("unknown");
    (!encoding.eq_ignore_ascii_case("identity")).then(|| {
        let end = encoding.floor_char_boundary(RESPONSE_KEEP_BYTES / 2);
        &encoding[..end]
    })
}

/// Decodes leniently and cuts at a character's boundary. A body that is not text is named as such.
fn text(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    let unprintable = |c: char| c.is_control() && !c.is_whitespace() && c != '\u{1b}';
    let undecoded = text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
    if text.contains(unprintable) || undecoded > text.chars().count() / 4 {
        return "[body that is not UTF-8 text]".to_owned();
    }
    text.truncate(text.floor_char_boundary(RESPONSE_KEEP_BYTES));
    text
}
