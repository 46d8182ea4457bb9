//! Signing secrets at rest.
//!
//! A [`Sealer`] encrypts each secret with AES-256-GCM before it reaches a table, so that whoever
//! reads the table, a backup or an export has no secret. It holds a ring of keys, each with an id:
//! it seals with the current one and still opens what older ones sealed, so a key is rotated by
//! putting a new one in front, and the old one is dropped once every row has been written again.
//!
//! A sealed secret is `[length of the key id] [key id] [nonce, 12 bytes] [ciphertext and tag]`.
//! Owner and subscription are authenticated with it (AAD): moved to another row it does not open.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::Random;
use webhooks_core::secret::Secret;
use zeroize::Zeroizing;

/// A key's id, in characters, at most.
const KEY_ID_CHARS: usize = 32;
/// Bytes of a nonce. Random ones of this length are safe for 2^32 secrets a key (NIST SP 800-38D).
const NONCE_BYTES: usize = 12;

/// Seals and opens signing secrets.
pub struct Sealer {
    current: String,
    keys: HashMap<String, Zeroizing<[u8; 32]>>,
    random: Arc<dyn Random>,
}

/// Why a key ring cannot be used. It shows no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Not `id:key` parts, separated by commas.
    #[error("each key must be written `id:key`, separated by commas")]
    Form,
    /// An id that does not fit.
    #[error("each key's id must be 1 to {KEY_ID_CHARS} of the characters A-Z a-z 0-9 . _ -")]
    Id,
    /// Two keys of one id.
    #[error("each key's id must be there only once")]
    Repeated,
    /// Not 32 bytes in base64.
    #[error("each key must be the base64 of 32 bytes")]
    Key,
    /// The current key is not on the ring.
    #[error("the current key must be one of the keys")]
    NoCurrent,
}

/// Why a sealed secret does not open. It shows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// Not in the form above.
    #[error("a sealed secret is not in the form of one")]
    Form,
    /// Its key is not on the ring.
    #[error("a secret was sealed with a key that is not configured")]
    UnknownKey,
    /// Tampered with, moved here from another row, or sealed with another key of that id.
    #[error("a sealed secret does not belong to this row, was changed, or has another key")]
    NotAuthentic,
    /// No signing secret inside.
    #[error("a sealed secret does not hold a signing secret")]
    NotASecret,
}

impl Sealer {
    /// Seals with the key `current`, and opens with all `keys`.
    pub fn from_keys(
        current: &str,
        keys: impl IntoIterator<Item = (String, [u8; 32])>,
        random: Arc<dyn Random>,
    ) -> Result<Self, KeysError> {
        let mut ring = HashMap::new();
        for (id, key) in keys {
            let key = Zeroizing::new(key);
            if !is_key_id(&id) {
                return Err(KeysError::Id);
            }
            if ring.insert(id, key).is_some() {
                return Err(KeysError::Repeated);
            }
        }
        if !ring.contains_key(current) {
            return Err(KeysError::NoCurrent);
        }
        Ok(Self { current: current.to_owned(), keys: ring, random })
    }

    /// Has no key, for functions that never need a secret: subscriptions are read without their
    /// secrets, and none can be written.
    pub fn without_keys(random: Arc<dyn Random>) -> Self {
        Self { current: String::new(), keys: HashMap::new(), random }
    }

    /// Whether there are keys at all.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Reads `id:key,id:key,…`, where each key is the base64 of 32 bytes and the first is the
    /// current one.
    pub fn parse(text: &str, random: Arc<dyn Random>) -> Result<Self, KeysError> {
        let keys = text.split(',').map(parse_key).collect::<Result<Vec<_>, _>>()?;
        let current = keys.first().map(|(id, _)| id.clone()).unwrap_or_default();
        Self::from_keys(&current, keys, random)
    }

    /// Encrypts a secret for the row of this owner and subscription.
    pub(crate) fn seal(
        &self,
        secret: &Secret,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = self.random.bytes();
        let cipher = self.cipher(&self.current)?;
        let aad = row(user_id, id);
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &aad };
        let ciphertext = cipher.encrypt(&nonce.into(), payload).ok()?;
        let mut sealed = vec![u8::try_from(self.current.len()).ok()?];
        sealed.extend(self.current.as_bytes());
        sealed.extend(nonce);
        sealed.extend(ciphertext);
        Some(sealed)
    }

    /// Decrypts a secret that was sealed for this row.
    pub(crate) fn open(
        &self,
        sealed: &[u8],
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<Secret, OpenError> {
        let (key_id, nonce, ciphertext) = parts(sealed).ok_or(OpenError::Form)?;
        let cipher = self.cipher(key_id).ok_or(OpenError::UnknownKey)?;
        let aad = row(user_id, id);
        let text = cipher
            .decrypt(&nonce.into(), Payload { msg: ciphertext, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| OpenError::NotAuthentic)?;
        let text = std::str::from_utf8(&text).map_err(|_| OpenError::NotASecret)?;
        Secret::parse(text).map_err(|_| OpenError::NotASecret)
    }

    /// Made for each use: that costs next to nothing, but the first one asks what the processor can
    /// do, which would take a part of the init.
    fn cipher(&self, key_id: &str) -> Option<Aes256Gcm> {
        Aes256Gcm::new_from_slice(self.keys.get(key_id)?.as_slice()).ok()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("current", &self.current).finish_non_exhaustive()
    }
}

fn parse_key(text: &str) -> Result<(String, [u8; 32]), KeysError> {
    let (id, key) = text.trim().split_once(':').ok_or(KeysError::Form)?;
    let bytes = Zeroizing::new(STANDARD.decode(key).map_err(|_| KeysError::Key)?);
    let key = bytes.as_slice().try_into().map_err(|_| KeysError::Key)?;
    Ok((id.to_owned(), key))
}

fn is_key_id(id: &str) -> bool {
    (1..=KEY_ID_CHARS).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn parts(sealed: &[u8]) -> Option<(&str, [u8; NONCE_BYTES], &[u8])> {
    let (length, rest) = sealed.split_first()?;
    let (key_id, rest) = rest.split_at_checked(usize::from(*length))?;
    let (nonce, ciphertext) = rest.split_first_chunk()?;
    Some((std::str::from_utf8(key_id).ok()?, *nonce, ciphertext))
}

/// The row, each part preceded by its length so that no two rows run together.
fn row(user_id: &UserId, id: &SubscriptionId) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [user_id.as_str(), id.as_str()] {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;
    use webhooks_core::time::Timestamp;

    fn sealer(current: &str, keys: &[(&str, u8)]) -> Sealer {
        let keys = keys.iter().map(|(id, byte)| ((*id).to_owned(), [*byte; 32]));
        Sealer::from_keys(current, keys, Arc::new(SystemRandom)).unwrap()
    }

    fn owner(name: &str) -> UserId {
        name.parse().unwrap()
    }

    fn subscription(n: u8) -> SubscriptionId {
        SubscriptionId::new(Timestamp::EPOCH, [n; 10])
    }

    fn opened(sealer: &Sealer, sealed: &[u8], user: &str, n: u8) -> Result<String, OpenError> {
        let secret = sealer.open(sealed, &owner(user), &subscription(n))?;
        Ok(secret.expose().to_owned())
    }

    #[test]
    fn a_secret_opens_only_in_its_own_row() {
        let sealer = sealer("a", &[("a", 1)]);
        let secret = Secret::from_random(&[7; 32]);
        let sealed = sealer.seal(&secret, &owner("u1"), &subscription(1)).unwrap();
        assert_eq!(opened(&sealer, &sealed, "u1", 1).unwrap(), secret.expose());
        assert_eq!(opened(&sealer, &sealed, "u2", 1), Err(OpenError::NotAuthentic));
        assert_eq!(opened(&sealer, &sealed, "u1", 2), Err(OpenError::NotAuthentic));
        let again = sealer.seal(&secret, &owner("u1"), &subscription(1)).unwrap();
        assert_ne!(sealed, again, "every nonce is new");
    }

    #[test]
    fn no_changed_byte_and_no_cut_goes_unnoticed() {
        let sealer = sealer("key", &[("key", 1), ("kez", 1)]);
        let secret = Secret::from_random(&[7; 32]);
        let sealed = sealer.seal(&secret, &owner("u1"), &subscription(1)).unwrap();
        let id_bytes = 1..4;
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x55;
            let result = opened(&sealer, &changed, "u1", 1);
            assert!(result.is_err(), "byte {at}");
            if id_bytes.contains(&at) {
                assert_eq!(result, Err(OpenError::UnknownKey));
            }
            assert!(opened(&sealer, &sealed[..at], "u1", 1).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn old_keys_open_and_the_current_one_seals() {
        let secret = Secret::from_random(&[7; 32]);
        let before = sealer("old", &[("old", 1)]);
        let sealed = before.seal(&secret, &owner("u1"), &subscription(1)).unwrap();
        let during = sealer("new", &[("new", 2), ("old", 1)]);
        assert_eq!(opened(&during, &sealed, "u1", 1).unwrap(), secret.expose());
        let resealed = during.seal(&secret, &owner("u1"), &subscription(1)).unwrap();
        let after = sealer("new", &[("new", 2)]);
        assert_eq!(opened(&after, &resealed, "u1", 1).unwrap(), secret.expose());
        assert_eq!(opened(&after, &sealed, "u1", 1), Err(OpenError::UnknownKey));
        let wrong = sealer("old", &[("old", 9)]);
        assert_eq!(opened(&wrong, &sealed, "u1", 1), Err(OpenError::NotAuthentic));
    }

    #[test]
    fn a_ring_is_read_and_what_is_wrong_with_it_is_said() {
        let parse = |text: &str| Sealer::parse(text, Arc::new(SystemRandom));
        let key = STANDARD.encode([3; 32]);
        let ring = parse(&format!("k2:{key}, k1:{key}")).unwrap();
        assert_eq!(ring.current, "k2");
        assert!(!format!("{ring:?}").contains(&key));
        for (text, error) in [
            (String::new(), KeysError::Form),
            (key.clone(), KeysError::Form),
            (format!("k1:{key},"), KeysError::Form),
            (format!(":{key}"), KeysError::Id),
            (format!("k 1:{key}"), KeysError::Id),
            (format!("{}:{key}", "k".repeat(33)), KeysError::Id),
            (format!("k1:{key},k1:{key}"), KeysError::Repeated),
            ("k1:AAAA".to_owned(), KeysError::Key),
            ("k1:?".to_owned(), KeysError::Key),
        ] {
            assert_eq!(parse(&text).err(), Some(error), "{text}");
        }
        let missing = Sealer::from_keys("b", [("a".to_owned(), [0; 32])], Arc::new(SystemRandom));
        assert_eq!(missing.err(), Some(KeysError::NoCurrent));
    }
}
