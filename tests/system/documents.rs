//! What the documents name exists: tests, linked files and sections, and packages in commands.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// README.md and its siblings, docs/*.md and docs/adr/*.md.
fn documents() -> Vec<PathBuf> {
    let folders = ["", "docs", "docs/adr"].map(|folder| root().join(folder));
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn anchors(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

/// The targets of `[text](target)`, without those on other hosts.
fn links(document: &str) -> impl Iterator<Item = &str> {
    let targets = document.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.contains(char::is_whitespace))
}

#[test]
fn every_relative_link_resolves() {
    let mut checked = 0;
    for path in documents() {
        let document = read(&path);
        for link in links(&document) {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            let resolves = section.is_empty() || anchors(&read(&target)).contains(section);
            assert!(resolves, "{}: {link} has no such section", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 50, "{checked} links");
}

#[test]
fn every_named_file_exists() {
    const FOLDERS: [&str; 6] = ["docs/", "functions/", "local/", "scripts/", "shared/", "tests/"];
    let mut checked = 0;
    for path in documents() {
        let document = read(&path);
        for code in document.split('`').skip(1).step_by(2) {
            let is_path = FOLDERS.iter().any(|folder| code.starts_with(folder))
                && !code.contains([' ', '*', ':', '\n']);
            if is_path {
                assert!(root().join(code).exists(), "{}: {code}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked >= 40, "{checked} files");
}

#[test]
fn every_package_in_a_command_exists() {
    let lock = read(&root().join("Cargo.lock"));
    let mut checked = 0;
    for path in documents() {
        let document = read(&path);
        let commands = document.split("cargo ").skip(1).map(|rest| rest.lines().next().unwrap());
        for command in commands.filter_map(|command| command.split('`').next()) {
            let Some((_, rest)) = command.split_once(" -p ") else { continue };
            let package = rest.split_whitespace().next().unwrap();
            let exists = lock.contains(&format!("\nname = \"{package}\"\n"));
            assert!(exists, "{}: cargo {command}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 10, "{checked} commands");
}

/// The `path.rs::name`s of a text.
fn named_tests(text: &str) -> BTreeSet<(String, String)> {
    let codes = text.split('`').skip(1).step_by(2);
    codes
        .filter_map(|code| code.split_once(".rs::"))
        .map(|(path, name)| (format!("{path}.rs"), name.to_owned()))
        .collect()
}

#[test]
fn every_named_test_exists() {
    let mut checked = 0;
    for path in documents() {
        for (file, name) in named_tests(&read(&path)) {
            let code = fs::read_to_string(root().join(&file)).unwrap_or_default();
            let exists = code.contains(&format!("fn {name}("));
            assert!(exists, "{}: {file} has no {name}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 40, "{checked} tests are named");
}

#[test]
fn every_threat_names_a_test_or_is_open() {
    let text = read(&root().join("SECURITY.md"));
    let (_, threats) = text.split_once("\n## Threats and defences\n").unwrap();
    let rows = threats.lines().filter(|line| line.starts_with("| "));
    let mut checked = 0;
    for row in rows.filter(|row| !row.starts_with("| wants ")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, _, stopped, shown, _] = cells.as_slice() else { panic!("{row}") };
        let open = stopped.starts_with("**");
        assert_eq!(open, *shown == "–", "{row}");
        assert!(open || shown.contains('`'), "{row}");
        checked += 1;
    }
    assert!(checked >= 20, "{checked} threats");
}
