//! A recovery as a row: sort key `recovery#` and its id.

use serde::{Deserialize, Serialize};
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::Status;
use webhooks_core::ids::{DeliveryId, RecoveryId, SubscriptionId, UserId};
use webhooks_core::ports::StoreError;
use webhooks_core::recovery::{Recovery, RecoveryStatus, Selection};
use webhooks_core::time::Timestamp;

use super::row::shard_of;
use super::{DELIVERY_ID, SUBSCRIPTION_ID};
use crate::dynamo::{Item, from_item, millis, optional_millis, seconds, shown_key, to_item};

/// What every sort key of a recovery begins with.
pub(super) const PREFIX: &str = "recovery#";
/// The schema version of the rows that are written.
const SCHEMA: u32 = 1;

/// The sort key of a recovery.
pub(super) fn sort_key(id: &RecoveryId) -> String {
    format!("{PREFIX}{id}")
}

/// Lies above the sort keys of all recoveries.
pub(super) fn above_all() -> String {
    format!("{PREFIX}~")
}

/// The recovery of a sort key, when it is one of a recovery.
pub(super) fn id_of(sort_key: &str) -> Option<RecoveryId> {
    sort_key.strip_prefix(PREFIX)?.parse().ok()
}

#[derive(Serialize, Deserialize)]
struct Row {
    subscription_id: SubscriptionId,
    delivery_id: String,
    #[serde(rename = "v")]
    schema: u32,
    user_id: UserId,
    /// The name `s` is that of a delivery's status, which no condition may confuse with this.
    job: RecoveryStatus,
    #[serde(rename = "auto", default, skip_serializing_if = "std::ops::Not::not")]
    is_automatic: bool,
    #[serde(with = "millis")]
    since: Timestamp,
    #[serde(with = "millis")]
    until: Timestamp,
    wanted: Status,
    event_types: Vec<EventType>,
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    ended_since: Option<Timestamp>,
    page: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<DeliveryId>,
    sent: u64,
    #[serde(with = "millis")]
    updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_shard: Option<u8>,
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
    #[serde(with = "seconds")]
    expires_at: Timestamp,
}

/// The row of a recovery.
pub(super) fn encode(of: &Recovery) -> Result<Item, StoreError> {
    to_item(&Row {
        subscription_id: of.subscription_id.clone(),
        delivery_id: sort_key(&of.id),
        schema: SCHEMA,
        user_id: of.user_id.clone(),
        job: of.status,
        is_automatic: of.is_automatic,
        since: of.selection.since,
        until: of.selection.until,
        wanted: of.selection.status,
        event_types: of.selection.event_types.clone(),
        ended_since: of.selection.ended_since,
        page: of.page,
        position: of.position.clone(),
        sent: of.sent,
        updated_at: of.updated_at,
        due_shard: of.due_at.map(|_| shard_of(of.id.as_str())),
        due_at: of.due_at,
        expires_at: of.expires_at,
    })
}

/// The recovery of a row.
pub(super) fn decode(item: Item) -> Result<Recovery, StoreError> {
    let key = shown_key(&item, [SUBSCRIPTION_ID, DELIVERY_ID]);
    read(item).map_err(|reason| StoreError::Undecodable { key, reason })
}

fn read(item: Item) -> Result<Recovery, String> {
    let row: Row = from_item(item, SCHEMA..=SCHEMA)?;
    Ok(Recovery {
        id: id_of(&row.delivery_id).ok_or("has a key that is not one of a recovery")?,
        subscription_id: row.subscription_id,
        user_id: row.user_id,
        is_automatic: row.is_automatic,
        status: row.job,
        selection: Selection {
            since: row.since,
            until: row.until,
            status: row.wanted,
            event_types: row.event_types,
            ended_since: row.ended_since,
        },
        page: row.page,
        position: row.position,
        sent: row.sent,
        updated_at: row.updated_at,
        due_at: row.due_at,
        expires_at: row.expires_at,
    })
}
