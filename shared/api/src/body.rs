//! The body of a request: a JSON object, bounded, without repeats.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use webhooks_core::json::check_depth;
use webhooks_core::limits::API_BODY_BYTES;
use webhooks_core::problem::{FieldError, Problem};

/// Reads a body, which API Gateway hands over in base64 when its type is not one of text.
pub(crate) fn object(body: &str, is_base64: bool) -> Result<Map<String, Value>, Problem> {
    let text = text(body, is_base64)?;
    if text.trim().is_empty() {
        return Err(invalid("the body is empty"));
    }
    // This first pass does not recurse, so that the depth can be checked before the parser that does.
    let raw: &RawValue = serde_json::from_str(&text).map_err(syntax)?;
    if !raw.get().starts_with('{') {
        return Err(invalid("the body must be a JSON object"));
    }
    check_depth(raw.get()).map_err(|error| invalid(format!("the body {error}")))?;
    let Object { fields, repeated } = serde_json::from_str(&text).map_err(syntax)?;
    if repeated.is_empty() { Ok(fields) } else { Err(Problem::InvalidFields(repeated)) }
}

/// Refuses every field that is left in a body.
pub fn refuse_fields(body: &Map<String, Value>) -> Vec<FieldError> {
    body.keys().map(|name| FieldError::new(name.as_str(), "is not a known field")).collect()
}

fn text(body: &str, is_base64: bool) -> Result<Cow<'_, str>, Problem> {
    if !is_base64 {
        return if body.len() > API_BODY_BYTES {
            Err(Problem::BodyTooLarge)
        } else {
            Ok(body.into())
        };
    }
    // Base64 makes four characters of three bytes: what is longer than this is not decoded at all.
    if body.len() > API_BODY_BYTES.div_ceil(3) * 4 {
        return Err(Problem::BodyTooLarge);
    }
    let bytes = STANDARD.decode(body).map_err(|_| invalid("the body is not valid base64"))?;
    if bytes.len() > API_BODY_BYTES {
        return Err(Problem::BodyTooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid("the body is not valid UTF-8"))?;
    Ok(text.into())
}

/// Says what is wrong and where: serde_json's words for wrong syntax name the line and the column,
/// and none of what stands there.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn syntax(error: serde_json::Error) -> Problem {
    invalid(error.to_string())
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::InvalidJson(detail.into())
}

/// A JSON object, and the fields that stand in it more than once: parsers differ in which of them
/// they believe.
struct Object {
    fields: Map<String, Value>,
    repeated: Vec<FieldError>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object { fields: Map::new(), repeated: Vec::new() })
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if self.fields.contains_key(&name) {
                self.repeated.push(FieldError::new(name.as_str(), "must not be repeated"));
            }
            self.fields.insert(name, value);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use webhooks_core::limits::JSON_DEPTH;

    fn detail(body: &str) -> String {
        match object(body, false) {
            Err(Problem::InvalidJson(detail)) => detail,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_body_is_read_as_text_and_in_base64() {
        let body = " {\"a\": [1, \"é\"]} ";
        let read = object(body, false).unwrap();
        assert_eq!(Value::Object(read.clone()), json!({"a": [1, "é"]}));
        assert_eq!(object(&STANDARD.encode(body), true), Ok(read));
    }

    #[test]
    fn the_size_is_exact_in_both_forms() {
        let body = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        let fits = body(API_BODY_BYTES);
        assert!(object(&fits, false).is_ok());
        assert!(object(&STANDARD.encode(&fits), true).is_ok());
        for extra in 1..5 {
            let large = body(API_BODY_BYTES + extra);
            assert_eq!(object(&large, false), Err(Problem::BodyTooLarge));
            assert_eq!(object(&STANDARD.encode(&large), true), Err(Problem::BodyTooLarge));
        }
    }

    #[test]
    fn wrong_syntax_is_located_and_not_repeated() {
        assert_eq!(detail("{\n  \"my-secret\": my-secret}"), "expected value at line 2 column 16");
        assert_eq!(detail("{\"a\":1} my-secret"), "trailing characters at line 1 column 9");
        for bad in [
            "my-secret",
            "{\"my-secret",
            "{\"my-secret\" 1}",
            "{\"my-secret\\x\":1}",
            "{\"a\":\"my-secret\\ud800\"}",
            "{\"my-secret\":1e999}",
            "{my-secret:1}",
        ] {
            let detail = detail(bad);
            assert!(detail.contains(" at line 1 column "), "{detail}");
            assert!(!detail.contains("secret"), "{detail}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for empty in ["", "  \n"] {
            assert_eq!(detail(empty), "the body is empty");
        }
        for bad in ["null", "[]", "\"{}\"", "7", " true"] {
            assert_eq!(detail(bad), "the body must be a JSON object", "{bad}");
        }
        assert_eq!(
            object("not base64!", true),
            Err(Problem::InvalidJson("the body is not valid base64".to_owned()))
        );
        assert_eq!(
            object(&STANDARD.encode([b'{', 0xff, b'}']), true),
            Err(Problem::InvalidJson("the body is not valid UTF-8".to_owned()))
        );
    }

    #[test]
    fn the_depth_is_exact_and_no_depth_overflows_the_stack() {
        let nest = |n: usize| format!("{{\"k\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1));
        assert!(object(&nest(JSON_DEPTH), false).is_ok());
        for deep in [JSON_DEPTH + 1, 30_000] {
            assert_eq!(detail(&nest(deep)), "the body must not nest more than 100 levels deep");
        }
    }

    #[test]
    fn a_field_stands_there_once() {
        let Err(Problem::InvalidFields(errors)) =
            object(r#"{"a":1,"b":2,"a":1,"\u0062":3}"#, false)
        else {
            panic!("not refused");
        };
        assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
