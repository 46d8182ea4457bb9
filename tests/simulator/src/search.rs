//! Many seeds, on all processors.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::executor::lock;
use crate::run::{Options, Outcome, run};

/// Runs the seeds until `wanted` says that one is what is looked for, and returns the lowest.
/// Whichever thread has an outcome asks.
pub fn search(
    seeds: Range<u64>,
    options: Options,
    threads: usize,
    wanted: impl Fn(&Outcome) -> bool + Sync,
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
            let outcome = run(seed, options);
            if wanted(&outcome) {
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
