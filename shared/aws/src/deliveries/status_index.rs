//! The index `by-status`: the deliveries that failed or wait, by subscription and status, newest first.
//!
//! Only rows of such a status have the index' key, so a delivery that succeeds at its first attempt costs no
//! index write. One that is retried costs two: it enters the index and leaves it, or changes its status there; the
//! attempts between change nothing that the index has.
//!
//! Rows that were written before the table had the index are not in it. The row `#by-status` / `#since`
//! holds the moment from which the index is complete: it has every delivery of an event that happened then or later.
//! Lists read the index down to there, and the table itself below.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use webhooks_core::delivery::Status;
use webhooks_core::ids::SubscriptionId;
use webhooks_core::ports::StoreError;
use webhooks_core::time::Timestamp;

use super::{DELIVERY_ID, SUBSCRIPTION_ID};
use crate::dynamo::{Item, key, number, shown_key, text};
use crate::error::fault;
use crate::tables::BY_STATUS_INDEX;

const PARTITION: &str = "#by-status";
const SORT: &str = "#since";
const SINCE: &str = "since";
/// How long functions of the version before may still write rows after one of this version has begun.
const MARGIN: Duration = Duration::from_hours(1);

/// The index' key; none for a success, which is not in the index.
pub(super) fn status_key(status: Status, subscription_id: &SubscriptionId) -> Option<String> {
    match status {
        Status::Success => None,
        Status::Failed | Status::Retrying | Status::Held => {
            Some(format!("{}#{subscription_id}", status.as_str()))
        }
    }
}

/// The entries with this key from `low` to `high`, both included, newest first.
pub(super) fn query(
    client: &Client,
    table: &str,
    status_key: String,
    (low, high): (String, String),
) -> QueryFluentBuilder {
    client
        .query()
        .table_name(table)
        .index_name(BY_STATUS_INDEX)
        .key_condition_expression("status_key = :key AND delivery_id BETWEEN :low AND :high")
        .expression_attribute_values(":key", text(status_key))
        .expression_attribute_values(":low", text(low))
        .expression_attribute_values(":high", text(high))
        .scan_index_forward(false)
}

/// The moment from which the index is complete; none when nobody has remembered one.
pub(super) async fn since(client: &Client, table: &str) -> Result<Option<Timestamp>, StoreError> {
    let get = client.get_item().table_name(table).set_key(Some(row_key()));
    let Some(item) = get.send().await.map_err(fault)?.item else { return Ok(None) };
    let millis = item.get(SINCE).and_then(|value| value.as_n().ok());
    let millis = millis.and_then(|millis| millis.parse().ok()).ok_or_else(|| {
        let key = shown_key(&item, [SUBSCRIPTION_ID, DELIVERY_ID]);
        StoreError::Undecodable { key, reason: "`since` is no whole number".to_owned() }
    })?;
    Ok(Some(Timestamp::from_millis(millis)))
}

/// Remembers that the index is complete from some time after `now`, unless an earlier moment is remembered.
pub(super) async fn begin(client: &Client, table: &str, now: Timestamp) -> Result<(), StoreError> {
    remember(client, table, now.plus(MARGIN)).await
}

/// Remembers that the index of a new table is complete.
pub(crate) async fn begin_with_table(client: &Client, table: &str) -> Result<(), StoreError> {
    remember(client, table, Timestamp::EPOCH).await
}

async fn remember(client: &Client, table: &str, since: Timestamp) -> Result<(), StoreError> {
    let update = client
        .update_item()
        .table_name(table)
        .set_key(Some(row_key()))
        .update_expression("SET since = if_not_exists(since, :since)")
        .expression_attribute_values(":since", number(since.millis()));
    update.send().await.map(drop).map_err(|error| fault(error).into())
}

fn row_key() -> Item {
    key((SUBSCRIPTION_ID, PARTITION), (DELIVERY_ID, SORT))
}
