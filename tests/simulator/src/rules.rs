//! Everything that the checker holds the system to, by name.

use std::fmt;

/// Declares the rules with their texts.
macro_rules! rules {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// A rule. Its text says what it means.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $text] $name),+
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The sentence.
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

rules! {
    // Each POST.
    UrlKnown = "POSTs go where somebody subscribed",
    PostWhole = "a POST has its headers and its body",
    OnlyPublished = "only what was published is delivered",
    OnlyOwner = "never to another user",
    Unchanged = "what was published is delivered unchanged",
    SameId = "the same webhook-id throughout",
    SameBody = "every attempt has the same body",
    Signed = "every attempt is signed with the secrets of its moment",
    Timed = "an attempt has the time that its webhook gives it",
    RateHolds = "a second has at most twice the rate limit: late deliveries and those that are on time",
    UrlHolds = "a changed URL holds from the next attempt on",
    NotDeleted = "nothing is sent after a deletion",
    NotPaused = "nothing is sent to a paused webhook",
    BreakerHolds = "no attempt is made while the breaker is open",
    OneProbe = "a breaker that is half open lets one probe through",
    NotEnded = "nothing is sent after the end of a delivery",
    OneAtATime = "a retry is made once at a time",
    Numbered = "attempts are numbered one by one",
    NotEarly = "no retry comes early",
    OnTime = "retries are on time when nothing fails",

    // Each write.
    EndsOnce = "a delivery that has ended never changes",
    Recorded = "what is recorded is what was sent",
    StopsRightly = "a delivery is retried exactly as long as it must be",
    WaitsRightly = "a retry waits as long as it must",
    FailsRightly = "a delivery fails for a reason",
    HoldsRightly = "a delivery is held only while its webhook is paused",
    ParksRightly = "a delivery is parked only behind a breaker or a rate limit",
    Undisturbed = "a delivery is not parked or ended while a retry of it is under way",
    InDueIndex = "what waits stands in the due index",
    OwnRecord = "a record belongs to the webhook's owner",
    RefusedRightly = "a write is refused only when another came first",
    AllRecorded = "every attempt is written",
    AllCounted = "every delivery is counted",
    NoneOvercounted = "nothing is counted that was not written",
    HealthKept = "a user's change does not undo what is known of an endpoint",
    SlowOpens = "the breaker of a slow dead endpoint opens soon",
    DisabledRightly = "a webhook is disabled for a reason",
    CleanedRightly = "only what is old or deleted is cleaned up",

    // Each response and each message.
    Done = "what the API confirmed is done",
    TestStands = "the response to a test stands in the history",
    OwnMessages = "a handler reports messages that it was given",
    Grace = "what was sent again has its grace",
    BreakerOpens = "the breaker of a dead endpoint opens",
    FailingDisabled = "an endpoint that fails for five days is disabled",

    // Beside an abusive user.
    SlowIsMarked = "an endpoint counts as slow as soon as an attempt is, and if it ends with a success",
    FastIsQuick = "no attempt of the fast queue is made at an endpoint that counts as slow",
    FastBounded = "what one owner has in flight in the fast queue is bounded",
    OthersOnTime = "an abusive user delays no event of others at quick endpoints",
    HostBounded = "an instance makes a bounded number of concurrent attempts at one host for one owner",
    HostOpens = "an owner's webhooks at one host that fails are one endpoint",

    // The end.
    ComesToRest = "the system comes to rest",
    Dispatched = "every event is dispatched",
    NothingLost = "nothing is lost",
    Ends = "every delivery ends",
    HeldDelivered = "what is held is delivered when its webhook is resumed",
    Told = "an owner's other webhooks are told what they ask for about a webhook, and it is not",
    OutageSurvived = "what is published while receivers are down for two hours arrives after that, once",
    NoNeedlessEnd = "no delivery ends without need",
    Repeated = "a redelivery is made",
    OutageRecovered = "what failed in an outage is recovered when its owner wants that",
    RecoveryEnds = "every recovery ends",
    Recovered = "a recovery redelivers each delivery that matches",
    PostsAddUp = "every POST is recorded",
    OnceWithoutFaults = "no POST is doubled when nothing fails",
    NoneGivenUp = "no message is given up when nothing fails",
    SuccessIs2xx = "a success was returned 2xx, and what was returned 2xx is a success",
    GoneDisables = "a 410 disables the webhook",
    StatisticsAgree = "statistics agree with history",
    BadKept = "a bad event is kept with its reason, and no other is",
    Shown = "what users are shown is what stands in the tables",
    Stranger = "a stranger is shown nothing",
    CleanupFinishes = "the cleanup finishes and leaves nothing of deleted webhooks",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// How it was broken.
    pub detail: String,
}
