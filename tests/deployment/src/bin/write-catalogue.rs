//! Writes what the documents and `openapi.yaml` say of the catalogue.

use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for section in deployment::documents::sections() {
        let path = root.join(section.file);
        let file = fs::read_to_string(&path)?;
        let written = section.put_into(&file).ok_or_else(|| {
            format!("{} does not have the two lines that mark the catalogue", section.file)
        })?;
        fs::write(&path, written)?;
    }
    Ok(())
}
