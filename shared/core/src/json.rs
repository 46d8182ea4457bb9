//! JSON that keeps what the publisher wrote.
//!
//! [`Data`] is an event's `data`: a JSON object whose key order, number spelling and strings are
//! the publisher's; only the white space between tokens is gone. It is kept as UTF-8, which is
//! small, and turned to ASCII with [`Data::write_ascii`] when a body is signed and sent.
//!
//! The ASCII form is the one that Python's `json.dumps(…, separators=(",", ":"))` writes: a
//! receiver that parses the body and serialises it again, as the reference's verifier does, signs
//! the same bytes.

use std::fmt::Write as _;

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

/// A JSON object as its publisher wrote it, without the white space between tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data(String);

impl Data {
    /// Checks a text and takes the white space out.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| DataError::Syntax)?;
        Self::from_raw(raw)
    }

    /// Takes the white space out of a value that has been parsed already.
    pub fn from_raw(raw: &RawValue) -> Result<Self, DataError> {
        let text = raw.get();
        if !text.starts_with('{') {
            return Err(DataError::NotAnObject);
        }
        let compact = compact(text)?;
        if compact.len() > EVENT_DATA_BYTES {
            return Err(DataError::TooLarge);
        }
        Ok(Self(compact))
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

/// The text without the white space between tokens; it must be valid JSON already.
fn compact(text: &str) -> Result<String, DataError> {
    let mut out = String::with_capacity(text.len());
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    for c in text.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
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
            '\\' => write_escape(&mut chars, out),
            _ if in_string => write_char(c, out),
            _ => out.push(c),
        }
    }
}

/// Rewrites one escape, whose backslash has been read, in its one canonical spelling.
fn write_escape(chars: &mut std::str::Chars<'_>, out: &mut String) {
    match chars.next() {
        Some('u') => {
            let hex: String = chars.by_ref().take(4).collect();
            let unit = u32::from_str_radix(&hex, 16).unwrap_or(0xFFFD);
            match char::from_u32(unit) {
                Some(c) => write_char(c, out),
                // Half of a surrogate pair, alone or not, stays the escape it has to be.
                None => write_unit(unit, out),
            }
        }
        Some('b') => write_char('\u{8}', out),
        Some('f') => write_char('\u{c}', out),
        Some('n') => write_char('\n', out),
        Some('r') => write_char('\r', out),
        Some('t') => write_char('\t', out),
        Some(c) => write_char(c, out),
        None => {}
    }
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
    // Writing to a string cannot fail.
    let _ = write!(out, "\\u{unit:04x}");
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
            r#"{"k":"h\u00e9 \ud83d\ude00 \u00e9 \ud83d\ude00 / A \u007f \u007f \n\n\u0000 \ud800 \" \\ "}"#
        );
    }

    #[test]
    fn white_space_inside_of_strings_stays() {
        assert_eq!(sent(r#"{"a b":"c  \" d"}"#), r#"{"a b":"c  \" d"}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
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
        fn what_is_sent_is_ascii_and_means_the_same(value in any_json()) {
            let object = serde_json::json!({ "k": value });
            let pretty = serde_json::to_string_pretty(&object).unwrap();
            let sent = sent(&pretty);
            prop_assert!(sent.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            // Both texts are read by the same parser, which rounds some floats.
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            prop_assert_eq!(read(&sent), read(&pretty));
            // Sending what was sent changes nothing more.
            let again = Data::parse(&sent).unwrap();
            prop_assert_eq!(again.as_str(), &sent);
        }
    }
}
