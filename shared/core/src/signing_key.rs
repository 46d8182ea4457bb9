//! What signs deliveries: a secret (HMAC), or an Ed25519 key pair (`v1a` of Standard Webhooks 1.0).
//!
//! A subscription signs by one [`SignatureScheme`]. With Ed25519 its owner needs no secret: whoever
//! has the public key can verify.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{KEYPAIR_LENGTH, SECRET_KEY_LENGTH, Signer as _};
use zeroize::Zeroizing;

use crate::secret::{self, Secret};
use crate::signature::{reference_signature, standard_signature};
use crate::subscription::SignatureScheme;

/// What a private key begins with (Standard Webhooks 1.0).
pub const PRIVATE_PREFIX: &str = "whsk_";
/// What a public key begins with (Standard Webhooks 1.0).
pub const PUBLIC_PREFIX: &str = "whpk_";

/// An Ed25519 key pair. It is never printed, and wiped from memory when dropped.
#[derive(Clone)]
pub struct Ed25519Key(ed25519_dalek::SigningKey);

/// A text that is no private key. It does not say which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a private key: `whsk_` and base64 of an Ed25519 key pair")]
pub struct NotAPrivateKey;

impl Ed25519Key {
    /// The key pair of these random bytes.
    pub fn from_random(bytes: &[u8; SECRET_KEY_LENGTH]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(bytes))
    }

    /// Reads a key that was stored: `whsk_` and the base64 of the private key followed by its
    /// public key, or of the private key alone.
    pub fn parse(text: &str) -> Result<Self, NotAPrivateKey> {
        let encoded = text.strip_prefix(PRIVATE_PREFIX).ok_or(NotAPrivateKey)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| NotAPrivateKey)?);
        if let Ok(private) = <&[u8; SECRET_KEY_LENGTH]>::try_from(bytes.as_slice()) {
            return Ok(Self::from_random(private));
        }
        let pair =
            <&[u8; KEYPAIR_LENGTH]>::try_from(bytes.as_slice()).map_err(|_| NotAPrivateKey)?;
        ed25519_dalek::SigningKey::from_keypair_bytes(pair).map(Self).map_err(|_| NotAPrivateKey)
    }

    /// The private key as text, only for storing: `whsk_` and the base64 of the private key followed
    /// by its public key, as other implementations of Standard Webhooks write it.
    pub fn expose(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(self.0.to_keypair_bytes());
        Zeroizing::new(format!("{PRIVATE_PREFIX}{}", STANDARD.encode(pair.as_slice())))
    }

    /// The public key as text, for everybody.
    pub fn public_key(&self) -> String {
        format!("{PUBLIC_PREFIX}{}", STANDARD.encode(self.0.verifying_key().as_bytes()))
    }

    /// One entry of `webhook-signature`: `v1a,` and the base64 signature of `{id}.{timestamp}.{body}`.
    pub fn standard_signature(&self, id: &str, timestamp: i64, body: &str) -> String {
        let signature = self.0.sign(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1a,{}", STANDARD.encode(signature.to_bytes()))
    }
}

impl fmt::Debug for Ed25519Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519Key({})", self.public_key())
    }
}

/// What a subscription's deliveries are signed with.
#[derive(Clone, Debug)]
pub enum SigningKey {
    /// A secret that the owner has too.
    Hmac(Secret),
    /// A key pair of which the owner has the public half.
    Ed25519(Ed25519Key),
}

/// A text that is neither a secret nor a private key. It does not say which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is neither a signing secret (`whsec_…`) nor a private key (`whsk_…`)")]
pub struct NotASigningKey;

impl From<Secret> for SigningKey {
    fn from(secret: Secret) -> Self {
        Self::Hmac(secret)
    }
}

impl SigningKey {
    /// The key of these random bytes.
    pub fn from_random(scheme: SignatureScheme, bytes: &[u8; 32]) -> Self {
        match scheme {
            SignatureScheme::Hmac => Self::Hmac(Secret::from_random(bytes)),
            SignatureScheme::Ed25519 => Self::Ed25519(Ed25519Key::from_random(bytes)),
        }
    }

    /// Reads a key that was stored; its prefix says which kind it is.
    pub fn parse(text: &str) -> Result<Self, NotASigningKey> {
        if text.starts_with(secret::PREFIX) {
            return Secret::parse(text).map(Self::Hmac).map_err(|_| NotASigningKey);
        }
        Ed25519Key::parse(text).map(Self::Ed25519).map_err(|NotAPrivateKey| NotASigningKey)
    }

    /// How it signs.
    pub fn scheme(&self) -> SignatureScheme {
        match self {
            Self::Hmac(_) => SignatureScheme::Hmac,
            Self::Ed25519(_) => SignatureScheme::Ed25519,
        }
    }

    /// The text that [`SigningKey::parse`] reads, only for storing and, of a secret, for the one
    /// time it is shown to its owner.
    pub fn expose(&self) -> Zeroizing<String> {
        match self {
            Self::Hmac(secret) => Zeroizing::new(secret.expose().to_owned()),
            Self::Ed25519(key) => key.expose(),
        }
    }

    /// The secret, which a key pair is not.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Hmac(secret) => Some(secret),
            Self::Ed25519(_) => None,
        }
    }

    /// What the API shows as `public_key`; a secret has none.
    pub fn public_key(&self) -> Option<String> {
        match self {
            Self::Hmac(_) => None,
            Self::Ed25519(key) => Some(key.public_key()),
        }
    }

    /// One entry of `webhook-signature`.
    pub fn standard_signature(&self, id: &str, timestamp: i64, body: &str) -> String {
        match self {
            Self::Hmac(secret) => standard_signature(secret, id, timestamp, body),
            Self::Ed25519(key) => key.standard_signature(id, timestamp, body),
        }
    }

    /// `X-Webhook-Signature`, which is an HMAC and therefore absent with a key pair.
    pub fn reference_signature(&self, body: &str) -> Option<String> {
        match self {
            Self::Hmac(secret) => Some(reference_signature(secret, body)),
            Self::Ed25519(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the Standard Webhooks specification, with the key that Svix tests with.
    const PRIVATE: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    const PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";

    #[test]
    fn signature_is_that_of_the_specification() {
        let key = SigningKey::parse(PRIVATE).unwrap();
        assert_eq!(key.scheme(), SignatureScheme::Ed25519);
        assert_eq!(key.public_key().unwrap(), PUBLIC);
        assert_eq!(*key.expose(), PRIVATE);
        assert_eq!(
            key.standard_signature(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#
            ),
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
        );
        assert_eq!(key.reference_signature("{}"), None);
    }

    #[test]
    fn key_and_signature_are_those_of_an_independent_implementation() {
        // Computed with Python's `cryptography` 48: `Ed25519PrivateKey.from_private_bytes(bytes([7]*32))`.
        let key = SigningKey::from_random(SignatureScheme::Ed25519, &[7; 32]);
        assert_eq!(
            *key.expose(),
            "whsk_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwfqSmxj4pxSCr71UHsTLsX5lUd2rr6+e5JCHuppFEbSLA=="
        );
        assert_eq!(key.public_key().unwrap(), "whpk_6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=");
        assert_eq!(
            key.standard_signature("dlv_1", 1_800_000_000, r#"{"a":"\u00e9"}"#),
            "v1a,m0xKWZn6yRnph9SBgnCnfKpafyY02jYfl6of3ClvCAtpGBVIdWcrA1cJPznc+l49s2AgX5SxJUUsFfhwq6iJCA=="
        );
    }

    #[test]
    fn secret_signs_by_hmac_as_before() {
        let secret = Secret::from_random(&[7; 32]);
        let key = SigningKey::from_random(SignatureScheme::Hmac, &[7; 32]);
        assert_eq!(*key.expose(), secret.expose());
        assert_eq!(key.public_key(), None);
        assert_eq!(key.standard_signature("m", 1, "{}"), standard_signature(&secret, "m", 1, "{}"));
        assert_eq!(key.reference_signature("{}"), Some(reference_signature(&secret, "{}")));
        let stored = SigningKey::parse(&key.expose()).unwrap();
        assert_eq!(stored.scheme(), SignatureScheme::Hmac);
    }

    #[test]
    fn private_key_alone_is_read_as_its_pair() {
        let alone = format!("{PRIVATE_PREFIX}{}", STANDARD.encode([7; 32]));
        let pair = Ed25519Key::from_random(&[7; 32]);
        assert_eq!(Ed25519Key::parse(&alone).unwrap().expose(), pair.expose());
    }

    #[test]
    fn private_key_is_not_printed() {
        let printed = format!("{:?}", SigningKey::parse(PRIVATE).unwrap());
        assert!(printed.contains(PUBLIC) && !printed.contains("6Xb/"), "{printed}");
    }

    #[test]
    fn other_texts_are_refused() {
        // The public half of the fourth belongs to another key.
        let mixed = PRIVATE.replace("6Xb/", "6Xc/");
        for text in ["", "whsk_", "whsk_AAAA", &mixed, PUBLIC, "whsec_AAAA", "whsk_!"] {
            assert_eq!(SigningKey::parse(text).unwrap_err(), NotASigningKey, "{text}");
        }
    }
}
