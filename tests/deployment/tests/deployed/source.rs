//! The source of the functions as text: what `main` reads from its environment, and the metrics that a
//! library names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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

/// Every string literal in the API's source that could be the name of a field or a parameter.
pub(crate) fn words() -> BTreeSet<String> {
    let mut folders = vec![root().join("shared/api/src")];
    let functions = std::fs::read_dir(root().join("functions")).unwrap();
    folders.extend(functions.map(|folder| folder.unwrap().path().join("src")));
    let mut words = BTreeSet::new();
    for folder in folders {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let is_name = |word: &&str| {
                !word.is_empty()
                    && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            };
            words.extend(text.split('"').filter(is_name).map(str::to_owned));
        }
    }
    words
}

/// Every reason why an event is invalid.
pub(crate) fn reasons() -> BTreeSet<&'static str> {
    const EVENT: &str = include_str!("../../../../shared/core/src/event.rs");
    let (_, rest) = EVENT.split_once("pub fn reason(&self)").unwrap();
    let (body, _) = rest.split_once("\n    }\n").unwrap();
    body.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
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
fn method_calls_are_found() {
    let text =
        squeeze("let a = environment\n.queue(x).await; // environment.none()\nmy_environment.no()");
    assert_eq!(names_after(&text, "environment."), BTreeSet::from(["queue".to_owned()]));
}
