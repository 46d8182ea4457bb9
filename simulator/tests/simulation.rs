//! The promises hold in every simulated world, and the simulator notices when they do not.

use simulator::{Break, run, search};

/// Seeds of an ordinary test run. `cargo run --release -p simulator -- --seeds 1000000` runs more.
const SEEDS: u64 = 2_000;
/// Seeds within which every break must be noticed.
const NOTICED_WITHIN: u64 = 2_000;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

#[test]
fn every_promise_holds_in_every_world() {
    let found = search(0..SEEDS, None, threads(), |_| {});
    if let Some(outcome) = found {
        let seed = outcome.seed;
        let trace = run(seed, None, true).trace.join("\n");
        panic!("{trace}\nseed {seed} breaks a rule: {:?}", outcome.violation);
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        let (once, again) = (run(seed, None, true), run(seed, None, true));
        assert_eq!(once.digest, again.digest, "seed {seed}");
        assert_eq!(once.trace, again.trace, "seed {seed}");
        assert!(once.steps > 0 && !once.trace.is_empty());
    }
    assert_ne!(run(1, None, false).digest, run(2, None, false).digest);

    // So does one that breaks a rule, and its trace says where.
    let broken = Some(Break::AcknowledgeFirst);
    let found = search(0..NOTICED_WITHIN, broken, threads(), |_| {}).unwrap();
    let again = run(found.seed, broken, true);
    assert_eq!((found.violation, found.digest), (again.violation, again.digest));
}

#[test]
fn every_break_is_noticed() {
    let mut missed = Vec::new();
    for broken in Break::ALL.iter().copied() {
        match search(0..NOTICED_WITHIN, Some(broken), threads(), |_| {}) {
            Some(outcome) => {
                let rule = outcome.violation.map(|violation| violation.rule);
                println!("{broken:?} | {} | {}", outcome.seed, rule.unwrap_or_default());
            }
            None => missed.push(broken),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}
