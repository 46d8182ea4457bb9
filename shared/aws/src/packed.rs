//! Texts that are stored as they are or deflated, and bytes.

use std::cell::RefCell;
use std::fmt;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most that a stored text may inflate to, in bytes: more than a DynamoDB item (400 KB) holds
/// unpacked.
const INFLATED_MAX: u64 = 1_048_576;

thread_local! {
    /// Kept, because its 300 KB of buffers take longer to make than an ordinary payload takes to deflate.
    static ENCODER: RefCell<DeflateEncoder<Vec<u8>>> =
        RefCell::new(DeflateEncoder::new(Vec::new(), Compression::default()));
}

/// A text in a row: an attribute of type S, or of type B with its raw deflate stream (RFC 1951).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packed {
    /// As it is.
    Plain(String),
    /// Deflated.
    Deflated(Bytes),
}

impl Packed {
    /// The same text deflated.
    pub(crate) fn deflated(&self) -> Self {
        let Self::Plain(text) = self else {
            return self.clone();
        };
        let deflated = ENCODER.with_borrow_mut(|encoder| {
            encoder.write_all(text.as_bytes())?;
            // Ends the stream, and is ready for the next one.
            encoder.reset(Vec::new())
        });
        // Writing into memory does not fail; if it did, the text would stay as it is.
        match deflated {
            Ok(bytes) => Self::Deflated(Bytes(bytes)),
            Err(_) => self.clone(),
        }
    }

    /// The same text, deflated when that is smaller.
    pub(crate) fn packed(self) -> Self {
        let deflated = self.deflated();
        if deflated.len() < self.len() { deflated } else { self }
    }

    /// The bytes that it takes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Deflated(Bytes(bytes)) => bytes.len(),
        }
    }

    /// The text; nothing when the stream is broken or too large.
    pub(crate) fn into_text(self) -> Option<String> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Deflated(Bytes(bytes)) => {
                let mut text = String::new();
                let mut inflated = DeflateDecoder::new(bytes.as_slice()).take(INFLATED_MAX + 1);
                inflated.read_to_string(&mut text).ok()?;
                (text.len() as u64 <= INFLATED_MAX).then_some(text)
            }
        }
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(text) => serializer.serialize_str(text),
            Self::Deflated(bytes) => bytes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Packed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or binary data")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Packed, E> {
                Ok(Packed::Plain(text.to_owned()))
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Packed, E> {
                Ok(Packed::Deflated(Bytes(bytes.to_owned())))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Bytes in a row: an attribute of type B. (A plain `Vec<u8>` would be a list of numbers.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Packed::deserialize(deserializer)? {
            Packed::Deflated(bytes) => Ok(bytes),
            Packed::Plain(_) => Err(D::Error::custom("expected binary data")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_deflating() {
        for text in ["", "{}", &"{\"größe\":1},".repeat(500)] {
            let plain = Packed::Plain(text.to_owned());
            assert_eq!(plain.deflated().into_text().as_deref(), Some(text));
            assert_eq!(plain.into_text().as_deref(), Some(text));
        }
    }

    #[test]
    fn broken_or_endless_stream_is_no_text() {
        let Packed::Deflated(Bytes(good)) = Packed::Plain("x".repeat(999)).deflated() else {
            panic!("not deflated");
        };
        let half = good[..good.len() / 2].to_vec();
        assert_eq!(Packed::Deflated(Bytes(half)).into_text(), None);
        assert_eq!(Packed::Deflated(Bytes(vec![0xFF; 9])).into_text(), None);
        let bomb = Packed::Plain("x".repeat(1_048_577)).deflated();
        assert_eq!(bomb.into_text(), None);
    }
}
