//! The names of things. All are opaque to users; ours are sortable by time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use ulid::Ulid;

use crate::limits::{EVENT_ID_CHARS, USER_ID_CHARS};
use crate::time::Timestamp;

/// A text that is no id of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing is there.
    #[error("must not be empty")]
    Empty,
    /// More characters than allowed.
    #[error("must be at most {0} characters")]
    TooLong(usize),
    /// A control character, which no header and no log line may carry.
    #[error("must not contain control characters")]
    Control,
    /// Not the form our ids have.
    #[error("is not an id of this service")]
    Form,
}

fn checked(text: &str, most: usize) -> Result<String, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.chars().count() > most {
        return Err(IdError::TooLong(most));
    }
    if text.chars().any(char::is_control) {
        return Err(IdError::Control);
    }
    Ok(text.to_owned())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $most:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                checked(text, $most).map(Self)
            }
        }

        id_traits!($name);
    };
}

macro_rules! id_traits {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! sortable_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// What every such id begins with.
            pub const PREFIX: &'static str = $prefix;

            /// The id of this moment and these random bytes.
            pub fn new(moment: Timestamp, random: [u8; 10]) -> Self {
                Self(format!("{}{}", $prefix, ulid(moment, random)))
            }

            /// Lies before every id of this moment and after every id of an earlier one.
            pub fn first_of(moment: Timestamp) -> Self {
                Self::new(moment, [0; 10])
            }

            /// The moment in its time part.
            pub fn moment(&self) -> Timestamp {
                let ulid = Ulid::from_string(&self.0[$prefix.len()..]).unwrap_or(Ulid::nil());
                Timestamp::from_millis(i64::try_from(ulid.timestamp_ms()).unwrap_or(i64::MAX))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let tail = text.strip_prefix($prefix).ok_or(IdError::Form)?;
                let ulid = Ulid::from_string(tail).map_err(|_| IdError::Form)?;
                // Only the one canonical spelling is an id; "o" for "0" or lower case is another key.
                if ulid.to_string() != tail {
                    return Err(IdError::Form);
                }
                Ok(Self(text.to_owned()))
            }
        }

        id_traits!($name);
    };
}

text_id!(
    /// Who owns a subscription or an event: the `sub` of the token, the `user_id` of the event.
    UserId,
    USER_ID_CHARS
);
text_id!(
    /// The name of an event: the publisher's `event_id`, or the SQS message id.
    EventId,
    EVENT_ID_CHARS
);
sortable_id!(
    /// The name of a subscription, sortable by the moment it was created.
    SubscriptionId,
    "wh_"
);
sortable_id!(
    /// The name of a delivery, sortable by the moment its event happened. It is what the
    /// `webhook-id` header carries, so it is the same for each attempt and each duplicate.
    DeliveryId,
    "dlv_"
);
sortable_id!(
    /// The name of a recovery, sortable by the moment it was asked for.
    RecoveryId,
    "rec_"
);

/// The longest `MessageGroupId` (AWS quota).
const MESSAGE_GROUP_CHARS: usize = 128;

impl UserId {
    /// The `MessageGroupId` of the user's messages, by which SQS fair queues tell users apart: the
    /// id, or its SHA-256 where SQS does not take the id.
    pub fn message_group(&self) -> String {
        let is_taken = self.0.len() <= MESSAGE_GROUP_CHARS
            && self.0.bytes().all(|byte| byte.is_ascii_graphic());
        if is_taken {
            return self.0.clone();
        }
        let digest = Sha256::digest(self.0.as_bytes());
        digest.iter().fold("sha256-".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }
}

impl DeliveryId {
    /// The delivery of this event to this subscription: the same whenever it is asked again.
    ///
    /// The time part is the event's time, the random part a hash of both ids, each preceded by
    /// its length so that no two pairs run together.
    pub fn of(event: &EventId, subscription: &SubscriptionId, moment: Timestamp) -> Self {
        let mut hash = Sha256::new();
        for part in [event.as_str(), subscription.as_str()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut random = [0; 10];
        random.copy_from_slice(&digest[..10]);
        Self::new(moment, random)
    }
}

fn ulid(moment: Timestamp, random: [u8; 10]) -> Ulid {
    let mut bytes = [0; 16];
    let millis = u64::try_from(moment.millis()).unwrap_or(0).to_be_bytes();
    bytes[..6].copy_from_slice(&millis[2..]);
    bytes[6..].copy_from_slice(&random);
    Ulid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subscription(n: u8) -> SubscriptionId {
        SubscriptionId::new(Timestamp::from_seconds(1), [n; 10])
    }

    #[test]
    fn message_group_is_the_user_id_or_its_hash_where_sqs_refuses_the_id() {
        let group = |id: &str| id.parse::<UserId>().unwrap().message_group();
        assert_eq!(group("auth0|user@example.com"), "auth0|user@example.com");
        // printf 'a b' | sha256sum
        let hash = "sha256-c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65";
        assert_eq!(group("a b"), hash);
        for refused in ["é", &"x".repeat(129)] {
            assert_eq!(group(refused).len(), hash.len());
        }
    }

    #[test]
    fn only_the_canonical_spelling_is_an_id() {
        let id = subscription(7).to_string();
        assert!(id.parse::<SubscriptionId>().is_ok());
        for bad in [
            id.to_lowercase(),
            id.replacen("wh_0", "wh_O", 1),
            id[3..].to_owned(),
            format!("{id}0"),
            format!("dlv_{}", &id[3..]),
            String::new(),
            "wh_8ZZZZZZZZZZZZZZZZZZZZZZZZZ".to_owned(),
            "wh_é".to_owned(),
        ] {
            assert_eq!(bad.parse::<SubscriptionId>(), Err(IdError::Form), "{bad}");
        }
    }

    #[test]
    fn text_ids_are_bounded() {
        assert_eq!("".parse::<UserId>(), Err(IdError::Empty));
        assert_eq!("a\nb".parse::<UserId>(), Err(IdError::Control));
        assert!("é".repeat(USER_ID_CHARS).parse::<UserId>().is_ok());
        assert_eq!(
            "é".repeat(USER_ID_CHARS + 1).parse::<UserId>(),
            Err(IdError::TooLong(USER_ID_CHARS))
        );
    }

    proptest! {
        #[test]
        fn delivery_is_named_by_event_subscription_and_time(
            event in "[a-z]{1,20}", other in "[a-z]{1,20}", n in 0..5u8, m in 0..5u8,
            at in 0..4_000_000_000_000i64, later in 0..4_000_000_000_000i64,
        ) {
            let name = |event: &str, n, at| DeliveryId::of(
                &event.parse().unwrap(), &subscription(n), Timestamp::from_millis(at));
            let id = name(&event, n, at);
            prop_assert_eq!(&id, &name(&event, n, at));
            prop_assert_eq!(id.moment().millis(), at);
            prop_assert_eq!(id.as_str().parse::<DeliveryId>(), Ok(id.clone()));
            prop_assert_eq!(id == name(&other, m, at), event == other && n == m);
            if at != later {
                prop_assert_eq!(id < name(&other, m, later), at < later);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<DeliveryId>();
            let _ = format!("dlv_{text}").parse::<DeliveryId>();
        }
    }
}
