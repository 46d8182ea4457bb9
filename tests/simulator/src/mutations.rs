//! Ways to break the system, each of which the simulator must notice, and by which rule.
//!
//! None is a switch in the code that is deployed: a break changes what a port does between the
//! handler and the table, queue or receiver behind it, or how the stand-in for Lambda calls the
//! handlers. From outside that looks as if the handler had been written wrong.

use crate::rules::Rule;

/// Declares the breaks, each with the rule that it violates.
macro_rules! breaks {
    ($($(#[$doc:meta])* $name:ident => $rule:ident),+ $(,)?) => {
        /// A way to break the system.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[$doc])* $name),+
        }

        impl Mutation {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The rule that must notice it. Others may as well, in other worlds.
            pub fn rule(self) -> Rule {
                match self { $(Self::$name => Rule::$rule),+ }
            }
        }
    };
}

breaks! {
    /// The lease is always granted and never taken.
    SkipLease => OneAtOnce,
    /// A copy that is parked or ended takes the lease from the attempt under way.
    BreakLease => Undisturbed,
    /// A lease never ends by itself.
    EndlessLease => ComesToRest,
    /// A record is written whatever stands there already.
    WriteUnconditionally => EndsOnce,
    /// The first write of a record does not ask whether there is one.
    OverwriteFirst => EndsOnce,
    /// The write of a record is acknowledged and does not happen.
    DropWrite => NoneOvercounted,
    /// The write of a later attempt is acknowledged and does not happen.
    DropLaterWrite => AllRecorded,
    /// Writes are refused without need.
    RefuseWrites => RefusedRightly,
    /// A record is written for another user.
    ForeignRecord => OwnRecord,
    /// A delivery that waits is not put into the due index.
    ForgetDueRow => InDueIndex,
    /// One shard of the due index is never looked at.
    ForgetShard => ComesToRest,
    /// The retry function never runs.
    NoRetryRuns => ComesToRest,
    /// What was lost is never sent again.
    NeverSendAgain => ComesToRest,
    /// What was sent again is not moved in the due index.
    ForgetPostpone => Grace,
    /// Messages are deleted before the handler has run.
    AcknowledgeFirst => NothingLost,
    /// Messages are deleted although the handler reported them as failed.
    IgnoreFailures => NothingLost,
    /// Messages are not hidden until their next attempt.
    SwallowHide => OnTime,
    /// The queue loses the last entry of a batch and does not say so.
    LoseEntry => NothingLost,
    /// The entries that the queue did not take are not sent again.
    IgnoreRefused => NothingLost,
    /// The events queue loses what is published.
    LoseEvents => Dispatched,
    /// A handler reports a message that it was not given.
    ReportOthers => OwnMessages,
    /// Received messages are not hidden while they are handled.
    NoVisibility => OnceWhenCalm,
    /// Messages are given up after two receives.
    EarlyDeadLetter => NoneGivenUp,
    /// Deliveries go to an endpoint that nobody named.
    WrongUrl => UrlKnown,
    /// A POST is not signed.
    NoSignature => PostWhole,
    /// The event is called something else.
    RenameEvent => OnlyPublished,
    /// The data is not what was published.
    ChangeData => Unchanged,
    /// Each attempt has a `webhook-id` of its own.
    NewIdPerAttempt => SameId,
    /// Each attempt has another body.
    NewBodyPerAttempt => SameBody,
    /// An attempt says that it is the first.
    AlwaysFirst => Numbered,
    /// A delivery that has ended is read as one that has not begun.
    ReadEnded => NotEnded,
    /// A deleted subscription can still be read.
    ReadDeleted => NotDeleted,
    /// A paused subscription is read as active.
    ReadPaused => NotPaused,
    /// A delivery to a paused subscription is dropped without a record.
    DropPaused => NothingLost,
    /// An event for a webhook that the service has disabled is not kept.
    DropDisabled => NothingLost,
    /// The owner is not part of a subscription's key.
    ForgetOwner => OnlyOwner,
    /// The history lacks its oldest delivery.
    HideHistory => Shown,
    /// The API shows a webhook to whoever knows its name.
    ShowStrangers => Stranger,
    /// The URL is the one that was given first.
    OldUrl => UrlHolds,
    /// After a rotation the old secret alone signs.
    OldSecret => Signed,
    /// After a rotation the old secret does not sign any more.
    NoOverlap => Signed,
    /// A body is changed after it was signed.
    SignSomethingElse => Signed,
    /// The state of the circuit breaker is never read.
    ForgetBreaker => BreakerHolds,
    /// The state of the circuit breaker is never written.
    ForgetHealth => BreakerOpens,
    /// Slow failures open the breaker no sooner than quick ones.
    OpenLate => SlowOpens,
    /// The probe of a half open breaker need not be claimed.
    SkipProbeClaim => OneProbe,
    /// Deliveries are parked although the breaker is closed.
    ParkAlways => ParksRightly,
    /// Dispatch reads with eventual consistency.
    StaleDispatch => NothingLost,
    /// Deliver believes what an eventually consistent read of a subscription misses.
    StaleDeliver => NothingLost,
    /// Deliver believes what an eventually consistent read of a subscription sees paused.
    StalePause => NoNeedlessEnd,
    /// A user's change writes back the health that was read before it.
    UndoHealth => HealthKept,
    /// What was written is not counted.
    ForgetCount => AllCounted,
    /// Counters are added twice.
    CountTwice => StatisticsAgree,
    /// Counters are not added.
    CountNever => StatisticsAgree,
    /// Of the attempts that were made only the last is kept.
    ForgetAttempts => Recorded,
    /// One retry more is made than the user wants.
    OneRetryMore => StopsRightly,
    /// One retry less is made.
    OneRetryLess => FailsRightly,
    /// A receiver's `Retry-After` is not read.
    ForgetRetryAfter => WaitsRightly,
    /// A retry comes at once.
    RetryAtOnce => NotEarly,
    /// A redirect counts as a success.
    TrustRedirects => StopsRightly,
    /// A blocked address is tried again.
    RetryBlocked => StopsRightly,
    /// An attempt may take twice its time.
    DoubleTimeout => Timed,
    /// The cleanup deletes what is not old.
    CleanTooMuch => CleanedRightly,
    /// The cleanup deletes what waits for a retry.
    CleanWaiting => CleanedRightly,
    /// A deleted webhook leaves no tombstone.
    ForgetTombstone => CleanupFinishes,
    /// The 410 of a receiver does not disable its webhook.
    KeepGone => GoneDisables,
    /// Five days of failure do not disable a webhook.
    KeepFailing => FailingDisabled,
    /// A webhook is disabled for one failure.
    DisableSoon => DisabledRightly,
    /// A bad event is dropped in silence.
    DropBadEvent => BadKept,
    /// A user's change is acknowledged and does not happen.
    DropChange => Done,
    /// A redelivery is acknowledged and does not happen.
    DropRedelivery => Repeated,
}
