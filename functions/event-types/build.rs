//! Writes `openapi.yaml` as JSON, which the function serves.

use std::path::Path;
use std::{env, fs};

use saphyr::{LoadableYamlNode as _, YamlOwned};

fn main() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi.yaml");
    println!("cargo::rerun-if-changed={}", path.display());
    let yaml = fs::read_to_string(&path).expect("openapi.yaml is readable");
    let documents = YamlOwned::load_from_str(&yaml).expect("openapi.yaml is YAML");
    let mut json = String::new();
    write(documents.first().expect("openapi.yaml is not empty"), &mut json);
    let folder = env::var_os("OUT_DIR").expect("cargo sets it for build scripts");
    fs::write(Path::new(&folder).join("openapi.json"), json).expect("cargo's folder is writable");
}

fn write(node: &YamlOwned, json: &mut String) {
    match node {
        YamlOwned::Sequence(items) => {
            json.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write(item, json);
            }
            json.push(']');
        }
        YamlOwned::Mapping(entries) => {
            json.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                *json += &text(key.as_str().expect("a key is a string: put it in quotes"));
                json.push(':');
                write(value, json);
            }
            json.push('}');
        }
        YamlOwned::Value(_) => {
            if let Some(string) = node.as_str() {
                *json += &text(string);
            } else if let Some(number) = node.as_integer() {
                *json += &number.to_string();
            } else if let Some(truth) = node.as_bool() {
                *json += &truth.to_string();
            } else if let Some(number) = node.as_floating_point() {
                *json += &number.to_string();
            } else {
                *json += "null";
            }
        }
        other => panic!("{other:?} has no form in JSON"),
    }
}

fn text(string: &str) -> String {
    serde_json::to_string(string).expect("a string is JSON")
}
