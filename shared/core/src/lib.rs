//! The domain of the webhook service: what the nouns of the design are, and what may be
//! decided about them.
//!
//! * A [`subscription::Subscription`] is a user's registration for events (the API calls it a webhook).
//! * An [`event::Event`] is something that happened, published once.
//! * A [`delivery::Delivery`] is one event for one subscription, a [`delivery::Attempt`] one HTTP
//!   try of it, and a [`delivery::DeliveryTask`] the queue message that asks for an attempt.
//! * The [`retry`] policy decides what follows an attempt; [`signature`] says who sent it.
//!
//! Deliberately absent: AWS, tokio, sockets, a clock and randomness. What the handlers need of the
//! outside is in [`ports`] as traits, so that the same code runs in Lambda, in the local
//! system, in tests and in the simulator.

pub mod address;
pub mod attempt;
pub mod block_list;
pub mod breaker;
pub mod catalogue;
pub mod delivery;
pub mod delivery_queue;
pub mod event;
pub mod event_type_selector;
pub mod failure_class;
pub mod filter;
pub mod host_health;
pub mod ids;
pub mod json;
pub mod kept_headers;
pub mod latency;
pub mod limits;
pub mod maybe_known;
pub mod operational;
pub mod outbound;
pub mod ports;
pub mod rate_limit;
pub mod recovery;
pub mod request_headers;
pub mod reseal;
pub mod retry;
pub mod schedule;
pub mod secret;
pub mod signature;
pub mod signing_key;
pub mod statistics;
pub mod subscription;
pub mod target;
pub mod task_batch;
pub mod time;
pub mod traceparent;
pub mod verification;
