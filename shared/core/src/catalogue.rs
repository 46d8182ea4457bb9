//! The event types that exist: one table from which validation, the listing, the helpers for
//! publishers, the samples and the docs derive, or against which they are tested.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One row of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// `category.thing.verb`, as it stands in subscriptions, events and headers.
    pub name: &'static str,
    /// What the type belongs to.
    pub category: &'static str,
    /// One sentence for users.
    pub description: &'static str,
    /// A sample of `data`, as compact JSON.
    pub example: &'static str,
}

/// Every event type, in the order the listing shows.
pub static CATALOGUE: [Entry; 17] = [
    Entry {
        name: "email.received",
        category: "email",
        description: "Email received and indexed",
        example: r#"{"email_id":"msg-123","subject":"Meeting Reminder","from":"john@example.com","to":["me@example.com"],"date":"2026-01-15T10:00:00Z"}"#,
    },
    Entry {
        name: "email.sent",
        category: "email",
        description: "Email sent successfully",
        example: r#"{"email_id":"msg-124","subject":"Re: Meeting Reminder","from":"me@example.com","to":["john@example.com"],"date":"2026-01-15T10:05:00Z"}"#,
    },
    Entry {
        name: "email.indexed",
        category: "email",
        description: "Email indexed in the vector database",
        example: r#"{"email_id":"msg-123","indexed_at":"2026-01-15T10:00:02Z"}"#,
    },
    Entry {
        name: "calendar.event.created",
        category: "calendar",
        description: "Calendar event created",
        example: r#"{"calendar_event_id":"cal-42","title":"Design review","starts_at":"2026-01-16T14:00:00Z","ends_at":"2026-01-16T15:00:00Z","attendees":["john@example.com"]}"#,
    },
    Entry {
        name: "calendar.event.updated",
        category: "calendar",
        description: "Calendar event updated",
        example: r#"{"calendar_event_id":"cal-42","title":"Design review","starts_at":"2026-01-16T15:00:00Z","ends_at":"2026-01-16T16:00:00Z","attendees":["john@example.com"]}"#,
    },
    Entry {
        name: "calendar.event.deleted",
        category: "calendar",
        description: "Calendar event deleted",
        example: r#"{"calendar_event_id":"cal-42"}"#,
    },
    Entry {
        name: "task.created",
        category: "tasks",
        description: "Task created",
        example: r#"{"task_id":"task-7","title":"Write the report","due_at":"2026-01-20T17:00:00Z"}"#,
    },
    Entry {
        name: "task.updated",
        category: "tasks",
        description: "Task updated",
        example: r#"{"task_id":"task-7","title":"Write the whole report","due_at":"2026-01-21T17:00:00Z"}"#,
    },
    Entry {
        name: "task.completed",
        category: "tasks",
        description: "Task completed",
        example: r#"{"task_id":"task-7","title":"Write the report","completed_at":"2026-01-19T11:30:00Z"}"#,
    },
    Entry {
        name: "task.deleted",
        category: "tasks",
        description: "Task deleted",
        example: r#"{"task_id":"task-7"}"#,
    },
    Entry {
        name: "indexing.started",
        category: "indexing",
        description: "Indexing started",
        example: r#"{"indexing_id":"idx-9","source":"mailbox"}"#,
    },
    Entry {
        name: "indexing.completed",
        category: "indexing",
        description: "Indexing completed",
        example: r#"{"indexing_id":"idx-9","source":"mailbox","items_indexed":1250}"#,
    },
    Entry {
        name: "indexing.failed",
        category: "indexing",
        description: "Indexing failed",
        example: r#"{"indexing_id":"idx-9","source":"mailbox","error":"mailbox not reachable"}"#,
    },
    Entry {
        name: "user.created",
        category: "user",
        description: "User account created",
        example: r#"{"email":"jane@example.com","name":"Jane Doe"}"#,
    },
    Entry {
        name: "user.settings.updated",
        category: "user",
        description: "User settings updated",
        example: r#"{"changed":["timezone","language"]}"#,
    },
    Entry {
        name: "export.completed",
        category: "system",
        description: "Data export completed",
        example: r#"{"export_id":"exp-3","format":"zip","size_bytes":1048576}"#,
    },
    Entry {
        name: "sync.completed",
        category: "system",
        description: "Sync completed",
        example: r#"{"sync_id":"sync-5","source":"mailbox","items_synced":18}"#,
    },
];

/// A type that stands in the catalogue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EventType(&'static Entry);

/// A name that does not stand in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an event type of the catalogue")]
pub struct UnknownEventType;

impl EventType {
    /// Every event type, in the order of the catalogue.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        CATALOGUE.iter().map(Self)
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
        Self::all().find(|known| known.name() == name).ok_or(UnknownEventType)
    }
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
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_well_formed() {
        let names: HashSet<_> = EventType::all().map(EventType::name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        for name in names {
            assert!(name.split('.').count() >= 2, "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.'), "{name}");
        }
    }

    #[test]
    fn every_example_is_data_in_its_compact_form() {
        for entry in &CATALOGUE {
            let data = Data::parse(entry.example).unwrap();
            assert_eq!(data.as_str(), entry.example, "{}", entry.name);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for bad in ["", "email", "email.received ", "Email.received", "email.*", "email.opened"] {
            assert_eq!(bad.parse::<EventType>(), Err(UnknownEventType), "{bad:?}");
        }
    }
}
