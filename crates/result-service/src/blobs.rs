//! The directory of blobs: contents under their own digest. A path is made from a digest only, never from
//! anything that came from outside.
//!
//! A blob is written beside its place, flushed, renamed, and its directory flushed, before a row points at it: a
//! row never points at nothing, and a crash leaves at most a file that no row knows.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use fs_err as fs;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Contents up to this size are kept in the database, where they share the flush of their run.
pub(crate) const SMALL: usize = 64 * 1024;

/// SHA-256 of a blob's contents.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlobId([u8; 32]);

impl BlobId {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

/// A blob that is durable, or is small and becomes durable with the row that carries it.
#[derive(Clone, Debug)]
pub(crate) struct KeptBlob {
    pub(crate) id: BlobId,
    pub(crate) size: u64,
    /// The contents of a small blob.
    pub(crate) content: Option<Vec<u8>>,
}

/// A directory of blobs.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    kept: PathBuf,
    incoming: PathBuf,
}

impl Blobs {
    /// Opens the directory, and makes it when it is missing.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let blobs = Self { kept: root.join("sha256"), incoming: root.join("incoming") };
        fs::create_dir_all(&blobs.kept)?;
        fs::create_dir_all(&blobs.incoming)?;
        flush_directory(root)?;
        Ok(blobs)
    }

    /// Removes what a crash left half received. Only for the one process that receives.
    pub(crate) fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.incoming)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// Begins to receive a blob.
    pub(crate) fn receive(&self) -> Incoming {
        Incoming {
            digest: Sha256::new(),
            size: 0,
            memory: Vec::new(),
            file: None,
            directory: self.incoming.clone(),
        }
    }

    /// Makes a received blob durable under its digest; small ones are handed back to be kept in a row. Blocks.
    pub(crate) fn keep(&self, incoming: Incoming) -> io::Result<KeptBlob> {
        let Incoming { digest, size, memory, file, .. } = incoming;
        let id = BlobId(digest.finalize().into());
        let Some(file) = file else { return Ok(KeptBlob { id, size, content: Some(memory) }) };
        file.as_file().sync_all()?;
        let place = self.place(id);
        let directory = place.parent().expect("a blob's place has a directory");
        if !directory.exists() {
            fs::create_dir_all(directory)?;
            flush_directory(&self.kept)?;
        }
        // The same contents may be there already: replacing them by themselves is harmless.
        file.persist(&place).map_err(|failed| failed.error)?;
        flush_directory(directory)?;
        Ok(KeptBlob { id, size, content: None })
    }

    /// Opens the contents of a large blob. Blocks.
    pub(crate) fn open_blob(&self, id: BlobId) -> io::Result<File> {
        Ok(fs::File::open(self.place(id))?.into_parts().0)
    }

    fn place(&self, id: BlobId) -> PathBuf {
        let name = id.to_string();
        self.kept.join(&name[..2]).join(&name[2..])
    }
}

fn flush_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// A blob that is being received: in memory while it is small, then in a file that vanishes when this is dropped.
pub(crate) struct Incoming {
    digest: Sha256,
    size: u64,
    memory: Vec<u8>,
    file: Option<NamedTempFile>,
    directory: PathBuf,
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && self.memory.len() + bytes.len() > SMALL {
            let mut file = NamedTempFile::new_in(&self.directory)?;
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes)?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a source and keeps what it read as a blob.
pub(crate) struct Keeping<R> {
    source: R,
    incoming: Incoming,
    failure: Option<io::Error>,
}

impl<R: Read> Keeping<R> {
    pub(crate) fn new(source: R, incoming: Incoming) -> Self {
        Self { source, incoming, failure: None }
    }

    /// Why what was read could not be kept: a failure of ours, which a reader sees as one of the source.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// What was read so far, as a blob, after reading the rest of the source.
    pub(crate) fn finish(mut self) -> io::Result<Incoming> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.incoming)
    }
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(into)?;
        if let Err(error) = self.incoming.write_all(&into[..read]) {
            let kind = error.kind();
            self.failure = Some(error);
            return Err(kind.into());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(blobs: &Blobs, contents: &[u8]) -> KeptBlob {
        let mut incoming = blobs.receive();
        contents.chunks(7_000).for_each(|chunk| incoming.write_all(chunk).expect("room on the disk"));
        blobs.keep(incoming).expect("room on the disk")
    }

    #[test]
    fn small_contents_stay_in_memory_and_large_ones_lie_under_their_digest() {
        let root = tempfile::tempdir().expect("a directory");
        let blobs = Blobs::open(root.path()).expect("a store of blobs");
        assert_eq!(kept(&blobs, b"abc").content.as_deref(), Some(&b"abc"[..]));
        let large = vec![7; SMALL + 1];
        let blob = kept(&blobs, &large);
        assert_eq!((blob.size, blob.content), (large.len() as u64, None));
        let mut read = Vec::new();
        blobs.open_blob(blob.id).expect("is there").read_to_end(&mut read).expect("reads");
        assert_eq!(read, large);
        assert_eq!(kept(&blobs, &large).id, blob.id);
    }

    #[test]
    fn what_was_not_kept_vanishes() {
        let root = tempfile::tempdir().expect("a directory");
        let blobs = Blobs::open(root.path()).expect("a store of blobs");
        let mut incoming = blobs.receive();
        incoming.write_all(&vec![1; SMALL * 2]).expect("room on the disk");
        let count = || fs::read_dir(&blobs.incoming).expect("lists").count();
        assert_eq!(count(), 1);
        drop(incoming);
        assert_eq!(count(), 0);
    }
}
