//! The limits under which results are read, and the pieces that keep to them: texts and lines that are cut, not refused.

use std::{
    io::{self, BufRead},
    ops::ControlFlow,
};

use crate::{Case, CaseStatus, Failure, Totals};

/// Stands at the end of a text that was longer than its limit.
pub const CUT_MARK: &str = "… [cut]";

/// How much of a result is read. Memory in use while parsing is a small multiple of `text`, whatever the input.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a message, trace or output; the rest is cut off and marked with [`CUT_MARK`].
    pub text: usize,
    /// Bytes of a name; the rest is cut off likewise.
    pub name: usize,
    /// Cases; one more is an error.
    pub cases: u64,
    /// Suites or subtests inside each other; one more is an error.
    pub depth: usize,
    /// Tests that have started and not ended at one time (subunit); one more is an error.
    pub open: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { text: 64 * 1024, name: 1024, cases: 1_000_000, depth: 64, open: 10_000 }
    }
}

/// Takes the cases of a result one by one; [`ControlFlow::Break`] ends the reading without an error.
pub type Sink<'a> = dyn FnMut(Case) -> ControlFlow<()> + 'a;

/// Why a case was not delivered.
pub(crate) enum Refused {
    /// The sink wants no more.
    Stopped,
    /// There are more cases than the limit.
    TooMany,
}

/// Counts cases on their way to the sink.
pub(crate) struct Delivery<'a, 'b> {
    pub(crate) totals: Totals,
    limit: u64,
    sink: &'a mut Sink<'b>,
}

impl<'a, 'b> Delivery<'a, 'b> {
    pub(crate) fn new(limits: &Limits, sink: &'a mut Sink<'b>) -> Self {
        Self { totals: Totals::default(), limit: limits.cases, sink }
    }

    pub(crate) fn deliver(&mut self, case: Case) -> Result<(), Refused> {
        if self.totals.cases >= self.limit {
            return Err(Refused::TooMany);
        }
        self.totals.add(case.status);
        match (self.sink)(case) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Refused::Stopped),
        }
    }
}

/// A text that grows up to a limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    kept: String,
    cut: bool,
}

impl Text {
    /// Appends as much as fits, up to a character's boundary. A NUL becomes U+FFFD, as no store and no page takes it.
    pub(crate) fn push(&mut self, text: &str, limit: usize) {
        if self.cut || text.is_empty() {
            return;
        }
        let end = floor_char_boundary(text, limit.saturating_sub(self.kept.len()));
        self.cut = end < text.len();
        if text[..end].contains('\0') {
            // The replacement is three bytes long: count again.
            for c in text[..end].chars() {
                let c = if c == '\0' { char::REPLACEMENT_CHARACTER } else { c };
                if self.kept.len() + c.len_utf8() > limit {
                    self.cut = true;
                    return;
                }
                self.kept.push(c);
            }
        } else {
            self.kept.push_str(&text[..end]);
        }
    }

    /// Appends a line; a line break goes before it unless it is the first.
    pub(crate) fn push_line(&mut self, line: &str, limit: usize) {
        if !self.kept.is_empty() {
            self.push("\n", limit);
        }
        self.push(line, limit);
    }

    /// Marks the text as cut, because something before it was.
    pub(crate) fn mark_cut(&mut self) {
        self.cut = true;
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty() && !self.cut
    }

    /// The text without blank edges, or `None` if it is blank.
    pub(crate) fn finish(mut self) -> Option<String> {
        if self.cut {
            self.kept.push_str(CUT_MARK);
        }
        let text = self.kept.trim_end().trim_start_matches(['\r', '\n']);
        (!text.trim_start().is_empty()).then(|| text.to_owned())
    }
}

/// The longest start of `text` that has at most `most` bytes and ends between characters.
pub(crate) fn floor_char_boundary(text: &str, most: usize) -> usize {
    if most >= text.len() {
        return text.len();
    }
    (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// A name that keeps to its limit, without control characters and blank edges.
pub(crate) fn name(text: &str, limits: &Limits) -> String {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    let end = floor_char_boundary(text, limits.name);
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut name: String = text[..end].chars().map(clean).collect();
    if end < text.len() {
        name.push_str(CUT_MARK);
    }
    name
}

/// A failure from its parts; `None` if it says nothing. A message is one line: what it lacks is kept in the text.
pub(crate) fn failure(
    message: Option<String>,
    kind: Option<String>,
    text: Option<String>,
) -> Option<Failure> {
    let (message, text) = match (message, text) {
        (Some(message), text) => {
            let line = first_line(&message);
            match text {
                None if line.len() < message.trim().len() => (Some(line), Some(message)),
                text => (Some(line), text),
            }
        }
        (None, Some(text)) => (Some(first_line(&text)).filter(|line| !line.is_empty()), Some(text)),
        (None, None) => (None, None),
    };
    let kind = kind.filter(|kind| !kind.trim().is_empty());
    let failure = Failure { message, kind, text };
    (failure != Failure::default()).then_some(failure)
}

/// The first line that is not blank.
fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// A case that says what is wrong with the stream that it stands in.
pub(crate) fn fault(suite: Vec<String>, name: &str, message: &str, limits: &Limits) -> Case {
    let mut kept = Text::default();
    kept.push(message, limits.text);
    Case {
        suite,
        class: None,
        name: name.to_owned(),
        status: CaseStatus::Error,
        seconds: None,
        failure: failure(kept.finish(), None, None),
        output: None,
    }
}

/// Reads lines of any length, of which at most `limit` bytes are kept.
pub(crate) struct Lines<R> {
    reader: R,
    limit: usize,
    line: Vec<u8>,
    pub(crate) number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self { reader, limit, line: Vec::new(), number: 0 }
    }

    /// The next line without its end, bytes that are not UTF-8 replaced; `None` after the last one.
    pub(crate) fn next(&mut self) -> io::Result<Option<String>> {
        self.line.clear();
        let mut any = false;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                break;
            }
            any = true;
            let end = available.iter().position(|b| *b == b'\n');
            let upto = end.unwrap_or(available.len());
            // One byte too many tells the caller that the line was cut.
            let room = (self.limit + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&available[..upto.min(room)]);
            self.reader.consume(end.map_or(upto, |end| end + 1));
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        let mut line = self.line.as_slice();
        if self.number == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some(String::from_utf8_lossy(line).into_owned()))
    }

    /// What follows the last line, for content that is not made of lines.
    pub(crate) fn reader(&mut self) -> &mut R {
        &mut self.reader
    }
}

/// A duration in seconds, however a tool wrote it: `1.5`, `1,234.5` (thousands), `0,5` (decimal comma).
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let text = text.trim().trim_end_matches(['s', ' ']);
    let plain = match (text.contains('.'), text.matches(',').count()) {
        (false, 1) => text.replace(',', "."),
        _ => text.replace(',', ""),
    };
    plain.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_marked() {
        let mut text = Text::default();
        text.push("ab", 5);
        text.push("cdéf", 5);
        text.push("more", 5);
        assert_eq!(text.finish().as_deref(), Some("abcd… [cut]"));
        let mut text = Text::default();
        text.push("exact", 5);
        text.push("", 5);
        assert_eq!(text.finish().as_deref(), Some("exact"));
        let mut text = Text::default();
        text.push(" \n ", 5);
        assert_eq!(text.finish(), None);
    }

    #[test]
    fn a_nul_is_replaced() {
        let mut text = Text::default();
        text.push("a\0b", 100);
        assert_eq!(text.finish().as_deref(), Some("a\u{fffd}b"));
        assert_eq!(name(" a\u{1}b\0 ", &Limits::default()), "a b");
    }

    #[test]
    fn a_message_is_one_line_and_nothing_of_it_is_lost() {
        let one = failure(Some("a\nb".into()), None, None).unwrap();
        assert_eq!((one.message.as_deref(), one.text.as_deref()), (Some("a"), Some("a\nb")));
        let none = failure(None, Some("E".into()), Some("\n  first\nsecond".into())).unwrap();
        assert_eq!(none.message.as_deref(), Some("first"));
        assert_eq!(failure(None, Some(" ".into()), None), None);
    }

    #[test]
    fn seconds_in_each_writing() {
        for (text, expected) in [
            ("1.5", Some(1.5)),
            ("1,234.5", Some(1234.5)),
            ("0,25", Some(0.25)),
            (" 3s", Some(3.0)),
            ("", None),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("fast", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_of_any_length_and_ending() {
        let mut lines = Lines::new(&b"\xef\xbb\xbfa\r\n\nlonger than four\n\xffz"[..], 4);
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(line);
        }
        assert_eq!(all, ["a", "", "longe", "\u{fffd}z"]);
        assert_eq!(lines.number, 4);
    }

    proptest! {
        #[test]
        fn a_text_never_exceeds_its_limit(parts in prop::collection::vec("\\PC{0,12}|\0{0,4}", 0..8), limit in 0usize..40) {
            let mut text = Text::default();
            for part in &parts {
                text.push(part, limit);
            }
            prop_assert!(text.finish().is_none_or(|text| text.len() <= limit + CUT_MARK.len()));
        }
    }
}
