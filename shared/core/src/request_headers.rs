//! The static request headers that the owner of a subscription adds to every attempt.
//!
//! A [`HeaderName`] is lower case and none that the service or HTTP itself sets. Values are often
//! credentials, so a subscription has them sealed, as it has its secrets; a [`HeaderValue`] is never
//! printed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::limits::{HEADERS_BYTES, HEADERS_MAX};
use crate::secret::SealedSecret;

/// Headers of the connection (RFC 9110, 7.6.1), of the message's frame, and those that the service
/// sets.
const RESERVED: [&str; 14] = [
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "traceparent",
    "http2-settings",
];
/// What names of headers begin with that the service or the message's frame sets.
const RESERVED_PREFIXES: [&str; 3] = ["content-", "webhook-", "x-webhook-"];

/// The name of a request header, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderName(String);

/// Why a request header is not one that an owner may set. It does not repeat the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a token of RFC 9110.
    #[error("is not a header name: letters, digits and !#$%&'*+-.^_`|~")]
    Name,
    /// The service, HTTP or the connection sets it.
    #[error("is set by the service or by HTTP")]
    Reserved,
    /// Control characters, or characters beyond ASCII.
    #[error("has a value with characters other than visible ASCII, space and tab")]
    Value,
    /// Space or tab at an end, which HTTP does not keep.
    #[error("has a value that begins or ends with white space")]
    Padding,
}

impl HeaderName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || text.len() > HEADERS_BYTES || !text.bytes().all(is_token) {
            return Err(HeaderError::Name);
        }
        let name = text.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str())
            || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        {
            return Err(HeaderError::Reserved);
        }
        Ok(Self(name))
    }
}

impl TryFrom<String> for HeaderName {
    type Error = HeaderError;

    fn try_from(text: String) -> Result<Self, HeaderError> {
        text.parse()
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a request header. Wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderValue(Zeroizing<String>);

impl HeaderValue {
    /// The value, only for sealing and for sending.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderValue {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        if text.starts_with([' ', '\t']) || text.ends_with([' ', '\t']) {
            return Err(HeaderError::Padding);
        }
        if !text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
            return Err(HeaderError::Value);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderValue(…)")
    }
}

/// A value as a table has it: encrypted, and bound to its row and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedHeader {
    /// The sealed value.
    pub sealed: SealedSecret,
    /// The length of the value, so that the limit can be checked without opening it.
    pub bytes: u32,
}

/// The request headers of a subscription.
pub type SealedHeaders = BTreeMap<HeaderName, SealedHeader>;

/// Why a subscription cannot have these headers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooManyHeaders {
    /// More than [`HEADERS_MAX`].
    #[error("must be at most {HEADERS_MAX} headers")]
    Count,
    /// More than [`HEADERS_BYTES`].
    #[error("must have at most {HEADERS_BYTES} bytes in all names and values together")]
    Bytes,
}

/// Checks the limits of the headers of one subscription, given the lengths of names and values.
pub fn check_total(
    lengths: impl ExactSizeIterator<Item = (usize, usize)>,
) -> Result<(), TooManyHeaders> {
    if lengths.len() > HEADERS_MAX {
        return Err(TooManyHeaders::Count);
    }
    if lengths.map(|(name, value)| name + value).sum::<usize>() > HEADERS_BYTES {
        return Err(TooManyHeaders::Bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_reserved_or_no_tokens_are_refused() {
        for good in ["Authorization", "x-api-key", "X_1", "cookie", "accept", "x-webhooks"] {
            assert_eq!(good.parse::<HeaderName>().unwrap().as_str(), good.to_ascii_lowercase());
        }
        for (bad, error) in [
            ("", HeaderError::Name),
            ("a b", HeaderError::Name),
            ("a:", HeaderError::Name),
            (":path", HeaderError::Name),
            ("a\r\nb", HeaderError::Name),
            ("ä", HeaderError::Name),
            ("Host", HeaderError::Reserved),
            ("Content-Length", HeaderError::Reserved),
            ("Webhook-Id", HeaderError::Reserved),
            ("X-Webhook-Signature", HeaderError::Reserved),
            ("Transfer-Encoding", HeaderError::Reserved),
            ("traceparent", HeaderError::Reserved),
            ("USER-AGENT", HeaderError::Reserved),
        ] {
            assert_eq!(bad.parse::<HeaderName>(), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn values_that_http_cannot_carry_are_refused_and_none_is_printed() {
        for good in ["", "Bearer abc", "a\tb", "{\"a\": 1}"] {
            let value: HeaderValue = good.parse().unwrap();
            assert_eq!(value.expose(), good);
            assert_eq!(format!("{value:?}"), "HeaderValue(…)");
        }
        for bad in ["a\r\nHost: b", "a\nb", "\0", "\u{7f}", "é"] {
            assert_eq!(bad.parse::<HeaderValue>(), Err(HeaderError::Value), "{bad:?}");
        }
        for bad in [" a", "a ", "\ta"] {
            assert_eq!(bad.parse::<HeaderValue>(), Err(HeaderError::Padding), "{bad:?}");
        }
    }

    #[test]
    fn limits_are_exact() {
        assert_eq!(check_total([(1, 1); HEADERS_MAX].into_iter()), Ok(()));
        let count = check_total([(1, 1); HEADERS_MAX + 1].into_iter());
        assert_eq!(count, Err(TooManyHeaders::Count));
        assert_eq!(check_total([(96, 4_000)].into_iter()), Ok(()));
        assert_eq!(check_total([(96, 4_001)].into_iter()), Err(TooManyHeaders::Bytes));
    }
}
