//! Verifies webhook signatures. Needs the crates `base64`, `hex`, `hmac` 0.13 and `sha2` 0.11.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const TOLERANCE_SECONDS: u64 = 300;

/// Whether `webhook-signature` fits. `body` is the raw bytes of the request, `now` is Unix seconds.
pub fn verify_standard(
    secret: &str,
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now: i64,
) -> bool {
    let Ok(sent) = timestamp.parse::<i64>() else { return false };
    let Ok(key) = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)) else {
        return false;
    };
    if now.abs_diff(sent) > TOLERANCE_SECONDS {
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

/// Whether `X-Webhook-Signature` fits.
pub fn verify_reference(secret: &str, signature: &str, body: &[u8]) -> bool {
    let given = signature.strip_prefix("sha256=").and_then(|digest| hex::decode(digest).ok());
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    mac.update(body);
    given.is_some_and(|given| mac.verify_slice(&given).is_ok())
}
