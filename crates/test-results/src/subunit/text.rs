//! Subunit version 1: lines of text (`test: a`, `failure: a [` … `]`).

use std::io::{self, BufRead, Read};

use super::{Ended, Stop, SubunitError, Tests};
use crate::bounded::Lines;

/// The longest line of a part's header or length.
const HEADER_LINE: u64 = 1024;

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) enum Word<'a> {
    Start(&'a str),
    End(Ended, &'a str, Details),
    Time(&'a str),
    /// Tags and progress, of which nothing is kept.
    Known,
    Other,
}

/// What follows the line of an ended test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Details {
    None,
    /// Lines up to `]`.
    Lines,
    /// Parts with a content type each, up to `]`.
    Parts,
}

/// Reads a line. Words count only with a colon: without it they are words of any log.
pub(super) fn read_word(line: &str) -> Word<'_> {
    let Some((word, rest)) = line.split_once(':') else { return Word::Other };
    let rest = rest.trim();
    let ended = match word {
        "test" | "testing" if !rest.is_empty() => return Word::Start(rest),
        "time" => return Word::Time(rest),
        "tags" | "progress" => return Word::Known,
        "success" | "successful" => Ended::Passed,
        "failure" => Ended::Failed,
        "error" => Ended::Error,
        "skip" => Ended::Skipped,
        "xfail" => Ended::ExpectedFailure,
        "uxsuccess" => Ended::UnexpectedSuccess,
        _ => return Word::Other,
    };
    let (name, details) = match (rest.strip_suffix("[ multipart"), rest.strip_suffix('[')) {
        (Some(name), _) => (name, Details::Parts),
        (None, Some(name)) if name.is_empty() || name.ends_with(' ') => (name, Details::Lines),
        _ => (rest, Details::None),
    };
    let name = name.trim_end();
    if name.is_empty() { Word::Other } else { Word::End(ended, name, details) }
}

/// Reads the stream to its end. Returns how many lines were subunit's.
pub(super) fn parse<R: BufRead>(reader: R, tests: &mut Tests<'_, '_>) -> Result<u64, Stop> {
    let mut lines = Lines::new(reader, tests.limits.text);
    let (mut known, mut now) = (0, None);
    loop {
        let line = lines.next().map_err(|source| SubunitError::Read { at: lines.number, source })?;
        let Some(line) = line else { return Ok(known) };
        match read_word(line.trim_end()) {
            Word::Start(name) => tests.start("", name, now)?,
            Word::Time(text) => now = time(text).or(now),
            Word::End(ended, name, details) => {
                let whole = match details {
                    Details::None => Ok(true),
                    Details::Lines => bracketed(&mut lines, name, tests),
                    Details::Parts => parts(&mut lines, name, tests),
                };
                let whole = whole.map_err(|source| SubunitError::Read { at: lines.number, source })?;
                tests.end("", name, ended, now)?;
                if !whole {
                    return Err(
                        SubunitError::TruncatedText { line: lines.number, test: name.to_owned() }.into()
                    );
                }
            }
            Word::Known => {}
            Word::Other => continue,
        }
        known += 1;
    }
}

/// Lines up to `]`; a line that is ` ]` stands for `]`. False if the stream ends before.
fn bracketed<R: BufRead>(lines: &mut Lines<R>, test: &str, tests: &mut Tests<'_, '_>) -> io::Result<bool> {
    while let Some(line) = lines.next()? {
        if line == "]" {
            return Ok(true);
        }
        let line = if line == " ]" { "]" } else { &line };
        tests.attach("", test, "", None, line.as_bytes());
        tests.attach("", test, "", None, b"\n");
    }
    Ok(false)
}

/// `Content-Type: …`, a name, and chunks with their length in hexadecimal, up to `]`.
fn parts<R: BufRead>(lines: &mut Lines<R>, test: &str, tests: &mut Tests<'_, '_>) -> io::Result<bool> {
    loop {
        let Some(header) = lines.next()? else { return Ok(false) };
        if header == "]" {
            return Ok(true);
        }
        let mime = header.split_once(':').map(|(_, mime)| mime.trim().to_owned());
        let Some(name) = lines.next()? else { return Ok(false) };
        loop {
            let Some(length) = chunk_length(lines.reader())? else { return Ok(false) };
            if length == 0 {
                break;
            }
            if !chunk(lines.reader(), length, |bytes| tests.attach("", test, &name, mime.as_deref(), bytes))?
            {
                return Ok(false);
            }
        }
    }
}

/// `None` if there is no length here.
fn chunk_length(reader: &mut impl BufRead) -> io::Result<Option<u64>> {
    let mut line = Vec::new();
    reader.take(HEADER_LINE).read_until(b'\n', &mut line)?;
    let text = String::from_utf8_lossy(&line);
    Ok(u64::from_str_radix(text.trim(), 16).ok())
}

/// False if the stream ends before.
fn chunk(reader: &mut impl BufRead, mut left: u64, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
    while left > 0 {
        let available = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if available.is_empty() {
            return Ok(false);
        }
        let count = usize::try_from(left).map_or(available.len(), |left| left.min(available.len()));
        take(&available[..count]);
        reader.consume(count);
        left -= count as u64;
    }
    Ok(true)
}

/// `2009-11-25 10:00:00.5Z` in nanoseconds since 1970.
fn time(text: &str) -> Option<i128> {
    let text = text.trim().trim_end_matches('Z').replacen(' ', "T", 1);
    format!("{text}Z").parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_nanosecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_they_say() {
        for (line, word) in [
            ("test: a b", Word::Start("a b")),
            ("testing: a", Word::Start("a")),
            ("success: a", Word::End(Ended::Passed, "a", Details::None)),
            ("successful: a [", Word::End(Ended::Passed, "a", Details::Lines)),
            ("failure: a[1] [ multipart", Word::End(Ended::Failed, "a[1]", Details::Parts)),
            ("error: a[", Word::End(Ended::Error, "a[", Details::None)),
            ("xfail: a", Word::End(Ended::ExpectedFailure, "a", Details::None)),
            ("tags: x -y", Word::Known),
            ("error something", Word::Other),
            ("test:", Word::Other),
            ("failure: [", Word::Other),
        ] {
            assert_eq!(read_word(line), word, "{line}");
        }
        assert_eq!(time("2009-11-25 10:00:00.5Z"), Some(1_259_143_200_500_000_000));
    }
}
