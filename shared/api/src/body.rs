//! The body of a request: a bounded JSON object.

use std::collections::BTreeMap;
use std::fmt;

use lambda_http::Body;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use webhooks_core::json::check_depth;
use webhooks_core::limits::API_BODY_BYTES;

use crate::fields::Fields;
use crate::problem::Problem;

/// Reads a body, which `lambda_http` has decoded from base64 if its type is not one of text.
pub(crate) fn fields(body: &Body) -> Result<Fields<Value>, Problem> {
    let bytes: &[u8] = body.as_ref();
    if bytes.len() > API_BODY_BYTES {
        return Err(Problem::BodyTooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("the body is not valid UTF-8"))?;
    if text.trim().is_empty() {
        return Err(invalid("the body is empty"));
    }
    // This first pass does not recurse, so that the depth can be checked before the parser that does.
    let raw: &RawValue = serde_json::from_str(text).map_err(syntax)?;
    if !raw.get().starts_with('{') {
        return Err(invalid("the body must be a JSON object"));
    }
    check_depth(raw.get()).map_err(|error| invalid(format!("the body {error}")))?;
    let Object(mut fields) = serde_json::from_str(text).map_err(syntax)?;
    let texts: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(syntax)?;
    fields.set_texts(texts.into_iter().map(|(name, raw)| (name, raw.get().to_owned())).collect());
    Ok(fields)
}

/// The most names of fields that a log line shows, and of each the most characters.
const NAMES_SHOWN: (usize, usize) = (20, 32);

/// The names of the fields of a body, as far as they can be read. Names that are not made of lower-case
/// letters and underscores are no fields of the API, and are left out.
pub(crate) fn field_names(body: &Body) -> String {
    let Ok(fields) = fields(body) else { return String::new() };
    let is_name = |name: &&str| {
        name.len() <= NAMES_SHOWN.1
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let names: Vec<&str> = fields.names().filter(is_name).take(NAMES_SHOWN.0).collect();
    names.join(" ")
}

/// The fields of no body at all.
pub(crate) fn no_fields() -> Fields<Value> {
    Fields::empty("field")
}

/// What is wrong and where: the messages of serde_json name the line and the column, and do not
/// repeat the text.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn syntax(error: serde_json::Error) -> Problem {
    invalid(error.to_string())
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::InvalidJson(detail.into())
}

/// The fields of a JSON object.
struct Object(Fields<Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(no_fields()))
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((name, value)) = map.next_entry()? {
            self.0.insert(name, value);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use webhooks_core::limits::JSON_DEPTH;

    fn read(body: &str) -> Result<Fields<Value>, Problem> {
        fields(&Body::from(body))
    }

    fn detail(body: impl Into<Body>) -> String {
        match fields(&body.into()) {
            Err(Problem::InvalidJson(detail)) => detail,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn body_may_be_text_or_binary() {
        let body = " {\"a\": [1, \"é\"]} ";
        let mut expected = no_fields();
        expected.insert("a".to_owned(), json!([1, "é"]));
        let texts = [("a".to_owned(), "[1, \"é\"]".to_owned())];
        expected.set_texts(texts.into());
        assert_eq!(fields(&Body::from(body.as_bytes())), Ok(expected.clone()));
        assert_eq!(read(body), Ok(expected));
    }

    #[test]
    fn size_limit_is_exact() {
        let body = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert!(read(&body(API_BODY_BYTES)).is_ok());
        assert_eq!(read(&body(API_BODY_BYTES + 1)), Err(Problem::BodyTooLarge));
    }

    #[test]
    fn syntax_error_names_the_place_but_not_the_text() {
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
    fn body_that_is_not_an_object_is_refused() {
        for empty in ["", "  \n"] {
            assert_eq!(detail(empty), "the body is empty");
        }
        for bad in ["null", "[]", "\"{}\"", "7", " true"] {
            assert_eq!(detail(bad), "the body must be a JSON object", "{bad}");
        }
        assert_eq!(detail(&[b'{', 0xff, b'}'][..]), "the body is not valid UTF-8");
    }

    #[test]
    fn json_deeper_than_the_limit_is_refused_without_stack_overflow() {
        let nest = |n: usize| format!("{{\"k\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1));
        assert!(read(&nest(JSON_DEPTH)).is_ok());
        for deep in [JSON_DEPTH + 1, 30_000] {
            assert_eq!(detail(nest(deep)), "the body must not nest more than 100 levels deep");
        }
    }

    #[test]
    fn repeated_field_is_refused() {
        let mut fields = read(r#"{"a":1,"b":2,"a":1,"\u0062":3}"#).unwrap();
        fields.optional("a", |_| Ok(()));
        fields.optional("b", |_| Ok(()));
        let Err(Problem::InvalidFields(errors)) = fields.finish() else { panic!("not refused") };
        assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
