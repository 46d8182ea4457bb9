//! The only HTTP client that leaves the house.
//!
//! [`GuardedClient`] makes one POST and reports what became of it. A `GuardedResolver` turns a
//! host name into addresses that deliveries may connect to, or into a refusal.
//!
//! What it guarantees, and how:
//!
//! * **Nothing private is reachable.** The URL is checked again under the client's own policy,
//!   which covers hosts that are addresses: those are never resolved. A name's whole answer is
//!   refused when any address in it is forbidden, and the connection goes to the very addresses
//!   that were vetted. There is no second lookup to trick: no cache, no connection kept from an
//!   earlier attempt, no redirect, no proxy.
//! * **One deadline** covers DNS, connect, TLS, headers and body.
//! * **Bounded.** Of a body at most [`RESPONSE_READ_BYTES`] are asked for; then the connection is
//!   dropped, and the status counts. Headers are at most [`RESPONSE_HEADERS_MAX`], in hyper's buffer
//!   of some 400 KiB. Nothing is decompressed.
//!
//! Deliberately absent: retries, signing and the decision what an answer means.
//!
//! [`RESPONSE_READ_BYTES`]: webhooks_core::limits::RESPONSE_READ_BYTES

mod client;
mod failure;
mod resolver;
#[cfg(test)]
mod tests;

pub use client::{BuildError, GuardedClient, RESPONSE_HEADERS_MAX};
