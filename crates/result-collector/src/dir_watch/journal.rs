//! Remembers which version of which file was spooled, on disk and in memory of fixed size per file, and decides what
//! is a new version. Holds no paths, reads no files, and loses nothing by being lost: a version's name follows from
//! what it replaces and what it contains, so a repeat has the same idempotency key.
//!
//! A file written again with the same content is not a new version. One that goes from A to B and back to A has three:
//! the name of the third follows from the second. A file that was spooled and then only renamed (rotated) is not sent
//! again under its new name.

use std::{collections::HashMap, io, os::unix::ffi::OsStrExt, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::append_log::AppendLog;

/// How long the version of a file that is gone is remembered, should the file come back.
const REMEMBERED: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// How many files whose path was taken by others are remembered, twice.
const MOST_DISPLACED: usize = 4096;

/// 16 bytes of a digest, written as hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Digest16([u8; 16]);

impl Digest16 {
    pub(crate) fn of(hash: &blake3::Hash) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_bytes()[..16]);
        Self(short)
    }

    /// Names a path.
    pub(crate) fn of_path(path: &Path) -> Self {
        Self::of(&blake3::hash(path.as_os_str().as_bytes()))
    }
}

impl std::fmt::Display for Digest16 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Serialize for Digest16 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest16 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value = u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(Self(value.to_be_bytes()))
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    #[serde(rename = "d")]
    pub(crate) device: u64,
    #[serde(rename = "i")]
    pub(crate) inode: u64,
    #[serde(rename = "s")]
    pub(crate) size: u64,
    /// Nanoseconds since the epoch.
    #[serde(rename = "m")]
    pub(crate) mtime: i64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    stamp: Stamp,
    /// The content.
    #[serde(rename = "c")]
    content: Digest16,
    /// The version's name.
    #[serde(rename = "v")]
    version: Digest16,
    /// Last seen, in seconds since the epoch.
    #[serde(rename = "t")]
    seen: i64,
    /// Written so shortly before it was read that another write could have left the same stamp.
    #[serde(rename = "r", default, skip_serializing_if = "std::ops::Not::not")]
    racy: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(rename = "p")]
    path: Digest16,
    #[serde(flatten)]
    entry: Entry,
}

/// What a file that was read turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The version that was spooled, here or under a former name.
    Known(Digest16),
    /// A new version with this name.
    New(Digest16),
}

#[derive(Debug)]
pub(crate) struct Journal {
    log: AppendLog,
    files: HashMap<Digest16, Entry>,
    /// Where a file was last seen, to recognise it after a rename.
    inodes: HashMap<(u64, u64), Digest16>,
    /// What lay under a path before another file took it, by inode: since the last scan, and before that one.
    displaced: [HashMap<(u64, u64), Entry>; 2],
}

impl Journal {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let (mut files, mut inodes, mut displaced) = Default::default();
        let log = AppendLog::open(path, |line| learn(&mut files, &mut inodes, &mut displaced, line))?;
        Ok(Self { log, files, inodes, displaced })
    }

    /// Whether this state of a file needs no reading: it was spooled, here or under a former name.
    pub(crate) fn is_known(&self, path: Digest16, stamp: &Stamp) -> bool {
        let here = self.files.get(&path).is_some_and(|entry| entry.stamp == *stamp && !entry.racy);
        here || self.former(stamp).is_some_and(|entry| !entry.racy)
    }

    /// The entry of a file with this very stamp, wherever it was.
    fn former(&self, stamp: &Stamp) -> Option<&Entry> {
        let inode = (stamp.device, stamp.inode);
        let present = self.inodes.get(&inode).and_then(|path| self.files.get(path));
        let displaced = self.displaced.iter().map(|entries| entries.get(&inode));
        [present].into_iter().chain(displaced).flatten().find(|entry| entry.stamp == *stamp)
    }

    /// Judges a file that was read.
    pub(crate) fn judge(&self, path: Digest16, stamp: &Stamp, content: Digest16) -> Content {
        let before = self.files.get(&path);
        if let Some(entry) = before.filter(|entry| entry.content == content) {
            return Content::Known(entry.version);
        }
        if let Some(entry) = self.former(stamp).filter(|entry| entry.content == content) {
            return Content::Known(entry.version);
        }
        let mut hasher = blake3::Hasher::new();
        if let Some(entry) = before {
            hasher.update(&entry.version.0);
        }
        Content::New(Digest16::of(&hasher.update(&content.0).finalize()))
    }

    /// Notes that this version of the file is in the spool.
    pub(crate) fn note(
        &mut self,
        path: Digest16,
        stamp: Stamp,
        content: Digest16,
        version: Digest16,
        now: Timestamp,
    ) -> io::Result<()> {
        let age = now.as_nanosecond() - i128::from(stamp.mtime);
        let entry = Entry { stamp, content, version, seen: now.as_second(), racy: age < 50_000_000 };
        let line = Line { path, entry };
        self.log.append(&line)?;
        learn(&mut self.files, &mut self.inodes, &mut self.displaced, line);
        if self.log.is_mostly_history(self.files.len()) {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Makes all notes survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.log.sync()
    }

    fn rewrite(&mut self) -> io::Result<()> {
        self.log.rewrite(self.files.iter().map(|(path, entry)| Line { path: *path, entry: *entry }))
    }

    /// After a scan of everything: forgets files that were not seen for a week.
    pub(crate) fn scanned(&mut self, seen: impl Fn(&Digest16) -> bool, now: Timestamp) -> io::Result<()> {
        let now = now.as_second();
        let before = self.files.len();
        self.displaced.swap(0, 1);
        self.displaced[0].clear();
        self.files.retain(|path, entry| {
            if seen(path) {
                entry.seen = now;
            }
            now - entry.seen < REMEMBERED.as_secs()
        });
        if self.files.len() < before {
            let files = &self.files;
            self.inodes.retain(|_, path| files.contains_key(path));
            return self.rewrite();
        }
        self.log.sync()
    }
}

fn learn(
    files: &mut HashMap<Digest16, Entry>,
    inodes: &mut HashMap<(u64, u64), Digest16>,
    displaced: &mut [HashMap<(u64, u64), Entry>; 2],
    Line { path, entry }: Line,
) {
    let inode = |entry: &Entry| (entry.stamp.device, entry.stamp.inode);
    inodes.insert(inode(&entry), path);
    let Some(before) = files.insert(path, entry).filter(|before| inode(before) != inode(&entry)) else {
        return;
    };
    if inodes.get(&inode(&before)) == Some(&path) {
        inodes.remove(&inode(&before));
    }
    if displaced[0].len() >= MOST_DISPLACED {
        displaced.swap(0, 1);
        displaced[0].clear();
    }
    displaced[0].insert(inode(&before), before);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Digest16 = Digest16([1; 16]);
    const OTHER: Digest16 = Digest16([2; 16]);

    fn content(text: &str) -> Digest16 {
        Digest16::of(&blake3::hash(text.as_bytes()))
    }

    fn stamp(inode: u64, mtime: i64) -> Stamp {
        Stamp { device: 1, inode, size: 3, mtime }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Judges and notes a write; gives the version if it is new.
    fn write(
        journal: &mut Journal,
        path: Digest16,
        stamp: Stamp,
        text: &str,
        now: Timestamp,
    ) -> Option<Digest16> {
        let judged = journal.judge(path, &stamp, content(text));
        let (Content::Known(version) | Content::New(version)) = judged;
        journal.note(path, stamp, content(text), version, now).unwrap();
        matches!(judged, Content::New(_)).then_some(version)
    }

    #[test]
    fn the_same_content_again_is_no_version_but_going_back_to_it_is() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&home.path().join("files.log")).unwrap();
        let mut step = |mtime, text| write(&mut journal, PATH, stamp(1, mtime), text, at(100));
        let first = step(1, "A").unwrap();
        assert_eq!(step(2, "A"), None);
        let second = step(3, "B").unwrap();
        let third = step(4, "A").unwrap();
        assert!(first != second && second != third && first != third);
    }

    #[test]
    fn a_restart_knows_what_was_spooled_and_names_versions_as_before() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("files.log");
        let mut journal = Journal::open(&path).unwrap();
        write(&mut journal, PATH, stamp(1, 1), "A", at(100));
        let next = journal.judge(PATH, &stamp(1, 2), content("B"));
        drop(journal);
        let journal = Journal::open(&path).unwrap();
        assert!(journal.is_known(PATH, &stamp(1, 1)));
        assert!(!journal.is_known(PATH, &stamp(1, 2)));
        assert_eq!(journal.judge(PATH, &stamp(1, 2), content("B")), next);
    }

    #[test]
    fn a_rotated_file_is_known_under_its_new_name() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&home.path().join("files.log")).unwrap();
        write(&mut journal, PATH, stamp(1, 1), "A", at(100));
        assert!(journal.is_known(OTHER, &stamp(1, 1)));
        assert!(!journal.is_known(OTHER, &stamp(2, 1)));
        // Also when the new file under the old name was seen first.
        assert!(write(&mut journal, PATH, stamp(2, 5), "B", at(100)).is_some());
        assert!(journal.is_known(OTHER, &stamp(1, 1)));
        assert_eq!(write(&mut journal, OTHER, stamp(1, 1), "A", at(100)), None);
    }

    #[test]
    fn a_stamp_that_is_too_fresh_to_be_trusted_is_read_again() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&home.path().join("files.log")).unwrap();
        let fresh = stamp(1, 100_000_000_000 - 1_000_000);
        write(&mut journal, PATH, fresh, "A", at(100));
        assert!(!journal.is_known(PATH, &fresh));
        assert!(write(&mut journal, PATH, fresh, "B", at(101)).is_some());
        assert!(journal.is_known(PATH, &fresh));
    }

    #[test]
    fn a_file_that_is_gone_is_forgotten_after_a_week() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&home.path().join("files.log")).unwrap();
        write(&mut journal, PATH, stamp(1, 1), "A", at(100));
        write(&mut journal, OTHER, stamp(2, 1), "A", at(100));
        let week = REMEMBERED.as_secs();
        journal.scanned(|path| *path == PATH, at(99 + week)).unwrap();
        assert!(journal.is_known(OTHER, &stamp(2, 1)));
        journal.scanned(|path| *path == PATH, at(100 + week)).unwrap();
        assert!(!journal.is_known(OTHER, &stamp(2, 1)));
        assert!(journal.is_known(PATH, &stamp(1, 1)));
    }
}
