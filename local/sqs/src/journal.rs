//! The file that lets queues survive a killed process.
//!
//! A journal is a text file: a header line, then one line for each operation that changed something:
//! the MD5 of the rest, a space, and a JSON list of [`Change`]s. Each line is one `write` that ends
//! before the response is sent, so it survives `kill -9`. It is not synced to the disk: when the
//! operating system crashes, the newest lines may be lost.
//!
//! A last line without its line feed was incomplete when the process died and has no response yet, so
//! it is dropped. Any other invalid line is damage and an error with its place; nothing is skipped.
//!
//! The file is replaced by a snapshot when it is opened, and when it has grown to several times its
//! last snapshot.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::message::md5_hex;
use crate::state::{Change, UnknownTarget};

const FILE: &str = "queues.journal";
const NEW_FILE: &str = "queues.journal.new";
const LOCK_FILE: &str = "queues.lock";
/// First line; the number is the version of the format.
const HEADER: &str = "local-sqs journal 1\n";
/// The size up to which a journal is not compacted while in use.
const MIN_COMPACTED: u64 = 1_048_576;
/// The growth since the last snapshot at which a journal is compacted.
const GROWTH_FACTOR: u64 = 4;

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file system refused.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process has the directory open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The journal is damaged; it was left as it is.
    #[error(
        "{} is damaged at line {line} (byte {offset}): {reason}; repair it or move it away",
        path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// Where the line begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
}

pub(crate) struct Journal {
    dir: PathBuf,
    file: File,
    bytes: u64,
    snapshot_bytes: u64,
    /// A write failed, so the end of the file is unknown and nothing may be appended.
    broken: bool,
    /// Held for as long as the journal is open.
    _lock: File,
}

impl Journal {
    /// Opens the journal of a directory and applies its changes. The caller then calls
    /// [`Journal::rewrite`], which drops an incomplete last line.
    pub(crate) fn open(
        dir: &Path,
        mut apply: impl FnMut(Change) -> Result<(), UnknownTarget>,
    ) -> Result<Self, OpenError> {
        fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
        let lock = lock(dir)?;
        let path = dir.join(FILE);
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path);
        let file = file.map_err(|source| io_error(&path, source))?;
        replay(&path, &file, &mut apply)?;
        Ok(Self {
            dir: dir.to_owned(),
            file,
            bytes: 0,
            snapshot_bytes: 0,
            broken: false,
            _lock: lock,
        })
    }

    /// Writes one record: a JSON list of changes.
    pub(crate) fn append(&mut self, changes: &str) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(
                "an earlier write to the journal failed; restart to continue with the written state",
            ));
        }
        let line = format!("{} {changes}\n", md5_hex(changes.as_bytes()));
        let result = self.file.write_all(line.as_bytes());
        self.broken = result.is_err();
        self.bytes += line.len() as u64;
        result
    }

    /// Whether most of the file is history.
    pub(crate) fn should_compact(&self) -> bool {
        self.bytes > MIN_COMPACTED.max(self.snapshot_bytes.saturating_mul(GROWTH_FACTOR))
    }

    /// Puts off the next compaction until the file has grown again.
    pub(crate) fn postpone_compaction(&mut self) {
        self.snapshot_bytes = self.bytes;
    }

    /// Replaces the file by one that holds these changes only.
    pub(crate) fn rewrite(&mut self, changes: impl Iterator<Item = Change>) -> io::Result<()> {
        let new = self.dir.join(NEW_FILE);
        let mut writer = BufWriter::new(File::create(&new)?);
        writer.write_all(HEADER.as_bytes())?;
        let mut bytes = HEADER.len() as u64;
        for change in changes {
            let text = format!("[{}]", serde_json::to_string(&change)?);
            let line = format!("{} {text}\n", md5_hex(text.as_bytes()));
            writer.write_all(line.as_bytes())?;
            bytes += line.len() as u64;
        }
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        // Synced to the disk, because the rename replaces a file that may be on it already.
        file.sync_all()?;
        fs::rename(&new, self.dir.join(FILE))?;
        self.file = file;
        self.bytes = bytes;
        self.snapshot_bytes = bytes;
        self.broken = false;
        Ok(())
    }
}

/// The error of a journal that could not be written while it was opened.
pub(crate) fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let file = File::create(&path).map_err(|source| io_error(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io_error(&path, source)),
    }
}

fn replay(
    path: &Path,
    file: &File,
    apply: &mut impl FnMut(Change) -> Result<(), UnknownTarget>,
) -> Result<(), OpenError> {
    let mut reader = BufReader::new(file);
    let mut buffer = Vec::new();
    let (mut line, mut offset) = (0, 0);
    loop {
        buffer.clear();
        let read = reader.read_until(b'\n', &mut buffer);
        let read = read.map_err(|source| io_error(path, source))?;
        line += 1;
        if read == 0 {
            return Ok(());
        }
        if !buffer.ends_with(b"\n") && line > 1 {
            tracing::warn!(
                journal.line = line,
                journal.bytes = read,
                "dropped the incomplete last line of the journal"
            );
            return Ok(());
        }
        let result = if line == 1 { check_header(&buffer) } else { apply_line(&buffer, apply) };
        result.map_err(|reason| OpenError::Damaged {
            path: path.to_owned(),
            line,
            offset,
            reason,
        })?;
        offset += read as u64;
    }
}

fn check_header(line: &[u8]) -> Result<(), String> {
    if line == HEADER.as_bytes() {
        return Ok(());
    }
    Err(format!("it does not begin with {:?}", HEADER.trim_end()))
}

fn apply_line(
    line: &[u8],
    apply: &mut impl FnMut(Change) -> Result<(), UnknownTarget>,
) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let (check, changes) = text.trim_end_matches('\n').split_once(' ').ok_or("no checksum")?;
    if check != md5_hex(changes.as_bytes()) {
        return Err("wrong checksum".to_owned());
    }
    let changes: Vec<Change> = serde_json::from_str(changes).map_err(|error| error.to_string())?;
    for change in changes {
        apply(change).map_err(|unknown| unknown.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_appended_after_a_failed_write() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), |_| Ok(())).unwrap();
        journal.rewrite(std::iter::empty()).unwrap();
        let read_only = File::open(dir.path().join(FILE)).unwrap();
        let writable = std::mem::replace(&mut journal.file, read_only);
        journal.append("[]").unwrap_err();
        journal.file = writable;
        journal.append("[]").unwrap_err();
        journal.rewrite(std::iter::empty()).unwrap();
        journal.append("[]").unwrap();
    }
}
