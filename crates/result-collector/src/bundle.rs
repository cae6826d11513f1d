//! What an upload's archive holds beyond the agreed layout, and how the engine's archive of a results directory maps
//! into it. Pure.

use std::io::Write;

use test_results::upload::UploadWriter;

/// Where an upload keeps what the collector has to say, a line each.
pub(crate) const NOTES: &str = "container_info/notes.txt";

/// The fastest level: the archive is read once more from the local disk and once by the service.
const LEVEL: u32 = 1;

/// Begins an archive.
pub(crate) fn begin<W: Write>(to: W) -> UploadWriter<W> {
    UploadWriter::with_level(to, LEVEL)
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
