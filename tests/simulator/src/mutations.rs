//! Mutations of the system: for each promise of `docs/SEMANTICS.md`, ways to violate it that the
//! simulator must detect, and the rule that detects it.
//!
//! None is a switch in the deployed code: a mutation changes what a port does between the handler and
//! the table, queue or receiver, or how the stand-in for Lambda calls the handlers. Mutations of the
//! code itself are left to `cargo-mutants` (docs/RELIABILITY.md).

use crate::rules::Rule;

/// Declares the mutations, each with the rule that it violates.
macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident => $rule:ident),+ $(,)?) => {
        /// A mutation of the system.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[$doc])* $name),+
        }

        impl Mutation {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The rule that must detect it. Others may detect it too, in other runs.
            pub fn rule(self) -> Rule {
                match self { $(Self::$name => Rule::$rule),+ }
            }
        }
    };
}

mutations! {
    /// The lease is always granted and never taken.
    SkipLease => OneAtATime,
    /// A copy that is parked or ended takes the lease from the attempt under way.
    BreakLease => Undisturbed,
    /// The write of a record is acknowledged and does not happen.
    DropWrite => NoneOvercounted,
    /// A delivery that waits is not put into the due index.
    ForgetDueRow => InDueIndex,
    /// Messages are deleted before the handler has run.
    AcknowledgeFirst => NothingLost,
    /// Messages are deleted although the handler reported them as failed.
    IgnoreFailures => NothingLost,
    /// The queue loses the last entry of a batch and does not say so.
    LoseEntry => NothingLost,
    /// The entries that the queue did not take are not sent again.
    IgnoreRefused => NothingLost,
    /// The data is not what was published.
    ChangeData => Unchanged,
    /// Each attempt has a `webhook-id` of its own.
    NewIdPerAttempt => SameId,
    /// Each attempt has another body.
    NewBodyPerAttempt => SameBody,
    /// A deleted subscription can still be read.
    ReadDeleted => NotDeleted,
    /// A paused subscription is read as active.
    ReadPaused => NotPaused,
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
    /// After a rotation the old secret does not sign any more.
    NoOverlap => Signed,
    /// A body is changed after it was signed.
    SignSomethingElse => Signed,
    /// The state of the circuit breaker is never read.
    ForgetBreaker => BreakerHolds,
    /// The state of the circuit breaker is never written.
    ForgetHealth => BreakerOpens,
    /// That an endpoint is slow is never written.
    ForgetSlow => SlowIsMarked,
    /// That an endpoint is slow is never read.
    IgnoreSlow => FastIsQuick,
    /// A PATCH resets the health of an endpoint.
    ResetHealth => HealthKept,
    /// Dispatch sends all tasks to the fast queue.
    DispatchFast => FastBounded,
    /// The fast and the slow queue have one concurrency together.
    ShareConcurrency => OthersOnTime,
    /// What a host did is never written.
    ForgetHost => HostOpens,
    /// deliver makes any number of attempts at one host.
    ForgetHostBound => HostBounded,
    /// Slow failures open the breaker no sooner than quick ones.
    OpenLate => SlowOpens,
    /// The probe of a half open breaker need not be claimed.
    SkipProbeClaim => OneProbe,
    /// Dispatch reads with eventual consistency.
    StaleDispatch => NothingLost,
    /// A user's change writes back the health that was read before it.
    UndoHealth => HealthKept,
    /// What was written is not counted.
    ForgetCount => AllCounted,
    /// An hour with records that may not have been counted is not put into the due index.
    ForgetRecount => StatisticsAgree,
    /// Counters are added twice.
    CountTwice => StatisticsAgree,
    /// Only the last attempt is kept.
    ForgetAttempts => Recorded,
    /// One retry more is made than the user wants.
    OneRetryMore => StopsRightly,
    /// A receiver's `Retry-After` is not read.
    ForgetRetryAfter => WaitsRightly,
    /// A retry comes immediately.
    RetryImmediately => NotEarly,
    /// A redirect counts as a success.
    TrustRedirects => StopsRightly,
    /// A blocked address is tried again.
    RetryBlocked => StopsRightly,
    /// An attempt may take twice its time.
    DoubleTimeout => Timed,
    /// Deliveries are made faster than the webhook's rate limit.
    IgnoreRateLimit => RateHolds,
    /// The cleanup deletes what is not old.
    CleanTooMuch => CleanedRightly,
    /// A deleted webhook leaves no tombstone.
    ForgetTombstone => CleanupFinishes,
    /// The 410 of a receiver does not disable its webhook.
    KeepGone => GoneDisables,
    /// Five days of failure do not disable a webhook.
    KeepFailing => FailingDisabled,
    /// A bad event is dropped in silence.
    DropBadEvent => BadKept,
    /// A user's change is acknowledged and does not happen.
    DropChange => Done,
    /// A redelivery is acknowledged and does not happen.
    DropRedelivery => Repeated,
    /// Each time that a recovery sends a page its redeliveries have other ids.
    NewRecoveryIds => SameId,
    /// A page of a recovery lacks its last delivery.
    HideRecoverable => Recovered,
    /// An event for a webhook that is paused to hold what arrives is not dispatched.
    DropHeld => NothingLost,
    /// A delivery of such a webhook ends instead of being held.
    EndHeld => FailsRightly,
    /// A delivery is held although its webhook drops what arrives while it is paused.
    HoldAlways => HoldsRightly,
    /// The recovery that delivers what was held is not stored.
    ForgetHeld => HeldDelivered,
    /// deliver does not find the webhooks that are to be told.
    ForgetTold => Told,
    /// A delivery that is parked waits a day longer.
    ParkLong => OutageSurvived,
    /// The recovery of what failed in an outage is not stored.
    ForgetOutage => OutageRecovered,
    /// A new recovery is not put into the due index.
    ForgetRecovery => RecoveryEnds,
}
