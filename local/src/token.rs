//! Bearer tokens of the local system: what issues them and what the local gateway checks.
//!
//! Deployed, an identity provider signs the tokens and API Gateway's JWT authorizer checks them.
//! Here both ends share one key that stands in this file. It is no secret and protects nothing:
//! whoever can reach the local system may do anything with it anyway. The check itself is as strict
//! as the deployed one (algorithm, signature, issuer, audience, `exp`, `nbf`, `iat`, `sub`), so
//! that a client that works here does not fail there.
//!
//! Deliberately absent: key ids, key rotation and scopes.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Map, Value, json};
use webhooks_core::ids::UserId;
use webhooks_core::time::Timestamp;

use crate::hs256;

/// Who issues the tokens of the local system.
pub const ISSUER: &str = "local";
/// Whom the tokens are meant for.
pub const AUDIENCE: &str = "webhooks";
/// How long a token is good for, in seconds: a day's work.
pub const LIFETIME_SECONDS: u64 = 24 * 60 * 60;
/// How far two clocks may differ, in seconds.
const LEEWAY_SECONDS: u64 = 5;
/// The well-known development key. It must never sign anything that is deployed.
pub const KEY: &[u8] = b"webhooks local development key, known to everybody";

/// What a good token says.
pub type Claims = Map<String, Value>;

/// A token that is not good. Callers are not told why; a debug log may.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The form, the algorithm, the signature, the issuer or the audience.
    #[error(transparent)]
    Refused(#[from] jsonwebtoken::errors::Error),
    /// It is too early or too late for it.
    #[error("the token is not valid at this time")]
    Time,
    /// It names no user that this service could know.
    #[error("the token's `sub` is not a user id")]
    Subject,
}

/// A token for `user`, good from `now` on for [`LIFETIME_SECONDS`].
pub fn issue(user: &UserId, now: Timestamp) -> Result<String, TokenError> {
    let claims = json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "iat": now.seconds(),
        "exp": now.plus_seconds(LIFETIME_SECONDS).seconds(),
    });
    hs256::install();
    let key = EncodingKey::from_secret(KEY);
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

/// The claims of a token, if it is good at `now`.
pub fn check(token: &str, now: Timestamp) -> Result<Claims, TokenError> {
    let mut rules = Validation::new(Algorithm::HS256);
    rules.set_issuer(&[ISSUER]);
    rules.set_audience(&[AUDIENCE]);
    rules.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    // The library reads the wall clock itself; the times are checked below, by our clock.
    rules.validate_exp = false;
    hs256::install();
    let key = DecodingKey::from_secret(KEY);
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &rules)?.claims;
    if !in_time(&claims, now) {
        return Err(TokenError::Time);
    }
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    subject.parse::<UserId>().map_err(|_| TokenError::Subject)?;
    Ok(claims)
}

/// `exp` lies ahead; `nbf` and `iat`, where they are given, do not. What is no number is refused.
fn in_time(claims: &Claims, now: Timestamp) -> bool {
    let seconds = |name: &str| claims.get(name).map(|value| value.as_f64().unwrap_or(f64::NAN));
    #[expect(clippy::cast_precision_loss, reason = "seconds stay far below 2^53")]
    let (now, leeway) = (now.seconds() as f64, LEEWAY_SECONDS as f64);
    let begun = |name| seconds(name).is_none_or(|moment| moment <= now + leeway);
    seconds("exp").is_some_and(|end| now < end + leeway) && begun("nbf") && begun("iat")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::{Sha256, Sha384, Sha512};

    const NOW: Timestamp = Timestamp::EPOCH;

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }

    fn good() -> Value {
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "u1", "exp": now().seconds() + 60})
    }

    fn message(algorithm: &str, claims: &Value) -> String {
        let header = json!({"alg": algorithm, "typ": "JWT"});
        let [header, claims] =
            [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{header}.{claims}")
    }

    /// Signed by hand, so that the check is not tested with its own other half.
    fn signed(claims: &Value, key: &[u8]) -> String {
        let message = message("HS256", claims);
        let mac = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(&message);
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn accepts(claims: &Value) -> bool {
        check(&signed(claims, KEY), now()).is_ok()
    }

    #[test]
    fn a_token_is_good_for_its_lifetime() {
        let token = issue(&"grace".parse().unwrap(), now()).unwrap();
        assert_eq!(check(&token, now()).unwrap()["sub"], "grace");
        let last = now().plus_seconds(LIFETIME_SECONDS);
        assert!(check(&token, last).is_ok());
        assert!(check(&token, last.plus_seconds(LEEWAY_SECONDS)).is_err());
        assert!(check(&token, NOW).is_err(), "issued in the future");
    }

    #[test]
    fn every_claim_is_needed() {
        assert!(accepts(&good()));
        for claim in ["iss", "aud", "sub", "exp"] {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(claim);
            assert!(!accepts(&claims), "without {claim}");
            for bad in [json!("other"), json!(null), json!(""), json!(["x"]), json!({}), json!(-1)]
            {
                let mut claims = good();
                claims[claim] = bad.clone();
                let is_a_user = claim == "sub" && bad == "other";
                assert_eq!(accepts(&claims), is_a_user, "{claim} {bad}");
            }
        }
    }

    #[test]
    fn a_token_of_tomorrow_is_refused_and_lists_are_read() {
        for claim in ["nbf", "iat"] {
            let mut claims = good();
            claims[claim] = json!(now().seconds() + 60);
            assert!(!accepts(&claims), "{claim}");
        }
        let mut claims = good();
        claims["aud"] = json!(["other", AUDIENCE]);
        assert!(accepts(&claims));
    }

    #[test]
    fn only_our_key_and_algorithm_count() {
        assert!(check(&signed(&good(), KEY), now()).is_ok());
        assert!(check(&signed(&good(), b"another key"), now()).is_err());
        let message = |algorithm| message(algorithm, &good());
        let (message384, message512) = (message("HS384"), message("HS512"));
        let mac384 = Hmac::<Sha384>::new_from_slice(KEY).unwrap().chain_update(&message384);
        let mac512 = Hmac::<Sha512>::new_from_slice(KEY).unwrap().chain_update(&message512);
        for (message, mac) in [
            (message384, mac384.finalize().into_bytes().to_vec()),
            (message512, mac512.finalize().into_bytes().to_vec()),
        ] {
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac));
            assert!(check(&token, now()).is_err(), "{message}");
        }
    }

    #[test]
    fn an_unsigned_or_relabelled_token_is_refused() {
        let real = signed(&good(), KEY);
        let parts: Vec<&str> = real.split('.').collect();
        let header = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for bad in [
            format!("{}.{}.", header(r#"{"alg":"none","typ":"JWT"}"#), parts[1]),
            format!("{}.{}.{}", header(r#"{"alg":"none"}"#), parts[1], parts[2]),
            format!("{}.{}.{}", header(r#"{"alg":"NONE"}"#), parts[1], parts[2]),
            format!("{}.{}.{}", header(r#"{"alg":"RS256","typ":"JWT"}"#), parts[1], parts[2]),
            format!("{}.{}.{}", header(r#"{"alg":"ES256","typ":"JWT"}"#), parts[1], parts[2]),
            format!(
                "{}.{}.{}",
                parts[0],
                header(&good().to_string().replace("u1", "u2")),
                parts[2]
            ),
            format!("{}.{}", parts[0], parts[1]),
            format!("{real}."),
            format!("{real} "),
            "..".to_owned(),
            String::new(),
        ] {
            assert!(check(&bad, now()).is_err(), "{bad}");
        }
    }
}
