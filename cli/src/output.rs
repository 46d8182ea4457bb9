//! What is printed: tables for people, JSON and ids for programs.
//!
//! Results go to stdout, remarks to stderr. Text that comes from the service or from a receiver is
//! printed without control characters, which could change the terminal. A closed stdout ends the
//! program quietly.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use comfy_table::{Cell, Color, Table, presets};
use serde_json::Value;
use terminal::Term;

use crate::args::Global;
use crate::error::Error;

/// How to print.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    has_colour: bool,
}

/// What a colour says.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Bad,
    Waiting,
    Plain,
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        // The convention of https://no-color.org: any value that is not empty.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let has_colour = std::io::stdout().is_terminal() && !no_colour;
        Self { json: global.json, quiet: global.quiet, has_colour }
    }

    /// A line on stdout.
    #[expect(clippy::unused_self, reason = "all output goes through this type")]
    pub(crate) fn line(self, text: impl Display) -> Result<(), Error> {
        Ok(writeln!(std::io::stdout().lock(), "{text}")?)
    }

    /// A remark on stderr. Nobody reads one behind a closed stderr, so that is no error.
    pub(crate) fn note(self, text: impl Display) {
        if !self.quiet && !self.json {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// Whether the terminal can be drawn again.
    pub(crate) fn redraws(self) -> bool {
        !self.json && !self.quiet && Term::stdout().is_term()
    }

    /// A coloured text.
    pub(crate) fn toned(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            _ if !self.has_colour => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => 32,
            Tone::Bad => 31,
            Tone::Waiting => 33,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Rows below their headers, without borders, so that other programs can read the columns.
    pub(crate) fn table(self, headers: &[&str], rows: Vec<Vec<(String, Tone)>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.has_colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(headers.iter().map(Cell::new));
        for row in rows {
            table.add_row(row.into_iter().map(|(text, tone)| {
                let cell = Cell::new(printable(&text));
                match tone {
                    Tone::Good => cell.fg(Color::DarkGreen),
                    Tone::Bad => cell.fg(Color::DarkRed),
                    Tone::Waiting => cell.fg(Color::DarkYellow),
                    Tone::Plain => cell,
                }
            }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }

    /// Names and values, one pair a line.
    pub(crate) fn pairs(self, pairs: &[(&str, String)]) -> Result<(), Error> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in pairs {
            self.line(format_args!("{name:width$}  {}", printable(value)).to_string().trim_end())?;
        }
        Ok(())
    }
}

/// A cell without colour.
pub(crate) fn plain(text: impl Into<String>) -> (String, Tone) {
    (text.into(), Tone::Plain)
}

/// The tone of a delivery's status.
pub(crate) fn tone(status: &str) -> Tone {
    match status {
        "success" | "done" => Tone::Good,
        "failed" => Tone::Bad,
        "retrying" | "held" | "running" => Tone::Waiting,
        _ => Tone::Plain,
    }
}

/// A value of an answer as a person reads it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        other => other.to_string(),
    }
}

/// A text without control characters.
pub(crate) fn printable(text: &str) -> String {
    // The bidirectional controls reorder what is printed around them.
    let is_control = |c: char| {
        c.is_control()
            || matches!(c, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_control(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLAIN: Output = Output { json: false, quiet: false, has_colour: false };

    #[test]
    fn table_is_coloured_only_where_it_may_be() {
        let rows = || vec![vec![plain("wh_1"), ("failed\x1b[2J".to_owned(), Tone::Bad)]];
        assert_eq!(PLAIN.table(&["id", "status"], rows()), "id    status\nwh_1  failed [2J");
        let coloured = Output { has_colour: true, ..PLAIN };
        assert!(coloured.table(&["id", "status"], rows()).contains("\x1b["));
        assert_eq!(PLAIN.toned("x", Tone::Bad), "x");
        assert_eq!(coloured.toned("x", Tone::Bad), "\x1b[31mx\x1b[0m");
    }

    #[test]
    fn values_are_shown_as_text() {
        for (value, expected) in [
            (json!(null), "-"),
            (json!({}), "-"),
            (json!(["a", 1]), "a, 1"),
            (json!({"a": [1]}), r#"{"a":[1]}"#),
            (json!(true), "true"),
        ] {
            assert_eq!(text(&value), expected);
        }
    }
}
