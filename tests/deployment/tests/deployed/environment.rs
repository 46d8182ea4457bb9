//! Every environment variable is both in the template and in the code.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use webhooks_aws::{ConfigError, Environment, Settings, config};
use webhooks_local::template::Template;
use webhooks_runtime::telemetry::{LOG_LEVEL, OWN_TARGETS};

use crate::{Change, assert_found, at, changed, remove, source};

/// Good values for every variable.
fn good(name: &str) -> Option<String> {
    let value = match name {
        config::DELIVERIES_QUEUE_URL
        | config::DELIVERIES_SLOW_QUEUE_URL
        | config::EVENTS_DLQ_URL => "https://sqs.example/1/queue",
        config::SECRETS_KEYS => "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        config::OPERATIONAL_EVENT_BUS => "bus",
        config::RETENTION_DAYS => "30",
        config::DEFAULT_RETRY_SCHEDULE => "standard",
        config::TARGET_POLICY => "strict",
        config::ENDPOINT_VERIFICATION | config::STRICT_EVENT_DATA => "off",
        config::SUBSCRIPTIONS_TABLE | config::DELIVERIES_TABLE => "table",
        "AWS_REGION" => "us-east-1",
        // Plain HTTP, so that no certificates are loaded.
        "AWS_ENDPOINT_URL" => "http://127.0.0.1:1",
        _ => return None,
    };
    Some(value.to_owned())
}

/// The environment, writing down what is read of it.
struct Reader {
    environment: Environment,
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl Reader {
    fn new() -> Self {
        let asked = Arc::new(Mutex::new(BTreeSet::new()));
        let names = asked.clone();
        let settings = Settings::new(move |name| {
            // Those that begin so are Lambda's own, or for endpoints on this machine.
            if !name.starts_with("AWS_") {
                names.lock().unwrap().insert(name.to_owned());
            }
            good(name)
        });
        Self { environment: Environment::of(settings), asked }
    }
}

/// The variables that a method of [`Environment`] reads.
async fn read_by(reader: &Reader, method: &str) -> BTreeSet<String> {
    let Reader { environment, asked } = reader;
    asked.lock().unwrap().clear();
    match method {
        "subscriptions" => drop(environment.subscriptions().unwrap()),
        "sealer" => drop(environment.sealer().await.unwrap()),
        "deliveries" => drop(environment.deliveries().unwrap()),
        "deliveries_queue" => drop(environment.deliveries_queue().unwrap()),
        "deliveries_slow_queue" => drop(environment.deliveries_slow_queue().unwrap()),
        "events_dlq" => drop(environment.events_dlq().unwrap()),
        "endpoint_verification" => drop(environment.endpoint_verification()),
        "strict_event_data" => drop(environment.strict_event_data()),
        "operational_event_bus" => drop(environment.operational_event_bus()),
        "target_policy" => drop(environment.target_policy()),
        "default_retry_schedule" => drop(environment.default_retry_schedule()),
        "retention" => drop(environment.retention()),
        "problem_base_url" => drop(environment.problem_base_url()),
        "retention_days" => drop(environment.retention_days()),
        // Lambda sets the variables with the addresses of services, or they are absent.
        "opening" => drop(environment.opening(&[], async { Ok::<_, ConfigError>(()) }).await),
        "clock" => drop(environment.clock()),
        "timer" => drop(environment.timer()),
        "random" => drop(environment.random()),
        _ => panic!("environment.{method} is not known here"),
    }
    let asked = asked.lock().unwrap();
    asked.clone()
}

fn names(variables: &Value) -> BTreeSet<String> {
    variables["Variables"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// What the `main` of a function reads; `main` has no white space.
async fn read_by_main(reader: &Reader, main: &str) -> BTreeSet<String> {
    let mut read = BTreeSet::new();
    for method in source::names_after(main, "environment.") {
        read.extend(read_by(reader, &method).await);
    }
    // The console needs no AWS client, so it reads its variables itself.
    if main.contains("Settings::from_environment()") {
        read.extend(console::NAMES.map(str::to_owned));
    }
    read
}

/// Where a function is not given what it reads.
async fn findings_of(
    reader: &Reader,
    function: &str,
    properties: &Value,
    main: &str,
) -> Vec<String> {
    let (given, read) = (names(&properties["Environment"]), read_by_main(reader, main).await);
    let missing = read.difference(&given).map(|name| format!("{function} is not given {name}"));
    let needless = given.difference(&read).map(|name| format!("{function} does not read {name}"));
    missing.chain(needless).collect()
}

async fn findings(reader: &Reader, template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    let mut given = BTreeSet::new();
    for (function, properties) in template.functions() {
        found.extend(findings_of(reader, function, properties, &source::main(function)).await);
        given.extend(names(&properties["Environment"]));
    }
    for name in config::NAMES.iter().filter(|name| !given.contains(**name)) {
        found.push(format!("no function is given {name}"));
    }
    let globals = names(&template.as_json()["Globals"]["Function"]["Environment"]);
    if globals != BTreeSet::from([LOG_LEVEL.to_owned()]) {
        found.push(format!("every function is given {globals:?}, and reads {LOG_LEVEL}"));
    }
    found
}

#[tokio::test]
async fn each_function_is_given_the_variables_it_reads_and_no_others() {
    let found = findings(&Reader::new(), Template::deployed()).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn variable_missing_on_one_side_is_found() {
    let reader = Reader::new();
    let changes: [Change; 4] = [
        ("retry is not given DELIVERIES_SLOW_QUEUE_URL", |t| {
            let path = "RetryFunction/Properties/Environment/Variables";
            remove(t, path, "DELIVERIES_SLOW_QUEUE_URL");
        }),
        ("retry does not read TARGET_POLICY", |t| {
            at(t, "RetryFunction/Properties/Environment/Variables")["TARGET_POLICY"] =
                "strict".into();
        }),
        ("no function is given EVENTS_DLQ_URL", |t| {
            remove(t, "DispatchFunction/Properties/Environment/Variables", "EVENTS_DLQ_URL");
        }),
        ("every function is given", |t| {
            t["Globals"]["Function"]["Environment"]["Variables"]["RUST_LOG"] = "info".into();
        }),
    ];
    for (what, change) in changes {
        assert_found(what, &findings(&reader, &changed(change)).await);
    }
    let template = Template::deployed();
    let (function, properties) = template.functions().find(|(f, _)| *f == "retry").unwrap();
    let main = source::main(function) + "environment.target_policy()";
    let found = findings_of(&reader, function, properties, &main).await;
    assert_found("retry is not given TARGET_POLICY", &found);
}

#[test]
fn every_function_logs_below_info() {
    let template = Template::deployed();
    for (function, _) in template.functions() {
        let krate = function.replace('-', "_");
        let is_own = OWN_TARGETS.iter().any(|target| krate.starts_with(target));
        assert!(is_own, "{function} is missing in webhooks_runtime::telemetry::OWN_TARGETS");
    }
}

#[test]
fn env_file_of_sam_local_has_every_variable() {
    let text = std::fs::read_to_string(source::root().join("events/env.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let given: BTreeSet<&str> =
        file["Parameters"].as_object().unwrap().keys().map(String::as_str).collect();
    let ours: BTreeSet<&str> = config::NAMES.into_iter().chain([LOG_LEVEL]).collect();
    let missing: Vec<_> = ours.difference(&given).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let foreign: Vec<_> = given.difference(&ours).filter(|n| !n.starts_with("AWS_")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}
