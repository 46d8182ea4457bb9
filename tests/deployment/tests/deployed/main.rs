//! The template against the code: neither may have what the other has not.
//!
//! Each module gathers findings. The deployed template has none; a template that was changed for
//! the worse has one that says what. So no check can be blind without a test that fails.

#![expect(clippy::unwrap_used, reason = "what is not as it should be fails the test")]

mod alarms;
mod card;
mod contract;
mod documents;
mod environment;
mod events;
mod recorder;
mod roles;
mod shape;
mod source;
mod versions;
mod watch;

use serde_json::Value;
use webhooks_local::template::Template;

/// What must be found, and the change of the template in which it must be.
type Change = (&'static str, fn(&mut Value));

/// The deployed template, changed.
fn changed(change: impl FnOnce(&mut Value)) -> Template {
    let mut template = Template::deployed().as_json().clone();
    let before = template.clone();
    change(&mut template);
    assert_ne!(template, before, "nothing was changed");
    Template::from_json(template)
}

/// What a path such as `DeliverRole/Properties` leads to, below the resources.
fn at<'a>(template: &'a mut Value, path: &str) -> &'a mut Value {
    let found = template.pointer_mut(&format!("/Resources/{path}"));
    found.unwrap_or_else(|| panic!("no {path}"))
}

/// Takes an entry out of an object.
fn remove(template: &mut Value, path: &str, name: &str) {
    assert!(at(template, path).as_object_mut().unwrap().remove(name).is_some(), "no {name}");
}

/// Each finding must be there for the change that it is listed with.
#[track_caller]
fn assert_found(what: &str, findings: &[String]) {
    assert!(findings.iter().any(|finding| finding.contains(what)), "no `{what}` in {findings:?}");
}
