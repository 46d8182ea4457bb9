//! What must have happened in some run, so that the rules were put to the test.

use std::collections::BTreeSet;

/// Declares the milestones, and a list of them.
macro_rules! milestones {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Something that happens in some runs only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Milestone {
            $($(#[$doc])* $name,)+
        }

        impl Milestone {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

milestones! {
    /// A circuit breaker opened.
    BreakerOpened,
    /// A delivery was parked behind it.
    Parked,
    /// A delivery probed.
    Probed,
    /// A probe failed, and the breaker opened again for longer.
    BreakerReopened,
    /// A success closed it.
    BreakerClosed,
    /// A 410 disabled a webhook.
    DisabledGone,
    /// Five days of failure disabled one.
    DisabledFailing,
    /// A user enabled one again that the service had disabled.
    EnabledAgain,
    /// A delivery ended because its webhook was paused or disabled.
    EndedDisabled,
    /// A delivery ended because its webhook was deleted.
    EndedDeleted,
    /// A delivery used up all retries.
    Exhausted,
    /// A delivery succeeded after it had failed.
    SucceededLater,
    /// A receiver was given the time that it had asked for.
    RetryAfter,
    /// A retry waited in the table, because it is too far off for the queue.
    WaitedInTable,
    /// An attempt was made twice.
    Doubled,
    /// A write was refused because another came first.
    Overtaken,
    /// A lease kept a copy of a task away.
    LeaseRefused,
    /// A task was sent again because its message was lost.
    SentAgain,
    /// Beside an abusive user, an event of another user reached a quick endpoint.
    Undisturbed,
    /// An instance made as many concurrent attempts at a host as it may.
    HostBusy,
    /// A POST was signed with two secrets.
    SignedTwice,
    /// A redelivery was made.
    Redelivered,
    /// A recovery of several pages was done.
    Recovered,
    /// A webhook was told that another was disabled.
    Told,
    /// What failed in an outage was recovered.
    OutageRecovered,
    /// A recovery was cancelled.
    RecoveryCancelled,
    /// A delivery was held.
    Held,
    /// A delivery that was held ended.
    HeldDelivered,
    /// A test was made.
    Tested,
    /// A bad event was sent to the dead-letter queue.
    DeadLettered,
    /// The cleanup took old rows away.
    CleanedOld,
    /// The cleanup took the rows of a deleted webhook away.
    CleanedDeleted,
    /// A message was given up.
    GivenUp,
}

/// What was reached.
pub type Milestones = BTreeSet<Milestone>;
