//! Ids and cursors, as they are in paths, queries, messages and rows.

use std::fmt::Display;
use std::str::FromStr;

use webhooks_api::cursor::{self, CursorScope};
use webhooks_core::ids::{DeliveryId, EventId, SubscriptionId, UserId};
use webhooks_core::limits::{EVENT_ID_CHARS, USER_ID_CHARS};
use webhooks_core::time::Timestamp;

use crate::text;

/// A text that may be any id, a cursor, or a moment.
pub fn ids(input: &[u8]) {
    let Some(text) = text(input) else { return };
    if let Some(id) = same_again::<SubscriptionId>(text) {
        assert_eq!(id.as_str().len(), 29);
        assert!(SubscriptionId::first_of(id.moment()) <= id, "it lies before its own moment");
    }
    if let Some(id) = same_again::<DeliveryId>(text) {
        assert_eq!(id.as_str().len(), 30);
        assert!(DeliveryId::first_of(id.moment()) <= id, "it lies before its own moment");
    }
    if let Some(id) = same_again::<UserId>(text) {
        check_text(id.as_str(), USER_ID_CHARS);
    }
    if let Some(id) = same_again::<EventId>(text) {
        check_text(id.as_str(), EVENT_ID_CHARS);
        let subscription = SubscriptionId::first_of(Timestamp::EPOCH);
        let delivery = DeliveryId::of(&id, &subscription, Timestamp::EPOCH);
        assert_eq!(delivery.to_string().parse(), Ok(delivery));
    }
    if let Some(moment) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
    }

    let scope = CursorScope(&["alice", "webhooks"]);
    if let Ok(position) = cursor::decode(scope, text) {
        assert_eq!(cursor::encode(scope, &position), text, "two cursors of one position");
        assert!(
            cursor::decode(CursorScope(&["bob", "webhooks"]), text).is_err(),
            "it is everybody's"
        );
    }
    // A cursor that can be read contains the position that was written.
    let made = cursor::encode(scope, text);
    match cursor::decode(scope, &made) {
        Ok(position) => assert_eq!(position, text),
        Err(_) => assert!(made.len() > 256),
    }
}

/// Reads an id, which has to be spelled in one way only.
fn same_again<T: FromStr + Display>(text: &str) -> Option<T> {
    let id: T = text.parse().ok()?;
    assert_eq!(id.to_string(), text);
    Some(id)
}

/// What may be in a key, a header and a log line.
fn check_text(id: &str, most: usize) {
    assert!((1..=most).contains(&id.chars().count()));
    assert!(!id.chars().any(char::is_control));
}
