//! `traceparent` of W3C Trace Context: the place of an event in its publisher's trace.
//!
//! It travels from the message of the event through the task and the record to every attempt. One that
//! is not valid is ignored, as the recommendation asks for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The message attribute and the request header that carry it.
pub const TRACEPARENT: &str = "traceparent";
/// The length of version 00.
const LENGTH: usize = 55;

/// A valid `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Traceparent(String);

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a traceparent of W3C Trace Context")]
pub struct NotATraceparent;

impl Traceparent {
    /// The text of the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Traceparent {
    type Err = NotATraceparent;

    /// `version-trace_id-parent_id-flags` in lower-case hexadecimal digits. The version `ff` and ids of
    /// zeros only are not valid. A later version may add parts; the parts that version 00 has are kept.
    fn from_str(text: &str) -> Result<Self, NotATraceparent> {
        let head = text.get(..LENGTH).ok_or(NotATraceparent)?;
        let parts: Vec<&str> = head.split('-').collect();
        let [version, trace_id, parent_id, flags] = parts[..] else { return Err(NotATraceparent) };
        let is_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_id = |part: &str, length| is_hex(part, length) && part.bytes().any(|b| b != b'0');
        let is_valid = is_hex(version, 2)
            && version != "ff"
            && is_id(trace_id, 32)
            && is_id(parent_id, 16)
            && is_hex(flags, 2);
        let ends = match &text[LENGTH..] {
            "" => true,
            more => version != "00" && more.starts_with('-'),
        };
        if !is_valid || !ends {
            return Err(NotATraceparent);
        }
        // This service knows version 00 and sends that.
        Ok(Self(format!("00{}", &head[2..])))
    }
}

impl TryFrom<String> for Traceparent {
    type Error = NotATraceparent;

    fn try_from(text: String) -> Result<Self, NotATraceparent> {
        text.parse()
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the recommendation.
    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn only_what_the_recommendation_allows_is_valid() {
        let parse = |text: &str| text.parse::<Traceparent>().map(|valid| valid.to_string());
        assert_eq!(parse(VALID).as_deref(), Ok(VALID));
        let later = format!("cc{}-more", &VALID[2..]);
        assert_eq!(parse(&later).as_deref(), Ok(VALID));
        for bad in [
            String::new(),
            VALID[1..].to_owned(),
            VALID.to_uppercase(),
            format!("{VALID}-more"),
            format!("cc{}more", &VALID[2..]),
            format!("ff{}", &VALID[2..]),
            format!(" {VALID}"),
            VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            VALID.replace("b7ad6b7169203331", &"0".repeat(16)),
            VALID.replace('7', "g"),
            VALID.replace("-01", "_01"),
            "é".repeat(40),
        ] {
            assert_eq!(parse(&bad), Err(NotATraceparent), "{bad}");
        }
    }
}
