//! The parameters after the question mark, taken out one by one; what is wrong with them is
//! collected, so that every bad one is named at once.
//!
//! They are read from the raw query string: `queryStringParameters` joins the values of a repeated
//! parameter with commas, where nobody can tell them apart from a comma in a value.

use std::str::FromStr;

use webhooks_core::cursor::{self, List, NotACursor};
use webhooks_core::limits::{PAGE_DEFAULT, PAGE_MAX};
use webhooks_core::problem::{FieldError, Problem};
use webhooks_core::time::Timestamp;

/// The parameters of a request that have not been taken out yet.
#[derive(Clone, Debug)]
pub struct Query {
    parameters: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Query {
    /// Reads a query string.
    pub fn parse(raw: &str) -> Self {
        let mut query = Self { parameters: Vec::new(), errors: Vec::new() };
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => query.add(name, value),
                (decoded, _) => {
                    let name = decoded.as_deref().unwrap_or(name);
                    query.refuse(name, "must be percent-encoded UTF-8");
                }
            }
        }
        query
    }

    /// Takes a parameter out and reads it.
    pub fn take<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let at = self.parameters.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.parameters.swap_remove(at);
        read(&value).map_err(|message| self.refuse(name, message)).ok()
    }

    /// Takes `limit` out.
    pub fn limit(&mut self) -> usize {
        self.take("limit", limit).unwrap_or(PAGE_DEFAULT)
    }

    /// Takes a moment out.
    pub fn moment(&mut self, name: &str) -> Option<Timestamp> {
        self.take(name, moment)
    }

    /// Takes `cursor` out: the position after which the page begins.
    pub fn cursor<T: FromStr>(&mut self, list: List<'_>) -> Option<T> {
        self.take("cursor", |text| {
            let position = cursor::decode(list, text).map_err(|error| error.to_string())?;
            position.parse().map_err(|_| NotACursor.to_string())
        })
    }

    /// Says what is wrong with a parameter.
    pub fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(FieldError::new(name, message));
    }

    /// Whatever was not taken out is not known.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.parameters {
            self.errors.push(FieldError::new(name.as_str(), "is not a known parameter"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::InvalidFields(self.errors)) }
    }

    fn add(&mut self, name: String, value: String) {
        if self.parameters.iter().any(|(known, _)| *known == name) {
            return self.refuse(&name, "must not be repeated");
        }
        self.parameters.push((name, value));
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1). A `+` stays what it is: no parameter of ours
/// holds a space, but the offset of a moment often holds a plus that nobody encoded.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' { hex(rest.next()?)? << 4 | hex(rest.next()?)? } else { byte });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

fn limit(text: &str) -> Result<usize, String> {
    Some(text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|limit| (1..=PAGE_MAX).contains(limit))
        .ok_or_else(|| format!("must be a whole number from 1 to {PAGE_MAX}"))
}

/// A plus that became a space on its way, as in form encoding, is read as the plus it was.
fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(&text.replace(' ', "+"))
        .ok_or_else(|| "must be an RFC 3339 date and time, such as 2026-01-31T09:30:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: Query) -> Vec<String> {
        match query.finish() {
            Err(Problem::InvalidFields(errors)) => {
                errors.into_iter().map(|error| error.field).collect()
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    fn text(query: &mut Query, name: &str) -> Option<String> {
        query.take(name, |value| Ok(value.to_owned()))
    }

    #[test]
    fn parameters_are_decoded_strictly() {
        let mut query = Query::parse("a=1%2c2&%62=%C3%A9+&c&&d=x=y&");
        assert_eq!(text(&mut query, "a").as_deref(), Some("1,2"));
        assert_eq!(text(&mut query, "b").as_deref(), Some("é+"));
        assert_eq!(text(&mut query, "c").as_deref(), Some(""));
        assert_eq!(text(&mut query, "d").as_deref(), Some("x=y"));
        assert_eq!(text(&mut query, "e"), None);
        assert_eq!(query.finish(), Ok(()));
        for bad in ["a=%", "a=%4", "a=%zz", "a=%+1", "a=%ff", "a=%é"] {
            assert_eq!(refused(Query::parse(bad)), ["a"], "{bad}");
        }
        assert_eq!(refused(Query::parse("%zz=1")), ["%zz"]);
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        let mut query = Query::parse("limit=5&limit=6&page=2&since=today");
        assert_eq!(query.limit(), 5);
        assert_eq!(query.moment("since"), None);
        assert_eq!(refused(query), ["limit", "since", "page"]);
    }

    #[test]
    fn the_limit_is_exact() {
        for (given, read) in [("1", 1), ("100", 100), ("007", 7)] {
            assert_eq!(limit(given), Ok(read));
        }
        for bad in ["", "0", "101", "-1", "+5", "5.0", "ten", "99999999999999999999999"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
        assert_eq!(Query::parse("").limit(), PAGE_DEFAULT);
    }

    #[test]
    fn an_offset_may_come_with_any_spelling_of_its_plus() {
        let utc = Timestamp::parse("2026-01-31T08:30:00Z");
        for given in [
            "2026-01-31T08:30:00Z",
            "2026-01-31T09:30:00+01:00",
            "2026-01-31T09:30:00%2B01:00",
            "2026-01-31T09:30:00%2b01%3A00",
            "2026-01-31T09:30:00%2001:00",
        ] {
            assert_eq!(Query::parse(&format!("since={given}")).moment("since"), utc, "{given}");
        }
        for bad in ["", "2026-01-31", "1769848200", "now"] {
            let mut query = Query::parse(&format!("since={bad}"));
            assert_eq!(query.moment("since"), None, "{bad}");
            assert_eq!(refused(query), ["since"]);
        }
    }
}
