//! A short fault run: the deployed bootstraps as processes, with faults between them and the queues
//! and tables, and kills. The long run is `bench fault-run`.

use std::path::PathBuf;

use chaos::{Bootstraps, Ended, FaultRun, run_faults};

fn bootstraps() -> Bootstraps {
    Bootstraps {
        dispatch: PathBuf::from(env!("CARGO_BIN_EXE_system-dispatch")),
        deliver: PathBuf::from(env!("CARGO_BIN_EXE_system-deliver")),
        retry: PathBuf::from(env!("CARGO_BIN_EXE_system-retry")),
        cleanup: PathBuf::from(env!("CARGO_BIN_EXE_system-cleanup")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_and_kills_lose_nothing() {
    let report = run_faults(&FaultRun::brief(bootstraps(), 1)).await.unwrap();
    assert!(report.is_good(), "{report:#?}");
    // There were faults.
    let killed = |function| report.invocations.contains_key(&(function, Ended::Killed));
    assert!(killed("deliver"), "{report:#?}");
    assert!(report.faults.len() >= 6, "{report:#?}");
}
