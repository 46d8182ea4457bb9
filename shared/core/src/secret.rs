//! Signing secrets. They are never printed: the one way to their text is [`Secret::expose`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::time::Timestamp;

/// What every secret begins with (Standard Webhooks 1.0).
pub const PREFIX: &str = "whsec_";

/// A signing secret: `whsec_` and the base64 of 32 random bytes. Wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// A text that is no signing secret. It does not say which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a signing secret: `whsec_` and base64 of 24 to 64 bytes")]
pub struct NotASecret;

impl Secret {
    /// The secret of these random bytes.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(bytes))))
    }

    /// Reads a secret that was stored or given.
    pub fn parse(text: &str) -> Result<Self, NotASecret> {
        let key = text.strip_prefix(PREFIX).ok_or(NotASecret)?;
        let bytes = Zeroizing::new(STANDARD.decode(key).map_err(|_| NotASecret)?);
        // Standard Webhooks 1.0: between 192 and 512 bits.
        if !(24..=64).contains(&bytes.len()) {
            return Err(NotASecret);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The whole text, prefix and all. Only for signing, for storing and for the one time it is
    /// shown to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The bytes behind the prefix, which key the Standard Webhooks signature.
    pub(crate) fn key(&self) -> Zeroizing<Vec<u8>> {
        let encoded = self.0.strip_prefix(PREFIX).unwrap_or_default();
        Zeroizing::new(STANDARD.decode(encoded).unwrap_or_default())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret and, while a rotation overlaps, the moment from which it no longer signs.
#[derive(Clone, Debug)]
pub struct SigningSecret {
    /// The secret.
    pub secret: Secret,
    /// Set on the secrets that a rotation replaced.
    pub expires_at: Option<Timestamp>,
}

impl SigningSecret {
    /// Whether it signs at this moment.
    pub fn signs_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_print() {
        let secret = Secret::from_random(&[7; 32]);
        assert!(secret.expose().starts_with("whsec_BwcH"));
        assert_eq!(secret.expose().len(), 50);
        let signing = SigningSecret { secret, expires_at: None };
        assert!(!format!("{signing:?}").contains("BwcH"));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for bad in
            ["", "whsec_", "whsec_AAAA", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "whsec_!"]
        {
            assert!(Secret::parse(bad).is_err(), "{bad}");
        }
    }
}
