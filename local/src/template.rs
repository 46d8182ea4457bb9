//! The deployed template: the local system takes its routes, queues and schedules from it, and the tests
//! of the deployment compare it with the code.
//!
//! A [`Template`] is `template.yaml` as JSON; the short forms of CloudFormation's functions are
//! written out (`!Ref X` is `{"Ref": "X"}`, `!GetAtt A.B` is `{"Fn::GetAtt": "A.B"}`). Of all references
//! it resolves only those to parameters with a default.
//!
//! Deliberately absent: checks of the template. `scripts/verify_deploy.py` has three tools for that.

use std::sync::LazyLock;

use saphyr::{LoadableYamlNode as _, YamlOwned};
use serde_json::{Map, Number, Value, json};

/// The text of `template.yaml` at the time of the build.
const TEXT: &str = include_str!("../../template.yaml");

/// The deployed template.
#[derive(Clone, Debug)]
pub struct Template(Value);

/// A route of the API and the function behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRoute<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path, with parameters as `{name}`, and the rest of a path as `{name+}`.
    pub path: &'a str,
    /// The function's folder.
    pub function: &'a str,
    /// Whether it needs no token.
    pub is_public: bool,
}

/// A queue and the function behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The function's folder.
    pub function: String,
    /// The name of the queue's resource.
    pub queue: String,
    /// Messages in one batch, at most.
    pub batch_size: i32,
    /// Batches that the function handles concurrently, at most.
    pub concurrency: usize,
}

/// Why the template cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template.yaml: {0}")]
pub struct TemplateError(String);

impl Template {
    /// The deployed one.
    pub fn deployed() -> &'static Self {
        static DEPLOYED: LazyLock<Template> = LazyLock::new(|| {
            Template::parse(TEXT).expect("a test reads the text that is compiled in")
        });
        &DEPLOYED
    }

    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let documents =
            YamlOwned::load_from_str(text).map_err(|error| TemplateError(error.to_string()))?;
        let document = documents.first().ok_or_else(|| TemplateError("it is empty".to_owned()))?;
        json(document).map(Self)
    }

    /// A template that is JSON already, such as a changed one.
    pub fn from_json(template: Value) -> Self {
        Self(template)
    }

    /// The names and resources of a type, such as `AWS::SQS::Queue`.
    pub fn resources<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let all = self.0["Resources"].as_object().into_iter().flatten();
        all.filter(move |(_, resource)| resource["Type"] == kind)
            .map(|(name, resource)| (name.as_str(), resource))
    }

    /// The properties of a resource; null when there is none of this name.
    pub fn properties(&self, resource: &str) -> &Value {
        &self.0["Resources"][resource]["Properties"]
    }

    /// The folder and properties of each function.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.resources("AWS::Serverless::Function").map(|(_, function)| {
            let properties = &function["Properties"];
            (folder(properties), properties)
        })
    }

    /// Every route of the API.
    pub fn routes(&self) -> impl Iterator<Item = HttpRoute<'_>> {
        self.events("HttpApi").map(|(function, event)| {
            let text = |name: &str| event[name].as_str().unwrap_or_default();
            let is_public = event["Auth"] == json!({"Authorizer": "NONE"});
            HttpRoute { method: text("Method"), path: text("Path"), function, is_public }
        })
    }

    /// Every queue that has a function behind it.
    pub fn triggers(&self) -> Vec<Trigger> {
        self.events("SQS")
            .map(|(function, event)| Trigger {
                function: function.to_owned(),
                queue: target(&event["Queue"]).unwrap_or_default().0.to_owned(),
                batch_size: number(&event["BatchSize"]).unwrap_or(10),
                concurrency: number(self.default_of(&event["ScalingConfig"]["MaximumConcurrency"]))
                    .unwrap_or(1000),
            })
            .collect()
    }

    /// The expression of each schedule, with the folder of its function.
    pub fn schedules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.events("ScheduleV2").map(|(function, event)| {
            (function, event["ScheduleExpression"].as_str().unwrap_or_default())
        })
    }

    /// The properties of all events of a type, with the folder of their function.
    fn events<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.functions().flat_map(move |(function, properties)| {
            let events = properties["Events"].as_object().into_iter().flatten();
            events
                .filter(move |(_, event)| event["Type"] == kind)
                .map(move |(_, event)| (function, &event["Properties"]))
        })
    }

    /// The default of the parameter that a value refers to; any other value itself.
    fn default_of<'a>(&'a self, value: &'a Value) -> &'a Value {
        value["Ref"].as_str().map_or(value, |name| &self.0["Parameters"][name]["Default"])
    }

    /// All of it.
    pub fn as_json(&self) -> &Value {
        &self.0
    }
}

/// The first document of a YAML text, as JSON.
pub fn from_yaml(text: &str) -> Result<Value, TemplateError> {
    Template::parse(text).map(|template| template.0)
}

/// What a `!Ref X` or `!GetAtt X.Y` points to: the resource, and the attribute where there is one.
pub fn target(value: &Value) -> Option<(&str, &str)> {
    if let Some(name) = value["Ref"].as_str() {
        return Some((name, ""));
    }
    value["Fn::GetAtt"].as_str()?.split_once('.')
}

fn number<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    value.as_u64()?.try_into().ok()
}

fn folder(properties: &Value) -> &str {
    let path = properties["CodeUri"].as_str().unwrap_or_default();
    path.strip_prefix("functions/").unwrap_or(path)
}

fn json(node: &YamlOwned) -> Result<Value, TemplateError> {
    let unfit = || TemplateError(format!("{node:?} has no form in JSON"));
    Ok(match node {
        YamlOwned::Tagged(tag, inner) => {
            let name = match tag.suffix.as_str() {
                "Ref" | "Condition" => tag.suffix.clone(),
                function => format!("Fn::{function}"),
            };
            json!({name: json(inner)?})
        }
        YamlOwned::Sequence(items) => items.iter().map(json).collect::<Result<_, _>>()?,
        YamlOwned::Mapping(entries) => {
            let entry = |(key, value): (&YamlOwned, &YamlOwned)| {
                Ok((key.as_str().ok_or_else(unfit)?.to_owned(), json(value)?))
            };
            Value::Object(entries.iter().map(entry).collect::<Result<Map<_, _>, _>>()?)
        }
        YamlOwned::Value(_) => {
            if let Some(text) = node.as_str() {
                text.into()
            } else if let Some(number) = node.as_integer() {
                number.into()
            } else if let Some(truth) = node.as_bool() {
                truth.into()
            } else if let Some(number) = node.as_floating_point() {
                Number::from_f64(number).map(Value::Number).ok_or_else(unfit)?
            } else {
                Value::Null
            }
        }
        _ => return Err(unfit()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_written_out() {
        let template = Template::parse(
            "Resources:\n  Q:\n    Type: AWS::SQS::Queue\n    Properties:\n      A: !Ref B\n      \
             C: [!GetAtt D.Arn, !Sub \"${E}\", !If [F, 1, !Ref G]]\n      H: \"OFF\"\n      I: true\n",
        );
        assert_eq!(
            *template.unwrap().properties("Q"),
            json!({
                "A": {"Ref": "B"},
                "C": [
                    {"Fn::GetAtt": "D.Arn"},
                    {"Fn::Sub": "${E}"},
                    {"Fn::If": ["F", 1, {"Ref": "G"}]},
                ],
                "H": "OFF",
                "I": true,
            })
        );
        assert!(Template::parse("").is_err());
        assert!(Template::parse("a: [").is_err());
    }

    #[test]
    fn deployed_template_is_read() {
        let template = Template::deployed();
        assert!(template.functions().count() > 0);
        let triggers = template.triggers();
        let queues: Vec<_> = triggers
            .iter()
            .map(|t| (t.function.as_str(), t.queue.as_str(), t.batch_size))
            .collect();
        let expected = [
            ("deliver", "DeliveriesSlowQueue", 10),
            ("deliver", "DeliveriesQueue", 10),
            ("dispatch", "EventsQueue", 10),
        ];
        assert_eq!(queues, expected);
        assert!(triggers.iter().all(|trigger| (2..=1000).contains(&trigger.concurrency)));
        assert_eq!(target(&json!({"Ref": "X"})), Some(("X", "")));
        assert_eq!(target(&json!({"Fn::GetAtt": "X.Arn"})), Some(("X", "Arn")));
    }
}
