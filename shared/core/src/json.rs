//! JSON that keeps what the publisher wrote.
//!
//! [`Data`] is an event's `data`: a JSON object whose key order, number spelling and strings are
//! the publisher's. The white space between tokens is gone, and every character of a string is
//! spelled in one way, so that the size of the data does not depend on the publisher's JSON library.
//! It is kept as UTF-8, which is small, and turned to ASCII with [`Data::write_ascii`] when a body is
//! signed and sent.
//!
//! Half of a surrogate pair (`\ud83d` without its other half, as a text has that was cut inside an
//! emoji) is no character: strict receivers cannot read the whole body because of it. It is replaced
//! by U+FFFD, as browsers do, so that the rest of the event arrives.
//!
//! The ASCII form is the one that Python's `json.dumps(…, separators=(",", ":"))` writes: a
//! receiver that parses the body and serialises it again, as the reference's verifier does, signs
//! the same bytes.

use std::sync::Arc;

use std::fmt::Write as _;
use std::str::Chars;

use serde_json::value::RawValue;

use crate::limits::{EVENT_DATA_BYTES, JSON_DEPTH};

/// Why a text cannot be an event's `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Not JSON at all.
    #[error("is not valid JSON")]
    Syntax,
    /// JSON, but no object.
    #[error("must be a JSON object")]
    NotAnObject,
    /// Larger than an event may be.
    #[error("must be at most {EVENT_DATA_BYTES} bytes as compact JSON")]
    TooLarge,
    /// Nested more deeply than receivers can be expected to read.
    #[error("must not nest more than {JSON_DEPTH} levels deep")]
    TooDeep,
}

/// A JSON object as its publisher wrote it, in one spelling. A clone shares the text: one event may
/// be delivered to 100 webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data(Arc<str>);

impl Data {
    /// Checks a text and brings it into its one spelling.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| DataError::Syntax)?;
        Self::from_raw(raw)
    }

    /// Brings a value that has been parsed already into its one spelling.
    pub fn from_raw(raw: &RawValue) -> Result<Self, DataError> {
        let text = raw.get();
        if !text.starts_with('{') {
            return Err(DataError::NotAnObject);
        }
        let compact = compact(text)?;
        if compact.len() > EVENT_DATA_BYTES {
            return Err(DataError::TooLarge);
        }
        Ok(Self(compact.into()))
    }

    /// The empty object.
    pub fn empty() -> Self {
        Self("{}".into())
    }

    /// The compact form, in UTF-8.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Appends the form that is sent: compact, and every character outside of printable ASCII as
    /// a `\uXXXX` escape.
    pub fn write_ascii(&self, out: &mut String) {
        write_ascii(&self.0, out);
    }
}

/// Appends a JSON string literal in the form that is sent.
pub fn write_ascii_string(text: &str, out: &mut String) {
    out.push('"');
    text.chars().for_each(|c| write_char(c, out));
    out.push('"');
}

/// Refuses JSON that nests too deeply, before a recursive parser meets it.
pub fn check_depth(text: &str) -> Result<(), DataError> {
    compact(text).map(|_| ())
}

/// The text in its one spelling; it must be valid JSON already.
pub(crate) fn compact(text: &str) -> Result<String, DataError> {
    let mut out = String::with_capacity(text.len());
    let mut depth = 0usize;
    let mut in_string = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if in_string {
            match c {
                '"' => in_string = false,
                '\\' => {
                    write_utf8_char(read_escape(&mut chars), &mut out);
                    continue;
                }
                _ => {
                    write_utf8_char(c, &mut out);
                    continue;
                }
            }
        } else {
            match c {
                ' ' | '\t' | '\n' | '\r' => continue,
                '"' => in_string = true,
                '{' | '[' => {
                    depth += 1;
                    if depth > JSON_DEPTH {
                        return Err(DataError::TooDeep);
                    }
                }
                '}' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        out.push(c);
    }
    Ok(out)
}

/// Rewrites the strings of valid JSON; everything outside of them is ASCII already.
fn write_ascii(json: &str, out: &mut String) {
    out.reserve(json.len());
    let mut chars = json.chars();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                in_string = !in_string;
                out.push('"');
            }
            '\\' => write_char(read_escape(&mut chars), out),
            _ if in_string => write_char(c, out),
            _ => out.push(c),
        }
    }
}

/// The character of an escape whose backslash has been read; U+FFFD for half of a surrogate pair.
fn read_escape(chars: &mut Chars<'_>) -> char {
    match chars.next().expect("valid JSON has a character after a backslash") {
        'u' => {
            let unit = read_unit(chars);
            if let 0xD800..=0xDBFF = unit
                && let Some(low) = peek_low_surrogate(chars)
            {
                *chars = low.after;
                let code = 0x1_0000 + ((unit - 0xD800) << 10) + (low.unit - 0xDC00);
                return char::from_u32(code).expect("a surrogate pair is a character");
            }
            char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        c => c,
    }
}

struct LowSurrogate<'a> {
    unit: u32,
    after: Chars<'a>,
}

fn peek_low_surrogate<'a>(chars: &Chars<'a>) -> Option<LowSurrogate<'a>> {
    let mut after = chars.as_str().strip_prefix("\\u")?.chars();
    let unit = read_unit(&mut after);
    matches!(unit, 0xDC00..=0xDFFF).then_some(LowSurrogate { unit, after })
}

fn read_unit(chars: &mut Chars<'_>) -> u32 {
    let hex: String = chars.by_ref().take(4).collect();
    u32::from_str_radix(&hex, 16).expect("valid JSON has four hexadecimal digits here")
}

/// Writes one character of a string as it is kept: as itself where JSON and SQS allow that.
fn write_utf8_char(c: char, out: &mut String) {
    if matches!(c, '"' | '\\' | '\0'..='\u{1f}' | '\u{FFFE}' | '\u{FFFF}') {
        write_char(c, out);
    } else {
        out.push(c);
    }
}

/// Escapes the characters that JSON may hold but an SQS message may not
/// ([SendMessage](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html)).
/// They are inside of strings only, where an escape means the same. JSON as serde writes it has
/// escaped the control characters already.
pub fn escape_for_queue(json: String) -> String {
    if !json.contains(['\u{FFFE}', '\u{FFFF}']) {
        return json;
    }
    json.replace('\u{FFFE}', "\\ufffe").replace('\u{FFFF}', "\\uffff")
}

/// Writes one character of a string in its one canonical spelling.
fn write_char(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        ' '..='~' => out.push(c),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write_unit(u32::from(*unit), out);
            }
        }
    }
}

fn write_unit(unit: u32, out: &mut String) {
    write!(out, "\\u{unit:04x}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(text: &str) -> String {
        let mut out = String::new();
        Data::parse(text).unwrap().write_ascii(&mut out);
        out
    }

    #[test]
    fn key_order_and_number_spelling_stay() {
        let text =
            r#" { "z" : 1.0 , "a" : 1e5, "m":[ -0, 12345678901234567890.10 ] , "a" : null } "#;
        assert_eq!(sent(text), r#"{"z":1.0,"a":1e5,"m":[-0,12345678901234567890.10],"a":null}"#);
    }

    #[test]
    fn strings_are_spelled_as_python_spells_them() {
        let text = "{\"k\":\"h\u{e9} \u{1F600} \\u00E9 \\ud83d\\ude00 \\/ \\u0041 \u{7f} \\u007F \\n\\u000a\\u0000 \\ud800 \\\" \\\\ \"}";
        assert_eq!(
            sent(text),
            r#"{"k":"h\u00e9 \ud83d\ude00 \u00e9 \ud83d\ude00 / A \u007f \u007f \n\n\u0000 \ufffd \" \\ "}"#
        );
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced_and_its_neighbours_stay() {
        for (text, kept) in [
            (r#"{"k":"\ud83d"}"#, "{\"k\":\"\u{fffd}\"}"),
            (r#"{"k":"\ude00\ud83d"}"#, "{\"k\":\"\u{fffd}\u{fffd}\"}"),
            (r#"{"k":"\ud83d\ud83d\ude00x"}"#, "{\"k\":\"\u{fffd}\u{1F600}x\"}"),
            (r#"{"k":"\ud83d\n\ude00"}"#, "{\"k\":\"\u{fffd}\\n\u{fffd}\"}"),
            (r#"{"\ud83dk":1}"#, "{\"\u{fffd}k\":1}"),
        ] {
            assert_eq!(Data::parse(text).unwrap().as_str(), kept, "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(&sent(text)).is_ok());
        }
    }

    #[test]
    fn size_does_not_depend_on_the_spelling() {
        let of = |character: &str, count| format!("{{\"k\":\"{}\"}}", character.repeat(count));
        for (escaped, plain) in
            [(r"\u6f22", "漢"), (r"\ud83d\ude00", "😀"), (r"\u0041", "A"), (r"\/", "/")]
        {
            let count = (EVENT_DATA_BYTES - 8) / plain.len();
            let kept = Data::parse(&of(escaped, count)).unwrap();
            assert_eq!(kept, Data::parse(&of(plain, count)).unwrap());
            for spelling in [escaped, plain] {
                let larger = Data::parse(&of(spelling, count + 1));
                assert_eq!(larger, Err(DataError::TooLarge), "{spelling}");
            }
        }
    }

    #[test]
    fn kept_data_holds_only_what_a_queue_takes() {
        let kept = Data::parse("{\"\u{FFFE}\":\"\u{FFFF}\\uffff\\u0001\u{7f}\u{E000}\"}").unwrap();
        assert_eq!(kept.as_str(), "{\"\\ufffe\":\"\\uffff\\uffff\\u0001\u{7f}\u{E000}\"}");
    }

    #[test]
    fn white_space_inside_of_strings_stays() {
        assert_eq!(sent(r#"{"a b":"c  \" d"}"#), r#"{"a b":"c  \" d"}"#);
    }

    #[test]
    fn json_other_than_an_object_is_refused() {
        for text in ["1", "null", "[]", "\"{}\""] {
            assert_eq!(Data::parse(text), Err(DataError::NotAnObject), "{text}");
        }
        for text in ["", "{", "{\"a\":}", "{\"a\":01}", "{} {}", "{'a':1}", "{\"a\":NaN}"] {
            assert_eq!(Data::parse(text), Err(DataError::Syntax), "{text}");
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let fits = format!("{{\"k\":\"{}\"}}", "x".repeat(EVENT_DATA_BYTES - 8));
        assert_eq!(fits.len(), EVENT_DATA_BYTES);
        assert!(Data::parse(&fits).is_ok());
        assert!(Data::parse(&fits.replacen(':', " : ", 1)).is_ok(), "white space does not count");
        let larger = fits.replacen('x', "xx", 1);
        assert_eq!(Data::parse(&larger), Err(DataError::TooLarge));
        let nest = |n: usize| format!("{{\"k\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1));
        assert!(Data::parse(&nest(JSON_DEPTH)).is_ok());
        assert_eq!(Data::parse(&nest(JSON_DEPTH + 1)), Err(DataError::TooDeep));
        assert_eq!(Data::parse(&nest(100_000)), Err(DataError::TooDeep));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn written_json_is_ascii_with_the_same_meaning(value in any_json()) {
            let object = serde_json::json!({ "k": value });
            let pretty = serde_json::to_string_pretty(&object).unwrap();
            let sent = sent(&pretty);
            prop_assert!(sent.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            // Both texts are read by the same parser, which rounds some floats.
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            prop_assert_eq!(read(&sent), read(&pretty));
            // Sending what was sent changes nothing more.
            prop_assert_eq!(self::sent(&sent), sent);
        }
    }
}
