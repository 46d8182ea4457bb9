//! Signatures of a delivery: the reference's scheme and Standard Webhooks 1.0, side by side.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::secret::{Secret, SigningSecrets};
use crate::signing_key::SigningKey;
use crate::time::Timestamp;

/// The reference's signature header.
pub const SIGNATURE_HEADER: &str = "x-webhook-signature";

/// `X-Webhook-Signature`: `sha256=` and the hex HMAC-SHA256 of the body, keyed with the whole
/// secret as UTF-8, prefix and all.
pub fn reference_signature(secret: &Secret, body: &str) -> String {
    let digest = mac(secret.expose().as_bytes(), &[body.as_bytes()]);
    format!("sha256={}", hex::encode(digest))
}

/// One entry of `webhook-signature`: `v1,` and the base64 HMAC-SHA256 of `{id}.{timestamp}.{body}`,
/// keyed with the decoded part behind `whsec_`.
pub fn standard_signature(secret: &Secret, id: &str, timestamp: i64, body: &str) -> String {
    let timestamp = timestamp.to_string();
    let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body.as_bytes()];
    format!("v1,{}", STANDARD.encode(mac(&secret.key(), &parts)))
}

/// The signature headers of an attempt made at `now`, names in lower case.
///
/// Every key gives an entry of `webhook-signature`. The reference's header holds one signature only,
/// that of the newest secret; a key pair gives none.
pub fn headers(
    secrets: &SigningSecrets,
    id: &str,
    now: Timestamp,
    body: &str,
) -> Vec<(&'static str, String)> {
    let standard: Vec<String> =
        secrets.iter().map(|key| key.standard_signature(id, now.seconds(), body)).collect();
    let mut headers = vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", now.seconds().to_string()),
        ("webhook-signature", standard.join(" ")),
    ];
    if let Some(reference) = secrets.current.reference_signature(body) {
        headers.push((SIGNATURE_HEADER, reference));
    }
    headers
}

/// Whether `X-Webhook-Signature` fits the body, in constant time.
pub fn verify_reference(secret: &Secret, body: &str, given: &str) -> bool {
    same(reference_signature(secret, body).as_bytes(), given.as_bytes())
}

/// Whether one entry of `webhook-signature` fits, in constant time. An Ed25519 signature is
/// deterministic, so that its maker can verify it by making it again.
pub fn verify_standard(
    key: &SigningKey,
    id: &str,
    timestamp: i64,
    body: &str,
    given: &str,
) -> bool {
    let expected = key.standard_signature(id, timestamp, body);
    given.split(' ').any(|entry| same(expected.as_bytes(), entry.as_bytes()))
}

fn same(expected: &[u8], given: &[u8]) -> bool {
    expected.ct_eq(given).into()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn reference_signature_is_keyed_with_the_whole_secret() {
        // Computed with Python:
        // hmac.new(b"whsec_" + base64.b64encode(bytes([7]*32)), b'{"a":1}', hashlib.sha256)
        let secret = Secret::from_random(&[7; 32]);
        assert_eq!(
            reference_signature(&secret, r#"{"a":1}"#),
            "sha256=5e311a3de1d034f7795443197f92801512827c7024b3fb51f95840bd250f1dcc"
        );
    }

    #[test]
    fn every_secret_signs_and_the_newest_signs_the_reference_header() {
        let now = Timestamp::from_seconds(NOW);
        let [newest, old, other] = [1, 2, 3].map(|n| Secret::from_random(&[n; 32]));
        let (current, previous) = (newest.clone().into(), vec![old.clone().into()]);
        let headers = headers(&SigningSecrets { current, previous }, "dlv_1", now, "{}");
        let [_, _, (_, standard), (_, reference)] = &headers[..] else { panic!("{headers:?}") };
        assert_eq!(standard.split(' ').count(), 2);
        for (secret, signs) in [(&newest, true), (&old, true), (&other, false)] {
            let key = secret.clone().into();
            assert_eq!(verify_standard(&key, "dlv_1", NOW, "{}", standard), signs);
        }
        assert!(verify_reference(&newest, "{}", reference));
        assert!(!verify_reference(&old, "{}", reference));
    }

    proptest! {
        // `standardwebhooks` is the verifier that receivers use.
        #[test]
        fn standard_webhooks_verifier_accepts_our_signature_and_no_other(
            key in any::<[u8; 32]>(), id in "dlv_[0-9A-Z]{26}", body in ".{0,200}", flip in 0..32usize,
        ) {
            let secret = Secret::from_random(&key);
            // The verifier compares with the wall clock, so the attempt is made now.
            let now = Timestamp::from_system_time(wall_clock()).unwrap();
            let signing = SigningSecrets { current: secret.clone().into(), previous: Vec::new() };
            let mut map = http::HeaderMap::new();
            for (name, value) in headers(&signing, &id, now, &body) {
                map.insert(name, value.parse().unwrap());
            }
            let verifier = standardwebhooks::Webhook::new(secret.expose()).unwrap();
            prop_assert!(verifier.verify(body.as_bytes(), &map).is_ok());

            let mut other = key;
            other[flip] ^= 1;
            let verifier = standardwebhooks::Webhook::new(Secret::from_random(&other).expose()).unwrap();
            prop_assert!(verifier.verify(body.as_bytes(), &map).is_err());
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the verifier reads the wall clock itself")]
    fn wall_clock() -> std::time::SystemTime {
        std::time::SystemTime::now()
    }
}
