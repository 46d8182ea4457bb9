//! What a subscription says about the event types it wants: names, or wildcards.
//!
//! `*` selects every type and `task.*` every type whose name begins with `task.`, also those that
//! are added to the catalogue later. A wildcard never selects an operational type, which tells about
//! a user's webhooks rather than about the product; such a type has to be named.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::catalogue::EventType;
use crate::maybe_known::MaybeKnown;

/// Selects event types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTypeSelector {
    /// `*`
    All,
    /// `task.*`: the part before the asterisk, with its dot.
    Prefix(String),
    /// The name of a type.
    One(EventType),
}

/// Why a text selects no event types: the end of a sentence that begins with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A name that is not in the catalogue.
    #[error("is not an event type of the catalogue")]
    UnknownEventType,
    /// An asterisk in another place than the last part.
    #[error("is not a wildcard: use `*`, or a beginning such as `task.*`")]
    InvalidWildcard,
}

impl EventTypeSelector {
    /// Whether it selects this type.
    pub fn matches(&self, event_type: EventType) -> bool {
        match self {
            Self::One(one) => *one == event_type,
            Self::All => !event_type.is_operational(),
            Self::Prefix(prefix) => {
                event_type.name().starts_with(prefix.as_str()) && !event_type.is_operational()
            }
        }
    }

    /// The types that it selects today, in the order of the catalogue. For a wildcard there may be
    /// none, which is a mistake in a request and no mistake in a row: the catalogue may have changed.
    pub fn selected(&self) -> impl Iterator<Item = EventType> {
        let all = EventType::all().chain(EventType::operational());
        all.filter(|event_type| self.matches(*event_type))
    }
}

impl From<EventType> for EventTypeSelector {
    fn from(event_type: EventType) -> Self {
        Self::One(event_type)
    }
}

impl From<EventType> for MaybeKnown<EventTypeSelector> {
    fn from(event_type: EventType) -> Self {
        Self::Known(event_type.into())
    }
}

impl FromStr for EventTypeSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let Some(prefix) = text.strip_suffix('*') else {
            return match text.parse() {
                Ok(event_type) => Ok(Self::One(event_type)),
                Err(_) if text.contains('*') => Err(SelectorError::InvalidWildcard),
                Err(_) => Err(SelectorError::UnknownEventType),
            };
        };
        let Some(parts) = prefix.strip_suffix('.') else {
            return if prefix.is_empty() {
                Ok(Self::All)
            } else {
                Err(SelectorError::InvalidWildcard)
            };
        };
        let is_name = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        };
        if parts.split('.').all(is_name) {
            Ok(Self::Prefix(prefix.to_owned()))
        } else {
            Err(SelectorError::InvalidWildcard)
        }
    }
}

impl fmt::Display for EventTypeSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::One(event_type) => f.write_str(event_type.name()),
        }
    }
}

impl Serialize for EventTypeSelector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventTypeSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(text: &str) -> Vec<&'static str> {
        text.parse::<EventTypeSelector>().unwrap().selected().map(EventType::name).collect()
    }

    #[test]
    fn name_selects_that_type_only() {
        assert_eq!(selected("task.created"), ["task.created"]);
    }

    #[test]
    fn wildcard_selects_the_types_below_it() {
        assert_eq!(
            selected("task.*"),
            ["task.completed", "task.created", "task.deleted", "task.updated"]
        );
        assert_eq!(selected("calendar.*"), selected("calendar.event.*"));
        assert_eq!(selected("calendar.event.*").len(), 3);
        assert_eq!(selected("task.created.*"), [""; 0], "a type is not below itself");
        assert_eq!(selected("tas.*"), [""; 0], "parts of names are whole");
    }

    #[test]
    fn asterisk_selects_every_type_that_is_not_operational() {
        let all: Vec<_> = EventType::all().map(EventType::name).collect();
        assert_eq!(selected("*"), all);
        assert_eq!(selected("webhook.*"), [""; 0]);
        for name in EventType::operational().map(EventType::name) {
            assert_eq!(selected(name), [name]);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["task", "", "task.", "Task.created", "task.eaten"] {
            let error = text.parse::<EventTypeSelector>();
            assert_eq!(error, Err(SelectorError::UnknownEventType), "{text:?}");
        }
        for text in [
            "task*",
            "*.created",
            "**",
            ".*",
            "task..*",
            "task.*.*",
            "ta*k.created",
            "Task.*",
            " *",
        ] {
            let error = text.parse::<EventTypeSelector>();
            assert_eq!(error, Err(SelectorError::InvalidWildcard), "{text:?}");
        }
    }

    #[test]
    fn selector_is_read_as_it_was_written() {
        for text in ["*", "task.*", "calendar.event.*", "later.added_2.*", "email.sent"] {
            let json = serde_json::Value::from(text);
            let selector: EventTypeSelector = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(serde_json::to_value(&selector).unwrap(), json);
        }
    }
}
