//! What a document says of the catalogue. The tests of this crate compare `template.yaml` and `events/`
//! with the code.

pub mod documents;
