//! Signing secrets.
//!
//! A [`Secret`] is never printed: the one way to its text is [`Secret::expose`]. A table and a
//! subscription have [`SealedSecret`]s. A [`SecretSealer`] makes them and cannot open them; only
//! what signs has a [`SecretOpener`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::ids::{SubscriptionId, UserId};
use crate::limits::SECRETS_MAX;
use crate::request_headers::{HeaderName, HeaderValue, SealedHeader};
use crate::signing_key::SigningKey;
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
        let encoded = self.0.strip_prefix(PREFIX).expect("both constructors see to the prefix");
        Zeroizing::new(STANDARD.decode(encoded).expect("both constructors see to the base64"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret as a table has it: encrypted, and bound to the row of one subscription.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    bytes: Vec<u8>,
    public_key: Option<String>,
}

impl SealedSecret {
    /// The sealed secret of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, public_key: None }
    }

    /// The same, with the public half of the key pair that it holds.
    #[must_use]
    pub fn with_public_key(self, public_key: Option<String>) -> Self {
        Self { public_key, ..self }
    }

    /// The bytes, for the table and for the cipher.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The public half of a key pair, which is not encrypted; a secret has none.
    pub fn public_key(&self) -> Option<&str> {
        self.public_key.as_deref()
    }
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedSecret({})", STANDARD.encode(&self.bytes))
    }
}

/// Why a sealed secret does not open. It shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not in the form of a sealed secret.
    #[error("a sealed secret is not in the form of one")]
    Form,
    /// Sealed with a key that is not configured.
    #[error("a secret was sealed with a key that is not configured")]
    UnknownKey,
    /// Changed, moved here from another row, or sealed with another key of that id.
    #[error("a sealed secret does not belong to this row, was changed, or has another key")]
    NotAuthentic,
    /// No signing secret inside.
    #[error("a sealed secret does not hold a signing secret")]
    NotASecret,
    /// No value of a request header inside.
    #[error("a sealed request header does not hold a value")]
    NotAHeader,
}

/// What a sealed text belongs to. It opens as nothing else.
#[derive(Clone, Copy, Debug)]
pub struct SealedFor<'a> {
    /// The owner.
    pub user_id: &'a UserId,
    /// The subscription.
    pub id: &'a SubscriptionId,
    /// The request header whose value it is; a signing key when there is none.
    pub header: Option<&'a HeaderName>,
}

impl<'a> SealedFor<'a> {
    /// A signing key of this subscription.
    pub fn key(user_id: &'a UserId, id: &'a SubscriptionId) -> Self {
        Self { user_id, id, header: None }
    }

    /// The value of a request header of this subscription.
    pub fn header(user_id: &'a UserId, id: &'a SubscriptionId, name: &'a HeaderName) -> Self {
        Self { user_id, id, header: Some(name) }
    }
}

/// Encrypts signing keys and the values of request headers. It never shows one.
pub trait SecretSealer: Send + Sync {
    /// Encrypts a text for what it belongs to.
    fn seal_text(&self, text: &str, of: SealedFor<'_>) -> SealedSecret;

    /// Encrypts a sealed text again, with the current key and in the current form. `None` when it is
    /// so already.
    fn reseal_text(
        &self,
        sealed: &SealedSecret,
        of: SealedFor<'_>,
    ) -> Result<Option<SealedSecret>, OpenError>;

    /// Encrypts a signing key for the row of this subscription.
    fn seal(&self, key: &SigningKey, user_id: &UserId, id: &SubscriptionId) -> SealedSecret {
        self.seal_text(&key.expose(), SealedFor::key(user_id, id)).with_public_key(key.public_key())
    }

    /// Encrypts a sealed signing key of this row again. `None` when it need not be.
    fn reseal(
        &self,
        sealed: &SealedSecret,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<Option<SealedSecret>, OpenError> {
        let resealed = self.reseal_text(sealed, SealedFor::key(user_id, id))?;
        Ok(resealed.map(|new| new.with_public_key(sealed.public_key.clone())))
    }

    /// Encrypts the value of a request header for the row of this subscription.
    fn seal_header(
        &self,
        (name, value): (&HeaderName, &HeaderValue),
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> SealedHeader {
        let bytes = u32::try_from(value.expose().len()).expect("an API body is much shorter");
        let sealed = self.seal_text(value.expose(), SealedFor::header(user_id, id, name));
        SealedHeader { sealed, bytes }
    }
}

/// Decrypts signing keys and the values of request headers, for what sends them.
pub trait SecretOpener: Send + Sync {
    /// Decrypts a sealed text.
    fn open_text(
        &self,
        sealed: &SealedSecret,
        of: SealedFor<'_>,
    ) -> Result<Zeroizing<String>, OpenError>;

    /// Decrypts a sealed signing key of this row.
    fn open(
        &self,
        sealed: &SealedSecret,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<SigningKey, OpenError> {
        let text = self.open_text(sealed, SealedFor::key(user_id, id))?;
        SigningKey::parse(&text).map_err(|_| OpenError::NotASecret)
    }

    /// Decrypts the value of a request header of this row.
    fn open_header(
        &self,
        (name, value): (&HeaderName, &SealedHeader),
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<HeaderValue, OpenError> {
        let text = self.open_text(&value.sealed, SealedFor::header(user_id, id, name))?;
        text.parse().map_err(|_| OpenError::NotAHeader)
    }
}

/// The secrets of a subscription: one that signs until it is replaced, and those that it replaced
/// and that still sign while the rotation overlaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSecrets {
    /// The newest one.
    pub current: SealedSecret,
    /// Those before it, newest first.
    pub previous: Vec<PreviousSecret>,
}

/// A secret that a rotation replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousSecret {
    /// The secret.
    pub sealed: SealedSecret,
    /// The moment from which it no longer signs.
    pub expires_at: Timestamp,
}

impl SubscriptionSecrets {
    /// The secrets of a new subscription.
    pub fn new(current: SealedSecret) -> Self {
        Self { current, previous: Vec::new() }
    }

    /// Signs with `new` from `now` on, and until `overlap_end` with those before it, too.
    pub(crate) fn rotate(&mut self, new: SealedSecret, overlap_end: Timestamp, now: Timestamp) {
        let sealed = std::mem::replace(&mut self.current, new);
        for previous in &mut self.previous {
            previous.expires_at = previous.expires_at.min(overlap_end);
        }
        self.previous.insert(0, PreviousSecret { sealed, expires_at: overlap_end });
        self.previous.retain(|previous| now < previous.expires_at);
        self.previous.truncate(SECRETS_MAX - 1);
    }

    /// Those that sign at this moment, newest first.
    pub fn signing_at(&self, now: Timestamp) -> impl Iterator<Item = &SealedSecret> {
        let previous = self.previous_signing_at(now).map(|previous| &previous.sealed);
        std::iter::once(&self.current).chain(previous)
    }

    /// Those that sign beside the current one at this moment, newest first.
    pub fn previous_signing_at(&self, now: Timestamp) -> impl Iterator<Item = &PreviousSecret> {
        self.previous.iter().filter(move |previous| now < previous.expires_at)
    }

    /// All of them, newest first.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut SealedSecret> {
        let previous = self.previous.iter_mut().map(|previous| &mut previous.sealed);
        std::iter::once(&mut self.current).chain(previous)
    }
}

/// What signs an attempt: the decrypted secrets or key pairs of its moment, at least
/// one, all of one scheme.
#[derive(Clone, Debug)]
pub struct SigningSecrets {
    /// The newest one.
    pub current: SigningKey,
    /// Those before it, newest first.
    pub previous: Vec<SigningKey>,
}

impl SigningSecrets {
    /// All of them, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_not_printed() {
        let secret = Secret::from_random(&[7; 32]);
        assert!(secret.expose().starts_with("whsec_BwcH"));
        assert_eq!(secret.expose().len(), 50);
        let signing = SigningSecrets { current: secret.into(), previous: Vec::new() };
        assert!(!format!("{signing:?}").contains("BwcH"));
    }

    #[test]
    fn text_that_is_no_secret_is_refused() {
        for bad in
            ["", "whsec_", "whsec_AAAA", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "whsec_!"]
        {
            assert!(Secret::parse(bad).is_err(), "{bad}");
        }
    }
}
