//! Paths of entries: what a sender makes of a name, and what a receiver refuses. Bytes, since names need not be UTF-8.

use std::borrow::Cow;

use super::{UploadError, UploadLimits};

/// A path as a sender may write it: relative, without `.` and `..`, NUL replaced. Never empty.
///
/// ```
/// use test_results::upload::sanitised;
/// assert_eq!(sanitised(b"/results/../a//b/./c"), b"results/a/b/c");
/// ```
pub fn sanitised(path: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = parts(path).filter(|part| *part != b"..").collect();
    let mut path = parts.join(&b'/');
    for byte in &mut path {
        if *byte == 0 {
            *byte = b'_';
        }
    }
    if path.is_empty() { b"_".to_vec() } else { path }
}

/// A received path without `.` and empty parts. Empty for the root itself; an error for what leads elsewhere.
pub(super) fn received(path: &[u8], limits: &UploadLimits) -> Result<Vec<u8>, UploadError> {
    if path.len() > limits.path_length {
        return Err(UploadError::PathTooLong { limit: limits.path_length });
    }
    let shown = || lossy(path).into_owned();
    if path.contains(&0) {
        return Err(UploadError::InvalidPath { path: shown() });
    }
    if path.first() == Some(&b'/') {
        return Err(UploadError::AbsolutePath { path: shown() });
    }
    // A backslash separates on the systems of some who will download the file.
    if path.split(|b| matches!(b, b'/' | b'\\')).any(|part| part == b"..") {
        return Err(UploadError::OutsidePath { path: shown() });
    }
    if parts(path).count() > limits.path_depth {
        return Err(UploadError::PathTooDeep { path: shown(), limit: limits.path_depth });
    }
    Ok(parts(path).collect::<Vec<_>>().join(&b'/'))
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// A path for people: what is not UTF-8, and control characters, are replaced.
pub(super) fn lossy(path: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(path);
    if text.chars().any(char::is_control) {
        let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        text.chars().map(visible).collect::<String>().into()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sender_makes_any_name_relative() {
        for (path, expected) in [
            (&b"/etc/passwd"[..], &b"etc/passwd"[..]),
            (b"../../x", b"x"),
            (b"a/./b//c/", b"a/b/c"),
            (b"..", b"_"),
            (b"", b"_"),
            (b"a\0b", b"a_b"),
            (b"..a/b..", b"..a/b.."),
            (b"\xff\xfe", b"\xff\xfe"),
        ] {
            assert_eq!(sanitised(path), expected);
        }
    }

    #[test]
    fn a_receiver_refuses_what_leads_elsewhere() {
        let limits = UploadLimits { path_length: 20, path_depth: 3, ..UploadLimits::default() };
        let refusal = |path: &[u8]| received(path, &limits).unwrap_err().to_string();
        assert_eq!(refusal(b"/etc/passwd"), "the path `/etc/passwd` is absolute");
        assert_eq!(refusal(b"a/../../b"), "the path `a/../../b` leads outside");
        assert_eq!(refusal(b"a\\..\\b"), "the path `a\\..\\b` leads outside");
        assert_eq!(refusal(b"a\0b"), "the path `a\u{fffd}b` has a NUL in it");
        assert_eq!(refusal(b"a/b/c/d"), "the path `a/b/c/d` has more than 3 parts");
        assert_eq!(refusal(&[b'x'; 21]), "a path has more than 20 bytes");
        for (path, expected) in
            [(&b"./a//b/"[..], &b"a/b"[..]), (b".", b""), (b"", b""), (b"a..b/c", b"a..b/c")]
        {
            assert_eq!(received(path, &limits).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received(path in prop::collection::vec(prop::sample::select(b"a./\0\xff".to_vec()), 0..40)) {
            let sent = sanitised(&path);
            prop_assert_eq!(received(&sent, &UploadLimits::default()).unwrap(), sent);
        }
    }
}
