//! Events while everything goes wrong: see the crate `chaos`.

use std::path::PathBuf;
use std::time::Duration;

use ::chaos::{Bootstraps, KillTest, Report, Settings};
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::world::text;

/// A storm.
pub(crate) async fn run(events: usize, seed: u64, kills: u64, brief: bool) -> Outcome<bool> {
    let bootstraps = Bootstraps {
        dispatch: beside("dispatch")?,
        deliver: beside("deliver")?,
        retry: beside("retry")?,
        cleanup: beside("cleanup")?,
    };
    let settings = if brief {
        Settings::brief(bootstraps, seed)
    } else {
        Settings::long(bootstraps, seed, events, kills)
    };
    Ok(conclude(&::chaos::run(&settings).await?))
}

/// A kill_test.
pub(crate) async fn lay(events: usize, seed: u64, seconds_between_kills: u64) -> Outcome<bool> {
    let dir = tempfile::tempdir().map_err(text)?;
    let kill_every = Duration::from_secs(seconds_between_kills);
    let kill_test = KillTest::new(beside("dev")?, dir.path().to_owned(), seed, events, kill_every);
    Ok(conclude(&::chaos::lay(&kill_test).await?))
}

/// A program that a build of the whole workspace has put beside this one.
fn beside(name: &str) -> Outcome<PathBuf> {
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
