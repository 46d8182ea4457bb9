//! What must hold for any input: one function for each parser of external bytes.
//!
//! A property panics when it does not hold. The fuzzer (`tests/fuzz/fuzz_targets`) calls each with
//! generated inputs; a test calls each with the named inputs in `tests/fuzz/corpus`: seeds that were
//! written by hand, and findings of the fuzzer.
//!
//! An input that consists of several texts has one text a line, so that seeds can be written by hand.

#![expect(clippy::unwrap_used, reason = "what does not go as it must is a finding")]

mod api;
mod http;
mod ids;
mod queue;
mod response;
mod rows;
mod targets;

pub use api::{api_body, api_query};
pub use http::gateway;
pub use ids::ids;
pub use queue::{event, task};
pub use response::{response, retry_after};
pub use rows::{delivery_row, secrets, subscription_row};
pub use targets::url;

/// A property of all inputs.
pub type Property = fn(&[u8]);

/// Every property by its name, which is that of its fuzz target and of its corpus.
pub const PROPERTIES: &[(&str, Property)] = &[
    ("event", event),
    ("task", task),
    ("api_body", api_body),
    ("api_query", api_query),
    ("ids", ids),
    ("retry_after", retry_after),
    ("url", url),
    ("subscription_row", subscription_row),
    ("delivery_row", delivery_row),
    ("secrets", secrets),
    ("response", response),
    ("gateway", gateway),
];

/// The input as text, as most of what comes in is. Other bytes are for the parsers of bytes.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// Runs a future on this thread. One runtime serves all inputs: making one costs more than most
/// inputs do.
fn run<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                // Nothing here waits for the real time: where all wait, the clock jumps.
                .start_paused(true)
                .build()
                .unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
