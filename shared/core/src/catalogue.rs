//! The event types that exist: the files in `catalogue/` at the root of the repository, compiled in by
//! the build script. Validation, the listing, the functions for publishers and the samples of tests
//! derive from them; the guides and `openapi.yaml` are tested against them.
//!
//! The operational types, in `shared/core/operational/`, tell about webhooks themselves. They belong to
//! the service rather than to a product: nobody publishes them, and only who names one gets it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One row of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// `category.thing.verb`, as it is in subscriptions, events and headers.
    pub name: &'static str,
    /// What the type belongs to.
    pub category: &'static str,
    /// One sentence for users.
    pub description: &'static str,
    /// The JSON Schema (2020-12) of `data`, as compact JSON.
    pub schema: &'static str,
    /// A sample of `data`, as compact JSON.
    pub example: &'static str,
}

// `CATALOGUE: [Entry; N]` and `OPERATIONAL: [Entry; M]`, each ordered by name.
include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// A type that is in the catalogue, or an operational one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EventType(&'static Entry);

/// A name that is not in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an event type of the catalogue")]
pub struct UnknownEventType;

impl EventType {
    /// Every event type, in the order of the catalogue.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        CATALOGUE.iter().map(Self)
    }

    /// Every operational type, ordered by name.
    pub fn operational() -> impl ExactSizeIterator<Item = Self> {
        OPERATIONAL.iter().map(Self)
    }

    /// Whether it tells about a webhook itself.
    pub fn is_operational(self) -> bool {
        find(&OPERATIONAL, self.name()).is_some()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Its row.
    pub fn entry(self) -> &'static Entry {
        self.0
    }
}

impl FromStr for EventType {
    type Err = UnknownEventType;

    fn from_str(name: &str) -> Result<Self, UnknownEventType> {
        find(&CATALOGUE, name).or_else(|| find(&OPERATIONAL, name)).ok_or(UnknownEventType)
    }
}

fn find(entries: &'static [Entry], name: &str) -> Option<EventType> {
    let found = entries.binary_search_by(|entry| entry.name.cmp(name));
    found.ok().map(|index| EventType(&entries[index]))
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Data;

    #[test]
    fn every_name_is_found() {
        for entries in [&CATALOGUE[..], &OPERATIONAL] {
            assert!(entries.is_sorted_by(|a, b| a.name < b.name));
        }
        for event_type in EventType::all().chain(EventType::operational()) {
            assert_eq!(event_type.name().parse(), Ok(event_type));
        }
        assert!(EventType::operational().all(EventType::is_operational));
        assert!(!EventType::all().any(EventType::is_operational));
    }

    #[test]
    fn every_example_is_data_in_its_compact_form() {
        for entry in CATALOGUE.iter().chain(&OPERATIONAL) {
            let data = Data::parse(entry.example).unwrap();
            assert_eq!(data.as_str(), entry.example, "{}", entry.name);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for bad in ["", "email", "email.received ", "Email.received", "email.*", "no.such"] {
            assert_eq!(bad.parse::<EventType>(), Err(UnknownEventType), "{bad:?}");
        }
    }
}
