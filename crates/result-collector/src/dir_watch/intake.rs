//! Reads one file into the spool: opened without following any link, hashed and packed in one pass, thrown away if it
//! changed meanwhile or is known. Never opens a FIFO, a device or anything outside the watched directory. Blocking.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use test_results::{
    TestName,
    upload::{Appended, FileMetadata, UploadQuery, file_key, layout},
};

use super::{
    journal::{Content, Digest16, Journal, Stamp},
    tree::stamp,
};
use crate::{
    activity::Source,
    bundle,
    spool::{Spool, SpoolError, item::Description, writer::Reservation},
};

/// Paths up to this length stand in idempotency keys as they are.
const LONGEST_IN_KEY: usize = 160;

/// Why a file was not collected this time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is larger than the limit of {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("it cannot be spooled")]
    Write(#[source] io::Error),
    #[error("it cannot be spooled")]
    Spool(#[from] SpoolError),
    #[error("its version cannot be noted")]
    Journal(#[source] io::Error),
}

/// A file that is open and worth reading.
pub(crate) struct Opened {
    file: File,
    pub(crate) stamp: Stamp,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the spool, or was before.
    Collected,
    /// It changed while it was read.
    Changed,
}

/// Opens a file below `root`. `None` if it is gone, empty, not a regular file, or reached over a link.
pub(crate) fn open(root: &Path, relative: &Path) -> io::Result<Option<Opened>> {
    let found = open_beneath(root, relative).and_then(|file| match file {
        Some(file) => file.metadata().map(|found| Some((file, found))),
        None => Ok(None),
    });
    match found {
        Ok(Some((file, found))) if found.is_file() && found.len() > 0 => {
            Ok(Some(Opened { file, stamp: stamp(&found) }))
        }
        Ok(_) => Ok(None),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Walks down one component at a time, so that a directory that is replaced by a link meanwhile leads nowhere.
fn open_beneath(root: &Path, relative: &Path) -> io::Result<Option<File>> {
    let walk = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = openat(CWD, root, walk, Mode::empty())?;
    let mut components = relative.components().peekable();
    while let Some(Component::Normal(name)) = components.next() {
        if components.peek().is_some() {
            directory = openat(&directory, name, walk | OFlags::NOFOLLOW, Mode::empty())?;
            continue;
        }
        // Opening a FIFO would disturb who writes to it.
        let found = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        return Ok(Some(openat(&directory, name, read, Mode::empty())?.into()));
    }
    Ok(None)
}

/// What a file's upload says about it.
pub(crate) struct About<'a> {
    pub(crate) path: &'a Path,
    pub(crate) relative: &'a Path,
    /// Name of the watched directory.
    pub(crate) test: &'a str,
    pub(crate) hostname: &'a str,
}

impl About<'_> {
    fn description(&self, stamp: &Stamp, version: Digest16) -> Description {
        let written_at = written_at(stamp);
        let query = UploadQuery {
            main_file: Some("results.tar".to_owned()),
            started_at: Some(written_at),
            finished_at: Some(written_at),
            test: Some(TestName::from(self.test)),
            host: Some(self.hostname.to_owned()),
            ..UploadQuery::default()
        };
        let source = Source::File { path: self.path.to_string_lossy().into_owned() };
        Description::new(key(self.hostname, self.path, version), &query, source)
    }
}

/// Collects an opened file.
pub(crate) fn collect(
    opened: Opened,
    about: &About<'_>,
    spool: &Spool,
    reservation: Reservation,
    journal: &Mutex<Journal>,
) -> Result<Taken, IntakeError> {
    let Opened { file, stamp: before } = opened;
    let path = Digest16::of_path(about.path);
    let writer = spool.begin(reservation)?;
    let mut bundle = bundle::begin(writer);
    let mut reader = Hashed { from: &file, hasher: blake3::Hasher::new(), failed: None };
    let metadata = FileMetadata { size: before.size, modified: Some(written_at(&before)) };
    let path_there = [layout::RESULTS.as_bytes(), about.relative.as_os_str().as_bytes()].concat();
    let packed = bundle.file(path_there, metadata, &mut reader);
    if let Some(e) = reader.failed {
        return Err(IntakeError::Read(e));
    }
    let content = Digest16::of(&reader.hasher.finalize());
    match packed {
        Ok(Appended::Whole) => {}
        Ok(Appended::Short { .. }) => return Ok(Taken::Changed),
        Err(e) => return Err(IntakeError::Write(e)),
    }
    if stamp(&file.metadata().map_err(IntakeError::Read)?) != before {
        return Ok(Taken::Changed);
    }
    let judged = journal.lock().unwrap_or_else(PoisonError::into_inner).judge(path, &before, content);
    let (Content::Known(version) | Content::New(version)) = judged;
    if matches!(judged, Content::New(_)) {
        let writer = bundle.finish().map_err(IntakeError::Write)?;
        writer.commit(&about.description(&before, version))?;
    }
    // After the spool, so that a crash in between repeats under the same key.
    note(journal, path, before, content, version)?;
    Ok(Taken::Collected)
}

fn written_at(stamp: &Stamp) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(stamp.mtime)).unwrap_or_default()
}

/// Marks a file that can never be collected, so that it is not tried again before it changes.
pub(crate) fn pass_over(path: &Path, stamp: Stamp, journal: &Mutex<Journal>) -> Result<(), IntakeError> {
    note(journal, Digest16::of_path(path), stamp, Digest16::default(), Digest16::default())
}

fn note(
    journal: &Mutex<Journal>,
    path: Digest16,
    stamp: Stamp,
    content: Digest16,
    version: Digest16,
) -> Result<(), IntakeError> {
    let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
    journal.note(path, stamp, content, version, Timestamp::now()).map_err(IntakeError::Journal)
}

/// `file/<host>/<path>/<version>` in characters that a header may hold; a long path is cut and named by its digest.
fn key(hostname: &str, path: &Path, version: Digest16) -> String {
    let mut written = escaped(path.as_os_str().as_bytes().strip_prefix(b"/").unwrap_or_default());
    if written.len() > LONGEST_IN_KEY {
        let digest = Digest16::of_path(path);
        written = format!("~{digest}/{}", &written[written.len() - LONGEST_IN_KEY / 2..]);
    }
    file_key(&escaped(hostname.as_bytes()), &written, &version.to_string())
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

struct Hashed<'a> {
    from: &'a File,
    hasher: blake3::Hasher,
    failed: Option<io::Error>,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.from.read(buffer) {
            Ok(n) => {
                self.hasher.update(&buffer[..n]);
                Ok(n)
            }
            Err(e) => {
                let same = io::Error::from(e.kind());
                self.failed = Some(e);
                Err(same)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn keys_are_fit_for_a_header_whatever_the_path() {
        let version = Digest16::default();
        let zeros = "0".repeat(32);
        assert_eq!(key("h", Path::new("/var/a b.xml"), version), format!("file/h/var/a%20b.xml/{zeros}"));
        let odd = Path::new(OsStr::from_bytes(b"/\xff\n%"));
        assert_eq!(key("h", odd, version), format!("file/h/%FF%0A%25/{zeros}"));
        let long = |end: &str| key("h", Path::new(&format!("/{}/{end}", "d".repeat(4000))), version);
        assert!(long("a").len() < 255 && long("a").ends_with(&format!("d/a/{zeros}")));
        assert_ne!(long("a"), key("h", Path::new(&format!("/{}/a", "d".repeat(3000))), version));
    }

    #[test]
    fn links_fifos_and_empty_files_are_not_opened() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir(at("real")).unwrap();
        std::fs::write(at("real/a"), "content").unwrap();
        std::fs::write(at("empty"), "").unwrap();
        symlink(at("real/a"), at("link")).unwrap();
        symlink(at("real"), at("linked")).unwrap();
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for name in ["link", "linked/a", "fifo", "empty", "real", "missing", "real/a/b", "../x", ""] {
            assert!(open(home.path(), Path::new(name)).unwrap().is_none(), "{name}");
        }
        assert!(open(home.path(), Path::new("real/a")).unwrap().is_some());
    }
}
