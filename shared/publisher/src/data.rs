//! The `data` of each event type, and the function that publishes it.
//!
//! The table below is the one list of the types: each row makes a struct and a function of
//! [`Publisher`]. What names the thing is required, the rest is optional and left out where it is
//! not known. `extra` takes any further fields; it must not repeat the name of a field that the
//! struct has, or receivers see that field twice.
//!
//! Moments are strings in RFC 3339, so that a service can pass on what it was given, offset and
//! all.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use webhooks_core::ids::EventId;

use crate::error::PublishError;
use crate::event::{Event, EventData};
use crate::publisher::Publisher;

macro_rules! event_types {
    ($(
        $(#[$doc:meta])*
        $type:literal $function:ident $data:ident {
            $($(#[$rdoc:meta])* $required:ident: $rtype:ty,)*
            $(? $(#[$odoc:meta])* $optional:ident: $otype:ty,)*
        }
    )+) => {
        $(
            #[doc = concat!("The data of `", $type, "`.")]
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            pub struct $data {
                $($(#[$rdoc])* pub $required: $rtype,)*
                $(
                    $(#[$odoc])*
                    #[serde(default, skip_serializing_if = "Option::is_none")]
                    pub $optional: Option<$otype>,
                )*
                /// Any further fields.
                #[serde(flatten)]
                pub extra: Map<String, Value>,
            }

            impl EventData for $data {
                const EVENT_TYPE: &'static str = $type;
            }
        )+

        /// One function per event type. Each publishes one event, owned by `user_id`, that happens
        /// now, and returns its id. For several events, or to set the id or the time, see
        /// [`Publisher::publish_all`] and [`Publisher::publish`].
        impl Publisher {
            $(
                $(#[$doc])*
                #[doc = concat!("\n\nPublishes `", $type, "`.")]
                pub async fn $function(
                    &self,
                    user_id: &str,
                    data: $data,
                ) -> Result<EventId, PublishError> {
                    self.publish(Event::new(user_id, &data)).await
                }
            )+
        }

        #[cfg(test)]
        mod tests {
            use super::*;
            use webhooks_core::catalogue::{CATALOGUE, EventType};
            use webhooks_core::event::Event as CoreEvent;
            use webhooks_core::time::Timestamp;

            const TYPES: &[&str] = &[$($type),+];

            #[test]
            fn every_event_type_has_its_function_in_the_order_of_the_catalogue() {
                let catalogue: Vec<_> = EventType::all().map(EventType::name).collect();
                assert_eq!(TYPES, catalogue);
                $(assert_eq!(stringify!($function), $type.replace('.', "_"));)+
            }

            #[test]
            fn every_sample_of_the_catalogue_is_read_and_written_without_loss() {
                let mut entries = CATALOGUE.iter();
                $(
                    let entry = entries.next().unwrap();
                    let data: $data = serde_json::from_str(entry.example).unwrap();
                    assert!(data.extra.is_empty(), "{}: {:?}", entry.name, data.extra);
                    assert_eq!(serde_json::to_string(&data).unwrap(), entry.example);

                    let event = Event::new("u1", &data).with_id("e1");
                    let (_, body, _) = event.encode().unwrap();
                    let read = CoreEvent::parse(&body, "m1", Timestamp::EPOCH).unwrap();
                    assert_eq!((read.event_type.name(), read.owner.as_str()), ($type, "u1"));
                    assert_eq!(read.data.as_str(), entry.example);
                )+
            }

            #[test]
            fn fields_that_are_not_known_are_kept_and_those_that_are_not_given_are_left_out() {
                $(
                    let mut data = $data::default();
                    data.extra.insert("more".to_owned(), Value::from(1));
                    let json = serde_json::to_value(&data).unwrap();
                    assert_eq!(json["more"], 1);
                    $(assert_eq!(json.get(stringify!($optional)), None);)*
                    assert_eq!(serde_json::from_value::<$data>(json).unwrap(), data);
                )+
            }
        }
    };
}

event_types! {
    /// An email was received and indexed.
    "email.received" email_received EmailReceived {
        /// Names the email.
        email_id: String,
        ? /// Its subject.
        subject: String,
        ? /// Its sender's address.
        from: String,
        ? /// Its receivers' addresses.
        to: Vec<String>,
        ? /// When it was written, RFC 3339.
        date: String,
    }

    /// An email was sent.
    "email.sent" email_sent EmailSent {
        /// Names the email.
        email_id: String,
        ? /// Its subject.
        subject: String,
        ? /// Its sender's address.
        from: String,
        ? /// Its receivers' addresses.
        to: Vec<String>,
        ? /// When it was written, RFC 3339.
        date: String,
    }

    /// An email was indexed in the vector database.
    "email.indexed" email_indexed EmailIndexed {
        /// Names the email.
        email_id: String,
        ? /// When it was indexed, RFC 3339.
        indexed_at: String,
    }

    /// An event was put into a calendar.
    "calendar.event.created" calendar_event_created CalendarEventCreated {
        /// Names the calendar's event.
        calendar_event_id: String,
        ? /// Its title.
        title: String,
        ? /// When it starts, RFC 3339.
        starts_at: String,
        ? /// When it ends, RFC 3339.
        ends_at: String,
        ? /// The addresses of those who are invited.
        attendees: Vec<String>,
    }

    /// An event of a calendar was changed.
    "calendar.event.updated" calendar_event_updated CalendarEventUpdated {
        /// Names the calendar's event.
        calendar_event_id: String,
        ? /// Its title.
        title: String,
        ? /// When it starts, RFC 3339.
        starts_at: String,
        ? /// When it ends, RFC 3339.
        ends_at: String,
        ? /// The addresses of those who are invited.
        attendees: Vec<String>,
    }

    /// An event was removed from a calendar.
    "calendar.event.deleted" calendar_event_deleted CalendarEventDeleted {
        /// Names the calendar's event.
        calendar_event_id: String,
    }

    /// A task was created.
    "task.created" task_created TaskCreated {
        /// Names the task.
        task_id: String,
        ? /// Its title.
        title: String,
        ? /// When it is due, RFC 3339.
        due_at: String,
    }

    /// A task was changed.
    "task.updated" task_updated TaskUpdated {
        /// Names the task.
        task_id: String,
        ? /// Its title.
        title: String,
        ? /// When it is due, RFC 3339.
        due_at: String,
    }

    /// A task was completed.
    "task.completed" task_completed TaskCompleted {
        /// Names the task.
        task_id: String,
        ? /// Its title.
        title: String,
        ? /// When it was completed, RFC 3339.
        completed_at: String,
    }

    /// A task was deleted.
    "task.deleted" task_deleted TaskDeleted {
        /// Names the task.
        task_id: String,
    }

    /// Indexing has started.
    "indexing.started" indexing_started IndexingStarted {
        /// Names the run.
        indexing_id: String,
        ? /// What is indexed.
        source: String,
    }

    /// Indexing has ended well.
    "indexing.completed" indexing_completed IndexingCompleted {
        /// Names the run.
        indexing_id: String,
        ? /// What was indexed.
        source: String,
        ? /// How many items were indexed.
        items_indexed: u64,
    }

    /// Indexing has ended with an error.
    "indexing.failed" indexing_failed IndexingFailed {
        /// Names the run.
        indexing_id: String,
        ? /// What was indexed.
        source: String,
        ? /// What went wrong, in words for the user.
        error: String,
    }

    /// The user's account was created.
    "user.created" user_created UserCreated {
        ? /// The user's address.
        email: String,
        ? /// The user's name.
        name: String,
    }

    /// The user's settings were changed.
    "user.settings.updated" user_settings_updated UserSettingsUpdated {
        /// The names of the settings that were changed.
        changed: Vec<String>,
    }

    /// An export of the user's data is ready.
    "export.completed" export_completed ExportCompleted {
        /// Names the export.
        export_id: String,
        ? /// The format of its file.
        format: String,
        ? /// The size of its file, in bytes.
        size_bytes: u64,
    }

    /// A sync has ended.
    "sync.completed" sync_completed SyncCompleted {
        /// Names the sync.
        sync_id: String,
        ? /// What was synced.
        source: String,
        ? /// How many items were synced.
        items_synced: u64,
    }
}
