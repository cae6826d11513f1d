//! The name and the words the program was called with, brought into one form. Pure.

use std::{ffi::OsString, path::Path};

/// The names the binary answers to; a link is enough.
const NAMES: [&str; 2] = ["tugyard", "tugbot"];

/// The name of the program as called, if it is one of ours.
pub(crate) fn name_of(program: &OsString) -> &'static str {
    let called = Path::new(program).file_name().unwrap_or_default();
    NAMES.into_iter().find(|name| called == *name).unwrap_or(NAMES[0])
}

/// Turns old spellings into today's: the proposal's own example writes `-dir` for `--dir`.
pub(crate) fn modernise(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut literal = false;
    words
        .into_iter()
        .map(|word| {
            literal |= word == "--";
            match word.to_str() {
                Some("-dir") if !literal => "--dir".into(),
                Some(text) if !literal && text.starts_with("-dir=") => format!("-{text}").into(),
                _ => word,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: &[&str]) {
        let words = modernise(words.iter().map(OsString::from));
        assert_eq!(words, expected.iter().map(OsString::from).collect::<Vec<_>>());
    }

    #[test]
    fn reads_the_single_dash_spelling_of_dir() {
        check(
            &["tugbot", "watch", "--dir", "/a", "-dir", "/b"],
            &["tugbot", "watch", "--dir", "/a", "--dir", "/b"],
        );
        check(&["tugbot", "watch", "-dir=/b"], &["tugbot", "watch", "--dir=/b"]);
    }

    #[test]
    fn leaves_words_after_two_dashes_alone() {
        check(&["tugbot", "run", "--", "-dir"], &["tugbot", "run", "--", "-dir"]);
    }

    #[test]
    fn knows_its_names_by_any_path() {
        assert_eq!(name_of(&"/usr/local/bin/tugbot".into()), "tugbot");
        assert_eq!(name_of(&"something".into()), "tugyard");
    }
}
