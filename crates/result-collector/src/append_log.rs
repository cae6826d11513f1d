//! A file of JSON lines that only grows, and is rewritten when most of it is history. Survives being cut anywhere:
//! a torn line is skipped. Knows nothing of what the lines mean.

use std::{
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use fs_err::{File, OpenOptions, os::unix::fs::OpenOptionsExt};
use serde::{Serialize, de::DeserializeOwned};

/// Below this many lines a rewrite is not worth it.
const WORTH_COMPACTING: usize = 4096;

#[derive(Debug)]
pub(crate) struct AppendLog {
    path: PathBuf,
    file: File,
    lines: usize,
    /// The last line may be torn: the next one must begin with a line end.
    torn: bool,
}

impl AppendLog {
    /// Opens or makes the file and hands each record to `read`, oldest first.
    pub(crate) fn open<T: DeserializeOwned>(path: &Path, mut read: impl FnMut(T)) -> io::Result<Self> {
        let file = private(OpenOptions::new().read(true).append(true).create(true)).open(path)?;
        let mut reader = BufReader::new(&file);
        let (mut line, mut lines) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut line)? > 0 {
            lines += 1;
            if let Ok(record) = serde_json::from_slice(&line) {
                read(record);
            }
            if line.last() != Some(&b'\n') {
                break;
            }
            line.clear();
        }
        let torn = !line.is_empty();
        Ok(Self { path: path.to_owned(), file, lines, torn })
    }

    /// Adds a record. It survives a kill at once, and a power cut after the next [`AppendLog::sync`]; whoever
    /// writes here must be able to repeat what the record says was done.
    pub(crate) fn append<T: Serialize>(&mut self, record: &T) -> io::Result<()> {
        let mut line = if self.torn { b"\n".to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut line, record)?;
        line.push(b'\n');
        // A full disk may take a part of it.
        self.torn = true;
        self.file.write_all(&line)?;
        self.torn = false;
        self.lines += 1;
        Ok(())
    }

    /// Makes what was added survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether the file holds so much history beside `live` records that it should be rewritten.
    pub(crate) fn is_mostly_history(&self, live: usize) -> bool {
        self.lines > WORTH_COMPACTING.max(live * 2)
    }

    /// Replaces the whole file, atomically.
    pub(crate) fn rewrite<T: Serialize>(&mut self, records: impl Iterator<Item = T>) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut writer =
            BufWriter::new(private(OpenOptions::new().write(true).create(true).truncate(true)).open(&fresh)?);
        let mut lines = 0;
        for record in records {
            serde_json::to_writer(&mut writer, &record)?;
            writer.write_all(b"\n")?;
            lines += 1;
        }
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs_err::rename(&fresh, &self.path)?;
        self.file = private(OpenOptions::new().append(true)).open(&self.path)?;
        self.lines = lines;
        self.torn = false;
        Ok(())
    }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> (AppendLog, Vec<u32>) {
        let mut records = Vec::new();
        let log = AppendLog::open(path, |n: u32| records.push(n)).unwrap();
        (log, records)
    }

    #[test]
    fn a_torn_line_is_skipped_and_what_follows_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log");
        std::fs::write(&path, "1\n2\n{\"tor").unwrap();
        let (mut log, records) = read(&path);
        assert_eq!(records, [1, 2]);
        log.append(&3).unwrap();
        drop(log);
        assert_eq!(read(&path).1, [1, 2, 3]);
    }

    #[test]
    fn a_rewrite_keeps_what_it_is_given_and_can_be_added_to() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log");
        let (mut log, _) = read(&path);
        (0..5000u32).for_each(|n| log.append(&n).unwrap());
        assert!(log.is_mostly_history(10));
        log.rewrite([7u32, 8].into_iter()).unwrap();
        assert!(!log.is_mostly_history(2));
        log.append(&9).unwrap();
        drop(log);
        assert_eq!(read(&path).1, [7, 8, 9]);
    }
}
