//! The archive that is uploaded, written as a stream. Only regular files ever go in: no links, no devices, nothing
//! that climbs out of `results/`.
//!
//! ```text
//! container_info/inspect.json   container_info/engine.json   console_output/{stdout,stderr}.log   results/**
//! ```

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use flate2::{Compression, write::GzEncoder};

/// Where an upload keeps the engine's inspect document.
pub(crate) const INSPECT: &str = "container_info/inspect.json";
/// Where it keeps what the engine says about itself.
pub(crate) const ENGINE: &str = "container_info/engine.json";
/// Where it keeps what the collector has to say, a line each.
pub(crate) const NOTES: &str = "container_info/notes.txt";
/// Where it keeps standard output.
pub(crate) const STDOUT: &str = "console_output/stdout.log";
/// Where it keeps standard error.
pub(crate) const STDERR: &str = "console_output/stderr.log";
const RESULTS: &[u8] = b"results/";

/// An upload that is being written.
pub(crate) struct Bundle<W: Write> {
    tar: tar::Builder<GzEncoder<W>>,
}

impl<W: Write> Bundle<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { tar: tar::Builder::new(GzEncoder::new(to, Compression::fast())) }
    }

    /// Adds a file of ours.
    pub(crate) fn add(&mut self, path: &str, mtime: u64, content: &[u8]) -> io::Result<()> {
        self.tar.append_data(&mut header(mtime, content.len() as u64), path, content)
    }

    /// Adds a file under `results/`. `content` must give exactly `len` bytes.
    pub(crate) fn add_result(
        &mut self,
        relative: &[u8],
        mtime: u64,
        len: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let path = [RESULTS, relative].concat();
        let mut content = Exactly { from: content, left: len };
        self.tar.append_data(&mut header(mtime, len), Path::new(OsStr::from_bytes(&path)), &mut content)?;
        if content.left > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> io::Result<W> {
        self.tar.into_inner()?.finish()
    }
}

fn header(mtime: u64, len: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(mtime);
    header.set_size(len);
    header
}

/// Never gives more than it should, and knows whether it gave less.
struct Exactly<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.from.read(&mut buffer[..wanted])?;
        self.left -= n as u64;
        Ok(n)
    }
}

/// The part of an archive's entry path below its first component, which is the archived directory itself; the file's
/// own name if there is nothing below. `None` for a path that should not be in there at all.
pub(crate) fn below_root(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if path.first() == Some(&b'/') || parts.iter().any(|part| *part == b".." || part.contains(&0)) {
        return None;
    }
    match &parts[..] {
        [] => None,
        [only] => Some(only.to_vec()),
        [_, below @ ..] => Some(below.join(&b'/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_long_or_not_utf_8_survive() {
        let mut bundle = Bundle::new(Vec::new());
        let long = [b"d".repeat(150), b"/".to_vec(), b"\xff\xfe.xml".to_vec()].concat();
        bundle.add_result(&long, 7, 3, &b"abc"[..]).unwrap();
        let bytes = bundle.finish().unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path_bytes(), [RESULTS, &long].concat());
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        assert_eq!(content, "abc");
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_one_that_grows_is_cut_at_its_length() {
        let mut bundle = Bundle::new(Vec::new());
        assert!(bundle.add_result(b"a", 0, 5, &b"abc"[..]).is_err());
        let mut bundle = Bundle::new(Vec::new());
        bundle.add_result(b"a", 0, 2, &b"abc"[..]).unwrap();
    }

    #[test]
    fn entry_paths_lose_the_archived_directory_and_never_climb() {
        let below = |path: &str| below_root(path.as_bytes()).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(below("results/a/b.xml").as_deref(), Some("a/b.xml"));
        assert_eq!(below("./results/./a").as_deref(), Some("a"));
        assert_eq!(below("junit.xml").as_deref(), Some("junit.xml"));
        assert_eq!(below("/etc/passwd"), None);
        assert_eq!(below("results/../../x"), None);
        assert_eq!(below(""), None);
    }
}
