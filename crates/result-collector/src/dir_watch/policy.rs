//! Which names in a watched directory are results. Pure.
//!
//! Left out, at any depth below the watched directory: names that begin with a dot (`.git`, `.junit.xml.swp`, the
//! temporary names of rsync), and names by which editors, downloads and careful writers mark what is not finished:
//! `*~`, `#*#`, `*.tmp`, `*.temp`, `*.part`, `*.partial`, `*.swp`, `*.swx`, `*.crdownload`. A file that is renamed
//! from such a name to another one is collected at that moment. Empty files are left out too: they hold no result.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

const UNFINISHED: [&[u8]; 7] = [b".tmp", b".temp", b".part", b".partial", b".swp", b".swx", b".crdownload"];

/// Whether a file or directory of this name is looked at.
pub(crate) fn is_wanted(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let lower = name.to_ascii_lowercase();
    let is_editors =
        name.ends_with(b"~") || (name.len() > 1 && name.starts_with(b"#") && name.ends_with(b"#"));
    !name.starts_with(b".") && !is_editors && !UNFINISHED.iter().any(|ending| lower.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_wanted_and_what_is_not_finished_is_not() {
        for name in ["junit.xml", "a", "results.tap", "tmp", "part.xml", "#1.xml", "#"] {
            assert!(is_wanted(OsStr::new(name)), "{name}");
        }
        for name in [
            ".junit.xml.swp",
            ".git",
            "junit.xml~",
            "#junit.xml#",
            "a.tmp",
            "a.TMP",
            "a.part",
            ".rsync.x1Y2z3",
        ] {
            assert!(!is_wanted(OsStr::new(name)), "{name}");
        }
        assert!(is_wanted(OsStr::from_bytes(b"\xff\xfe")));
    }
}
