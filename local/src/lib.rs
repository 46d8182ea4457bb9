//! The whole webhook service in one process, on one machine.
#![expect(clippy::print_stdout, reason = "the terminal is what this program is for")]

pub mod address;
pub mod cli;
pub mod dynamodb;
pub mod gateway;
pub mod http;
pub mod poller;
pub mod queues;
pub mod receiver;
pub mod schedule;
pub mod table;
pub mod token;
