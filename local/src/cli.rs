//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use webhooks_core::ids::UserId;

use crate::address;

/// The whole webhook service in one process, on this machine.
///
/// Without a command it starts the API, an SQS and a DynamoDB endpoint, what Lambda would run
/// behind them, and a receiver that prints the webhooks it receives. Ctrl-C stops it.
#[derive(Debug, Parser)]
#[command(name = "cargo dev", bin_name = "cargo dev", args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of starting the system.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to start the system.
    #[command(flatten)]
    pub serve: Serve,
}

/// What to do instead of starting the system.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a bearer token for a user and nothing else; it is valid for 24 hours
    Token {
        /// The user: the `user_id` of events, the owner of webhooks
        user: UserId,
        /// Restrict it to these scopes, such as "webhooks:read webhooks:test"
        #[arg(long, value_name = "SCOPES")]
        scope: Option<String>,
    },
    /// Show the main job from end to end in a temporary system, and stop
    Demo,
    /// Success rate of the last 24 hours, waiting retries and top failing webhooks of a running
    /// system
    Stats {
        /// Where the running system's API listens
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000", value_parser = address::parse)]
        api_addr: SocketAddr,
        /// Print JSON instead of tables
        #[arg(long)]
        json: bool,
    },
}

/// How to start the system.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Serve {
    /// Where the API listens; port 0 takes any free one, here and below
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000", value_parser = address::parse)]
    pub api_addr: SocketAddr,
    /// Where the SQS endpoint listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9324", value_parser = address::parse)]
    pub sqs_addr: SocketAddr,
    /// Where the DynamoDB endpoint listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000", value_parser = address::parse)]
    pub dynamodb_addr: SocketAddr,
    /// Where the receiver listens, which prints and verifies the webhooks it receives
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4000", value_parser = address::parse)]
    pub receiver_addr: SocketAddr,
    /// Keep tables and queues in this directory over a restart; without it they end with the process
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Guard outbound requests exactly as deployed: HTTPS to public addresses only, so that the
    /// local receiver is refused
    #[arg(long)]
    pub strict_targets: bool,
    /// Have endpoints prove that they want a webhook before anything is sent to them
    #[arg(long)]
    pub verify_endpoints: bool,
    /// Check the `data` of each event against the JSON Schema of its type, as with `StrictEventData=on`
    #[arg(long)]
    pub strict_event_data: bool,
    /// Resolve the hosts of webhooks through this name server instead of the system's, to see how the
    /// guard treats its responses
    #[arg(long, value_name = "ADDR", value_parser = address::parse)]
    pub name_server: Option<SocketAddr>,
    /// Print one line of JSON with all addresses and a token once everything is up, and nothing
    /// else; for programs
    #[arg(long)]
    pub json: bool,
    /// What to log to stderr, in the syntax of `RUST_LOG`
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "warn")]
    pub log: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("dev").chain(line.split_whitespace()))
    }

    #[test]
    fn definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_readme() {
        let serve = parse("").unwrap().serve;
        let addresses = [serve.api_addr, serve.sqs_addr, serve.dynamodb_addr, serve.receiver_addr];
        assert_eq!(addresses.map(|a| a.port()), [3000, 9324, 8000, 4000]);
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
        assert!(serve.data_dir.is_none() && serve.name_server.is_none());
        assert!(!serve.strict_targets && !serve.json);
    }

    #[test]
    fn unknown_and_incomplete_arguments_are_refused() {
        for bad in
            ["tokens", "token", "token a b", "--api-addr", "--api-addr x", "--api 1", "demo x"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let help = parse("--help").unwrap_err().to_string();
        for word in ["token", "demo", "stats", "--data-dir", "--strict-targets", "--receiver-addr"]
        {
            assert!(help.contains(word), "{word}");
        }
    }
}
