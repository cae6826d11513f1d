//! A container's console: standard output and error, as the engine interleaves them in one stream of frames.

use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;

use crate::{EngineError, api::ByteStream, error::Subject};

/// Which output a piece of log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a container's console.
#[derive(Clone, Debug)]
pub struct LogChunk {
    /// Where it was written.
    pub source: LogSource,
    /// What was written.
    pub bytes: Bytes,
}

/// A console as it is written.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogChunk, EngineError>> + Send>>;

/// A terminal's console has no frames: there is only one output.
pub(crate) fn terminal(bytes: ByteStream) -> LogStream {
    bytes.map(|piece| piece.map(|bytes| LogChunk { source: LogSource::Stdout, bytes })).boxed()
}

/// Takes the frames apart. A frame longer than what has arrived is passed on in pieces, so memory stays bounded.
pub(crate) fn multiplexed(bytes: ByteStream, subject: Subject) -> LogStream {
    let state = Frames { bytes, subject, buffer: BytesMut::new(), open: None, complaint: BytesMut::new() };
    stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        match state.next().await {
            Some(Ok(chunk)) => Some((Ok(chunk), Some(state))),
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    })
    .boxed()
}

struct Frames {
    bytes: ByteStream,
    subject: Subject,
    buffer: BytesMut,
    /// The frame that is being read, and how much of it is still to come.
    open: Option<(Channel, usize)>,
    /// What the engine itself says in the middle of the log.
    complaint: BytesMut,
}

#[derive(Clone, Copy)]
enum Channel {
    Output(LogSource),
    /// The engine's own: why the log cannot go on.
    Engine,
}

const HEADER: usize = 8;

impl Frames {
    async fn next(&mut self) -> Option<Result<LogChunk, EngineError>> {
        loop {
            match self.open {
                Some((Channel::Output(_) | Channel::Engine, 0)) => {
                    self.open = None;
                    if !self.complaint.is_empty() {
                        let words = String::from_utf8_lossy(&self.complaint).trim().to_owned();
                        return Some(Err(self.subject.refused(StatusCode::OK, words)));
                    }
                }
                Some((channel, left)) if !self.buffer.is_empty() => {
                    let piece = self.buffer.split_to(left.min(self.buffer.len()));
                    self.open = Some((channel, left - piece.len()));
                    match channel {
                        Channel::Output(source) => {
                            return Some(Ok(LogChunk { source, bytes: piece.freeze() }));
                        }
                        Channel::Engine => self.complaint.extend_from_slice(&piece),
                    }
                }
                None if self.buffer.len() >= HEADER => match self.open_frame() {
                    Ok(frame) => self.open = Some(frame),
                    Err(error) => return Some(Err(error)),
                },
                _ => match self.bytes.next().await {
                    Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                    Some(Err(error)) => return Some(Err(error)),
                    None if self.open.is_none() && self.buffer.is_empty() => return None,
                    None => {
                        return Some(Err(self.subject.unreachable("the log ends in the middle of a frame")));
                    }
                },
            }
        }
    }

    fn open_frame(&mut self) -> Result<(Channel, usize), EngineError> {
        let channel = match self.buffer[..4] {
            // 0 is standard input, which the engine echoes as output.
            [0 | 1, 0, 0, 0] => Channel::Output(LogSource::Stdout),
            [2, 0, 0, 0] => Channel::Output(LogSource::Stderr),
            [3, 0, 0, 0] => Channel::Engine,
            ref other => return Err(self.subject.garbled(format!("a log frame begins with {other:?}"))),
        };
        self.buffer.advance(4);
        Ok((channel, self.buffer.get_u32() as usize))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    fn frame(channel: u8, text: &str) -> Vec<u8> {
        let mut frame = vec![channel, 0, 0, 0];
        frame.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    async fn read(bytes: Vec<u8>, piece: usize) -> Result<(String, String), EngineError> {
        let pieces: Vec<_> = bytes.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let subject = Subject { kind: "container", name: "t1".into(), action: "read the console".into() };
        let chunks: Vec<LogChunk> = multiplexed(stream::iter(pieces).boxed(), subject).try_collect().await?;
        let text = |source| {
            let bytes: Vec<u8> =
                chunks.iter().filter(|c| c.source == source).flat_map(|c| &c.bytes[..]).copied().collect();
            String::from_utf8(bytes).unwrap()
        };
        Ok((text(LogSource::Stdout), text(LogSource::Stderr)))
    }

    #[tokio::test]
    async fn tells_both_outputs_apart_however_the_bytes_arrive() {
        let bytes = [frame(1, "one "), frame(2, "bad"), frame(1, ""), frame(1, "two")].concat();
        for piece in 1..bytes.len() {
            assert_eq!(read(bytes.clone(), piece).await.unwrap(), ("one two".into(), "bad".into()));
        }
    }

    #[tokio::test]
    async fn what_the_engine_complains_of_is_an_error() {
        let bytes = [frame(1, "one"), frame(3, "Error grabbing logs: invalid character")].concat();
        let error = read(bytes, 5).await.expect_err("the log is broken");
        assert!(
            matches!(error, EngineError::Refused { status: 200, ref message, .. } if message.contains("grabbing"))
        );
    }

    #[tokio::test]
    async fn a_log_that_breaks_off_or_is_none_is_an_error() {
        let mut short = frame(1, "one");
        short.pop();
        assert!(matches!(read(short, 4).await, Err(EngineError::Unreachable { .. })));
        assert!(matches!(read(b"plain text".to_vec(), 4).await, Err(EngineError::Garbled { .. })));
    }
}
