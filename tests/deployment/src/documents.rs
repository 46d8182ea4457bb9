//! The parts of the documents and of `openapi.yaml` that are made from the catalogue.
//!
//! A [`Section`] is in its file between two marked lines. A test compares each with its file;
//! `cargo run --bin write-catalogue` writes them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;
use webhooks_core::catalogue::{CATALOGUE, Entry, OPERATIONAL};

/// A part of a file.
#[derive(Clone, Debug)]
pub struct Section {
    /// The file, from the root of the repository.
    pub file: &'static str,
    begin: &'static str,
    end: &'static str,
    /// What is between the marked lines.
    pub text: String,
}

impl Section {
    /// The file's text with this section in its place; `None` if the marked lines are missing.
    pub fn put_into(&self, file: &str) -> Option<String> {
        let (before, rest) = file.split_once(self.begin)?;
        let (_, after) = rest.split_once(self.end)?;
        Some(format!("{before}{}{}{}{after}", self.begin, self.text, self.end))
    }
}

/// Every section.
pub fn sections() -> Vec<Section> {
    let markdown = |file, text| Section {
        file,
        begin: "<!-- catalogue: begin -->\n",
        end: "<!-- catalogue: end -->\n",
        text,
    };
    vec![
        markdown("docs/WEBHOOKS.md", for_receivers()),
        Section {
            file: "docs/WEBHOOKS.md",
            begin: "<!-- operational types: begin -->\n",
            end: "<!-- operational types: end -->\n",
            text: samples(&OPERATIONAL),
        },
        markdown("docs/PUBLISHING.md", for_publishers()),
        Section {
            file: "openapi.yaml",
            begin: "    # catalogue: begin\n",
            end: "    # catalogue: end\n",
            text: for_openapi(),
        },
        Section {
            file: "asyncapi.yaml",
            begin: "    # catalogue: begin\n",
            end: "    # catalogue: end\n",
            text: event_type_name(CATALOGUE.iter()),
        },
    ]
}

fn for_receivers() -> String {
    let mut text = format!(
        "There are {}. `GET /api/webhooks/event-types` lists them, each with the JSON Schema of its `data`.\n\
         Each entry below shows a sample of `data`. More fields may be added.\n\n",
        CATALOGUE.len()
    );
    text += &samples(&CATALOGUE);
    text
}

fn samples(entries: &[Entry]) -> String {
    let mut text = String::new();
    for Entry { name, description, example, .. } in entries {
        let description = description.trim_end_matches('.');
        write!(text, "`{name}`: {description}.\n\n```json\n{example}\n```\n\n")
            .expect("writing to a string does not fail");
    }
    text
}

fn for_publishers() -> String {
    let mut text =
        "For each type: the function of the crate and a complete message. The struct has one \
        field for each\nproperty of the schema in [`catalogue/`](../catalogue).\n\n"
            .to_owned();
    for Entry { name, example, .. } in &CATALOGUE {
        let (function, data) = (name.replace('.', "_"), camel_case(name));
        write!(
            text,
            "`{name}`: `{function}(user_id, {data} {{ … }})`\n\n```json\n\
             {{\"event_type\":\"{name}\",\"user_id\":\"alice\",\"data\":{example}}}\n```\n\n"
        )
        .expect("writing to a string does not fail");
    }
    text
}

/// The schemas of names and the requests that receivers get, as the end of `openapi.yaml`. JSON is YAML.
fn for_openapi() -> String {
    let names: Vec<&str> = CATALOGUE.iter().map(|entry| entry.name).collect();
    let mut wildcards = BTreeSet::from(["*".to_owned()]);
    for name in &names {
        let dots = name.match_indices('.').map(|(at, _)| at);
        wildcards.extend(dots.map(|at| format!("{}.*", &name[..at])));
    }
    let mut text = event_type_name(CATALOGUE.iter().chain(&OPERATIONAL));
    write!(
        text,
        "    EventTypeWildcard: {{description: Selects the types whose names begin so., type: string, enum: {}}}\n\
         webhooks:\n",
        json!(wildcards)
    )
    .expect("writing to a string does not fail");
    for Entry { name, description, schema, example, .. } in CATALOGUE.iter().chain(&OPERATIONAL) {
        let operation = name.replace('.', "_");
        let description = json!(description);
        let payload = format!(
            r#"{{"event_id":"evt_1","event_type":"{name}","timestamp":"2026-01-15T10:00:00.000Z","data":{example}}}"#
        );
        let headers = HEADERS.map(|name| format!("{{$ref: '#/components/parameters/{name}'}}"));
        write!(
            text,
            "  {name}:\n    post:\n      operationId: {operation}\n      tags: [Events]\n      \
             summary: {description}\n      security: []\n      parameters: [{}]\n      \
             requestBody:\n        required: true\n        content:\n          application/json:\n            \
             schema:\n              allOf:\n                \
             - $ref: '#/components/schemas/EventPayload'\n                \
             - type: object\n                  properties:\n                    \
             event_type: {{const: {name}}}\n                    data: {schema}\n            \
             example: {payload}\n      responses:\n        \
             2XX: {{description: The receiver accepts the event.}}\n        \
             4XX: {{description: A failure that is retried; 410 disables the webhook.}}\n        \
             5XX: {{description: A failure that is retried.}}\n",
            headers.join(", "),
        )
        .expect("writing to a string does not fail");
    }
    text
}

fn event_type_name<'a>(entries: impl Iterator<Item = &'a Entry>) -> String {
    let names: Vec<&str> = entries.map(|entry| entry.name).collect();
    let names = json!(names);
    format!(
        "    EventTypeName: {{description: The name of an event type., type: string, enum: {names}}}\n"
    )
}

/// The headers of a request to a receiver.
const HEADERS: [&str; 8] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "X-Webhook-Signature",
    "X-Webhook-Event",
    "X-Webhook-Delivery-Id",
    "X-Webhook-Attempt",
    "traceparent",
];

/// The name of the struct for `data`, as the build script of the publisher makes it.
fn camel_case(name: &str) -> String {
    let words = name.split(['.', '_']).filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}
