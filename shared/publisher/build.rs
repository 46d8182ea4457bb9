//! Makes a struct and a function of the publisher for each file in `catalogue/`: the rows of the macro
//! `event_types!` in `src/data.rs`.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fmt, fs};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

#[expect(dead_code, reason = "this build script does not read the examples")]
#[path = "../core/catalogue_files.rs"]
mod catalogue_files;

use catalogue_files::EventTypeFile;

/// The members of a JSON object, in the order of the file.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// What this script reads of a schema.
#[derive(Deserialize)]
struct Schema {
    properties: Option<Members>,
    #[serde(default)]
    required: Vec<String>,
}

/// What this script reads of the schema of a property.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Property {
    r#type: serde_json::Value,
    description: String,
    minimum: Option<f64>,
    items: Option<Box<Property>>,
}

fn main() {
    let files =
        catalogue_files::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalogue"));
    let rows: String = files.iter().map(row).collect();
    let folder = env::var_os("OUT_DIR").expect("cargo sets it for build scripts");
    let code = format!("event_types! {{\n{rows}}}\n");
    fs::write(Path::new(&folder).join("event_types.rs"), code).expect("cargo's folder is writable");
}

fn row(file: &EventTypeFile) -> String {
    let schema: Schema = serde_json::from_str(file.schema.get())
        .unwrap_or_else(|error| panic!("the schema of {}: {error}", file.name));
    let mut required = String::new();
    let mut optional = String::new();
    for (name, property) in schema.properties.map(|members| members.0).unwrap_or_default() {
        // A boolean is a schema, too.
        let property: Property = serde_json::from_str(property.get()).unwrap_or_default();
        let Some(field) = identifier(&name) else { continue };
        let is_required = schema.required.contains(&name);
        let (fields, mark) = if is_required { (&mut required, "") } else { (&mut optional, "? ") };
        let doc = if property.description.is_empty() { &name } else { &property.description };
        writeln!(fields, "{mark}#[doc = {doc:?}] {field}: {},", rust_type(&property))
            .expect("writing to a string does not fail");
    }
    let name = &file.name;
    let (function, data) = (name.replace('.', "_"), camel_case(name));
    let doc = format!("{}.", file.description.trim_end_matches('.'));
    format!("#[doc = {doc:?}]\n{name:?} {function} {data} {{\n{required}{optional}}}\n")
}

fn rust_type(property: &Property) -> String {
    match property.r#type.as_str() {
        Some("string") => "String".to_owned(),
        Some("boolean") => "bool".to_owned(),
        Some("number") => "f64".to_owned(),
        Some("integer") if property.minimum.is_some_and(|minimum| minimum >= 0.0) => {
            "u64".to_owned()
        }
        Some("integer") => "i64".to_owned(),
        Some("array") => {
            let items = property.items.as_deref().map_or("Value".to_owned(), rust_type);
            format!("Vec<{items}>")
        }
        _ => "Value".to_owned(),
    }
}

/// The keywords of Rust that can be raw identifiers.
const KEYWORDS: &str = " abstract as async await become box break const continue do dyn else enum \
        extern false final fn for gen if impl in let loop macro match mod move mut override priv pub ref \
        return static struct trait true try type typeof unsafe unsized use virtual where while yield ";

/// The name as a field of a struct. A property without such a name is one of the struct's `extra`.
fn identifier(name: &str) -> Option<String> {
    let is_identifier = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let is_taken = ["self", "super", "crate", "extra"].contains(&name);
    let is_keyword = KEYWORDS.contains(&format!(" {name} "));
    (is_identifier && !is_taken)
        .then(|| if is_keyword { format!("r#{name}") } else { name.to_owned() })
}

fn camel_case(name: &str) -> String {
    let words = name.split(['.', '_']).filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}
