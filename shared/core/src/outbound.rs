//! One signed POST and its outcome.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::{UnknownName, named};
use crate::kept_headers::KeptHeaders;
use crate::request_headers::{HeaderName, HeaderValue};
use crate::time::Timestamp;

/// One POST that is ready to be sent, signed and with a deadline.
#[derive(Clone, Debug)]
pub struct OutboundRequest {
    /// The webhook's URL as it is stored. The client that sends checks it under the policy of today.
    pub url: String,
    /// Header names in lower case, and their values.
    pub headers: Vec<(&'static str, String)>,
    /// The headers that the owner adds. None has a name of the others.
    pub owner_headers: Vec<(HeaderName, HeaderValue)>,
    /// The signed bytes.
    pub body: String,
    /// How long to wait before it is sent: less than two seconds.
    pub wait: Duration,
    /// One deadline over DNS, connect, TLS, headers and body, from the moment that it is sent.
    pub timeout: Duration,
}

/// What became of one POST, and how long it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResult {
    /// What the receiver said, or why it said nothing.
    pub outcome: Outcome,
    /// The headers of the response, where there was one.
    pub response_headers: Option<KeptHeaders>,
    /// From the start to the last byte that was read, in milliseconds.
    pub duration_ms: u64,
}

/// What the receiver said, or why it said nothing. A receiver that fails is a value, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver sent a complete HTTP response.
    Response {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, as seconds or a date, where the receiver sent one that can be read.
        retry_after: Option<RetryAfter>,
        /// The first part of the body, decoded leniently as UTF-8.
        excerpt: String,
    },
    /// No complete response was had.
    NoResponse {
        /// What went wrong.
        failure: Failure,
        /// One sentence for the user; never an address of the service, never a secret.
        detail: String,
    },
}

named! {
    /// Why no response was had.
    Failure {
        /// The deadline passed.
        Timeout = "timeout",
        /// The host has no address, or its name server does not respond.
        Dns = "dns",
        /// No connection could be made.
        Connect = "connect",
        /// TLS could not be agreed or the certificate does not verify.
        Tls = "tls",
        /// The connection broke, or what came is no HTTP.
        Protocol = "protocol",
        /// The address is not one that deliveries may connect to. Never retried.
        Blocked = "blocked",
    }
}

/// A receiver's `Retry-After` ([RFC 9110, section 10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Seconds from the response.
    Seconds(u64),
    /// A moment.
    At(Timestamp),
}

impl RetryAfter {
    /// Reads the header's value; `None` when it is neither a number of seconds nor an HTTP date.
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // A number too large to hold is still a number: the cap makes it the longest wait.
            return Some(Self::Seconds(value.parse().unwrap_or(u64::MAX)));
        }
        let moment = httpdate::parse_http_date(value).ok()?;
        Timestamp::from_system_time(moment).map(Self::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_reads_seconds_and_dates_and_nothing_else() {
        assert_eq!(RetryAfter::parse(" 120 "), Some(RetryAfter::Seconds(120)));
        assert_eq!(
            RetryAfter::parse("99999999999999999999999"),
            Some(RetryAfter::Seconds(u64::MAX))
        );
        assert_eq!(
            RetryAfter::parse("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(RetryAfter::At(Timestamp::from_millis(784_111_777_000)))
        );
        for bad in ["", "-1", "1.5", "soon", "+3", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(RetryAfter::parse(bad), None, "{bad:?}");
        }
    }
}
