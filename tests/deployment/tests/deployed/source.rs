//! What the source of a function calls, found by its text.
//!
//! The functions hold their ports in fields of fixed names, so a call reads `.PORT.METHOD(`. A use
//! of a port that is no call, nor one of those known below, fails the test: it would go unseen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The fields that hold ports behind which AWS is.
pub(crate) const PORTS: [&str; 7] = [
    "subscriptions",
    "deliveries",
    "due_index",
    "statistics",
    "cleanup_state",
    "queue",
    "dead_letter_queue",
];

/// A port and a method of it.
pub(crate) type Call = (&'static str, String);

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The library of a function without its tests, all white space removed.
pub(crate) fn library(function: &str) -> String {
    let folder = root().join("functions").join(function).join("src");
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_file() && name != "main.rs" && name != "tests.rs" {
            text += &std::fs::read_to_string(path).unwrap();
        }
    }
    squeeze(&text)
}

/// The `main` of a function, all white space removed.
pub(crate) fn main(function: &str) -> String {
    let path = root().join("functions").join(function).join("src/main.rs");
    squeeze(&std::fs::read_to_string(path).unwrap())
}

/// Every call of a port in a library.
pub(crate) fn port_calls(library: &str) -> BTreeSet<Call> {
    let mut calls = BTreeSet::new();
    for port in PORTS {
        for name in names_after(library, &format!(".{port}.")) {
            // A port is handed on whole only to what sends all tasks.
            let method = if name == "as_ref" { "send".to_owned() } else { name };
            calls.insert((port, method));
        }
        for alias in aliases(library, port) {
            calls.extend(names_after(library, &format!("{alias}.")).into_iter().map(|m| (port, m)));
        }
    }
    calls
}

/// Every use of a port that [`port_calls`] does not see: one that is handed on whole, say.
pub(crate) fn unseen(library: &str) -> Vec<String> {
    let mut unseen = Vec::new();
    for port in PORTS {
        let known: Vec<String> =
            aliases(library, port).iter().map(|name| format!("let{name}=&")).collect();
        for owner in ["self", "deliver"] {
            let field = format!("{owner}.{port}");
            for (at, _) in library.match_indices(&field) {
                let (before, after) = (&library[..at], &library[at + field.len()..]);
                let is_call = after.starts_with('.');
                let is_longer = after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
                let is_alias = known.iter().any(|alias| before.ends_with(alias));
                if !is_call && !is_longer && !is_alias {
                    unseen.push(field.clone());
                }
            }
        }
    }
    unseen
}

/// Every method of this object that a text calls.
pub(crate) fn names_after(text: &str, prefix: &str) -> BTreeSet<String> {
    let starts = text.match_indices(prefix).filter(|(at, _)| {
        // `x.` must not be the end of `max.`.
        prefix.starts_with('.') || !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
    });
    let rests = starts.map(|(at, _)| &text[at + prefix.len()..]);
    rests.filter_map(|rest| identifier(rest).strip_suffix('(')).map(str::to_owned).collect()
}

/// The names under which `let store = &self.PORT;` makes a port known.
fn aliases(library: &str, port: &str) -> Vec<String> {
    let end = format!(".{port};");
    let ends = library.match_indices(&end).map(|(at, _)| &library[..at]);
    ends.filter_map(|before| {
        let statement = &before[before.rfind([';', '{', '}'])? + 1..];
        let (name, _) = statement.strip_prefix("let")?.split_once("=&")?;
        Some(name.to_owned())
    })
    .collect()
}

/// The identifier at the beginning, and the `(` if that follows.
fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let end = if text[end..].starts_with('(') { end + 1 } else { end };
    &text[..end]
}

fn squeeze(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.filter_map(|line| line.split(" // ").next());
    code.flat_map(|line| line.chars().filter(|c| !c.is_whitespace())).collect()
}

#[test]
fn calls_are_found() {
    let text = squeeze(
        "let a = self.subscriptions\n.get(x).await; // self.queue\nlet store = &self.deliveries;\n\
         store.put(1); restore.never(2); send_tasks(self.queue.as_ref(), t); self.deliveries.clone",
    );
    let calls = port_calls(&text);
    let expected = [("deliveries", "put"), ("queue", "send"), ("subscriptions", "get")];
    assert_eq!(calls, expected.map(|(port, method)| (port, method.to_owned())).into());
    assert!(unseen(&text).is_empty());
    assert_eq!(unseen("{lett=&self.queue;t.send(x);helper(&self.deliveries)"), ["self.deliveries"]);
}
