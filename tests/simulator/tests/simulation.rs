//! The rules hold in every simulated run, and each mutation of the system violates its rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use simulator::{Fault, Milestone, Moment, Mutation, Options, Outcome, Rule, run, search};

/// Seeds of an ordinary test run. `cargo run --profile fast -p simulator -- --seeds 1000000` runs more.
const SEEDS: u64 = 2_000;
/// Seeds within which every mutation must be detected.
const DETECTED_WITHIN: u64 = 2_000;
/// Seeds that once found a defect in the system, and the rule that detected it.
const FOUND: [(u64, Rule); 2] = [(507_204, Rule::OneAtATime), (1_009_157, Rule::HealthKept)];
/// Fault-free runs in which a process dies at every moment there is, each in a run of its own.
const CRASHED_RUNS: usize = 3;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

fn is_violation(outcome: &Outcome) -> bool {
    outcome.violation.is_some()
}

fn fail(outcome: &Outcome, options: Options) -> ! {
    let seed = outcome.seed;
    let trace = run(seed, Options { trace: true, ..options }).trace.join("\n");
    panic!("{trace}\nseed {seed} {options:?} breaks a rule: {:?}", outcome.violation);
}

/// The faults that every request is to be met by.
const FAULTS: [Fault; 6] = [
    Fault::Crash(Moment::Before),
    Fault::Crash(Moment::Within),
    Fault::Crash(Moment::After),
    Fault::Fails,
    Fault::ResponseLost,
    Fault::Repeated,
];

#[test]
fn every_rule_holds_in_every_run() {
    // The runs in which things were first seen to happen.
    let milestones = Mutex::new(BTreeSet::new());
    let requests = Mutex::new(BTreeMap::new());
    let found = search(0..SEEDS, Options::default(), threads(), |outcome| {
        milestones.lock().unwrap().extend(outcome.milestones.iter().copied());
        let mut requests = requests.lock().unwrap();
        for (function, what, fault) in &outcome.met {
            if *fault == Fault::Nothing {
                requests.entry((*function, *what)).or_insert(outcome.seed);
            }
        }
        is_violation(outcome)
    });
    if let Some(outcome) = found {
        fail(&outcome, Options::default());
    }

    // The rules hold only of what happened. So everything that matters must have.
    let milestones = milestones.into_inner().unwrap();
    let missed = |milestone: &&Milestone| !milestones.contains(milestone);
    let missed: Vec<&Milestone> = Milestone::ALL.iter().filter(missed).collect();
    assert!(missed.is_empty(), "never happened: {missed:?}");

    // Every request that a function ever makes meets every fault, and a crash before, within and
    // after it.
    let requests = requests.into_inner().unwrap();
    assert!(requests.len() > 25, "{requests:?}");
    for ((function, what), seed) in requests {
        for fault in FAULTS {
            let options = Options { inject: Some((function, what, fault)), ..Options::default() };
            let outcome = run(seed, options);
            assert!(outcome.met.contains(&(function, what, fault)), "{options:?} in {seed}");
            if is_violation(&outcome) {
                fail(&outcome, options);
            }
        }
    }
}

#[test]
fn outage_of_two_hours_loses_nothing_and_sends_nothing_twice() {
    let options = Options { outage: true, ..Options::default() };
    if let Some(outcome) = search(0..200, options, threads(), is_violation) {
        fail(&outcome, options);
    }
}

#[test]
fn crash_at_any_moment_loses_nothing() {
    let fault_free =
        (0..).map(|seed| run(seed, Options::default())).filter(|outcome| outcome.is_fault_free);
    for outcome in fault_free.take(CRASHED_RUNS) {
        for point in 0..outcome.points {
            let options = Options { crash_at: Some(point), ..Options::default() };
            let crashed = run(outcome.seed, options);
            if is_violation(&crashed) {
                fail(&crashed, options);
            }
        }
    }
}

#[test]
fn seeds_that_found_a_defect_pass() {
    for (seed, rule) in FOUND {
        let outcome = run(seed, Options::default());
        assert_eq!(outcome.violation, None, "seed {seed} broke {rule:?} once");
    }
}

#[test]
fn same_seed_replays_exactly() {
    let traced = Options { trace: true, ..Options::default() };
    // The last one once differed, because the tasks that wait for a rate limit were woken in a random order.
    for seed in (0..20).chain([160]) {
        let (once, again) = (run(seed, traced), run(seed, traced));
        assert_eq!(once.digest, again.digest, "seed {seed}");
        assert_eq!(once.trace, again.trace, "seed {seed}");
        assert!(once.steps > 0 && !once.trace.is_empty());
    }
    assert_ne!(run(1, traced).digest, run(2, traced).digest);

    // So does one that breaks a rule, and its trace says where.
    let options = Options { mutation: Some(Mutation::AcknowledgeFirst), ..Options::default() };
    let found = search(0..DETECTED_WITHIN, options, threads(), is_violation).unwrap();
    let again = run(found.seed, options);
    assert_eq!((found.violation, found.digest), (again.violation, again.digest));
}

#[test]
fn every_mutation_violates_its_rule() {
    let mut missed = Vec::new();
    for mutation in Mutation::ALL.iter().copied() {
        let options = Options::with_mutation(mutation);
        let of_rule = |outcome: &Outcome| {
            outcome.violation.as_ref().is_some_and(|violation| violation.rule == mutation.rule())
        };
        match search(0..DETECTED_WITHIN, options, threads(), of_rule) {
            Some(outcome) => println!("{mutation:?} | {} | {}", mutation.rule(), outcome.seed),
            None => missed.push(mutation),
        }
    }
    assert!(missed.is_empty(), "not detected: {missed:?}");
}
