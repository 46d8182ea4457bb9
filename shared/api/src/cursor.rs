//! Cursors: where the next page of a list begins.
//!
//! A cursor is opaque to users. It holds a position (the last id of the page before, so it stays
//! right while newer rows arrive) and a check over the position and the list it was made for: the
//! owner, the webhook and the filters. A cursor of another list is refused.
//!
//! The check needs no key. A position is only ever looked up inside the partition that the token
//! and the path name, so even a forged cursor reaches nothing but its forger's own rows.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const CHECK_BYTES: usize = 12;
const VERSION: u8 = 1;
/// Far longer than any position we make.
const ENCODED_MAX: usize = 256;

/// The list that a cursor belongs to: its owner, its kind, its filters, in this order.
#[derive(Clone, Copy, Debug)]
pub struct CursorScope<'a>(pub &'a [&'a str]);

/// A text that is not a cursor of this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor of this list; leave it out to start from the beginning")]
pub struct NotACursor;

/// The cursor after `position` in the list.
pub fn encode(scope: CursorScope<'_>, position: &str) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(check(scope, position));
    bytes.extend(position.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position that a cursor of the list holds.
pub fn decode(scope: CursorScope<'_>, cursor: &str) -> Result<String, NotACursor> {
    if cursor.len() > ENCODED_MAX {
        return Err(NotACursor);
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| NotACursor)?;
    let [VERSION, rest @ ..] = bytes.as_slice() else {
        return Err(NotACursor);
    };
    let (given, position) = rest.split_at_checked(CHECK_BYTES).ok_or(NotACursor)?;
    let position = std::str::from_utf8(position).map_err(|_| NotACursor)?;
    if given != check(scope, position) {
        return Err(NotACursor);
    }
    Ok(position.to_owned())
}

fn check(scope: CursorScope<'_>, position: &str) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new();
    for part in scope.0.iter().copied().chain([position]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash.finalize()[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursor_is_refused_by_another_list(
            list in proptest::collection::vec(".{0,12}", 1..5),
            other in proptest::collection::vec(".{0,12}", 1..5),
            position in "[a-zA-Z0-9_]{1,40}",
        ) {
            let own: Vec<&str> = list.iter().map(String::as_str).collect();
            let cursor = encode(CursorScope(&own), &position);
            prop_assert_eq!(decode(CursorScope(&own), &cursor), Ok(position));
            let foreign: Vec<&str> = other.iter().map(String::as_str).collect();
            prop_assert_eq!(decode(CursorScope(&foreign), &cursor).is_ok(), own == foreign);
        }

        #[test]
        fn changed_cursor_is_refused(position in "[a-z]{1,20}", at in 0..200usize, to in "[A-Za-z0-9_-]") {
            let cursor = encode(CursorScope(&["u"]), &position);
            let at = at % cursor.len();
            let mut changed = cursor.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != cursor);
            prop_assert_eq!(decode(CursorScope(&["u"]), &changed), Err(NotACursor));
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,300}") {
            prop_assert!(decode(CursorScope(&["u"]), &text).is_err());
        }
    }
}
