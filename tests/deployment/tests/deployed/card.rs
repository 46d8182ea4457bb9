//! The packages that the product owner named are used in what is deployed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::source;

const NAMED: [&str; 10] = [
    "lambda_http",
    "lambda_runtime",
    "aws-sdk-dynamodb",
    "aws-sdk-sqs",
    "aws_lambda_events",
    "serde",
    "reqwest",
    "hmac",
    "sha2",
    "tokio",
];

/// The crates of this workspace.
fn workspace() -> Vec<Value> {
    let manifest = source::root().join("Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The dependencies of a crate, without those of its tests and its build script.
fn dependencies(package: &Value) -> impl Iterator<Item = &str> {
    let all = package["dependencies"].as_array().unwrap().iter();
    all.filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| dependency["name"].as_str().unwrap())
}

fn folder(package: &Value) -> &Path {
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap()
}

/// The functions, and every crate of the workspace that one of them depends on.
fn deployed(workspace: &[Value]) -> Vec<&Value> {
    let is_function = |package: &&Value| folder(package).parent().unwrap().ends_with("functions");
    let mut deployed: Vec<&Value> = workspace.iter().filter(is_function).collect();
    assert_eq!(
        deployed.len(),
        std::fs::read_dir(source::root().join("functions")).unwrap().count()
    );
    let mut next = 0;
    while let Some(package) = deployed.get(next) {
        let names: BTreeSet<&str> = dependencies(package).collect();
        let new = workspace.iter().filter(|other| names.contains(other["name"].as_str().unwrap()));
        let new: Vec<&Value> = new.filter(|other| !deployed.contains(other)).collect();
        deployed.extend(new);
        next += 1;
    }
    deployed
}

/// Whether a crate depends on a package and its source names it.
fn uses(package: &Value, name: &str) -> bool {
    let in_source = format!("{}::", name.replace('-', "_"));
    dependencies(package).any(|dependency| dependency == name)
        && source_files(&folder(package).join("src")).iter().any(|text| text.contains(&in_source))
}

fn source_files(folder: &Path) -> Vec<String> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = paths.flat_map(|path| {
        let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
        match path.is_dir() {
            _ if is_tests => Vec::new(),
            true => source_files(&path),
            false => vec![std::fs::read_to_string(&path).unwrap()],
        }
    });
    texts.collect()
}

#[test]
fn every_named_package_is_used_in_what_is_deployed() {
    let workspace = workspace();
    let deployed = deployed(&workspace);
    let unused = |names: &[&'static str]| -> Vec<&'static str> {
        let is_used = |name: &str| deployed.iter().any(|package| uses(package, name));
        names.iter().copied().filter(|name| !is_used(name)).collect()
    };
    assert_eq!(unused(&NAMED), [""; 0]);
    // Packages of the tests and of the local system only, and one that does not exist.
    let others = ["proptest", "axum", "no-such-package"];
    assert_eq!(unused(&others), others);
}
