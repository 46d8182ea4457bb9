//! A deterministic simulator: the real handlers run over ports in memory, in virtual time, from a seed.
//!
//! * The **plan** (`plan`) of a seed says which users and webhooks there are, what is published and
//!   changed when, which requests fail how often, and how each receiver behaves.
//! * A **turn** ([`run()`]) is the next thing that happens: a timer ends, a batch is received, a
//!   schedule fires, a user or publisher acts (`actors`). The clock jumps from turn to turn. The seed
//!   chooses among turns at the same moment (`executor`).
//! * A **request** of a handler to a table, a queue or a receiver (`ports`) takes virtual time, in
//!   which other turns happen. It may fail before it is carried out, be carried out twice, or lose its
//!   response; the function may crash before, during and after it, which drops its future. An eventually
//!   consistent read may miss the writes of the last second.
//! * The **queue** (`queue`) delivers messages late, twice and in any order, applies visibility
//!   timeouts, and moves messages to a dead-letter queue. The stand-in for Lambda (`functions`) makes
//!   batches and deletes what the handler does not report as failed.
//! * After a while the faults end. Then the queues and the due index must become empty. Runs of the
//!   retry function that would find nothing are left out.
//!
//! The **checker** (`model`, `verdict`) sees every POST, every response to a user and every version of
//! every row. It checks the [`Rule`]s after every step and at the end:
//!
//! * at the end every accepted event has a delivery for each subscription that matched from its
//!   acceptance until it was dispatched, unless the subscription was deleted, or the message is in a
//!   dead-letter queue. Every delivery has ended: as `success` after a 2xx; as `failed` after exactly
//!   `retry_count + 1` attempts, a 410 or a blocked address, or because its webhook was paused,
//!   disabled or deleted;
//! * each POST has one `webhook-id` and one body for each event and webhook, and the signatures of
//!   exactly the secrets that are valid. It goes only to the event's owner; not after the deletion or
//!   pause, not after the end of the delivery, not while the breaker is open (except one probe), as
//!   far as the function could know; not too early, and not concurrently with another retry;
//! * each write records what was sent, decides what the retry policy says, and waits as long as the
//!   policy and the receiver's `Retry-After` say, at most a tenth longer;
//! * the number of POSTs equals the recorded attempts plus those whose writer crashed, failed or was
//!   overtaken; counters equal the history minus what was lost with a crash or a failed request;
//! * what the API confirmed is done; what it shows is what the tables have, only to its owner.
//!
//! "As far as the function could know": a function reads at its beginning, perhaps from a replica that
//! is a second behind. A rule is violated when no version of the row since then allows the action.
//!
//! A quarter of the runs have no faults except those of receivers, and every message comes once. In
//! them everything must happen exactly once and on time.
//!
//! [`Mutation`]s test the checker: each must be detected by the rule that it violates. [`Milestone`]s
//! must have happened in some run. [`Options`] let a process crash at any single moment of a run, or
//! inject any single fault into any kind of request.
//!
//! Deliberately absent: threads, the wall clock, the network, and the serialization of the real tables
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
