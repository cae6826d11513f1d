//! Makes any stream of bytes that claims to be XML safe for a parser that keeps whole events in memory. Knows nothing of
//! the meaning of elements.
//!
//! It decodes to UTF-8 (byte order marks, the declared encoding, broken sequences replaced), drops comments, processing
//! instructions and plain document types, refuses document types with declarations (so no entity is ever
//! expanded), cuts long runs of text and long attribute values, and knows the line that the parser has reached.

use std::{
    io::{self, BufRead, Read},
    ops::Range,
};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// Bytes of markup without attribute values in one tag.
const MARKUP_LIMIT: usize = 64 * 1024;
/// How far the declaration of the encoding is looked for.
const HEAD: usize = 1024;
const RAW: usize = 32 * 1024;

/// Why a document is refused before it is parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlFault {
    /// The declared encoding is not known.
    #[error("the encoding `{label}` is not known")]
    Encoding {
        /// As declared.
        label: String,
    },
    /// It has a document type with declarations.
    #[error("it declares a document type of its own, which is not read")]
    DocumentType,
    /// A tag is too long.
    #[error("a tag is longer than {MARKUP_LIMIT} bytes")]
    TagTooLong,
}

#[derive(Clone, Copy)]
enum State {
    Text,
    /// After `<`.
    Open,
    /// After `<!`.
    Bang,
    /// After `<!-`.
    BangDash,
    /// After `<![` and so many letters of `CDATA[`.
    CDataOpen(usize),
    /// So many `]` are held back.
    CData(usize),
    /// So many `-` were seen.
    Comment(usize),
    /// Whether `?` was seen.
    Instruction(bool),
    /// Inside this quote, or none.
    DocType(Option<u8>),
    Tag,
    Value(u8),
}

/// See the module. Reads from `R`, is read by the parser.
pub(crate) struct BoundedXml<R> {
    source: R,
    decoder: Option<Decoder>,
    raw: Box<[u8]>,
    filled: Range<usize>,
    source_ended: bool,
    failed: Option<io::Error>,
    decoded: Box<[u8]>,
    /// Everything has been decoded; the decoder must not be used again.
    done: bool,
    out: Vec<u8>,
    taken: usize,
    /// Where in `out` lines were dropped, and how many.
    dropped: Vec<(usize, u64)>,
    line: u64,
    state: State,
    run_limit: usize,
    run: usize,
    markup: usize,
    values: usize,
    keeps: bool,
    fault: Option<XmlFault>,
}

impl<R: Read> BoundedXml<R> {
    /// Runs of text and attribute values have at most `run_limit` bytes, and a character.
    pub(crate) fn new(source: R, run_limit: usize) -> Self {
        Self {
            source,
            decoder: None,
            raw: vec![0; RAW].into_boxed_slice(),
            filled: 0..0,
            source_ended: false,
            failed: None,
            decoded: vec![0; RAW * 3].into_boxed_slice(),
            done: false,
            out: Vec::new(),
            taken: 0,
            dropped: Vec::new(),
            line: 1,
            state: State::Text,
            run_limit,
            run: 0,
            markup: 0,
            values: 0,
            keeps: true,
            fault: None,
        }
    }

    /// The line that the parser has reached, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Why reading ended, if that was decided here.
    pub(crate) fn fault(&self) -> Option<&XmlFault> {
        self.fault.as_ref()
    }

    fn refill(&mut self) -> io::Result<()> {
        self.out.clear();
        self.taken = 0;
        // Lines dropped after the last kept byte.
        self.line += self.dropped.drain(..).map(|(_, lines)| lines).sum::<u64>();
        while self.out.is_empty() && !self.done && self.fault.is_none() {
            if self.decoder.is_none() {
                self.choose_decoder();
                continue;
            }
            if self.filled.is_empty() && !self.source_ended {
                if let Some(error) = self.failed.take() {
                    return Err(error);
                }
                let count = read_once(&mut self.source, &mut self.raw)?;
                self.filled = 0..count;
                self.source_ended = count == 0;
            }
            let Some(decoder) = self.decoder.as_mut() else { break };
            let raw = &self.raw[self.filled.clone()];
            let (result, read, written, _) =
                decoder.decode_to_utf8(raw, &mut self.decoded, self.source_ended);
            self.filled.start += read;
            self.done = self.source_ended && result == CoderResult::InputEmpty;
            let decoded = std::mem::take(&mut self.decoded);
            self.filter(&decoded[..written]);
            self.decoded = decoded;
        }
        // What was whole before the fault has been read by now.
        if self.out.is_empty() && self.fault.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    /// Finds the encoding by the byte order mark, the zero bytes of UTF-16, or the declaration.
    fn choose_decoder(&mut self) {
        while self.filled.end < HEAD && !self.source_ended {
            match read_once(&mut self.source, &mut self.raw[self.filled.end..HEAD]) {
                Ok(count) => {
                    self.filled.end += count;
                    self.source_ended = count == 0;
                }
                // What came before it is read first.
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        let head = &self.raw[..self.filled.end];
        let marked = Encoding::for_bom(head).map(|(encoding, _)| encoding);
        let encoding = match (marked, head) {
            (Some(encoding), _) => encoding,
            (None, [b'<', 0, ..]) => UTF_16LE,
            (None, [0, b'<', ..]) => UTF_16BE,
            (None, head) => match declared_encoding(head) {
                None => UTF_8,
                Some(label) => match Encoding::for_label(label) {
                    // The declaration itself could be read byte by byte, so it is not true.
                    Some(encoding) if encoding == UTF_16LE || encoding == UTF_16BE => UTF_8,
                    Some(encoding) => encoding,
                    None => {
                        let label = String::from_utf8_lossy(&label[..label.len().min(64)]).into_owned();
                        self.fault = Some(XmlFault::Encoding { label });
                        return;
                    }
                },
            },
        };
        self.decoder = Some(encoding.new_decoder_with_bom_removal());
    }

    fn filter(&mut self, decoded: &[u8]) {
        let mut at = 0;
        while at < decoded.len() && self.fault.is_none() {
            let rest = &decoded[at..];
            // Where nothing needs to be looked at byte by byte, go on in one step.
            let plain = match self.state {
                State::Text => position(rest, |b| b == b'<' || b == b'&'),
                State::Value(quote) => position(rest, |b| b == quote),
                State::CData(0) => position(rest, |b| b == b']'),
                State::Comment(0) => position(rest, |b| b == b'-'),
                _ => 0,
            };
            if plain > 0 {
                match self.state {
                    State::Comment(_) => self.drop_bytes(&rest[..plain]),
                    State::Value(_) => self.keep_value(&rest[..plain]),
                    _ => self.keep_run(&rest[..plain]),
                }
                at += plain;
            } else {
                self.step(rest[0]);
                at += 1;
            }
        }
    }

    fn step(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Text, b'<') => State::Open,
            (State::Text, _) => {
                // An ampersand begins a new event of the parser.
                self.run = 0;
                self.keeps = true;
                self.keep_run(&[byte]);
                State::Text
            }
            (State::Open, b'!') => State::Bang,
            (State::Open, b'?') => State::Instruction(false),
            (State::Open, _) => self.begin_tag(b"<", byte),
            (State::Bang, b'-') => State::BangDash,
            (State::Bang, b'[') => State::CDataOpen(0),
            (State::Bang, _) => State::DocType(None),
            (State::BangDash, b'-') => State::Comment(0),
            (State::BangDash, _) => self.begin_tag(b"<!-", byte),
            (State::CDataOpen(matched), _) if byte == b"CDATA["[matched] => {
                if matched + 1 < b"CDATA[".len() {
                    State::CDataOpen(matched + 1)
                } else {
                    self.keep(b"<![CDATA[");
                    self.begin_run();
                    State::CData(0)
                }
            }
            (State::CDataOpen(_), _) => self.begin_tag(b"<![", byte),
            (State::CData(held), b']') => State::CData(held + 1),
            (State::CData(held), b'>') if held >= 2 => {
                self.keep_brackets(held - 2);
                self.keep(b"]]>");
                self.begin_run();
                State::Text
            }
            (State::CData(held), _) => {
                self.keep_brackets(held);
                self.keep_run(&[byte]);
                State::CData(0)
            }
            (State::Comment(dashes), b'>') if dashes >= 2 => {
                self.begin_run();
                State::Text
            }
            (State::Comment(dashes), _) => {
                self.drop_bytes(&[byte]);
                State::Comment(if byte == b'-' { dashes + 1 } else { 0 })
            }
            (State::Instruction(true), b'>') => {
                self.begin_run();
                State::Text
            }
            (State::Instruction(_), _) => {
                self.drop_bytes(&[byte]);
                State::Instruction(byte == b'?')
            }
            (State::DocType(None), b'[') => {
                self.fault = Some(XmlFault::DocumentType);
                State::DocType(None)
            }
            (State::DocType(None), b'>') => {
                self.begin_run();
                State::Text
            }
            (State::DocType(quote), _) => {
                self.drop_bytes(&[byte]);
                State::DocType(match quote {
                    None if byte == b'"' || byte == b'\'' => Some(byte),
                    Some(open) if open == byte => None,
                    unchanged => unchanged,
                })
            }
            (State::Tag, _) => self.tag_byte(byte),
            (State::Value(quote), _) => {
                if byte == quote {
                    self.keep_markup(byte);
                    State::Tag
                } else {
                    self.keep_value(&[byte]);
                    State::Value(quote)
                }
            }
        };
    }

    fn begin_tag(&mut self, before: &[u8], byte: u8) -> State {
        self.keep(before);
        self.markup = 0;
        self.values = 0;
        self.tag_byte(byte)
    }

    fn tag_byte(&mut self, byte: u8) -> State {
        self.keep_markup(byte);
        self.begin_run();
        match byte {
            b'>' => State::Text,
            b'"' | b'\'' => State::Value(byte),
            _ => State::Tag,
        }
    }

    fn begin_run(&mut self) {
        self.run = 0;
        self.keeps = true;
    }

    fn keep_markup(&mut self, byte: u8) {
        self.markup += 1;
        if self.markup > MARKUP_LIMIT {
            self.fault = Some(XmlFault::TagTooLong);
        }
        self.keep(&[byte]);
    }

    fn keep_value(&mut self, bytes: &[u8]) {
        // All values of a tag together may be a few times as long as one.
        if self.values > 8 * self.run_limit {
            self.keeps = false;
        }
        let before = self.out.len();
        self.keep_run(bytes);
        self.values += self.out.len() - before;
    }

    fn keep_brackets(&mut self, held: usize) {
        for _ in 0..held.min(self.run_limit + 1) {
            self.keep_run(b"]");
        }
    }

    /// Keeps what fits into the run, to the end of the character that is at the limit.
    fn keep_run(&mut self, bytes: &[u8]) {
        let continues = |b: &u8| b & 0xc0 == 0x80;
        let fits = if self.keeps { bytes.len().min(self.run_limit.saturating_sub(self.run)) } else { 0 };
        let rest = &bytes[fits..];
        let tail = if self.keeps { rest.iter().take_while(|b| continues(b)).count() } else { 0 };
        self.keep(&bytes[..fits + tail]);
        self.run += fits + tail;
        if fits + tail < bytes.len() {
            self.keeps = false;
            self.drop_bytes(&bytes[fits + tail..]);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn drop_bytes(&mut self, bytes: &[u8]) {
        let lines = newlines(bytes);
        if lines > 0 {
            match self.dropped.last_mut() {
                Some((at, count)) if *at == self.out.len() => *count += lines,
                _ => self.dropped.push((self.out.len(), lines)),
            }
        }
    }
}

impl<R: Read> Read for BoundedXml<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(into.len());
        into[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for BoundedXml<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.out.len() {
            self.refill()?;
        }
        Ok(&self.out[self.taken..])
    }

    fn consume(&mut self, count: usize) {
        self.line += newlines(&self.out[self.taken..self.taken + count]);
        self.taken += count;
        let passed = self.dropped.iter().take_while(|(at, _)| *at <= self.taken).count();
        self.line += self.dropped.drain(..passed).map(|(_, lines)| lines).sum::<u64>();
    }
}

fn read_once(source: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn position(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|b| wanted(*b)).unwrap_or(bytes.len())
}

#[expect(clippy::naive_bytecount, reason = "short slices; a crate for it would not pay")]
fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

/// The label in `<?xml … encoding="label"?>`.
fn declared_encoding(head: &[u8]) -> Option<&[u8]> {
    let head = &head[position(head, |b| !b.is_ascii_whitespace())..];
    let declaration = head.strip_prefix(b"<?xml")?;
    let declaration = &declaration[..declaration.windows(2).position(|two| two == b"?>")?];
    let at = declaration.windows(8).position(|word| word == b"encoding")?;
    let value = declaration[at + 8..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let quote = *value.first().filter(|quote| matches!(quote, b'"' | b'\''))?;
    let value = &value[1..];
    Some(&value[..value.iter().position(|b| *b == quote)?])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(document: &[u8], limit: usize) -> Result<String, XmlFault> {
        let mut xml = BoundedXml::new(document, limit);
        let mut out = Vec::new();
        match xml.read_to_end(&mut out) {
            Ok(_) => Ok(String::from_utf8(out).unwrap()),
            Err(_) => Err(xml.fault().cloned().unwrap()),
        }
    }

    #[test]
    fn sound_markup_passes_unchanged() {
        for document in [
            "<a b='1 > 0' c=\"it's\">x &amp; y<![CDATA[ <raw> ]] ]]]></a>",
            "<a/>",
            "plain & text",
            "<a><b></b></a>\n",
        ] {
            assert_eq!(through(document.as_bytes(), 100).unwrap(), document);
        }
    }

    #[test]
    fn what_means_nothing_to_us_is_dropped() {
        let document = "<?xml version='1.0'?><!DOCTYPE a SYSTEM \"a>b\"><a><!-- <b> -- ' --><?php ?>x</a>";
        assert_eq!(through(document.as_bytes(), 100).unwrap(), "<a>x</a>");
    }

    #[test]
    fn long_runs_are_cut_and_the_markup_around_them_stays() {
        assert_eq!(
            through("<a b='12345é789' c=''>12345678</a>".as_bytes(), 6).unwrap(),
            "<a b='12345é' c=''>123456</a>"
        );
        assert_eq!(through(b"<a><![CDATA[12345678]]]></a>", 4).unwrap(), "<a><![CDATA[1234]]></a>");
        assert_eq!(through(b"12345&lt;12345", 3).unwrap(), "123&lt");
    }

    #[test]
    fn lines_are_counted_where_text_was_dropped() {
        let mut xml = BoundedXml::new(&b"<a>\n<!--\n\n-->1\n2\n3\n4\n5</a>\n<b>"[..], 2);
        let mut lines = Vec::new();
        while let Some(byte) = xml.fill_buf().unwrap().first().copied() {
            xml.consume(1);
            lines.push((byte as char, xml.line()));
        }
        assert!(lines.contains(&('a', 1)), "{lines:?}");
        assert!(lines.contains(&('1', 4)), "{lines:?}");
        assert!(lines.contains(&('/', 8)), "{lines:?}");
        assert_eq!(lines.last(), Some(&('>', 9)));
    }

    #[test]
    fn a_document_type_with_declarations_is_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY x \"ha\"><!ENTITY y \"&x;&x;\">]><a>&y;</a>";
        assert_eq!(through(bomb.as_bytes(), 100), Err(XmlFault::DocumentType));
    }

    #[test]
    fn an_endless_tag_is_refused() {
        let tag = format!("<a {}", "b ".repeat(MARKUP_LIMIT));
        assert_eq!(through(tag.as_bytes(), 100), Err(XmlFault::TagTooLong));
        let many = format!("<a {}>", "b='12345678' ".repeat(1000));
        assert!(through(many.as_bytes(), 8).unwrap().len() < 8_000);
    }

    #[test]
    fn encodings_are_decoded() {
        let text = "<a b=\"é\">€</a>";
        let utf16 = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
        assert_eq!(through(&utf16(u16::to_le_bytes), 100).unwrap(), text);
        assert_eq!(through(&utf16(u16::to_be_bytes), 100).unwrap(), text);
        assert_eq!(through(&[b"\xff\xfe".to_vec(), utf16(u16::to_le_bytes)].concat(), 100).unwrap(), text);
        assert_eq!(through(&[b"\xef\xbb\xbf".to_vec(), text.into()].concat(), 100).unwrap(), text);
        let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>";
        assert_eq!(through(latin, 100).unwrap(), "<a>é</a>");
        let lying = b"<?xml version=\"1.0\" encoding=\"utf-16\"?><a/>";
        assert_eq!(through(lying, 100).unwrap(), "<a/>");
        assert_eq!(through(b"<a>\xff</a>", 100).unwrap(), "<a>\u{fffd}</a>");
        let unknown = b"<?xml version='1.0' encoding='klingon'?><a/>";
        assert_eq!(through(unknown, 100), Err(XmlFault::Encoding { label: "klingon".into() }));
    }

    proptest! {
        #[test]
        fn any_bytes_become_bounded_utf8(bytes in prop::collection::vec(any::<u8>(), 0..300), limit in 0usize..20) {
            let _ = through(&bytes, limit);
        }

        #[test]
        fn any_markup_becomes_bounded_utf8(text in "[<>!?\\[\\]CDAT'\"&;a=\\-é\n]{0,200}", limit in 0usize..20) {
            if let Ok(out) = through(text.as_bytes(), limit) {
                prop_assert!(out.len() <= text.len() + 9);
            }
        }
    }
}
