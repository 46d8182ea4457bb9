//! Logs and metrics: one JSON object a line on the standard output, where Lambda collects them.
//!
//! A field `metric.NAME` makes a log line a measurement as well: the line then carries CloudWatch's
//! embedded metric format
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>),
//! so that `NAME` becomes a metric of this function without a request or an agent. All other fields
//! of the line are properties, which can be searched for but make no metric of their own. A name
//! that ends in `_ms` is measured in milliseconds, any other is a count. A metric can have up to 100
//! values: a list of numbers, given with `?`.
//!
//! ```text
//! tracing::info!(metric.attempts = 1, delivery_id = %id, "attempt");
//! ```
//!
//! Elsewhere, as in the local system, the same line is an ordinary log line.

use std::fmt;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatEvent, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime as Rfc3339};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt as lines, registry};

/// The least level of a log line that is written.
pub const LOG_LEVEL: &str = "LOG_LEVEL";
/// The CloudWatch namespace of the metrics.
pub const NAMESPACE: &str = "Webhooks";
/// The only dimension of the metrics: the function's name, which says the stack as well.
pub const DIMENSION: &str = "FunctionName";
/// The field of the runtime's span with Lambda's tracing header. Each invocation has one, also when X-Ray keeps
/// no trace of it.
const TRACE_ID: &str = "xrayTraceId";
/// What a field's name begins with when it is a metric.
const METRIC: &str = "metric.";
/// The beginnings of the targets of this repository's crates. All other crates are libraries: below
/// `info` some of them log whole events, with tokens and payloads, so they never log below it.
pub const OWN_TARGETS: [&str; 10] = [
    "webhooks_",
    "console",
    "event_types",
    "subscriptions",
    "test_webhook",
    "delivery_history",
    "dispatch",
    "deliver",
    "retry",
    "cleanup",
];

/// [`LOG_LEVEL`] cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the environment variable {LOG_LEVEL} must be `off`, `error`, `warn`, `info`, `debug` or `trace`"
)]
pub struct LevelError;

/// Starts the logs, unless something has started them already. With a level that cannot be read
/// they are started too, so that the error can be logged.
pub fn init() -> Result<(), LevelError> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
    let read = |name| std::env::var(name).ok();
    let level = level(read(LOG_LEVEL).as_deref());
    let function = read("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
    let least = level.unwrap_or(LevelFilter::INFO);
    let _ = subscriber(function, least, std::io::stdout).try_init();
    level.map(drop)
}

/// Writes the lines of a function from this level on. For [`init`], and for tests of what is logged.
pub fn subscriber<W>(
    function: String,
    level: LevelFilter,
    writer: W,
) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> lines::MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = lines::layer().fmt_fields(JsonFields::new()).event_format(Line { function });
    registry().with(lines.with_writer(writer).with_filter(filter(level)))
}

fn level(text: Option<&str>) -> Result<LevelFilter, LevelError> {
    match text.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "info") => Ok(LevelFilter::INFO),
        Some("off") => Ok(LevelFilter::OFF),
        Some("error") => Ok(LevelFilter::ERROR),
        Some("warn") => Ok(LevelFilter::WARN),
        Some("debug") => Ok(LevelFilter::DEBUG),
        Some("trace") => Ok(LevelFilter::TRACE),
        Some(_) => Err(LevelError),
    }
}

/// By the beginning of a line's target. No filter with patterns: it would bring an engine for them
/// into every function.
fn filter(level: LevelFilter) -> Targets {
    let own = OWN_TARGETS.map(|target| (target, level));
    Targets::new().with_default(level.min(LevelFilter::INFO)).with_targets(own)
}

/// Writes an event as one line.
struct Line {
    function: String,
}

impl<S> FormatEvent<S, JsonFields> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        let mut time = String::new();
        Rfc3339.format_time(&mut Writer::new(&mut time))?;
        line.insert("timestamp".to_owned(), time.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        // The fields of the runtime's own span: the request's id, and that of its trace where there is one.
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                line.extend(serde_json::from_str::<Map<_, _>>(fields).unwrap_or_default());
            }
        }
        let trace = line.get(TRACE_ID).and_then(Value::as_str);
        if trace.is_some_and(|trace| !trace.contains("Sampled=1")) {
            line.remove(TRACE_ID);
        }
        let mut fields = Fields { line, metrics: Vec::new() };
        event.record(&mut fields);
        let line = fields.finish(&self.function);
        writeln!(to, "{}", Value::Object(line))
    }
}

/// Gathers the fields of an event.
struct Fields {
    line: Map<String, Value>,
    metrics: Vec<String>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        let name = match field.name().strip_prefix(METRIC) {
            Some(metric) => {
                self.metrics.push(metric.to_owned());
                metric
            }
            None => field.name(),
        };
        self.line.insert(name.to_owned(), value);
    }

    fn finish(mut self, function: &str) -> Map<String, Value> {
        if self.metrics.is_empty() {
            return self.line;
        }
        let metrics: Vec<Value> = self.metrics.iter().map(|name| definition(name)).collect();
        self.line.insert(DIMENSION.to_owned(), function.into());
        self.line.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": epoch_millis(),
                "CloudWatchMetrics": [
                    {"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics}
                ],
            }),
        );
        self.line
    }
}

/// The definition of a metric. A count has no unit: CloudWatch needs none, and bills its bytes in each line.
fn definition(name: &str) -> Value {
    if name.ends_with("_ms") {
        json!({"Name": name, "Unit": "Milliseconds"})
    } else {
        json!({"Name": name})
    }
}

fn epoch_millis() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "logs carry the time they are written")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let is_metric = field.name().starts_with(METRIC);
        let value = is_metric.then(|| serde_json::from_str(&text).ok()).flatten();
        self.add(field, value.unwrap_or_else(|| text.into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::LogLines;

    fn lines(log: impl FnOnce()) -> Vec<Value> {
        let lines = LogLines::default();
        let writer = lines.clone();
        let subscriber =
            subscriber("dev-deliver".to_owned(), LevelFilter::INFO, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn line_is_one_object_with_the_request_it_belongs_to() {
        let lines = lines(|| {
            let _span = tracing::info_span!("invoke", requestId = "r-1").entered();
            tracing::warn!(
                tasks = 3,
                ratio = 0.5,
                ok = true,
                code = Some("x\ny"),
                "two\n\"words\""
            );
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "two\n\"words\"");
        assert_eq!(line["requestId"], "r-1");
        assert_eq!(line["tasks"], 3);
        assert_eq!(
            (&line["ratio"], &line["ok"], &line["code"]),
            (&json!(0.5), &json!(true), &json!("x\ny"))
        );
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(line.get("_aws").is_none());
    }

    #[test]
    fn line_names_the_trace_that_x_ray_keeps() {
        let line = |trace: &str| {
            let mut lines = lines(|| {
                let _span =
                    tracing::info_span!("invoke", requestId = "r", xrayTraceId = trace).entered();
                tracing::info!("line");
            });
            lines.remove(0)
        };
        let kept = "Root=1-5;Parent=6;Sampled=1";
        assert_eq!(line(kept)["xrayTraceId"], kept);
        assert_eq!(line("Root=1-5;Parent=6;Sampled=0").get("xrayTraceId"), None);
    }

    #[test]
    fn metric_is_measured_and_ids_are_properties() {
        let first: Option<u64> = Some(120);
        let none: Option<u64> = None;
        let lines = lines(|| {
            tracing::info!(
                metric.attempts = 1,
                metric.latency_ms = first,
                metric.waits_ms = ?[7, 120],
                metric.parked = none,
                delivery_id = "dlv_1",
                "attempt"
            );
        });
        let line = &lines[0];
        assert_eq!((&line["attempts"], &line["latency_ms"]), (&json!(1), &json!(120)));
        assert_eq!(line["waits_ms"], json!([7, 120]));
        assert_eq!(
            (&line["delivery_id"], &line[DIMENSION]),
            (&json!("dlv_1"), &json!("dev-deliver"))
        );
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(
            *directive,
            json!({
                "Namespace": "Webhooks",
                "Dimensions": [["FunctionName"]],
                "Metrics": [
                    {"Name": "attempts"},
                    {"Name": "latency_ms", "Unit": "Milliseconds"},
                    {"Name": "waits_ms", "Unit": "Milliseconds"},
                ],
            })
        );
        assert!(line["_aws"]["Timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    }

    #[test]
    fn libraries_never_log_below_info() {
        use tracing::Level;
        let debug = filter(LevelFilter::DEBUG);
        assert!(debug.would_enable("deliver::record", &Level::DEBUG));
        assert!(!debug.would_enable("deliver::record", &Level::TRACE));
        let trace = filter(LevelFilter::TRACE);
        assert!(trace.would_enable("webhooks_core::retry", &Level::TRACE));
        for target in ["lambda_runtime::layers::trace", "aws_smithy_runtime::client", "tower"] {
            assert!(trace.would_enable(target, &Level::INFO), "{target}");
            assert!(!trace.would_enable(target, &Level::DEBUG), "{target}");
        }
        let error = filter(LevelFilter::ERROR);
        assert!(!error.would_enable("hyper", &Level::WARN));
    }

    #[test]
    fn level_is_read_and_a_bad_one_named() {
        assert_eq!(level(None), Ok(LevelFilter::INFO));
        assert_eq!(level(Some("")), Ok(LevelFilter::INFO));
        assert_eq!(level(Some("WARN")), Ok(LevelFilter::WARN));
        assert_eq!(level(Some("loud")), Err(LevelError));
        let error = LevelError.to_string();
        assert!(error.contains("LOG_LEVEL must be ") && !error.contains('\n'), "{error}");
    }
}
