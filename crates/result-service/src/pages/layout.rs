//! What all pages have in common: the frame around them, paging, and the page of an error.

use askama::Template;
use jiff::Timestamp;

use super::{
    assets,
    wording::{self, Ago, Utc},
};

/// The part of the site a page belongs to, marked in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Tests,
    Events,
    None,
}

/// What the frame around a page needs to know.
pub(super) struct Frame {
    pub(super) now: Timestamp,
    pub(super) section: Section,
    /// Where the same page is as JSON.
    pub(super) twin: Option<String>,
}

impl Frame {
    /// An element with the age of `at`.
    pub(super) fn ago(&self, at: &Timestamp) -> Ago {
        wording::ago(*at, self.now)
    }

    /// An element with the exact time `at`.
    pub(super) fn utc(&self, at: &Timestamp) -> Utc {
        wording::utc(*at)
    }

    pub(super) fn style(&self) -> &'static str {
        assets::style()
    }

    pub(super) fn script(&self) -> &'static str {
        assets::script()
    }

    pub(super) fn icon(&self) -> &'static str {
        assets::icon()
    }

    pub(super) fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    pub(super) fn section_is(&self, name: &str) -> bool {
        matches!((self.section, name), (Section::Tests, "tests") | (Section::Events, "events"))
    }
}

/// A page that says what went wrong.
#[derive(Template)]
#[template(path = "error.html")]
pub(super) struct ErrorPage {
    pub(super) frame: Frame,
    pub(super) title: String,
    pub(super) status: u16,
    pub(super) detail: String,
}

/// Writes `path?name=value&…` without the pairs that are empty.
pub(super) fn link(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// One path segment, percent-encoded.
pub(super) fn segment(text: &str) -> String {
    // Of the characters that need no encoding in a path, only these occur in names often enough to matter.
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {
                encoded.push(char::from(byte));
            }
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                encoded.push('%');
                encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
                encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    encoded
}

/// The page of a test.
pub(super) fn test_path(name: &str) -> String {
    format!("/tests/{}", segment(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_leave_out_what_is_empty() {
        assert_eq!(link("/", &[("q", ""), ("state", "")]), "/");
        assert_eq!(link("/", &[("q", "a&b"), ("state", "failed")]), "/?q=a%26b&state=failed");
    }

    #[test]
    fn names_become_one_segment() {
        assert_eq!(test_path("smoke"), "/tests/smoke");
        assert_eq!(test_path("a/b ü?"), "/tests/a%2Fb%20%C3%BC%3F");
        assert_eq!(test_path("<script>"), "/tests/%3Cscript%3E");
    }
}
