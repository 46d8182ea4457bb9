//! Logs: one JSON object a line on the standard output, where Lambda collects them.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Libraries that log requests and connections in detail; below `info` their lines would bury
/// ours, and could show what was sent.
const QUIET: [&str; 6] = ["aws", "hyper", "h2", "rustls", "reqwest", "hickory"];

/// Starts the logs, unless something has started them already.
pub fn init(level: LevelFilter) {
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_ansi(false)
        .with_env_filter(filter(level))
        .try_init();
}

fn filter(level: LevelFilter) -> EnvFilter {
    let quiet = level.min(LevelFilter::INFO);
    let directives: Vec<String> = std::iter::once(level.to_string())
        .chain(QUIET.iter().map(|library| format!("{library}={quiet}")))
        .collect();
    EnvFilter::new(directives.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_stay_quiet() {
        let debug = filter(LevelFilter::DEBUG).to_string();
        assert!(debug.contains("aws=info") && debug.contains("debug"), "{debug}");
        let error = filter(LevelFilter::ERROR).to_string();
        assert!(error.contains("hyper=error"), "{error}");
    }
}
