//! SECURITY.md names tests; here it is held to them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The `path.rs::name`s of a text.
fn named(text: &str) -> BTreeSet<(String, String)> {
    let codes = text.split('`').skip(1).step_by(2);
    codes
        .filter_map(|code| code.split_once(".rs::"))
        .map(|(path, name)| (format!("{path}.rs"), name.to_owned()))
        .collect()
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let tests = named(&text);
    assert!(tests.len() >= 40, "{} tests are named", tests.len());
    for (path, name) in tests {
        let code = fs::read_to_string(root().join(&path)).unwrap_or_default();
        assert!(code.contains(&format!("fn {name}(")), "{path} has no {name}");
    }
}

#[test]
fn every_threat_is_answered_or_said_to_be_open() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.matches('|').count() == 4);
    let mut threats = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, wants, stopped, shown, _] = cells.as_slice() else { panic!("{row}") };
        if *wants == "wants" || *wants == "asset" || text_of_assets(&text).contains(row) {
            continue;
        }
        threats += 1;
        let open = stopped.starts_with("**");
        assert_eq!(open, *shown == "–", "{row}");
        assert!(open || shown.contains('`'), "{row}");
    }
    assert!(threats >= 20, "{threats} threats");
}

fn text_of_assets(text: &str) -> &str {
    let start = text.find("## What is worth protecting").unwrap();
    let end = text.find("## Who could want what").unwrap();
    &text[start..end]
}
