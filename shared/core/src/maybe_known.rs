//! Names in stored rows that another version of the service may have written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name that this version knows, or one that it does not know and keeps as it is, so that
/// neither a rollback nor a removed name makes a row unreadable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaybeKnown<T> {
    /// A name of this version.
    Known(T),
    /// A name of another version.
    Unknown(String),
}

impl<T> MaybeKnown<T> {
    /// What the name means, if this version knows it.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(known) => Some(known),
            Self::Unknown(_) => None,
        }
    }
}

impl<T> From<T> for MaybeKnown<T> {
    fn from(known: T) -> Self {
        Self::Known(known)
    }
}

impl<T: fmt::Display> fmt::Display for MaybeKnown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(known) => known.fmt(f),
            Self::Unknown(name) => f.write_str(name),
        }
    }
}

impl<T: fmt::Display> Serialize for MaybeKnown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: FromStr> Deserialize<'de> for MaybeKnown<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(name.parse().map_or(Self::Unknown(name), Self::Known))
    }
}
