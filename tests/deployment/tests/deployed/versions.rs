//! A change of any parameter on which a function depends publishes a version of it. Otherwise the change
//! would not reach the alias, and nobody would be told.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use webhooks_local::template::Template;

use crate::{Change, assert_found, at, changed, remove};

/// Lambda's limit, for functions and versions.
const LONGEST_DESCRIPTION: usize = 256;

/// The stack parameters that a value depends on, also through conditions.
fn parameters(template: &Template, value: &Value) -> BTreeSet<String> {
    let all = template.as_json();
    let mut found = BTreeSet::new();
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                let names = match (key.as_str(), inner) {
                    ("Ref", Value::String(name)) => vec![name.clone()],
                    ("Fn::Sub", Value::String(text)) => substituted(text),
                    ("Condition", Value::String(name)) => {
                        found.extend(parameters(template, &all["Conditions"][name]));
                        continue;
                    }
                    ("Fn::If", Value::Array(parts)) => {
                        let condition = &all["Conditions"][parts[0].as_str().unwrap()];
                        found.extend(parameters(template, condition));
                        vec![]
                    }
                    _ => vec![],
                };
                found.extend(names.into_iter().filter(|n| all["Parameters"].get(n).is_some()));
                found.extend(parameters(template, inner));
            }
        }
        Value::Array(items) => {
            found.extend(items.iter().flat_map(|item| parameters(template, item)));
        }
        _ => {}
    }
    found
}

/// The names in `${…}`.
fn substituted(text: &str) -> Vec<String> {
    let parts = text.split("${").skip(1);
    parts.filter_map(|part| Some(part.split_once('}')?.0.to_owned())).collect()
}

/// The most characters that the value of a parameter can have.
fn longest(parameter: &Value) -> Option<usize> {
    if let Some(values) = parameter["AllowedValues"].as_array() {
        return values.iter().map(|value| value.as_str().map_or(0, str::len)).max();
    }
    let most = parameter["MaxLength"].as_u64().and_then(|most| usize::try_from(most).ok());
    most.or_else(|| Some(parameter["MaxValue"].as_u64()?.to_string().len()))
}

fn versions(template: &Template) -> Vec<String> {
    let all = template.as_json();
    let mut found = Vec::new();
    for (function, properties) in template.functions() {
        if properties.get("AutoPublishAlias").is_none() {
            if function != "console" {
                found.push(format!("{function} has no alias"));
            }
            continue;
        }
        let mut own = properties.clone();
        let mut globals = all["Globals"]["Function"].clone();
        for ignored in ["Events", "DeploymentPreference", "Description", "VersionDescription"] {
            own.as_object_mut().unwrap().remove(ignored);
            globals.as_object_mut().unwrap().remove(ignored);
        }
        let mut needed = parameters(template, &own);
        needed.extend(parameters(template, &globals));
        needed.insert("Release".to_owned());
        let text = properties["VersionDescription"]["Fn::Sub"].as_str().unwrap_or_default();
        if properties["Description"]["Fn::Sub"] != text {
            found.push(format!("{function} and its versions have different descriptions"));
        }
        if properties["AutoPublishAliasAllProperties"] != true {
            found.push(format!("only new code publishes a version of {function}"));
        }
        let named: BTreeSet<String> = substituted(text).into_iter().collect();
        for name in needed.symmetric_difference(&named) {
            found.push(format!("{name} is not in both {function} and the description"));
        }
        let lengths: Option<Vec<usize>> =
            named.iter().map(|name| longest(&all["Parameters"][name])).collect();
        let spaces = named.len().saturating_sub(1);
        let length = lengths.map(|lengths| lengths.iter().sum::<usize>() + spaces);
        if length.is_none_or(|length| length > LONGEST_DESCRIPTION) {
            found.push(format!("the description of {function} can be too long: {length:?}"));
        }
    }
    found
}

#[test]
fn every_parameter_of_a_function_publishes_a_version() {
    let found = versions(Template::deployed());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn parameter_that_publishes_no_version_is_found() {
    let changes: [Change; 6] = [
        ("dispatch has no alias", |t| {
            remove(t, "DispatchFunction/Properties", "AutoPublishAlias");
        }),
        ("only new code publishes a version of retry", |t| {
            remove(t, "RetryFunction/Properties", "AutoPublishAliasAllProperties");
        }),
        ("cleanup and its versions have different descriptions", |t| {
            at(t, "CleanupFunction/Properties")["Description"] = "cleanup".into();
        }),
        ("SecretsKeysVersion is not in both deliver and the description", |t| {
            for part in ["Description", "VersionDescription"] {
                let text = &mut at(t, "DeliverFunction/Properties")[part]["Fn::Sub"];
                *text = text.as_str().unwrap().replace("${SecretsKeysVersion} ", "").into();
            }
        }),
        ("FixedEgress is not in both dispatch and the description", |t| {
            at(t, "DispatchFunction/Properties")["VpcConfig"] =
                json!({"Fn::If": ["HasFixedEgress", {}, {"Ref": "AWS::NoValue"}]});
        }),
        ("the description of subscriptions can be too long", |t| {
            t["Parameters"]["ProblemBaseUrl"]["MaxLength"] = 120.into();
        }),
    ];
    for (what, change) in changes {
        assert_found(what, &versions(&changed(change)));
    }
}
