//! Rules about a file as a whole: its header, its size, its name. Pure.

use super::{finding::Finding, source::Source};

/// A file that is longer without its test modules is cut along a noun of the domain.
const PRODUCT_LINES: usize = 600;
/// With them.
const ALL_LINES: usize = 700;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "helpers", "helper", "common", "manager", "misc", "shared"];

/// Every file says first what it is for and what it never does.
pub(crate) fn header(source: &Source) -> Option<Finding> {
    let first = source.text.lines().next().unwrap_or_default();
    let says_something = first.strip_prefix("//! ").is_some_and(|rest| rest.trim().len() >= 10);
    (!says_something).then(|| {
        Finding::at_line(
            &source.path,
            1,
            "must begin with `//!`: what the file is for and what it never does",
        )
    })
}

/// No file is too long to be read.
pub(crate) fn size(source: &Source) -> Option<Finding> {
    let all = source.text.lines().count();
    let product = if source.is_test_file() { 0 } else { source.product_lines().count() };
    let message = if product > PRODUCT_LINES {
        format!(
            "{product} lines without tests, {PRODUCT_LINES} are permitted: cut it along a noun of the domain"
        )
    } else if all > ALL_LINES {
        format!("{all} lines, {ALL_LINES} are permitted: cut it along a noun of the domain")
    } else {
        return None;
    };
    Some(Finding::new(&source.path, message))
}

/// A file is named for a noun or verb of the domain.
pub(crate) fn name(source: &Source) -> Option<Finding> {
    let parts = source.path.split('/').map(|part| part.trim_end_matches(".rs"));
    let empty =
        parts.into_iter().find(|part| part.split(['_', '-']).any(|word| EMPTY_NAMES.contains(&word)))?;
    Some(Finding::new(
        &source.path,
        format!("`{empty}` says nothing: name it for a noun or verb of the domain"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("crates/x/src/a.rs", text)
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert!(header(&source("use std::fmt;\n")).is_some());
        assert!(header(&source("")).is_some());
        assert!(header(&source("//!\n//! Second line only.\n")).is_some());
        assert!(header(&source("// Not a module comment.\n")).is_some());
    }

    #[test]
    fn a_file_with_a_header_passes() {
        assert_eq!(header(&source("//! Decides which builds may be deleted. Pure.\n")), None);
    }

    #[test]
    fn product_code_has_the_lower_bound() {
        let long = "let a = 1;\n".repeat(PRODUCT_LINES);
        assert_eq!(size(&source(&long)), None);
        let message = size(&source(&format!("{long}let b = 2;\n"))).expect("too long").message;
        assert!(message.starts_with("601 lines without tests"), "{message}");
    }

    #[test]
    fn tests_count_for_the_upper_bound_only() {
        let product = "let a = 1;\n".repeat(500);
        let tests =
            |lines: usize| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "let a = 1;\n".repeat(lines));
        assert_eq!(size(&source(&format!("{product}{}", tests(190)))), None);
        assert!(size(&source(&format!("{product}{}", tests(290)))).is_some());
    }

    #[test]
    fn a_test_file_has_the_upper_bound_only() {
        let text = "let a = 1;\n".repeat(650);
        assert_eq!(size(&Source::new("crates/x/tests/it/a.rs", text)), None);
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        for path in ["crates/x/src/utils.rs", "crates/x/src/common/mod.rs", "crates/x/src/image_helpers.rs"] {
            assert!(name(&Source::new(path, "")).is_some(), "{path}");
        }
        assert_eq!(name(&Source::new("crates/x/src/faithful_copy.rs", "")), None);
    }
}
