//! The outbound HTTP client: it sends the deliveries.
//!
//! [`GuardedClient`] makes one POST with `reqwest` and reports its outcome. `resolver` looks a host
//! up and refuses it when it has an address that deliveries may not connect to, `pool` holds the
//! connections, `tls` has the settings of TLS, `response` reads a response, and `failure` turns the
//! errors of the libraries into what a user may read.
//!
//! What it guarantees, and how:
//!
//! * **Nothing private is reachable.** The URL is checked under the policy of today before each
//!   attempt; this
//!   also covers a host that is an IP address, which reqwest does not resolve. A host's whole answer
//!   is refused when any address in it is forbidden, and reqwest connects to the addresses that were
//!   vetted, without a second lookup. A connection that is reused goes to the address that was vetted
//!   when it was made. There are no redirects and no proxies.
//! * **One deadline** covers DNS, connect, TLS, headers and body. A complete head decides: when the
//!   body ends early or the deadline passes in it, the status counts and the excerpt is what arrived.
//! * **One request is sent once.** The pool replaces a connection that was closed before anything was
//!   sent. Everything else is a failed attempt; reqwest's own retries are off.
//! * **Bounded.** A response has at most [`RESPONSE_HEADERS_MAX`] headers in
//!   [`RESPONSE_HEAD_BYTES_MAX`] bytes. At most [`RESPONSE_READ_BYTES`] of a body are read, then the
//!   connection is closed; nothing is decompressed. hyper bounds chunk extensions and trailers (16
//!   KiB each) and skips interim responses until the deadline without holding them in memory. The
//!   pool is bounded by [`CONNECTIONS_MAX`] and by time.
//!
//! Deliberately absent: cookies, session resumption, retries, signing, and the decision what a
//! response means.
//!
//! [`RESPONSE_READ_BYTES`]: webhooks_core::limits::RESPONSE_READ_BYTES

mod client;
mod failure;
mod pool;
mod resolver;
mod response;
#[cfg(test)]
mod tests;
mod tls;

pub use client::{BuildError, GuardedClient, Options};
pub use pool::CONNECTIONS_MAX;
pub use resolver::ADDRESSES_MAX;
pub use response::{RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX};
