//! Tells a static executable from one that needs a loader, by the file's program headers. Reads bytes only.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};

/// The program header that names a dynamic loader.
const PT_INTERP: u32 = 3;

/// Whether this 64-bit little-endian ELF file starts without a dynamic loader.
pub(crate) fn is_static(file: &Path) -> anyhow::Result<bool> {
    let bytes = fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    match program_headers(&bytes) {
        Some(kinds) => Ok(!kinds.contains(&PT_INTERP)),
        None => bail!("`{}` is not a 64-bit little-endian ELF executable", file.display()),
    }
}

/// The types of all program headers (System V ABI, "ELF-64 Object File Format", figures 2 and 6).
fn program_headers(file: &[u8]) -> Option<Vec<u32>> {
    let magic = file.get(..6)?;
    if magic != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(file.get(32..40)?.try_into().ok()?)).ok()?;
    let size = usize::from(u16::from_le_bytes(file.get(54..56)?.try_into().ok()?));
    let count = usize::from(u16::from_le_bytes(file.get(56..58)?.try_into().ok()?));
    let kind = |index: usize| {
        let at = table.checked_add(index.checked_mul(size)?)?;
        Some(u32::from_le_bytes(file.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    (0..count).map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_program_needs_a_loader() {
        let this = std::env::current_exe().expect("a running program has a path");
        assert!(!is_static(&this).expect("readable ELF"));
    }

    #[test]
    fn static_busybox_does_not() {
        assert!(is_static(Path::new("/bin/busybox")).expect("setup installs busybox-static"));
    }

    #[test]
    fn other_files_are_an_error_and_never_a_panic() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("x");
        for bytes in [
            &b""[..],
            b"#!/bin/sh\n",
            b"\x7fELF\x02\x01",
            &[b"\x7fELF\x02\x01".as_slice(), &[0xff; 80]].concat(),
        ] {
            fs::write(&file, bytes).expect("writable");
            assert!(is_static(&file).is_err());
        }
    }
}
