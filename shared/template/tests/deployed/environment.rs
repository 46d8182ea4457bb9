//! Every environment variable stands both in the template and in the code.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use webhooks_aws::{Environment, Settings, config};
use webhooks_runtime::telemetry::LOG_LEVEL;
use webhooks_template::Template;

use crate::source;

/// Good values for every variable.
fn good(name: &str) -> Option<String> {
    let value = match name {
        config::DELIVERIES_QUEUE_URL | config::EVENTS_DLQ_URL => "https://sqs.example/1/queue",
        config::SECRETS_KEYS => "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        config::RETENTION_DAYS => "30",
        config::TARGET_POLICY => "strict",
        config::SUBSCRIPTIONS_TABLE | config::DELIVERIES_TABLE => "table",
        // Plain HTTP, so that no certificates are loaded.
        "AWS_ENDPOINT_URL" => "http://127.0.0.1:1",
        _ => return None,
    };
    Some(value.to_owned())
}

/// The variables that a method of [`Environment`] reads.
async fn read_by(method: &str) -> BTreeSet<String> {
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let names = asked.clone();
    let settings = Settings::new(move |name| {
        names.lock().unwrap().insert(name.to_owned());
        good(name)
    });
    let environment = Environment::of(settings).await;
    asked.lock().unwrap().clear();
    match method {
        "subscriptions" => drop(environment.subscriptions().await.unwrap()),
        "subscriptions_without_secrets" => {
            drop(environment.subscriptions_without_secrets().unwrap());
        }
        "deliveries" => drop(environment.deliveries().unwrap()),
        "deliveries_queue" => drop(environment.deliveries_queue().unwrap()),
        "events_dlq" => drop(environment.events_dlq().unwrap()),
        "target_policy" => drop(environment.target_policy()),
        "retention" => drop(environment.retention()),
        "retention_days" => drop(environment.retention_days()),
        "clock" => drop(environment.clock()),
        "random" => drop(environment.random()),
        _ => panic!("environment.{method} is not known here"),
    }
    let asked = asked.lock().unwrap();
    asked.clone()
}

fn names(variables: &Value) -> BTreeSet<String> {
    variables["Variables"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

#[tokio::test]
async fn each_function_is_given_the_variables_it_reads_and_no_others() {
    let template = Template::deployed().unwrap();
    for (function, properties) in template.functions() {
        let mut read = BTreeSet::new();
        for method in source::names_after(&source::main(function), "environment.") {
            read.extend(read_by(&method).await);
        }
        assert_eq!(names(&properties["Environment"]), read, "{function}");
    }
}

#[test]
fn every_variable_is_in_use() {
    let template = Template::deployed().unwrap();
    let globals = names(&template.as_json()["Globals"]["Function"]["Environment"]);
    assert_eq!(globals, BTreeSet::from([LOG_LEVEL.to_owned()]));
    let given: BTreeSet<String> = template
        .functions()
        .flat_map(|(_, properties)| names(&properties["Environment"]))
        .collect();
    assert_eq!(given, config::NAMES.map(str::to_owned).into());
}

#[test]
fn the_env_file_of_sam_local_has_every_variable() {
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
