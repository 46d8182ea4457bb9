//! `cargo dev`: reads the command line and runs the command.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use webhooks_aws::SystemClock;
use webhooks_core::ids::UserId;
use webhooks_core::ports::Clock as _;
use webhooks_local::banner::{self, Banner};
use webhooks_local::cli::{Cli, Command, Serve};
use webhooks_local::stats::Stats;
use webhooks_local::system::{self, Addresses, Options, reachable};
use webhooks_local::terminal::{note, say};
use webhooks_local::{demo, http, token};

/// Requests are many small allocations, which the system's allocator takes longer for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => serve(&cli.serve).await,
        Some(Command::Token { user, scope }) => print_token(&user, scope.as_deref()),
        Some(Command::Demo) => run_demo().await,
        Some(Command::Stats { api_addr, json }) => stats(reachable(api_addr), json).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run_demo() -> Result {
    logs("error")?;
    Ok(demo::run().await?)
}

async fn serve(flags: &Serve) -> Result {
    let start = Instant::now();
    note("starting …");
    logs(&flags.log)?;
    // Before anything starts, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let options = Options::from_flags(flags);
    let policy = options.policy;
    let system = system::start(options).await?;
    let user: UserId = banner::USER.parse()?;
    let banner = Banner {
        addresses: system.addresses(),
        data_dir: flags.data_dir.as_deref(),
        policy,
        token: &token::issue(&user, SystemClock.now())?,
        took: start.elapsed(),
    };
    say(if flags.json { banner.to_json() } else { banner.to_text() });
    warn_if_open(system.addresses());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    note("stopping … (Ctrl-C again stops immediately)");
    tokio::select! {
        () = system.stop() => note("stopped"),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Everybody knows the keys of the local system, so its ports are for this machine only.
fn warn_if_open(addresses: Addresses) {
    let Addresses { api, sqs, dynamodb, receiver } = addresses;
    for address in [api, sqs, dynamodb, receiver].iter().filter(|a| !a.ip().is_loopback()) {
        note(format!("warning: {address} can be reached from other machines; nothing protects it"));
    }
}

fn print_token(user: &UserId, scope: Option<&str>) -> Result {
    say(token::issue_with_scope(user, scope, SystemClock.now())?);
    Ok(())
}

async fn stats(api: std::net::SocketAddr, json: bool) -> Result {
    let (status, body) = http::call(api, "GET", "/_local/stats", None, None)
        .await
        .map_err(|error| format!("{error}. Is `cargo dev` running there? --api-addr says where"))?;
    if status != 200 {
        return Err(format!("the system returned {status}: {body}").into());
    }
    if json {
        say(serde_json::to_string_pretty(&body)?);
    } else {
        say(serde_json::from_value::<Stats>(body)?.to_text().trim_end());
    }
    Ok(())
}

/// The embedded DynamoDB warns of each response that is an error. A table that exists and a condition
/// that does not hold are ordinary here, so a filter that wants these warnings has to name it.
const DEFAULT_LOG: &str = "dynoxide=error";

/// Logs as text to stderr.
fn logs(filter: &str) -> Result {
    let filter = EnvFilter::try_new(format!("{DEFAULT_LOG},{filter}"))
        .map_err(|error| format!("--log: {error}"))?;
    let ansi = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi);
    logs.with_writer(std::io::stderr).init();
    Ok(())
}
