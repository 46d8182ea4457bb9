//! What is measured is watched, what is watched is measured, and every alarm is explained.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use webhooks_local::template::{Template, target};
use webhooks_runtime::telemetry::{DIMENSION, NAMESPACE};

use crate::{Change, assert_found, at, changed, source};

/// A function's resource and a metric of it.
type Metric = (String, String);

/// Every object anywhere in a value.
fn objects(value: &Value) -> Vec<&Map<String, Value>> {
    match value {
        Value::Object(object) => {
            std::iter::once(object).chain(object.values().flat_map(objects)).collect()
        }
        Value::Array(items) => items.iter().flat_map(objects).collect(),
        _ => Vec::new(),
    }
}

/// Our metrics that alarms look at.
fn alarmed(template: &Template) -> BTreeSet<Metric> {
    let mut metrics = BTreeSet::new();
    for object in objects(template.as_json()) {
        if object.get("Namespace").and_then(Value::as_str) == Some(NAMESPACE) {
            let dimension = &object["Dimensions"][0];
            assert_eq!(dimension["Name"], DIMENSION);
            let (function, _) = target(&dimension["Value"]).unwrap();
            metrics
                .insert((function.to_owned(), object["MetricName"].as_str().unwrap().to_owned()));
        }
    }
    metrics
}

/// Our metrics on the dashboard.
fn shown(template: &Template) -> BTreeSet<Metric> {
    let body = template.properties("Dashboard")["DashboardBody"]["Fn::Sub"].as_str().unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let mut metrics = BTreeSet::new();
    for widget in body["widgets"].as_array().unwrap() {
        for metric in widget["properties"]["metrics"].as_array().unwrap() {
            if metric[0] == NAMESPACE {
                assert_eq!(metric[2], DIMENSION);
                let function = metric[3].as_str().unwrap().trim_matches(['$', '{', '}']);
                metrics.insert((function.to_owned(), metric[1].as_str().unwrap().to_owned()));
            }
        }
    }
    metrics
}

/// The metrics that a function's source measures.
fn measured(library: &str) -> BTreeSet<String> {
    let starts = library.match_indices("metric.").map(|(at, prefix)| &library[at + prefix.len()..]);
    starts
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            rest[..end].to_owned()
        })
        .collect()
}

fn metrics(template: &Template) -> Vec<String> {
    let mut known = BTreeSet::new();
    for (resource, function) in template.resources("AWS::Serverless::Function") {
        let folder = function["Properties"]["CodeUri"].as_str().unwrap();
        let library = source::library(folder.strip_prefix("functions/").unwrap());
        known.extend(measured(&library).into_iter().map(|metric| (resource.to_owned(), metric)));
    }
    let (alarmed, shown) = (alarmed(template), shown(template));
    let unmeasured = alarmed
        .union(&shown)
        .filter(|metric| !known.contains(metric))
        .map(|(function, metric)| format!("{function} does not measure {metric}"));
    let unseen = known.difference(&shown);
    unmeasured
        .chain(unseen.map(|(function, metric)| format!("{metric} of {function} is not shown")))
        .collect()
}

fn alarms(template: &Template, runbook: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for (resource, alarm) in template.resources("AWS::CloudWatch::Alarm") {
        let properties = &alarm["Properties"];
        let name = properties["AlarmName"]["Fn::Sub"].as_str().unwrap_or_default();
        let name = name.strip_prefix("${AWS::StackName}-").unwrap_or(name);
        names.insert(name);
        if !runbook.contains(&format!("\n## {name}\n")) {
            found.push(format!("the runbook says nothing of {name}"));
        }
        let topic = json!([{"Ref": "AlarmTopicArn"}]);
        let is_conditional = ["HasAlarms", "HasAllAlarms"].iter().any(|c| alarm["Condition"] == *c);
        if !is_conditional || properties["AlarmActions"] != topic {
            found.push(format!("{resource} tells nobody"));
        }
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    // The names of alarms are lower case, other titles are not.
    let explained = sections.filter(|title| title.starts_with(char::is_lowercase));
    found.extend(
        explained
            .filter(|title| !names.contains(title))
            .map(|title| format!("there is no alarm {title}")),
    );
    found
}

fn findings(template: &Template) -> Vec<String> {
    let runbook = std::fs::read_to_string(source::root().join("docs/RUNBOOK.md")).unwrap();
    let mut found = metrics(template);
    found.extend(alarms(template, &runbook));
    found
}

#[test]
fn metrics_are_watched_and_alarms_explained() {
    let found = findings(Template::deployed());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn unwatched_metric_or_unexplained_alarm_is_found() {
    let changes: [Change; 5] = [
        ("DeliverFunction does not measure latency", |t| {
            at(t, "FirstAttemptLatencyAlarm/Properties")["MetricName"] = "latency".into();
        }),
        ("events_rejected of DispatchFunction is not shown", |t| {
            let body = &mut at(t, "Dashboard/Properties")["DashboardBody"]["Fn::Sub"];
            *body = body.as_str().unwrap().replace("\"events_rejected\"", "\"events\"").into();
        }),
        ("DispatchFunction does not measure events", |t| {
            let body = &mut at(t, "Dashboard/Properties")["DashboardBody"]["Fn::Sub"];
            *body = body.as_str().unwrap().replace("\"events_rejected\"", "\"events\"").into();
        }),
        ("the runbook says nothing of new", |t| {
            at(t, "ThrottlesAlarm/Properties")["AlarmName"] =
                json!({"Fn::Sub": "${AWS::StackName}-new"});
        }),
        ("ThrottlesAlarm tells nobody", |t| {
            at(t, "ThrottlesAlarm/Properties")["AlarmActions"] = json!([]);
        }),
    ];
    for (what, change) in changes {
        assert_found(what, &findings(&changed(change)));
    }
    let deployed = Template::deployed();
    assert_found("the runbook says nothing of throttles", &alarms(deployed, ""));
    assert_found("there is no alarm fire", &alarms(deployed, "\n## fire\n"));
}
