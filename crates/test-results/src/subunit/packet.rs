//! Packets of subunit version 2: finding them in a stream of bytes, and what is in one.
//!
//! The `subunit` crate reads packets too, but panics on some lengths that do not fit, refuses ids that are not UTF-8, and
//! loses what follows a damaged packet. It writes the streams of our tests.

use std::io::{self, Read};

/// The first byte of a packet.
pub(super) const SIGNATURE: u8 = 0xb3;
/// The longest packet that the protocol allows.
const MAX_PACKET: usize = 4 * 1024 * 1024;
/// Signature, flags, a length of one byte, checksum.
const MIN_PACKET: usize = 8;
const CHUNK: usize = 64 * 1024;

const TEST_ID: u16 = 0x0800;
const ROUTE: u16 = 0x0400;
const TIME: u16 = 0x0200;
const TAGS: u16 = 0x0080;
const FILE: u16 = 0x0040;
const MIME: u16 = 0x0020;
const RESERVED: u16 = 0x0008;

/// What a packet says. Looking for packets in other bytes must be cheap: text is not checked to be UTF-8.
#[derive(Debug, PartialEq)]
pub(super) struct Packet<'a> {
    /// 0 for none, else from 1: exists, in progress, success, unexpected success, skip, fail, expected failure.
    pub(super) status: u8,
    pub(super) id: Option<&'a [u8]>,
    /// Nanoseconds since 1970.
    pub(super) time: Option<i128>,
    pub(super) mime: Option<&'a [u8]>,
    /// Name and content.
    pub(super) file: Option<(&'a [u8], &'a [u8])>,
    pub(super) route: Option<&'a [u8]>,
}

/// How many bytes the packet at the start of `bytes` has. `Ok(None)` if more bytes are needed to know,
/// `Err(())` if this is no packet.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, ()> {
    if bytes.first().is_some_and(|b| *b != SIGNATURE) || bytes.get(1).is_some_and(|b| b >> 4 != 2) {
        return Err(());
    }
    if bytes.get(2).is_some_and(|b| u16::from(*b) & RESERVED != 0) {
        return Err(());
    }
    let mut rest = bytes.get(3..).unwrap_or_default();
    match number(&mut rest) {
        None => Ok(None),
        Some(length) if (MIN_PACKET..=MAX_PACKET).contains(&length) => Ok(Some(length)),
        Some(_) => Err(()),
    }
}

/// Whether the whole packet in `bytes` is undamaged.
pub(super) fn checksum_fits(bytes: &[u8]) -> bool {
    let Some((content, stored)) = bytes.split_last_chunk::<4>() else { return false };
    let mut crc = flate2::Crc::new();
    crc.update(content);
    crc.sum() == u32::from_be_bytes(*stored)
}

/// Reads the fields of a whole packet. `None` if they do not fill it exactly.
pub(super) fn read(bytes: &[u8]) -> Option<Packet<'_>> {
    let (content, _) = bytes.split_last_chunk::<4>()?;
    let flags = u16::from_be_bytes([*content.get(1)?, *content.get(2)?]);
    let mut rest = content.get(3..)?;
    number(&mut rest)?;
    let has = |flag: u16| flags & flag != 0;
    let mut packet = Packet {
        status: (flags & 7).to_be_bytes()[1],
        id: None,
        time: None,
        mime: None,
        file: None,
        route: None,
    };
    if has(TIME) {
        let (seconds, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        let nanoseconds = number(&mut rest)?;
        packet.time = Some(i128::from(u32::from_be_bytes(*seconds)) * 1_000_000_000 + nanoseconds as i128);
    }
    if has(TEST_ID) {
        packet.id = Some(counted(&mut rest)?);
    }
    if has(TAGS) {
        for _ in 0..number(&mut rest)? {
            counted(&mut rest)?;
        }
    }
    if has(MIME) {
        packet.mime = Some(counted(&mut rest)?);
    }
    if has(FILE) {
        packet.file = Some((counted(&mut rest)?, counted(&mut rest)?));
    }
    if has(ROUTE) {
        packet.route = Some(counted(&mut rest)?);
    }
    rest.is_empty().then_some(packet)
}

/// A number whose first two bits say how many bytes follow.
fn number(bytes: &mut &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    let more = usize::from(first >> 6);
    let (all, rest) = bytes.split_at_checked(1 + more)?;
    *bytes = rest;
    Some(all[1..].iter().fold(usize::from(first & 0x3f), |value, byte| value << 8 | usize::from(*byte)))
}

fn counted<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = number(bytes)?;
    let (counted, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(counted)
}

/// The bytes of a stream of which some can be looked at before they are taken.
pub(super) struct Window<R> {
    source: R,
    bytes: Vec<u8>,
    at: usize,
    /// How many bytes of the stream were taken.
    pub(super) taken: u64,
    ended: bool,
}

impl<R: Read> Window<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, bytes: Vec::new(), at: 0, taken: 0, ended: false }
    }

    /// Up to `count` bytes, fewer only at the end of the stream. More may be there.
    pub(super) fn look(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.bytes.len() - self.at < count && !self.ended {
            self.bytes.drain(..self.at);
            self.at = 0;
            let before = self.bytes.len();
            self.bytes.resize(before + CHUNK, 0);
            let read = loop {
                match self.source.read(&mut self.bytes[before..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.bytes.truncate(before + read.as_ref().map_or(0, |read| *read));
            self.ended = read? == 0;
        }
        Ok(&self.bytes[self.at..])
    }

    pub(super) fn take(&mut self, count: usize) {
        let count = count.min(self.bytes.len() - self.at);
        self.at += count;
        self.taken += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use subunit::types::{event::Event, teststatus::TestStatus};

    use super::*;

    #[test]
    fn the_fields_of_a_packet() {
        let mut event = Event::new(TestStatus::Failed).test_id("a.b").tag("x").tag("y").route_code("0/1");
        event = event.mime_type("text/plain").file_content("log", b"\xff\x00").end_of_file().runnable();
        let bytes = event.build().to_vec().unwrap();
        assert_eq!(length(&bytes), Ok(Some(bytes.len())));
        assert!(checksum_fits(&bytes));
        let packet = read(&bytes).unwrap();
        assert_eq!((packet.status, packet.id, packet.route), (6, Some(&b"a.b"[..]), Some(&b"0/1"[..])));
        assert_eq!(packet.mime, Some(&b"text/plain"[..]));
        assert_eq!(packet.file, Some((&b"log"[..], &b"\xff\x00"[..])));
    }

    #[test]
    fn a_packet_of_the_reference_implementation() {
        let bytes = b"\xb3+\x03\x13<\x17T\xcf\x80\xaf\xc8\x03barI\x96>-";
        assert!(checksum_fits(bytes));
        let packet = read(bytes).unwrap();
        assert_eq!((packet.status, packet.id), (3, Some(&b"bar"[..])));
        assert_eq!(packet.time, Some(1_008_161_999_000_045_000));
    }

    #[test]
    fn numbers_of_each_length() {
        for (bytes, value) in [
            (&[0x3f][..], 63),
            (&[0x40, 0x40], 64),
            (&[0x80, 0x40, 0x00], 16384),
            (&[0xff, 0xff, 0xff, 0xff], 0x3fff_ffff),
        ] {
            assert_eq!(number(&mut &*bytes), Some(value));
        }
        assert_eq!(number(&mut &[0x80, 1][..]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_not(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [&[SIGNATURE, 0x2f], bytes.as_slice()].concat();
            let _ = (length(&bytes), read(&bytes), checksum_fits(&bytes));
        }
    }
}
