//! A deterministic simulator: the real handlers over memory ports, in virtual time, from one seed.
//!
//! * A **seed** stands for a world (`plan`): its users and webhooks, what is published and changed
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
//! * After a while the faults end, and the world must come to rest: queues and due index empty. The
//!   schedule goes on, but runs of the retry function that would find nothing are left out.
//!
//! The **checker** (`model`, `verdict`) sees what the outside sees: every POST, every answer to a
//! user, every version of every row. It judges after every step and at the end:
//!
//! | rule | when |
//! |---|---|
//! | every accepted event × subscription that matched from acceptance until dispatch has a delivery, unless the subscription was deleted, or its message stands in a dead-letter queue | end |
//! | every delivery ends: as `success` after a 2xx; as `failed` after `retry_count + 1` attempts, a 410 or a blocked address, or because its webhook was paused or deleted | each write, end |
//! | one `webhook-id` and one body for each event and webhook (and one more for each redelivery that was asked for) | each POST |
//! | only to URLs that the event's owner has set; never after the deletion or pause, the end of the delivery, or inside of an open breaker, as far as the function can have known when it began | each POST |
//! | no two attempts of a retry at once, none too early; none late in a calm world | each POST |
//! | POSTs = recorded attempts + those whose writer died, failed or was overtaken, exactly; a calm world has none of these | end |
//! | counters = history − what was lost with a death or a failed request, exactly | end |
//! | a record that has ended never changes; what waits stands in the due index | each write |
//! | what the API answered is done; what it shows is what stands in the tables, to its owner alone | each answer, end |
//!
//! A quarter of the worlds are calm: nothing fails on our side, and every message comes once. There
//! everything must happen exactly once and on time.
//!
//! Deliberately absent: threads, the wall clock, the network, and the marshalling of the real tables
//! and queues, which the conformance suites cover.

mod breaks;
mod executor;
mod functions;
mod milestones;
mod model;
mod people;
mod plan;
mod ports;
mod queue;
mod receivers;
mod rules;
mod run;
mod search;
mod verdict;
mod world;

pub use breaks::Break;
pub use milestones::{Milestone, Milestones};
pub use rules::{Rule, Violation};
pub use run::{Options, Outcome, run};
pub use search::search;
pub use world::{Fault, Function, Kind, Met, Moment};
