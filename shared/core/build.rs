//! Compiles the catalogue in: one static entry for each file in `catalogue/`.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

#[path = "catalogue_files.rs"]
mod catalogue_files;

use catalogue_files::compact;

fn main() {
    let files =
        catalogue_files::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalogue"));
    let mut code = format!("pub static CATALOGUE: [Entry; {}] = [\n", files.len());
    for file in &files {
        let (schema, example) = (compact(file.schema.get()), compact(file.example.get()));
        writeln!(
            code,
            "Entry {{ name: {:?}, category: {:?}, description: {:?}, schema: {schema:?}, example: {example:?} }},",
            file.name, file.category, file.description,
        )
        .expect("writing to a string does not fail");
    }
    code += "];\n";
    let folder = env::var_os("OUT_DIR").expect("cargo sets it for build scripts");
    fs::write(Path::new(&folder).join("catalogue.rs"), code).expect("cargo's folder is writable");
}
