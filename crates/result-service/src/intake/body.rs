//! The body of an upload on its way from the connection to a thread that reads it. Bounded in size, in memory and
//! in patience.

use std::{io, io::Read, time::Duration};

use axum::{body::Body, http::StatusCode};
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{blobs::SMALL, http::problem::Problem};

/// Pieces between the connection and the thread.
const PIECES: usize = 8;

/// How long the rest of a refused body is read, so that the client can read the refusal before the connection
/// closes.
const LINGER: Duration = Duration::from_secs(15);

/// What an upload may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) bytes: u64,
    pub(crate) stall: Duration,
    /// Bytes per second, on average, once it has lasted for `stall`.
    pub(crate) slowest: u64,
}

/// A body that is being received.
pub(crate) struct Upload {
    body: Body,
    limits: BodyLimits,
    received: u64,
    since: Instant,
    ended: bool,
}

impl Upload {
    pub(crate) fn new(body: Body, limits: BodyLimits) -> Self {
        Self { body, limits, received: 0, since: Instant::now(), ended: false }
    }

    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = timeout(self.limits.stall, self.body.frame()).await.map_err(|_| self.too_slow())?;
            let frame = match frame {
                None => {
                    self.ended = true;
                    return Ok(None);
                }
                Some(Err(_)) => {
                    self.ended = true;
                    return Err(Problem::bad_request("the body did not arrive whole"));
                }
                Some(Ok(frame)) => frame,
            };
            let Ok(piece) = frame.into_data() else { continue };
            self.received += piece.len() as u64;
            if self.received > self.limits.bytes {
                let detail = format!("a result of more than {} bytes is not taken", self.limits.bytes);
                return Err(Problem::too_large(detail));
            }
            let lasted = self.since.elapsed();
            if lasted > self.limits.stall && self.received < lasted.as_secs() * self.limits.slowest {
                return Err(self.too_slow());
            }
            return Ok(Some(piece));
        }
    }

    fn too_slow(&self) -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "the body arrives too slowly: try again")
    }

    /// Receives what fits into memory; `true` when that is all.
    pub(crate) async fn start(&mut self) -> Result<(Vec<u8>, bool), Problem> {
        self.start_within(SMALL).await
    }

    /// Receives the whole body into memory.
    pub(crate) async fn whole(&mut self) -> Result<Vec<u8>, Problem> {
        let most = usize::try_from(self.limits.bytes).unwrap_or(usize::MAX);
        Ok(self.start_within(most).await?.0)
    }

    async fn start_within(&mut self, most: usize) -> Result<(Vec<u8>, bool), Problem> {
        let mut start = Vec::new();
        while start.len() <= most {
            match self.next().await? {
                Some(piece) => start.extend_from_slice(&piece),
                None => return Ok((start, true)),
            }
        }
        Ok((start, false))
    }

    /// Passes the rest on; returns when all of it was, or when nobody reads it any more.
    pub(crate) async fn pass_on(&mut self, to: Sender) -> Result<(), Problem> {
        loop {
            match self.next().await {
                Ok(Some(piece)) => {
                    if to.0.send(Piece::Data(piece)).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => {
                    let _ = to.0.send(Piece::End).await;
                    return Ok(());
                }
                // Dropping the sender tells the reader that the body is not whole.
                Err(problem) => return Err(problem),
            }
        }
    }

    /// Reads on for a while without keeping anything.
    pub(crate) async fn linger(mut self) {
        let rest = async { while !self.ended && self.next().await.is_ok() {} };
        let _ = timeout(LINGER, rest).await;
    }
}

enum Piece {
    Data(Bytes),
    End,
}

/// Where a body is passed on to.
pub(crate) struct Sender(mpsc::Sender<Piece>);

/// The body, for a thread. Ends with an error when the body does not arrive whole.
pub(crate) struct BodyReader {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

/// A way for a body from a connection to a thread.
pub(crate) fn way() -> (Sender, BodyReader) {
    let (sender, pieces) = mpsc::channel(PIECES);
    (Sender(sender), BodyReader { pieces, piece: Bytes::new(), ended: false })
}

impl Read for BodyReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(piece)) => self.piece = piece,
                Some(Piece::End) => self.ended = true,
                None => {
                    let what = "the body did not arrive whole";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
                }
            }
        }
        let length = self.piece.len().min(into.len());
        self.piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn upload(pieces: Vec<io::Result<Bytes>>, bytes: u64) -> Upload {
        let limits = BodyLimits { bytes, stall: Duration::from_secs(30), slowest: 1 };
        Upload::new(Body::from_stream(stream::iter(pieces)), limits)
    }

    async fn read(mut upload: Upload) -> (Result<(), Problem>, io::Result<Vec<u8>>) {
        let (sender, mut reader) = way();
        let reading = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        (upload.pass_on(sender).await, reading.await.expect("does not panic"))
    }

    #[tokio::test]
    async fn a_body_arrives_as_it_was_sent() {
        let pieces = (0..100u8).map(|n| Ok(Bytes::from(vec![n; 1000]))).collect();
        let (sent, received) = read(upload(pieces, 100_000)).await;
        assert!(sent.is_ok());
        assert_eq!(received.expect("whole").len(), 100_000);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_or_is_too_large_is_never_taken_for_whole() {
        let broken = vec![Ok(Bytes::from_static(b"abc")), Err(io::Error::other("reset"))];
        let (sent, received) = read(upload(broken, 100)).await;
        assert_eq!(sent.expect_err("broken").status(), 400);
        assert!(received.is_err());
        let large = vec![Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"def"))];
        let (sent, received) = read(upload(large, 5)).await;
        assert_eq!(sent.expect_err("too large").status(), 413);
        assert!(received.is_err());
    }

    #[tokio::test]
    async fn a_body_that_stalls_is_given_up() {
        let limits = BodyLimits { bytes: 10, stall: Duration::from_millis(10), slowest: 1 };
        let mut upload = Upload::new(Body::from_stream(stream::pending::<io::Result<Bytes>>()), limits);
        assert_eq!(upload.whole().await.expect_err("stalls").status(), 408);
    }
}
