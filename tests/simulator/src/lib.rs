//! A deterministic simulator: the real handlers over memory ports, in virtual time, from one seed.
//!
//! * A **seed** stands for a run (`plan`): its users and webhooks, what is published and changed
//!   when, what fails how often, and how every receiver behaves.
//! * A **turn** ([`run()`]) is whatever comes next: an alarm rings, a batch is received, a schedule
//!   fires, somebody outside acts. The clock jumps from turn to turn, so that days take milliseconds;
//!   of several turns at the same moment the seed picks one (`executor`).
//! * A **request** of a handler to a table, a queue or a receiver (`ports`) takes virtual time, in
//!   which others go on. It may fail before it is carried out, be carried out twice, or lose its
//!   answer; the function may die before and after it, which drops its future where it stands. An
//!   eventually consistent read may miss the writes of the last second.
//! * The **queue** hands messages out twice, again and in any order, hides them, counts receives and
//!   gives them up (`queue`). What stands for Lambda makes batches of them and deletes what the
//!   handler did not report (`functions`).
//! * After a while the faults end, and the run must come to rest: queues and due index empty. The
//!   schedule goes on, but runs of the retry function that would find nothing are left out.
//!
//! The **checker** (`model`, `verdict`) sees what the outside sees: every POST, every answer to a
//! user, every version of every row. It judges after every step and at the end, by [`Rule`]s:
//!
//! * at the end every accepted event has a delivery for each subscription that matched from its
//!   acceptance until it was dispatched, unless the subscription was deleted, or the message stands
//!   in a dead-letter queue; and every delivery has ended: as `success` after a 2xx; as `failed`
//!   after exactly `retry_count + 1` attempts, a 410 or a blocked address, or because its webhook
//!   was paused, disabled or deleted;
//! * each POST has one `webhook-id` and one body for each event and webhook, and the signatures of
//!   exactly the secrets that are valid; it goes to the event's owner only, not after the deletion or
//!   pause, not after the end of the delivery, not through an open breaker but for one probe, as far
//!   as the function can have known when it began; not too early, not beside another retry;
//! * each write records what was sent, decides what the retry policy says, and waits as long as the
//!   policy and the receiver's `Retry-After` say, at most a tenth longer;
//! * POSTs = recorded attempts + those whose writer died, failed or was overtaken, exactly; and
//!   counters = history − what was lost with a death or a failed request, exactly;
//! * what the API answered is done; what it shows is what stands in the tables, to its owner alone.
//!
//! "As far as it can have known": a function reads at its beginning, perhaps from a replica that is
//! a second behind. So a rule is broken when no version that stood there from that second on allows
//! what was done.
//!
//! A quarter of the runs are calm: nothing fails on our side, and every message comes once. There
//! everything must happen exactly once and on time.
//!
//! That it bites is shown by [`Mutation`]s, each of which must be noticed by the rule that it violates,
//! and by [`Milestone`]s, each of which must have happened. [`Options`] let a process die at any
//! single moment of a run, or any single fault meet any kind of request.
//!
//! Deliberately absent: threads, the wall clock, the network, and the marshalling of the real tables
//! and queues, which the conformance suites cover.

mod actors;
mod executor;
mod functions;
mod harness;
mod milestones;
mod model;
mod mutations;
mod plan;
mod ports;
mod queue;
mod receivers;
mod rules;
mod run;
mod search;
mod verdict;

pub use harness::{Calls, Fault, Function, Kind, Met, Moment};
pub use milestones::{Milestone, Milestones};
pub use mutations::Mutation;
pub use rules::{Rule, Violation};
pub use run::{Options, Outcome, run};
pub use search::search;
