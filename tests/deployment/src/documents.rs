//! The parts of the documents and of `openapi.yaml` that are made from the catalogue.
//!
//! A [`Section`] stands in its file between two marked lines. A test compares each with its file;
//! `cargo run -p deployment --bin write-catalogue` writes them.

use std::fmt::Write as _;

use webhooks_core::catalogue::{CATALOGUE, Entry};

/// A part of a file.
#[derive(Clone, Debug)]
pub struct Section {
    /// The file, from the root of the repository.
    pub file: &'static str,
    begin: &'static str,
    end: &'static str,
    /// What stands between the marked lines.
    pub text: String,
}

impl Section {
    /// The file's text with this section in its place; nothing if the marked lines are missing.
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
        markdown("docs/PUBLISHING.md", for_publishers()),
    ]
}

fn for_receivers() -> String {
    let mut text = format!(
        "There are {}. `GET /api/webhooks/event-types` lists them, each with the JSON Schema of its `data`.\n\
         Each entry below shows a sample of `data`. More fields may be added.\n\n",
        CATALOGUE.len()
    );
    for Entry { name, description, example, .. } in &CATALOGUE {
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

/// The name of the struct for `data`, as the build script of the publisher makes it.
fn camel_case(name: &str) -> String {
    let words = name.split(['.', '_']).filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}
