//! How an endpoint has been doing.

use crate::time::Timestamp;

/// How an endpoint has been doing, as it stands beside its subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Attempts that failed since the last success.
    pub consecutive_failures: u32,
    /// When the first of them began.
    pub failing_since: Option<Timestamp>,
    /// Until when no attempt is made.
    pub open_until: Option<Timestamp>,
}
