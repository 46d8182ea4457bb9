//! How soon the `dev` program is ready, and what it takes when nobody asks anything of it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use webhooks_local::http;
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::harness::text;

/// How long it is left alone before its memory is looked at.
const IDLE: Duration = Duration::from_secs(5);
const ANY_PORT: &str = "127.0.0.1:0";

/// Ends the program when it is dropped.
struct Dev(Child);

pub(crate) async fn run(dev: &Path, runs: usize) -> Outcome<bool> {
    let mut rows = Vec::new();
    for run in 1..=runs {
        let (ready, memory) = start(dev).await?;
        let ready = format!("{:.1} ms", ready.as_secs_f64() * 1000.0);
        rows.push(vec![run.to_string(), ready, memory]);
    }
    say(format!("Until /_local/ready answers 200, and the memory after {} s idle", IDLE.as_secs()));
    say(lay_out(&["run", "ready after", "VmRSS"], &rows, &[0, 1, 2]));
    Ok(true)
}

/// Starts it once: how long it took, and its memory when idle.
async fn start(dev: &Path) -> Outcome<(Duration, String)> {
    let began = Instant::now();
    let ports = ["--api-addr", "--sqs-addr", "--dynamodb-addr", "--receiver-addr"];
    let child = Command::new(dev)
        .args(ports.iter().flat_map(|flag| [flag, ANY_PORT]))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut dev = Dev(child.map_err(|error| format!("{}: {error}", dev.display()))?);
    // The pipe has room for all of the banner, whose first line says where the API is.
    let mut stdout = BufReader::new(dev.0.stdout.take().ok_or("it has no stdout")?);
    let mut line = String::new();
    stdout.read_line(&mut line).map_err(text)?;
    let api = line.strip_prefix("api ").and_then(|url| url.trim().strip_prefix("http://"));
    let api: Option<SocketAddr> = api.and_then(|address| address.parse().ok());
    let api = api.ok_or_else(|| format!("it does not say where it is: {line:?}"))?;
    let (status, answer) = http::call(api, "GET", "/_local/ready", None, None).await?;
    let ready = began.elapsed();
    if status != 200 {
        return Err(format!("/_local/ready answered {status}: {answer}"));
    }
    tokio::time::sleep(IDLE).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", dev.0.id())).map_err(text)?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok((ready, memory.ok_or("it has no VmRSS")?.trim().to_owned()))
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
