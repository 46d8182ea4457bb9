//! The two tables as the deployed template makes them, for the local system and the tests.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::client::Waiters as _;
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata as _};
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexDescription, GlobalSecondaryIndexUpdate, KeySchemaElement, KeyType,
    Projection, ProjectionType, ScalarAttributeType, TableDescription, TimeToLiveSpecification,
    TimeToLiveStatus,
};
use webhooks_core::ports::StoreError;

use crate::deliveries::status_index;
use crate::error::fault;

/// The sparse index of the deliveries that wait.
pub const DUE_INDEX: &str = "due";
/// The sparse index of the deliveries that failed or wait.
pub const BY_STATUS_INDEX: &str = "by-status";
/// What the entries of that index have besides keys: what a list filters by. None of it ever changes.
const BY_STATUS_ATTRIBUTES: [&str; 3] = ["t", "e", "expires_at"];
/// The attribute by which rows expire, in seconds since the Unix epoch.
pub const TTL_ATTRIBUTE: &str = "expires_at";
/// How long a new table may take to become ready.
const READY: Duration = Duration::from_mins(1);

/// What the tables are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableNames {
    /// The Subscriptions table.
    pub subscriptions: String,
    /// The Deliveries table.
    pub deliveries: String,
}

/// Creates both tables where they are missing, and the index `by-status` where a table is older than it, and
/// waits until they are ready.
pub async fn create(client: &Client, names: &TableNames) -> Result<(), StoreError> {
    let subscriptions =
        on_demand(client, &names.subscriptions, "user_id", "subscription_id").map_err(ours)?;
    create_one(client, subscriptions, &names.subscriptions).await?;
    let deliveries = on_demand(client, &names.deliveries, "subscription_id", "delivery_id")
        .and_then(with_indexes)
        .map_err(ours)?;
    if create_one(client, deliveries, &names.deliveries).await? {
        status_index::begin_with_table(client, &names.deliveries).await?;
    } else {
        add_by_status_index(client, &names.deliveries).await?;
    }
    expire_rows(client, &names.deliveries).await
}

fn on_demand(
    client: &Client,
    name: &str,
    partition: &str,
    sort: &str,
) -> Result<CreateTableFluentBuilder, BuildError> {
    Ok(client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute(partition, ScalarAttributeType::S)?)
        .attribute_definitions(attribute(sort, ScalarAttributeType::S)?)
        .key_schema(key(partition, KeyType::Hash)?)
        .key_schema(key(sort, KeyType::Range)?))
}

fn with_indexes(table: CreateTableFluentBuilder) -> Result<CreateTableFluentBuilder, BuildError> {
    let keys_only = Projection::builder().projection_type(ProjectionType::KeysOnly).build();
    let due = GlobalSecondaryIndex::builder()
        .index_name(DUE_INDEX)
        .key_schema(key("due_shard", KeyType::Hash)?)
        .key_schema(key("due_at", KeyType::Range)?)
        .projection(keys_only)
        .build()?;
    let by_status = GlobalSecondaryIndex::builder()
        .index_name(BY_STATUS_INDEX)
        .key_schema(key("status_key", KeyType::Hash)?)
        .key_schema(key("delivery_id", KeyType::Range)?)
        .projection(by_status_projection())
        .build()?;
    Ok(table
        .attribute_definitions(attribute("due_shard", ScalarAttributeType::N)?)
        .attribute_definitions(attribute("due_at", ScalarAttributeType::N)?)
        .attribute_definitions(attribute("status_key", ScalarAttributeType::S)?)
        .global_secondary_indexes(due)
        .global_secondary_indexes(by_status))
}

fn by_status_projection() -> Projection {
    Projection::builder()
        .projection_type(ProjectionType::Include)
        .set_non_key_attributes(Some(BY_STATUS_ATTRIBUTES.map(str::to_owned).into()))
        .build()
}

/// Adds the index to a table of the local system that an earlier version has created.
async fn add_by_status_index(client: &Client, name: &str) -> Result<(), StoreError> {
    let response = client.describe_table().table_name(name).send().await.map_err(fault)?;
    let indexes = response.table().map(TableDescription::global_secondary_indexes);
    let is_there =
        |index: &GlobalSecondaryIndexDescription| index.index_name() == Some(BY_STATUS_INDEX);
    if indexes.unwrap_or_default().iter().any(is_there) {
        return Ok(());
    }
    let update = by_status_update().map_err(ours)?;
    client
        .update_table()
        .table_name(name)
        .attribute_definitions(attribute("status_key", ScalarAttributeType::S).map_err(ours)?)
        .attribute_definitions(attribute("delivery_id", ScalarAttributeType::S).map_err(ours)?)
        .global_secondary_index_updates(update)
        .send()
        .await
        .map(drop)
        .map_err(|error| fault(error).into())
}

fn by_status_update() -> Result<GlobalSecondaryIndexUpdate, BuildError> {
    let create = CreateGlobalSecondaryIndexAction::builder()
        .index_name(BY_STATUS_INDEX)
        .key_schema(key("status_key", KeyType::Hash)?)
        .key_schema(key("delivery_id", KeyType::Range)?)
        .projection(by_status_projection())
        .build()?;
    Ok(GlobalSecondaryIndexUpdate::builder().create(create).build())
}

fn attribute(name: &str, kind: ScalarAttributeType) -> Result<AttributeDefinition, BuildError> {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()
}

fn key(name: &str, kind: KeyType) -> Result<KeySchemaElement, BuildError> {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build()
}

/// Creates a table, and returns whether it was missing.
async fn create_one(
    client: &Client,
    table: CreateTableFluentBuilder,
    name: &str,
) -> Result<bool, StoreError> {
    let is_new = match table.send().await {
        Err(error) if error.code() != Some("ResourceInUseException") => {
            return Err(fault(error).into());
        }
        result => result.is_ok(),
    };
    client
        .wait_until_table_exists()
        .table_name(name)
        .wait(READY)
        .await
        .map(|_| is_new)
        .map_err(|error| StoreError::Unavailable(error.into()))
}

/// Switches the time to live on; switching it on twice would be an error.
async fn expire_rows(client: &Client, name: &str) -> Result<(), StoreError> {
    let response = client.describe_time_to_live().table_name(name).send().await;
    let response = response.map_err(fault)?;
    let status = response
        .time_to_live_description()
        .and_then(|description| description.time_to_live_status());
    if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        return Ok(());
    }
    let specification = TimeToLiveSpecification::builder()
        .attribute_name(TTL_ATTRIBUTE)
        .enabled(true)
        .build()
        .map_err(ours)?;
    client
        .update_time_to_live()
        .table_name(name)
        .time_to_live_specification(specification)
        .send()
        .await
        .map(drop)
        .map_err(|error| fault(error).into())
}

fn ours(error: BuildError) -> StoreError {
    StoreError::Rejected(error.into())
}
