//! What both tables share: attribute values, reading pages of rows, transactions, decoding, sizes.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, TransactWriteItem};
use serde::Serialize;
use serde::de::DeserializeOwned;
use webhooks_core::ports::{Page, StoreError};

use crate::error::{fault, is_transient};

/// A row as the SDK has it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Rows of one `BatchGetItem` (AWS quota).
pub(crate) const BATCH_GET_KEYS: usize = 100;
/// Rows of one request, at most. A request also ends at 1 MB (AWS quota).
const REQUEST_ROWS: usize = 1000;

/// A string.
pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number.
pub(crate) fn number(value: impl Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A key of two parts.
pub(crate) fn key(partition: (&str, &str), sort: (&str, &str)) -> Item {
    [partition, sort].map(|(name, value)| (name.to_owned(), text(value))).into()
}

/// A key that lies before `key` and after every key of the same length that is less than it, so
/// that the inclusive bound of a query becomes an exclusive one.
pub(crate) fn just_below(key: &str) -> String {
    let mut below = key.to_owned();
    if let Some(last) = below.pop() {
        // Our keys are ASCII, where `~` is the last character that prints.
        below.push(char::from(u8::try_from(last).unwrap_or(u8::MAX).saturating_sub(1)));
        below.push('~');
    }
    below
}

/// What became of a transaction.
pub(crate) enum Transacted {
    /// It was made.
    Applied,
    /// The condition of this action (from 0) does not hold, and the row that it met, if the action asks
    /// for that.
    ConditionFailed { action: usize, row: Option<Item> },
    /// Another transaction is in the way; a later try may succeed.
    Conflict(String),
    /// A throttle is in the way.
    Throttled(String),
}

/// Makes all of the changes or none.
pub(crate) async fn transact(
    client: &Client,
    actions: Vec<TransactWriteItem>,
) -> Result<Transacted, StoreError> {
    let request = client.transact_write_items().set_transact_items(Some(actions));
    let Err(error) = request.send().await else { return Ok(Transacted::Applied) };
    let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) =
        error.as_service_error()
    else {
        return Err(fault(error).into());
    };
    let reasons = canceled.cancellation_reasons();
    let codes: Vec<&str> = reasons.iter().map(|of| of.code().unwrap_or("None")).collect();
    if let Some(action) = codes.iter().position(|code| *code == "ConditionalCheckFailed") {
        return Ok(Transacted::ConditionFailed { action, row: reasons[action].item.clone() });
    }
    let text = format!("the transaction was canceled: {}", codes.join(", "));
    if codes.contains(&"TransactionConflict") {
        return Ok(Transacted::Conflict(text));
    }
    if codes.iter().any(|code| is_transient(code)) {
        return Ok(Transacted::Throttled(text));
    }
    Err(StoreError::Rejected(text.into()))
}

/// What a query has found.
pub(crate) struct Rows {
    /// The rows, in order.
    pub(crate) items: Vec<Item>,
    /// The key up to which was read, when that was not the end.
    pub(crate) stopped_at: Option<Item>,
}

/// Reads on until there are `wanted` rows, everything was read, or `requests` were made. Each
/// request may look at twice as many rows as the one before, in case a filter hides most of them.
pub(crate) async fn read(
    mut query: QueryFluentBuilder,
    wanted: usize,
    requests: usize,
) -> Result<Rows, StoreError> {
    let mut rows = Rows { items: Vec::new(), stopped_at: None };
    let mut limit = wanted.clamp(1, REQUEST_ROWS);
    for _ in 0..requests {
        let request = query.clone().limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let response = request.send().await.map_err(fault)?;
        rows.items.extend(response.items.unwrap_or_default());
        rows.stopped_at = response.last_evaluated_key;
        if rows.items.len() >= wanted || rows.stopped_at.is_none() {
            break;
        }
        query = query.set_exclusive_start_key(rows.stopped_at.clone());
        limit = (limit * 2).min(REQUEST_ROWS);
    }
    Ok(rows)
}

/// Reads at most [`BATCH_GET_KEYS`] rows, which differ, with eventual consistency in one request.
pub(crate) async fn get_several(
    client: &Client,
    table: &str,
    keys: Vec<Item>,
    projection: Option<&str>,
) -> Result<Vec<Item>, StoreError> {
    let keys = KeysAndAttributes::builder()
        .set_keys(Some(keys))
        .set_projection_expression(projection.map(str::to_owned))
        .build()
        .map_err(|error| StoreError::Rejected(error.into()))?;
    let response =
        client.batch_get_item().request_items(table, keys).send().await.map_err(fault)?;
    if response.unprocessed_keys.is_some_and(|keys| !keys.is_empty()) {
        return Err(StoreError::Unavailable("not all rows were read".into()));
    }
    Ok(response.responses.unwrap_or_default().remove(table).unwrap_or_default())
}

/// One page out of a query that wanted one row more than `limit`: that row tells whether any
/// follow.
pub(crate) fn page<T, P>(
    mut rows: Rows,
    limit: usize,
    decode: impl Fn(Item) -> Result<T, StoreError>,
    position: impl Fn(&T) -> P,
    position_of_key: impl Fn(&Item) -> Result<P, StoreError>,
) -> Result<Page<T, P>, StoreError> {
    let more = rows.items.len() > limit;
    rows.items.truncate(limit);
    let items = rows.items.into_iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    let next = match (more, rows.stopped_at) {
        (true, _) => items.last().map(position),
        (false, Some(key)) => Some(position_of_key(&key)?),
        (false, None) => None,
    };
    Ok(Page { items, next })
}

/// Both parts of a row's key, for an error.
pub(crate) fn shown_key(item: &Item, names: [&str; 2]) -> String {
    let part = |name: &str| match item.get(name) {
        Some(AttributeValue::S(text)) => text.clone(),
        _ => "?".to_owned(),
    };
    format!("{} / {}", part(names[0]), part(names[1]))
}

/// Reads a row of one of these schema versions. The reason of a failure never shows what is in
/// the row.
pub(crate) fn from_item<T: DeserializeOwned>(
    item: Item,
    schemas: RangeInclusive<u32>,
) -> Result<T, String> {
    match item.get("v") {
        Some(AttributeValue::N(version)) => match version.parse::<u32>() {
            Ok(version) if schemas.contains(&version) => {}
            Ok(version) => return Err(format!("has schema version {version}")),
            Err(_) => return Err("has a schema version that cannot be".to_owned()),
        },
        _ => return Err("has no schema version".to_owned()),
    }
    // serde_dynamo panics at them.
    if !item.values().all(is_known) {
        return Err("has an attribute of a type that is not known".to_owned());
    }
    serde_dynamo::from_item(item).map_err(|error| {
        // Other messages quote the value they do not like.
        let message = error.to_string();
        let shown = message.starts_with("missing field");
        if shown { message } else { "has an attribute of an unexpected form".to_owned() }
    })
}

/// Whether the SDK knows the type of a value and of all that is in it.
fn is_known(value: &AttributeValue) -> bool {
    match value {
        AttributeValue::L(list) => list.iter().all(is_known),
        AttributeValue::M(map) => map.values().all(is_known),
        value => !value.is_unknown(),
    }
}

/// Writes a row.
pub(crate) fn to_item(row: &impl Serialize) -> Result<Item, StoreError> {
    serde_dynamo::to_item(row).map_err(|error| StoreError::Rejected(error.into()))
}

/// The size of a row as DynamoDB counts it, in bytes: attribute names and values
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>).
pub(crate) fn item_size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

/// The write units that a row of this size costs.
pub(crate) fn write_units(item: &Item) -> usize {
    item_size(item).div_ceil(1024)
}

fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::N(number) => number_size(number),
        AttributeValue::L(list) => {
            3 + list.iter().map(|value| 1 + value_size(value)).sum::<usize>()
        }
        AttributeValue::M(map) => {
            3 + map.iter().map(|(name, value)| 1 + name.len() + value_size(value)).sum::<usize>()
        }
        // Sets are not used; what is left are booleans and nulls.
        _ => 1,
    }
}

/// About a byte for two significant digits, one more, and one for a sign.
fn number_size(number: &str) -> usize {
    let digits = number.trim_start_matches('-');
    let sign = number.len() - digits.len();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    significant.len().div_ceil(2) + 1 + sign
}

/// For `#[serde(with = "millis")]`: a moment as the number of its milliseconds.
pub(crate) mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use webhooks_core::time::Timestamp;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(crate) fn serialize<S: Serializer>(moment: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(moment.millis())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_millis)
    }
}

/// For `#[serde(with = "optional_millis")]`: the same where there may be none.
pub(crate) mod optional_millis {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use webhooks_core::time::Timestamp;

    #[expect(clippy::ref_option, reason = "serde passes a reference")]
    pub(crate) fn serialize<S: Serializer>(
        moment: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        moment.map(Timestamp::millis).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(from)?.map(Timestamp::from_millis))
    }
}

/// For `#[serde(with = "seconds")]`: a moment as the number of its whole seconds, rounded up, as
/// the time to live wants it.
pub(crate) mod seconds {
    use serde::{Deserialize, Deserializer, Serializer};
    use webhooks_core::time::Timestamp;

    /// The whole seconds, rounded up: a row never expires early.
    pub(crate) fn of(moment: Timestamp) -> i64 {
        moment.millis().saturating_add(999) / 1000
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(crate) fn serialize<S: Serializer>(moment: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(of(*moment))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn just_below_is_between_a_key_and_all_lesser_ones() {
        let digits = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let keys: Vec<String> = digits
            .iter()
            .flat_map(|a| digits.iter().map(move |b| format!("dlv_{}{}", *a as char, *b as char)))
            .collect();
        for (index, key) in keys.iter().enumerate() {
            let below = just_below(key);
            assert!(below < *key);
            assert!(index == 0 || keys[index - 1] < below, "{key}");
        }
    }

    #[test]
    fn sizes_are_those_of_dynamodb() {
        // The worked examples of dynoxide, which were measured on AWS.
        for (digits, size) in [
            ("0", 1),
            ("7", 2),
            ("42", 2),
            ("-42", 3),
            ("100", 2),
            ("1800000000", 2),
            ("1800000001", 6),
        ] {
            assert_eq!(number_size(digits), size, "{digits}");
        }
        let nested = AttributeValue::L(vec![
            text("ab"),
            AttributeValue::Bool(true),
            AttributeValue::M([("k".to_owned(), number(1))].into()),
        ]);
        assert_eq!(value_size(&nested), 3 + (1 + 2) + (1 + 1) + (1 + 3 + (1 + 1 + 2)));
        let item = Item::from([("é".to_owned(), text("ü")), ("n".to_owned(), number(5))]);
        assert_eq!(item_size(&item), 2 + 2 + 1 + 2);
    }

    #[test]
    fn decode_error_does_not_show_row_contents() {
        #[derive(Debug, serde::Deserialize)]
        struct Row {
            #[expect(dead_code, reason = "only decoded")]
            n: u32,
        }
        let decode = |item: &Item| from_item::<Row>(item.clone(), 1..=1).unwrap_err();
        let mut item = Item::from([("n".to_owned(), text("secret"))]);
        assert_eq!(decode(&item), "has no schema version");
        item.insert("v".to_owned(), number(2));
        assert_eq!(decode(&item), "has schema version 2");
        item.insert("v".to_owned(), number(1));
        assert_eq!(decode(&item), "has an attribute of an unexpected form");
        item.remove("n");
        assert_eq!(decode(&item), "missing field `n`");
        item.insert("k".to_owned(), text("key"));
        assert_eq!(shown_key(&item, ["k", "v"]), "key / ?");
    }
}
