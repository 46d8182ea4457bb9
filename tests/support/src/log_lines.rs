//! The lines that a test has logged.

use std::io::{Result, Write};
use std::sync::{Arc, Mutex};

use crate::lock;

/// A writer of logs that keeps them.
#[derive(Clone, Debug, Default)]
pub struct LogLines(Arc<Mutex<Vec<u8>>>);

impl LogLines {
    /// All lines.
    pub fn text(&self) -> String {
        let Self(bytes) = self;
        String::from_utf8_lossy(&lock(bytes)).into_owned()
    }
}

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let Self(kept) = self;
        lock(kept).write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
