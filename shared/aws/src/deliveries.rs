//! The Deliveries table.
//!
//! Partition key `subscription_id`; what is in a subscription's partition, by sort key
//! `delivery_id`:
//!
//! | sort key | row |
//! |---|---|
//! | `dlv_…` | a delivery, self-contained; see [`row`] |
//! | `payload#dlv_…` | the payload of a delivery, when it is large |
//! | `recovery#rec_…` | a recovery; see [`recovery`] |
//! | `stats#<hour>` | the counters of an hour; see [`stats`] |
//! | `recoveries#started` | how many recoveries the owner has started, and the last outage that was recovered |
//! | `rate#next` | the next free slot of the rate limit, if the webhook has one |
//!
//! The partition `#cleanup` holds the position of the cleanup, and `#by-status` a row of [`status_index`].
//! Every row but these expires by `expires_at`; AWS removes expired rows within days, so reads hide them
//! until then.
//!
//! The index `due` (`due_shard` / `due_at`, keys only) holds the deliveries that wait, and `by-status`
//! (`status_key` / `delivery_id`) those that failed or wait: the others do not have these attributes, so
//! a delivery that succeeds at its first attempt never costs an index write.

mod recovery;
mod row;
mod stats;
pub(crate) mod status_index;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{
    self, AttributeValue, DeleteRequest, KeysAndAttributes, Put, ReturnValue,
    ReturnValuesOnConditionCheckFailure, TransactWriteItem, WriteRequest,
};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use webhooks_core::delivery::{Delivery, Status, Trigger};
use webhooks_core::ids::{DeliveryId, RecoveryId, SubscriptionId, UserId};
use webhooks_core::ports::{
    CleanupState, Clock, Consistency, Deliveries, DeliveryFilter, DeliveryWrite, Due, DueIndex,
    Expect, Lease, Page, Recoveries, RowKey, Statistics, StoreError, SubscriptionKey, Version,
    Waiting, Written,
};
use webhooks_core::rate_limit::{NextSlot, SlotUpdate, Update};
use webhooks_core::recovery::{Outcomes, Recovery, RecoveryStatus};
use webhooks_core::statistics::{Addition, Counts, HourCounts};
use webhooks_core::time::Timestamp;

use crate::dynamo::{
    BATCH_GET_KEYS, Item, Transacted, from_item, get_several, just_below, key, number, page, read,
    shown_key, text, to_item, transact,
};
use crate::error::{fault, written};
use crate::tables::DUE_INDEX;

const SUBSCRIPTION_ID: &str = "subscription_id";
const DELIVERY_ID: &str = "delivery_id";
/// The sort key of the next free slot.
const NEXT_SLOT: &str = "rate#next";
/// How long the next free slot is kept after its last update: longer than anything waits for a slot.
const NEXT_SLOT_KEPT: Duration = Duration::from_hours(30 * 24);
/// The condition of a new row.
const ABSENT: &str = "attribute_not_exists(delivery_id)";
/// The condition of a record that is as it was read.
const UNCHANGED: &str = "s = :status AND n = :attempts";
/// The sort key of the row with the number of recoveries that the owner has started, and the begin of
/// the last outage that was recovered.
const STARTED_RECOVERIES: &str = "recoveries#started";
/// How long that number is kept: the next recovery starts long after those that it counted.
const STARTED_KEPT: Duration = Duration::from_hours(30 * 24);
const DUE_SHARD: &str = "due_shard";
const DUE_AT: &str = "due_at";
/// Both parts of the key of the cleanup's position.
const CLEANUP: &str = "#cleanup";
/// The schema version of the cleanup's position.
const CLEANUP_SCHEMA: u32 = 1;
/// Rows of one `BatchWriteItem` (AWS quota).
const DELETE_BATCH: usize = 25;
/// Rows of one `BatchGetItem` (AWS quota).
const GET_BATCH: usize = 100;
/// The `BatchGetItem`s of one page that are made concurrently.
const CONCURRENT_GETS: usize = 10;
/// The waits before what a batch left unprocessed is asked for again: the partition is throttled, and its
/// capacity is for the deliveries first.
const BATCH_WAITS: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];
/// Payloads that are read concurrently for a page of a recovery.
const PAYLOAD_READS: usize = 10;
/// Requests of one page, at most.
const PAGE_REQUESTS: usize = 10;

/// The Deliveries table on DynamoDB.
#[derive(Clone)]
pub struct DynamoDeliveries {
    client: Client,
    table: String,
    clock: Arc<dyn Clock>,
    /// The moment from which the index `by-status` is complete, once it was read.
    indexed_since: Arc<OnceLock<Timestamp>>,
}

impl DynamoDeliveries {
    /// The table of this name; the clock tells which rows have expired.
    pub fn new(client: Client, table: String, clock: Arc<dyn Clock>) -> Self {
        Self { client, table, clock, indexed_since: Arc::default() }
    }

    /// Remembers in the table that every record is written into the index `by-status` by now; see
    /// `status_index`.
    pub async fn begin_status_index(&self) -> Result<(), StoreError> {
        status_index::begin(&self.client, &self.table, self.clock.now()).await
    }

    /// The moment from which the index `by-status` is complete; none when that is not known.
    async fn indexed_since(&self) -> Result<Option<Timestamp>, StoreError> {
        if let Some(since) = self.indexed_since.get() {
            return Ok(Some(*since));
        }
        let since = status_index::since(&self.client, &self.table).await?;
        Ok(since.map(|since| *self.indexed_since.get_or_init(|| since)))
    }

    /// One page of the index `by-status`, with the records as they are now.
    async fn indexed_page(
        &self,
        subscription_id: &SubscriptionId,
        status_key: String,
        bounds: (String, String),
        filter: &DeliveryFilter,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        let query = status_index::query(&self.client, &self.table, status_key, bounds);
        // The index has no status besides its key.
        let query = filtered(query, &DeliveryFilter { status: None, ..filter.clone() }, now);
        let entries = read(query, limit + 1, 1).await?;
        let ids = page(entries, limit, |item| delivery_id(&item), DeliveryId::clone, delivery_id)?;
        let batches: Vec<Vec<Item>> = ids
            .items
            .chunks(GET_BATCH)
            .map(|batch| batch.iter().map(|id| item_key(subscription_id, id.as_str())).collect())
            .collect();
        let batches = batches.into_iter().map(|keys| self.batch(keys));
        let batches: Vec<HashMap<DeliveryId, Delivery>> =
            stream::iter(batches).buffered(CONCURRENT_GETS).try_collect().await?;
        let mut records: HashMap<_, _> = batches.into_iter().flatten().collect();
        // An entry can be older than its record.
        let items = ids.items.iter().filter_map(|id| records.remove(id));
        let items = items.filter(|delivery| Some(delivery.status) == filter.status);
        Ok(Page { items: items.collect(), next: ids.next })
    }

    /// The records of at most [`GET_BATCH`] keys.
    async fn batch(&self, keys: Vec<Item>) -> Result<HashMap<DeliveryId, Delivery>, StoreError> {
        let keys = KeysAndAttributes::builder().set_keys(Some(keys)).build();
        let mut keys = keys.map_err(|error| StoreError::Rejected(error.into()))?;
        let mut records = HashMap::new();
        for wait in BATCH_WAITS {
            let get = self.client.batch_get_item().request_items(&self.table, keys);
            let response = get.send().await.map_err(fault)?;
            let items = response.responses.into_iter().flat_map(HashMap::into_values).flatten();
            for delivery in items.map(row::decode) {
                let delivery = delivery?;
                records.insert(delivery.id.clone(), delivery);
            }
            match response.unprocessed_keys.and_then(|mut tables| tables.remove(&self.table)) {
                Some(left) if !left.keys().is_empty() => keys = left,
                _ => return Ok(records),
            }
            tokio::time::sleep(wait).await;
        }
        Err(StoreError::Unavailable("it left rows of a batch unprocessed".into()))
    }

    /// The rows of a subscription from `low` to `high`, both included.
    fn between(
        &self,
        subscription_id: &SubscriptionId,
        low: impl Into<String>,
        high: impl Into<String>,
    ) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .key_condition_expression(
                "subscription_id = :subscription AND delivery_id BETWEEN :low AND :high",
            )
            .expression_attribute_values(":subscription", text(subscription_id.as_str()))
            .expression_attribute_values(":low", text(low))
            .expression_attribute_values(":high", text(high))
    }

    /// The keys of the rows of a subscription from `low` to `high`, both included.
    fn keys_between(
        &self,
        subscription_id: &SubscriptionId,
        low: &str,
        high: String,
    ) -> QueryFluentBuilder {
        self.between(subscription_id, low, high)
            .projection_expression("subscription_id, delivery_id")
    }

    /// An update of the row that keeps concurrent requests from storing too many recoveries.
    fn guard(&self, recovery: &Recovery) -> UpdateBuilder {
        let expires_at = recovery.created_at().plus(STARTED_KEPT);
        types::Update::builder()
            .table_name(&self.table)
            .set_key(Some(item_key(&recovery.subscription_id, STARTED_RECOVERIES)))
            .expression_attribute_values(":expires", number(expires_at.seconds()))
    }

    /// Stores a new recovery and makes this update, or neither.
    async fn put_guarded(
        &self,
        recovery: &Recovery,
        guard: UpdateBuilder,
    ) -> Result<Written, StoreError> {
        let rejected = |error: BuildError| StoreError::Rejected(error.into());
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(recovery::encode(recovery)?))
            .condition_expression(ABSENT);
        let actions = [
            TransactWriteItem::builder().put(put.build().map_err(rejected)?).build(),
            TransactWriteItem::builder().update(guard.build().map_err(rejected)?).build(),
        ];
        match transact(&self.client, actions.into()).await? {
            Transacted::Applied => Ok(Written::Applied),
            // Another request has changed the row, or is about to.
            Transacted::ConditionFailed { .. } | Transacted::Conflict(_) => {
                Ok(Written::ConditionFailed)
            }
            Transacted::Throttled(reason) => Err(StoreError::Unavailable(reason.into())),
        }
    }

    /// Writes a payload. Whoever writes one of the same delivery writes the same.
    async fn put_payload(&self, payload: Item) -> Result<(), StoreError> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(payload));
        put.send().await.map(drop).map_err(|error| fault(error).into())
    }

    /// Writes a record and erases its payload, or neither: nothing would erase the payload of a record
    /// that has ended.
    async fn put_and_erase_payload(
        &self,
        delivery: &Delivery,
        expect: Expect,
    ) -> Result<DeliveryWrite, StoreError> {
        let put = |row| Put::builder().table_name(&self.table).set_item(Some(row));
        let (condition, values) = condition(expect);
        let record = put(row::encode(delivery)?)
            .condition_expression(condition)
            .set_expression_attribute_values(values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let payload = put(row::encode_erased_payload(delivery)?);
        let actions = [record, payload].map(|put| {
            let put = put.build().map_err(|error| StoreError::Rejected(error.into()))?;
            Ok(TransactWriteItem::builder().put(put).build())
        });
        let actions = actions.into_iter().collect::<Result<_, StoreError>>()?;
        match transact(&self.client, actions).await? {
            Transacted::Applied => Ok(DeliveryWrite::Applied),
            Transacted::ConditionFailed { row, .. } => self.refused(row, expect.version()),
            Transacted::Conflict(reason) | Transacted::Throttled(reason) => {
                Err(StoreError::Unavailable(reason.into()))
            }
        }
    }

    /// The delivery with its payload, which is read when it has a row of its own: with strong
    /// consistency, because the record may be read right after both were written.
    async fn with_payload(&self, mut delivery: Delivery) -> Result<Delivery, StoreError> {
        if delivery.has_payload_row {
            let key = item_key(&delivery.subscription_id, &row::payload_key(&delivery.id));
            let get = self.client.get_item().table_name(&self.table).set_key(Some(key.clone()));
            let response = get.consistent_read(true).send().await.map_err(fault)?;
            let payload = response.item.ok_or_else(|| strange(&key, "the payload is missing"))?;
            delivery.data = row::decode_payload(payload)?;
        }
        Ok(delivery)
    }

    /// Why a conditional write was refused: the row that it met.
    fn refused(
        &self,
        row: Option<Item>,
        expected: Option<Version>,
    ) -> Result<DeliveryWrite, StoreError> {
        let lease_until = row.as_ref().and_then(row::lease_until);
        let found = row.map(row::decode).transpose()?;
        let now = self.clock.now();
        let found = found.filter(|delivery| now < delivery.expires_at);
        Ok(DeliveryWrite::refused(found, expected, lease_until))
    }

    async fn delete_batch(
        &self,
        subscription_id: &SubscriptionId,
        keys: &[RowKey],
    ) -> Result<Vec<RowKey>, StoreError> {
        let requests = keys
            .iter()
            .map(|key| {
                let key = item_key(subscription_id, &sort_key(key));
                let delete = DeleteRequest::builder().set_key(Some(key)).build()?;
                Ok(WriteRequest::builder().delete_request(delete).build())
            })
            .collect::<Result<Vec<_>, BuildError>>()
            .map_err(|error| StoreError::Rejected(error.into()))?;
        let response = self
            .client
            .batch_write_item()
            .request_items(&self.table, requests)
            .send()
            .await
            .map_err(fault)?;
        let unprocessed = response.unprocessed_items().and_then(|tables| tables.get(&self.table));
        unprocessed
            .into_iter()
            .flatten()
            .filter_map(WriteRequest::delete_request)
            .map(|delete| row_key(delete.key()))
            .collect()
    }
}

/// The condition of a write, and its values.
fn condition(expect: Expect) -> (Cow<'static, str>, Option<Item>) {
    let mut values = Item::new();
    let condition = match expect {
        Expect::Absent => ABSENT.into(),
        Expect::Unchanged(_) => UNCHANGED.into(),
        Expect::Free { now, .. } => {
            values.insert(":now".to_owned(), number(now.millis()));
            format!("{UNCHANGED} AND (attribute_not_exists(lease_until) OR lease_until <= :now)")
                .into()
        }
    };
    if let Some(Version { status, attempts }) = expect.version() {
        values.insert(":status".to_owned(), text(status.as_str()));
        values.insert(":attempts".to_owned(), number(attempts));
    }
    // DynamoDB refuses an empty map.
    (condition, Some(values).filter(|values| !values.is_empty()))
}

#[async_trait]
impl Deliveries for DynamoDeliveries {
    async fn get(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        consistency: Consistency,
    ) -> Result<Option<Delivery>, StoreError> {
        let response = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(item_key(subscription_id, id.as_str())))
            .consistent_read(consistency == Consistency::Strong)
            .send()
            .await
            .map_err(fault)?;
        let delivery = response.item.map(row::decode).transpose()?;
        let now = self.clock.now();
        match delivery.filter(|delivery| now < delivery.expires_at) {
            Some(delivery) => self.with_payload(delivery).await.map(Some),
            None => Ok(None),
        }
    }

    async fn without_record(
        &self,
        deliveries: &[(&SubscriptionId, &DeliveryId)],
    ) -> Result<BTreeSet<DeliveryId>, StoreError> {
        let mut absent: BTreeSet<DeliveryId> =
            deliveries.iter().map(|(_, id)| (*id).clone()).collect();
        for deliveries in deliveries.chunks(BATCH_GET_KEYS) {
            let keys = deliveries
                .iter()
                .map(|(subscription_id, id)| item_key(subscription_id, id.as_str()));
            let found = get_several(&self.client, &self.table, keys.collect(), Some(DELIVERY_ID));
            for row in found.await? {
                absent.remove(&delivery_id(&row)?);
            }
        }
        Ok(absent)
    }

    async fn put(&self, delivery: &Delivery, expect: Expect) -> Result<DeliveryWrite, StoreError> {
        let mut record = Cow::Borrowed(delivery);
        if expect == Expect::Absent
            && let Some(payload) = row::encode_payload(delivery)?
        {
            record.to_mut().has_payload_row = true;
            self.put_payload(payload).await?;
        }
        if record.has_payload_row && record.is_payload_erased {
            record.to_mut().has_payload_row = false;
            return self.put_and_erase_payload(&record, expect).await;
        }
        let (condition, values) = condition(expect);
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(row::encode(&record)?))
            .condition_expression(condition)
            .set_expression_attribute_values(values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = put.send().await else { return Ok(DeliveryWrite::Applied) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(refused)) => {
                self.refused(refused.item.clone(), expect.version())
            }
            _ => Err(fault(error).into()),
        }
    }

    async fn lease(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        version: Version,
        lease: &Lease,
    ) -> Result<DeliveryWrite, StoreError> {
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item_key(subscription_id, id.as_str())))
            .update_expression("SET lease_holder = :holder, lease_until = :until")
            .condition_expression(format!(
                "{UNCHANGED} AND (attribute_not_exists(lease_until) OR lease_until <= :now \
                 OR lease_holder = :holder)"
            ))
            .expression_attribute_values(":status", text(version.status.as_str()))
            .expression_attribute_values(":attempts", number(version.attempts))
            .expression_attribute_values(":holder", text(&lease.holder))
            .expression_attribute_values(":now", number(lease.now.millis()))
            .expression_attribute_values(":until", number(lease.until.millis()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = result else { return Ok(DeliveryWrite::Applied) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                self.refused(refused.item.clone(), Some(version))
            }
            _ => Err(fault(error).into()),
        }
    }

    async fn update_next_slot(
        &self,
        subscription_id: &SubscriptionId,
        update: Update,
        now: Timestamp,
    ) -> Result<SlotUpdate, StoreError> {
        let (set, condition, value, now_us) = match update {
            Update::Extend { add, now } => {
                ("next_slot = next_slot + :value", "next_slot >= :now", add, now)
            }
            Update::Restart { to, now } => (
                "next_slot = :value",
                "attribute_not_exists(next_slot) OR next_slot < :now",
                to,
                now,
            ),
        };
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item_key(subscription_id, NEXT_SLOT)))
            .update_expression(format!("SET {set}, expires_at = :expires"))
            .condition_expression(condition)
            .expression_attribute_values(":value", number(value))
            .expression_attribute_values(":now", number(now_us))
            .expression_attribute_values(":expires", number(now.plus(NEXT_SLOT_KEPT).seconds()))
            .return_values(ReturnValue::UpdatedNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match result {
            Ok(response) => {
                next_slot(response.attributes.as_ref())?.map(SlotUpdate::Applied).ok_or_else(|| {
                    StoreError::Rejected("the response to the update lacks its value".into())
                })
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    Ok(SlotUpdate::ConditionFailed(next_slot(refused.item.as_ref())?))
                }
                _ => Err(fault(error).into()),
            },
        }
    }

    async fn page(
        &self,
        subscription_id: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        before: Option<&DeliveryId>,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        let Some((low, high)) = bounds(filter, before) else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        let status_key =
            filter.status.and_then(|status| status_index::status_key(status, subscription_id));
        if let Some(status_key) = status_key
            && let Some(since) = self.indexed_since().await?
        {
            let first = DeliveryId::first_of(since);
            if high.as_str() >= first.as_str() {
                let has_older = since > Timestamp::EPOCH && low.as_str() < first.as_str();
                let bounds = (low.max(first.to_string()), high);
                let page =
                    self.indexed_page(subscription_id, status_key, bounds, filter, limit, now);
                let Page { items, next } = page.await?;
                return Ok(Page { items, next: next.or(has_older.then_some(first)) });
            }
        }
        let query = self.between(subscription_id, low, high).scan_index_forward(false);
        let query = filtered(query, filter, now);
        let rows = read(query, limit + 1, 1).await?;
        page(rows, limit, row::decode, |delivery| delivery.id.clone(), delivery_id)
    }
}

#[async_trait]
impl DueIndex for DynamoDeliveries {
    async fn due(
        &self,
        shard: u8,
        until: Timestamp,
        limit: usize,
        after: Option<&Due>,
    ) -> Result<Page<Due, Due>, StoreError> {
        // A start outside of the range would be refused.
        if after.is_some_and(|after| after.due_at > until) {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(DUE_INDEX)
            .key_condition_expression("due_shard = :shard AND due_at <= :until")
            .expression_attribute_values(":shard", number(shard))
            .expression_attribute_values(":until", number(until.millis()))
            .set_exclusive_start_key(after.map(|after| due_key(shard, after)));
        let rows = read(query, limit + 1, PAGE_REQUESTS).await?;
        page(rows, limit, |item| due(&item), Due::clone, due)
    }

    async fn postpone(&self, due: &Due, due_at: Timestamp) -> Result<Written, StoreError> {
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item_key(&due.subscription_id, &waiting_key(&due.row))))
            .update_expression("SET due_at = :later")
            .condition_expression("due_at = :due_at")
            .expression_attribute_values(":due_at", number(due.due_at.millis()))
            .expression_attribute_values(":later", number(due_at.millis()))
            .send()
            .await;
        written(result)
    }
}

#[async_trait]
impl Statistics for DynamoDeliveries {
    async fn count(
        &self,
        subscription_id: &SubscriptionId,
        hour: Timestamp,
        addition: &Addition,
    ) -> Result<(), StoreError> {
        let key = item_key(subscription_id, &stats::sort_key(hour));
        let shard = row::shard_of(subscription_id.as_str());
        stats::add(addition, &self.client, &self.table, (key, shard)).await
    }

    async fn hour(
        &self,
        subscription_id: &SubscriptionId,
        hour: Timestamp,
    ) -> Result<Option<HourCounts>, StoreError> {
        let key = item_key(subscription_id, &stats::sort_key(hour));
        let get = self.client.get_item().table_name(&self.table).set_key(Some(key));
        let found = get.consistent_read(true).send().await.map_err(fault)?;
        found.item.map(stats::decode).transpose()
    }

    async fn replace(
        &self,
        subscription_id: &SubscriptionId,
        before: &HourCounts,
        counts: &Counts,
    ) -> Result<Written, StoreError> {
        let key = item_key(subscription_id, &stats::sort_key(before.hour));
        stats::replace(before, counts, &self.client, &self.table, key).await
    }

    async fn counters(
        &self,
        subscription_id: &SubscriptionId,
        since: Timestamp,
    ) -> Result<Vec<HourCounts>, StoreError> {
        let query = self.between(subscription_id, stats::first_from(since), stats::above_all());
        let items = read(query, usize::MAX, usize::MAX).await?.items;
        let hours = items.into_iter().map(stats::decode);
        hours.collect()
    }
}

#[async_trait]
impl Recoveries for DynamoDeliveries {
    async fn create_recovery(&self, recovery: &Recovery) -> Result<Written, StoreError> {
        if let Some(outage) = recovery.outage() {
            let guard = self
                .guard(recovery)
                .update_expression("SET outage = :outage, expires_at = :expires")
                .condition_expression("attribute_not_exists(outage) OR outage <> :outage")
                .expression_attribute_values(":outage", number(outage.millis()));
            return self.put_guarded(recovery, guard).await;
        }
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(recovery::encode(recovery)?))
            .condition_expression(ABSENT);
        written(put.send().await)
    }

    async fn started_recoveries(
        &self,
        subscription_id: &SubscriptionId,
    ) -> Result<u64, StoreError> {
        let get = self.client.get_item().table_name(&self.table);
        let get = get.set_key(Some(item_key(subscription_id, STARTED_RECOVERIES)));
        let item = get.consistent_read(true).send().await.map_err(fault)?.item;
        let Some(value) = item.as_ref().and_then(|item| item.get("started")) else { return Ok(0) };
        let started = value.as_n().ok().and_then(|started| started.parse().ok());
        started.ok_or_else(|| StoreError::Undecodable {
            key: format!("{subscription_id} / {STARTED_RECOVERIES}"),
            reason: "`started` is no whole number".to_owned(),
        })
    }

    async fn start_recovery(
        &self,
        recovery: &Recovery,
        started: u64,
    ) -> Result<Written, StoreError> {
        let guard = self
            .guard(recovery)
            .update_expression("SET started = :next, expires_at = :expires")
            .expression_attribute_values(":next", number(started + 1));
        let guard = if started == 0 {
            guard.condition_expression("attribute_not_exists(started)")
        } else {
            guard
                .condition_expression("started = :started")
                .expression_attribute_values(":started", number(started))
        };
        self.put_guarded(recovery, guard).await
    }

    async fn recovery(
        &self,
        subscription_id: &SubscriptionId,
        id: &RecoveryId,
    ) -> Result<Option<Recovery>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(item_key(subscription_id, &recovery::sort_key(id))))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault)?;
        let recovery = answer.item.map(recovery::decode).transpose()?;
        let now = self.clock.now();
        Ok(recovery.filter(|recovery| now < recovery.expires_at))
    }

    async fn recoveries(
        &self,
        subscription_id: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<Recovery>, StoreError> {
        let query = self
            .between(subscription_id, recovery::PREFIX, recovery::above_all())
            .consistent_read(true)
            .scan_index_forward(false)
            .filter_expression("expires_at > :now")
            .expression_attribute_values(":now", number(self.clock.now().seconds()));
        let items = read(query, limit, PAGE_REQUESTS).await?.items;
        items.into_iter().take(limit).map(recovery::decode).collect()
    }

    async fn put_recovery(
        &self,
        recovery: &Recovery,
        expected_page: u32,
    ) -> Result<Written, StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(recovery::encode(recovery)?))
            .condition_expression("job = :running AND #page = :page")
            .expression_attribute_names("#page", "page")
            .expression_attribute_values(":running", text(RecoveryStatus::Running.as_str()))
            .expression_attribute_values(":page", number(expected_page));
        written(put.send().await)
    }

    async fn oldest(
        &self,
        subscription_id: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        after: Option<&DeliveryId>,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        let Some((low, high)) = bounds(filter, None) else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        // `~` sorts after every character of an id.
        let low = after.map_or_else(|| low.clone(), |after| low.clone().max(format!("{after}~")));
        if low > high {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let query = self.between(subscription_id, low, high).consistent_read(true);
        let query = filtered(query, filter, now);
        let rows = read(query, limit + 1, PAGE_REQUESTS).await?;
        let found = page(rows, limit, row::decode, |delivery| delivery.id.clone(), delivery_id)?;
        let items = found.items.into_iter().map(|delivery| self.with_payload(delivery));
        let items = stream::iter(items).buffered(PAYLOAD_READS).try_collect().await?;
        Ok(Page { items, next: found.next })
    }

    async fn outcomes(
        &self,
        subscription_id: &SubscriptionId,
        created_at: Timestamp,
    ) -> Result<Outcomes, StoreError> {
        let low = DeliveryId::first_of(created_at);
        let high = DeliveryId::first_of(created_at.plus(Duration::from_millis(1)));
        let query = self
            .between(subscription_id, low.as_str(), just_below(high.as_str()))
            .consistent_read(true)
            .filter_expression("g = :recovery")
            .expression_attribute_values(":recovery", text(Trigger::Recovery.as_str()))
            .projection_expression("s");
        let mut outcomes = Outcomes::default();
        for item in read(query, usize::MAX, usize::MAX).await?.items {
            let status = part(&item, "s");
            outcomes.succeeded += u64::from(status == Status::Success.as_str());
            outcomes.failed += u64::from(status == Status::Failed.as_str());
        }
        Ok(outcomes)
    }
}

#[async_trait]
impl CleanupState for DynamoDeliveries {
    async fn expired_keys(
        &self,
        subscription_id: &SubscriptionId,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        let deliveries = self
            .keys_between(
                subscription_id,
                DeliveryId::PREFIX,
                just_below(DeliveryId::first_of(before).as_str()),
            )
            .filter_expression("attribute_not_exists(due_shard)")
            .projection_expression("subscription_id, delivery_id, pr");
        let hours = self.keys_between(
            subscription_id,
            stats::PREFIX,
            just_below(&stats::first_from(before)),
        );
        let recoveries = self
            .keys_between(
                subscription_id,
                recovery::PREFIX,
                just_below(&recovery::sort_key(&RecoveryId::first_of(before))),
            )
            .filter_expression("attribute_not_exists(due_shard)");
        first_keys([deliveries, hours, recoveries], limit).await
    }

    async fn all_keys(
        &self,
        subscription_id: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        let deliveries = self.keys_between(subscription_id, DeliveryId::PREFIX, above_all());
        let payloads =
            self.keys_between(subscription_id, row::PAYLOAD_PREFIX, row::above_payloads());
        let hours = self.keys_between(subscription_id, stats::PREFIX, stats::above_all());
        let slot = self.keys_between(subscription_id, NEXT_SLOT, NEXT_SLOT.to_owned());
        let recoveries =
            self.keys_between(subscription_id, recovery::PREFIX, recovery::above_all());
        let started =
            self.keys_between(subscription_id, STARTED_RECOVERIES, STARTED_RECOVERIES.to_owned());
        let all = [deliveries, payloads, hours, slot, started, recoveries];
        Box::pin(first_keys(all, limit)).await
    }

    async fn delete(
        &self,
        subscription_id: &SubscriptionId,
        keys: &[RowKey],
    ) -> Result<Vec<RowKey>, StoreError> {
        let mut left = Vec::new();
        for batch in keys.chunks(DELETE_BATCH) {
            let mut unprocessed = self.delete_batch(subscription_id, batch).await?;
            for wait in BATCH_WAITS {
                if unprocessed.is_empty() {
                    break;
                }
                tokio::time::sleep(wait).await;
                unprocessed = self.delete_batch(subscription_id, &unprocessed).await?;
            }
            left.extend(unprocessed);
        }
        Ok(left)
    }

    async fn position(&self) -> Result<Option<SubscriptionKey>, StoreError> {
        let response = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(cleanup_key()))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault)?;
        let Some(item) = response.item else {
            return Ok(None);
        };
        let position: CleanupRow = from_item(item, CLEANUP_SCHEMA..=CLEANUP_SCHEMA)
            .map_err(|reason| StoreError::Undecodable { key: CLEANUP.to_owned(), reason })?;
        Ok(Some(SubscriptionKey {
            user_id: position.position_user,
            subscription_id: position.position_subscription,
            deleted: position.deleted,
        }))
    }

    async fn set_position(&self, position: Option<&SubscriptionKey>) -> Result<(), StoreError> {
        let Some(position) = position else {
            let delete =
                self.client.delete_item().table_name(&self.table).set_key(Some(cleanup_key()));
            return delete.send().await.map(drop).map_err(|error| fault(error).into());
        };
        let row = to_item(&CleanupRow {
            subscription_id: CLEANUP.to_owned(),
            delivery_id: CLEANUP.to_owned(),
            schema: CLEANUP_SCHEMA,
            position_user: position.user_id.clone(),
            position_subscription: position.subscription_id.clone(),
            deleted: position.deleted,
        })?;
        let put = self.client.put_item().table_name(&self.table).set_item(Some(row));
        put.send().await.map(drop).map_err(|error| fault(error).into())
    }
}

#[derive(Serialize, Deserialize)]
struct CleanupRow {
    subscription_id: String,
    delivery_id: String,
    #[serde(rename = "v")]
    schema: u32,
    position_user: UserId,
    position_subscription: SubscriptionId,
    deleted: bool,
}

/// The first `limit` keys of these queries.
async fn first_keys<const N: usize>(
    queries: [QueryFluentBuilder; N],
    limit: usize,
) -> Result<Vec<RowKey>, StoreError> {
    let mut keys = Vec::new();
    for query in queries {
        let left = limit - keys.len();
        if left > 0 {
            let items = read(query, left, usize::MAX).await?.items;
            for item in &items {
                let key = row_key(item)?;
                if let (RowKey::Delivery(id), Some(AttributeValue::Bool(true))) =
                    (&key, item.get("pr"))
                {
                    keys.push(RowKey::Payload(id.clone()));
                }
                keys.push(key);
            }
            keys.truncate(limit);
        }
    }
    Ok(keys)
}

fn item_key(subscription_id: &SubscriptionId, sort: &str) -> Item {
    key((SUBSCRIPTION_ID, subscription_id.as_str()), (DELIVERY_ID, sort))
}

fn cleanup_key() -> Item {
    key((SUBSCRIPTION_ID, CLEANUP), (DELIVERY_ID, CLEANUP))
}

/// Lies above every delivery.
fn above_all() -> String {
    format!("{}~", DeliveryId::PREFIX)
}

/// Hides the rows that a list does not show.
fn filtered(
    query: QueryFluentBuilder,
    filter: &DeliveryFilter,
    now: Timestamp,
) -> QueryFluentBuilder {
    let mut conditions = vec!["expires_at > :now"];
    let mut query = query.expression_attribute_values(":now", number(now.seconds()));
    if let Some(status) = filter.status {
        conditions.push("s = :status");
        query = query.expression_attribute_values(":status", text(status.as_str()));
    }
    if let Some(event_type) = filter.event_type {
        conditions.push("t = :type");
        query = query.expression_attribute_values(":type", text(event_type.name()));
    }
    if let Some(event_id) = &filter.event_id {
        conditions.push("e = :event");
        query = query.expression_attribute_values(":event", text(event_id.as_str()));
    }
    query.filter_expression(conditions.join(" AND "))
}

/// The least and the greatest sort key a list may show; nothing when it can show none.
fn bounds(filter: &DeliveryFilter, before: Option<&DeliveryId>) -> Option<(String, String)> {
    let low = filter.since.map_or_else(
        || DeliveryId::PREFIX.to_owned(),
        |since| DeliveryId::first_of(since).to_string(),
    );
    let until = filter.until.map(|until| just_below(DeliveryId::first_of(until).as_str()));
    let before = before.map(|before| just_below(before.as_str()));
    let high = [until, before].into_iter().flatten().min().unwrap_or_else(above_all);
    (low <= high).then_some((low, high))
}

fn sort_key(key: &RowKey) -> String {
    match key {
        RowKey::Delivery(id) => id.to_string(),
        RowKey::Payload(id) => row::payload_key(id),
        RowKey::Recovery(id) => recovery::sort_key(id),
        RowKey::Stats(hour) => stats::sort_key(*hour),
        RowKey::NextSlot => NEXT_SLOT.to_owned(),
        RowKey::StartedRecoveries => STARTED_RECOVERIES.to_owned(),
    }
}

fn row_key(item: &Item) -> Result<RowKey, StoreError> {
    let sort = part(item, DELIVERY_ID);
    if sort == NEXT_SLOT {
        return Ok(RowKey::NextSlot);
    }
    if sort == STARTED_RECOVERIES {
        return Ok(RowKey::StartedRecoveries);
    }
    if let Some(id) = recovery::id_of(sort) {
        return Ok(RowKey::Recovery(id));
    }
    if let Some(id) = row::payload_of(sort) {
        return Ok(RowKey::Payload(id));
    }
    match stats::hour_of(sort) {
        Some(hour) => Ok(RowKey::Stats(hour)),
        None => delivery_id(item).map(RowKey::Delivery),
    }
}

fn waiting_key(row: &Waiting) -> String {
    match row {
        Waiting::Delivery(id) => id.to_string(),
        Waiting::Recovery(id) => recovery::sort_key(id),
        Waiting::Stats(hour) => stats::sort_key(*hour),
    }
}

fn delivery_id(item: &Item) -> Result<DeliveryId, StoreError> {
    part(item, DELIVERY_ID).parse().map_err(|_| strange(item, "there is no such kind of row"))
}

fn next_slot(item: Option<&Item>) -> Result<Option<NextSlot>, StoreError> {
    let Some(value) = item.and_then(|item| item.get("next_slot")) else { return Ok(None) };
    let micros = value.as_n().ok().and_then(|micros| micros.parse().ok());
    let strange = || StoreError::Undecodable {
        key: NEXT_SLOT.to_owned(),
        reason: "`next_slot` is no whole number".to_owned(),
    };
    micros.map(NextSlot).map(Some).ok_or_else(strange)
}

fn due_key(shard: u8, due: &Due) -> Item {
    let mut item = item_key(&due.subscription_id, &waiting_key(&due.row));
    item.insert(DUE_SHARD.to_owned(), number(shard));
    item.insert(DUE_AT.to_owned(), number(due.due_at.millis()));
    item
}

fn due(item: &Item) -> Result<Due, StoreError> {
    let Some(AttributeValue::N(due_at)) = item.get(DUE_AT) else {
        return Err(strange(item, "it is in the due index without `due_at`"));
    };
    let due_at = due_at.parse().map_err(|_| strange(item, "`due_at` is no whole number"))?;
    let subscription_id = part(item, SUBSCRIPTION_ID).parse();
    Ok(Due {
        due_at: Timestamp::from_millis(due_at),
        subscription_id: subscription_id
            .map_err(|_| strange(item, "`subscription_id` is no id of a subscription"))?,
        row: match row_key(item)? {
            RowKey::Recovery(id) => Waiting::Recovery(id),
            RowKey::Stats(hour) => Waiting::Stats(hour),
            RowKey::Delivery(id) => Waiting::Delivery(id),
            RowKey::Payload(_) | RowKey::NextSlot | RowKey::StartedRecoveries => {
                return Err(strange(item, "such a row does not belong into the due index"));
            }
        },
    })
}

fn part<'a>(item: &'a Item, name: &str) -> &'a str {
    match item.get(name) {
        Some(AttributeValue::S(text)) => text,
        _ => "",
    }
}

fn strange(item: &Item, reason: &str) -> StoreError {
    let key = shown_key(item, [SUBSCRIPTION_ID, DELIVERY_ID]);
    StoreError::Undecodable { key, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;
    use serde_json::{Value, json};
    use test_support::sample;
    use tokio::time::Instant;

    use crate::SystemClock;

    #[test]
    fn bounds_are_exact() {
        let id = |millis, n| DeliveryId::new(Timestamp::from_millis(millis), [n; 10]);
        let at = |millis| Some(Timestamp::from_millis(millis));
        let shows = |since, until, before: Option<&DeliveryId>, id: &DeliveryId| {
            let filter = DeliveryFilter { since, until, ..DeliveryFilter::default() };
            bounds(&filter, before)
                .is_some_and(|(low, high)| (low.as_str()..=high.as_str()).contains(&id.as_str()))
        };
        for n in [0, 7, 0xFF] {
            let row = id(1000, n);
            assert!(shows(None, None, None, &row));
            assert!(shows(at(1000), at(1001), None, &row));
            assert!(!shows(at(1001), None, None, &row));
            assert!(!shows(None, at(1000), None, &row));
            assert!(!shows(None, None, Some(&row), &row));
            assert!(!shows(at(2000), at(500), None, &row));
            assert!(shows(at(500), at(2000), Some(&id(1001, 0)), &row));
        }
        assert!(shows(None, None, Some(&id(1000, 8)), &id(1000, 7)));
        assert!(!shows(None, None, Some(&id(1000, 6)), &id(1000, 7)));
    }

    #[test]
    fn every_row_has_a_key_and_strange_ones_are_errors() {
        let id = sample::subscription_id("u", 1);
        let keys = [
            RowKey::Delivery(sample::delivery_id(&id, 1)),
            RowKey::Payload(sample::delivery_id(&id, 1)),
            RowKey::Stats(Timestamp::EPOCH),
            RowKey::Stats(sample::start()),
            RowKey::NextSlot,
            RowKey::StartedRecoveries,
            RowKey::Recovery(RecoveryId::first_of(sample::start())),
        ];
        for key in keys {
            assert_eq!(row_key(&item_key(&id, &sort_key(&key))).unwrap(), key);
        }
        for sort in [
            "",
            "x",
            "recovery#",
            "recovery#dlv_1",
            "stats#",
            "stats#12",
            "stats#-000000001",
            "dlv_1",
        ] {
            let error = row_key(&item_key(&id, sort)).unwrap_err();
            assert!(error.to_string().contains(&format!("{id} / {sort}")), "{error}");
        }
        let mut item = item_key(&id, sample::delivery_id(&id, 1).as_str());
        assert!(due(&item).is_err());
        item.insert(DUE_AT.to_owned(), number("1.5"));
        assert!(due(&item).is_err());
    }

    /// A table that processes no delete, with the time of each request.
    #[derive(Clone, Debug, Default)]
    struct Throttled(Arc<Mutex<Vec<Instant>>>);

    impl HttpConnector for Throttled {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            self.0.lock().unwrap().push(Instant::now());
            let request: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            let response = json!({"UnprocessedItems": request["RequestItems"]}).to_string();
            let status = StatusCode::try_from(200).unwrap();
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(response))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn delete_backs_off_while_the_table_is_throttled() {
        let table = Throttled::default();
        let connector = SharedHttpConnector::new(table.clone());
        let config = crate::clients::local("http://localhost")
            .into_builder()
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        let client = crate::clients::dynamodb(&config);
        let store = DynamoDeliveries::new(client, "table".to_owned(), Arc::new(SystemClock));
        let id = sample::subscription_id("u", 1);
        let keys: Vec<_> = (1..=3).map(|n| RowKey::Delivery(sample::delivery_id(&id, n))).collect();
        let mut left = CleanupState::delete(&store, &id, &keys).await.unwrap();
        left.sort_by_key(|key| format!("{key:?}"));
        assert_eq!(left, keys, "what stays is named");
        let times = table.0.lock().unwrap().clone();
        let waits: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800]);
    }
}
