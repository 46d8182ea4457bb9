//! Every input that was kept, through its property; and the lists of properties, fuzz targets and
//! corpora against each other.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz_properties::PROPERTIES;

fn fuzz(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(part)
}

fn names(dir: &Path) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    fs::read_dir(dir).unwrap().map(|entry| stem(entry.unwrap().path())).collect()
}

#[test]
fn every_corpus_input_satisfies_its_property() {
    for (name, property) in PROPERTIES {
        let mut inputs = 0;
        for entry in fs::read_dir(fuzz("corpus").join(name)).unwrap() {
            let path = entry.unwrap().path();
            // Where it panics, this is the last line of the output.
            println!("{}", path.display());
            property(&fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}

#[test]
fn every_property_is_fuzzed_and_every_corpus_is_used() {
    let properties: BTreeSet<String> =
        PROPERTIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz("fuzz_targets")), properties);
    assert_eq!(names(&fuzz("corpus")), properties);
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    for name in &properties {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        let target = fs::read_to_string(fuzz("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(target.contains(&format!("fuzz_properties::{name}(data)")), "{target}");
    }
}
