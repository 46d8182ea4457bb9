//! The command line.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use url::Url;
use webhooks_core::time::Timestamp;

use crate::input::{JsonInput, Moment};

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 done with a failure as the result; 2 usage; 3 not found; 4 refused; \
5 the service is unavailable.";

/// Webhooks on the command line: create and change them, watch their deliveries, publish events,
/// receive webhooks on this machine, and find out why a signature is not valid.
#[derive(Debug, Parser)]
#[command(name = "webhooks", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command accepts.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The API of the service, instead of the one of `webhooks login`
    #[arg(long, global = true, env = "WEBHOOKS_API_URL", value_name = "URL")]
    pub(crate) api_url: Option<Url>,
    /// The bearer token, instead of the one of `webhooks login`; better in the environment, because
    /// other users of a machine can see command lines
    #[arg(long, global = true, env = "WEBHOOKS_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// The file in which `webhooks login` saves URL and token
    #[arg(long, global = true, env = "WEBHOOKS_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON, as the API answers it; commands that watch print one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print ids only, one a line
    #[arg(short, long, global = true, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Save which service to use, and the token; without arguments the local system, `cargo dev`
    Login(Login),
    /// List the event types of the catalogue
    EventTypes,
    /// Create a webhook; prints its secret, which is not shown again
    Create(Create),
    /// List the webhooks, newest first
    List,
    /// Show a webhook with its statistics
    Show(OneWebhook),
    /// Change the given settings of a webhook
    Update(Update),
    /// Pause a webhook
    Pause(OneWebhook),
    /// Resume a webhook that is paused or that the service has disabled
    Resume(OneWebhook),
    /// Delete a webhook; nothing more is sent to it, and its history is erased
    Delete(Delete),
    /// Replace the secret of a webhook; prints the new one, which is not shown again
    Rotate(Rotate),
    /// Make one attempt immediately and show the result
    Test(Test),
    /// List deliveries, newest first
    Deliveries(Deliveries),
    /// Show a delivery with its payload and every attempt
    ShowDelivery(OneDelivery),
    /// Send the event of a delivery again
    Redeliver(OneDelivery),
    /// Redeliver what failed in a time range
    Recover(Recover),
    /// List the recoveries of a webhook, or cancel one
    Recoveries(Recoveries),
    /// Show deliveries, failures and response times of a webhook over time
    Stats(Stats),
    /// Publish an event onto the events queue
    Publish(Publish),
    /// Publish the example that the catalogue has of an event type
    Trigger(Trigger),
    /// Receive webhooks on this machine: verify them, print them, forward them
    Listen(Listen),
    /// Find out whether the signature of a saved request is valid, and if not, why
    Verify(Verify),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Login {
    /// The API; of a deployed stack the output `ApiUrl`
    #[arg(value_name = "API_URL")]
    pub(crate) service: Option<Url>,
    /// Also save the URL of the events queue, for `publish` and `trigger`; of a deployed stack the
    /// output `EventsQueueUrl`
    #[arg(long, value_name = "URL")]
    pub(crate) queue_url: Option<Url>,
}

#[derive(Args, Debug)]
pub(crate) struct OneWebhook {
    /// The id of the webhook
    #[arg(value_name = "WEBHOOK")]
    pub(crate) id: String,
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Where to send the events
    #[arg(long)]
    pub(crate) url: String,
    /// Names and wildcards, such as task.completed,email.*
    #[arg(long, required = true, value_delimiter = ',', value_name = "TYPE,…")]
    pub(crate) event_types: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Args, Debug)]
pub(crate) struct Update {
    /// The id of the webhook
    #[arg(value_name = "WEBHOOK")]
    pub(crate) id: String,
    /// Where to send the events
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Names and wildcards, such as task.completed,email.*
    #[arg(long, value_delimiter = ',', value_name = "TYPE,…")]
    pub(crate) event_types: Option<Vec<String>>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Send this request header no more
    #[arg(long, value_name = "NAME")]
    pub(crate) remove_header: Vec<String>,
}

/// Settings that have a default. The service checks them.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// What the webhook is for; `none` removes it
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Only events whose `data` matches this EventBridge event pattern: JSON or @FILE; `none` removes it
    #[arg(long, value_name = "JSON")]
    pub(crate) filter: Option<JsonInput>,
    /// Send this request header with every attempt; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Retries after the first attempt, with the schedule `exponential`
    #[arg(long, value_name = "NUMBER")]
    pub(crate) retry_count: Option<u32>,
    /// `exponential`, `standard`, or waits in seconds such as 5,300,3600
    #[arg(long, value_name = "SCHEDULE")]
    pub(crate) retry_schedule: Option<String>,
    /// How long an attempt may take
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout_seconds: Option<u32>,
    /// Deliveries per second at most; `none` removes the limit
    #[arg(long, value_name = "NUMBER")]
    pub(crate) rate_limit: Option<String>,
    /// What happens to events while the webhook is paused
    #[arg(long, value_parser = PossibleValuesParser::new(["drop", "hold"]))]
    pub(crate) while_inactive: Option<String>,
    /// Whether what failed in an outage is redelivered when the endpoint is back
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) auto_recover: Option<bool>,
    /// The signature scheme
    #[arg(long, value_parser = PossibleValuesParser::new(["hmac", "ed25519"]))]
    pub(crate) signature: Option<String>,
    /// How long the history keeps payloads
    #[arg(long, value_parser = PossibleValuesParser::new(["retention", "until_success"]))]
    pub(crate) keep_payload: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// The id of the webhook
    #[arg(value_name = "WEBHOOK", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) id: Option<String>,
    /// Delete every webhook
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Rotate {
    /// The id of the webhook
    #[arg(value_name = "WEBHOOK")]
    pub(crate) id: String,
    /// How long the previous secret also signs; a day by default
    #[arg(long, value_name = "SECONDS")]
    pub(crate) overlap_seconds: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct Test {
    /// The id of the webhook
    #[arg(value_name = "WEBHOOK")]
    pub(crate) id: String,
    /// The event type; by default the first one that the webhook wants
    #[arg(long, value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// The `data` of the event: JSON, @FILE, or @- for stdin; by default the example of the type
    #[arg(long, value_name = "JSON")]
    pub(crate) data: Option<JsonInput>,
}

#[derive(Args, Debug)]
pub(crate) struct Deliveries {
    /// Only those of this webhook
    #[arg(value_name = "WEBHOOK")]
    pub(crate) id: Option<String>,
    /// Keep watching, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only those that failed
    #[arg(long, conflicts_with = "status")]
    pub(crate) failed: bool,
    /// Only those with this status
    #[arg(long, value_parser = PossibleValuesParser::new(["retrying", "success", "failed", "held"]))]
    pub(crate) status: Option<String>,
    /// Only those of this event type
    #[arg(long, value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Only those of this event
    #[arg(long, value_name = "EVENT")]
    pub(crate) event_id: Option<String>,
    /// Only those of events since this time: RFC 3339, or a duration such as 90m, 6h or 2d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Only those of events before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// How many to list at most
    #[arg(short = 'n', long, default_value_t = 20, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

#[derive(Args, Debug)]
pub(crate) struct OneDelivery {
    /// The id of the delivery
    #[arg(value_name = "DELIVERY")]
    pub(crate) id: String,
    /// Its webhook; without it, all webhooks are asked
    #[arg(long, value_name = "WEBHOOK")]
    pub(crate) webhook: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Recover {
    /// The id of the webhook
    #[arg(value_name = "WEBHOOK")]
    pub(crate) id: String,
    /// Deliveries of events since this time: RFC 3339, or a duration such as 90m, 6h or 2d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Moment,
    /// Deliveries of events before this time; now by default
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// Redeliver what succeeded instead
    #[arg(long, value_parser = PossibleValuesParser::new(["failed", "success"]))]
    pub(crate) status: Option<String>,
    /// Only these event types
    #[arg(long, value_delimiter = ',', value_name = "TYPE,…")]
    pub(crate) event_types: Option<Vec<String>>,
    /// Only count
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not wait until it is done
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) no_wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Recoveries {
    /// The id of the webhook
    #[arg(value_name = "WEBHOOK")]
    pub(crate) id: String,
    /// Cancel this recovery; what it has sent by then is still delivered
    #[arg(long, value_name = "RECOVERY")]
    pub(crate) cancel: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// The id of the webhook
    #[arg(value_name = "WEBHOOK")]
    pub(crate) id: String,
    /// How long a bucket is
    #[arg(long, default_value = "hour", value_parser = PossibleValuesParser::new(["hour", "day"]))]
    pub(crate) bucket: String,
    /// From this time: RFC 3339, or a duration such as 12h or 7d; by default a day of hours, or 30 days
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Until this time; now by default
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
}

/// Where events are published, and whose they are.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// Whose event it is; by default the user of the token
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// The id of the event; by default a random one
    #[arg(long, value_name = "ID")]
    pub(crate) event_id: Option<String>,
    /// The events queue, instead of the one of `webhooks login`. AWS credentials and region are those
    /// of the environment or the profile
    #[arg(long, env = "WEBHOOKS_QUEUE_URL", value_name = "URL")]
    pub(crate) queue_url: Option<Url>,
}

#[derive(Args, Debug)]
pub(crate) struct Publish {
    /// The event type
    #[arg(value_name = "TYPE")]
    pub(crate) event_type: String,
    /// The `data` of the event: JSON, @FILE, or @- for stdin
    #[arg(long, value_name = "JSON")]
    pub(crate) data: JsonInput,
    /// When it happened, RFC 3339; now by default
    #[arg(long, value_name = "TIME")]
    pub(crate) occurred_at: Option<Moment>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Args, Debug)]
pub(crate) struct Trigger {
    /// The event type
    #[arg(value_name = "TYPE")]
    pub(crate) event_type: String,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Args, Debug)]
pub(crate) struct Listen {
    /// Send every request to this URL, too, and answer with its status
    #[arg(long, value_name = "URL")]
    pub(crate) forward_to: Option<Url>,
    /// Names and wildcards of event types
    #[arg(long, value_delimiter = ',', default_value = "*", value_name = "TYPE,…")]
    pub(crate) event_types: Vec<String>,
    /// Take new deliveries from the history, as with a deployed service, which cannot reach this
    /// machine; only of this webhook, or with `all` of every one
    #[arg(long, value_name = "WEBHOOK", num_args = 0..=1, default_missing_value = "all")]
    pub(crate) from_history: Option<String>,
    /// Sign what is taken from the history with this secret; by default with a new one, which is
    /// printed
    #[arg(long, env = "WEBHOOKS_SECRET", hide_env_values = true, value_name = "WHSEC")]
    pub(crate) secret: Option<String>,
    /// End after this many requests
    #[arg(long, value_name = "NUMBER")]
    pub(crate) count: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The saved request, or - for stdin: raw HTTP, or JSON with `headers` and `body`, such as the event
    /// of a Lambda function behind API Gateway
    #[arg(value_name = "FILE", required_unless_present_all = ["headers", "body"], conflicts_with_all = ["headers", "body"])]
    pub(crate) request: Option<PathBuf>,
    /// The headers, one a line; with --body instead of FILE
    #[arg(long, value_name = "FILE", requires = "body")]
    pub(crate) headers: Option<PathBuf>,
    /// The body, byte for byte; with --headers instead of FILE
    #[arg(long, value_name = "FILE", requires = "headers")]
    pub(crate) body: Option<PathBuf>,
    /// A secret to try; may be given several times
    #[arg(
        long,
        env = "WEBHOOKS_SECRET",
        hide_env_values = true,
        value_name = "WHSEC",
        value_delimiter = ','
    )]
    pub(crate) secret: Vec<String>,
    /// A public key to try; may be given several times
    #[arg(long, value_name = "WHPK")]
    pub(crate) public_key: Vec<String>,
    /// When the request was received; now by default
    #[arg(long, value_name = "TIME")]
    pub(crate) received_at: Option<Moment>,
}

impl Moment {
    /// The moment, seen from now.
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Absolute(moment) => moment,
            Self::Ago(duration) => now.minus(duration),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn incomplete_and_contradictory_arguments_are_refused() {
        for line in [
            "create --url https://example.com",
            "delete",
            "delete wh_1 --all",
            "deliveries --failed --status success",
            "deliveries --limit 0",
            "verify",
            "verify --headers h",
            "verify r --body b",
            "recover wh_1",
            "list --json --quiet",
            "publish task.created --data {",
            "stats wh_1 --since yesterday",
        ] {
            let words = std::iter::once("webhooks").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
