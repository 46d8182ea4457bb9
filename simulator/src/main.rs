//! Runs seeds and says how many a second, or replays one: see `--help`.

#![expect(clippy::print_stdout, reason = "what this program finds, it tells on standard output")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use simulator::{Break, Outcome, run};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs the handlers in simulated worlds and checks what they promise.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Shows every step of the seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// How many threads share the seeds; one for each processor when not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Breaks the system in this way (the name of a `Break`).
    #[arg(long = "break", value_parser = parse_break)]
    broken: Option<Break>,
}

fn parse_break(name: &str) -> Result<Break, String> {
    let known = || Break::ALL.iter().map(|broken| format!("{broken:?}"));
    let found = Break::ALL.iter().find(|broken| format!("{broken:?}") == name);
    found.copied().ok_or_else(|| known().collect::<Vec<_>>().join(", "))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        return replay(seed, &arguments);
    }
    let tally = Tally::default();
    let (started, stop) = (Instant::now(), AtomicBool::new(false));
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from.saturating_add(arguments.seeds);
    let threads = arguments.threads.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            break;
                        }
                        let outcome = run(seed, arguments.broken, false);
                        tally.add(&outcome);
                        if outcome.violation.is_some() {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let mut told = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(20));
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                tally.tell(started);
            }
        }
    });
    tally.tell(started);
    let failed = tally.failed.lock().map(|failed| failed.clone()).unwrap_or_default();
    let Some(outcome) = failed.into_iter().min_by_key(|outcome| outcome.seed) else {
        return ExitCode::SUCCESS;
    };
    tell(&outcome);
    ExitCode::FAILURE
}

#[derive(Default)]
struct Tally {
    seeds: AtomicU64,
    steps: AtomicU64,
    given_up: AtomicU64,
    hours: AtomicU64,
    failed: Mutex<Vec<Outcome>>,
}

impl Tally {
    fn add(&self, outcome: &Outcome) {
        self.seeds.fetch_add(1, Ordering::Relaxed);
        self.steps.fetch_add(outcome.steps, Ordering::Relaxed);
        self.given_up.fetch_add(outcome.given_up as u64, Ordering::Relaxed);
        self.hours.fetch_add(outcome.lasted.as_secs() / 3600, Ordering::Relaxed);
        if outcome.violation.is_some()
            && let Ok(mut failed) = self.failed.lock()
        {
            failed.push(outcome.clone());
        }
    }

    fn tell(&self, started: Instant) {
        let [seeds, steps, given_up, hours] =
            [&self.seeds, &self.steps, &self.given_up, &self.hours]
                .map(|number| number.load(Ordering::Relaxed));
        let a_second = u128::from(seeds) * 1000 / started.elapsed().as_millis().max(1);
        println!(
            "{seeds} seeds, {a_second} a second; {steps} requests, {hours} virtual hours, \
             {given_up} messages given up"
        );
    }
}

fn replay(seed: u64, arguments: &Arguments) -> ExitCode {
    let outcome = run(seed, arguments.broken, arguments.trace);
    for line in &outcome.trace {
        println!("{line}");
    }
    println!(
        "seed {seed}: {} requests, digest {:016x}, lasted {} s of virtual time",
        outcome.steps,
        outcome.digest,
        outcome.lasted.as_secs()
    );
    if outcome.violation.is_none() {
        return ExitCode::SUCCESS;
    }
    tell(&outcome);
    ExitCode::FAILURE
}

fn tell(outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        println!("seed {}: BROKEN: {}: {}", outcome.seed, violation.rule, violation.detail);
        println!("replay: cargo run --release -p simulator -- --seed {} --trace", outcome.seed);
    }
}
