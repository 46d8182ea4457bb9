//! The `data` of each event type, and the function that publishes it.
//!
//! The build script makes a struct and a function of [`Publisher`] from each file in `catalogue/`.
//! Properties that the schema requires are required fields, the others are optional and are left out
//! when they are `None`. `extra` takes any further fields; it must not repeat the name of a field that
//! the struct has, or receivers see that field twice.
//!
//! Times are strings in RFC 3339, so that a service can pass on what it was given, with its offset.

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
            fn every_event_type_has_its_function() {
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
                    let example: Value = serde_json::from_str(entry.example).unwrap();
                    assert_eq!(serde_json::to_value(&data).unwrap(), example, "{}", entry.name);

                    let event = Event::new("u1", &data).with_id("e1");
                    let (_, body, _) = event.encode().unwrap();
                    let read = CoreEvent::parse(&body, "m1", Timestamp::EPOCH).unwrap();
                    assert_eq!((read.event_type.name(), read.owner.as_str()), ($type, "u1"));
                    assert_eq!(serde_json::from_str::<Value>(read.data.as_str()).unwrap(), example);
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

include!(concat!(env!("OUT_DIR"), "/event_types.rs"));
