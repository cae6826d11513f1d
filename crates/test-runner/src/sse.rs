//! Reads server-sent events out of bytes as they arrive, wherever the pieces are cut (WHATWG HTML, 9.2.6).
//! Bounded: an event that is too long is skipped, and said to be. Never opens a connection.

use std::time::Duration;

/// One event of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The last id seen in the stream, empty if there was none.
    pub(crate) id: String,
    /// Its type; `message` if none was sent.
    pub(crate) event: String,
    /// Its data, or nothing when they were too long.
    pub(crate) data: Option<String>,
}

/// Turns bytes into messages.
#[derive(Debug)]
pub(crate) struct Parser {
    limit: usize,
    line: Vec<u8>,
    /// A line feed after this carriage return belongs to it.
    after_cr: bool,
    first_line: bool,
    id: String,
    event: String,
    data: Vec<u8>,
    has_data: bool,
    too_long: bool,
    retry: Option<Duration>,
}

impl Parser {
    /// A parser for events of up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_cr: false,
            first_line: true,
            id: String::new(),
            event: String::new(),
            data: Vec::new(),
            has_data: false,
            too_long: false,
            retry: None,
        }
    }

    /// How long the server wants a client to wait before it connects again.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Takes the next bytes and returns the messages that they complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend_line(&bytes[..end]);
            messages.extend(self.end_line());
            let rest = &bytes[end + 1..];
            bytes = match (bytes[end], rest) {
                (b'\r', []) => {
                    self.after_cr = true;
                    rest
                }
                (b'\r', rest) => rest.strip_prefix(b"\n").unwrap_or(rest),
                _ => rest,
            };
        }
        self.extend_line(bytes);
        messages
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.line.len() + self.data.len());
        self.too_long |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        let mut line = &line[..];
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_message();
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => self.id = String::from_utf8_lossy(value).into_owned(),
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                let milliseconds = str::from_utf8(value).ok().and_then(|value| value.parse().ok());
                self.retry = milliseconds.map(Duration::from_millis).or(self.retry);
            }
            // Comments (an empty field name) and whatever a later standard adds.
            _ => {}
        }
        None
    }

    fn end_message(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        let too_long = std::mem::take(&mut self.too_long);
        // A line that was too long may have been the one that brought data.
        if !std::mem::take(&mut self.has_data) && !too_long {
            return None;
        }
        Some(Message {
            id: self.id.clone(),
            event: if event.is_empty() { "message".to_owned() } else { event },
            data: (!too_long).then(|| String::from_utf8_lossy(&data).into_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, event: &str, data: &str) -> Message {
        Message { id: id.into(), event: event.into(), data: Some(data.into()) }
    }

    fn parse(stream: &str) -> Vec<Message> {
        Parser::new(1000).push(stream.as_bytes())
    }

    #[test]
    fn reads_the_examples_of_the_standard() {
        assert_eq!(parse("data: YHOO\ndata: +2\ndata: 10\n\n"), [message("", "message", "YHOO\n+2\n10")]);
        let stream =
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
        let expected = [
            message("1", "message", "first event"),
            message("", "message", "second event"),
            message("", "message", " third event"),
        ];
        assert_eq!(parse(stream), expected);
        let expected = [message("", "message", ""), message("", "message", "\n")];
        assert_eq!(parse("data\n\ndata\ndata\n\ndata:"), expected);
    }

    #[test]
    fn an_id_stays_until_another_comes() {
        let stream = "id: 7\nevent: a\ndata: x\n\ndata: y\n\nid: 8\n\ndata: z\n\nid: \0\ndata: w\n\n";
        let expected = [
            message("7", "a", "x"),
            message("7", "message", "y"),
            message("8", "message", "z"),
            message("8", "message", "w"),
        ];
        assert_eq!(parse(stream), expected);
    }

    #[test]
    fn comments_unknown_fields_and_a_byte_order_mark_are_no_data() {
        assert_eq!(
            parse("\u{feff}data: x\n:keep-alive\nfoo: bar\n\n: only a comment\n\n"),
            [message("", "message", "x")]
        );
    }

    #[test]
    fn the_servers_wish_for_a_delay_is_kept() {
        let mut parser = Parser::new(100);
        parser.push(b"retry: 1500\nretry: soon\nretry: 99999999999999999999\n\n");
        assert_eq!(parser.retry(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn what_is_too_long_is_skipped_with_its_id_and_the_next_is_read() {
        let long = "x".repeat(300);
        let mut parser = Parser::new(100);
        let stream =
            format!("id: 1\ndata: {long}\ndata: {long}\n\nid: 2\nevent: cloudevent\ndata: short\n\n");
        let skipped = Message { data: None, ..message("1", "message", "") };
        assert_eq!(parser.push(stream.as_bytes()), [skipped, message("2", "cloudevent", "short")]);
    }

    #[test]
    fn an_event_that_was_cut_off_is_not_delivered() {
        assert!(parse("data: half").is_empty());
        assert!(parse("data: half\n").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn the_cuts_between_pieces_do_not_matter(
            fields in proptest::collection::vec("(data|id|event|retry|:|)(: ?[aé€😀:]{0,6})?", 0..20),
            ends in proptest::collection::vec("\n|\r|\r\n|\n\n|\r\r|\r\n\r\n", 20),
            cuts in proptest::collection::vec(1..9_usize, 1..40),
        ) {
            let stream: String = fields.iter().zip(&ends).map(|(field, end)| format!("{field}{end}")).collect();
            let whole = parse(&stream);
            let mut parser = Parser::new(1000);
            let mut pieces = Vec::new();
            let mut rest = stream.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.extend(parser.push(piece));
                rest = after;
            }
            proptest::prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn memory_is_bounded_whatever_comes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..4096)) {
            let mut parser = Parser::new(64);
            for message in parser.push(&bytes) {
                proptest::prop_assert!(message.data.is_none_or(|data| data.len() <= 3 * 128));
            }
            proptest::prop_assert!(parser.line.len() + parser.data.len() <= 64 + 64);
        }
    }
}
