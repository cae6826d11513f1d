//! Unpacks gzip under limits on the amount and the growth. Several members in a row are one stream, as for gzip itself.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

use super::{UploadError, UploadLimits};

/// The body, which remembers its own error, so that it is not taken for one of the compression.
struct Body<R> {
    source: R,
    packed: u64,
    error: Option<io::Error>,
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.source.read(into) {
            Ok(count) => {
                self.packed += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}

enum Input<R> {
    Between(BufReader<Body<R>>),
    Inside(Box<GzDecoder<BufReader<Body<R>>>>),
    /// Only while moving from one to the other.
    Moving,
}

/// The unpacked stream.
pub(super) struct Gunzip<'a, R> {
    input: Input<R>,
    limits: &'a UploadLimits,
    /// Unpacked bytes so far.
    pub(super) unpacked: u64,
    ended: bool,
}

impl<'a, R: Read> Gunzip<'a, R> {
    pub(super) fn new(source: R, limits: &'a UploadLimits) -> Self {
        let body = Body { source, packed: 0, error: None };
        Self { input: Input::Between(BufReader::new(body)), limits, unpacked: 0, ended: false }
    }

    /// Packed bytes so far.
    pub(super) fn packed(&self) -> u64 {
        match &self.input {
            Input::Between(body) => body.get_ref().packed,
            Input::Inside(decoder) => decoder.get_ref().get_ref().packed,
            Input::Moving => 0,
        }
    }

    /// Reads some bytes; 0 at the end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, UploadError> {
        while !self.ended && !into.is_empty() {
            let Input::Inside(decoder) = &mut self.input else {
                self.next_member()?;
                continue;
            };
            match decoder.read(into) {
                Ok(0) => {
                    let Input::Inside(decoder) = std::mem::replace(&mut self.input, Input::Moving) else {
                        break;
                    };
                    self.input = Input::Between(decoder.into_inner());
                }
                Ok(count) => {
                    self.unpacked += count as u64;
                    self.check_growth()?;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(match decoder.get_mut().get_mut().error.take() {
                        Some(error) => UploadError::Body(error),
                        None if error.kind() == io::ErrorKind::UnexpectedEof => {
                            UploadError::TruncatedGzip { unpacked: self.unpacked }
                        }
                        None => UploadError::BadGzip(error),
                    });
                }
            }
        }
        Ok(0)
    }

    /// Goes on to the next member, or ends. Zeros after the last one are padding, as of a tape.
    fn next_member(&mut self) -> Result<(), UploadError> {
        let Input::Between(mut body) = std::mem::replace(&mut self.input, Input::Moving) else {
            return Ok(());
        };
        let first = body.get_ref().packed == 0;
        let mut padded = false;
        loop {
            let available = match body.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(UploadError::Body(body.get_mut().error.take().unwrap_or(error))),
                Ok(available) => available,
            };
            match available.first() {
                None if first => return Err(UploadError::Empty),
                None => {
                    self.ended = true;
                    self.input = Input::Between(body);
                    return Ok(());
                }
                Some(0x1f) if !padded => {
                    self.input = Input::Inside(Box::new(GzDecoder::new(body)));
                    return Ok(());
                }
                Some(0) if !first => {
                    padded = true;
                    let zeros = available.iter().take_while(|b| **b == 0).count();
                    body.consume(zeros);
                }
                Some(_) if first => return Err(UploadError::NotGzip),
                Some(_) => return Err(UploadError::TrailingGarbage),
            }
        }
    }

    fn check_growth(&self) -> Result<(), UploadError> {
        if self.unpacked > self.limits.total {
            return Err(UploadError::TooLarge { limit: self.limits.total });
        }
        let grown = self.unpacked / self.packed().max(1);
        if self.unpacked > self.limits.ratio_after && grown >= self.limits.ratio {
            return Err(UploadError::Bomb { ratio: self.limits.ratio });
        }
        Ok(())
    }
}
