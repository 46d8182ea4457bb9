//! Routes, queues, tables, metrics and saved queries are those of the code.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use webhooks_runtime::telemetry::{DIMENSION, NAMESPACE};
use webhooks_template::{Template, target};

use crate::recorder::Recorder;
use crate::source;

/// Fourteen days, the longest a queue keeps a message (AWS quota).
const LONGEST_RETENTION: u64 = 1_209_600;

#[test]
fn every_route_leads_to_its_function_and_needs_a_token() {
    let template = Template::deployed().unwrap();
    let deployed: BTreeSet<(String, String)> = template.routes().into_iter().collect();
    let known = webhooks_api::ROUTES.iter().map(|route| (route.key(), route.function.to_owned()));
    assert_eq!(deployed, known.collect());

    let auth = &template.properties("Api")["Auth"];
    assert_eq!(auth["DefaultAuthorizer"], "Jwt");
    assert!(auth["Authorizers"]["Jwt"]["JwtConfiguration"]["audience"].is_array());
    for (function, properties) in template.functions() {
        let events = properties["Events"].as_object().unwrap();
        let exempt = events.values().any(|event| event["Properties"].get("Auth").is_some());
        assert!(!exempt, "{function} has a route with rules of its own");
    }
}

#[test]
fn queues_fit_the_functions_behind_them() {
    let template = Template::deployed().unwrap();
    for trigger in template.triggers() {
        let queue = template.properties(&trigger.queue);
        let (_, function) = template.functions().find(|(f, _)| *f == trigger.function).unwrap();
        let timeout = function["Timeout"].as_u64().unwrap();
        assert!(queue["VisibilityTimeout"].as_u64().unwrap() >= 6 * timeout, "{}", trigger.queue);
        let events = function["Events"].as_object().unwrap();
        let partial = events
            .values()
            .all(|e| e["Properties"]["FunctionResponseTypes"][0] == "ReportBatchItemFailures");
        assert!(partial, "{}", trigger.function);
        let (dlq, _) = target(&queue["RedrivePolicy"]["deadLetterTargetArn"]).unwrap();
        assert!(template.properties(dlq).is_object());
    }
    for (name, queue) in template.resources("AWS::SQS::Queue") {
        let properties = &queue["Properties"];
        assert_eq!(properties["MessageRetentionPeriod"], LONGEST_RETENTION, "{name}");
        assert_eq!(properties["SqsManagedSseEnabled"], true, "{name}");
    }
}

#[tokio::test]
async fn tables_are_those_the_local_system_makes() {
    let template = Template::deployed().unwrap();
    let recorder = Recorder::start().await;
    let requests = recorder.tables().await;
    let made: Vec<&Value> = requests
        .iter()
        .filter(|(operation, _)| operation.ends_with(".CreateTable"))
        .map(|(_, body)| body)
        .collect();
    assert_eq!(made.len(), template.resources("AWS::DynamoDB::Table").count());
    for body in &made {
        let name = body["TableName"].as_str().unwrap();
        let deployed = template.properties(name);
        for part in ["BillingMode", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes"] {
            assert_eq!(deployed[part], body[part], "{name} {part}");
        }
    }
    let (_, ttl) =
        requests.iter().find(|(operation, _)| operation.ends_with(".UpdateTimeToLive")).unwrap();
    let deployed = &template.properties("DeliveriesTable")["TimeToLiveSpecification"];
    assert_eq!(*deployed, ttl["TimeToLiveSpecification"]);
    for (name, table) in template.resources("AWS::DynamoDB::Table") {
        assert_eq!(table["DeletionPolicy"], "Retain", "{name}");
        assert_eq!(table["Properties"]["DeletionProtectionEnabled"], true, "{name}");
        assert_eq!(table["Properties"]["SSESpecification"]["SSEEnabled"], true, "{name}");
    }
    let recovery = &template.properties("SubscriptionsTable")["PointInTimeRecoverySpecification"];
    assert_eq!(recovery["PointInTimeRecoveryEnabled"], true);
}

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

#[test]
fn metrics_that_are_watched_are_measured() {
    let template = Template::deployed().unwrap();
    let mut watched = BTreeSet::new();
    for object in objects(template.as_json()) {
        if object.get("Namespace").and_then(Value::as_str) == Some(NAMESPACE) {
            let dimension = &object["Dimensions"][0];
            assert_eq!(dimension["Name"], DIMENSION);
            let (function, _) = target(&dimension["Value"]).unwrap();
            watched
                .insert((function.to_owned(), object["MetricName"].as_str().unwrap().to_owned()));
        }
    }
    let dashboard = template.properties("Dashboard")["DashboardBody"]["Fn::Sub"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    for widget in dashboard["widgets"].as_array().unwrap() {
        for metric in widget["properties"]["metrics"].as_array().unwrap() {
            if metric[0] == NAMESPACE {
                assert_eq!(metric[2], DIMENSION);
                let function = metric[3].as_str().unwrap().trim_matches(['$', '{', '}']);
                watched.insert((function.to_owned(), metric[1].as_str().unwrap().to_owned()));
            }
        }
    }
    let mut measured = BTreeSet::new();
    for (resource, function) in template.resources("AWS::Serverless::Function") {
        let folder = function["Properties"]["CodeUri"].as_str().unwrap();
        let library = source::library(folder.strip_prefix("functions/").unwrap());
        for (at, prefix) in library.match_indices("metric.") {
            let rest = &library[at + prefix.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
            measured.insert((resource.to_owned(), rest[..end].to_owned()));
        }
    }
    assert_eq!(measured, watched);
}

#[test]
fn saved_queries_stand_in_the_docs() {
    let template = Template::deployed().unwrap();
    let mut deployed: Vec<&str> = template
        .resources("AWS::Logs::QueryDefinition")
        .map(|(_, query)| query["Properties"]["QueryString"].as_str().unwrap())
        .collect();
    let files = std::fs::read_dir(source::root().join("docs/queries")).unwrap();
    let mut documented: Vec<String> =
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    deployed.sort_unstable();
    documented.sort_unstable();
    assert_eq!(documented, deployed);
}

#[test]
fn every_alarm_is_in_the_runbook_and_names_it() {
    let template = Template::deployed().unwrap();
    let runbook = std::fs::read_to_string(source::root().join("docs/RUNBOOK.md")).unwrap();
    for (name, alarm) in template.resources("AWS::CloudWatch::Alarm") {
        let properties = &alarm["Properties"];
        let alarm_name = properties["AlarmName"]["Fn::Sub"].as_str().unwrap();
        let short = alarm_name.strip_prefix("${AWS::StackName}-").unwrap();
        assert!(runbook.contains(&format!("\n## {short}\n")), "{name}: no section `{short}`");
        assert_eq!(alarm["Condition"], "HasAlarms");
        assert!(properties["AlarmActions"].is_array());
    }
}
