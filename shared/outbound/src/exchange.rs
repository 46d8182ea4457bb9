//! One request and its response over a connection that is there.

use bytes::Bytes;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, RETRY_AFTER,
    TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use url::{Position, Url};
use webhooks_core::limits::{RESPONSE_KEEP_BYTES, RESPONSE_READ_BYTES};
use webhooks_core::outbound::{Outcome, RetryAfter};

use crate::failure::{Failed, is_unexpected_end};

/// The headers of one response; more are no response.
pub const RESPONSE_HEADERS_MAX: usize = 100;
/// The bytes of a response's status line and headers; more are no response.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// The HTTP client asks for no more once this is full, which it may be all but one byte when it asks
/// for as much again.
const BUFFER_BYTES: usize = RESPONSE_HEAD_BYTES_MAX / 2;

/// The bytes that a character which begins within a limit may have outside of it, in UTF-8.
const CHARACTER_OVERHANG: usize = 3;

/// A request that is ready to be written.
pub(crate) type Post = Request<Full<Bytes>>;

/// The request as HTTP/1.1 has it.
pub(crate) fn post(
    url: &Url,
    headers: &[(&'static str, String)],
    body: String,
) -> Result<Post, Failed> {
    let path = PathAndQuery::try_from(&url[Position::BeforePath..]);
    let mut post = Request::new(Full::from(body));
    *post.method_mut() = Method::POST;
    *post.uri_mut() = Uri::from(path.map_err(|_| Failed::unsendable())?);
    *post.headers_mut() = header_map(&url[Position::BeforeHost..Position::AfterPort], headers)?;
    Ok(post)
}

fn header_map(host: &str, headers: &[(&'static str, String)]) -> Result<HeaderMap, Failed> {
    let mut map = HeaderMap::with_capacity(headers.len() + 3);
    map.insert(HOST, HeaderValue::try_from(host).map_err(|_| Failed::unsendable())?);
    map.insert(ACCEPT, HeaderValue::from_static("*/*"));
    // A client that keeps no connections has to say so (RFC 9112, section 9.6).
    map.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in headers {
        let name = name.parse::<HeaderName>().map_err(|_| Failed::invalid_header())?;
        let value = value.parse::<HeaderValue>().map_err(|_| Failed::invalid_header())?;
        map.append(name, value);
    }
    Ok(map)
}

/// Sends the request and reads the response. The connection ends with it.
#[expect(clippy::disallowed_methods, reason = "the one way out: HTTP on a vetted connection")]
pub(crate) async fn make(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    post: Post,
) -> Result<Outcome, Failed> {
    let mut http = http1::Builder::new();
    http.max_headers(RESPONSE_HEADERS_MAX).max_buf_size(BUFFER_BYTES);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await?;
    let mut exchange =
        Box::pin(async move { read_response(sender.send_request(post).await?).await });
    tokio::select! {
        outcome = &mut exchange => outcome,
        // What ends the connection is also told to the exchange, which may have had all it needs.
        _ = connection => exchange.await,
    }
}

async fn read_response(mut response: Response<Incoming>) -> Result<Outcome, Failed> {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(RetryAfter::parse);
    let excerpt = read_excerpt(&mut response).await?;
    Ok(Outcome::Response { status, retry_after, excerpt })
}

/// Reads the body up to its limit. What lies behind the limit is never asked for: the connection
/// is dropped with the response.
async fn read_excerpt(response: &mut Response<Incoming>) -> Result<String, Failed> {
    let headers = response.headers();
    let ends_with_connection =
        !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING);
    let mut kept = Vec::new();
    let mut read = 0;
    while read < RESPONSE_READ_BYTES {
        match response.frame().await {
            Some(Ok(frame)) => {
                let chunk = frame.into_data().unwrap_or_default();
                let room = RESPONSE_KEEP_BYTES + CHARACTER_OVERHANG - kept.len();
                kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
                read += chunk.len();
            }
            None => break,
            // Old servers end such a body by hanging up, and many forget to say so in TLS. The
            // status is known and nothing says that the body is short.
            Some(Err(error)) if ends_with_connection && is_unexpected_end(&error) => break,
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(decode_excerpt(&kept))
}

/// Decodes leniently, and cuts at a character's boundary.
fn decode_excerpt(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(RESPONSE_KEEP_BYTES));
    text
}
