//! Ways to break the system, each of which the simulator must notice.
//!
//! None is a switch in the code that is deployed: a break changes what a port does between the
//! handler and the table, queue or receiver behind it, or how the stand-in for Lambda calls the
//! handlers. From outside that looks as if the handler had been written wrong.

/// A way to break the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The lease is always granted and never taken.
    SkipLease,
    /// A record is written whatever stands there already.
    WriteUnconditionally,
    /// The write of a record is acknowledged and does not happen.
    DropWrite,
    /// A delivery that waits is not put into the due index.
    ForgetDueRow,
    /// One shard of the due index is never looked at.
    ForgetShard,
    /// The retry function never runs.
    NoRetryRuns,
    /// Messages are deleted before the handler has run.
    AcknowledgeFirst,
    /// Messages are deleted although the handler reported them as failed.
    IgnoreFailures,
    /// Messages are not hidden until their next attempt.
    SwallowHide,
    /// The queue loses the last entry of a batch and does not say so.
    LoseEntry,
    /// The entries that the queue did not take are not sent again.
    IgnoreRefused,
    /// Received messages are not hidden while they are handled.
    NoVisibility,
    /// Messages are given up after two receives.
    EarlyDeadLetter,
    /// Each attempt has a `webhook-id` of its own.
    NewIdPerAttempt,
    /// Each attempt has another body.
    NewBodyPerAttempt,
    /// A deleted subscription can still be read.
    ReadDeleted,
    /// A paused subscription is read as active.
    ReadPaused,
    /// The owner is not part of a subscription's key.
    ForgetOwner,
    /// The state of the circuit breaker is never read.
    ForgetBreaker,
    /// Dispatch reads with eventual consistency.
    StaleDispatch,
    /// Counters are added twice.
    CountTwice,
    /// Counters are not added.
    CountNever,
    /// The attempts that were made are forgotten when a record is read.
    ForgetAttempts,
    /// The cleanup deletes what is not old.
    CleanTooMuch,
    /// The 410 of a receiver does not disable its webhook.
    KeepGone,
    /// A bad event is dropped in silence.
    DropBadEvent,
    /// A user's change is acknowledged and does not happen.
    DropChange,
}

impl Break {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::SkipLease,
        Self::WriteUnconditionally,
        Self::DropWrite,
        Self::ForgetDueRow,
        Self::ForgetShard,
        Self::NoRetryRuns,
        Self::AcknowledgeFirst,
        Self::IgnoreFailures,
        Self::SwallowHide,
        Self::LoseEntry,
        Self::IgnoreRefused,
        Self::NoVisibility,
        Self::EarlyDeadLetter,
        Self::NewIdPerAttempt,
        Self::NewBodyPerAttempt,
        Self::ReadDeleted,
        Self::ReadPaused,
        Self::ForgetOwner,
        Self::ForgetBreaker,
        Self::StaleDispatch,
        Self::CountTwice,
        Self::CountNever,
        Self::ForgetAttempts,
        Self::CleanTooMuch,
        Self::KeepGone,
        Self::DropBadEvent,
        Self::DropChange,
    ];
}
