//! Cuts a stream of bytes into lines: the form of the engine's events and of its progress. Parses nothing.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::{EngineError, api::ByteStream, error::Subject};

/// No event or step of progress comes near; a longer line is not the engine's.
const LONGEST_LINE: usize = 16 << 20;

/// Lines as they arrive, without their ends; empty ones are left out.
pub(crate) struct JsonLines {
    bytes: ByteStream,
    subject: Subject,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no end of a line.
    scanned: usize,
}

impl JsonLines {
    pub(crate) fn new((bytes, subject): (ByteStream, Subject)) -> Self {
        Self { bytes, subject, buffer: BytesMut::new(), scanned: 0 }
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The next line. Cancel-safe: what has arrived stays.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, EngineError>> {
        loop {
            if let Some(line) = self.take_line() {
                return Some(Ok(line));
            }
            if self.buffer.len() > LONGEST_LINE {
                self.buffer.clear();
                self.scanned = 0;
                return Some(Err(self
                    .subject
                    .garbled(format!("a line is longer than {LONGEST_LINE} bytes"))));
            }
            match self.bytes.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Some(Err(error)),
                // The last line may lack its end.
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return None,
                None => {
                    self.scanned = 0;
                    return Some(Ok(self.buffer.split().freeze()));
                }
            }
        }
    }

    fn take_line(&mut self) -> Option<Bytes> {
        while let Some(end) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.scanned + end + 1).freeze();
            self.scanned = 0;
            let line = line.slice(..line.len() - 1);
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(line);
            }
        }
        self.scanned = self.buffer.len();
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn lines(pieces: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let subject = Subject { kind: "", name: String::new(), action: "test".into() };
        let pieces: Vec<_> = pieces.into_iter().map(|piece| Ok(Bytes::from(piece))).collect();
        let mut lines = JsonLines::new((futures_util::stream::iter(pieces).boxed(), subject));
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line.expect("no errors go in").to_vec());
        }
        all
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            text in proptest::collection::vec("[a-z{}\\r]{0,9}", 0..20),
            cuts in proptest::collection::vec(1_usize..12, 1..40),
            ends in any::<bool>(),
        ) {
            let mut bytes = text.join("\n").into_bytes();
            if ends { bytes.push(b'\n'); }
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, after) = rest.split_at(rest.len().min(*cut));
                pieces.push(piece.to_vec());
                rest = after;
            }
            let expected: Vec<Vec<u8>> = text.iter().filter(|line| !line.trim().is_empty())
                .map(|line| line.clone().into_bytes()).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(lines(pieces)), expected);
        }
    }
}
