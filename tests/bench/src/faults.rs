//! Events while calls fail and processes are killed: see the crate `chaos`.

use std::path::PathBuf;
use std::time::Duration;

use ::chaos::{Bootstraps, FaultRun, KillTest, RecoveryRun, Report};
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::harness::text;

/// Runs events through failing calls and killed function processes.
pub(crate) async fn run(events: usize, seed: u64, kills: u64, brief: bool) -> Outcome<bool> {
    let bootstraps = Bootstraps {
        dispatch: beside("dispatch")?,
        deliver: beside("deliver")?,
        retry: beside("retry")?,
        cleanup: beside("cleanup")?,
    };
    let settings = if brief {
        FaultRun::brief(bootstraps, seed)
    } else {
        FaultRun::long(bootstraps, seed, events, kills)
    };
    Ok(conclude(&::chaos::run_faults(&settings).await?))
}

/// Kills and restarts the local system while events are published.
pub(crate) async fn run_kill_test(
    events: usize,
    seed: u64,
    seconds_between_kills: u64,
) -> Outcome<bool> {
    let dir = tempfile::tempdir().map_err(text)?;
    let kill_every = Duration::from_secs(seconds_between_kills);
    let kill_test = KillTest::new(beside("dev")?, dir.path().to_owned(), seed, events, kill_every);
    Ok(conclude(&::chaos::run_kill_test(&kill_test).await?))
}

/// Kills and restarts the local system while a recovery runs.
pub(crate) async fn run_recovery(deliveries: usize, kills: usize) -> Outcome<bool> {
    let dir = tempfile::tempdir().map_err(text)?;
    let (dev, data_dir) = (beside("dev")?, dir.path().to_owned());
    // Longer than a message that was in flight, or lost, stays away.
    let patience = Duration::from_mins(17);
    let recovered =
        ::chaos::run_recovery(&RecoveryRun { dev, data_dir, deliveries, kills, patience }).await?;
    say(format!("{recovered:#?}"));
    Ok(recovered.is_good())
}

/// A program that a build of the whole workspace has put beside this one.
pub(crate) fn beside(name: &str) -> Outcome<PathBuf> {
    let path = std::env::current_exe().map_err(text)?.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{} is missing: build the whole workspace first", path.display()))
}

fn conclude(report: &Report) -> bool {
    say(report.shown());
    report.is_good()
}
