//! The counters of an hour as a row: sort key `stats#` and the hours since the Unix epoch, padded
//! so that keys sort as hours do.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use serde::Deserialize;
use webhooks_core::latency::Histogram;
use webhooks_core::ports::{StoreError, Written};
use webhooks_core::statistics::{Addition, Counts, HourCounts};
use webhooks_core::time::Timestamp;

use super::{DELIVERY_ID, DUE_AT, DUE_SHARD, SUBSCRIPTION_ID};
use crate::dynamo::{Item, from_item, millis, number, seconds, shown_key};
use crate::error::written;

/// What every sort key of counters begins with.
pub(super) const PREFIX: &str = "stats#";
const HOUR_MS: i64 = 3_600_000;
const HOUR_DIGITS: usize = 10;
/// The schema version of the rows that are written.
const SCHEMA: u32 = 1;
/// The attribute that counts the additions.
const ADDITIONS: &str = "additions";

/// The sort key of an hour's counters.
pub(super) fn sort_key(hour: Timestamp) -> String {
    numbered(hour.millis() / HOUR_MS)
}

/// The sort key of the first hour that begins at this moment or later.
pub(super) fn first_from(moment: Timestamp) -> String {
    numbered((moment.millis() + HOUR_MS - 1) / HOUR_MS)
}

/// Lies above the sort keys of all counters.
pub(super) fn above_all() -> String {
    format!("{PREFIX}~")
}

fn numbered(hour: i64) -> String {
    format!("{PREFIX}{hour:0HOUR_DIGITS$}")
}

/// The hour of a sort key, when it is one of counters.
pub(super) fn hour_of(sort_key: &str) -> Option<Timestamp> {
    let digits = sort_key.strip_prefix(PREFIX)?;
    let is_hour = digits.len() == HOUR_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    let hour: i64 = digits.parse().ok().filter(|_| is_hour)?;
    Some(Timestamp::from_millis(hour * HOUR_MS))
}

/// The attributes of counters, without `held_count`, which most rows do not have.
fn attributes(counts: &Counts) -> Vec<(&'static str, u64)> {
    let fixed = [
        ("total_count", counts.total),
        ("success_count", counts.success),
        ("failed_count", counts.failed),
        ("attempt_count", counts.attempts),
    ];
    fixed.into_iter().chain(counts.latency.attributes()).collect()
}

/// Adds to the row of this key.
///
/// The last attempt only moves forward. When another batch has counted a later attempt, which is rare, a second
/// request adds without moving it.
pub(super) async fn add(
    addition: &Addition,
    client: &Client,
    table: &str,
    (key, shard): (Item, u8),
) -> Result<(), StoreError> {
    match request(addition, client, table, (key.clone(), shard), true).await? {
        Written::Applied => Ok(()),
        Written::ConditionFailed => {
            request(addition, client, table, (key, shard), false).await.map(drop)
        }
    }
}

async fn request(
    addition: &Addition,
    client: &Client,
    table: &str,
    (key, shard): (Item, u8),
    moves: bool,
) -> Result<Written, StoreError> {
    let Addition { counts, last_attempt_at, expires_at, recount_at } = addition;
    let last = if moves { ":last" } else { "if_not_exists(last_attempt_at, :last)" };
    let added = attributes(counts);
    let held = (counts.held != 0).then_some("held_count");
    let names = added.iter().map(|(name, _)| &**name).chain(held);
    let additions: Vec<_> = names.map(|name| format!("{name} :{name}")).collect();
    let condition = "attribute_not_exists(last_attempt_at) OR last_attempt_at <= :last";
    let recount = match recount_at {
        Some(_) => {
            ", due_shard = if_not_exists(due_shard, :shard), due_at = if_not_exists(due_at, :due)"
        }
        None => "",
    };
    let mut request = client
        .update_item()
        .table_name(table)
        .set_key(Some(key))
        .update_expression(format!(
            "SET v = :v, last_attempt_at = {last}, expires_at = :expires{recount} ADD {ADDITIONS} :one, {}",
            additions.join(", ")
        ))
        .set_condition_expression(moves.then(|| condition.to_owned()))
        .expression_attribute_values(":v", number(SCHEMA))
        .expression_attribute_values(":one", number(1))
        .expression_attribute_values(":last", number(last_attempt_at.millis()))
        .expression_attribute_values(":expires", number(seconds::of(*expires_at)));
    if let Some(name) = held {
        request = request.expression_attribute_values(format!(":{name}"), number(counts.held));
    }
    for (name, count) in added {
        request = request.expression_attribute_values(format!(":{name}"), number(count));
    }
    if let Some(due_at) = recount_at {
        request = request
            .expression_attribute_values(":shard", number(shard))
            .expression_attribute_values(":due", number(due_at.millis()));
    }
    if *counts == Counts::default() {
        return written(request.send().await);
    }
    // The client does not repeat a request that counts: the counters may be too low, but never too high.
    let once = aws_sdk_dynamodb::config::Builder::new().retry_config(RetryConfig::disabled());
    written(request.customize().config_override(once).send().await)
}

/// Replaces the counters of a row, and takes it out of the due index.
pub(super) async fn replace(
    before: &HourCounts,
    counts: &Counts,
    client: &Client,
    table: &str,
    key: Item,
) -> Result<Written, StoreError> {
    let set = attributes(counts);
    let gone = before.counts.latency.attributes().map(|(name, _)| name);
    let gone = gone.filter(|name| set.iter().all(|(kept, _)| kept != name));
    let removed: Vec<&str> = [DUE_SHARD, DUE_AT].into_iter().chain(gone).collect();
    let sets: Vec<_> = set.iter().map(|(name, _)| format!("{name} = :{name}")).collect();
    let mut request = client
        .update_item()
        .table_name(table)
        .set_key(Some(key))
        .update_expression(format!(
            "SET held_count = :held, {ADDITIONS} = :next, {} REMOVE {}",
            sets.join(", "),
            removed.join(", ")
        ))
        .expression_attribute_values(":held", number(counts.held))
        .expression_attribute_values(":next", number(before.additions + 1));
    for (name, count) in set {
        request = request.expression_attribute_values(format!(":{name}"), number(count));
    }
    let request = match before.additions {
        // A row of an earlier version.
        0 => request.condition_expression(format!(
            "attribute_exists({DELIVERY_ID}) AND attribute_not_exists({ADDITIONS})"
        )),
        additions => request
            .condition_expression(format!("{ADDITIONS} = :additions"))
            .expression_attribute_values(":additions", number(additions)),
    };
    written(request.send().await)
}

#[derive(Deserialize)]
struct Row {
    delivery_id: String,
    #[serde(rename = "total_count")]
    total: u64,
    #[serde(rename = "success_count")]
    success: u64,
    #[serde(rename = "failed_count")]
    failed: u64,
    /// Rows of earlier versions do not have it.
    #[serde(rename = "held_count", default)]
    held: i64,
    /// Rows of earlier versions do not have it.
    #[serde(rename = "attempt_count", default)]
    attempts: u64,
    #[serde(with = "millis")]
    last_attempt_at: Timestamp,
    /// Rows of earlier versions do not have it.
    #[serde(default)]
    additions: u64,
}

/// The counters of a row.
pub(super) fn decode(item: Item) -> Result<HourCounts, StoreError> {
    let key = shown_key(&item, [SUBSCRIPTION_ID, DELIVERY_ID]);
    read(item).map_err(|reason| StoreError::Undecodable { key, reason })
}

fn read(item: Item) -> Result<HourCounts, String> {
    let latency = Histogram::from_attributes(|name| item.get(name)?.as_n().ok()?.parse().ok());
    let row: Row = from_item(item, SCHEMA..=SCHEMA)?;
    Ok(HourCounts {
        hour: hour_of(&row.delivery_id).ok_or("its key names no hour")?,
        counts: Counts {
            total: row.total,
            success: row.success,
            failed: row.failed,
            held: row.held,
            attempts: row.attempts,
            latency,
        },
        last_attempt_at: row.last_attempt_at,
        additions: row.additions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_hour() {
        let hour = |n: i64| Timestamp::from_millis(n * HOUR_MS);
        assert_eq!(sort_key(hour(490_833)), "stats#0000490833");
        assert!(sort_key(hour(99_999)) < sort_key(hour(100_000)));
        assert!(sort_key(Timestamp::from_millis(i64::MAX)) < above_all());
        for n in [0, 1, 490_833] {
            assert_eq!(hour_of(&sort_key(hour(n))), Some(hour(n)));
            assert_eq!(first_from(hour(n)), sort_key(hour(n)));
            let later = Timestamp::from_millis(n * HOUR_MS + 1);
            assert_eq!(first_from(later), sort_key(hour(n + 1)));
        }
    }

    #[test]
    fn broken_counters_are_an_error_with_their_key() {
        let mut item = super::super::item_key(
            &webhooks_core::ids::SubscriptionId::first_of(Timestamp::EPOCH),
            &sort_key(Timestamp::EPOCH),
        );
        item.insert("v".to_owned(), number(SCHEMA));
        let error = decode(item).unwrap_err().to_string();
        assert!(error.contains("stats#0000000000") && error.contains("total_count"), "{error}");
    }
}
