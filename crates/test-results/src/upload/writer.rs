//! Writes an upload's gzipped tar while its parts arrive. Reads each content once and keeps none.
//!
//! Headers are encoded with the `tar` crate, but put together here: its builder refuses long names that are not UTF-8.

use std::io::{self, Read, Write};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde::Serialize;
use tar::{EntryType, Header};

use super::{EntryKind, headers::BLOCK, sanitised};

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
    to: GzEncoder<W>,
}

impl<W: Write> UploadWriter<W> {
    /// Begins an upload.
    pub fn new(to: W) -> Self {
        Self::with_level(to, LEVEL)
    }

    /// Begins an upload that is compressed with this level, 0 to 9.
    pub fn with_level(to: W, level: u32) -> Self {
        Self { to: GzEncoder::new(to, Compression::new(level.min(9))) }
    }

    /// Appends a file of known size.
    pub fn file(
        &mut self,
        path: impl AsRef<[u8]>,
        metadata: FileMetadata,
        content: impl Read,
    ) -> io::Result<Appended> {
        let FileMetadata { size, modified } = metadata;
        self.header(&sanitised(path.as_ref()), EntryType::Regular, b"", size, modified)?;
        // The size stands before the content: whatever happens to the file now, the archive stays sound.
        let written = io::copy(&mut content.take(size), &mut self.to)?;
        io::copy(&mut io::repeat(0).take(size - written), &mut self.to)?;
        self.pad(size)?;
        Ok(if written == size { Appended::Whole } else { Appended::Short { written } })
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
        let (kind, target) = match kind {
            EntryKind::File => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file has a content"));
            }
            EntryKind::Directory => (EntryType::Directory, [].as_slice()),
            EntryKind::Symlink { target } => (EntryType::Symlink, target.as_slice()),
            EntryKind::HardLink { target } => (EntryType::Link, target.as_slice()),
            EntryKind::Skipped { what: "character device" } => (EntryType::Char, [].as_slice()),
            EntryKind::Skipped { what: "block device" } => (EntryType::Block, [].as_slice()),
            // Sockets and the like have no type in a tar; what matters is that they are no file.
            EntryKind::Skipped { .. } => (EntryType::Fifo, [].as_slice()),
        };
        if kind == EntryType::Directory {
            path.push(b'/');
        }
        self.header(&path, kind, target, 0, modified)
    }

    /// Ends the upload and gives its destination back.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.finish()
    }

    /// A header, and GNU's extended ones before it for what does not fit into it.
    fn header(
        &mut self,
        path: &[u8],
        kind: EntryType,
        target: &[u8],
        size: u64,
        modified: Option<Timestamp>,
    ) -> io::Result<()> {
        for (name, kind) in [(path, EntryType::GNULongName), (target, EntryType::GNULongLink)] {
            if name.len() > NAME {
                let name = [name, b"\0"].concat();
                let size = name.len() as u64;
                self.to.write_all(header(b"././@LongLink", kind, b"", size, None).as_bytes())?;
                self.to.write_all(&name)?;
                self.pad(size)?;
            }
        }
        self.to.write_all(header(path, kind, target, size, modified).as_bytes())
    }

    /// Fills the block that a content of this size left open.
    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        io::copy(&mut io::repeat(0).take(padding), &mut self.to).map(|_| ())
    }
}

/// Bytes that a header has for a name.
const NAME: usize = 100;

fn header(path: &[u8], kind: EntryType, target: &[u8], size: u64, modified: Option<Timestamp>) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(modified.and_then(|time| u64::try_from(time.as_second()).ok()).unwrap_or(0));
    let fields = header.as_old_mut();
    let (path, target) = (&path[..path.len().min(NAME)], &target[..target.len().min(NAME)]);
    fields.name[..path.len()].copy_from_slice(path);
    fields.linkname[..target.len()].copy_from_slice(target);
    header.set_cksum();
    header
}
