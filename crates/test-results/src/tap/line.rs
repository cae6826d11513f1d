//! What one line of TAP says. Knows nothing of the lines around it.

/// A line of TAP, without its indentation.
#[derive(Debug, PartialEq)]
pub(super) enum Word<'a> {
    Version,
    Plan {
        last: u64,
        skip: Option<&'a str>,
    },
    Test {
        ok: bool,
        number: Option<u64>,
        description: String,
        directive: Directive<'a>,
        opens: bool,
    },
    BailOut(&'a str),
    Subtest(&'a str),
    Comment(&'a str),
    Pragma,
    /// The end of a subtest in braces.
    Close,
    Other,
}

/// What follows the `#` of a test.
#[derive(Debug, PartialEq)]
pub(super) enum Directive<'a> {
    None,
    Skip(&'a str),
    Todo(&'a str),
    /// Node-tap's duration, in seconds.
    Time(f64),
}

pub(super) fn read(content: &str) -> Word<'_> {
    let content = content.trim_end();
    if let Some(comment) = content.strip_prefix('#') {
        return match comment.trim_start().strip_prefix("Subtest:") {
            Some(name) => Word::Subtest(name.trim()),
            None => Word::Comment(comment.strip_prefix(' ').unwrap_or(comment)),
        };
    }
    if content == "}" {
        return Word::Close;
    }
    if content.strip_prefix("TAP version ").is_some_and(|version| version.parse::<u32>().is_ok()) {
        return Word::Version;
    }
    if let Some(reason) = content.strip_prefix("Bail out!") {
        return Word::BailOut(reason.trim());
    }
    if content.strip_prefix("pragma ").is_some_and(|pragma| pragma.starts_with(['+', '-'])) {
        return Word::Pragma;
    }
    plan(content).or_else(|| test(content)).unwrap_or(Word::Other)
}

fn plan(content: &str) -> Option<Word<'_>> {
    let rest = content.strip_prefix("1..")?;
    let (last, comment) = rest.split_once('#').map_or((rest, None), |(last, comment)| (last, Some(comment)));
    let last = last.trim().parse().ok()?;
    let skip = comment.map(|comment| match directive(comment) {
        Directive::Skip(reason) => reason,
        _ => comment.trim(),
    });
    Some(Word::Plan { last, skip: skip.filter(|reason| !reason.is_empty()) })
}

fn test(content: &str) -> Option<Word<'_>> {
    let (ok, rest) = match content.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, content.strip_prefix("ok")?),
    };
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return None;
    }
    let rest = rest.trim_start();
    let opened = rest.strip_suffix('{').filter(|before| before.is_empty() || before.ends_with(' '));
    let rest = opened.unwrap_or(rest).trim_end();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let ends = rest.as_bytes().get(digits).is_none_or(|b| b.is_ascii_whitespace());
    let (number, rest) = match rest[..digits].parse() {
        Ok(number) if ends => (Some(number), rest[digits..].trim_start()),
        _ => (None, rest),
    };
    let rest = rest.strip_prefix('-').filter(|rest| !rest.starts_with('-')).map_or(rest, str::trim_start);
    let (description, directive) = split_directive(rest);
    Some(Word::Test { ok, number, description: unescape(description), directive, opens: opened.is_some() })
}

/// Splits at the first `#` that is not escaped and that a directive follows. Another `#` is part of the description.
fn split_directive(text: &str) -> (&str, Directive<'_>) {
    let hashes = text.match_indices('#').map(|(at, _)| at);
    let escaped = |at: usize| text[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
    for at in hashes.filter(|at| !escaped(*at)) {
        let directive = directive(&text[at + 1..]);
        if directive != Directive::None {
            return (text[..at].trim_end(), directive);
        }
    }
    (text, Directive::None)
}

fn directive(comment: &str) -> Directive<'_> {
    let comment = comment.trim();
    let (word, rest) = comment.split_once(char::is_whitespace).unwrap_or((comment, ""));
    let lower = word.to_ascii_lowercase();
    if let Some(time) = lower.strip_prefix("time=") {
        let seconds = match time.strip_suffix("ms") {
            Some(milliseconds) => milliseconds.parse().map(|ms: f64| ms / 1000.0),
            None => time.trim_end_matches('s').parse(),
        };
        return match seconds {
            Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => Directive::Time(seconds),
            _ => Directive::None,
        };
    }
    // `# SKIP`, `# skipped: reason`, `# Skip - reason`, `# TODO: reason`
    let reason = rest.trim_start_matches(['-', ':']).trim_start();
    match lower.trim_end_matches(':') {
        "skip" | "skipped" | "skipping" => Directive::Skip(reason),
        "todo" => Directive::Todo(reason),
        _ => Directive::None,
    }
}

/// `\#` and `\\` stand for the second character.
fn unescape(text: &str) -> String {
    let mut unescaped = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next_if(|next| matches!(next, '#' | '\\')) } else { None };
        unescaped.push(escaped.unwrap_or(c));
    }
    unescaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(
        ok: bool,
        number: Option<u64>,
        description: &str,
        directive: Directive<'static>,
    ) -> Word<'static> {
        Word::Test { ok, number, description: description.to_owned(), directive, opens: false }
    }

    #[test]
    fn lines_say_what_they_say() {
        use Directive::{None as Bare, Skip, Time, Todo};
        for (line, word) in [
            ("TAP version 13", Word::Version),
            ("TAP version x", Word::Other),
            ("1..4", Word::Plan { last: 4, skip: None }),
            ("1..0 # SKIP no docker", Word::Plan { last: 0, skip: Some("no docker") }),
            ("1..0 # skipped: no docker", Word::Plan { last: 0, skip: Some("no docker") }),
            ("1..x", Word::Other),
            ("ok", test(true, None, "", Bare)),
            ("okay", Word::Other),
            ("not ok 2 - a thing", test(false, Some(2), "a thing", Bare)),
            ("ok 3 a thing", test(true, Some(3), "a thing", Bare)),
            ("ok - 3 things", test(true, None, "3 things", Bare)),
            ("ok 3things", test(true, None, "3things", Bare)),
            ("ok 1 - a # SKIP not here", test(true, Some(1), "a", Skip("not here"))),
            ("ok 1 # skip", test(true, Some(1), "", Skip(""))),
            ("not ok 1 a # TODO: later", test(false, Some(1), "a", Todo("later"))),
            ("ok 1 - issue #12 is \\# fixed \\\\", test(true, Some(1), "issue #12 is # fixed \\", Bare)),
            ("ok 1 - a \\# SKIP b", test(true, Some(1), "a # SKIP b", Bare)),
            ("ok 1 - a # time=12.5ms", test(true, Some(1), "a", Time(0.0125))),
            ("Bail out!  no db ", Word::BailOut("no db")),
            ("# Subtest: a b", Word::Subtest("a b")),
            ("#   indented", Word::Comment("  indented")),
            ("pragma +strict", Word::Pragma),
            ("pragma once", Word::Other),
            ("}", Word::Close),
            ("", Word::Other),
        ] {
            assert_eq!(read(line), word, "{line}");
        }
        assert!(matches!(read("ok 1 - a # time=1ms {"), Word::Test { opens: true, .. }));
    }
}
