//! Whether the signatures of a request are valid, and if not, why.
//!
//! * A [`Key`] is what the receiver verifies with: a secret or a public key.
//! * A [`Signature`] is one scheme of the request, and the key that made it, if it is a given one.
//! * A [`Reason`] says what is wrong. It is found by undoing what receivers and proxies are known to do to
//!   a body or a secret: a reason is certain when the signature is valid afterwards.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::VerifyingKey;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::Sha256;
use webhooks_core::json::Data;
use webhooks_core::time::Timestamp;

use crate::saved_request::SavedRequest;

/// How much the timestamp may differ (Standard Webhooks 1.0 advises five minutes).
const TOLERANCE_SECONDS: u64 = 5 * 60;
const SECRET_PREFIX: &str = "whsec_";
const PUBLIC_PREFIX: &str = "whpk_";
const KEY_BYTES: usize = 32;
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What the receiver verifies with.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    /// As it was given, so that a wrong spelling is noticed.
    Secret(String),
    Public(VerifyingKey),
}

/// A text that is no public key.
#[derive(Debug, thiserror::Error)]
#[error("is not a public key: `whpk_` and the Base64 of 32 bytes")]
pub(crate) struct NotAPublicKey;

impl Key {
    pub(crate) fn public(text: &str) -> Result<Self, NotAPublicKey> {
        let encoded = text.strip_prefix(PUBLIC_PREFIX).ok_or(NotAPublicKey)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NotAPublicKey)?;
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes).map_err(|_| NotAPublicKey)?;
        VerifyingKey::from_bytes(&bytes).map(Self::Public).map_err(|_| NotAPublicKey)
    }
}

/// A scheme of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scheme {
    /// `webhook-signature` with `v1`.
    StandardHmac,
    /// `webhook-signature` with `v1a`.
    StandardEd25519,
    /// `X-Webhook-Signature`.
    Body,
}

impl Scheme {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::StandardHmac => "webhook-signature v1 (HMAC-SHA256)",
            Self::StandardEd25519 => "webhook-signature v1a (Ed25519)",
            Self::Body => "X-Webhook-Signature (HMAC-SHA256 of the body)",
        }
    }
}

/// One scheme of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Signature {
    pub(crate) scheme: Scheme,
    /// The number of the key that made it, from 1 on, secrets before public keys.
    pub(crate) key: Option<usize>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    NotSigned,
    MissingHeader,
    OtherScheme,
    StaleTimestamp,
    EarlyTimestamp,
    ReserialisedBody,
    WrongEncoding,
    ChangedBody,
    ChangedHeader,
    WrongSecret,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reason {
    pub(crate) code: Code,
    /// Whether the signature is valid once it is undone.
    pub(crate) is_certain: bool,
    pub(crate) detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Diagnosis {
    /// Whether a receiver that verifies one of the schemes accepts the request.
    pub(crate) valid: bool,
    pub(crate) signatures: Vec<Signature>,
    pub(crate) reasons: Vec<Reason>,
}

/// What a scheme signs, and the entries of the header.
struct Signed<'a> {
    id: &'a str,
    timestamp: &'a str,
    standard: Vec<&'a str>,
    body_only: Option<&'a str>,
}

impl<'a> Signed<'a> {
    fn of(request: &'a SavedRequest) -> Self {
        let standard = request.header("webhook-signature").unwrap_or_default();
        Self {
            id: request.header("webhook-id").unwrap_or_default(),
            timestamp: request.header("webhook-timestamp").unwrap_or_default(),
            standard: standard.split_ascii_whitespace().collect(),
            body_only: request.header("x-webhook-signature"),
        }
    }

    fn schemes(&self) -> Vec<Scheme> {
        let has = |version: &str| self.standard.iter().any(|entry| entry.starts_with(version));
        let schemes = [
            (Scheme::StandardHmac, has("v1,")),
            (Scheme::StandardEd25519, has("v1a,")),
            (Scheme::Body, self.body_only.is_some()),
        ];
        schemes.into_iter().filter_map(|(scheme, is_there)| is_there.then_some(scheme)).collect()
    }

    /// Whether a key made the signature of this scheme over this body.
    fn is_made_by(&self, scheme: Scheme, key: &Key, body: &[u8]) -> bool {
        match (scheme, key) {
            (Scheme::StandardHmac, Key::Secret(secret)) => {
                let Some(digest) = self.standard_digest(secret, body) else { return false };
                let expected = format!("v1,{}", STANDARD.encode(digest));
                self.standard.contains(&expected.as_str())
            }
            // Whoever knows that a receiver has no proper secret could sign with an empty one.
            (Scheme::Body, Key::Secret(secret)) if secret_bytes(secret).is_some() => {
                let expected = format!("sha256={}", hex::encode(hmac(secret.as_bytes(), &[body])));
                self.body_only == Some(&expected)
            }
            (Scheme::StandardEd25519, Key::Public(key)) => {
                let message =
                    [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", body].concat();
                let entries = self.standard.iter().filter_map(|entry| entry.strip_prefix("v1a,"));
                let mut signatures = entries.filter_map(|entry| STANDARD.decode(entry).ok());
                signatures.any(|signature| {
                    ed25519_dalek::Signature::from_slice(&signature)
                        .is_ok_and(|signature| key.verify_strict(&message, &signature).is_ok())
                })
            }
            _ => false,
        }
    }

    fn standard_digest(&self, secret: &str, body: &[u8]) -> Option<[u8; 32]> {
        let key = secret_bytes(secret)?;
        Some(hmac(&key, &[self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", body]))
    }

    /// The first key that made the signature of this scheme.
    fn maker(&self, scheme: Scheme, keys: &[Key], body: &[u8]) -> Option<usize> {
        keys.iter().position(|key| self.is_made_by(scheme, key, body)).map(|index| index + 1)
    }

    fn is_made_by_any(&self, keys: &[Key], body: &[u8]) -> bool {
        self.schemes().into_iter().any(|scheme| self.maker(scheme, keys, body).is_some())
    }
}

/// Verifies a request that was received at this time.
pub(crate) fn diagnose(request: &SavedRequest, keys: &[Key], received_at: Timestamp) -> Diagnosis {
    let signed = Signed::of(request);
    let signatures: Vec<Signature> = signed
        .schemes()
        .into_iter()
        .map(|scheme| Signature { scheme, key: signed.maker(scheme, keys, &request.body) })
        .collect();
    let is_made = |scheme: Scheme| signatures.iter().any(|s| s.scheme == scheme && s.key.is_some());
    let standard = is_made(Scheme::StandardHmac) || is_made(Scheme::StandardEd25519);
    let mut reasons = Vec::new();
    if signatures.is_empty() {
        let detail = "the request has neither `webhook-signature` nor `X-Webhook-Signature`: it is not from \
                      this service, or a proxy has removed its headers";
        reasons.push(certain(Code::NotSigned, detail));
    } else if standard {
        reasons.extend(timestamp(&signed, received_at));
    } else if is_made(Scheme::Body) {
        reasons.push(changed_header(&signed));
    } else {
        reasons.push(not_made(&signed, keys, &request.body));
    }
    // Where there is `webhook-signature`, it decides: `X-Webhook-Signature` covers no timestamp.
    let valid = if signed.standard.is_empty() {
        is_made(Scheme::Body)
    } else {
        standard && reasons.is_empty()
    };
    Diagnosis { valid, signatures, reasons }
}

fn certain(code: Code, detail: impl Into<String>) -> Reason {
    Reason { code, is_certain: true, detail: detail.into() }
}

fn possible(code: Code, detail: impl Into<String>) -> Reason {
    Reason { code, is_certain: false, detail: detail.into() }
}

/// Why a signature that a given key made is not accepted all the same.
fn timestamp(signed: &Signed<'_>, received_at: Timestamp) -> Option<Reason> {
    let is_digits = signed.timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let Some(seconds) = signed.timestamp.parse::<i64>().ok().filter(|_| is_digits) else {
        return Some(certain(
            Code::ChangedHeader,
            "`webhook-timestamp` is not a number of seconds",
        ));
    };
    let (sent, received) = (Timestamp::from_seconds(seconds), received_at.seconds());
    let distance = received.abs_diff(seconds);
    if distance <= TOLERANCE_SECONDS {
        return None;
    }
    let advice = "if the request is an old one, give --received-at; otherwise correct the clock of the receiver";
    Some(if received > seconds {
        certain(
            Code::StaleTimestamp,
            format!(
                "the timestamp is {distance} s old (sent {sent}); verifiers refuse more than {TOLERANCE_SECONDS} s: {advice}"
            ),
        )
    } else {
        certain(
            Code::EarlyTimestamp,
            format!("the timestamp is {distance} s in the future ({sent}): {advice}"),
        )
    })
}

/// Why `X-Webhook-Signature` is valid and `webhook-signature` is not: that one covers two headers, too.
fn changed_header(signed: &Signed<'_>) -> Reason {
    if signed.standard.is_empty() {
        return possible(
            Code::MissingHeader,
            "`webhook-signature` is missing; only `X-Webhook-Signature`, which has no timestamp, can be verified",
        );
    }
    certain(
        Code::ChangedHeader,
        "`X-Webhook-Signature` is valid and `webhook-signature` is not: `webhook-id`, `webhook-timestamp` or \
         `webhook-signature` is not what was sent",
    )
}

/// Why no given key made a signature.
fn not_made(signed: &Signed<'_>, keys: &[Key], body: &[u8]) -> Reason {
    let has_secret = keys.iter().any(|key| matches!(key, Key::Secret(_)));
    let has_public = keys.iter().any(|key| matches!(key, Key::Public(_)));
    let schemes = signed.schemes();
    if !has_secret && !schemes.contains(&Scheme::StandardEd25519) {
        return certain(
            Code::OtherScheme,
            "the request is signed with a secret (HMAC): give --secret",
        );
    }
    if !has_public && schemes == [Scheme::StandardEd25519] {
        let detail = "the request is signed with a key pair (Ed25519): give --public-key, which the API shows as `public_key`";
        return certain(Code::OtherScheme, detail);
    }
    if !schemes.contains(&Scheme::Body) && (signed.id.is_empty() || signed.timestamp.is_empty()) {
        return certain(
            Code::MissingHeader,
            "`webhook-id` or `webhook-timestamp` is missing, which `webhook-signature` covers",
        );
    }
    if let Some(detail) = header_encoding(signed, keys, body) {
        return certain(Code::WrongEncoding, detail);
    }
    let spellings = other_spellings(keys);
    for (detail, spelling) in &spellings {
        if signed.is_made_by_any(std::slice::from_ref(spelling), body) {
            return certain(Code::WrongEncoding, *detail);
        }
    }
    for (code, detail, original) in originals(body) {
        let with_other_spelling = || {
            spellings
                .iter()
                .any(|(_, key)| signed.is_made_by_any(std::slice::from_ref(key), &original))
        };
        if signed.is_made_by_any(keys, &original) || with_other_spelling() {
            return certain(code, detail);
        }
    }
    let is_secret = |key: &Key| match key {
        Key::Secret(secret) => secret_bytes(secret).is_some(),
        Key::Public(_) => true,
    };
    if !keys.iter().any(is_secret) {
        return possible(
            Code::WrongEncoding,
            "the given secret is none: it must be `whsec_` and the Base64 of 24 to 64 bytes",
        );
    }
    guess(body)
}

/// The bytes of a secret in its right spelling (Standard Webhooks 1.0).
fn secret_bytes(secret: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(secret.strip_prefix(SECRET_PREFIX)?).ok()?;
    SECRET_BYTES.contains(&bytes.len()).then_some(bytes)
}

/// A guess from the form of the body: the service sends one form only.
fn guess(body: &[u8]) -> Reason {
    let Some(sent) = sent_form(body) else {
        return possible(
            Code::ChangedBody,
            "the body is not the JSON of an event: it is not what was sent",
        );
    };
    if sent != body {
        return possible(
            Code::ReserialisedBody,
            "the body does not have the form that the service sends (compact, ASCII, `event_id` first): it was parsed \
             and serialised again, and the secret may be wrong, too. Verify the raw bytes of the request",
        );
    }
    possible(
        Code::WrongSecret,
        "no given key made the signature, and the body has the form that the service sends: the secret is that of \
         another webhook, or a rotation has replaced it, or a value of the body was changed",
    )
}

/// The digest is right, but written otherwise than the scheme says.
fn header_encoding(signed: &Signed<'_>, keys: &[Key], body: &[u8]) -> Option<&'static str> {
    let secrets = keys.iter().filter_map(|key| match key {
        Key::Secret(secret) => Some(secret),
        Key::Public(_) => None,
    });
    for secret in secrets {
        if let Some(digest) = signed.standard_digest(secret, body) {
            let is_written = |entry: &&str| {
                let text = entry.strip_prefix("v1,").unwrap_or(entry);
                is_other_spelling(text, &digest)
            };
            if signed.standard.iter().any(is_written) {
                return Some(
                    "`webhook-signature` must be `v1,` and the digest in Base64, and is written otherwise",
                );
            }
        }
        if secret_bytes(secret).is_none() {
            continue;
        }
        let digest = hmac(secret.as_bytes(), &[body]);
        let given = signed.body_only.unwrap_or_default();
        if is_other_spelling(given.strip_prefix("sha256=").unwrap_or(given), &digest) {
            return Some(
                "`X-Webhook-Signature` must be `sha256=` and the digest in lower-case hexadecimal, and is written otherwise",
            );
        }
    }
    None
}

fn is_other_spelling(text: &str, digest: &[u8]) -> bool {
    let is = |decoded: Option<Vec<u8>>| decoded.as_deref() == Some(digest);
    is(hex::decode(text).ok())
        || is(STANDARD.decode(text).ok())
        || is(URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok())
}

/// What a secret may have been before it was copied or configured wrongly.
fn other_spellings(keys: &[Key]) -> Vec<(&'static str, Key)> {
    let mut spellings = Vec::new();
    let mut add = |detail, text: String| spellings.push((detail, Key::Secret(text)));
    for key in keys {
        let Key::Secret(secret) = key else { continue };
        let trimmed = secret.trim().trim_matches(['"', '\'']).trim();
        if trimmed != secret {
            add("the secret has white space or quotes around it", trimmed.to_owned());
        }
        if let Some(rest) = trimmed.strip_prefix(SECRET_PREFIX) {
            if let Ok(bytes) = URL_SAFE_NO_PAD.decode(rest.trim_end_matches('=')) {
                let text = format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes));
                add(
                    "the secret is in Base64 for URLs (`-` and `_`), or has no padding; it must be as it was shown",
                    text,
                );
            }
            continue;
        }
        add("the secret has lost its beginning, `whsec_`", format!("{SECRET_PREFIX}{trimmed}"));
        if let Ok(bytes) = hex::decode(trimmed) {
            let text = format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes));
            add(
                "the secret is in hexadecimal; it must be as it was shown, `whsec_` and Base64",
                text,
            );
        }
        if let Ok(bytes) = STANDARD.decode(trimmed)
            && let Ok(text) = String::from_utf8(bytes)
        {
            add("the secret is encoded in Base64 once more; it must be as it was shown", text);
        }
    }
    spellings
}

/// What the body may have been before it was changed.
fn originals(body: &[u8]) -> Vec<(Code, &'static str, Vec<u8>)> {
    let mut originals = Vec::new();
    let trimmed = body.trim_ascii();
    if trimmed != body {
        let detail =
            "the body has white space around it that was not sent, such as a line break at the end";
        originals.push((Code::ChangedBody, detail, trimmed.to_vec()));
    }
    let decoded = decodings(body);
    if let Some(sent) = sent_form(body) {
        let detail = "the body was parsed and serialised again: white space, the order of keys or escapes differ. \
                      Verify the raw bytes of the request, before any JSON parser";
        originals.push((Code::ReserialisedBody, detail, sent));
    }
    for (detail, text) in decoded {
        let sent = sent_form(&text);
        originals.push((Code::WrongEncoding, detail, text));
        originals.extend(sent.map(|sent| (Code::WrongEncoding, detail, sent)));
    }
    originals
}

/// What a body is when its encoding is undone.
fn decodings(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut decoded = Vec::new();
    let without_mark = body.strip_prefix(b"\xEF\xBB\xBF".as_slice());
    decoded.extend(
        without_mark.map(|rest| {
            ("the body begins with a byte order mark, which was not sent", rest.to_vec())
        }),
    );
    if let Some(text) = utf16(body) {
        decoded.push(("the body is in UTF-16; it was sent in UTF-8", text.into_bytes()));
    }
    let trimmed = body.trim_ascii();
    if let Ok(bytes) = STANDARD.decode(trimmed) {
        let detail = "the body is in Base64: decode it first (`isBase64Encoded` of API Gateway)";
        decoded.push((detail, bytes));
    }
    if let Ok(text) = serde_json::from_slice::<String>(trimmed) {
        decoded.push((
            "the body is a JSON string that contains the JSON: it was serialised twice",
            text.into_bytes(),
        ));
    }
    if trimmed.contains(&b'%') {
        let pairs: Vec<_> = url::form_urlencoded::parse(trimmed).collect();
        if let [(text, empty)] = &pairs[..]
            && empty.is_empty()
        {
            decoded.push(("the body is encoded as a form", text.clone().into_owned().into_bytes()));
        }
    }
    decoded
}

fn utf16(body: &[u8]) -> Option<String> {
    let is_utf16 = body.len().is_multiple_of(2) && body.contains(&0);
    if !is_utf16 {
        return None;
    }
    let units = |read: fn([u8; 2]) -> u16| -> Option<String> {
        let units: Vec<u16> = body.chunks_exact(2).map(|pair| read([pair[0], pair[1]])).collect();
        let text = String::from_utf16(&units).ok()?;
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
        text.starts_with('{').then(|| text.to_owned())
    };
    units(u16::from_le_bytes).or_else(|| units(u16::from_be_bytes))
}

/// The body as the service sends it, as far as the text still tells: compact, in ASCII, with its fields in
/// their order.
fn sent_form(body: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Payload<'a> {
        #[serde(borrow)]
        event_id: &'a RawValue,
        #[serde(borrow)]
        event_type: &'a RawValue,
        #[serde(borrow)]
        timestamp: &'a RawValue,
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let Payload { event_id, event_type, timestamp, data } = serde_json::from_slice(body).ok()?;
    let ordered = format!(
        r#"{{"event_id":{event_id},"event_type":{event_type},"timestamp":{timestamp},"data":{data}}}"#
    );
    let mut sent = String::new();
    Data::parse(&ordered).ok()?.write_ascii(&mut sent);
    Some(sent.into_bytes())
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
