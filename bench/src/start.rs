//! How soon the `dev` program is ready, and what it takes when nobody asks anything of it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use webhooks_local::http;
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;

use crate::Outcome;
use crate::report::Latencies;
use crate::world::text;

/// How long it is left alone before its memory is looked at.
const IDLE: Duration = Duration::from_secs(5);
const ANY_PORT: &str = "127.0.0.1:0";

/// Ends the program when it is dropped.
struct Dev(Child);

pub(crate) async fn run(dev: &Path, runs: u32) -> Outcome<bool> {
    let (mut rows, mut took) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let (ready, rss) = start(dev).await?;
        let millis = format!("{:.1}", ready.as_secs_f64() * 1000.0);
        rows.push(vec![run.to_string(), millis, rss]);
        took.push(ready);
    }
    say(format!("{}: from spawning it to /_local/ready, and its memory after {IDLE:?}", dev.display()));
    say(lay_out(&["run", "ready ms", "VmRSS"], &rows, &[0, 1, 2]));
    say(lay_out(&Latencies::HEADER, &[Latencies::new(took).cells()], &[0, 1, 2, 3, 4]));
    Ok(true)
}

/// Starts it once: how long it took, and its memory when idle.
async fn start(dev: &Path) -> Outcome<(Duration, String)> {
    let began = Instant::now();
    let mut child = Command::new(dev)
        .args(["--api-addr", ANY_PORT, "--sqs-addr", ANY_PORT])
        .args(["--dynamodb-addr", ANY_PORT, "--receiver-addr", ANY_PORT])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", dev.display()))?;
    let stdout = child.stdout.take();
    let child = Dev(child);
    let mut stdout = BufReader::new(stdout.ok_or("it has no stdout")?);
    let api = api_address(&mut stdout)?;
    let (status, answer) = http::call(api, "GET", "/_local/ready", None, None).await?;
    let ready = began.elapsed();
    if status != 200 {
        return Err(format!("/_local/ready answered {status}: {answer}"));
    }
    // Whoever stops reading a pipe stops the one who writes.
    let reader = std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
    tokio::time::sleep(IDLE).await;
    let rss = resident(child.0.id())?;
    drop(child);
    let _ = reader.join();
    Ok((ready, rss))
}

/// The address in the first line of the banner, `api  http://…`.
fn api_address(stdout: &mut BufReader<ChildStdout>) -> Outcome<std::net::SocketAddr> {
    let mut line = String::new();
    stdout.read_line(&mut line).map_err(text)?;
    let address = line.strip_prefix("api ").and_then(|url| url.trim().strip_prefix("http://"));
    address.and_then(|a| a.parse().ok()).ok_or_else(|| format!("it does not say where it is: {line:?}"))
}

/// The memory that a process has in RAM, as Linux tells it.
fn resident(pid: u32) -> Outcome<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(text)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map(|value| value.trim().to_owned()).ok_or_else(|| "it has no VmRSS".to_owned())
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
