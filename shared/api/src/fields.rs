//! The fields of a body and the parameters of a query, read one by one into types that cannot be
//! wrong. What is wrong with them is collected, so that a problem names every bad field.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::Value;

use crate::problem::{FieldError, Problem};

/// Named values that have not been read yet, and what is wrong with those that have.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields<V> {
    kind: &'static str,
    unread: BTreeMap<String, V>,
    /// The JSON of the fields of a body, as it was sent.
    texts: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl<V> Fields<V> {
    /// No fields yet; `kind` is what an error calls one of them.
    pub(crate) fn empty(kind: &'static str) -> Self {
        Self { kind, unread: BTreeMap::new(), texts: BTreeMap::new(), errors: Vec::new() }
    }

    /// The names of the fields that have not been read.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.unread.keys().map(String::as_str)
    }

    /// Adds a field. Parsers differ in which of two values they believe, so a repeat is refused.
    pub(crate) fn insert(&mut self, name: String, value: V) {
        if self.unread.contains_key(&name) {
            return self.refuse(&name, "must not be repeated");
        }
        self.unread.insert(name, value);
    }

    /// Reads a field that must be there.
    pub fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&V) -> Result<T, String>,
    ) -> Option<T> {
        if !self.unread.contains_key(name) {
            self.refuse(name, "is required");
        }
        self.optional(name, read)
    }

    /// Reads a field that may be absent.
    pub fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&V) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.unread.remove(name)?;
        read(&value).map_err(|message| self.refuse(name, message)).ok()
    }

    /// Records what is wrong with a field.
    pub fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(FieldError::new(name, message));
    }

    /// Refuses every field that has not been read.
    pub fn finish(mut self) -> Result<(), Problem> {
        let unknown = format!("is not a known {}", self.kind);
        self.errors.extend(self.unread.keys().map(|name| FieldError::new(name, &unknown)));
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::InvalidFields(self.errors)) }
    }
}

impl Fields<Value> {
    pub(crate) fn set_texts(&mut self, texts: BTreeMap<String, String>) {
        self.texts = texts;
    }

    /// The JSON of a field as it was sent: a [`Value`] does not keep how a number is spelled.
    pub fn text_of(&self, name: &str) -> Option<String> {
        let parsed = || self.unread.get(name).map(Value::to_string);
        self.texts.get(name).cloned().or_else(parsed)
    }

    /// Reads a field that may be absent or `null`, which are not the same.
    pub fn nullable<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<Option<T>> {
        self.optional(name, |value| if value.is_null() { Ok(None) } else { read(value).map(Some) })
    }
}

/// A string.
pub fn string(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "must be a string".to_owned())
}

/// `true` or `false`.
pub fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "must be true or false".to_owned())
}

/// A number in this range. JSON has no integer type, so `3.0` is 3.
pub fn whole_number(value: &Value, range: RangeInclusive<u32>) -> Result<u32, String> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a whole number in a range of u32"
    )]
    let read = value
        .as_f64()
        .filter(|number| number.fract() == 0.0)
        .filter(|number| (f64::from(*range.start())..=f64::from(*range.end())).contains(number))
        .map(|number| number as u32);
    read.ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_bad_field_is_named_in_the_order_it_is_read() {
        let mut fields = Fields::empty("field");
        for (name, value) in [("b", json!(1)), ("a", json!("x")), ("a", json!(2)), ("z", json!(0))]
        {
            fields.insert(name.to_owned(), value);
        }
        assert_eq!(fields.required("missing", string), None);
        assert_eq!(fields.required("b", string), None);
        assert_eq!(fields.optional("absent", string), None);
        assert_eq!(fields.optional("a", string).as_deref(), Some("x"));
        let Err(Problem::InvalidFields(errors)) = fields.finish() else { panic!("not refused") };
        let texts: Vec<_> =
            errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
        assert_eq!(
            texts,
            [
                "a must not be repeated",
                "missing is required",
                "b must be a string",
                "z is not a known field"
            ]
        );
    }

    #[test]
    fn absent_null_and_given_are_told_apart() {
        let mut fields = Fields::empty("field");
        fields.insert("null".to_owned(), Value::Null);
        fields.insert("given".to_owned(), json!("x"));
        assert_eq!(fields.nullable("absent", string), None);
        assert_eq!(fields.nullable("null", string), Some(None));
        assert_eq!(fields.nullable("given", string), Some(Some("x".to_owned())));
        assert_eq!(fields.finish(), Ok(()));
    }

    #[test]
    fn whole_number_may_be_spelled_with_a_fraction_of_zero() {
        for (given, expected) in [("3", 3), ("3.0", 3), ("0.3e1", 3), ("-0.0", 0), ("10", 10)] {
            assert_eq!(whole_number(&serde_json::from_str(given).unwrap(), 0..=10), Ok(expected));
        }
        for bad in ["11", "10.5", "-1", "1e300", "\"3\"", "true", "null", "[3]"] {
            let value = serde_json::from_str(bad).unwrap();
            let message = "must be a whole number from 0 to 10".to_owned();
            assert_eq!(whole_number(&value, 0..=10), Err(message), "{bad}");
        }
    }
}
