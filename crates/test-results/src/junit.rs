//! Reads JUnit's XML in the dialects that tools write: Maven Surefire, Ant, pytest, gotestsum, Jest, nextest, CTest, GoogleTest.
//! Streams: a case is delivered when its element ends, and nothing but that case is kept. Never expands entities.
//!
//! There is no standard. What is read: `<testcase>` inside any depth of `<testsuites>` and `<testsuite>`, in any
//! namespace; `<failure>` and `<error>` with or without text; `<skipped>`; Surefire's and nextest's reruns;
//! `<system-out>` and `<system-err>` of a case. An `<error>` or `<failure>` directly in a suite is a case in error
//! with the suite's name, so that a suite that could not be set up does not pass in silence.

use std::io;

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

use crate::{
    Case, CaseStatus, Limits, Sink, Totals, XmlFault,
    bounded::{self, Delivery, Refused, Text},
    bounded_xml::BoundedXml,
};

/// A document that is not JUnit's, or not whole. Cases before the fault have been delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JunitError {
    /// It has no element.
    #[error("the document is empty")]
    Empty,
    /// Its outermost element is another one.
    #[error("the document begins with <{element}>, not with <testsuites> or <testsuite>")]
    NotJunit {
        /// The element.
        element: String,
    },
    /// It ends too early.
    #[error("the document ends in line {line}{} before its elements are closed", in_case(.case.as_deref()))]
    Truncated {
        /// The last line, from 1.
        line: u64,
        /// The case that is not whole, or the last whole one.
        case: Option<String>,
    },
    /// It is not well-formed.
    #[error("the document is not well-formed in line {line}{}", in_case(.case.as_deref()))]
    Malformed {
        /// The line, from 1.
        line: u64,
        /// The case in which, or after which.
        case: Option<String>,
        /// What is wrong.
        #[source]
        source: Box<quick_xml::Error>,
    },
    /// It is refused for a reason of XML.
    #[error("the document is refused in line {line}")]
    Refused {
        /// The line, from 1.
        line: u64,
        /// Why.
        #[source]
        source: XmlFault,
    },
    /// Its elements are nested too deeply.
    #[error("the document has more than {limit} elements inside each other in line {line}")]
    TooDeep {
        /// The line, from 1.
        line: u64,
        /// The limit.
        limit: usize,
    },
    /// It has too many cases.
    #[error("the document has more than {limit} cases")]
    TooManyCases {
        /// The limit.
        limit: u64,
    },
    /// It could not be read.
    #[error("the document cannot be read after line {line}")]
    Read {
        /// The line, from 1.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn in_case(case: Option<&str>) -> String {
    case.map(|case| format!(" at case `{case}`")).unwrap_or_default()
}

/// Reads a document and hands each case to `sink` when it ends. Returns the counts of what was delivered.
///
/// Memory is bounded by `limits`, not by the document or by one text in it.
pub fn parse(reader: impl io::Read, limits: &Limits, sink: &mut Sink<'_>) -> Result<Totals, JunitError> {
    // One byte more than the limit of a text tells that it was cut.
    let run_limit = limits.text.max(limits.name) + 1;
    let mut xml = Reader::from_reader(BoundedXml::new(reader, run_limit));
    let config = xml.config_mut();
    config.allow_dangling_amp = true;
    config.expand_empty_elements = true;
    let mut document = Document::new(limits, run_limit, Delivery::new(limits, sink));
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let event = match xml.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(error) => return Err(document.explain(error, xml.get_ref())),
        };
        let line = xml.get_ref().line();
        match event {
            Event::Start(tag) => document.start(&tag, line)?,
            Event::End(_) => match document.end() {
                Ok(()) => {}
                Err(Refused::Stopped) => return Ok(document.delivery.totals),
                Err(Refused::TooMany) => return Err(JunitError::TooManyCases { limit: limits.cases }),
            },
            Event::Text(text) => document.text(&text),
            Event::CData(text) => document.text(&text),
            Event::GeneralRef(reference) => document.text(&resolve(&reference)),
            Event::Eof => return document.finish(line),
            // Empty elements come as a start and an end; the others never pass `BoundedXml`.
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    /// `<testsuites>` or `<testsuite>`; whether it has a name.
    Suite {
        named: bool,
    },
    Case,
    /// `<failure>` or `<error>`; directly in a suite, it is a case by itself.
    Failure {
        of_suite: bool,
    },
    Skipped,
    /// A run before the last one: `<rerunFailure>`, `<flakyFailure>` and the like.
    Attempt,
    Out,
    Err,
    Ignored,
}

/// A case whose element has not ended.
#[derive(Default)]
struct Building {
    class: Option<String>,
    name: String,
    seconds: Option<f64>,
    /// From the elements inside.
    status: Option<CaseStatus>,
    /// From an attribute of the case, as CTest and GoogleTest write it.
    attribute_status: Option<CaseStatus>,
    message: Option<String>,
    kind: Option<String>,
    text: Text,
    out: Text,
    err: Text,
    attempts: Text,
}

struct Document<'a, 'b> {
    limits: &'a Limits,
    run_limit: usize,
    delivery: Delivery<'a, 'b>,
    elements: Vec<Element>,
    suites: Vec<String>,
    case: Option<Building>,
    last_case: Option<String>,
    any: bool,
}

impl<'a, 'b> Document<'a, 'b> {
    fn new(limits: &'a Limits, run_limit: usize, delivery: Delivery<'a, 'b>) -> Self {
        let (elements, suites) = (Vec::new(), Vec::new());
        Self { limits, run_limit, delivery, elements, suites, case: None, last_case: None, any: false }
    }

    fn start(&mut self, tag: &BytesStart<'_>, line: u64) -> Result<(), JunitError> {
        if self.elements.len() >= self.limits.depth {
            return Err(JunitError::TooDeep { line, limit: self.limits.depth });
        }
        let local = tag.local_name();
        let local = local.as_ref();
        let element = match (self.elements.last(), local) {
            (None | Some(Element::Suite { .. }), "testsuites" | "testsuite") => self.begin_suite(tag),
            (None, other) => {
                return Err(JunitError::NotJunit { element: bounded::name(other, self.limits) });
            }
            (Some(Element::Suite { .. }), "testcase") => self.begin_case(tag),
            (Some(Element::Suite { .. }), "failure" | "error") => self.begin_fault_of_suite(tag),
            (Some(Element::Case), _) => self.begin_in_case(local, tag),
            (Some(Element::Attempt), "system-out") => Element::Out,
            (Some(Element::Attempt), "system-err") => Element::Err,
            // Markup inside a text belongs to it.
            (Some(inside @ (Element::Failure { .. } | Element::Skipped | Element::Attempt)), _) => {
                match *inside {
                    Element::Failure { .. } => Element::Failure { of_suite: false },
                    other => other,
                }
            }
            (Some(inside @ (Element::Out | Element::Err)), _) => *inside,
            _ => Element::Ignored,
        };
        self.any = true;
        self.elements.push(element);
        Ok(())
    }

    fn begin_suite(&mut self, tag: &BytesStart<'_>) -> Element {
        let name = self.attribute(tag, "name", self.limits.name).unwrap_or_default();
        let name = bounded::name(&name, self.limits);
        if name.is_empty() {
            return Element::Suite { named: false };
        }
        // Each case repeats the names of its suites, so all of them together are kept short.
        let used: usize = self.suites.iter().map(String::len).sum();
        let room = (4 * self.limits.name).saturating_sub(used);
        let end = bounded::floor_char_boundary(&name, room);
        self.suites.push(name[..end].to_owned());
        Element::Suite { named: true }
    }

    fn begin_case(&mut self, tag: &BytesStart<'_>) -> Element {
        let name_of =
            |key| self.attribute(tag, key, self.limits.name).map(|name| bounded::name(&name, self.limits));
        let word = |key| self.attribute(tag, key, 32).and_then(|word| status_word(&word));
        self.case = Some(Building {
            class: name_of("classname").filter(|class| !class.is_empty()),
            name: name_of("name").unwrap_or_default(),
            seconds: self.attribute(tag, "time", 64).and_then(|time| bounded::seconds(&time)),
            attribute_status: word("status").or_else(|| word("result")),
            ..Building::default()
        });
        Element::Case
    }

    fn begin_fault_of_suite(&mut self, tag: &BytesStart<'_>) -> Element {
        let mut case = Building { status: Some(CaseStatus::Error), ..Building::default() };
        case.name = self.suites.last().cloned().unwrap_or_else(|| "(suite)".to_owned());
        case.message = self.attribute(tag, "message", self.limits.text);
        case.kind = self.attribute(tag, "type", self.limits.name);
        self.case = Some(case);
        Element::Failure { of_suite: true }
    }

    fn begin_in_case(&mut self, local: &str, tag: &BytesStart<'_>) -> Element {
        let element = match local {
            "failure" | "error" => Element::Failure { of_suite: false },
            "skipped" => Element::Skipped,
            "rerunFailure" | "rerunError" | "flakyFailure" | "flakyError" => Element::Attempt,
            "system-out" => return Element::Out,
            "system-err" => return Element::Err,
            _ => return Element::Ignored,
        };
        let message = self.attribute(tag, "message", self.limits.text);
        let kind = self.attribute(tag, "type", self.limits.name);
        let limit = self.limits.text;
        let Some(case) = self.case.as_mut() else { return Element::Ignored };
        if element == Element::Attempt {
            case.attempts.push_line(&format!("[{local}]"), limit);
            for part in [kind, message].into_iter().flatten().filter(|part| !part.is_empty()) {
                case.attempts.push(" ", limit);
                case.attempts.push(&part, limit);
            }
            case.attempts.push("\n", limit);
            return element;
        }
        let status = status_of(local, message.as_deref(), kind.as_deref());
        let worse = |new: CaseStatus, old: CaseStatus| severity(new) > severity(old);
        if case.status.is_none_or(|old| worse(status, old)) {
            case.status = Some(status);
            // What is told about the worst comes first; a message of a lesser one is kept in the text.
            for part in [case.kind.take(), case.message.take()].into_iter().flatten() {
                case.text.push_line(&part, limit);
            }
            (case.message, case.kind) = (message, kind);
        } else if let Some(message) = message {
            case.text.push_line(&message, limit);
        }
        if !case.text.is_empty() {
            case.text.push("\n", limit);
        }
        element
    }

    fn text(&mut self, text: &str) {
        let limit = self.limits.text;
        if let (Some(element), Some(case)) = (self.elements.last(), self.case.as_mut()) {
            match element {
                Element::Failure { .. } | Element::Skipped => case.text.push(text, limit),
                Element::Attempt => case.attempts.push(text, limit),
                Element::Out => case.out.push(text, limit),
                Element::Err => case.err.push(text, limit),
                Element::Suite { .. } | Element::Case | Element::Ignored => {}
            }
        }
    }

    fn end(&mut self) -> Result<(), Refused> {
        match self.elements.pop() {
            Some(Element::Suite { named: true }) => {
                self.suites.pop();
            }
            Some(Element::Case | Element::Failure { of_suite: true }) => {
                if let Some(case) = self.case.take() {
                    let case = case.finish(self.suites.clone(), self.limits.text);
                    self.last_case = Some(case.name.clone());
                    return self.delivery.deliver(case);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, line: u64) -> Result<Totals, JunitError> {
        if !self.any {
            return Err(JunitError::Empty);
        }
        if !self.elements.is_empty() {
            return Err(JunitError::Truncated { line, case: self.where_it_is() });
        }
        Ok(self.delivery.totals)
    }

    fn explain<R: io::Read>(&self, error: quick_xml::Error, xml: &BoundedXml<R>) -> JunitError {
        let (line, case) = (xml.line(), self.where_it_is());
        if let Some(fault) = xml.fault() {
            return JunitError::Refused { line, source: fault.clone() };
        }
        match error {
            quick_xml::Error::Io(source) => {
                let source = io::Error::new(source.kind(), source);
                JunitError::Read { line, source }
            }
            // The parser reports what is unclosed only at the end of its input.
            quick_xml::Error::Syntax(_) => JunitError::Truncated { line, case },
            source => JunitError::Malformed { line, case, source: Box::new(source) },
        }
    }

    fn where_it_is(&self) -> Option<String> {
        self.case.as_ref().map(|case| case.name.clone()).or_else(|| self.last_case.clone())
    }

    /// An attribute's value with its references resolved, cut to a limit.
    fn attribute(&self, tag: &BytesStart<'_>, wanted: &str, limit: usize) -> Option<String> {
        let mut attributes = tag.attributes();
        let attribute =
            attributes.with_checks(false).flatten().find(|a| a.key.local_name().as_ref() == wanted)?;
        let mut text = Text::default();
        let mut rest = attribute.value.as_ref();
        while let Some(at) = rest.find('&') {
            text.push(&rest[..at], limit);
            rest = &rest[at + 1..];
            let end = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'#').count();
            match rest.as_bytes().get(end) {
                Some(b';') => {
                    text.push(&resolve(&rest[..end]), limit);
                    rest = &rest[end + 1..];
                }
                _ => text.push("&", limit),
            }
        }
        text.push(rest, limit);
        if attribute.value.len() >= self.run_limit {
            text.mark_cut();
        }
        text.finish()
    }
}

impl Building {
    fn finish(self, suite: Vec<String>, limit: usize) -> Case {
        let status = self.status.or(self.attribute_status).unwrap_or(CaseStatus::Passed);
        let mut output = self.out;
        for more in [self.err, self.attempts] {
            if let Some(more) = more.finish() {
                output.push_line(&more, limit);
            }
        }
        Case {
            suite,
            class: self.class,
            name: self.name,
            status,
            seconds: self.seconds,
            failure: bounded::failure(self.message, self.kind, self.text.finish()),
            output: output.finish(),
        }
    }
}

/// The status that an element inside a case gives it.
fn status_of(element: &str, message: Option<&str>, kind: Option<&str>) -> CaseStatus {
    match (element, kind) {
        ("error", _) => CaseStatus::Error,
        // pytest's spelling of a strict expectation that was not met.
        ("failure", _) if message.is_some_and(|text| text.starts_with("[XPASS(strict)]")) => {
            CaseStatus::UnexpectedSuccess
        }
        ("failure", _) => CaseStatus::Failed,
        (_, Some("pytest.xfail")) => CaseStatus::ExpectedFailure,
        _ => CaseStatus::Skipped,
    }
}

/// The status that the attributes `status` and `result` of some tools give a case without elements inside.
fn status_word(word: &str) -> Option<CaseStatus> {
    Some(match word.to_ascii_lowercase().as_str() {
        "fail" | "failed" | "failure" => CaseStatus::Failed,
        "error" | "errored" => CaseStatus::Error,
        "notrun" | "disabled" | "skipped" | "skip" | "ignored" | "pending" | "suppressed" => {
            CaseStatus::Skipped
        }
        _ => return None,
    })
}

fn severity(status: CaseStatus) -> u8 {
    match status {
        CaseStatus::Passed => 0,
        CaseStatus::Skipped => 1,
        CaseStatus::ExpectedFailure => 2,
        CaseStatus::UnexpectedSuccess => 3,
        CaseStatus::Failed => 4,
        CaseStatus::Error => 5,
    }
}

/// The text of a reference without its `&` and `;`. What XML does not predefine stays as it is written, and a character
/// that cannot be becomes U+FFFD.
fn resolve(reference: &str) -> String {
    let code = match reference.strip_prefix('#') {
        Some(digits) => match digits.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        },
        None => {
            return match reference {
                "lt" => "<".to_owned(),
                "gt" => ">".to_owned(),
                "amp" => "&".to_owned(),
                "quot" => "\"".to_owned(),
                "apos" => "'".to_owned(),
                other => format!("&{other};"),
            };
        }
    };
    code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
}
