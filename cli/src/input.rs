//! Values of flags: JSON that may be in a file, and moments.

use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde_json::value::RawValue;
use webhooks_core::time::Timestamp;

use crate::error::Error;

/// JSON as it was written: its order of keys and its spelling of numbers stay.
#[derive(Clone, Debug)]
pub(crate) struct JsonInput(pub(crate) Box<RawValue>);

impl FromStr for JsonInput {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read;
        let json = match text.strip_prefix('@') {
            // What the API calls null, as with the other flags.
            None if text == "none" => "null",
            None => text,
            Some(path) => {
                let bytes = read_file(Path::new(path)).map_err(|error| error.to_string())?;
                read = String::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8"))?;
                &read
            }
        };
        serde_json::from_str(json.trim()).map(Self).map_err(|error| format!("is not JSON: {error}"))
    }
}

/// A moment, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Absolute(Timestamp),
    Ago(Duration),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(moment) = Timestamp::parse(text) {
            return Ok(Self::Absolute(moment));
        }
        let ago = || {
            let unit = text.chars().last()?;
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            let seconds = match unit {
                's' => 1,
                'm' => 60,
                'h' => 60 * 60,
                'd' => 24 * 60 * 60,
                _ => return None,
            };
            Some(Self::Ago(Duration::from_secs(number.checked_mul(seconds)?)))
        };
        ago().ok_or_else(|| {
            "must be RFC 3339 such as 2026-01-31T09:30:00Z, or a duration such as 90m, 6h or 2d"
                .to_owned()
        })
    }
}

/// The bytes of a file; `-` is stdin.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    read.map_err(|error| Error::Usage(format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_absolute_or_durations() {
        assert_eq!("90m".parse(), Ok(Moment::Ago(Duration::from_mins(90))));
        assert_eq!("2d".parse(), Ok(Moment::Ago(Duration::from_hours(48))));
        let absolute = Moment::Absolute(Timestamp::from_seconds(1_800_000_000));
        assert_eq!("2027-01-15T09:00:00+01:00".parse(), Ok(absolute));
        for bad in ["", "h", "-1h", "1", "1w", "2027-01-15", "é", "99999999999999999999d"] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
    }

    #[test]
    fn json_keeps_its_spelling() {
        let json: JsonInput = r#" {"b": 1.50, "a": 1e3} "#.parse().unwrap();
        assert_eq!(json.0.get(), r#"{"b": 1.50, "a": 1e3}"#);
        assert_eq!("none".parse::<JsonInput>().unwrap().0.get(), "null");
        for bad in ["", "{", "@/no/such/file"] {
            assert!(bad.parse::<JsonInput>().is_err(), "{bad}");
        }
    }
}
