//! Reads an upload's gzipped tar from a stranger: streams, keeps to limits, follows nothing and writes nothing.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use jiff::Timestamp;

use super::{
    UploadError,
    gunzip::Gunzip,
    headers::{Archive, BLOCK, truncated},
    path,
    sparse::SparseMap,
};

/// How much an upload may hold.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Entries.
    pub entries: u64,
    /// Bytes of one entry, holes included.
    pub entry: u64,
    /// Bytes of everything unpacked: headers, contents, and holes.
    pub total: u64,
    /// How many times larger than the body it may become.
    pub ratio: u64,
    /// Unpacked bytes up to which `ratio` is not looked at: a small log of one line repeated is no bomb.
    pub ratio_after: u64,
    /// Bytes of a path, and of a link's target.
    pub path_length: usize,
    /// Parts of a path.
    pub path_depth: usize,
    /// Bytes of the extended headers of one entry.
    pub metadata: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            entries: 100_000,
            entry: 512 * 1024 * 1024,
            total: 1024 * 1024 * 1024,
            ratio: 200,
            ratio_after: 32 * 1024 * 1024,
            path_length: 4096,
            path_depth: 64,
            metadata: 128 * 1024,
        }
    }
}

/// What is known about an entry before its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative, without `.` and `..`; not always UTF-8.
    pub path: Vec<u8>,
    /// Bytes that its reader yields.
    pub size: u64,
    /// What it is.
    pub kind: EntryKind,
    /// When it was last modified.
    pub modified: Option<Timestamp>,
}

impl Entry {
    /// The path for people: what is not UTF-8, and control characters, are replaced.
    pub fn lossy_path(&self) -> Cow<'_, str> {
        path::lossy(&self.path)
    }
}

/// What an entry is. Only a file has content; nothing else is more than a note that it was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link: its target as it was written, which may lead anywhere and is not to be followed.
    Symlink {
        /// The target.
        target: Vec<u8>,
    },
    /// A second name of a file, likewise.
    HardLink {
        /// The first name.
        target: Vec<u8>,
    },
    /// Something that has no content here: a device, a FIFO.
    Skipped {
        /// What it was.
        what: &'static str,
    },
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadSummary {
    /// Entries that were visited.
    pub entries: u64,
    /// Bytes of the body.
    pub packed: u64,
    /// Bytes of everything unpacked.
    pub unpacked: u64,
}

/// Takes one entry after the other. What it does not read of a content is skipped.
pub type Visit<'a> = dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()> + 'a;

/// Reads a body of `Content-Type: application/gzip` and shows each entry to `visit`.
pub fn read(
    body: impl Read,
    limits: &UploadLimits,
    visit: &mut Visit<'_>,
) -> Result<UploadSummary, UploadError> {
    let mut archive = Archive::new(Gunzip::new(body, limits), limits);
    let mut summary = UploadSummary::default();
    while let Some((entry, pieces, stored)) = archive.next_entry()? {
        // The root itself tells nothing.
        if !entry.path.is_empty() {
            summary.entries += 1;
            if summary.entries > limits.entries {
                return Err(UploadError::TooManyEntries { limit: limits.entries });
            }
        }
        let mut content = Content::new(&mut archive, &entry, pieces, stored);
        if !entry.path.is_empty() {
            let visited = visit(&entry, &mut content);
            if let Some(fault) = content.fault.take() {
                return Err(fault);
            }
            visited
                .map_err(|source| UploadError::Visitor { path: entry.lossy_path().into_owned(), source })?;
        }
        content.skip()?;
    }
    archive.expect_end()?;
    summary.packed = archive.stream.packed();
    summary.unpacked = archive.stream.unpacked;
    Ok(summary)
}

/// The content of an entry: no more than its size, with holes as zeros.
struct Content<'a, 'b, R> {
    archive: &'a mut Archive<'b, R>,
    path: &'a [u8],
    /// Where the reader is in the file, and the file's size.
    at: u64,
    size: u64,
    /// Data that is left, the next piece last; for a file without holes, one piece.
    pieces: Vec<(u64, u64)>,
    /// Bytes that are left in the archive, of which all but padding are data.
    stored: u64,
    padding: u64,
    fault: Option<UploadError>,
}

impl<'a, 'b, R: Read> Content<'a, 'b, R> {
    fn new(archive: &'a mut Archive<'b, R>, entry: &'a Entry, map: Option<SparseMap>, stored: u64) -> Self {
        let mut pieces = map.map_or_else(|| vec![(0, entry.size)], SparseMap::into_pieces);
        pieces.reverse();
        let padding = stored.next_multiple_of(BLOCK as u64) - stored;
        let (path, size) = (entry.path.as_slice(), entry.size);
        Self { archive, path, at: 0, size, pieces, stored, padding, fault: None }
    }

    fn next(&mut self, into: &mut [u8]) -> Result<usize, UploadError> {
        while self.pieces.last().is_some_and(|(offset, length)| self.at >= offset + length) {
            self.pieces.pop();
        }
        let room = |left: u64| usize::try_from(left).map_or(into.len(), |left| left.min(into.len()));
        let count = match self.pieces.last().copied() {
            Some((offset, length)) if self.at >= offset => {
                let most = room(offset + length - self.at);
                let count = self.pull(&mut into[..most])?;
                self.stored -= count as u64;
                count
            }
            next => {
                let hole_ends = next.map_or(self.size, |(offset, _)| offset);
                let count = room(hole_ends - self.at);
                into[..count].fill(0);
                count
            }
        };
        self.at += count as u64;
        Ok(count)
    }

    fn pull(&mut self, into: &mut [u8]) -> Result<usize, UploadError> {
        match self.archive.stream.read(into)? {
            0 if !into.is_empty() => Err(truncated(Some(self.path))),
            count => Ok(count),
        }
    }

    /// Goes on to the next header.
    fn skip(mut self) -> Result<(), UploadError> {
        let mut buffer = [0; 8192];
        let mut left = self.stored + self.padding;
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            left -= self.pull(&mut buffer[..most])? as u64;
        }
        Ok(())
    }
}

impl<R: Read> Read for Content<'_, '_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.fault.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.next(into).map_err(|fault| {
            let error = io::Error::other(fault.to_string());
            self.fault = Some(fault);
            error
        })
    }
}
