//! `openapi.yaml` against the code, in both directions.
//!
//! * Routes, tokens and problems are those of the code.
//! * Each answer of the handlers to the events in `events/` has exactly the fields of its schema.
//! * A field or parameter is known to the handler exactly when it is in `openapi.yaml`; names to try
//!   are all names in `openapi.yaml` and all names in the source of the API.
//! * A value, at the limits of its schema and beyond, is accepted exactly when the schema accepts it.
//! * A default that is given explicitly changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use serde_json::{Value, json};
use webhooks_api::problem::Problem;
use webhooks_api::{ROUTES, Route};
use webhooks_core::catalogue::{CATALOGUE, OPERATIONAL};
use webhooks_core::event::{Event, Field};
use webhooks_core::limits::PAGE_DEFAULT;
use webhooks_core::time::Timestamp;
use webhooks_local::template::{Template, from_yaml};

use crate::events::{Harness, read, triggers};
use crate::source;

const HELP: &str = "openapi.yaml and the code differ. Change openapi.yaml so that it says what the code does: \
    a route belongs to `paths`, a field to `properties` (of a response also to `required`), a parameter to \
    `components/parameters` and to its route, a kind of problem to `components/examples` and to the \
    responses of its routes. Then run `cargo test -p deployment contract`:";

/// The fields that an answer has only in some cases, with the end of the place of their object.
const OPTIONAL: [(&str, &str); 1] = [(".signing_secrets[]", "public_key")];

/// An operation and the event in `events/` that calls it.
struct Operation<'a> {
    key: String,
    spec: &'a Value,
    parameters: Vec<&'a Value>,
    function: String,
    event: Value,
}

struct Contract(Value);

impl Contract {
    fn of_repository() -> Self {
        let text = std::fs::read_to_string(source::root().join("openapi.yaml")).unwrap();
        Self(from_yaml(&text).unwrap())
    }

    /// What a `$ref` leads to; any other value itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(path) => {
                self.resolve(self.0.pointer(&path[1..]).unwrap_or_else(|| panic!("{path}")))
            }
            None => value,
        }
    }

    /// Every operation of `paths` that has an event.
    fn operations(&self) -> Vec<Operation<'_>> {
        let template = Template::deployed();
        let mut events: BTreeMap<String, (String, Value)> = BTreeMap::new();
        for (function, name) in triggers(template) {
            let event = read(&function, &name);
            if let Some(key) = event["routeKey"].as_str().map(str::to_owned) {
                events.insert(key, (function, event));
            }
        }
        let mut operations = Vec::new();
        for (key, spec, shared) in self.specs() {
            let Some((function, event)) = events.remove(&key) else { continue };
            let own = spec["parameters"].as_array().into_iter().flatten();
            let parameters = own.chain(shared).map(|parameter| self.resolve(parameter)).collect();
            operations.push(Operation { key, spec, parameters, function, event });
        }
        operations
    }

    /// `METHOD /path`, the operation, and the parameters of its path.
    fn specs(&self) -> Vec<(String, &Value, Vec<&Value>)> {
        let mut specs = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            let shared: Vec<&Value> = item["parameters"].as_array().into_iter().flatten().collect();
            for (method, spec) in
                item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters")
            {
                specs.push((format!("{} {path}", method.to_uppercase()), spec, shared.clone()));
            }
        }
        specs
    }

    /// A schema that can be used outside of the document.
    fn validator(&self, schema: &Value) -> Validator {
        let whole = json!({"allOf": [schema], "components": self.0["components"]});
        jsonschema::draft202012::options().should_validate_formats(false).build(&whole).unwrap()
    }

    /// The properties of an object, also those of the parts of an `allOf`, and which it requires.
    fn properties<'a>(
        &'a self,
        schema: &'a Value,
    ) -> (BTreeMap<&'a str, &'a Value>, BTreeSet<&'a str>) {
        let schema = self.resolve(schema);
        let own = schema["properties"].as_object().into_iter().flatten();
        let mut properties: BTreeMap<&str, &Value> =
            own.map(|(name, value)| (name.as_str(), value)).collect();
        let mut required: BTreeSet<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let (more, needed) = self.properties(part);
            properties.extend(more);
            required.extend(needed);
        }
        (properties, required)
    }

    /// Where an answer has other fields than its schema.
    fn compare(&self, at: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
        let schema = self.resolve(schema);
        if let (Some(items), Some(list)) = (schema.get("items"), value.as_array()) {
            for item in list {
                self.compare(&format!("{at}[]"), items, item, found);
            }
        }
        let Some(object) = value.as_object() else { return };
        let (properties, required) = self.properties(schema);
        if properties.is_empty() {
            return;
        }
        for (name, value) in object {
            match properties.get(name.as_str()) {
                Some(property) => self.compare(&format!("{at}.{name}"), property, value, found),
                None => found
                    .push(format!("{at} has the field `{name}`, which openapi.yaml does not have")),
            }
        }
        for name in properties.keys() {
            if OPTIONAL.iter().any(|optional| at.ends_with(optional.0) && *name == optional.1) {
                continue;
            }
            if !object.contains_key(*name) {
                found.push(format!("{at} does not have the field `{name}` of openapi.yaml"));
            } else if !required.contains(name) {
                found.push(format!(
                    "{at} always has the field `{name}`, which openapi.yaml does not require"
                ));
            }
        }
    }

    fn routes(&self, found: &mut Vec<String>) {
        let described: BTreeSet<(String, bool)> = self
            .specs()
            .into_iter()
            .map(|(key, spec, _)| (key, spec["security"].as_array().is_some_and(Vec::is_empty)))
            .collect();
        let known = api_routes().map(|route| (route.key(), route.is_public)).collect();
        for (key, is_public) in described.symmetric_difference(&known) {
            found.push(format!("the route {key} (without a token: {is_public}) is not in both"));
        }
        for (key, spec, shared) in self.specs() {
            let path = key.split_once(' ').unwrap().1;
            let own = spec["parameters"].as_array().into_iter().flatten();
            let given: BTreeSet<&str> = own
                .chain(shared)
                .map(|parameter| self.resolve(parameter))
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let braces = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap());
            if given != braces.collect() {
                found.push(format!("{key} has other path parameters: {given:?}"));
            }
        }
    }

    fn problems(&self, found: &mut Vec<String>) {
        let kind = |problem: &Value| {
            let name = problem["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
            (name, problem["title"].clone().to_string(), problem["status"].as_u64().unwrap())
        };
        let known: BTreeSet<_> = Problem::examples()
            .iter()
            .map(|problem| kind(&serde_json::to_value(problem.details()).unwrap()))
            .collect();
        let examples = self.0["components"]["examples"].as_object().unwrap();
        let described: BTreeSet<_> = examples
            .iter()
            .map(|(name, example)| {
                let described = kind(&example["value"]);
                assert_eq!(*name, described.0, "an example has the name of its problem");
                described
            })
            .collect();
        for (name, title, status) in described.symmetric_difference(&known) {
            // No operation has it, because it is the response to what is no operation.
            let stands_at_the_top = self.0["info"]["description"].to_string().contains(name);
            if name == "method-not-allowed" && stands_at_the_top {
                continue;
            }
            found.push(format!("the problem {name} ({status}, {title}) is not in both"));
        }
        let document = std::fs::read_to_string(source::root().join("docs/PROBLEMS.md")).unwrap();
        let headings = document.lines().filter_map(|line| line.strip_prefix("## "));
        let documented: BTreeSet<&str> = headings.collect();
        let names = known.iter().map(|(name, _, _)| name.as_str()).collect();
        for name in documented.symmetric_difference(&names) {
            found.push(format!("the problem {name} is not in both docs/PROBLEMS.md and the code"));
        }
        for (name, title, status) in &known {
            let section = format!("\n## {name}\n\n`{status}`: {}.\n", title.trim_matches('"'));
            if !document.contains(&section) {
                found.push(format!("docs/PROBLEMS.md does not have: {section}"));
            }
        }
        let mut used = BTreeSet::new();
        for (key, spec, _) in self.specs() {
            for (status, response) in spec["responses"].as_object().unwrap() {
                let content = &self.resolve(response)["content"]["application/problem+json"];
                for (name, example) in content["examples"].as_object().into_iter().flatten() {
                    used.insert(name.clone());
                    let problem = &self.resolve(example)["value"];
                    if problem["status"].as_u64() != status.parse().ok() {
                        found.push(format!("{key}: {name} is not of the status {status}"));
                    }
                }
            }
        }
        for name in examples.keys().filter(|name| !used.contains(*name)) {
            found.push(format!("no response has the problem {name}"));
        }
    }

    /// Whether answers have the fields, types and values of their schemas.
    async fn answers(&self, found: &mut Vec<String>) {
        let operations = self.operations();
        assert_eq!(operations.len(), api_routes().count(), "each route has an event");
        for Operation { key, spec, function, event, .. } in operations {
            let harness = Harness::new().await.with_delivery().await.with_recovery().await;
            let answer = harness.run(&function, event).await;
            let status = answer["statusCode"].to_string();
            let response = self.resolve(&spec["responses"][&status]);
            if response.is_null() {
                found.push(format!("{key} answers {status}, which openapi.yaml does not have"));
                continue;
            }
            let schema = &response["content"]["application/json"]["schema"];
            let text = answer["body"].as_str().unwrap_or_default();
            if schema.is_null() || text.is_empty() {
                if schema.is_null() != text.is_empty() {
                    found.push(format!("{key}: only one of openapi.yaml and the code has a body"));
                }
                continue;
            }
            let body: Value = serde_json::from_str(text).unwrap();
            if key != "GET /api/openapi.json" {
                self.compare(&key, schema, &body, found);
            }
            for error in self.validator(schema).iter_errors(&body) {
                found.push(format!("{key}: the answer at {}: {error}", error.instance_path()));
            }
        }
    }

    /// All names that a field or a parameter could have.
    fn names(&self) -> BTreeSet<String> {
        let mut names = source::words();
        let mut open = vec![&self.0["paths"], &self.0["components"]];
        while let Some(value) = open.pop() {
            if let Some(properties) = value["properties"].as_object() {
                names.extend(properties.keys().cloned());
            }
            if let Some(name) = value["name"].as_str() {
                names.insert(name.to_owned());
            }
            match value {
                Value::Array(items) => open.extend(items),
                Value::Object(fields) => open.extend(fields.values()),
                _ => {}
            }
        }
        assert!(names.contains("retry_count") && names.contains("cursor"), "{names:?}");
        names
    }

    /// Whether the handlers know the same fields and parameters.
    async fn known_names(&self, found: &mut Vec<String>) {
        let names = self.names();
        for operation in self.operations() {
            let Operation { key, spec, parameters, .. } = &operation;
            let in_query = |name: &str| {
                parameters
                    .iter()
                    .any(|parameter| parameter["in"] == "query" && parameter["name"] == name)
            };
            let names: Vec<&String> = names.iter().collect();
            let has_body = !spec["requestBody"].is_null();
            let properties =
                if has_body { self.properties(body_schema(spec)).0 } else { BTreeMap::new() };
            // A problem names at most 100 fields.
            for names in names.chunks(50) {
                let query: Vec<String> = names.iter().map(|name| format!("{name}=%00")).collect();
                let refused = operation.errors(Some(&query.join("&")), None).await;
                let is_known = |name: &str| {
                    refused.get(name).is_none_or(|message| message != "is not a known parameter")
                };
                for name in names.iter().filter(|name| is_known(name) != in_query(name)) {
                    found.push(format!("{key}: the parameter `{name}` is not in both"));
                }
                if !has_body {
                    continue;
                }
                let body = names.iter().map(|name| ((*name).clone(), json!("\0"))).collect();
                let refused = operation.errors(None, Some(&Value::Object(body))).await;
                let is_known = |name: &str| {
                    refused.get(name).is_none_or(|message| message != "is not a known field")
                };
                let described = |name: &str| properties.contains_key(name);
                for name in names.iter().filter(|name| is_known(name) != described(name)) {
                    found.push(format!("{key}: the field `{name}` is not in both"));
                }
            }
        }
    }

    /// Whether the handlers accept the values that the schemas accept.
    async fn values(&self, found: &mut Vec<String>) {
        let mut tried = 0;
        for operation in self.operations() {
            let Operation { key, spec, parameters, .. } = &operation;
            for parameter in parameters.iter().filter(|parameter| parameter["in"] == "query") {
                let name = parameter["name"].as_str().unwrap();
                let schema = self.resolve(&parameter["schema"]);
                let validator = self.validator(schema);
                let mut values = Vec::new();
                self.candidates(schema, 0, &mut values);
                for value in values.iter().filter(|value| value.is_string() || value.is_number()) {
                    // A text of digits is a number in a query.
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let is_number = schema["type"] == "integer";
                    if schema.get("format").is_some() || (is_number && value.is_string()) {
                        continue;
                    }
                    let query = format!("{name}={}", text.replace(' ', "%20"));
                    let refused = operation.errors(Some(&query), None).await;
                    let expected = if is_number { json!(value) } else { json!(text) };
                    if refused.contains_key(name) == validator.is_valid(&expected) {
                        found.push(format!("{key}: only one of both accepts {name}={text}"));
                    }
                    tried += 1;
                }
            }
            if spec["requestBody"].is_null() {
                continue;
            }
            let schema = body_schema(spec);
            let example = &spec["requestBody"]["content"]["application/json"]["example"];
            let validator = self.validator(schema);
            assert!(validator.is_valid(example), "{key}: the example is not valid");
            for (name, property) in self.properties(schema).0 {
                if property["readOnly"] == true {
                    continue;
                }
                let mut values = Vec::new();
                self.candidates(property, 0, &mut values);
                let has_format = self.resolve(property).get("format").is_some();
                for value in values {
                    // The validator does not check formats.
                    let text = value.as_str().filter(|_| has_format);
                    if text.is_some_and(|text| !text.starts_with("https://")) {
                        continue;
                    }
                    let mut body = example.clone();
                    body[name] = value.clone();
                    let refused = operation.errors(None, Some(&body)).await;
                    if refused.is_empty() != validator.is_valid(&body) {
                        let shown: String = value.to_string().chars().take(80).collect();
                        let refusal = refused.get(name);
                        found.push(format!(
                            "{key}: only one of both accepts `{name}`: {shown} ({refusal:?})"
                        ));
                    }
                    tried += 1;
                }
            }
        }
        assert!(tried > 300, "{tried} values");
    }

    /// Values at the limits of a schema, beyond them, and of other types.
    fn candidates(&self, schema: &Value, depth: usize, values: &mut Vec<Value>) {
        let schema = self.resolve(schema);
        if depth == 0 {
            values.extend([
                json!(null),
                json!(true),
                json!(false),
                json!(0),
                json!(7),
                json!(-1),
                json!(1.5),
                json!(""),
                json!("no such value"),
                json!([]),
                json!({}),
                json!([null]),
                json!({"x": 1}),
                json!({"x": [1]}),
                json!({"x": []}),
                json!({"x": {"y": [{"prefix": "z"}]}}),
                json!({"x": [{"no-operator": 1}]}),
                json!({"x": [{"numeric": [">", 1]}, {"exists": false}]}),
                json!({"x": [{"numeric": [">"]}]}),
                json!({"x": [{"anything-but": []}]}),
                json!({"$or": [{"x": [1]}]}),
                json!({"$or": [{"x": [1]}, {"y": [2]}]}),
                json!({"x": [{"wildcard": "a**"}]}),
            ]);
        }
        for value in schema["enum"].as_array().into_iter().flatten() {
            values.push(value.clone());
        }
        for (limit, step) in [("minimum", -1), ("maximum", 1)] {
            if let Some(limit) = schema[limit].as_i64() {
                values.extend([json!(limit), json!(limit + step)]);
            }
        }
        if let Some(most) = schema["maxLength"].as_u64() {
            let most = usize::try_from(most).unwrap();
            let of_length = |length: usize| {
                if schema["format"] == "uri" {
                    format!("https://example.com/{}", "x".repeat(length - 20))
                } else {
                    "é".repeat(length)
                }
            };
            values.extend([json!(of_length(most)), json!(of_length(most + 1))]);
        }
        if let Some(items) = schema.get("items") {
            let mut inner = Vec::new();
            self.candidates(items, depth + 1, &mut inner);
            for item in &inner {
                values.extend([json!([item]), json!([item, item])]);
            }
            for limit in ["minItems", "maxItems"] {
                let Some(limit) =
                    schema[limit].as_u64().map(|limit| usize::try_from(limit).unwrap())
                else {
                    continue;
                };
                for length in [limit.saturating_sub(1), limit, limit + 1] {
                    let list: Vec<&Value> = inner.iter().cycle().take(length).collect();
                    values.push(json!(list));
                    values.push(json!(vec![1; length]));
                }
            }
        }
        for part in ["oneOf", "anyOf", "allOf"] {
            for schema in schema[part].as_array().into_iter().flatten() {
                self.candidates(schema, depth + 1, values);
            }
        }
    }

    /// Whether a default that is given explicitly changes the answer.
    async fn defaults(&self, found: &mut Vec<String>) {
        let limit = &self.0["components"]["parameters"]["limit"]["schema"]["default"];
        if *limit != json!(PAGE_DEFAULT) {
            found.push(format!("the default of `limit` is {PAGE_DEFAULT}"));
        }
        for operation in self.operations() {
            let Operation { key, spec, .. } = &operation;
            if spec["requestBody"].is_null() {
                continue;
            }
            let example = &spec["requestBody"]["content"]["application/json"]["example"];
            for (name, property) in self.properties(body_schema(spec)).0 {
                let Some(default) = self.resolve(property).get("default") else { continue };
                let mut without = example.clone();
                without.as_object_mut().unwrap().remove(name);
                let mut with = without.clone();
                with[name] = default.clone();
                // A change of nothing is no change.
                if key.starts_with("PATCH") {
                    continue;
                }
                let answers = [
                    operation.run(None, Some(&without)).await,
                    operation.run(None, Some(&with)).await,
                ];
                if answers[0] != answers[1] {
                    found.push(format!("{key}: the default of `{name}` is not {default}"));
                }
            }
        }
    }

    async fn findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.routes(&mut found);
        self.problems(&mut found);
        if found.is_empty() {
            self.answers(&mut found).await;
            self.known_names(&mut found).await;
            self.values(&mut found).await;
            self.defaults(&mut found).await;
        }
        found
    }
}

/// The routes of the API. The console is a page, not a part of it.
fn api_routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.path.starts_with("/api/"))
}

fn body_schema(operation: &Value) -> &Value {
    &operation["requestBody"]["content"]["application/json"]["schema"]
}

impl Operation<'_> {
    /// The answer to the event with another query or body.
    async fn run(&self, query: Option<&str>, body: Option<&Value>) -> Value {
        let mut event = self.event.clone();
        if let Some(query) = query {
            event["rawQueryString"] = query.into();
        }
        if let Some(body) = body {
            event["body"] = body.to_string().into();
            event["isBase64Encoded"] = false.into();
        }
        let harness = Harness::new().await.with_delivery().await.with_recovery().await;
        harness.run(&self.function, event).await
    }

    /// The fields that are refused, with the reasons.
    async fn errors(&self, query: Option<&str>, body: Option<&Value>) -> BTreeMap<String, String> {
        let answer = self.run(query, body).await;
        if answer["statusCode"] != 422 {
            assert_ne!(answer["statusCode"], 400, "{answer}");
            return BTreeMap::new();
        }
        let problem: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        let errors = problem["errors"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        errors.map(|error| (text(&error["field"]), text(&error["message"]))).collect()
    }
}

#[test]
fn every_example_of_the_catalogue_matches_its_schema() {
    for entry in CATALOGUE.iter().chain(&OPERATIONAL) {
        let schema: Value = serde_json::from_str(entry.schema).unwrap();
        let example: Value = serde_json::from_str(entry.example).unwrap();
        assert!(jsonschema::draft202012::meta::is_valid(&schema), "{}.json", entry.name);
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&example).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}.json: {errors:?}", entry.name);
    }
}

#[test]
fn asyncapi_describes_events_as_they_are_parsed() {
    let text = std::fs::read_to_string(source::root().join("asyncapi.yaml")).unwrap();
    let document = from_yaml(&text).unwrap();
    let schema = json!({
        "$ref": "#/components/schemas/Event", "components": document["components"],
    });
    let validator =
        jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap();
    let fields = &document["components"]["schemas"]["Event"]["properties"];
    let described: BTreeSet<&str> =
        fields.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(described, Field::ALL.iter().map(|field| field.as_str()).collect());

    let example = &document["components"]["messages"]["event"]["examples"][0]["payload"];
    let mut reasons = BTreeSet::new();
    let values = [
        json!(null),
        json!(7),
        json!(""),
        json!("x"),
        json!("task.created"),
        json!([]),
        json!({}),
        json!("x".repeat(256)),
        json!("x".repeat(257)),
        json!("2026-01-19T11:30:00Z"),
        json!("2026-01-19T11:30:00.25+02:00"),
        json!("2026-01-19"),
    ];
    for name in described {
        let with = values.iter().map(|value| Some(value.clone()));
        for value in with.chain([None]) {
            let mut event = example.clone();
            match value {
                Some(value) => event[name] = value,
                None => _ = event.as_object_mut().unwrap().remove(name),
            }
            let parsed = Event::parse(&event.to_string(), "m", Timestamp::EPOCH);
            assert_eq!(parsed.is_ok(), validator.is_valid(&event), "{event}: {parsed:?}");
            reasons.extend(parsed.err().map(|error| error.reason()));
        }
    }
    let described = &document["components"]["messages"]["invalidEvent"]["headers"]["properties"];
    let described = described["reason"]["enum"].as_array().unwrap();
    let described: BTreeSet<&str> = described.iter().filter_map(Value::as_str).collect();
    assert!(reasons.is_subset(&described), "{reasons:?}");
    assert_eq!(described, source::reasons());
}

#[tokio::test]
async fn openapi_is_equal_to_the_code() {
    let found = Contract::of_repository().findings().await;
    assert!(found.is_empty(), "{HELP}\n{found:#?}");
}

#[tokio::test]
async fn difference_between_openapi_and_the_code_is_found() {
    let changes: [(&str, &str, Option<Value>); 8] = [
        ("the route GET /api/webhooks ", "/paths/~1api~1webhooks/get", None),
        ("the problem not-found", "/components/examples/not-found/value/status", Some(410.into())),
        (
            "the field `timeout_seconds`",
            "/components/schemas/NewWebhook/properties/timeout_seconds",
            None,
        ),
        (
            "only one of both accepts",
            "/components/schemas/NewWebhook/properties/timeout_seconds/maximum",
            Some(61.into()),
        ),
        (
            "the default of `timeout_seconds`",
            "/components/schemas/NewWebhook/properties/timeout_seconds/default",
            Some(11.into()),
        ),
        ("has the field `is_active`", "/components/schemas/Webhook/properties/is_active", None),
        ("the parameter `limit`", "/components/parameters/limit/name", Some("size".into())),
        ("the default of `limit`", "/components/parameters/limit/schema/default", Some(10.into())),
    ];
    for (what, path, value) in changes {
        let mut contract = Contract::of_repository();
        if let Some(value) = value {
            *contract.0.pointer_mut(path).unwrap() = value;
        } else {
            let (parent, name) = path.rsplit_once('/').unwrap();
            let parent = contract.0.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            assert!(parent.remove(name).is_some(), "{path}");
        }
        crate::assert_found(what, &contract.findings().await);
    }
}
