//! Many seeds, on all processors.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::breaks::Break;
use crate::executor::lock;
use crate::run::{Outcome, run};

/// Runs the seeds and answers with the lowest that broke a rule, if one did; the search ends there.
/// `each` is told every outcome, by whichever thread has it.
pub fn search(
    seeds: Range<u64>,
    broken: Option<Break>,
    threads: usize,
    each: impl Fn(&Outcome) + Sync,
) -> Option<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let found: Mutex<Option<Outcome>> = Mutex::new(None);
    // Seeds are handed out in order and each is finished, so none below the one found is left out.
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = run(seed, broken, false);
            each(&outcome);
            if outcome.violation.is_some() {
                stop.store(true, Ordering::Relaxed);
                let mut found = lock(&found);
                if found.as_ref().is_none_or(|other| seed < other.seed) {
                    *found = Some(outcome);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    lock(&found).take()
}
