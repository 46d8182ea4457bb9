//! Bearer tokens of the local gateway.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use test_support::sample;
use webhooks_local::token::{self, AUDIENCE, ISSUER, KEY, KEY_ID};

use crate::text;

/// A whole token; or a token's header, claims and any bytes, a line each, which are then signed with
/// the right key.
pub fn token(input: &[u8]) {
    let Some(input) = text(input) else { return };
    let now = sample::start();
    let Some((header, rest)) = input.split_once('\n') else {
        assert!(token::check(input, now).is_err(), "nobody signed this");
        return;
    };
    let (claims, noise) = rest.split_once('\n').unwrap_or((rest, ""));
    let signed = sign(header, claims);
    let accepted = token::check(&signed, now);
    if let Ok(read) = &accepted {
        let header: Value = serde_json::from_str(header).unwrap();
        assert_eq!((&header["alg"], &header["kid"]), (&"HS256".into(), &KEY_ID.into()));
        assert!(header.get("crit").is_none());
        assert!(is_good(&Value::Object(read.clone())), "{read:?}");
        check_changes(&signed, noise);
    }
    let plain = header == r#"{"alg":"HS256","kid":"local"}"#;
    // In the one spelling that serde_json would write, so that no claim stands there twice.
    let claims_again = serde_json::from_str::<Value>(claims).unwrap_or_default();
    let spelling = claims_again.to_string();
    if plain && spelling == claims && is_good_and_plain(&claims_again) {
        assert!(accepted.is_ok(), "{claims}: {accepted:?}");
    }
}

/// Other bytes anywhere, and it is refused.
fn check_changes(signed: &str, noise: &str) {
    for (at, c) in noise.chars().enumerate().take(8) {
        let at = (at * 31 + noise.len() * 7) % signed.len();
        let changed = format!("{}{c}{}", &signed[..at], &signed[at + 1..]);
        assert!(changed == signed || token::check(&changed, sample::start()).is_err(), "{changed}");
    }
}

fn sign(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap().chain_update(&message);
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn is_good(claims: &Value) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "seconds stay far below 2^53")]
    let now = sample::start().seconds() as f64;
    let begun = |name: &str| match claims.get(name) {
        None => true,
        Some(moment) => moment.as_f64().is_some_and(|moment| moment <= now),
    };
    let audience = claims.get("aud").or(claims.get("client_id"));
    claims["iss"] == ISSUER
        && audience.is_some_and(|audience| names(audience, AUDIENCE))
        && claims["exp"].as_f64().is_some_and(|end| now < end)
        && begun("nbf")
        && begun("iat")
}

/// A claim may be one text or a list of texts.
fn names(claim: &Value, name: &str) -> bool {
    match claim {
        Value::Array(all) => all.iter().any(|one| one == name),
        one => one == name,
    }
}

/// Good, and spelled so that no reader can take offence.
fn is_good_and_plain(claims: &Value) -> bool {
    let is_text = |name: &str| claims[name].is_string();
    let is_count = |name: &str| claims.get(name).is_none_or(Value::is_u64);
    is_good(claims)
        && is_text("iss")
        && is_text("aud")
        && is_count("exp")
        && is_count("nbf")
        && is_count("iat")
}
