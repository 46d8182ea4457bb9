//! Compiles the event types in: one static entry for each file in `catalogue/`, and one for each of the
//! operational types in `operational/`.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

#[path = "catalogue_files.rs"]
mod catalogue_files;

use catalogue_files::{EventTypeFile, compact};

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let catalogue = catalogue_files::read(&here.join("../../catalogue"));
    let operational = catalogue_files::read(&here.join("operational"));
    for EventTypeFile { name, .. } in &catalogue {
        let is_taken = operational.iter().any(|file| file.name == *name);
        assert!(
            !is_taken,
            "catalogue/{name}.json: the service itself has an event type of this name"
        );
    }
    let code = table("CATALOGUE", &catalogue) + &table("OPERATIONAL", &operational);
    let folder = env::var_os("OUT_DIR").expect("cargo sets it for build scripts");
    fs::write(Path::new(&folder).join("catalogue.rs"), code).expect("cargo's folder is writable");
}

fn table(name: &str, files: &[EventTypeFile]) -> String {
    let mut code = format!("pub static {name}: [Entry; {}] = [\n", files.len());
    for file in files {
        let (schema, example) = (compact(file.schema.get()), compact(file.example.get()));
        writeln!(
            code,
            "Entry {{ name: {:?}, category: {:?}, description: {:?}, schema: {schema:?}, example: {example:?} }},",
            file.name, file.category, file.description,
        )
        .expect("writing to a string does not fail");
    }
    code += "];\n";
    code
}
