//! Proof that an endpoint wants a webhook.
//!
//! Where the stack requires it, a webhook is inactive until its token comes back. The token is sent
//! to the endpoint only, in a signed challenge. The endpoint returns it in its response, or its
//! owner reads it there and gives it to the API. The URL of a webhook that is changed needs a new
//! proof.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use crate::outbound::Outcome;
use crate::time::Timestamp;

/// The event type of a challenge, which no event has.
pub const CHALLENGE_TYPE: &str = "webhook.verification";

/// Whether the endpoint of a webhook has to prove that it wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointVerification {
    /// No.
    #[default]
    Off,
    /// Yes, for a new webhook and for each change of a URL.
    Required,
}

/// What an endpoint has to return.
#[derive(Clone, PartialEq, Eq)]
pub struct VerificationToken(String);

impl VerificationToken {
    /// A token of random bytes.
    pub fn from_random(bytes: &[u8; 24]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The token of a row.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// For the row and for the challenge.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this text is the token, in constant time.
    pub fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }

    /// The body of a challenge.
    pub fn challenge(&self, id: &str, now: Timestamp) -> String {
        json!({
            "event_id": id,
            "event_type": CHALLENGE_TYPE,
            "timestamp": now,
            "data": {"token": self.0},
        })
        .to_string()
    }

    /// Whether a response returns the token: a 2xx whose body is the token, or a JSON object with
    /// the field `token`. A server that returns every request as it is does not do so.
    pub fn is_returned_by(&self, outcome: &Outcome) -> bool {
        let Outcome::Response { status: 200..=299, excerpt, .. } = outcome else { return false };
        let body = excerpt.trim();
        let field = || match serde_json::from_str(body) {
            Ok(Value::Object(fields)) => fields.get("token")?.as_str().map(|text| self.is(text)),
            _ => None,
        };
        self.is(body) || field() == Some(true)
    }
}

impl std::fmt::Debug for VerificationToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VerificationToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Outcome {
        Outcome::Response { status, retry_after: None, excerpt: body.to_owned() }
    }

    #[test]
    fn only_a_2xx_with_exactly_the_token_returns_it() {
        let token = VerificationToken::from_random(&[7; 24]);
        let text = token.expose().to_owned();
        for body in [text.clone(), format!(" {text}\n"), format!("{{\"token\":\"{text}\"}}")] {
            assert!(token.is_returned_by(&response(200, &body)), "{body}");
            assert!(!token.is_returned_by(&response(400, &body)), "{body}");
        }
        let reflected = token.challenge("id", Timestamp::EPOCH);
        for body in ["", "ok", &text[1..], &format!("{text}{text}"), &reflected] {
            assert!(!token.is_returned_by(&response(200, body)), "{body}");
        }
    }
}
