//! Verifies webhook signatures. Needs the crates `base64`, `hex`, `hmac` 0.13 and `sha2` 0.11.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const TOLERANCE_SECONDS: u64 = 300;

/// The key of a `whsec_` secret: 24 to 64 bytes. `None` for any other string.
fn secret_key(secret: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

/// Whether `webhook-signature` is valid. `body` is the raw bytes of the request, `now` is in Unix
/// seconds.
pub fn verify_standard(
    secret: &str,
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now: i64,
) -> bool {
    let Some(key) = secret_key(secret) else { return false };
    let is_decimal = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let Ok(sent) = timestamp.parse::<i64>() else { return false };
    if !is_decimal || timestamp.len() > 11 || now.abs_diff(sent) > TOLERANCE_SECONDS {
        return false;
    }
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return false };
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    let given = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,"));
    given
        .filter_map(|one| STANDARD.decode(one).ok())
        .any(|digest| mac.clone().verify_slice(&digest).is_ok())
}

/// Whether `X-Webhook-Signature` is valid.
pub fn verify_reference(secret: &str, signature: &str, body: &[u8]) -> bool {
    if secret_key(secret).is_none() {
        return false;
    }
    let given = signature.strip_prefix("sha256=").and_then(|digest| hex::decode(digest).ok());
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    mac.update(body);
    given.is_some_and(|given| mac.verify_slice(&given).is_ok())
}
