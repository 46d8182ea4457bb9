//! Each role allows exactly what its function does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex};

use serde_json::{Value, json};
use simulator::{Calls, Options};
use webhooks_local::template::{Template, target};

use crate::recorder::{Grant, Recorder};
use crate::source;
use crate::{Change, assert_found, at, changed};

/// The policies of a role, as pairs of an action and a resource's name in the template.
fn allowed(template: &Template, role: &str) -> BTreeSet<Grant> {
    let properties = template.properties(role);
    let managed = properties["ManagedPolicyArns"].as_array().into_iter().flatten();
    let own = properties["Policies"].as_array().into_iter().flatten();
    own.flat_map(|policy| grants(&policy["PolicyDocument"]))
        .chain(managed.map(|arn| grant("what a managed policy allows", &arn.to_string())))
        .collect()
}

fn grants(document: &Value) -> BTreeSet<Grant> {
    let mut grants = BTreeSet::new();
    for statement in document["Statement"].as_array().into_iter().flatten() {
        assert_eq!(statement["Effect"], "Allow", "{statement}");
        for action in one_or_more(&statement["Action"]) {
            for resource in one_or_more(&statement["Resource"]) {
                grants.insert((action.as_str().unwrap().to_owned(), resource_name(resource)));
            }
        }
    }
    grants
}

fn one_or_more(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |many| many.iter().collect())
}

/// A resource by its name in the code; any other stays as it is written.
fn resource_name(resource: &Value) -> String {
    match target(resource) {
        Some((name, "Arn" | "")) => return name.to_owned(),
        Some((name, attribute)) => return format!("{name}.{attribute}"),
        None => {}
    }
    if let Some(text) = resource["Fn::Sub"].as_str() {
        // The parameter of this name. And `${Table.Arn}/index/x`.
        return match text.split_once(":parameter${") {
            Some((_, name)) => name.replace('}', ""),
            None => text.replace("${", "").replace(".Arn}", ""),
        };
    }
    resource.as_str().map_or_else(|| resource.to_string(), str::to_owned)
}

fn grant(action: &str, resource: &str) -> Grant {
    (action.to_owned(), resource.to_owned())
}

/// Runs of the simulator in which the functions make every call that they ever make.
const SEEDS: u64 = 500;

/// Calls that no run makes: a test that succeeds while the breaker is open is too rare, only an
/// operator asks for resealing, and no run lists by status. Unit tests of the functions make them.
const RARE: [(&str, &str); 4] = [
    ("delivery-history", "deliveries.page_by_status"),
    ("test-webhook", "subscriptions.set_health"),
    ("cleanup", "subscriptions.get"),
    ("cleanup", "subscriptions.update"),
];

/// Which function calls which table or queue: recorded while the real handlers run in the simulator,
/// with and without faults.
fn calls() -> &'static Calls {
    static CALLS: LazyLock<Calls> = LazyLock::new(|| {
        let calls = Mutex::new(Calls::new());
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let violation = simulator::search(0..SEEDS, Options::default(), threads, |outcome| {
            calls.lock().unwrap().extend(&outcome.calls);
            outcome.violation.is_some()
        });
        assert!(violation.is_none(), "{violation:?}");
        let mut calls = calls.into_inner().unwrap();
        calls.extend(RARE);
        calls
    });
    &CALLS
}

/// What a function must be allowed: its calls, and what its place in the template implies.
async fn needed(
    template: &Template,
    recorder: &Recorder,
    function: &str,
    calls: &Calls,
) -> BTreeSet<Grant> {
    let (_, properties) = template.functions().find(|(name, _)| *name == function).unwrap();
    let (logs, _) = target(&properties["LoggingConfig"]["LogGroup"]).unwrap();
    let mut needed =
        BTreeSet::from([grant("logs:CreateLogStream", logs), grant("logs:PutLogEvents", logs)]);
    let on_failure = &properties["EventInvokeConfig"]["DestinationConfig"]["OnFailure"];
    if let Some((queue, _)) = target(&on_failure["Destination"]) {
        needed.insert(grant("sqs:SendMessage", queue));
    }
    for (_, call) in calls.iter().filter(|(folder, _)| *folder == function) {
        needed.extend(recorder.grants(call).await);
    }
    if source::names_after(&source::main(function), "environment.").contains("sealer") {
        needed.insert(grant("ssm:GetParameter", "SecretsKeysName"));
    }
    for trigger in template.triggers().iter().filter(|trigger| trigger.function == function) {
        for action in ["DeleteMessage", "GetQueueAttributes", "ReceiveMessage"] {
            needed.insert(grant(&format!("sqs:{action}"), &trigger.queue));
        }
    }
    needed
}

/// Where the role of a function is not what its calls need.
async fn findings_of(
    template: &Template,
    recorder: &Recorder,
    function: &str,
    calls: &Calls,
) -> Vec<String> {
    let (_, properties) = template.functions().find(|(name, _)| *name == function).unwrap();
    let (role, _) = target(&properties["Role"]).unwrap();
    let allowed = allowed(template, role);
    let needed = needed(template, recorder, function, calls).await;
    let mut found = Vec::new();
    for (action, resource) in needed.difference(&allowed) {
        found.push(format!("{role} lacks {action} on {resource}"));
    }
    for (action, resource) in allowed.difference(&needed) {
        found.push(format!("{role} need not have {action} on {resource}"));
    }
    found
}

async fn findings(template: &Template, recorder: &Recorder) -> Vec<String> {
    let mut found = Vec::new();
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (function, properties) in template.functions() {
        users.entry(target(&properties["Role"]).unwrap().0).or_default().push(function);
        found.extend(findings_of(template, recorder, function, calls()).await);
    }
    for (role, functions) in users.iter().filter(|(_, functions)| functions.len() > 1) {
        found.push(format!("{role} is shared by {functions:?}"));
    }
    for (role, _) in template.resources("AWS::IAM::Role") {
        if !users.contains_key(role) && role != "SchedulerRole" {
            found.push(format!("{role} is nobody's"));
        }
    }
    found.extend(findings_of_the_others(template));
    found
}

#[test]
fn deliver_may_put_events_only_on_the_bus_of_the_stack() {
    let policies = &Template::deployed().properties("DeliverRole")["Policies"];
    let policies = policies.as_array().unwrap().iter().map(|policy| &policy["Fn::If"]);
    let of_bus: Vec<&Value> = policies.filter(|one| one[0] == "HasOperationalEventBus").collect();
    assert_eq!(of_bus.len(), 1);
    assert_eq!(of_bus[0][2], json!({"Ref": "AWS::NoValue"}));
    let statement = &of_bus[0][1]["PolicyDocument"]["Statement"][0];
    assert_eq!(statement["Action"], "events:PutEvents");
    let resource = statement["Resource"]["Fn::Sub"].as_str().unwrap();
    assert!(resource.ends_with(":event-bus/${OperationalEventBus}"), "{resource}");
}

/// The policies that belong to no function alone.
fn findings_of_the_others(template: &Template) -> Vec<String> {
    let key = grant("ssm:GetParameter", "SecretsKeysName");
    let readers: BTreeSet<String> = template
        .functions()
        .map(|(_, properties)| target(&properties["Role"]).unwrap().0.to_owned())
        .filter(|role| allowed(template, role).contains(&key))
        .collect();
    let attached = |policy: &Value| -> BTreeSet<String> {
        let roles = policy["Roles"].as_array().into_iter().flatten();
        roles.filter_map(|role| Some(target(role)?.0.to_owned())).collect()
    };
    let (kms, tracing) =
        (template.properties("SecretsKmsPolicy"), template.properties("TracingPolicy"));
    let decrypters = attached(kms);
    let all: BTreeSet<String> = template
        .functions()
        .map(|(_, properties)| target(&properties["Role"]).unwrap().0.to_owned())
        .collect();
    let mut found = Vec::new();
    if attached(tracing) != all {
        found.push(format!("{:?} may write traces, not {all:?}", attached(tracing)));
    }
    if decrypters != readers {
        found.push(format!("{readers:?} read the keys, {decrypters:?} may decrypt them"));
    }
    let exact = [
        (
            "SecretsKmsPolicy",
            grants(&kms["PolicyDocument"]),
            vec![("kms:Decrypt", "SecretsKmsKeyArn")],
        ),
        (
            "TracingPolicy",
            grants(&tracing["PolicyDocument"]),
            // X-Ray knows no resources.
            vec![("xray:PutTelemetryRecords", "*"), ("xray:PutTraceSegments", "*")],
        ),
        (
            "PublisherPolicy",
            grants(&template.properties("PublisherPolicy")["PolicyDocument"]),
            vec![("sqs:SendMessage", "EventsQueue")],
        ),
        (
            "SchedulerRole",
            allowed(template, "SchedulerRole"),
            vec![
                ("lambda:InvokeFunction", "RetryFunction:live"),
                ("lambda:InvokeFunction", "CleanupFunction:live"),
                ("sqs:SendMessage", "SchedulesDlq"),
            ],
        ),
    ];
    // What Lambda needs for a function in a VPC; these actions know no resources.
    let network_interfaces = [
        ("ec2:AssignPrivateIpAddresses", "*"),
        ("ec2:CreateNetworkInterface", "*"),
        ("ec2:DeleteNetworkInterface", "*"),
        ("ec2:DescribeNetworkInterfaces", "*"),
        ("ec2:DescribeSubnets", "*"),
        ("ec2:UnassignPrivateIpAddresses", "*"),
    ];
    let in_vpc = template.functions().filter(|(_, f)| f["VpcConfig"]["Fn::If"][0].is_string());
    let in_vpc = in_vpc.map(|(_, function)| {
        let (role, _) = target(&function["Role"]).unwrap();
        let policy = &template.properties(role)["Policies"][1]["Fn::If"];
        let is_same = policy[0] == function["VpcConfig"]["Fn::If"][0];
        let allowed = if is_same { grants(&policy[1]["PolicyDocument"]) } else { BTreeSet::new() };
        (role, allowed, network_interfaces.to_vec())
    });
    for (name, allowed, due) in exact.into_iter().chain(in_vpc) {
        let due: BTreeSet<Grant> =
            due.into_iter().map(|(action, resource)| grant(action, resource)).collect();
        if allowed != due {
            found.push(format!("{name} allows {allowed:?} and should allow {due:?}"));
        }
    }
    found
}

#[tokio::test]
async fn each_role_allows_exactly_what_its_function_calls() {
    let recorder = Recorder::start().await;
    let found = findings(Template::deployed(), &recorder).await;
    assert!(found.is_empty(), "{found:#?}");
}

/// The statements of a role, counted from the first.
fn statement(role: &str, number: usize) -> String {
    format!("{role}/Properties/Policies/0/PolicyDocument/Statement/{number}")
}

#[tokio::test]
async fn changed_role_is_found() {
    let recorder = Recorder::start().await;
    let changes: [Change; 14] = [
        ("DeliverRole lacks sqs:ChangeMessageVisibility on DeliveriesQueue", |t| {
            at(t, &statement("DeliverRole", 1))["Action"].as_array_mut().unwrap().remove(0);
        }),
        ("DeliverRole need not have dynamodb:Scan on SubscriptionsTable", |t| {
            let actions = &mut at(t, &statement("DeliverRole", 3))["Action"];
            actions.as_array_mut().unwrap().push(json!("dynamodb:Scan"));
        }),
        ("DeliverRole need not have dynamodb:* on SubscriptionsTable", |t| {
            at(t, &statement("DeliverRole", 3))["Action"] = json!(["dynamodb:*"]);
        }),
        ("DispatchRole need not have sqs:SendMessage on *", |t| {
            at(t, &statement("DispatchRole", 4))["Resource"] = json!("*");
        }),
        ("RetryRole lacks dynamodb:Query on DeliveriesTable/index/due", |t| {
            at(t, &statement("RetryRole", 2))["Resource"] =
                json!({"Fn::GetAtt": "DeliveriesTable.Arn"});
        }),
        ("EventTypesRole need not have what a managed policy allows", |t| {
            at(t, "EventTypesRole/Properties")["ManagedPolicyArns"] =
                json!(["arn:aws:iam::aws:policy/PowerUserAccess"]);
        }),
        (r#"RetryRole is shared by ["deliver", "retry"]"#, |t| {
            at(t, "DeliverFunction/Properties")["Role"] = json!({"Fn::GetAtt": "RetryRole.Arn"});
        }),
        ("DeliverRole is nobody's", |t| {
            at(t, "DeliverFunction/Properties")["Role"] = json!({"Fn::GetAtt": "RetryRole.Arn"});
        }),
        ("may decrypt them", |t| {
            at(t, "SecretsKmsPolicy/Properties/Roles").as_array_mut().unwrap().pop();
        }),
        ("may write traces", |t| {
            at(t, "TracingPolicy/Properties/Roles").as_array_mut().unwrap().pop();
        }),
        ("RetryRole lacks sqs:SendMessage on EventsDlq", |t| {
            at(t, "RetryFunction/Properties/EventInvokeConfig/DestinationConfig/OnFailure")["Destination"] =
                json!({"Fn::GetAtt": "EventsDlq.Arn"});
        }),
        ("PublisherPolicy allows", |t| {
            at(t, "PublisherPolicy/Properties/PolicyDocument/Statement/0")["Action"] =
                json!(["sqs:SendMessage", "sqs:ReceiveMessage"]);
        }),
        ("TestWebhookRole allows {} and should allow", |t| {
            at(t, "TestWebhookRole/Properties/Policies/1/Fn::If")[0] = "HasTracing".into();
        }),
        ("SchedulerRole allows", |t| {
            at(t, &statement("SchedulerRole", 0))["Resource"] =
                json!([{"Fn::Sub": "${RetryFunction.Arn}:live"}]);
        }),
    ];
    for (what, change) in changes {
        assert_found(what, &findings(&changed(change), &recorder).await);
    }
}

#[tokio::test]
async fn changed_calls_need_a_changed_role() {
    let template = Template::deployed();
    let recorder = Recorder::start().await;
    for (call, what) in [
        (
            "subscriptions.delete_tombstone",
            "DispatchRole lacks dynamodb:DeleteItem on SubscriptionsTable",
        ),
        (
            "queue.change_visibility",
            "DispatchRole lacks sqs:ChangeMessageVisibility on DeliveriesQueue",
        ),
    ] {
        let mut calls = calls().clone();
        assert!(calls.insert(("dispatch", call)), "{call} is no change");
        assert_found(what, &findings_of(template, &recorder, "dispatch", &calls).await);
    }
    assert_found(
        "DispatchRole need not have sqs:SendMessage on EventsDlq",
        &findings_of(template, &recorder, "dispatch", &Calls::new()).await,
    );
}
