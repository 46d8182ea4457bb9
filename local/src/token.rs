//! Bearer tokens of the local system: what issues them and what the local gateway checks.
//!
//! Deployed, an identity provider signs the tokens and API Gateway's JWT authorizer checks them.
//! Here both use one key, which is in this file. It is no secret and protects nothing: whoever
//! reaches the local system can do anything with it. The checks are those that
//! [API Gateway documents](https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html)
//! (`kid`, signature, `iss`, `aud` or else `client_id`, `exp`, `nbf`, `iat`), so that a client that
//! works here does not fail there. Only the algorithm differs: API Gateway takes RSA signatures.
//!
//! Deliberately absent: key rotation. Whether `sub` is a user id, and what scopes allow, is for the
//! functions to check, as when deployed.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde_json::{Map, Value, json};
use webhooks_core::ids::UserId;
use webhooks_core::time::Timestamp;

use crate::hs256;

/// Who issues the tokens of the local system.
pub const ISSUER: &str = "local";
/// The audience that the gateway is configured with.
pub const AUDIENCE: &str = "webhooks";
/// How long a token is valid, in seconds.
pub const LIFETIME_SECONDS: u64 = 24 * 60 * 60;
/// The id of [`KEY`], which the header of a token must name.
pub const KEY_ID: &str = "local";
/// The well-known development key. It must never sign anything that is deployed.
pub const KEY: &[u8] = b"webhooks local development key, known to everybody";

/// The claims of a token.
pub type Claims = Map<String, Value>;

/// Why a token is refused. Only the debug log shows it, not the response.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The form, the algorithm or the signature is wrong.
    #[error(transparent)]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// The header names another key, or extensions that this verifier does not know (RFC 7515,
    /// section 4.1.11).
    #[error("the header has another `kid`, or has `crit`")]
    Header,
    /// A claim is missing or wrong.
    #[error("the claim `{0}` is missing or wrong")]
    Claim(&'static str),
}

/// A token for `user`, valid from `now` on for [`LIFETIME_SECONDS`].
pub fn issue(user: &UserId, now: Timestamp) -> Result<String, TokenError> {
    issue_with_scope(user, None, now)
}

/// The same with the claim `scope`, which restricts it.
pub fn issue_with_scope(
    user: &UserId,
    scope: Option<&str>,
    now: Timestamp,
) -> Result<String, TokenError> {
    let mut claims = json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "iat": now.seconds(),
        "exp": now.plus_seconds(LIFETIME_SECONDS).seconds(),
    });
    if let Some(scope) = scope {
        claims["scope"] = scope.into();
    }
    hs256::install();
    let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::HS256) };
    Ok(encode(&header, &claims, &EncodingKey::from_secret(KEY))?)
}

/// The claims of a token that is valid at `now`.
pub fn check(token: &str, now: Timestamp) -> Result<Claims, TokenError> {
    // The library checks the form, the algorithm and the signature. It reads the wall clock itself,
    // and treats lists and absent claims otherwise than API Gateway, so the claims are checked here.
    let mut rules = Validation::new(Algorithm::HS256);
    rules.required_spec_claims.clear();
    (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
    hs256::install();
    let token = decode::<Claims>(token, &DecodingKey::from_secret(KEY), &rules)?;
    if token.header.kid.as_deref() != Some(KEY_ID) || token.header.crit.is_some() {
        return Err(TokenError::Header);
    }
    check_claims(&token.claims, now).map_err(TokenError::Claim)?;
    Ok(token.claims)
}

/// Checks the claims, or names the one that is wrong.
fn check_claims(claims: &Claims, now: Timestamp) -> Result<(), &'static str> {
    let valid = |name, valid: bool| if valid { Ok(()) } else { Err(name) };
    let is = |value: &Value, text: &str| value.as_str() == Some(text);
    valid("iss", claims.get("iss").is_some_and(|issuer| is(issuer, ISSUER)))?;
    match (claims.get("aud"), claims.get("client_id")) {
        (Some(Value::Array(audiences)), _) => {
            valid("aud", audiences.iter().any(|audience| is(audience, AUDIENCE)))?;
        }
        (Some(audience), _) => valid("aud", is(audience, AUDIENCE))?,
        (None, Some(client_id)) => valid("client_id", is(client_id, AUDIENCE))?,
        (None, None) => return Err("aud"),
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds stay far below 2^53")]
    let now = now.seconds() as f64;
    // A claim that is not a number is wrong.
    let seconds = |name: &str| claims.get(name).map(|value| value.as_f64().unwrap_or(f64::NAN));
    valid("exp", seconds("exp").is_some_and(|time| time > now))?;
    for name in ["nbf", "iat"] {
        valid(name, seconds(name).is_none_or(|time| time <= now))?;
    }
    Ok(())
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
        with_header(&json!({"alg": algorithm, "typ": "JWT", "kid": KEY_ID}), claims)
    }

    fn with_header(header: &Value, claims: &Value) -> String {
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        format!("{header}.{claims}")
    }

    /// Signed by hand, so that the check is not tested with its own other half.
    fn signed(claims: &Value, key: &[u8]) -> String {
        sign(&message("HS256", claims), key)
    }

    fn sign(message: &str, key: &[u8]) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(message);
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn accepts(claims: &Value) -> bool {
        check(&signed(claims, KEY), now()).is_ok()
    }

    #[test]
    fn token_is_valid_for_its_lifetime() {
        let token = issue(&"grace".parse().unwrap(), now()).unwrap();
        assert_eq!(check(&token, now()).unwrap()["sub"], "grace");
        let last = now().plus_seconds(LIFETIME_SECONDS);
        assert!(check(&token, Timestamp::from_seconds(last.seconds() - 1)).is_ok());
        assert!(check(&token, last).is_err());
        assert!(check(&token, NOW).is_err(), "issued in the future");
    }

    #[test]
    fn token_without_a_required_claim_is_refused() {
        assert!(accepts(&good()));
        for claim in ["iss", "aud", "exp"] {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(claim);
            assert!(!accepts(&claims), "without {claim}");
            for bad in [json!("other"), json!(null), json!(""), json!(["x"]), json!({}), json!(-1)]
            {
                let mut claims = good();
                claims[claim] = bad.clone();
                assert!(!accepts(&claims), "{claim} {bad}");
            }
        }
        for claim in ["nbf", "iat"] {
            for (value, accepted) in [(0, true), (60, false)] {
                let mut claims = good();
                claims[claim] = json!(now().seconds() + value);
                assert_eq!(accepts(&claims), accepted, "{claim} {value}");
            }
        }
    }

    #[test]
    fn claims_are_checked_as_api_gateway_documents() {
        for (change, accepted) in [
            (json!({"aud": ["other", AUDIENCE]}), true),
            (json!({"iss": [ISSUER]}), false),
            (json!({"aud": null, "client_id": AUDIENCE}), false),
            (json!({"aud": "other", "client_id": AUDIENCE}), false),
            (json!({"client_id": "other"}), true),
            (json!({"sub": null}), true),
        ] {
            let mut claims = good();
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            assert_eq!(accepts(&claims), accepted, "{change}");
        }
        for (client_id, accepted) in [(AUDIENCE, true), ("other", false)] {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove("aud");
            claims["client_id"] = json!(client_id);
            assert_eq!(accepts(&claims), accepted, "client_id {client_id} without aud");
        }
    }

    #[test]
    fn another_key_id_and_critical_extensions_are_refused() {
        for header in [
            json!({"alg": "HS256"}),
            json!({"alg": "HS256", "kid": "other"}),
            json!({"alg": "HS256", "kid": KEY_ID, "crit": ["exp"], "exp": 1}),
            json!({"alg": "HS256", "kid": KEY_ID, "crit": []}),
        ] {
            assert!(check(&sign(&with_header(&header, &good()), KEY), now()).is_err(), "{header}");
        }
    }

    #[test]
    fn other_keys_and_algorithms_are_refused() {
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
    fn unsigned_or_relabelled_token_is_refused() {
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
