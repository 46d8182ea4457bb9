//! That the guarded client is the only way out of what is deployed.
//!
//! `shared/clippy.toml` forbids everything that opens a connection, asks a name server or starts a
//! process, in `shared` and in `functions`. These tests know every waiver, and that no crate
//! brings a client of its own.

#![expect(clippy::unwrap_used, reason = "what does not go as planned fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How often each file waives the lint, and what it does instead.
const WAIVERS: [(&str, usize, &str); 8] = [
    ("shared/aws/src/clients.rs", 1, "the clients of AWS itself"),
    ("shared/aws/src/config.rs", 1, "the environment"),
    ("shared/aws/src/system.rs", 2, "the clock and randomness"),
    ("shared/outbound/src/connection.rs", 1, "connects to vetted addresses"),
    ("shared/outbound/src/exchange.rs", 1, "speaks HTTP on these connections"),
    ("shared/outbound/src/resolver.rs", 1, "resolves and vets names"),
    ("shared/publisher/src/system.rs", 2, "the clock and randomness"),
    ("shared/runtime/src/telemetry.rs", 2, "the environment and the clock"),
];

/// Crates with which one could get out past the guard, by the start of their names.
const CLIENTS: [&str; 20] = [
    "async-std",
    "attohttpc",
    "awc",
    "curl",
    "hickory",
    "hyper",
    "hyper-util",
    "isahc",
    "libc",
    "mio",
    "native-tls",
    "nix",
    "openssl",
    "quinn",
    "reqwest",
    "rustix",
    "smol",
    "socket2",
    "tokio-rustls",
    "ureq",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What is deployed: every crate in `shared` and `functions` but those for tests.
fn crates() -> Vec<PathBuf> {
    let all = ["shared", "functions"].into_iter().flat_map(|folder| {
        fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path())
    });
    let crates: Vec<_> = all
        .filter(|path| path.join("Cargo.toml").exists())
        .filter(|path| !path.ends_with("tests/support") && !path.ends_with("tests/deployment"))
        .collect();
    assert!(crates.len() >= 13, "{crates:?}");
    crates
}

/// The sources of a folder, without those of tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests") || path.ends_with("tests.rs") {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The part of a file before its own tests.
fn deployed_part(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

#[test]
fn every_waiver_is_known() {
    let mut files = Vec::new();
    for path in crates() {
        sources(&path.join("src"), &mut files);
    }
    let mut waivers = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let text = deployed_part(&text);
        let count = text.matches("clippy::disallowed_methods").count();
        if count > 0 {
            let name = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            waivers.insert(name, count);
        }
        for blanket in ["clippy::all", "clippy::style", "allow(clippy::disallowed"] {
            assert!(!text.contains(blanket), "{} waives {blanket}", file.display());
        }
    }
    let known: BTreeMap<_, _> =
        WAIVERS.iter().map(|(name, count, _)| ((*name).to_owned(), *count)).collect();
    assert_eq!(waivers, known);
}

#[test]
fn no_other_crate_has_a_client() {
    for path in crates() {
        if path.ends_with("shared/outbound") {
            continue;
        }
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap();
        let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
        let dependencies = dependencies.split("\n[").next().unwrap();
        for line in dependencies.lines() {
            let name = line.split(['.', ' ']).next().unwrap();
            assert!(!CLIENTS.contains(&name), "{}: {line}", path.display());
            let sockets = ["\"net\"", "\"process\"", "\"full\""].iter().any(|f| line.contains(f));
            assert!(!(name == "tokio" && sockets), "{}: {line}", path.display());
        }
    }
}

/// The lint is only as good as its list, which each of the folders must see.
#[test]
fn both_folders_have_the_lints() {
    let shared = fs::read_to_string(root().join("shared/clippy.toml")).unwrap();
    assert_eq!(fs::read_to_string(root().join("functions/clippy.toml")).unwrap(), shared);
    let everywhere = fs::read_to_string(root().join("clippy.toml")).unwrap();
    for line in everywhere.lines().filter(|line| line.contains("path = ")) {
        let path = line.split('"').nth(1).unwrap();
        assert!(shared.contains(&format!("\"{path}\"")), "{path}");
    }
    for path in crates() {
        assert!(!path.join("clippy.toml").exists(), "{}", path.display());
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{}", path.display());
    }
}
