//! Routes, queues, tables and saved queries agree with the code.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use webhooks_local::template::{Template, target};

use crate::recorder::Recorder;
use crate::{Change, assert_found, at, changed, remove, source};

/// Fourteen days, the longest a queue keeps a message (AWS quota).
const LONGEST_RETENTION: u64 = 1_209_600;

fn routes(template: &Template) -> Vec<String> {
    let routes = template.routes();
    let deployed: BTreeSet<(String, String)> = routes
        .map(|route| (format!("{} {}", route.method, route.path), route.function.to_owned()))
        .collect();
    let known = webhooks_api::ROUTES.iter().chain(webhooks_api::FALLBACK_ROUTES);
    let known: BTreeSet<(String, String)> =
        known.map(|route| (route.key(), route.function.to_owned())).collect();
    let difference = deployed.symmetric_difference(&known);
    let mut found: Vec<String> = difference
        .map(|(route, function)| format!("{route} of {function} is not in both"))
        .collect();
    let api = template.properties("Api");
    let auth = &api["Auth"];
    let jwt = &auth["Authorizers"]["Jwt"]["JwtConfiguration"];
    if auth["DefaultAuthorizer"] != "Jwt"
        || jwt["issuer"] != json!({"Ref": "JwtIssuer"})
        || jwt["audience"] != json!([{"Ref": "JwtAudience"}])
    {
        found.push("tokens are not checked".to_owned());
    }
    if !api["DefaultRouteSettings"]["ThrottlingRateLimit"].is_number() {
        found.push("the API is not throttled".to_owned());
    }
    for (function, properties) in template.functions() {
        for (name, event) in properties["Events"].as_object().unwrap() {
            let properties = &event["Properties"];
            let key = format!("{} {}", text(&properties["Method"]), text(&properties["Path"]));
            let is_public = webhooks_api::ROUTES.iter().any(|r| r.is_public && r.key() == key);
            let expected = is_public.then(|| json!({"Authorizer": "NONE"}));
            if properties.get("Auth") != expected.as_ref() {
                found.push(format!(
                    "{name} of {function} has other rules for tokens than in the code"
                ));
            }
        }
    }
    found
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn queues(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    for trigger in template.triggers() {
        let queue = template.properties(&trigger.queue);
        let (_, function) = template.functions().find(|(f, _)| *f == trigger.function).unwrap();
        let timeout = function["Timeout"].as_u64().unwrap();
        if queue["VisibilityTimeout"].as_u64().unwrap_or(30) < 6 * timeout {
            found.push(format!("{} is visible again too soon", trigger.queue));
        }
        for event in function["Events"].as_object().unwrap().values() {
            if event["Properties"]["FunctionResponseTypes"][0] != "ReportBatchItemFailures" {
                found.push(format!("{} cannot report one record", trigger.function));
            }
        }
        found.extend(dead_letter_queue(template, &trigger.queue));
    }
    let queues: Vec<_> = template.resources("AWS::SQS::Queue").collect();
    for (name, queue) in &queues {
        let properties = &queue["Properties"];
        if properties["MessageRetentionPeriod"] != LONGEST_RETENTION {
            found.push(format!("{name} keeps messages for less than 14 days"));
        }
        if properties["SqsManagedSseEnabled"] != true {
            found.push(format!("{name} is not encrypted"));
        }
    }
    let policy = template.properties("QueuesOverTlsOnly");
    let over_tls = policy["Queues"].as_array().into_iter().flatten();
    let over_tls: BTreeSet<&str> = over_tls.filter_map(|queue| Some(target(queue)?.0)).collect();
    if over_tls != queues.iter().map(|(name, _)| *name).collect() {
        found.push(format!("only {over_tls:?} insist on TLS"));
    }
    found
}

/// Whether a queue and its dead-letter queue know each other, and no other.
fn dead_letter_queue(template: &Template, queue: &str) -> Option<String> {
    let name = &template.properties(queue)["QueueName"]["Fn::Sub"];
    let redrive = &template.properties(queue)["RedrivePolicy"];
    let (dlq, _) = target(&redrive["deadLetterTargetArn"])?;
    let allow = &template.properties(dlq)["RedriveAllowPolicy"];
    let end = format!(":{}", name.as_str()?);
    let mut sources = allow["sourceQueueArns"].as_array()?.iter();
    let knows =
        sources.any(|source| source["Fn::Sub"].as_str().is_some_and(|arn| arn.ends_with(&end)));
    let is_good = knows && allow["redrivePermission"] == "byQueue";
    (!is_good).then(|| format!("{dlq} does not accept messages from {queue} alone"))
}

async fn tables(template: &Template, recorder: &Recorder) -> Vec<String> {
    let mut found = Vec::new();
    let requests = recorder.tables().await;
    let made = requests.iter().filter(|(operation, _)| operation.ends_with(".CreateTable"));
    let mut known = BTreeSet::new();
    for (_, body) in made {
        let name = body["TableName"].as_str().unwrap();
        known.insert(name);
        let deployed = template.properties(name);
        for part in ["BillingMode", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes"] {
            if deployed[part] != body[part] {
                found.push(format!("{name} has another {part} than the local one"));
            }
        }
    }
    let (_, ttl) =
        requests.iter().find(|(operation, _)| operation.ends_with(".UpdateTimeToLive")).unwrap();
    let deployed = &template.properties("DeliveriesTable")["TimeToLiveSpecification"];
    if *deployed != ttl["TimeToLiveSpecification"] {
        found.push("rows do not expire as the local ones".to_owned());
    }
    for (name, table) in template.resources("AWS::DynamoDB::Table") {
        if !known.contains(name) {
            found.push(format!("{name} is not known locally"));
        }
        if table["Properties"]["DeletionProtectionEnabled"]
            != json!({"Fn::If": ["IsProd", true, false]})
        {
            found.push(format!("{name} can be deleted in prod, or cannot elsewhere"));
        }
        if table["Properties"]["SSESpecification"]["SSEEnabled"] != true {
            found.push(format!("{name} is not encrypted with a KMS key"));
        }
    }
    let stateful = ["AWS::DynamoDB::Table", "AWS::SQS::Queue"];
    for (name, resource) in stateful.into_iter().flat_map(|kind| template.resources(kind)) {
        // What only tells of failed runs has nothing to keep.
        if name == "SchedulesDlq" {
            continue;
        }
        if resource.get("DeletionPolicy").is_none() || resource["UpdateReplacePolicy"] != "Retain" {
            found.push(format!("{name} goes with the stack"));
        } else if resource["DeletionPolicy"] != "RetainExceptOnCreate" {
            found.push(format!("{name} outlives a first deployment that fails"));
        }
    }
    let recovery = &template.properties("SubscriptionsTable")["PointInTimeRecoverySpecification"];
    if recovery["PointInTimeRecoveryEnabled"] != true {
        found.push("the Subscriptions table cannot be restored".to_owned());
    }
    found
}

fn functions(template: &Template) -> Vec<String> {
    let mut found = Vec::new();
    let all = template.as_json();
    let logging = &all["Globals"]["Function"]["LoggingConfig"];
    for (setting, map) in
        [("ApplicationLogLevel", "ApplicationLogLevels"), ("SystemLogLevel", "SystemLogLevels")]
    {
        let by_level = json!({"Fn::FindInMap": [map, "Lambda", {"Ref": "LogLevel"}]});
        if logging["LogFormat"] != "JSON" || logging[setting] != by_level {
            found.push(format!("functions do not log JSON, or {setting} is not that of LogLevel"));
        }
        let levels = &all["Mappings"][map]["Lambda"];
        let allowed = &all["Parameters"]["LogLevel"]["AllowedValues"];
        for level in allowed.as_array().into_iter().flatten() {
            if !levels[level.as_str().unwrap()].is_string() {
                found.push(format!("Lambda has no level for {}", level.as_str().unwrap()));
            }
        }
    }
    if all["Mappings"]["SystemLogLevels"]["Lambda"]["info"] != "WARN" {
        found.push("Lambda writes lines on each invocation that succeeds".to_owned());
    }
    for (function, properties) in template.functions() {
        let logs = target(&properties["LoggingConfig"]["LogGroup"]).map(|(name, _)| name);
        let kept = logs.map(|name| &template.properties(name)["RetentionInDays"]);
        if kept != Some(&json!({"Ref": "LogRetentionDays"})) {
            found.push(format!("{function} keeps its logs for ever"));
        }
        for (name, event) in properties["Events"].as_object().unwrap() {
            let schedule = &event["Properties"];
            if event["Type"] == "ScheduleV2" && schedule["OmitName"] != true {
                found.push(format!("{name} of {function} has the same name in every stack"));
            }
            if event["Type"] == "ScheduleV2"
                && (schedule.get("RetryPolicy").is_none()
                    || schedule.get("DeadLetterConfig").is_none())
            {
                found.push(format!("{name} of {function} fails without a word"));
            }
        }
    }
    found
}

fn saved_queries(template: &Template) -> Vec<String> {
    let deployed: BTreeSet<String> = template
        .resources("AWS::Logs::QueryDefinition")
        .map(|(_, query)| query["Properties"]["QueryString"].as_str().unwrap().to_owned())
        .collect();
    let files = std::fs::read_dir(source::root().join("docs/queries")).unwrap();
    let documented: BTreeSet<String> =
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let difference = deployed.symmetric_difference(&documented);
    difference.map(|query| format!("not both saved and in docs/queries: {query}")).collect()
}

/// The properties that name a resource in its account and region.
const NAMES: [&str; 10] = [
    "AlarmName",
    "DashboardName",
    "FunctionName",
    "LogGroupName",
    "ManagedPolicyName",
    "Name",
    "QueueName",
    "RoleName",
    "TableName",
    "TopicName",
];

/// Two stacks in one account and region must not want the same name.
fn stack_names(template: &Template) -> Vec<String> {
    let resources = template.as_json()["Resources"].as_object().unwrap();
    let mut found = Vec::new();
    for (resource, definition) in resources {
        for name in NAMES.iter().filter_map(|name| definition["Properties"].get(name)) {
            let has_stack = name == &json!({"Ref": "AWS::StackName"})
                || name["Fn::Sub"].as_str().is_some_and(|name| name.contains("${AWS::StackName}"));
            if !has_stack {
                found.push(format!("the name of {resource} is the same in every stack"));
            }
        }
    }
    found
}

/// How long events may wait for dispatch to work again, in seconds: ten hours.
const EVENTS_OUTAGE_SECONDS: u64 = 36_000;

fn events_survive_an_outage(template: &Template) -> Option<String> {
    let queue = template.properties("EventsQueue");
    let receives = queue["RedrivePolicy"]["maxReceiveCount"].as_u64().unwrap();
    let lasts = receives * queue["VisibilityTimeout"].as_u64().unwrap();
    let is_good = lasts >= EVENTS_OUTAGE_SECONDS && receives <= 1000;
    (!is_good).then(|| "EventsQueue gives up after less than ten hours, or too late".to_owned())
}

async fn findings(template: &Template, recorder: &Recorder) -> Vec<String> {
    let mut found = routes(template);
    found.extend(queues(template));
    found.extend(tables(template, recorder).await);
    found.extend(functions(template));
    found.extend(saved_queries(template));
    found.extend(stack_names(template));
    found.extend(events_survive_an_outage(template));
    found
}

#[tokio::test]
async fn template_agrees_with_the_code() {
    let recorder = Recorder::start().await;
    let found = findings(Template::deployed(), &recorder).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn difference_from_the_code_is_found() {
    let recorder = Recorder::start().await;
    let changes: [Change; 26] = [
        ("GET /api/webhooks/{id} of subscriptions is not in both", |t| {
            remove(t, "SubscriptionsFunction/Properties/Events", "Get");
        }),
        ("POST /api/webhooks of delivery-history is not in both", |t| {
            at(t, "DeliveryHistoryFunction/Properties/Events")["More"] = json!({
                "Type": "HttpApi",
                "Properties": {"Method": "POST", "Path": "/api/webhooks"},
            });
        }),
        ("tokens are not checked", |t| {
            remove(t, "Api/Properties/Auth", "DefaultAuthorizer");
        }),
        ("the API is not throttled", |t| {
            remove(t, "Api/Properties", "DefaultRouteSettings");
        }),
        ("List of event-types has other rules for tokens than in the code", |t| {
            at(t, "EventTypesFunction/Properties/Events/List/Properties")["Auth"] =
                json!({"Authorizer": "NONE"});
        }),
        ("DeliveriesQueue is visible again too soon", |t| {
            at(t, "DeliverFunction/Properties")["Timeout"] = 91.into();
        }),
        ("dispatch cannot report one record", |t| {
            let path = "DispatchFunction/Properties/Events/Events/Properties";
            remove(t, path, "FunctionResponseTypes");
        }),
        ("EventsDlq does not accept messages from EventsQueue alone", |t| {
            at(t, "EventsQueue/Properties")["QueueName"] = json!({"Fn::Sub": "another"});
        }),
        ("EventsDlq keeps messages for less than 14 days", |t| {
            at(t, "EventsDlq/Properties")["MessageRetentionPeriod"] = 345_600.into();
        }),
        ("SchedulesDlq is not encrypted", |t| {
            remove(t, "SchedulesDlq/Properties", "SqsManagedSseEnabled");
        }),
        ("insist on TLS", |t| {
            at(t, "QueuesOverTlsOnly/Properties/Queues").as_array_mut().unwrap().pop();
        }),
        ("DeliveriesTable has another GlobalSecondaryIndexes than the local one", |t| {
            at(t, "DeliveriesTable/Properties/GlobalSecondaryIndexes/0")["IndexName"] =
                "later".into();
        }),
        ("rows do not expire", |t| {
            remove(t, "DeliveriesTable/Properties", "TimeToLiveSpecification");
        }),
        ("SubscriptionsTable goes with the stack", |t| {
            remove(t, "SubscriptionsTable", "DeletionPolicy");
        }),
        ("EventsQueue outlives a first deployment that fails", |t| {
            at(t, "EventsQueue")["DeletionPolicy"] = "Retain".into();
        }),
        ("DeliveriesTable can be deleted in prod", |t| {
            at(t, "DeliveriesTable/Properties")["DeletionProtectionEnabled"] = false.into();
        }),
        ("EveryFiveMinutes of retry has the same name in every stack", |t| {
            let path = "RetryFunction/Properties/Events/EveryFiveMinutes/Properties";
            remove(t, path, "OmitName");
        }),
        ("the name of ThrottlesAlarm is the same in every stack", |t| {
            at(t, "ThrottlesAlarm/Properties")["AlarmName"] = "throttles".into();
        }),
        ("EventsQueue gives up after less than ten hours", |t| {
            at(t, "EventsQueue/Properties/RedrivePolicy")["maxReceiveCount"] = 10.into();
        }),
        ("Lambda has no level for trace", |t| {
            let levels = &mut t["Mappings"]["ApplicationLogLevels"]["Lambda"];
            levels.as_object_mut().unwrap().remove("trace");
        }),
        ("Lambda writes lines on each invocation that succeeds", |t| {
            t["Mappings"]["SystemLogLevels"]["Lambda"]["info"] = "INFO".into();
        }),
        ("DeliveriesTable is not encrypted with a KMS key", |t| {
            remove(t, "DeliveriesTable/Properties", "SSESpecification");
        }),
        ("the Subscriptions table cannot be restored", |t| {
            remove(t, "SubscriptionsTable/Properties", "PointInTimeRecoverySpecification");
        }),
        ("retry keeps its logs for ever", |t| {
            remove(t, "RetryLogs/Properties", "RetentionInDays");
        }),
        ("Daily of cleanup fails without a word", |t| {
            remove(t, "CleanupFunction/Properties/Events/Daily/Properties", "DeadLetterConfig");
        }),
        ("not both saved and in docs/queries: filter true", |t| {
            at(t, "SuccessRateQuery/Properties")["QueryString"] = "filter true".into();
        }),
    ];
    for (what, change) in changes {
        assert_found(what, &findings(&changed(change), &recorder).await);
    }
}
