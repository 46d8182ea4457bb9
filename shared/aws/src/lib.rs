//! The ports on AWS: two DynamoDB tables, two SQS queues, the system's clock and randomness, the
//! configuration.
//!
//! * [`DynamoSubscriptions`] and [`DynamoDeliveries`] are the stores; [`tables`] creates their
//!   tables where no template does. One method is one access pattern, as a rule one request.
//! * [`Sealer`] encrypts signing secrets before they reach a table.
//! * [`SqsTaskQueue`] and [`SqsDeadLetterQueue`] are the queues, [`EventBridgeBus`] is the operator's event bus.
//! * [`Settings`] reads the environment, [`clients`] builds the SDK clients, and [`Environment`]
//!   makes of both what a deployed function holds. [`SystemClock`] and [`SystemRandom`] are the only
//!   wall clock and randomness.
//!
//! Rows have structs of their own, apart from those of the domain, and carry a schema version. A
//! row that does not decode is an error with its key, never skipped.
//!
//! Deliberately absent: decisions. What is written and when is up to the handlers.

pub mod clients;
pub mod config;
mod deliveries;
mod dynamo;
mod environment;
mod error;
mod event_bus;
mod packed;
mod seal;
mod sqs;
mod subscriptions;
mod system;
pub mod tables;

pub use config::{ConfigError, Settings};
pub use deliveries::DynamoDeliveries;
pub use environment::{Environment, EnvironmentError};
pub use event_bus::EventBridgeBus;
pub use seal::{KeysError, Sealer};
pub use sqs::{SqsClient, SqsDeadLetterQueue, SqsTaskQueue};
pub use subscriptions::DynamoSubscriptions;
pub use system::{SystemClock, SystemRandom};
