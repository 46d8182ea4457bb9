//! What was not accepted, and why.

use std::fmt;

use webhooks_core::event::EventError;
use webhooks_core::ids::EventId;

use crate::event::Event;

/// Some events were not accepted. Every event that is not listed was.
#[derive(Clone, Debug, thiserror::Error)]
pub struct PublishError {
    /// The ids of the events that were accepted, in the order they were given.
    pub accepted: Vec<EventId>,
    /// Each event that was not, in the order they were given.
    pub not_accepted: Vec<NotAccepted>,
}

/// One event that was not accepted.
#[derive(Clone, Debug)]
pub struct NotAccepted {
    /// Its position among the events that were given, from 0.
    pub position: usize,
    /// The event, with the id and the time it was sent with: publishing it again cannot make a
    /// second delivery of it.
    pub event: Event,
    /// Why it was not accepted.
    pub reason: Reason,
}

/// Why an event was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The service would refuse it, so it was not sent.
    #[error("{0}")]
    Invalid(EventError),
    /// Its data does not serialise to JSON, so it was not sent.
    #[error("`data` does not serialise to JSON: {0}")]
    NotJson(String),
    /// SQS refused it, each time it was sent.
    #[error("SQS refused it: {code}: {message}")]
    Refused {
        /// The error code of SQS.
        code: String,
        /// What SQS says of it.
        message: String,
        /// Whether SQS says that the fault is not its own; such an event is sent only once.
        sender_fault: bool,
    },
    /// The request failed. The event may have been accepted all the same.
    #[error("the request failed, and the event may have been accepted or not: {0}")]
    NoResponse(String),
    /// A request before its own failed, so it was not sent.
    #[error("it was not sent, because a request before its own failed")]
    NotSent,
}

impl Reason {
    /// Whether the same event may be accepted another time.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::NotJson(_) => false,
            Self::Refused { sender_fault, .. } => !sender_fault,
            Self::NoResponse(_) | Self::NotSent => true,
        }
    }
}

impl PublishError {
    /// The events that may be accepted when they are published again, under the same ids.
    pub fn into_transient(self) -> Vec<Event> {
        let transient = self.not_accepted.into_iter().filter(|lost| lost.reason.is_transient());
        transient.map(|lost| lost.event).collect()
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.accepted.len() + self.not_accepted.len();
        write!(f, "{} of {all} events not accepted", self.not_accepted.len())?;
        for lost in &self.not_accepted {
            write!(f, "; {lost}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NotAccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.event.event_id().unwrap_or_default();
        let Self { position, event, reason } = self;
        write!(f, "event {position} ({} {name:?}): {reason}", event.event_type())
    }
}
