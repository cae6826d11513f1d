//! Tells from the name and the first bytes of a file in which format it holds results, and reads it. Opens no file.

use std::io::{self, Read};

use crate::{
    Limits, Sink, Totals,
    junit::{self, JunitError},
    subunit::{self, SubunitError},
    tap::{self, TapError},
};

/// How many bytes [`recognise`] makes use of.
pub const HEAD: usize = 64 * 1024;

/// A format of test results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JUnit's XML, see [`crate::junit`].
    Junit,
    /// The Test Anything Protocol, see [`crate::tap`].
    Tap,
    /// Subunit of either version, see [`crate::subunit`].
    Subunit,
}

impl Format {
    /// The stable word of this format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Junit => "junit",
            Self::Tap => "tap",
            Self::Subunit => "subunit",
        }
    }
}

/// A file in a known format that cannot be read whole. Cases before the fault have been delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// In JUnit's XML.
    #[error("cannot read the file as JUnit")]
    Junit(#[from] JunitError),
    /// In TAP.
    #[error("cannot read the file as TAP")]
    Tap(#[from] TapError),
    /// In subunit.
    #[error("cannot read the file as subunit")]
    Subunit(#[from] SubunitError),
}

/// The format of a file, by its name and its first bytes (up to [`HEAD`]), or `None` if it holds no results.
///
/// The content decides. A name that ends in `.tap` or `.subunit` only makes up for content that begins with something else.
pub fn recognise(name: &str, head: &[u8]) -> Option<Format> {
    let head = &head[..head.len().min(HEAD)];
    let named = |ending: &str| name.to_ascii_lowercase().ends_with(ending);
    if subunit::recognise(head).is_some() {
        return Some(Format::Subunit);
    }
    let text = decoded(head);
    if text.starts_with('<') {
        return is_junit(&text).then_some(Format::Junit);
    }
    if is_tap(&text, named(".tap")) {
        return Some(Format::Tap);
    }
    (named(".subunit") && !head.is_empty()).then_some(Format::Subunit)
}

/// Reads a file in a known format and hands each case to `sink`. Returns the counts of what was delivered.
pub fn parse(
    format: Format,
    reader: impl Read,
    limits: &Limits,
    sink: &mut Sink<'_>,
) -> Result<Totals, ParseError> {
    Ok(match format {
        Format::Junit => junit::parse(reader, limits, sink)?,
        Format::Tap => tap::parse(io::BufReader::new(reader), limits, sink)?,
        Format::Subunit => subunit::parse(reader, limits, sink)?,
    })
}

/// Recognises a stream and reads it. `Ok(None)` if it holds no results.
pub fn recognise_and_parse(
    name: &str,
    reader: impl Read,
    limits: &Limits,
    sink: &mut Sink<'_>,
) -> Result<Option<(Format, Totals)>, ParseError> {
    let mut reader = io::BufReader::with_capacity(HEAD, reader);
    let mut head = Vec::new();
    // An error that lasts shows up again, with its place, when the whole is read.
    let failed = reader.by_ref().take(HEAD as u64).read_to_end(&mut head).err();
    let Some(format) = recognise(name, &head) else { return Ok(None) };
    let rest = Failing(failed).chain(reader);
    parse(format, head.as_slice().chain(rest), limits, sink).map(|totals| Some((format, totals)))
}

/// Fails once with an error that was met before.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// The head as text without leading blanks and byte order mark.
fn decoded(head: &[u8]) -> String {
    let text = match head {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [b'<', 0, ..] => utf16(head, u16::from_le_bytes),
        [0, b'<', ..] => utf16(head, u16::from_be_bytes),
        _ => String::from_utf8_lossy(head).into_owned(),
    };
    text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}').to_owned()
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units)
}

/// Whether the first element is JUnit's, whatever its prefix.
fn is_junit(text: &str) -> bool {
    let mut rest = text;
    loop {
        let Some(at) = rest.find('<') else { return false };
        rest = &rest[at + 1..];
        let end = match rest.as_bytes().first() {
            Some(b'?') => "?>",
            Some(b'!') if rest.starts_with("!--") => "-->",
            Some(b'!') => ">",
            _ => break,
        };
        match rest.find(end) {
            Some(at) => rest = &rest[at + end.len()..],
            // The head ends in a long comment: look for the element wherever it is.
            None => return text.contains("<testsuite"),
        }
    }
    let name = rest.split(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).next().unwrap_or_default();
    let local = name.rsplit(':').next().unwrap_or_default();
    matches!(local, "testsuites" | "testsuite")
}

/// Whether the first line that says something is TAP's: its version, a plan, or a numbered test. In a file named so, any
/// line may be the first one.
fn is_tap(text: &str, named: bool) -> bool {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let most = if named { usize::MAX } else { 1 };
    lines.take(most).any(|line| {
        let number = |rest: &str| rest.bytes().next().is_some_and(|b| b.is_ascii_digit());
        let test = line.strip_prefix("not ok ").or_else(|| line.strip_prefix("ok "));
        line.strip_prefix("TAP version ").or_else(|| line.strip_prefix("1..")).is_some_and(number)
            || test.is_some_and(|rest| named || number(rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_tells_the_format() {
        for (name, head, expected) in [
            ("r.xml", "<testsuite/>", Some(Format::Junit)),
            (
                "r",
                "\u{feff}\n<?xml version='1.0'?><!-- <a> --><!DOCTYPE x>\n<j:testsuites name='x'>",
                Some(Format::Junit),
            ),
            ("pom.xml", "<project><testsuite/></project>", None),
            ("r.xml", "<!-- unfinished <testsuite", Some(Format::Junit)),
            ("r.xml", "<testsuite", Some(Format::Junit)),
            ("TEST.xml", "", None),
            ("out.log", "TAP version 13\n", Some(Format::Tap)),
            ("out.log", "\n# comment\n1..4\n", Some(Format::Tap)),
            ("out.log", "ok 1 - a\n", Some(Format::Tap)),
            ("out.log", "ok so far\n1..2\n", None),
            ("out.tap", "starting\nok\n not\nok - a\n", Some(Format::Tap)),
            ("out.txt", "hello", None),
            ("s", "test: a\nnoise\nsuccess: a\n", Some(Format::Subunit)),
            ("s", "error: it failed\n", None),
            ("s.subunit", "noise only so far", Some(Format::Subunit)),
        ] {
            assert_eq!(recognise(name, head.as_bytes()), expected, "{name} {head:?}");
        }
        let packet = b"\xb3)\x03\x0c\x03fooE\x9d\xfe\x10";
        assert_eq!(recognise("1", packet), Some(Format::Subunit));
        assert_eq!(recognise("1", &[b"noise\n", &packet[..]].concat()), Some(Format::Subunit));
        assert_eq!(recognise("1", &packet[..5]), Some(Format::Subunit));
        let utf16: Vec<u8> = "<testsuite/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(recognise("1", &utf16), Some(Format::Junit));
    }

    #[test]
    fn a_stream_is_recognised_and_read() {
        let read = |content: &str| {
            let mut names = Vec::new();
            let result = recognise_and_parse("r", content.as_bytes(), &Limits::default(), &mut |case| {
                names.push(case.name);
                std::ops::ControlFlow::Continue(())
            });
            (result.unwrap().map(|(format, totals)| (format, totals.cases)), names)
        };
        let long = format!(
            "<testsuite><testcase name='a'/>{}<testcase name='b'/></testsuite>",
            " ".repeat(2 * HEAD)
        );
        assert_eq!(read(&long), (Some((Format::Junit, 2)), vec!["a".into(), "b".into()]));
        assert_eq!(read("1..1\nok 1 - x\n"), (Some((Format::Tap, 1)), vec!["x".into()]));
        assert_eq!(read("nothing"), (None, vec![]));
    }

    #[test]
    fn an_error_of_the_source_is_told_with_its_place() {
        let source = b"<testsuite>\n<testcase/>\n".chain(Failing(Some(io::Error::other("cut off"))));
        let result =
            recognise_and_parse(
                "r",
                source,
                &Limits::default(),
                &mut |_| std::ops::ControlFlow::Continue(()),
            );
        assert!(matches!(result, Err(ParseError::Junit(JunitError::Read { line: 3, .. }))), "{result:?}");
    }
}
