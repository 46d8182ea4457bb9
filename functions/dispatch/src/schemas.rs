//! Strict checking: the `data` of an event must be valid against the JSON Schema of its type.
//!
//! Deliberately absent: checks of `format`, which the specification leaves to the reader, and references
//! to other documents, which would need the network.

use std::collections::BTreeMap;

use jsonschema::Validator;
use serde_json::Value;
use webhooks_core::catalogue::EventType;
use webhooks_core::event::{Event, EventError};

/// Violations that are listed.
const LISTED_MAX: usize = 3;
/// Characters of one violation, which may name keys of the publisher.
const CHARS_MAX: usize = 200;

/// The schemas of the catalogue, compiled once.
pub(crate) struct Schemas(BTreeMap<&'static str, Validator>);

impl Schemas {
    /// # Panics
    ///
    /// Where a schema of the catalogue is none; a test compiles them all.
    pub(crate) fn compile() -> Self {
        let compile = |event_type: EventType| {
            let entry = event_type.entry();
            let schema: Value = serde_json::from_str(entry.schema).expect("the build checked it");
            let validator = jsonschema::draft202012::new(&schema);
            (entry.name, validator.expect("a test compiles the schemas of the catalogue"))
        };
        Self(EventType::all().map(compile).collect())
    }

    /// Refuses an event with the JSON pointers of what is not valid. Values are not shown: they may be
    /// personal, and the reason is logged.
    pub(crate) fn check(&self, event: &Event) -> Result<(), EventError> {
        let violation = |text: String| Err(EventError::SchemaViolation(text));
        let Ok(data) = serde_json::from_str::<Value>(event.data.as_str()) else {
            return violation("has a number that is out of range".to_owned());
        };
        let validator = &self.0[event.event_type.name()];
        let errors: Vec<String> = validator
            .iter_errors(&data)
            .take(LISTED_MAX)
            .map(|error| {
                let pointer = error.instance_path().as_str();
                printable(&format!("at `{pointer}`: {}", error.masked()))
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { violation(errors.join("; ")) }
    }
}

/// Without characters that a message attribute may not have.
fn printable(text: &str) -> String {
    let is_refused = |c: char| c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}');
    text.chars().take(CHARS_MAX).map(|c| if is_refused(c) { ' ' } else { c }).collect()
}
