//! The only HTTP client that leaves the house.
//!
//! [`GuardedClient`] makes one POST and reports what became of it. A `GuardedResolver` turns a host
//! into addresses that deliveries may connect to, or into a refusal; `connection` opens one of
//! these, `tls` secures it, `exchange` speaks HTTP/1.1 on it.
//!
//! What it guarantees, and how:
//!
//! * **Nothing private is reachable.** The URL is checked again under the client's own policy. A
//!   host's whole answer is refused when any address in it is forbidden, and the connection goes to
//!   the very addresses that were vetted. There is no second lookup to trick: no cache, no
//!   connection kept from an earlier attempt, no redirect, no proxy.
//! * **One deadline** covers DNS, connect, TLS, headers and body.
//! * **Bounded.** A response has at most [`RESPONSE_HEADERS_MAX`] headers in
//!   [`RESPONSE_HEAD_BYTES_MAX`] bytes. Of a body at most [`RESPONSE_READ_BYTES`] are asked for;
//!   then the connection is dropped, and the status counts. Whatever comes, interim responses and
//!   TLS records included, the connection ends after [`RECEIVED_BYTES_MAX`]. Nothing is
//!   decompressed. At most [`ADDRESSES_MAX`] addresses of a host are tried.
//!
//! Deliberately absent: a pool, redirects, proxies and cookies (a ready-made client has them, to be
//! switched off one by one), retries, signing and the decision what an answer means.
//!
//! [`RESPONSE_READ_BYTES`]: webhooks_core::limits::RESPONSE_READ_BYTES

mod client;
mod connection;
mod exchange;
mod failure;
mod resolver;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests are servers and attackers themselves")]
mod tests;
mod tls;

pub use client::{BuildError, GuardedClient};
pub use connection::RECEIVED_BYTES_MAX;
pub use exchange::{RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX};
pub use resolver::ADDRESSES_MAX;
