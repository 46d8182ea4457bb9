//! Signatures of a delivery: the reference's scheme and Standard Webhooks 1.0, side by side.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::secret::{Secret, SigningSecret};
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

/// The four signature headers of an attempt made at `now`, names in lower case.
///
/// Every secret that signs at this moment gives an entry of `webhook-signature`. The reference's
/// header holds one signature only: that of the newest secret, which stands first.
pub fn headers(
    secrets: &[SigningSecret],
    id: &str,
    now: Timestamp,
    body: &str,
) -> Vec<(&'static str, String)> {
    let valid: Vec<&Secret> =
        secrets.iter().filter(|s| s.signs_at(now)).map(|s| &s.secret).collect();
    let standard: Vec<String> =
        valid.iter().map(|secret| standard_signature(secret, id, now.seconds(), body)).collect();
    let mut headers = vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", now.seconds().to_string()),
        ("webhook-signature", standard.join(" ")),
    ];
    if let Some(newest) = valid.first() {
        headers.push((SIGNATURE_HEADER, reference_signature(newest, body)));
    }
    headers
}

/// Whether `X-Webhook-Signature` fits the body, in constant time.
pub fn verify_reference(secret: &Secret, body: &str, given: &str) -> bool {
    same(reference_signature(secret, body).as_bytes(), given.as_bytes())
}

/// Whether one entry of `webhook-signature` fits, in constant time.
pub fn verify_standard(secret: &Secret, id: &str, timestamp: i64, body: &str, given: &str) -> bool {
    let expected = standard_signature(secret, id, timestamp, body);
    given.split(' ').any(|entry| same(expected.as_bytes(), entry.as_bytes()))
}

fn same(expected: &[u8], given: &[u8]) -> bool {
    expected.ct_eq(given).into()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of every length, so the error cannot occur; an empty key would sign nothing
    // that any receiver accepts.
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_| Hmac::<Sha256>::new(&hmac::digest::Key::<Hmac<Sha256>>::default()));
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
    fn the_reference_scheme_keys_with_the_whole_secret() {
        // Computed with Python:
        // hmac.new(b"whsec_" + base64.b64encode(bytes([7]*32)), b'{"a":1}', hashlib.sha256)
        let secret = Secret::from_random(&[7; 32]);
        assert_eq!(
            reference_signature(&secret, r#"{"a":1}"#),
            "sha256=5e311a3de1d034f7795443197f92801512827c7024b3fb51f95840bd250f1dcc"
        );
    }

    #[test]
    fn every_secret_signs_until_it_expires() {
        let now = Timestamp::from_seconds(NOW);
        let secrets = [
            SigningSecret { secret: Secret::from_random(&[1; 32]), expires_at: None },
            SigningSecret {
                secret: Secret::from_random(&[2; 32]),
                expires_at: Some(now.plus_seconds(1)),
            },
            SigningSecret { secret: Secret::from_random(&[3; 32]), expires_at: Some(now) },
        ];
        let headers = headers(&secrets, "dlv_1", now, "{}");
        let standard = &headers.iter().find(|(name, _)| *name == "webhook-signature").unwrap().1;
        assert_eq!(standard.split(' ').count(), 2);
        for (n, valid) in [(0, true), (1, true), (2, false)] {
            assert_eq!(verify_standard(&secrets[n].secret, "dlv_1", NOW, "{}", standard), valid);
        }
        let reference = &headers.iter().find(|(name, _)| *name == SIGNATURE_HEADER).unwrap().1;
        assert!(verify_reference(&secrets[0].secret, "{}", reference));
        assert!(!verify_reference(&secrets[1].secret, "{}", reference));
    }

    proptest! {
        // The judge is the verifier that receivers use.
        #[test]
        fn standard_webhooks_accepts_what_we_sign(
            key in any::<[u8; 32]>(), id in "dlv_[0-9A-Z]{26}", body in ".{0,200}", flip in 0..32usize,
        ) {
            let secret = Secret::from_random(&key);
            // The verifier compares with the wall clock, so the attempt is made now.
            let now = Timestamp::from_system_time(now_for_the_judge()).unwrap();
            let signing = [SigningSecret { secret: secret.clone(), expires_at: None }];
            let mut map = http::HeaderMap::new();
            for (name, value) in headers(&signing, &id, now, &body) {
                map.insert(name, value.parse().unwrap());
            }
            let judge = standardwebhooks::Webhook::new(secret.expose()).unwrap();
            prop_assert!(judge.verify(body.as_bytes(), &map).is_ok());

            let mut other = key;
            other[flip] ^= 1;
            let judge = standardwebhooks::Webhook::new(Secret::from_random(&other).expose()).unwrap();
            prop_assert!(judge.verify(body.as_bytes(), &map).is_err());
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the judge reads the wall clock itself")]
    fn now_for_the_judge() -> std::time::SystemTime {
        std::time::SystemTime::now()
    }
}
