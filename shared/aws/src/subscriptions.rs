//! The Subscriptions table.
//!
//! Partition key `user_id`, sort key `subscription_id`. A user's partition has these rows:
//!
//! | sort key | row |
//! |---|---|
//! | `#count` | how many subscriptions the user has, how many were created on the last day with any, and how many redeliveries were asked for on the last day with any, so that the limits hold under concurrency |
//! | `deleted#wh_…` | the tombstone of a deleted subscription: its deliveries are still to be removed |
//! | `wh#blocked` | the operator has blocked the user; it lies directly below the subscriptions, so that one query reads both |
//! | `host#…` | how the user's webhooks at one host do, while they fail |
//! | `wh_…` | a subscription |
//!
//! The partition `#operator` has a row `blocked-host#HOST` for each host that the operator has blocked.
//! `scripts/operate.py` writes these rows and `wh#blocked`.
//!
//! Creating and deleting are transactions over the row and the counter. The SDK gives each
//! transaction an idempotency token, which its retries repeat, so that one whose response was lost
//! does not happen twice.

mod row;

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{
    self, AttributeValue, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use webhooks_core::breaker::Health;
use webhooks_core::host_health::{HostHealth, HostId};
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::limits::{REDELIVERIES_PER_DAY, WEBHOOKS_CREATED_PER_DAY, WEBHOOKS_PER_USER};
use webhooks_core::ports::{
    Consistency, Creation, HostWrite, ListedSubscription, Page, StoreError, SubscriptionKey,
    SubscriptionWrite, Subscriptions, UserSubscriptions, Written,
};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::dynamo::{
    BATCH_GET_KEYS, Item, Rows, Transacted, get_several, just_below, key, number, page, read,
    shown_key, text, transact,
};
use crate::error::fault;

const USER_ID: &str = "user_id";
const SUBSCRIPTION_ID: &str = "subscription_id";
const COUNTER: &str = "#count";
const TOMBSTONE: &str = "deleted#";
const BLOCKED: &str = "wh#blocked";
const OPERATOR: &str = "#operator";
const BLOCKED_HOST: &str = "blocked-host#";
const HOST: &str = "host#";
/// How the sort key of a subscription begins.
const SUBSCRIPTION: &str = "wh_";
/// The waits between the tries of a transaction that conflicts with another one.
const TRANSACTION_WAITS: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
];
/// The tries to create one: refused ones change nothing, and each is refused for another reason.
const CREATE_TRIES: usize = 4;
/// Requests of one page, at most.
const PAGE_REQUESTS: usize = 10;

/// The Subscriptions table on DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoSubscriptions {
    client: Client,
    table: String,
}

/// What became of a conditional update.
enum Update {
    /// It was made.
    Applied,
    /// The condition does not hold for this row.
    Refused(Item),
    /// There is no row.
    Missing,
}

/// The counter of a user.
struct Counter {
    subscriptions: usize,
    /// The last day on which any was created, from the Unix epoch.
    made_on: Option<i64>,
    made: usize,
}

impl DynamoSubscriptions {
    /// The table of this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// The rows of a user from `low` to `top`, with strong consistency: who has just created one
    /// expects to see it.
    fn query_user(&self, user_id: &UserId, low: &str, top: String) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("user_id = :user AND subscription_id BETWEEN :low AND :high")
            .expression_attribute_values(":user", text(user_id.as_str()))
            .expression_attribute_values(":low", text(low))
            .expression_attribute_values(":high", text(top))
    }

    fn change(&self, user_id: &UserId, id: &SubscriptionId) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(row_key(user_id, id.as_str())))
    }

    /// Sends a conditional update.
    async fn send(&self, update: UpdateItemFluentBuilder) -> Result<Update, StoreError> {
        let all_old = ReturnValuesOnConditionCheckFailure::AllOld;
        let sent = update.return_values_on_condition_check_failure(all_old).send().await;
        let Err(error) = sent else { return Ok(Update::Applied) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                Ok(refused.item.clone().map_or(Update::Missing, Update::Refused))
            }
            _ => Err(fault(error).into()),
        }
    }

    fn written(update: Update) -> Result<SubscriptionWrite, StoreError> {
        Ok(match update {
            Update::Applied => SubscriptionWrite::Applied,
            Update::Refused(row) => SubscriptionWrite::Conflict(Box::new(row::decode(row)?)),
            Update::Missing => SubscriptionWrite::Missing,
        })
    }

    fn counter(&self, user_id: &UserId) -> UpdateBuilder {
        types::Update::builder().table_name(&self.table).set_key(Some(row_key(user_id, COUNTER)))
    }

    /// Stores a subscription and counts it, where this condition on the counter holds.
    async fn create_counted(
        &self,
        subscription: &Subscription,
        count: UpdateBuilder,
    ) -> Result<Transacted, StoreError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(row::encode(subscription)?))
            .condition_expression("attribute_not_exists(subscription_id)")
            .build()
            .map_err(rejected)?;
        let actions = vec![
            TransactWriteItem::builder().put(put).build(),
            TransactWriteItem::builder().update(count.build().map_err(rejected)?).build(),
        ];
        self.transact(actions).await
    }

    /// Counts one more on a day that is the counter's.
    fn count_on(&self, user_id: &UserId, day: i64) -> UpdateBuilder {
        self.counter(user_id)
            .update_expression("ADD subscriptions :one, made :one")
            .condition_expression("made_on >= :day AND made < :most_made AND subscriptions < :most")
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":day", number(day))
            .expression_attribute_values(":most_made", number(WEBHOOKS_CREATED_PER_DAY))
            .expression_attribute_values(":most", number(WEBHOOKS_PER_USER))
    }

    /// Counts the first one of a day.
    fn count_first_on(&self, user_id: &UserId, day: i64) -> UpdateBuilder {
        self.counter(user_id)
            .update_expression("SET made_on = :day, made = :one ADD subscriptions :one")
            .condition_expression(
                "(attribute_not_exists(made_on) OR made_on < :day) \
                 AND (attribute_not_exists(subscriptions) OR subscriptions < :most)",
            )
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":day", number(day))
            .expression_attribute_values(":most", number(WEBHOOKS_PER_USER))
    }

    /// Reads the counter of a user.
    async fn read_counter(&self, user_id: &UserId) -> Result<Counter, StoreError> {
        let response = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(row_key(user_id, COUNTER)))
            .consistent_read(true)
            .send()
            .await
            .map_err(fault)?;
        let item = response.item.unwrap_or_default();
        Ok(Counter {
            subscriptions: whole(&item, "subscriptions").unwrap_or(0),
            made_on: whole(&item, "made_on"),
            made: whole(&item, "made").unwrap_or(0),
        })
    }

    /// Makes all of the changes or none. Another transaction of the same user may be in the way for
    /// a moment, because both change the counter.
    async fn transact(&self, actions: Vec<TransactWriteItem>) -> Result<Transacted, StoreError> {
        for wait in TRANSACTION_WAITS {
            match transact(&self.client, actions.clone()).await? {
                Transacted::Conflict(_) | Transacted::Throttled(_) => {
                    tokio::time::sleep(wait).await;
                }
                done => return Ok(done),
            }
        }
        transact(&self.client, actions).await
    }
}

#[async_trait]
impl Subscriptions for DynamoSubscriptions {
    async fn create(&self, subscription: &Subscription) -> Result<Creation, StoreError> {
        let user_id = &subscription.user_id;
        let day = subscription.created_at.day();
        let mut count = self.count_on(user_id, day);
        for _ in 0..CREATE_TRIES {
            match self.create_counted(subscription, count).await? {
                Transacted::Applied => return Ok(Creation::Created),
                Transacted::ConditionFailed { action: 0, .. } => {
                    let text = format!("{} exists already", subscription.id);
                    return Err(StoreError::Rejected(text.into()));
                }
                Transacted::ConditionFailed { .. } => {}
                Transacted::Conflict(reason) | Transacted::Throttled(reason) => {
                    return Err(StoreError::Unavailable(reason.into()));
                }
            }
            // A limit was reached, it is a new day, or another one was made at the same time.
            let counter = self.read_counter(user_id).await?;
            let is_new_day = counter.made_on.is_none_or(|made_on| made_on < day);
            if counter.subscriptions >= WEBHOOKS_PER_USER {
                return Ok(Creation::LimitReached);
            }
            if !is_new_day && counter.made >= WEBHOOKS_CREATED_PER_DAY {
                return Ok(Creation::DailyLimitReached);
            }
            count = if is_new_day {
                self.count_first_on(user_id, day)
            } else {
                self.count_on(user_id, day)
            };
        }
        Err(StoreError::Unavailable("the user's counter changes all the time".into()))
    }

    async fn get(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError> {
        let response = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(row_key(user_id, id.as_str())))
            .consistent_read(consistency == Consistency::Strong)
            .send()
            .await
            .map_err(fault)?;
        response.item.map(row::decode).transpose()
    }

    async fn get_several(
        &self,
        names: &[(&UserId, &SubscriptionId)],
    ) -> Result<Vec<Subscription>, StoreError> {
        let mut found = Vec::new();
        for names in names.chunks(BATCH_GET_KEYS) {
            let keys = names.iter().map(|(user_id, id)| row_key(user_id, id.as_str())).collect();
            let rows = get_several(&self.client, &self.table, keys, None).await?;
            // Who needs one that cannot be decoded reads it alone and gets the error.
            found.extend(rows.into_iter().filter_map(|row| row::decode(row).ok()));
        }
        Ok(found)
    }

    async fn page(
        &self,
        user_id: &UserId,
        limit: usize,
        before: Option<&SubscriptionId>,
    ) -> Result<Page<ListedSubscription, SubscriptionId>, StoreError> {
        let top = before.map_or_else(above_all, |before| just_below(before.as_str()));
        let query = self.query_user(user_id, SubscriptionId::PREFIX, top).scan_index_forward(false);
        let rows = read(query, limit + 1, PAGE_REQUESTS).await?;
        page(
            rows,
            limit,
            listed,
            |listed| match listed {
                Ok(subscription) => subscription.id.clone(),
                Err(unreadable) => unreadable.id.clone(),
            },
            |key| Ok(position(key)?.subscription_id),
        )
    }

    async fn list_by_user(&self, user_id: &UserId) -> Result<UserSubscriptions, StoreError> {
        let query = self.query_user(user_id, BLOCKED, above_all());
        let Rows { items, .. } = read(query, usize::MAX, usize::MAX).await?;
        let (blocked, items): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| sort_key(item) == BLOCKED);
        let items = items.into_iter().map(listed).collect::<Result<_, _>>()?;
        Ok(UserSubscriptions { is_blocked: !blocked.is_empty(), items })
    }

    async fn update(
        &self,
        subscription: &Subscription,
        expected_version: u64,
    ) -> Result<SubscriptionWrite, StoreError> {
        let row = row::encode(subscription)?;
        let update = self
            .change(&subscription.user_id, &subscription.id)
            .condition_expression("version = :expected")
            .expression_attribute_values(":expected", number(expected_version));
        Self::written(self.send(row::update_of(row, update)).await?)
    }

    async fn set_health(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        expected: &Health,
        health: &Health,
    ) -> Result<SubscriptionWrite, StoreError> {
        let update = self
            .change(user_id, id)
            .update_expression("SET health = :health, version = version + :one")
            .expression_attribute_values(":health", row::encode_health(health)?)
            .expression_attribute_values(":one", number(1));
        let unchanged = update
            .clone()
            .condition_expression("health = :expected")
            .expression_attribute_values(":expected", row::encode_health(expected)?);
        let sent = match self.send(unchanged).await? {
            Update::Refused(row) => {
                let current = row::decode(row)?;
                if current.health != *expected {
                    return Ok(SubscriptionWrite::Conflict(Box::new(current)));
                }
                // The row of another version of the service spells the same health differently. The
                // version rises with each change of the health, too.
                let unchanged = update
                    .condition_expression("version = :version")
                    .expression_attribute_values(":version", number(current.version));
                self.send(unchanged).await?
            }
            sent => sent,
        };
        Self::written(sent)
    }

    async fn host_health(&self, user_id: &UserId, host: &HostId) -> Result<HostHealth, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(host_key(user_id, host)))
            .consistent_read(false)
            .send()
            .await
            .map_err(fault)?;
        answer.item.map_or(Ok(HostHealth::default()), row::decode_host)
    }

    async fn set_host_health(
        &self,
        user_id: &UserId,
        host: &HostId,
        health: &HostHealth,
    ) -> Result<HostWrite, StoreError> {
        let (row, before) = (row::encode_host(health)?, health.version.saturating_sub(1));
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(host_key(user_id, host)))
            .update_expression("SET version = :version, health = :health, failing = :failing");
        let update = row.into_iter().fold(update, |update, (name, value)| {
            update.expression_attribute_values(format!(":{name}"), value)
        });
        let update = if before == 0 {
            update.condition_expression("attribute_not_exists(version)")
        } else {
            update
                .condition_expression("version = :before")
                .expression_attribute_values(":before", number(before))
        };
        Ok(match self.send(update).await? {
            Update::Applied => HostWrite::Applied,
            Update::Refused(row) => HostWrite::Conflict(row::decode_host(row)?),
            Update::Missing => HostWrite::Conflict(HostHealth::default()),
        })
    }

    async fn delete_unused_hosts(&self, user_id: &UserId) -> Result<(), StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("user_id = :user AND subscription_id BETWEEN :low AND :high")
            .expression_attribute_values(":user", text(user_id.as_str()))
            .expression_attribute_values(":low", text(HOST))
            .expression_attribute_values(":high", text(above_all()));
        let Rows { items, .. } = read(query, usize::MAX, usize::MAX).await?;
        if items.iter().any(|item| sort_key(item).starts_with(SUBSCRIPTION)) {
            return Ok(());
        }
        for item in items.iter().filter(|item| sort_key(item).starts_with(HOST)) {
            let key = [USER_ID, SUBSCRIPTION_ID].map(|name| (name.to_owned(), item[name].clone()));
            let delete = self.client.delete_item().table_name(&self.table);
            delete.set_key(Some(key.into())).send().await.map_err(fault)?;
        }
        Ok(())
    }

    async fn delete(&self, user_id: &UserId, id: &SubscriptionId) -> Result<bool, StoreError> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(row_key(user_id, id.as_str())))
            .condition_expression("attribute_exists(subscription_id)")
            .build()
            .map_err(rejected)?;
        let tombstone = Put::builder()
            .table_name(&self.table)
            .set_item(Some(row_key(user_id, &format!("{TOMBSTONE}{id}"))))
            .build()
            .map_err(rejected)?;
        let count = self
            .counter(user_id)
            .update_expression("ADD subscriptions :less")
            .expression_attribute_values(":less", number(-1))
            .build()
            .map_err(rejected)?;
        let actions = vec![
            TransactWriteItem::builder().delete(delete).build(),
            TransactWriteItem::builder().update(count).build(),
            TransactWriteItem::builder().put(tombstone).build(),
        ];
        match self.transact(actions).await? {
            Transacted::Applied => Ok(true),
            Transacted::ConditionFailed { .. } => Ok(false),
            Transacted::Conflict(reason) | Transacted::Throttled(reason) => {
                Err(StoreError::Unavailable(reason.into()))
            }
        }
    }

    async fn scan_keys(
        &self,
        limit: usize,
        after: Option<&SubscriptionKey>,
    ) -> Result<Page<SubscriptionKey, SubscriptionKey>, StoreError> {
        let response = self
            .client
            .scan()
            .table_name(&self.table)
            .projection_expression("user_id, subscription_id")
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(after.map(stored_key))
            .send()
            .await
            .map_err(fault)?;
        let rows = response.items().iter().filter(|item| after_other_row(sort_key(item)).is_none());
        Ok(Page {
            items: rows.map(position).collect::<Result<_, _>>()?,
            next: response.last_evaluated_key().map(position).transpose()?,
        })
    }

    async fn delete_tombstone(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<(), StoreError> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(row_key(user_id, &format!("{TOMBSTONE}{id}"))))
            .send()
            .await
            .map(drop)
            .map_err(|error| fault(error).into())
    }

    async fn count_redelivery(
        &self,
        user_id: &UserId,
        now: Timestamp,
    ) -> Result<Written, StoreError> {
        let day = now.day();
        let count = |expression, condition| {
            let update = self.client.update_item().table_name(&self.table);
            update
                .set_key(Some(row_key(user_id, COUNTER)))
                .update_expression(expression)
                .condition_expression(condition)
                .expression_attribute_values(":one", number(1))
                .expression_attribute_values(":day", number(day))
        };
        for _ in 0..CREATE_TRIES {
            let another =
                count("ADD redelivered :one", "redelivered_on >= :day AND redelivered < :most");
            let another =
                another.expression_attribute_values(":most", number(REDELIVERIES_PER_DAY));
            let counted_on: Option<i64> = match self.send(another).await? {
                Update::Applied => return Ok(Written::Applied),
                Update::Refused(row) => whole(&row, "redelivered_on"),
                Update::Missing => None,
            };
            if counted_on.is_some_and(|counted_on| counted_on >= day) {
                return Ok(Written::ConditionFailed);
            }
            let first = count(
                "SET redelivered_on = :day, redelivered = :one",
                "attribute_not_exists(redelivered_on) OR redelivered_on < :day",
            );
            if let Update::Applied = self.send(first).await? {
                return Ok(Written::Applied);
            }
            // Another redelivery was the first one of the day.
        }
        Err(StoreError::Unavailable("the user's counter changes all the time".into()))
    }

    async fn is_user_blocked(&self, user_id: &UserId) -> Result<bool, StoreError> {
        let row = self.client.get_item().table_name(&self.table);
        let answer = row.set_key(Some(row_key(user_id, BLOCKED))).send().await.map_err(fault)?;
        Ok(answer.item.is_some())
    }

    async fn blocked_hosts(&self) -> Result<Vec<String>, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("user_id = :user AND begins_with(subscription_id, :prefix)")
            .expression_attribute_values(":user", text(OPERATOR))
            .expression_attribute_values(":prefix", text(BLOCKED_HOST));
        let Rows { items, .. } = read(query, usize::MAX, usize::MAX).await?;
        let hosts = items.iter().filter_map(|item| sort_key(item).strip_prefix(BLOCKED_HOST));
        Ok(hosts.map(str::to_owned).collect())
    }
}

fn host_key(user_id: &UserId, host: &HostId) -> Item {
    row_key(user_id, &format!("{HOST}{}", host.as_str()))
}

fn row_key(user_id: &UserId, sort: &str) -> Item {
    key((USER_ID, user_id.as_str()), (SUBSCRIPTION_ID, sort))
}

/// A row between the lowest and the highest id of a subscription.
fn listed(item: Item) -> Result<ListedSubscription, StoreError> {
    let key = position(&item)?;
    Ok(row::decode_listed(item, key))
}

/// Lies above every subscription.
fn above_all() -> String {
    format!("{}~", SubscriptionId::PREFIX)
}

fn whole<T: FromStr>(item: &Item, name: &str) -> Option<T> {
    match item.get(name) {
        Some(AttributeValue::N(number)) => number.parse().ok(),
        _ => None,
    }
}

fn sort_key(item: &Item) -> &str {
    match item.get(SUBSCRIPTION_ID) {
        Some(AttributeValue::S(text)) => text,
        _ => "",
    }
}

/// Of a row that is neither a subscription nor a tombstone, whether the next row of the port that is
/// possible is a tombstone.
fn after_other_row(sort: &str) -> Option<bool> {
    match sort {
        COUNTER => Some(true),
        BLOCKED => Some(false),
        host if host.starts_with(HOST) => Some(false),
        host if host.starts_with(BLOCKED_HOST) => Some(true),
        _ => None,
    }
}

fn stored_key(of: &SubscriptionKey) -> Item {
    let prefix = if of.deleted { TOMBSTONE } else { "" };
    row_key(&of.user_id, &format!("{prefix}{}", of.subscription_id))
}

/// The position of a row in the table.
///
/// The port has no position for other rows. The next key after one stands for it: the first tombstone
/// or subscription that is possible.
fn position(item: &Item) -> Result<SubscriptionKey, StoreError> {
    let part = |name: &str| match item.get(name) {
        Some(AttributeValue::S(text)) => text.as_str(),
        _ => "",
    };
    let bad = |reason: &str| StoreError::Undecodable {
        key: shown_key(item, [USER_ID, SUBSCRIPTION_ID]),
        reason: reason.to_owned(),
    };
    let user_id = part(USER_ID).parse().map_err(|_| bad("the user is no user id"))?;
    let sort = part(SUBSCRIPTION_ID);
    if let Some(deleted) = after_other_row(sort) {
        let subscription_id = SubscriptionId::first_of(Timestamp::EPOCH);
        return Ok(SubscriptionKey { user_id, subscription_id, deleted });
    }
    let (deleted, name) = match sort.strip_prefix(TOMBSTONE) {
        Some(name) => (true, name),
        None => (false, sort),
    };
    let subscription_id = name.parse().map_err(|_| bad("there is no such kind of row"))?;
    Ok(SubscriptionKey { user_id, subscription_id, deleted })
}

fn rejected(error: BuildError) -> StoreError {
    StoreError::Rejected(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_of_a_row_gives_its_key() {
        let user: UserId = "u1".parse().unwrap();
        let id = SubscriptionId::new(Timestamp::from_seconds(5), [3; 10]);
        for sort in [id.to_string(), format!("{TOMBSTONE}{id}")] {
            let item = row_key(&user, &sort);
            let of = position(&item).unwrap();
            assert_eq!((&of.subscription_id, of.deleted), (&id, sort != id.as_str()));
            assert_eq!(stored_key(&of), item);
        }
        for (sort, next) in [
            (COUNTER, format!("{TOMBSTONE}{id}")),
            ("blocked-host#z.example", format!("{TOMBSTONE}{id}")),
            ("host#0123", id.to_string()),
            (BLOCKED, id.to_string()),
        ] {
            let after = stored_key(&position(&row_key(&user, sort)).unwrap());
            assert!(sort_key(&after) > sort && *sort_key(&after) < *next, "{after:?}");
        }
    }

    #[test]
    fn row_of_an_unknown_kind_is_an_error_with_its_key() {
        let error = position(&key((USER_ID, "u1"), (SUBSCRIPTION_ID, "x#1"))).unwrap_err();
        assert!(error.to_string().contains("u1 / x#1"), "{error}");
    }
}
