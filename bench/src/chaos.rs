//! Events in a storm: see the crate `chaos`.

use ::chaos::{Bootstraps, Settings};
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::world::text;

pub(crate) async fn run(events: usize, seed: u64, kills: u64, brief: bool) -> Outcome<bool> {
    let program = std::env::current_exe().map_err(text)?;
    let dir = program.parent().ok_or("this program is in no directory")?;
    let bootstraps = Bootstraps::beside(dir);
    for path in [&bootstraps.dispatch, &bootstraps.deliver, &bootstraps.retry, &bootstraps.cleanup]
    {
        if !path.exists() {
            return Err(format!("{} is missing: build the whole workspace", path.display()));
        }
    }
    let settings = if brief {
        Settings::brief(bootstraps, seed)
    } else {
        Settings::long(bootstraps, seed, events, kills)
    };
    let report = ::chaos::run(&settings).await?;
    say(report.shown());
    Ok(report.is_good())
}
