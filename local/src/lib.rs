//! The whole webhook service in one process, on one machine, without AWS and without Docker.
//!
//! * A [`system`] has stand-ins for AWS (an SQS and a DynamoDB endpoint for ordinary clients, the
//!   [`gateway`] with its check of [`token`]s, the [`poller`]s, the [`schedule`]s) and the deployed
//!   handlers ([`functions`]), invoked with the same JSON events as in AWS.
//! * The [`receiver`] is an endpoint for webhooks: it prints, verifies, and fails on demand.
//! * The [`demo`] shows the main job; [`stats`] shows success rate, retries and failing webhooks.
//!
//! Deliberately absent: decisions about webhooks, which are those of the handlers.

pub mod address;
pub mod banner;
pub mod cli;
pub mod demo;
pub mod dynamodb;
pub mod functions;
pub mod gateway;
mod hs256;
pub mod http;
mod in_process;
pub mod listener;
mod local_api;
pub mod poller;
pub mod queues;
pub mod receiver;
pub mod schedule;
pub mod stats;
pub mod system;
pub mod table;
pub mod template;
pub mod terminal;
pub mod token;
