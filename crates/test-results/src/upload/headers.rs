//! Reads the headers of a tar: old, GNU's and POSIX's, with long names and files with holes, under limits.
//!
//! Single headers are decoded with the `tar` crate, but it does not iterate them: its iterator keeps extended headers and
//! maps of holes of any size in memory, and splits extended records at line breaks.

use std::{borrow::Cow, io::Read};

use jiff::Timestamp;
use tar::{EntryType, GnuExtSparseHeader, Header};

use super::{
    Entry, EntryKind, UploadError, UploadLimits,
    gunzip::Gunzip,
    path,
    sparse::{SparseMap, decimal},
};

pub(super) const BLOCK: usize = 512;

/// An archive, header by header. Between them, the entry's content must be taken from `stream`.
pub(super) struct Archive<'a, R> {
    pub(super) stream: Gunzip<'a, R>,
    limits: &'a UploadLimits,
    /// Bytes of holes so far.
    holes: u64,
}

/// Extended headers that describe the entry after them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<Timestamp>,
    /// The name of a file with holes, whose `path` is made up.
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_map: Option<SparseMap>,
    /// Form 0.0: the offset whose length comes next.
    sparse_offset: Option<u64>,
    /// Form 1.0: the map stands before the content.
    sparse_in_content: bool,
    used: u64,
}

/// An entry, the pieces of a file with holes, and its bytes in the archive.
pub(super) type Found = (Entry, Option<SparseMap>, u64);

impl<'a, R: Read> Archive<'a, R> {
    pub(super) fn new(stream: Gunzip<'a, R>, limits: &'a UploadLimits) -> Self {
        Self { stream, limits, holes: 0 }
    }

    /// The next entry; `None` at the archive's end.
    pub(super) fn next_entry(&mut self) -> Result<Option<Found>, UploadError> {
        let mut extended = Extended::default();
        loop {
            let at = self.stream.unpacked;
            let mut header = Header::new_old();
            let Some(()) = self.block(header.as_mut_bytes())? else {
                return if extended.used > 0 { Err(truncated(None)) } else { Ok(None) };
            };
            if header.as_bytes().iter().all(|b| *b == 0) {
                return if extended.used > 0 {
                    Err(bad(at, "nothing follows an extended header"))
                } else {
                    Ok(None)
                };
            }
            check_sum(&header, at)?;
            let size = header.entry_size().map_err(|_| bad(at, "its size is not a number"))?;
            let kind = header.entry_type();
            match kind {
                EntryType::GNULongName => {
                    extended.path = Some(self.long_name(size, at, &mut extended.used)?);
                }
                EntryType::GNULongLink => {
                    extended.link = Some(self.long_name(size, at, &mut extended.used)?);
                }
                EntryType::XHeader => {
                    let records = self.metadata(size, at, &mut extended.used)?;
                    extended
                        .read_records(&records)
                        .ok_or_else(|| bad(at, "its extended records are broken"))?;
                }
                EntryType::XGlobalHeader => {
                    self.metadata(size, at, &mut extended.used)?;
                }
                _ => return self.entry(&header, size, at, extended).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        size: u64,
        at: u64,
        mut extended: Extended,
    ) -> Result<Found, UploadError> {
        let name = extended.sparse_name.take().or_else(|| extended.path.take());
        let name = name.map_or_else(|| header.path_bytes(), Cow::Owned);
        let path = path::received(&name, self.limits)?;
        let shown = || path::lossy(&path).into_owned();
        let link = extended
            .link
            .take()
            .or_else(|| header.link_name_bytes().map(Cow::into_owned))
            .unwrap_or_default();
        if link.len() > self.limits.path_length {
            return Err(UploadError::PathTooLong { limit: self.limits.path_length });
        }
        let kind = match header.entry_type() {
            // Before the types were numbered, a directory was a name that ends in a slash.
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => EntryKind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => EntryKind::File,
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => EntryKind::Symlink { target: link },
            EntryType::Link => EntryKind::HardLink { target: link },
            EntryType::Char => EntryKind::Skipped { what: "character device" },
            EntryType::Block => EntryKind::Skipped { what: "block device" },
            EntryType::Fifo => EntryKind::Skipped { what: "FIFO" },
            _ => EntryKind::Skipped { what: "unknown type of entry" },
        };
        let has_content = !matches!(
            header.entry_type(),
            EntryType::Directory
                | EntryType::Symlink
                | EntryType::Link
                | EntryType::Char
                | EntryType::Block
                | EntryType::Fifo
        );
        let mut stored = if has_content { extended.size.unwrap_or(size) } else { 0 };
        let mut map = extended.sparse_map.take();
        let mut real = extended.sparse_size.unwrap_or(stored);
        if header.entry_type() == EntryType::GNUSparse {
            (map, real) = self.old_sparse(header, at, &mut extended.used)?;
        } else if extended.sparse_in_content {
            let (found, read) = self.sparse_in_content(stored, at)?;
            stored -= read;
            map = Some(found);
        }
        if let Some(map) = &map
            && (kind != EntryKind::File || map.stored() > stored || !map.fits(real))
        {
            return Err(bad(at, "its map of holes does not fit"));
        }
        let size = if kind != EntryKind::File {
            0
        } else if map.is_some() {
            real
        } else {
            stored
        };
        if size.max(stored) > self.limits.entry {
            let size = size.max(stored);
            return Err(UploadError::EntryTooLarge { path: shown(), size, limit: self.limits.entry });
        }
        if let Some(map) = &map {
            self.holes = self.holes.saturating_add(size - map.stored());
            if self.holes.saturating_add(self.stream.unpacked) > self.limits.total {
                return Err(UploadError::TooLarge { limit: self.limits.total });
            }
        }
        let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok());
        let modified = extended.modified.or_else(|| Timestamp::from_second(seconds?).ok());
        Ok((Entry { path, size, kind, modified }, map, stored))
    }

    /// The map of holes in an old header and the blocks that continue it, and the file's size.
    fn old_sparse(
        &mut self,
        header: &Header,
        at: u64,
        used: &mut u64,
    ) -> Result<(Option<SparseMap>, u64), UploadError> {
        let broken = || bad(at, "its map of holes is broken");
        let gnu = header.as_gnu().ok_or_else(broken)?;
        let real = gnu.real_size().map_err(|_| broken())?;
        let mut map = SparseMap::default();
        let mut add = |pieces: &[tar::GnuSparseHeader]| {
            pieces.iter().filter(|piece| !piece.is_empty()).try_for_each(|piece| {
                let (offset, length) = (piece.offset().ok()?, piece.length().ok()?);
                map.push(offset, length).then_some(())
            })
        };
        add(&gnu.sparse).ok_or_else(broken)?;
        let mut continues = gnu.is_extended();
        while continues {
            let mut more = GnuExtSparseHeader::new();
            self.use_metadata(BLOCK as u64, at, used)?;
            self.block(more.as_mut_bytes())?.ok_or_else(|| truncated(None))?;
            add(more.sparse()).ok_or_else(broken)?;
            continues = more.isextended[0] == 1;
        }
        Ok((Some(map), real))
    }

    /// Form 1.0: lines of decimal numbers before the content, filled up to a block. Returns what they took as well.
    fn sparse_in_content(&mut self, stored: u64, at: u64) -> Result<(SparseMap, u64), UploadError> {
        let broken = || bad(at, "its map of holes is broken");
        let (mut map, mut read, mut used) = (SparseMap::default(), 0, 0);
        let mut line = Vec::new();
        let mut numbers = Vec::new();
        let mut expected = None;
        loop {
            let mut block = [0; BLOCK];
            if read + BLOCK as u64 > stored {
                return Err(broken());
            }
            self.use_metadata(BLOCK as u64, at, &mut used)?;
            self.block(&mut block)?.ok_or_else(|| truncated(None))?;
            read += BLOCK as u64;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                numbers.push(decimal(&line).ok_or_else(broken)?);
                line.clear();
                match (expected, numbers.as_slice()) {
                    (None, [count]) => {
                        expected = Some(*count);
                        numbers.clear();
                    }
                    (Some(left), [offset, length]) => {
                        if left == 0 || !map.push(*offset, *length) {
                            return Err(broken());
                        }
                        expected = Some(left - 1);
                        numbers.clear();
                    }
                    _ => {}
                }
                if expected == Some(0) {
                    return Ok((map, read));
                }
            }
        }
    }

    fn long_name(&mut self, size: u64, at: u64, used: &mut u64) -> Result<Vec<u8>, UploadError> {
        // One byte more for the NUL at its end.
        if size > self.limits.path_length as u64 + 1 {
            return Err(UploadError::PathTooLong { limit: self.limits.path_length });
        }
        let mut name = self.metadata(size, at, used)?;
        name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
        Ok(name)
    }

    /// The content of an extended header.
    fn metadata(&mut self, size: u64, at: u64, used: &mut u64) -> Result<Vec<u8>, UploadError> {
        // A header alone takes its block.
        self.use_metadata(size.saturating_add(BLOCK as u64), at, used)?;
        let size = usize::try_from(size).map_err(|_| bad(at, "its size is not a number"))?;
        let mut content = vec![0; size.next_multiple_of(BLOCK)];
        for block in content.chunks_exact_mut(BLOCK) {
            self.block(block)?.ok_or_else(|| truncated(None))?;
        }
        content.truncate(size);
        Ok(content)
    }

    fn use_metadata(&self, size: u64, at: u64, used: &mut u64) -> Result<(), UploadError> {
        *used = used.saturating_add(size);
        if *used > self.limits.metadata {
            return Err(UploadError::MetadataTooLarge { at, limit: self.limits.metadata });
        }
        Ok(())
    }

    /// Fills a block. `None` if the archive ends before it.
    fn block(&mut self, block: &mut [u8]) -> Result<Option<()>, UploadError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.stream.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(truncated(None)),
                count => filled += count,
            }
        }
        Ok(Some(()))
    }

    /// After the first empty block only empty ones may follow.
    pub(super) fn expect_end(&mut self) -> Result<(), UploadError> {
        let mut buffer = [0; 8192];
        loop {
            match self.stream.read(&mut buffer)? {
                0 => return Ok(()),
                count if buffer[..count].iter().any(|b| *b != 0) => return Err(UploadError::TrailingGarbage),
                _ => {}
            }
        }
    }
}

impl Extended {
    /// Reads records of the form `<length> <key>=<value>\n`. The length counts itself, so a value may hold anything.
    fn read_records(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() && records[0] != 0 {
            let space = records.iter().take(20).position(|b| *b == b' ')?;
            let length = usize::try_from(decimal(&records[..space])?).ok()?;
            let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
            records = &records[length..];
            let equals = record.iter().position(|b| *b == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(decimal(value)?),
                b"mtime" => self.modified = seconds(value),
                b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse_size = Some(decimal(value)?),
                b"GNU.sparse.map" => self.sparse_map = Some(SparseMap::from_list(value)?),
                b"GNU.sparse.offset" => self.sparse_offset = Some(decimal(value)?),
                b"GNU.sparse.numbytes" => {
                    let offset = self.sparse_offset.take()?;
                    let added = self.sparse_map.get_or_insert_default().push(offset, decimal(value)?);
                    added.then_some(())?;
                }
                b"GNU.sparse.major" => self.sparse_in_content = decimal(value)? >= 1,
                _ => {}
            }
        }
        Some(())
    }
}

/// Old archives summed signed bytes.
fn check_sum(header: &Header, at: u64) -> Result<(), UploadError> {
    let stored = header.cksum().map_err(|_| bad(at, "its checksum is not a number"))?;
    let bytes = header.as_bytes();
    let counted = || bytes[..148].iter().chain(&bytes[156..]);
    let unsigned: u32 = counted().map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
    let signed: i32 = counted().map(|b| i32::from(b.cast_signed())).sum::<i32>() + 8 * 32;
    if stored == unsigned || i64::from(stored) == i64::from(signed) {
        return Ok(());
    }
    Err(bad(at, "its checksum does not fit"))
}

/// `1777629600.25` as a time.
fn seconds(text: &[u8]) -> Option<Timestamp> {
    let text = str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds = format!("{fraction:0<9.9}").parse::<i32>().ok()?;
    let whole: i64 = whole.parse().ok()?;
    Timestamp::new(whole, if whole < 0 { -nanoseconds } else { nanoseconds }).ok()
}

pub(super) fn truncated(path: Option<&[u8]>) -> UploadError {
    UploadError::TruncatedTar { entry: path.map(|path| path::lossy(path).into_owned()) }
}

fn bad(at: u64, reason: &'static str) -> UploadError {
    UploadError::BadHeader { at, reason }
}
