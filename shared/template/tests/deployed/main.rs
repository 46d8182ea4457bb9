//! The template against the code: neither may have what the other has not.

#![expect(clippy::unwrap_used, reason = "what is not as it should be fails the test")]

mod environment;
mod events;
mod recorder;
mod roles;
mod shape;
mod source;
