//! Publishing events onto the events queue, for the services of the product.
//!
//! * An [`Event`] is something that happened to a user: its type, its owner and its `data`. There
//!   is one struct per event type in [`data`], and one function of [`Publisher`] per struct.
//! * A [`Publisher`] names events, checks them and sends them, ten to a request.
//! * A [`PublishError`] lists each event that was not accepted, with the reason, and hands it back
//!   under the name it was sent with.
//!
//! # Idempotency
//!
//! The queue accepts a message at least once: when a response is lost on its way back, the sender
//! cannot know whether the message was taken, and sends it again. The service derives the name of a
//! delivery from the event's id and its time, so two messages that carry the same `event_id` and
//! `occurred_at` become one delivery. Therefore both are set here, before the first try, and every
//! try carries the same. The events in a [`PublishError`] still carry them:
//! publish those again, not new ones.
//!
//! # What is checked before sending
//!
//! Each message goes through [`webhooks_core::event::Event::parse`], the parser that the service
//! uses, so that an event which it would refuse never reaches the queue.
//!
//! # Deliberately absent
//!
//! No background task and no buffer: when a function returns, its events have been accepted or are
//! listed in the error. Failed requests are retried by the SDK client, as it is configured; only
//! entries that SQS refuses inside a request that succeeded are retried here.

#![warn(missing_docs)]

pub mod data;
mod error;
mod event;
mod publisher;
mod queue;
mod system;

pub use error::{NotAccepted, PublishError, Reason};
pub use event::{Event, EventData};
pub use publisher::Publisher;
pub use webhooks_core::ids::EventId;
pub use webhooks_core::ports::{Clock, Random};
pub use webhooks_core::time::Timestamp;
