//! The published vectors, and each reason on a request that was changed in one way.

use serde_json::Value;

use super::*;

const NOW: i64 = 1_800_000_000;

fn vector() -> Value {
    serde_json::from_str(include_str!("../../../docs/snippets/vector.json")).unwrap()
}

fn ed25519_vector() -> Value {
    serde_json::from_str(include_str!("../../../docs/snippets/vector_ed25519.json")).unwrap()
}

/// The request of a vector, with the changes of a case.
fn request(vector: &Value, case: &Value) -> SavedRequest {
    let mut headers = vector["headers"].as_object().unwrap().clone();
    headers.extend(case["headers"].as_object().cloned().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let headers = headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let body = text(if case["body"].is_null() { &vector["body"] } else { &case["body"] });
    SavedRequest { headers, body: body.into_bytes() }
}

fn at(vector: &Value, case: &Value) -> Timestamp {
    Timestamp::from_seconds(case["now"].as_i64().or(vector["now"].as_i64()).unwrap())
}

#[test]
fn hmac_vectors_have_the_published_results() {
    let vector = vector();
    for case in vector["cases"].as_array().unwrap() {
        let name = &case["name"];
        let secret = case["secret"].as_str().or(vector["secret"].as_str()).unwrap();
        let keys = [Key::Secret(secret.to_owned())];
        let diagnosis = diagnose(&request(&vector, case), &keys, at(&vector, case));
        let is_made =
            |scheme| diagnosis.signatures.iter().any(|s| s.scheme == scheme && s.key.is_some());
        assert_eq!(is_made(Scheme::Body), case["reference"], "{name}: {diagnosis:?}");
        // A request without `webhook-signature` is judged by the other header.
        let has_standard = diagnosis.signatures.iter().any(|s| s.scheme != Scheme::Body);
        let standard = diagnosis.valid && has_standard;
        assert_eq!(standard, case["standard"], "{name}: {diagnosis:?}");
        assert!(diagnosis.valid || !diagnosis.reasons.is_empty(), "{name}: {diagnosis:?}");
    }
}

#[test]
fn ed25519_vectors_have_the_published_results() {
    let vector = ed25519_vector();
    for case in vector["cases"].as_array().unwrap() {
        let key = case["public_key"].as_str().or(vector["public_key"].as_str()).unwrap();
        let Ok(key) = Key::public(key) else {
            assert_eq!(case["valid"], false, "{}", case["name"]);
            continue;
        };
        let diagnosis = diagnose(&request(&vector, case), &[key], at(&vector, case));
        assert_eq!(diagnosis.valid, case["valid"], "{}: {diagnosis:?}", case["name"]);
    }
}

fn original() -> SavedRequest {
    request(&vector(), &Value::Null)
}

fn secret() -> String {
    vector()["secret"].as_str().unwrap().to_owned()
}

/// The only reason of a request that is not valid.
fn reason(request: &SavedRequest, secret: &str) -> Reason {
    let keys = [Key::Secret(secret.to_owned())];
    let diagnosis = diagnose(request, &keys, Timestamp::from_seconds(NOW));
    assert!(!diagnosis.valid, "{diagnosis:?}");
    let [reason] = &diagnosis.reasons[..] else { panic!("{diagnosis:?}") };
    reason.clone()
}

#[test]
fn changed_bodies_are_recognised() {
    let body = String::from_utf8(original().body).unwrap();
    let value: Value = serde_json::from_str(&body).unwrap();
    let utf16 = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let spaced = body.replace("\":", "\": ").replace(",\"", ", \"");
    let cases: [(&str, Vec<u8>, Code, bool); 12] = [
        ("pretty", serde_json::to_vec_pretty(&value).unwrap(), Code::ReserialisedBody, false),
        ("spaces", spaced.into_bytes(), Code::ReserialisedBody, true),
        (
            "UTF-8 for escapes",
            body.replace("\\u00fc", "ü").into_bytes(),
            Code::ReserialisedBody,
            true,
        ),
        ("slashes", body.replace('@', "\\u0040").into_bytes(), Code::ReserialisedBody, true),
        ("line break", format!("{body}\n").into_bytes(), Code::ChangedBody, true),
        ("byte order mark", format!("\u{FEFF}{body}").into_bytes(), Code::WrongEncoding, true),
        ("UTF-16", utf16, Code::WrongEncoding, true),
        ("Base64", STANDARD.encode(&body).into_bytes(), Code::WrongEncoding, true),
        ("twice", serde_json::to_vec(&body).unwrap(), Code::WrongEncoding, true),
        (
            "form",
            url::form_urlencoded::byte_serialize(body.as_bytes()).collect::<String>().into_bytes(),
            Code::WrongEncoding,
            true,
        ),
        ("another value", body.replace("123", "124").into_bytes(), Code::WrongSecret, false),
        ("no JSON", b"hello".to_vec(), Code::ChangedBody, false),
    ];
    for (name, body, code, is_certain) in cases {
        let reason = reason(&SavedRequest { body, ..original() }, &secret());
        assert_eq!((reason.code, reason.is_certain), (code, is_certain), "{name}: {reason:?}");
    }
}

#[test]
fn fields_in_another_order_are_a_body_that_was_serialised_again() {
    let body = String::from_utf8(original().body).unwrap();
    let (start, data) = body.split_once(",\"data\":").unwrap();
    let (first, rest) = start.strip_prefix('{').unwrap().split_once(',').unwrap();
    let body = format!("{{{rest},{first},\"data\":{data}");
    let reason = reason(&SavedRequest { body: body.into_bytes(), ..original() }, &secret());
    assert_eq!((reason.code, reason.is_certain), (Code::ReserialisedBody, true));
}

#[test]
fn wrong_spellings_of_the_secret_are_recognised() {
    let secret = secret();
    let bytes = STANDARD.decode(&secret[SECRET_PREFIX.len()..]).unwrap();
    for (spelling, word) in [
        (format!(" {secret}\n"), "white space"),
        (format!("\"{secret}\""), "quotes"),
        (secret[SECRET_PREFIX.len()..].to_owned(), "beginning"),
        (secret.trim_end_matches('=').to_owned(), "padding"),
        (hex::encode(bytes), "hexadecimal"),
        (STANDARD.encode(&secret), "once more"),
    ] {
        let reason = reason(&original(), &spelling);
        assert_eq!((reason.code, reason.is_certain), (Code::WrongEncoding, true), "{spelling}");
        assert!(reason.detail.contains(word), "{}", reason.detail);
    }
}

#[test]
fn another_secret_is_named_as_the_likely_reason() {
    let other = format!("{SECRET_PREFIX}{}", STANDARD.encode([9; KEY_BYTES]));
    let reason = reason(&original(), &other);
    assert_eq!((reason.code, reason.is_certain), (Code::WrongSecret, false));
}

fn with_header(name: &str, value: Option<&str>) -> SavedRequest {
    let mut request = original();
    request.headers.retain(|(header, _)| header != name);
    request.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    request
}

#[test]
fn changed_headers_are_recognised() {
    let without_body_signature = |mut request: SavedRequest| {
        request.headers.retain(|(name, _)| name != "x-webhook-signature");
        request
    };
    let unsigned = without_body_signature(with_header("webhook-signature", None));
    for (request, code) in [
        (with_header("webhook-id", Some("dlv_2")), Code::ChangedHeader),
        (with_header("webhook-timestamp", Some("1800000001")), Code::ChangedHeader),
        (without_body_signature(with_header("webhook-id", None)), Code::MissingHeader),
        (unsigned, Code::NotSigned),
    ] {
        assert_eq!(reason(&request, &secret()).code, code);
    }
}

#[test]
fn digests_in_another_encoding_are_recognised() {
    let original = original();
    let digest = Signed::of(&original).standard_digest(&secret(), &original.body).unwrap();
    for given in [format!("v1,{}", hex::encode(digest)), STANDARD.encode(digest)] {
        let mut request = with_header("webhook-signature", Some(&given));
        request.headers.retain(|(name, _)| name != "x-webhook-signature");
        // Without its version the entry is of no scheme.
        let expected = if given.starts_with("v1,") { Code::WrongEncoding } else { Code::NotSigned };
        assert_eq!(reason(&request, &secret()).code, expected, "{given}");
    }
    let digest = STANDARD.encode(hmac(secret().as_bytes(), &[&original.body]));
    let mut request = with_header("x-webhook-signature", Some(&format!("sha256={digest}")));
    request.headers.retain(|(name, _)| name != "webhook-signature");
    assert_eq!(reason(&request, &secret()).code, Code::WrongEncoding);
}

#[test]
fn timestamp_must_be_close_to_the_time_of_receipt() {
    let keys = [Key::Secret(secret())];
    for (now, code) in [
        (NOW + 300, None),
        (NOW - 300, None),
        (NOW + 301, Some(Code::StaleTimestamp)),
        (NOW - 301, Some(Code::EarlyTimestamp)),
    ] {
        let diagnosis = diagnose(&original(), &keys, Timestamp::from_seconds(now));
        assert_eq!(diagnosis.valid, code.is_none(), "{diagnosis:?}");
        assert_eq!(diagnosis.reasons.first().map(|reason| reason.code), code);
    }
}

#[test]
fn keys_of_another_scheme_are_named() {
    let vector = ed25519_vector();
    let signed_with_key_pair = request(&vector, &Value::Null);
    assert_eq!(reason(&signed_with_key_pair, &secret()).code, Code::OtherScheme);
    let key = Key::public(vector["public_key"].as_str().unwrap()).unwrap();
    let diagnosis = diagnose(&original(), &[key], Timestamp::from_seconds(NOW));
    assert_eq!(diagnosis.reasons.first().map(|reason| reason.code), Some(Code::OtherScheme));
}

#[test]
fn the_key_that_signed_is_named() {
    let keys = [
        Key::Secret("whsec_CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=".to_owned()),
        Key::Secret(secret()),
    ];
    let diagnosis = diagnose(&original(), &keys, Timestamp::from_seconds(NOW));
    assert!(diagnosis.valid && diagnosis.reasons.is_empty());
    assert!(diagnosis.signatures.iter().all(|signature| signature.key == Some(2)), "{diagnosis:?}");
}
