//! Benchmarks of the whole system in one process: see `--help`.
//!
//! [`isolation`] runs a [`harness`]: the local system with its pollers, and a [`receiver`] that notes when
//! each webhook came. [`cost`] drives the handlers by itself, behind a [`proxy`] that counts what AWS would
//! bill, and so do [`bill`] and [`dead`], on virtual time. [`handshakes`] runs the outbound client, [`load`] the
//! program of the local system, [`curves`] the same as its tables grow, and [`faults`] the programs of the functions.
//!
//! Times depend on the machine and mean something only in a release build on an idle one. The
//! counts of [`cost`] do not, so that an ordinary test asserts them.
//!
//! Deliberately absent: the latencies of AWS. What is measured is our own share.

mod bill;
mod cost;
mod curves;
mod dead;
mod faults;
mod handshakes;
mod harness;
mod isolation;
mod lambda;
mod load;
mod proxy;
mod receiver;
mod report;

use std::process::ExitCode;

use clap::{Parser, value_parser};
use tracing_subscriber::filter::LevelFilter;
use webhooks_local::terminal::{note, say};

/// A result, or what kept it from being measured.
type Outcome<T> = Result<T, String>;

/// Measures the webhook service. Exits with 1 when a target is missed.
#[derive(Parser)]
#[command(name = "bench")]
enum Cli {
    /// Billed operations of an event that is delivered by its first attempt, and what a million
    /// deliveries cost
    Cost {
        /// How many events
        #[arg(long, default_value_t = 100)]
        events: usize,
    },
    /// What an endpoint that never responds costs, with the circuit breaker and without it
    Dead {
        /// How many events
        #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u32).range(1..))]
        events: u32,
    },
    /// TLS handshakes and processor time for each delivery, with and without kept connections
    Handshakes {
        /// How many deliveries
        #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u32).range(10..))]
        deliveries: u32,
    },
    /// What abusive users do to the others, on the local system and in a model of Lambda
    Isolation {
        /// How many users, of which a fifth are abusive
        #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(2..))]
        users: u32,
        /// How long each of the two phases is
        #[arg(long, default_value_t = 20)]
        seconds: u32,
        /// Events a second, over all healthy users
        #[arg(long, default_value_t = 40, value_parser = value_parser!(u32).range(1..))]
        rate: u32,
    },
    /// Deliveries a second, processor time, latency and memory of the local system
    ///
    /// Runs the `dev` program, which a build of the whole workspace puts beside this one.
    Load {
        /// How many deliveries of each closed loop
        #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1_000..))]
        deliveries: u32,
        /// Keep the data on the disk
        #[arg(long)]
        data_dir: bool,
    },
    /// The same as the history, the webhooks and the users grow
    ///
    /// Runs the `dev` program, which a build of the whole workspace puts beside this one. It takes minutes.
    Curves {
        /// Draws them into this file
        #[arg(long)]
        svg: Option<std::path::PathBuf>,
    },
    /// Events while calls fail and function processes are killed; none may be lost
    ///
    /// Runs the functions' programs, which a build of the whole workspace puts beside this one.
    FaultRun {
        /// How many events
        #[arg(long, default_value_t = 10_000)]
        events: usize,
        /// Repeats the mixture of faults
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many of a thousand invocations are killed at some moment, and after how many of ten
        /// thousand POSTs the process that made it
        #[arg(long, default_value_t = 60, value_parser = value_parser!(u64).range(..1000))]
        kills: u64,
        /// Some seconds, as in the tests, whatever the other options say
        #[arg(long)]
        brief: bool,
    },
    /// Events while the whole local system is killed and started again; none may be lost
    ///
    /// Runs the `dev` program, which a build of the whole workspace puts beside this one.
    KillTest {
        /// How many events
        #[arg(long, default_value_t = 10_000)]
        events: usize,
        /// Repeats the mixture of faults
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// From one kill to the next, on average
        #[arg(long, default_value_t = 2)]
        seconds_between_kills: u64,
    },
    /// A recovery while the whole local system is killed and started again; every delivery must come
    ///
    /// Runs the `dev` program, which a build of the whole workspace puts beside this one. It takes minutes.
    Recovery {
        /// How many deliveries have failed
        #[arg(long, default_value_t = 100_000)]
        deliveries: usize,
        /// How often the system is killed
        #[arg(long, default_value_t = 1)]
        kills: usize,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // Failures are expected in these; the report shows their result.
    let expected = matches!(cli, Cli::FaultRun { .. } | Cli::KillTest { .. });
    let level = if expected { LevelFilter::OFF } else { LevelFilter::ERROR };
    let logs = tracing_subscriber::fmt().with_max_level(level);
    logs.with_writer(std::io::stderr).init();
    say(report::circumstances());
    let outcome = match cli {
        Cli::Cost { events } => match cost::run(events).await {
            Ok(kept) => bill::run().await.map(|met| met && kept),
            failed => failed,
        },
        Cli::Dead { events } => dead::run(events as usize).await,
        Cli::Isolation { users, seconds, rate } => isolation::run(users, seconds, rate).await,
        Cli::Load { deliveries, data_dir } => load::run(deliveries as usize, data_dir).await,
        Cli::Curves { svg } => curves::run(svg.as_deref()).await,
        Cli::FaultRun { events, seed, kills, brief } => {
            faults::run(events, seed, kills, brief).await
        }
        Cli::KillTest { events, seed, seconds_between_kills } => {
            faults::run_kill_test(events, seed, seconds_between_kills).await
        }
        Cli::Recovery { deliveries, kills } => faults::run_recovery(deliveries, kills).await,
        Cli::Handshakes { deliveries } => {
            tokio::task::block_in_place(|| handshakes::run(deliveries as usize))
        }
    };
    match outcome {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => note("a target was missed"),
        Err(error) => note(format!("error: {error}")),
    }
    ExitCode::FAILURE
}
