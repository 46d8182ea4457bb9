//! Signing keys and the values of request headers at rest.
//!
//! A [`Sealer`] encrypts each secret with AES-256-GCM before it reaches a table, so that nobody who
//! reads the table, a backup or an export has a secret. It has several keys, each with an id: it
//! seals with the current one and opens what any of them sealed. To rotate a key, an operator puts
//! a new one first, reseals every subscription ([`webhooks_core::reseal`]), and drops the old one.
//!
//! A sealed secret is `0, length of the key id, key id, nonce (12 bytes), ciphertext and tag`. Its
//! purpose, owner, subscription and, of a header, name are authenticated with it (AAD), so that it
//! does not open in another row or as something else. The first form had neither the `0` nor the purpose, and still
//! opens.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use webhooks_core::ports::Random;
use webhooks_core::secret::{OpenError, SealedFor, SealedSecret, SecretOpener, SecretSealer};
use zeroize::Zeroizing;

/// A key's id, in characters, at most.
const KEY_ID_CHARS: usize = 32;
/// Bytes of a nonce. Random ones of this length are safe for 2^32 secrets a key (NIST SP 800-38D).
const NONCE_BYTES: usize = 12;
/// What a sealed secret of the current form begins with. The first form begins with the length of
/// the key id, which is never 0.
const CURRENT_FORM: u8 = 0;
/// What sealed bytes are for: a signing key.
const KEY_PURPOSE: &str = "webhook signing secret";
/// What sealed bytes are for: the value of a request header.
const HEADER_PURPOSE: &str = "webhook request header";

/// Seals and opens signing keys and the values of request headers.
pub struct Sealer {
    current: String,
    keys: HashMap<String, Zeroizing<[u8; 32]>>,
    random: Arc<dyn Random>,
}

/// Why the keys cannot be used. It shows no key.
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
    /// The current key is not among the keys.
    #[error("the current key must be one of the keys")]
    NoCurrent,
}

impl Sealer {
    /// Seals with the key `current`, and opens with all `keys`.
    pub fn from_keys(
        current: &str,
        keys: impl IntoIterator<Item = (String, [u8; 32])>,
        random: Arc<dyn Random>,
    ) -> Result<Self, KeysError> {
        let mut by_id = HashMap::new();
        for (id, key) in keys {
            let key = Zeroizing::new(key);
            if !is_key_id(&id) {
                return Err(KeysError::Id);
            }
            if by_id.insert(id, key).is_some() {
                return Err(KeysError::Repeated);
            }
        }
        if !by_id.contains_key(current) {
            return Err(KeysError::NoCurrent);
        }
        Ok(Self { current: current.to_owned(), keys: by_id, random })
    }

    /// Reads `id:key,id:key,…`, where each key is the base64 of 32 bytes and the first is the
    /// current one.
    pub fn parse(text: &str, random: Arc<dyn Random>) -> Result<Self, KeysError> {
        let keys = text.split(',').map(parse_key).collect::<Result<Vec<_>, _>>()?;
        let current = keys.first().map(|(id, _)| id.clone()).unwrap_or_default();
        Self::from_keys(&current, keys, random)
    }

    /// The id of the key that a secret is sealed with.
    pub fn key_id(sealed: &SealedSecret) -> Result<&str, OpenError> {
        Parts::of(sealed.as_bytes()).map(|parts| parts.key_id).ok_or(OpenError::Form)
    }

    /// Made for each use: that costs next to nothing, but the first one detects the features of the
    /// processor, which would take a part of the init.
    fn cipher(&self, key_id: &str) -> Option<Aes256Gcm> {
        let key = self.keys.get(key_id)?;
        Some(Aes256Gcm::new_from_slice(key.as_slice()).expect("every key has 32 bytes"))
    }
}

impl SecretSealer for Sealer {
    fn seal_text(&self, text: &str, of: SealedFor<'_>) -> SealedSecret {
        let nonce: [u8; NONCE_BYTES] = self.random.bytes();
        let aad = bound_to(&parts_of(&of));
        let payload = Payload { msg: text.as_bytes(), aad: &aad };
        let ciphertext = self
            .cipher(&self.current)
            .expect("the current key is one of the keys")
            .encrypt(&nonce.into(), payload)
            .expect("a text is much shorter than what AES-GCM can encrypt");
        let length = u8::try_from(self.current.len()).expect("a key id has at most 32 bytes");
        let mut sealed = vec![CURRENT_FORM, length];
        sealed.extend(self.current.as_bytes());
        sealed.extend(nonce);
        sealed.extend(ciphertext);
        SealedSecret::new(sealed)
    }

    fn reseal_text(
        &self,
        sealed: &SealedSecret,
        of: SealedFor<'_>,
    ) -> Result<Option<SealedSecret>, OpenError> {
        let parts = Parts::of(sealed.as_bytes()).ok_or(OpenError::Form)?;
        if parts.has_purpose && parts.key_id == self.current {
            return Ok(None);
        }
        let text = self.open_text(sealed, of)?;
        Ok(Some(self.seal_text(&text, of)))
    }
}

impl SecretOpener for Sealer {
    fn open_text(
        &self,
        sealed: &SealedSecret,
        of: SealedFor<'_>,
    ) -> Result<Zeroizing<String>, OpenError> {
        let parts = Parts::of(sealed.as_bytes()).ok_or(OpenError::Form)?;
        let cipher = self.cipher(parts.key_id).ok_or(OpenError::UnknownKey)?;
        let bound = parts_of(&of);
        let aad = match (parts.has_purpose, of.header) {
            (true, _) => bound_to(&bound),
            (false, None) => bound_to(&bound[1..]),
            // The first form is older than request headers.
            (false, Some(_)) => return Err(OpenError::Form),
        };
        let text = cipher
            .decrypt(&parts.nonce.into(), Payload { msg: parts.ciphertext, aad: &aad })
            .map_err(|_| OpenError::NotAuthentic)?;
        String::from_utf8(text).map(Zeroizing::new).map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            OpenError::NotASecret
        })
    }
}

/// What a sealed text is bound to, its purpose first.
fn parts_of<'a>(of: &SealedFor<'a>) -> Vec<&'a str> {
    let (user_id, id) = (of.user_id.as_str(), of.id.as_str());
    match of.header {
        None => vec![KEY_PURPOSE, user_id, id],
        Some(name) => vec![HEADER_PURPOSE, user_id, id, name.as_str()],
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

/// The parts of a sealed secret.
struct Parts<'a> {
    has_purpose: bool,
    key_id: &'a str,
    nonce: [u8; NONCE_BYTES],
    ciphertext: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a [u8]) -> Option<Self> {
        let current = sealed.strip_prefix(&[CURRENT_FORM]);
        let (length, rest) = current.unwrap_or(sealed).split_first()?;
        let (key_id, rest) = rest.split_at_checked(usize::from(*length))?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        let key_id = std::str::from_utf8(key_id).ok()?;
        Some(Self { has_purpose: current.is_some(), key_id, nonce: *nonce, ciphertext })
    }
}

/// The bytes that are authenticated: each part preceded by its length, so that no two lists of
/// parts make the same bytes.
fn bound_to(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;
    use test_support::{MemorySubscriptions, sample};
    use webhooks_core::ids::{SubscriptionId, UserId};
    use webhooks_core::ports::Subscriptions as _;
    use webhooks_core::request_headers::HeaderName;
    use webhooks_core::reseal::reseal;
    use webhooks_core::secret::{PreviousSecret, Secret, SubscriptionSecrets};
    use webhooks_core::signing_key::SigningKey;
    use webhooks_core::subscription::{SignatureScheme, Subscription};
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

    fn sealed(sealer: &Sealer) -> SealedSecret {
        sealer.seal(&secret().into(), &owner("u1"), &subscription(1))
    }

    fn secret() -> Secret {
        Secret::from_random(&[7; 32])
    }

    fn opened(
        sealer: &Sealer,
        sealed: &SealedSecret,
        user: &str,
        n: u8,
    ) -> Result<String, OpenError> {
        let key = sealer.open(sealed, &owner(user), &subscription(n))?;
        Ok(key.expose().to_string())
    }

    /// [`secret`] in the first form, sealed with the key `k1` (32 bytes of 9) by another
    /// implementation of AES-GCM.
    const FIRST_FORM: &str = "AmsxAAECAwQFBgcICQoLnTnop18QaJL8Hm7os4uHQ7A9zdX+WH7THEZygSWBvaw5hVuzvoEa\
        VdIC6/M41553O4firHQtYrKApn+nQYs+TNJf";

    #[test]
    fn secret_opens_only_in_its_own_row() {
        let sealer = sealer("a", &[("a", 1)]);
        let first = sealed(&sealer);
        assert_eq!(opened(&sealer, &first, "u1", 1).unwrap(), secret().expose());
        assert_eq!(opened(&sealer, &first, "u2", 1), Err(OpenError::NotAuthentic));
        assert_eq!(opened(&sealer, &first, "u1", 2), Err(OpenError::NotAuthentic));
        assert_ne!(first, sealed(&sealer), "every nonce is new");
    }

    #[test]
    fn header_opens_only_under_its_name_and_in_its_row() {
        let sealer = sealer("a", &[("a", 1)]);
        let name = |name: &str| name.parse::<HeaderName>().unwrap();
        let value = "Bearer whsec_1".parse().unwrap();
        let (user, id, authorization) = (owner("u1"), subscription(1), name("authorization"));
        let sealed = sealer.seal_header((&authorization, &value), &user, &id);
        let open = |name: &HeaderName, user: &str, n: u8| {
            sealer.open_header((name, &sealed), &owner(user), &subscription(n))
        };
        assert_eq!(open(&authorization, "u1", 1), Ok(value));
        for (name, user, n) in [
            (name("x-key"), "u1", 1),
            (name("authorization"), "u2", 1),
            (name("authorization"), "u1", 2),
        ] {
            assert_eq!(open(&name, user, n), Err(OpenError::NotAuthentic));
        }
        assert_eq!(opened(&sealer, &sealed.sealed, "u1", 1), Err(OpenError::NotAuthentic));
    }

    #[test]
    fn changed_or_shortened_secret_does_not_open() {
        let sealer = sealer("key", &[("key", 1), ("kez", 1)]);
        let sealed = sealed(&sealer);
        let bytes = sealed.as_bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x55;
            assert!(opened(&sealer, &SealedSecret::new(changed), "u1", 1).is_err(), "byte {at}");
            let short = SealedSecret::new(bytes[..at].to_vec());
            assert!(opened(&sealer, &short, "u1", 1).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn first_form_opens_in_its_row_and_is_resealed() {
        let sealer = sealer("k1", &[("k1", 9)]);
        let first = SealedSecret::new(STANDARD.decode(FIRST_FORM).unwrap());
        assert_eq!(opened(&sealer, &first, "u1", 1).unwrap(), secret().expose());
        assert_eq!(opened(&sealer, &first, "u2", 1), Err(OpenError::NotAuthentic));
        let claims_purpose = [&[CURRENT_FORM], first.as_bytes()].concat();
        let claims_purpose = SealedSecret::new(claims_purpose);
        assert_eq!(opened(&sealer, &claims_purpose, "u1", 1), Err(OpenError::NotAuthentic));
        let resealed = sealer.reseal(&first, &owner("u1"), &subscription(1)).unwrap().unwrap();
        assert_eq!(opened(&sealer, &resealed, "u1", 1).unwrap(), secret().expose());
        assert_eq!(sealer.reseal(&resealed, &owner("u1"), &subscription(1)), Ok(None));
    }

    #[test]
    fn old_key_is_not_needed_after_resealing() {
        let before = sealed(&sealer("old", &[("old", 1)]));
        let during = sealer("new", &[("new", 2), ("old", 1)]);
        assert_eq!(opened(&during, &before, "u1", 1).unwrap(), secret().expose());
        let resealed = during.reseal(&before, &owner("u1"), &subscription(1)).unwrap().unwrap();
        let after = sealer("new", &[("new", 2)]);
        assert_eq!(opened(&after, &resealed, "u1", 1).unwrap(), secret().expose());
        assert_eq!(opened(&after, &before, "u1", 1), Err(OpenError::UnknownKey));
        let stranger = after.reseal(&before, &owner("u1"), &subscription(1));
        assert_eq!(stranger, Err(OpenError::UnknownKey));
        let wrong = sealer("old", &[("old", 9)]);
        assert_eq!(opened(&wrong, &before, "u1", 1), Err(OpenError::NotAuthentic));
    }

    #[tokio::test]
    async fn reseal_changes_only_subscriptions_that_another_key_sealed() {
        let store = MemorySubscriptions::default();
        let old = sealer("old", &[("old", 1)]);
        let mut row = sample::subscription("u1", 1);
        let seal = |key: SigningKey| old.seal(&key, &row.user_id, &row.id);
        let pair = SigningKey::from_random(SignatureScheme::Ed25519, &[7; 32]);
        let (current, previous) = (seal(secret().into()), seal(pair));
        let (name, value) = ("x-key".parse().unwrap(), "value".parse().unwrap());
        let header = old.seal_header((&name, &value), &row.user_id, &row.id);
        row.headers = [(name, header)].into_iter().collect();
        let old_key = previous.clone();
        let previous = PreviousSecret { sealed: previous, expires_at: sample::at(60) };
        row.secrets = SubscriptionSecrets { current, previous: vec![previous] };
        store.create(&row).await.unwrap();
        let new = sealer("new", &[("new", 2), ("old", 1)]);
        assert!(reseal(&store, &new, &row.user_id, &row.id).await.unwrap().unwrap().1);
        assert!(!reseal(&store, &new, &row.user_id, &row.id).await.unwrap().unwrap().1);
        let resealed = store.snapshot().remove(0);
        let after = sealer("new", &[("new", 2)]);
        let keys = resealed.signing_secrets(&after, sample::at(0)).unwrap();
        assert_eq!(*keys.current.expose(), secret().expose());
        assert_eq!(keys.previous[0].public_key().as_deref(), old_key.public_key());
        assert_eq!(resealed.secrets.previous[0].sealed.public_key(), old_key.public_key());
        let headers = resealed.open_headers(&after).unwrap();
        assert_eq!(headers[0].1.expose(), "value");
        let (secrets, headers) = (row.secrets.clone(), row.headers.clone());
        let only_secrets = Subscription { secrets, headers, version: 1, ..resealed };
        assert_eq!(only_secrets, row);
    }

    #[test]
    fn keys_are_parsed_and_errors_say_what_is_wrong() {
        let parse = |text: &str| Sealer::parse(text, Arc::new(SystemRandom));
        let key = STANDARD.encode([3; 32]);
        let sealer = parse(&format!("k2:{key}, k1:{key}")).unwrap();
        assert_eq!(sealer.current, "k2");
        assert!(!format!("{sealer:?}").contains(&key));
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
