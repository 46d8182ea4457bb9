//! Each role allows exactly what its function does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use webhooks_template::{Template, target};

use crate::recorder::{Grant, Recorder};
use crate::source;

/// The policies of a role, as pairs of an action and a resource's name in the template.
fn allowed(template: &Template, role: &str) -> BTreeSet<Grant> {
    let properties = template.properties(role);
    assert!(
        properties.get("ManagedPolicyArns").is_none(),
        "{role}: managed policies allow too much"
    );
    let policies = properties["Policies"].as_array().unwrap().iter();
    policies.flat_map(|policy| grants(&policy["PolicyDocument"])).collect()
}

fn grants(document: &Value) -> BTreeSet<Grant> {
    let mut grants = BTreeSet::new();
    for statement in document["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        for action in one_or_more(&statement["Action"]) {
            for resource in one_or_more(&statement["Resource"]) {
                let action = action.as_str().unwrap();
                assert!(!action.contains('*'), "{action}");
                grants.insert((action.to_owned(), resource_name(resource)));
            }
        }
    }
    grants
}

fn one_or_more(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |many| many.iter().collect())
}

fn resource_name(resource: &Value) -> String {
    if let Some((name, attribute)) = target(resource) {
        assert!(attribute == "Arn" || attribute.is_empty());
        return name.to_owned();
    }
    if let Some(text) = resource["Fn::Sub"].as_str() {
        // `${Table.Arn}/index/due`, and the parameter at the end of an ARN.
        return match text.split_once("parameter${") {
            Some((_, name)) => name.trim_end_matches('}').to_owned(),
            None => text.replace("${", "").replace(".Arn}", ""),
        };
    }
    resource.as_str().unwrap().to_owned()
}

fn grant(action: &str, resource: &str) -> Grant {
    (action.to_owned(), resource.to_owned())
}

/// What a function must be allowed, from its code and its place in the template.
async fn needed(template: &Template, recorder: &Recorder, function: &str) -> BTreeSet<Grant> {
    let (_, properties) = template.functions().find(|(name, _)| *name == function).unwrap();
    let (logs, _) = target(&properties["LoggingConfig"]["LogGroup"]).unwrap();
    let mut needed = BTreeSet::from([
        grant("logs:CreateLogStream", logs),
        grant("logs:PutLogEvents", logs),
        // X-Ray knows no resources.
        grant("xray:PutTelemetryRecords", "*"),
        grant("xray:PutTraceSegments", "*"),
    ]);
    let main = source::main(function);
    for (port, method) in source::port_calls(&source::library(function)) {
        if !is_clone(&method) {
            needed.extend(recorder.grants(port, &method).await);
        }
    }
    for port in source::PORTS {
        if source::names_after(&main, &format!("{port}.")).contains("open_connection") {
            needed.extend(recorder.grants(port, "open_connection").await);
        }
    }
    if source::names_after(&main, "environment.").contains("subscriptions") {
        needed.insert(grant("secretsmanager:GetSecretValue", "SecretsKeysName"));
    }
    for trigger in template.triggers().iter().filter(|trigger| trigger.function == function) {
        for action in ["DeleteMessage", "GetQueueAttributes", "ReceiveMessage"] {
            needed.insert(grant(&format!("sqs:{action}"), &trigger.queue));
        }
    }
    needed
}

fn is_clone(method: &str) -> bool {
    method == "clone"
}

#[tokio::test]
async fn every_role_allows_what_its_function_does_and_no_more() {
    let template = Template::deployed().unwrap();
    let recorder = Recorder::start().await;
    for (function, properties) in template.functions() {
        let (role, _) = target(&properties["Role"]).unwrap();
        let (allowed, needed) =
            (allowed(&template, role), needed(&template, &recorder, function).await);
        let missing: Vec<_> = needed.difference(&allowed).collect();
        let needless: Vec<_> = allowed.difference(&needed).collect();
        assert!(missing.is_empty(), "{role} lacks {missing:?}");
        assert!(needless.is_empty(), "{role} need not have {needless:?}");
    }
}

#[test]
fn every_function_has_a_role_of_its_own() {
    let template = Template::deployed().unwrap();
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (function, properties) in template.functions() {
        users.entry(target(&properties["Role"]).unwrap().0).or_default().push(function);
    }
    assert!(users.values().all(|functions| functions.len() == 1), "{users:?}");
    let roles: BTreeSet<&str> =
        template.resources("AWS::IAM::Role").map(|(name, _)| name).collect();
    let known: BTreeSet<&str> = users.into_keys().chain(["SchedulerRole"]).collect();
    assert_eq!(roles, known);
}

#[test]
fn whoever_reads_the_keys_may_use_their_kms_key() {
    let template = Template::deployed().unwrap();
    let readers: BTreeSet<&str> = template
        .functions()
        .map(|(_, properties)| target(&properties["Role"]).unwrap().0)
        .filter(|role| {
            allowed(&template, role)
                .contains(&grant("secretsmanager:GetSecretValue", "SecretsKeysName"))
        })
        .collect();
    let policy = template.properties("SecretsKmsPolicy");
    let roles = policy["Roles"].as_array().unwrap().iter();
    assert_eq!(roles.map(|role| target(role).unwrap().0).collect::<BTreeSet<_>>(), readers);
    let expected = [grant("kms:Decrypt", "SecretsKmsKeyArn")];
    assert_eq!(grants(&policy["PolicyDocument"]), expected.into());
}

#[test]
fn publishers_and_schedules_may_do_one_thing() {
    let template = Template::deployed().unwrap();
    let publisher = &template.properties("PublisherPolicy")["PolicyDocument"];
    assert_eq!(grants(publisher), [grant("sqs:SendMessage", "EventsQueue")].into());
    assert_eq!(
        allowed(&template, "SchedulerRole"),
        [
            grant("lambda:InvokeFunction", "RetryFunction"),
            grant("lambda:InvokeFunction", "CleanupFunction"),
            grant("sqs:SendMessage", "SchedulesDlq"),
        ]
        .into()
    );
}
