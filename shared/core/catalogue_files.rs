// The files of the catalogue, read by build scripts: this crate's and the publisher's.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One file of the catalogue.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventTypeFile {
    pub(crate) name: String,
    pub(crate) category: String,
    pub(crate) description: String,
    pub(crate) schema: Box<RawValue>,
    pub(crate) example: Box<RawValue>,
}

/// Every file in the folder, ordered by name. A mistake ends the build with the file and the reason.
pub(crate) fn read(folder: &Path) -> Vec<EventTypeFile> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("a folder is readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    assert!(!paths.is_empty(), "{} has no .json file", folder.display());
    let files = paths.iter().map(|path| {
        let text =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        check(path, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    });
    files.collect()
}

fn check(path: &Path, text: &str) -> Result<EventTypeFile, String> {
    let file: EventTypeFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    if !file.name.contains('.') || !file.name.split('.').all(is_part) {
        return Err(
            "`name` must be lower-case words with dots between them, such as `task.created`"
                .to_owned(),
        );
    }
    if path.file_stem().is_none_or(|stem| stem != file.name.as_str()) {
        return Err(format!("the file of the event type {0} must be called {0}.json", file.name));
    }
    for (field, text) in [("category", &file.category), ("description", &file.description)] {
        if text.trim().is_empty() {
            return Err(format!("`{field}` must not be empty"));
        }
    }
    for (field, value) in [("schema", &file.schema), ("example", &file.example)] {
        if !value.get().starts_with('{') {
            return Err(format!("`{field}` must be a JSON object"));
        }
    }
    Ok(file)
}

/// The JSON without white space between tokens and with each string in its shortest spelling.
pub(crate) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' { string_length(rest) } else { first.len_utf8() };
        let (token, tail) = rest.split_at(length);
        rest = tail;
        if first == '"' {
            let text: String = serde_json::from_str(token).expect("a token of valid JSON");
            out += &serde_json::to_string(&text).expect("a string is JSON");
        } else if !first.is_ascii_whitespace() {
            out.push(first);
        }
    }
    out
}

/// The length of the string literal with which valid JSON begins.
fn string_length(json: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    json.len()
}
