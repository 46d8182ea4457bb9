//! What the documents say of the catalogue is what `write-catalogue` writes.

use deployment::documents::sections;

use crate::source;

#[test]
fn documents_show_the_catalogue() {
    for section in sections() {
        let file = std::fs::read_to_string(source::root().join(section.file)).unwrap();
        assert!(
            section.put_into(&file).as_ref() == Some(&file),
            "{} does not show the catalogue: `cargo run -p deployment --bin write-catalogue`",
            section.file
        );
    }
}
