//! Reads subunit, the stream of Python's test runners: version 2 (packets) and version 1 (text). Streams: kept are the
//! tests that have started and not ended, under a limit.
//!
//! Bytes that are not subunit's, such as prints between the packets, are passed over. A damaged packet is a case in error,
//! and the packets after it are read. A test that started and never ended is a case in error.

mod packet;
mod text;

use std::{collections::HashMap, io};

use self::packet::{SIGNATURE, Window};
use crate::{
    Case, CaseStatus, Limits, Sink, Totals,
    bounded::{self, Delivery, Refused, Text},
};

/// Bytes of ids and attachments that are kept of all tests that have not ended.
const HELD: usize = 32 * 1024 * 1024;
/// Attachments of one test that are kept apart.
const ATTACHMENTS: usize = 32;
/// Damaged packets after which a stream is given up.
const DAMAGED: u32 = 100;
/// Bytes that are looked at to tell the versions apart.
const HEAD: usize = 64 * 1024;

/// A stream that is not subunit's, not whole, or goes beyond a limit. Cases before the fault have been delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubunitError {
    /// Nothing in it is subunit.
    #[error("the stream has no packet and no line of subunit")]
    NotSubunit,
    /// It ends inside a packet.
    #[error("the stream ends inside the packet at byte {at}")]
    Truncated {
        /// Where the packet begins.
        at: u64,
    },
    /// It ends inside the details of a test.
    #[error("the stream ends in line {line}, inside the details of test `{test}`")]
    TruncatedText {
        /// The last line, from 1.
        line: u64,
        /// The test.
        test: String,
    },
    /// Too many packets are damaged.
    #[error("more than {DAMAGED} packets are damaged, the last at byte {at}")]
    Damaged {
        /// Where the last one begins.
        at: u64,
    },
    /// Too many tests have started and not ended.
    #[error("more tests are in progress than can be kept ({open})")]
    TooManyOpen {
        /// How many.
        open: usize,
    },
    /// It has too many cases.
    #[error("the stream has more than {limit} cases")]
    TooManyCases {
        /// The limit.
        limit: u64,
    },
    /// It could not be read.
    #[error("the stream cannot be read after byte or line {at}")]
    Read {
        /// The last byte of packets, or line of text.
        at: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why reading ends before the stream does.
pub(crate) enum Stop {
    Refused(Refused),
    Fault(SubunitError),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<SubunitError> for Stop {
    fn from(error: SubunitError) -> Self {
        Self::Fault(error)
    }
}

/// The versions of subunit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Text,
    Packets,
}

/// Which version the start of a stream is, if it is one.
pub(crate) fn recognise(head: &[u8]) -> Option<Version> {
    let mut noise = Noise::default();
    for (at, byte) in head.iter().enumerate() {
        let inside = noise.inside();
        noise.pass(*byte);
        if *byte != SIGNATURE || inside {
            continue;
        }
        let whole = match packet::length(&head[at..]) {
            Ok(Some(length)) => head.get(at..at + length),
            _ => continue,
        };
        // A packet that goes beyond the head is taken for one only where the stream begins.
        if whole.map_or(at == 0, packet::checksum_fits) {
            return Some(Version::Packets);
        }
    }
    let head = String::from_utf8_lossy(head);
    let words = || head.lines().map(|line| text::read_word(line.trim_end()));
    let starts = words().any(|word| matches!(word, text::Word::Start(_)));
    let ends = words().any(|word| matches!(word, text::Word::End(..)));
    (starts && ends).then_some(Version::Text)
}

/// Reads a stream of either version and hands each case to `sink`. Returns the counts of what was delivered.
pub fn parse(reader: impl io::Read, limits: &Limits, sink: &mut Sink<'_>) -> Result<Totals, SubunitError> {
    let mut window = Window::new(reader);
    let head = window.look(HEAD).map_err(|source| SubunitError::Read { at: 0, source })?;
    let head = head[..head.len().min(HEAD)].to_vec();
    let mut tests = Tests::new(limits, sink);
    let result = match recognise(&head) {
        Some(Version::Text) => text::parse(io::BufReader::new(Rest(window)), &mut tests),
        _ => packets(&mut window, &mut tests),
    };
    let result = match result {
        Ok(0) => Err(SubunitError::NotSubunit.into()),
        Ok(_) => tests.close(),
        Err(Stop::Fault(
            truncated @ (SubunitError::Truncated { .. } | SubunitError::TruncatedText { .. }),
        )) => tests.close().and(Err(truncated.into())),
        Err(stop) => Err(stop),
    };
    match result {
        Ok(()) | Err(Stop::Refused(Refused::Stopped)) => Ok(tests.delivery.totals),
        Err(Stop::Refused(Refused::TooMany)) => Err(SubunitError::TooManyCases { limit: limits.cases }),
        Err(Stop::Fault(error)) => Err(error),
    }
}

/// The window as a plain reader.
struct Rest<R>(Window<R>);

impl<R: io::Read> io::Read for Rest<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.0.look(1)?;
        let count = available.len().min(into.len());
        into[..count].copy_from_slice(&available[..count]);
        self.0.take(count);
        Ok(count)
    }
}

/// Follows the characters between packets: in UTF-8, the signature is also the second byte of `ó`.
#[derive(Default)]
struct Noise {
    expected: u8,
}

impl Noise {
    fn inside(&self) -> bool {
        self.expected > 0
    }

    fn pass(&mut self, byte: u8) {
        self.expected = match byte {
            0x80..=0xbf if self.expected > 0 => self.expected - 1,
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => 0,
        };
    }
}

/// Reads packets to the end. Returns how many there were.
fn packets<R: io::Read>(window: &mut Window<R>, tests: &mut Tests<'_, '_>) -> Result<u64, Stop> {
    let (mut count, mut damaged, mut noise) = (0, 0, Noise::default());
    let mut cut_off = None;
    loop {
        let at = window.taken;
        let failed = |source| SubunitError::Read { at, source };
        let bytes = window.look(8).map_err(failed)?;
        let Some(first) = bytes.first().copied() else { break };
        let length = if first == SIGNATURE { packet::length(bytes) } else { Err(()) };
        match length {
            Err(()) => {
                noise.pass(first);
                window.take(1);
                continue;
            }
            // The stream ends inside the packet's length.
            Ok(None) => cut_off = cut_off.or((bytes.len() > 1 && !noise.inside()).then_some(at)),
            Ok(Some(length)) => {
                let bytes = window.look(length).map_err(failed)?;
                let whole = bytes.get(..length);
                // Fields are looked at first: that costs less than the checksum.
                let fits = |bytes: &&[u8]| packet::read(bytes).is_some() && packet::checksum_fits(bytes);
                if let Some(packet) = whole.filter(fits).and_then(packet::read) {
                    tests.packet(&packet)?;
                    window.take(length);
                    (noise, cut_off) = (Noise::default(), None);
                    count += 1;
                    continue;
                }
                if whole.is_none() {
                    cut_off = cut_off.or((!noise.inside()).then_some(at));
                } else {
                    damaged += 1;
                    if damaged > DAMAGED {
                        return Err(SubunitError::Damaged { at }.into());
                    }
                    if !noise.inside() {
                        let message = format!("the packet at byte {at} is damaged");
                        tests.delivery.deliver(bounded::fault(
                            Vec::new(),
                            "subunit",
                            &message,
                            tests.limits,
                        ))?;
                        count += 1;
                    }
                }
            }
        }
        noise.pass(first);
        window.take(1);
    }
    match cut_off {
        Some(at) if count > 0 || at == 0 => Err(SubunitError::Truncated { at }.into()),
        _ => Ok(count),
    }
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ended {
    Passed,
    Failed,
    Error,
    Skipped,
    ExpectedFailure,
    UnexpectedSuccess,
}

/// A test that has not ended.
#[derive(Default)]
struct Open {
    started: Option<i128>,
    attachments: Vec<Attachment>,
    held: usize,
    /// Order of arrival, so that what never ended is told in order.
    number: u64,
}

struct Attachment {
    name: String,
    textual: bool,
    bytes: u64,
    text: Text,
    /// The start of a character whose rest is in the next chunk.
    split: Vec<u8>,
}

/// Tests that have started and not ended, by route and id, and the way out for those that have.
pub(crate) struct Tests<'a, 'b> {
    limits: &'a Limits,
    delivery: Delivery<'a, 'b>,
    open: HashMap<(String, String), Open>,
    held: usize,
    arrived: u64,
}

impl<'a, 'b> Tests<'a, 'b> {
    fn new(limits: &'a Limits, sink: &'a mut Sink<'b>) -> Self {
        let delivery = Delivery::new(limits, sink);
        Self { limits, delivery, open: HashMap::new(), held: 0, arrived: 0 }
    }

    fn packet(&mut self, packet: &packet::Packet<'_>) -> Result<(), Stop> {
        let Some(id) = packet.id.map(String::from_utf8_lossy) else { return Ok(()) };
        let route = packet.route.map(String::from_utf8_lossy).unwrap_or_default();
        let (route, id): (&str, &str) = (&route, &id);
        if let Some((name, content)) = packet.file {
            self.open(route, id)?;
            let mime = packet.mime.map(String::from_utf8_lossy);
            self.attach(route, id, &String::from_utf8_lossy(name), mime.as_deref(), content);
        }
        let ended = match packet.status {
            2 => return Ok(self.start(route, id, packet.time)?),
            3 => Ended::Passed,
            4 => Ended::UnexpectedSuccess,
            5 => Ended::Skipped,
            6 => Ended::Failed,
            7 => Ended::ExpectedFailure,
            // Enumerated but not run, or only an attachment.
            _ => return Ok(()),
        };
        self.end(route, id, ended, packet.time)
    }

    fn start(&mut self, route: &str, id: &str, time: Option<i128>) -> Result<(), SubunitError> {
        let open = self.open(route, id)?;
        open.started = open.started.or(time);
        Ok(())
    }

    fn open(&mut self, route: &str, id: &str) -> Result<&mut Open, SubunitError> {
        let key = (route.to_owned(), id.to_owned());
        if !self.open.contains_key(&key) {
            if self.open.len() >= self.limits.open || self.held > HELD + HELD / 2 {
                return Err(SubunitError::TooManyOpen { open: self.open.len() });
            }
            self.held += route.len() + id.len();
            self.arrived += 1;
        }
        let (number, held) = (self.arrived, route.len() + id.len());
        Ok(self.open.entry(key).or_insert_with(|| Open { number, held, ..Open::default() }))
    }

    /// Keeps a chunk of a test's attachment, as far as the limits allow.
    fn attach(&mut self, route: &str, id: &str, name: &str, mime: Option<&str>, content: &[u8]) {
        let limit = if self.held > HELD { 0 } else { self.limits.text };
        let name = bounded::name(name, self.limits);
        let Ok(open) = self.open(route, id) else { return };
        let at = match open.attachments.iter().position(|attachment| attachment.name == name) {
            Some(at) => at,
            None if open.attachments.len() >= ATTACHMENTS => return,
            None => {
                let textual = mime.is_none_or(|mime| mime.starts_with("text/") || mime.contains("json"));
                let (text, split) = (Text::default(), Vec::new());
                open.attachments.push(Attachment { name, textual, bytes: 0, text, split });
                open.attachments.len() - 1
            }
        };
        let attachment = &mut open.attachments[at];
        let before = attachment.text.len();
        attachment.push(content, limit);
        let grown = attachment.text.len() - before;
        open.held += grown;
        self.held += grown;
    }

    fn end(&mut self, route: &str, id: &str, ended: Ended, time: Option<i128>) -> Result<(), Stop> {
        let open = self.open.remove(&(route.to_owned(), id.to_owned())).unwrap_or_default();
        self.held = self.held.saturating_sub(open.held);
        let status = match ended {
            Ended::Passed => CaseStatus::Passed,
            Ended::Failed => CaseStatus::Failed,
            Ended::Error => CaseStatus::Error,
            Ended::Skipped => CaseStatus::Skipped,
            Ended::ExpectedFailure => CaseStatus::ExpectedFailure,
            Ended::UnexpectedSuccess => CaseStatus::UnexpectedSuccess,
        };
        let case = open.finish(id, status, time, None, self.limits);
        Ok(self.delivery.deliver(case)?)
    }

    /// Delivers the tests that never ended, in the order of their start.
    fn close(&mut self) -> Result<(), Stop> {
        let mut left: Vec<_> = self.open.drain().collect();
        left.sort_by_key(|(_, open)| open.number);
        for ((_, id), open) in left {
            let message = Some("the test started and never ended".to_owned());
            let case = open.finish(&id, CaseStatus::Error, None, message, self.limits);
            self.delivery.deliver(case)?;
        }
        Ok(())
    }
}

impl Attachment {
    fn push(&mut self, content: &[u8], limit: usize) {
        self.bytes += content.len() as u64;
        if !self.textual {
            return;
        }
        self.split.extend_from_slice(&content[..content.len().min(limit.saturating_add(4))]);
        let chunk = std::mem::take(&mut self.split);
        let mut rest = chunk.as_slice();
        loop {
            match str::from_utf8(rest) {
                Ok(text) => {
                    self.text.push(text, limit);
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.text.push(str::from_utf8(valid).unwrap_or_default(), limit);
                    let Some(bad) = error.error_len() else {
                        self.split = after.to_vec();
                        break;
                    };
                    self.text.push("\u{fffd}", limit);
                    rest = &after[bad..];
                }
            }
        }
    }
}

impl Open {
    fn finish(
        self,
        id: &str,
        status: CaseStatus,
        ended: Option<i128>,
        mut message: Option<String>,
        limits: &Limits,
    ) -> Case {
        let (mut trace, mut output) = (Text::default(), Text::default());
        let explains = |name: &str| name.is_empty() || name.starts_with("traceback") || name == "details";
        for attachment in self.attachments {
            let name = attachment.name;
            let content = if attachment.textual {
                attachment.text.finish().unwrap_or_default()
            } else {
                format!("({} bytes that are not text)", attachment.bytes)
            };
            if content.is_empty() {
                continue;
            }
            if name == "reason" || (name.is_empty() && status == CaseStatus::Skipped) {
                message = message.or(Some(content));
            } else if explains(&name) && status != CaseStatus::Passed {
                trace.push_line(&content, limits.text);
            } else {
                let title = if name.is_empty() { "details" } else { &name };
                output.push_line(&format!("{title}:"), limits.text);
                output.push_line(&content, limits.text);
            }
        }
        let seconds = self.started.zip(ended).map(|(from, to)| (to - from).max(0));
        #[expect(clippy::cast_precision_loss, reason = "runs are shorter than 2^53 ns, or precise enough")]
        let seconds = seconds.map(|nanoseconds| nanoseconds as f64 / 1e9);
        let trace = trace.finish();
        let mut kind = None;
        if let Some(last) = trace.as_deref().and_then(|trace| trace.trim_end().lines().last())
            && message.is_none()
        {
            // The last line of a Python traceback: `package.Error: what happened`.
            kind = last.split(':').next().filter(|kind| is_python_name(kind)).map(str::to_owned);
            message = Some(last.trim().to_owned());
        }
        let (class, name) = split_id(id);
        Case {
            suite: Vec::new(),
            class: class.map(|class| bounded::name(class, limits)),
            name: bounded::name(name, limits),
            status,
            seconds,
            failure: bounded::failure(message, kind, trace),
            output: output.finish(),
        }
    }
}

fn is_python_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
}

/// `package.Class.test_name[tags](scenario)` into class and name; `setUpClass (package.Class)` as well.
fn split_id(id: &str) -> (Option<&str>, &str) {
    if let Some((name, class)) = id.strip_suffix(')').and_then(|id| id.split_once(" ("))
        && !name.contains('.')
    {
        return (Some(class), name);
    }
    let plain = id.find(['[', '(', ' ', '/']).unwrap_or(id.len());
    match id[..plain].rfind('.') {
        Some(dot) if dot > 0 && dot + 1 < id.len() => (Some(&id[..dot]), &id[dot + 1..]),
        _ => (None, id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_split_into_class_and_name() {
        for (id, expected) in [
            ("a.b.Test.test_x", (Some("a.b.Test"), "test_x")),
            ("a.Test.test_x[id-1.2,smoke](net.v6)", (Some("a.Test"), "test_x[id-1.2,smoke](net.v6)")),
            ("setUpClass (tempest.api.Test)", (Some("tempest.api.Test"), "setUpClass")),
            ("plain", (None, "plain")),
            ("dir/file.t", (None, "dir/file.t")),
            (".x", (None, ".x")),
            ("", (None, "")),
        ] {
            assert_eq!(split_id(id), expected);
        }
    }
}
