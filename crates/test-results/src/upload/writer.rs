//! Writes an upload's gzipped tar while its parts arrive. Reads each content once and keeps none.

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde::Serialize;
use tar::{Builder, EntryType, Header};

use super::{EntryKind, sanitised};

/// Fast enough to keep up with the engine's archive stream on one core, and small enough for logs.
const LEVEL: u32 = 4;

/// What is kept of a file besides its content.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileMetadata {
    /// Its size; the content is cut or filled up to it.
    pub size: u64,
    /// When it was last modified.
    pub modified: Option<Timestamp>,
}

/// How a file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// As announced.
    Whole,
    /// The content ended before its announced size, e.g. because the file was truncated meanwhile. The rest is zeros.
    Short {
        /// Bytes of content.
        written: u64,
    },
}

/// Writes an upload. Paths are made relative and harmless, see [`sanitised`]; names need not be UTF-8.
pub struct UploadWriter<W: Write> {
    archive: Builder<GzEncoder<W>>,
}

impl<W: Write> UploadWriter<W> {
    /// Begins an upload.
    pub fn new(to: W) -> Self {
        Self::with_level(to, LEVEL)
    }

    /// Begins an upload that is compressed with this level, 0 to 9.
    pub fn with_level(to: W, level: u32) -> Self {
        let mut archive = Builder::new(GzEncoder::new(to, Compression::new(level.min(9))));
        archive.sparse(false);
        Self { archive }
    }

    /// Appends a file of known size.
    pub fn file(
        &mut self,
        path: impl AsRef<[u8]>,
        metadata: FileMetadata,
        content: impl Read,
    ) -> io::Result<Appended> {
        let mut header = header(EntryType::Regular, 0o644, metadata.modified);
        header.set_size(metadata.size);
        // The size stands before the content: whatever happens to the file now, the archive stays sound.
        let mut counted = Counted { content: content.take(metadata.size), written: 0 };
        let path = sanitised(path.as_ref());
        let filled = (&mut counted).chain(io::repeat(0)).take(metadata.size);
        self.archive.append_data(&mut header, os_path(&path), filled)?;
        Ok(if counted.written == metadata.size {
            Appended::Whole
        } else {
            Appended::Short { written: counted.written }
        })
    }

    /// Appends a file from memory.
    pub fn bytes(&mut self, path: impl AsRef<[u8]>, content: &[u8]) -> io::Result<()> {
        let metadata = FileMetadata { size: content.len() as u64, modified: None };
        self.file(path, metadata, content).map(|_| ())
    }

    /// Appends a JSON document.
    pub fn json(&mut self, path: impl AsRef<[u8]>, document: &impl Serialize) -> io::Result<()> {
        self.bytes(path, &serde_json::to_vec(document)?)
    }

    /// Notes that there is a directory, a link or something else without content. For a file, use [`Self::file`].
    pub fn note(
        &mut self,
        path: impl AsRef<[u8]>,
        kind: &EntryKind,
        modified: Option<Timestamp>,
    ) -> io::Result<()> {
        let mut path = sanitised(path.as_ref());
        match kind {
            EntryKind::File => Err(io::Error::new(io::ErrorKind::InvalidInput, "a file has a content")),
            EntryKind::Directory => {
                path.push(b'/');
                let mut header = header(EntryType::Directory, 0o755, modified);
                self.archive.append_data(&mut header, os_path(&path), io::empty())
            }
            EntryKind::Symlink { target } => {
                let mut header = header(EntryType::Symlink, 0o777, modified);
                self.archive.append_link(&mut header, os_path(&path), os_path(target))
            }
            EntryKind::HardLink { target } => {
                let mut header = header(EntryType::Link, 0o644, modified);
                self.archive.append_link(&mut header, os_path(&path), os_path(target))
            }
            EntryKind::Skipped { what } => {
                let kind = match *what {
                    "character device" => EntryType::Char,
                    "block device" => EntryType::Block,
                    // Sockets and the like have no type in a tar; what matters is that they are no file.
                    _ => EntryType::Fifo,
                };
                let mut header = header(kind, 0o644, modified);
                self.archive.append_data(&mut header, os_path(&path), io::empty())
            }
        }
    }

    /// Ends the upload and gives its destination back.
    pub fn finish(self) -> io::Result<W> {
        self.archive.into_inner()?.finish()
    }
}

/// Counts what it yields.
struct Counted<R> {
    content: R,
    written: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(into)?;
        self.written += count as u64;
        Ok(count)
    }
}

fn header(kind: EntryType, mode: u32, modified: Option<Timestamp>) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header.set_mtime(modified.and_then(|time| u64::try_from(time.as_second()).ok()).unwrap_or(0));
    header
}

fn os_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
