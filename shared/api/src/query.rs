//! The parameters of the query string.

use std::str::FromStr;

use lambda_http::aws_lambda_events::query_map::QueryMap;
use webhooks_core::limits::{PAGE_DEFAULT, PAGE_MAX};
use webhooks_core::time::Timestamp;

use crate::cursor::{self, CursorScope, NotACursor};
use crate::fields::Fields;

/// The parameters of a request.
pub type Query = Fields<String>;

impl Query {
    /// The parameters that `lambda_http` has parsed.
    pub(crate) fn new(parameters: Option<&QueryMap>) -> Self {
        let mut pairs: Vec<_> = parameters.into_iter().flat_map(QueryMap::iter).collect();
        // A map has no order of its own; errors have one.
        pairs.sort_unstable();
        let mut query = Self::empty("parameter");
        for (name, value) in pairs {
            query.insert(name.to_owned(), value.to_owned());
        }
        query
    }

    /// Reads `limit`.
    pub fn limit(&mut self) -> usize {
        self.optional("limit", |text| limit(text)).unwrap_or(PAGE_DEFAULT)
    }

    /// Reads a time.
    pub fn time(&mut self, name: &str) -> Option<Timestamp> {
        self.optional(name, |text| time(text))
    }

    /// Reads `cursor`: the position after which the page begins.
    pub fn cursor<T: FromStr>(&mut self, scope: CursorScope<'_>) -> Option<T> {
        self.optional("cursor", |text| {
            let position = cursor::decode(scope, text).map_err(|error| error.to_string())?;
            position.parse().map_err(|_| NotACursor.to_string())
        })
    }
}

fn limit(text: &str) -> Result<usize, String> {
    Some(text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|limit| (1..=PAGE_MAX).contains(limit))
        .ok_or_else(|| format!("must be a whole number from 1 to {PAGE_MAX}"))
}

/// Clients often leave the plus of an offset unencoded, which makes it a space in a query string.
fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_nearest(&text.replace(' ', "+"))
        .ok_or_else(|| "must be an RFC 3339 date and time, such as 2026-01-31T09:30:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problem;

    fn query(raw: &str) -> Query {
        Query::new(Some(&raw.parse().unwrap()))
    }

    fn refused(query: Query) -> Vec<String> {
        match query.finish() {
            Err(Problem::InvalidFields(errors)) => {
                errors.into_iter().map(|error| error.field).collect()
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        let mut query = query("limit=6&limit=5&page=2&since=today");
        assert_eq!(query.limit(), 5);
        assert_eq!(query.time("since"), None);
        assert_eq!(refused(query), ["limit", "since", "page"]);
    }

    #[test]
    fn limit_is_exact() {
        for (given, read) in [("1", 1), ("100", 100), ("007", 7)] {
            assert_eq!(limit(given), Ok(read));
        }
        for bad in ["", "0", "101", "-1", "+5", "5.0", "ten", "99999999999999999999999"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
        assert_eq!(query("").limit(), PAGE_DEFAULT);
    }

    #[test]
    fn plus_of_an_offset_may_be_unencoded() {
        let utc = Timestamp::parse("2026-01-31T08:30:00Z");
        for given in [
            "2026-01-31T08:30:00Z",
            "2026-01-31T09:30:00+01:00",
            "2026-01-31T09:30:00%2B01:00",
            "2026-01-31T09:30:00%2b01%3A00",
            "2026-01-31T09:30:00%2001:00",
        ] {
            assert_eq!(query(&format!("since={given}")).time("since"), utc, "{given}");
        }
        assert_eq!(query("since=0862-10-06T08:27:15Z").time("since"), Some(Timestamp::EPOCH));
        for bad in ["", "2026-01-31", "1769848200", "now", "%", "%zz", "%ff"] {
            let mut query = query(&format!("since={bad}"));
            assert_eq!(query.time("since"), None, "{bad}");
            assert_eq!(refused(query), ["since"]);
        }
    }
}
