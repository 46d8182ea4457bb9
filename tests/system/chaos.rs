//! The same faults on the real thing, in short: the deployed bootstraps as processes, a storm of
//! faults between them and the queues and tables, kills. The long run is `bench chaos`.

use std::path::PathBuf;
use std::time::Duration;

use chaos::{Bootstraps, Ended, Fault, Settings, run};

fn bootstraps() -> Bootstraps {
    Bootstraps {
        dispatch: PathBuf::from(env!("CARGO_BIN_EXE_system-dispatch")),
        deliver: PathBuf::from(env!("CARGO_BIN_EXE_system-deliver")),
        retry: PathBuf::from(env!("CARGO_BIN_EXE_system-retry")),
        cleanup: PathBuf::from(env!("CARGO_BIN_EXE_system-cleanup")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_calls_fail_and_processes_are_killed() {
    let report = run(&Settings::brief(bootstraps(), 1)).await.unwrap();
    assert!(report.is_good(), "{report:#?}");
    // The storm was one.
    let killed = |function| report.invocations.contains_key(&(function, Ended::Killed));
    assert!(killed("deliver"), "{report:#?}");
    assert!(report.faults.len() >= 6, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_queue_swallows_is_reported_as_lost() {
    let mut settings = Settings::brief(bootstraps(), 2);
    settings.events = 60;
    settings.set.queues = vec![(Fault::Swallow, 200)];
    // What the retry function sends is swallowed too: such records wait for ever.
    settings.patience = Duration::from_secs(5);
    let report = run(&settings).await.unwrap();
    assert!(!report.is_good() && !report.lost.is_empty(), "{report:#?}");
}
