//! The whole webhook service in one process, on one machine, without AWS and without Docker.
//!
//! * A [`system`] is what stands in for AWS (an SQS and a DynamoDB endpoint that ordinary clients
//!   can use, the [`gateway`] with its check of [`token`]s, the [`poller`]s, the [`schedule`]s) and,
//!   between them, the very handlers that are deployed ([`functions`]), fed the same JSON events.
//! * The [`receiver`] is an endpoint to send webhooks to: it prints, verifies, and fails on demand.
//! * The [`demo`] shows the main job; [`stats`] answers the questions of whoever runs it.
//!
//! Deliberately absent: any decision about webhooks. Those are the handlers'.

pub mod address;
pub mod banner;
pub mod cli;
pub mod demo;
pub mod dynamodb;
pub mod functions;
pub mod gateway;
mod hs256;
pub mod http;
pub mod listener;
mod local_api;
pub mod poller;
pub mod queues;
pub mod receiver;
pub mod schedule;
pub mod stats;
pub mod system;
pub mod table;
pub mod terminal;
pub mod token;
