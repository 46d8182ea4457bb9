//! The two tables as the deployed template makes them, for the local system and the tests.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::client::Waiters as _;
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata as _};
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TimeToLiveSpecification, TimeToLiveStatus,
};
use webhooks_core::ports::StoreError;

use crate::error::fault;

/// The sparse index of the deliveries that wait.
pub const DUE_INDEX: &str = "due";
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

/// Creates both tables where they are missing, and waits until they are ready.
pub async fn create(client: &Client, names: &TableNames) -> Result<(), StoreError> {
    let subscriptions =
        on_demand(client, &names.subscriptions, "user_id", "subscription_id").map_err(ours)?;
    let deliveries = on_demand(client, &names.deliveries, "subscription_id", "delivery_id")
        .and_then(with_due_index)
        .map_err(ours)?;
    for (table, name) in [(subscriptions, &names.subscriptions), (deliveries, &names.deliveries)] {
        create_one(client, table, name).await?;
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

fn with_due_index(table: CreateTableFluentBuilder) -> Result<CreateTableFluentBuilder, BuildError> {
    let index = GlobalSecondaryIndex::builder()
        .index_name(DUE_INDEX)
        .key_schema(key("due_shard", KeyType::Hash)?)
        .key_schema(key("due_at", KeyType::Range)?)
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()?;
    Ok(table
        .attribute_definitions(attribute("due_shard", ScalarAttributeType::N)?)
        .attribute_definitions(attribute("due_at", ScalarAttributeType::N)?)
        .global_secondary_indexes(index))
}

fn attribute(name: &str, kind: ScalarAttributeType) -> Result<AttributeDefinition, BuildError> {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()
}

fn key(name: &str, kind: KeyType) -> Result<KeySchemaElement, BuildError> {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build()
}

async fn create_one(
    client: &Client,
    table: CreateTableFluentBuilder,
    name: &str,
) -> Result<(), StoreError> {
    match table.send().await {
        Err(error) if error.code() != Some("ResourceInUseException") => {
            return Err(fault(error).into());
        }
        _ => {}
    }
    client
        .wait_until_table_exists()
        .table_name(name)
        .wait(READY)
        .await
        .map(drop)
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
