//! Runs seeds and says how many a second, or replays one: see `--help`.

#![expect(clippy::print_stdout, reason = "what this program finds, it tells on standard output")]

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;
use simulator::{Met, Milestone, Milestones, Mutation, Options, Outcome, run, search};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often progress is reported.
const PROGRESS: Duration = Duration::from_secs(10);

/// Simulates the handlers from seeds and checks their promises.
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
    /// Applies each mutation in turn, and prints the first seed in which the rule that it violates
    /// detects it.
    #[arg(long, conflicts_with_all = ["seed", "mutation"])]
    mutations: bool,
    /// How many threads share the seeds; one for each processor when not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Lets a process die at this of the moments of the seed at which one could.
    #[arg(long, requires = "seed")]
    crash_at: Option<u64>,
    /// Applies this mutation (the name of a `Mutation`).
    #[arg(long, value_parser = parse_mutation)]
    mutation: Option<Mutation>,
}

fn parse_mutation(name: &str) -> Result<Mutation, String> {
    let known = || Mutation::ALL.iter().map(|mutation| format!("{mutation:?}"));
    let found = Mutation::ALL.iter().find(|mutation| format!("{mutation:?}") == name);
    found.copied().ok_or_else(|| known().collect::<Vec<_>>().join(", "))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        return replay(seed, &arguments);
    }
    let seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
    let threads = arguments.threads.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    if arguments.mutations {
        return try_mutations(&seeds, threads);
    }
    let tally = Mutex::new(Tally::new());
    let options = Options { mutation: arguments.mutation, ..Options::default() };
    let found = search(seeds, options, threads, |outcome| {
        if let Ok(mut tally) = tally.lock() {
            tally.add(outcome);
        }
        outcome.violation.is_some()
    });
    if let Ok(tally) = tally.lock() {
        tally.tell();
        tally.tell_all();
    }
    found.map_or(ExitCode::SUCCESS, |outcome| tell(&outcome))
}

/// What all seeds came to.
struct Tally {
    started: Instant,
    reported: Instant,
    seeds: u32,
    steps: u64,
    given_up: usize,
    lasted: Duration,
    milestones: Milestones,
    met: Met,
}

impl Tally {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            reported: now,
            seeds: 0,
            steps: 0,
            given_up: 0,
            lasted: Duration::ZERO,
            milestones: Milestones::new(),
            met: Met::new(),
        }
    }

    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.given_up += outcome.given_up;
        self.lasted += outcome.lasted;
        self.milestones.extend(&outcome.milestones);
        self.met.extend(&outcome.met);
        if self.reported.elapsed() >= PROGRESS {
            self.reported = Instant::now();
            self.tell();
        }
    }

    fn tell(&self) {
        let Self { seeds, steps, given_up, .. } = self;
        let a_second = f64::from(*seeds) / self.started.elapsed().as_secs_f64();
        let days = self.lasted.as_secs() / 86_400;
        println!(
            "{seeds} seeds, {a_second:.0} a second; {steps} requests, {days} virtual days, \
             {given_up} messages given up"
        );
    }
}

impl Tally {
    /// What was reached in all seeds together.
    fn tell_all(&self) {
        let (reached, all) = (self.milestones.len(), Milestone::ALL.len());
        let kinds = self.met.len();
        println!("{reached} of {all} milestones reached, {kinds} kinds of faults met");
    }
}

/// Prints a row of a table for each mutation.
fn try_mutations(seeds: &Range<u64>, threads: usize) -> ExitCode {
    let mut all_detected = true;
    for mutation in Mutation::ALL.iter().copied() {
        let options = Options::with_mutation(mutation);
        let by = |outcome: &Outcome| {
            let rule = outcome.violation.as_ref().map(|violation| violation.rule);
            rule == Some(mutation.rule())
        };
        let seed = search(seeds.clone(), options, threads, by).map(|outcome| outcome.seed);
        all_detected &= seed.is_some();
        let seed = seed.map_or("never".to_owned(), |seed| seed.to_string());
        println!("| `{mutation:?}` | {} | {seed} |", mutation.rule());
    }
    if all_detected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64, arguments: &Arguments) -> ExitCode {
    let options = Options {
        mutation: arguments.mutation,
        trace: arguments.trace,
        crash_at: arguments.crash_at,
        outage: arguments.mutation.is_some_and(|mutation| Options::with_mutation(mutation).outage),
        inject: None,
    };
    let outcome = run(seed, options);
    for line in &outcome.trace {
        println!("{line}");
    }
    let Outcome { steps, digest, lasted, .. } = &outcome;
    let lasted = lasted.as_secs();
    println!("seed {seed}: {steps} requests in {lasted} virtual seconds, digest {digest:016x}");
    tell(&outcome)
}

fn tell(outcome: &Outcome) -> ExitCode {
    let Some(violation) = &outcome.violation else { return ExitCode::SUCCESS };
    let seed = outcome.seed;
    println!("seed {seed}: VIOLATION: {}: {}", violation.rule, violation.detail);
    println!("replay with: cargo run --profile fast -p simulator -- --seed {seed} --trace");
    ExitCode::FAILURE
}
