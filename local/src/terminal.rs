//! Writing to the terminal.

use std::fmt::Display;
use std::io::Write as _;

/// Writes a line to stdout. A closed stdout is not an error.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Writes a line to stderr.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
