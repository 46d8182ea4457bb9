//! The headers of an exchange as a delivery's record keeps them: for attempts that failed, and for
//! tests.
//!
//! Names are in lower case. The values of signatures, of the owner's own headers and of headers that
//! carry credentials are masked, because a record is not sealed. Both values and the whole are bounded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::delivery::cut;
use crate::limits::{HEADER_VALUE_KEEP_BYTES, HEADERS_KEEP_BYTES};
use crate::outbound::OutboundRequest;

/// What stands in place of a value that is not kept.
pub const MASK: &str = "***";
/// A header whose name contains one of these may carry a credential.
const SENSITIVE: [&str; 9] = [
    "api-key",
    "apikey",
    "authorization",
    "cookie",
    "password",
    "secret",
    "session",
    "signature",
    "token",
];

/// Names and values of headers, in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeptHeaders(Vec<(String, String)>);

impl KeptHeaders {
    /// The headers of a request.
    pub fn of_request(request: &OutboundRequest) -> Self {
        let ours = request.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let owners = request.owner_headers.iter().map(|(name, _)| (name.as_str(), MASK));
        Self::new(ours.chain(owners))
    }

    /// These headers, as many as fit.
    pub fn new<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut kept = Vec::new();
        let mut size = 0;
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            let is_sensitive = SENSITIVE.iter().any(|part| name.contains(part));
            let value = if is_sensitive { MASK } else { cut(value, HEADER_VALUE_KEEP_BYTES) };
            size += name.len() + value.len();
            if size > HEADERS_KEEP_BYTES {
                break;
            }
            kept.push((name, value.to_owned()));
        }
        Self(kept)
    }

    /// Each name with its values, which a comma separates (RFC 9110, section 5.3).
    pub fn by_name(&self) -> BTreeMap<&str, String> {
        let mut names: BTreeMap<&str, String> = BTreeMap::new();
        for (name, value) in &self.0 {
            names
                .entry(name)
                .and_modify(|values| {
                    values.push_str(", ");
                    values.push_str(value);
                })
                .or_insert_with(|| value.clone());
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn credentials_are_masked() {
        let request = OutboundRequest {
            url: "https://example.test/".to_owned(),
            headers: vec![
                ("webhook-id", "dlv_1".to_owned()),
                ("webhook-signature", "v1,abc".to_owned()),
                ("x-webhook-signature", "sha256=abc".to_owned()),
            ],
            owner_headers: vec![("x-anything".parse().unwrap(), "abc".parse().unwrap())],
            body: String::new(),
            wait: Duration::ZERO,
            timeout: Duration::ZERO,
        };
        let kept = KeptHeaders::of_request(&request);
        let expected = [
            ("webhook-id", "dlv_1"),
            ("webhook-signature", MASK),
            ("x-anything", MASK),
            ("x-webhook-signature", MASK),
        ];
        let by_name = kept.by_name();
        assert!(by_name.iter().map(|(name, value)| (*name, value.as_str())).eq(expected));

        let response = [("Set-Cookie", "a=abc"), ("WWW-Authenticate", "Basic"), ("via", "a")];
        let kept = KeptHeaders::new(response.into_iter().chain([("via", "b")]));
        let expected = [("set-cookie", MASK), ("via", "a, b"), ("www-authenticate", "Basic")];
        let by_name = kept.by_name();
        assert!(by_name.iter().map(|(name, value)| (*name, value.as_str())).eq(expected));
    }

    #[test]
    fn size_is_bounded() {
        let long = "é".repeat(HEADERS_KEEP_BYTES);
        let kept = KeptHeaders::new([("x", long.as_str()); 100]);
        let size: usize = kept.0.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(size <= HEADERS_KEEP_BYTES && size + HEADER_VALUE_KEEP_BYTES >= HEADERS_KEEP_BYTES);
        assert!(kept.0.iter().all(|(_, value)| value.len() <= HEADER_VALUE_KEEP_BYTES));
    }
}
