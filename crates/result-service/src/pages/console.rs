//! Takes the beginning and the end of a console output that may be too large for a page. Memory is bounded by the
//! limits, whatever the size.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, pin_mut};
use serde::Serialize;

/// How much of an output a page shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes from the beginning.
    pub(super) head: usize,
    /// Bytes from the end.
    pub(super) tail: usize,
    /// Of an output longer than this, only the beginning is shown: reading all of it for its end takes too long.
    pub(super) read: u64,
}

impl Limits {
    pub(super) const PAGE: Self = Self { head: 64 << 10, tail: 192 << 10, read: 32 << 20 };
}

/// The parts of an output that a page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Excerpt {
    /// The beginning; all of it when nothing was left out.
    pub(super) head: String,
    /// How many bytes lie between head and tail.
    pub(super) left_out: u64,
    /// The end; empty when nothing was left out.
    pub(super) tail: String,
    /// The number of the tail's first line, from 1.
    pub(super) tail_line: u64,
}

/// Reads an output of `size` bytes.
pub(super) async fn excerpt(
    chunks: impl Stream<Item = io::Result<Bytes>>,
    size: u64,
    limits: Limits,
) -> io::Result<Excerpt> {
    pin_mut!(chunks);
    let mut collector = Collector::new(limits);
    let only_head = size > limits.read;
    while let Some(chunk) = chunks.next().await {
        collector.push(&chunk?);
        if only_head && collector.head.len() >= limits.head {
            break;
        }
    }
    Ok(collector.finish(size))
}

struct Collector {
    limits: Limits,
    head: Vec<u8>,
    rest: Vec<u8>,
    /// What fell out of `rest`.
    dropped: u64,
    dropped_lines: u64,
}

impl Collector {
    fn new(limits: Limits) -> Self {
        Self { limits, head: Vec::new(), rest: Vec::new(), dropped: 0, dropped_lines: 0 }
    }

    fn push(&mut self, chunk: &[u8]) {
        let room = self.limits.head.saturating_sub(self.head.len()).min(chunk.len());
        self.head.extend_from_slice(&chunk[..room]);
        self.rest.extend_from_slice(&chunk[room..]);
        if self.rest.len() > self.limits.tail * 2 {
            self.drop_from_rest(self.rest.len() - self.limits.tail);
        }
    }

    fn drop_from_rest(&mut self, length: usize) {
        self.dropped += length as u64;
        self.dropped_lines += newlines(&self.rest[..length]);
        self.rest.drain(..length);
    }

    fn finish(mut self, size: u64) -> Excerpt {
        let seen = (self.head.len() + self.rest.len()) as u64 + self.dropped;
        if seen < size {
            // Reading stopped early: there is no end to show.
            let head = whole_lines(&mut self.head);
            return Excerpt { left_out: size - head.len() as u64, head: lossy(&head), ..Excerpt::default() };
        }
        if self.dropped == 0 && self.rest.len() <= self.limits.tail {
            self.head.append(&mut self.rest);
            return Excerpt { head: lossy(&self.head), ..Excerpt::default() };
        }
        if self.rest.len() > self.limits.tail {
            self.drop_from_rest(self.rest.len() - self.limits.tail);
        }
        // Both parts are cut at line ends; a line longer than a part is cut where it must be.
        let in_head = newlines(&self.head);
        let full_head = self.head.len();
        let head = whole_lines(&mut self.head);
        let mut left_out = self.dropped + (full_head - head.len()) as u64;
        let mut before_tail = in_head + self.dropped_lines;
        if let Some(end) =
            self.rest.iter().position(|&byte| byte == b'\n').filter(|end| end + 1 < self.rest.len())
        {
            self.rest.drain(..=end);
            left_out += end as u64 + 1;
            before_tail += 1;
        }
        Excerpt { head: lossy(&head), left_out, tail: lossy(&self.rest), tail_line: before_tail + 1 }
    }
}

fn whole_lines(head: &mut Vec<u8>) -> Vec<u8> {
    if let Some(end) = head.iter().rposition(|&byte| byte == b'\n') {
        head.truncate(end + 1);
    }
    std::mem::take(head)
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const SMALL: Limits = Limits { head: 10, tail: 12, read: 1_000 };

    async fn of(text: &str, piece: usize) -> Excerpt {
        let pieces: Vec<_> =
            text.as_bytes().chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        excerpt(stream::iter(pieces), text.len() as u64, SMALL).await.unwrap()
    }

    fn numbers(count: usize) -> String {
        (1..=count).map(|number| format!("{number:03}\n")).collect()
    }

    #[tokio::test]
    async fn a_short_output_is_whole() {
        let text = "line 1\nline 2\nline 3\n";
        assert_eq!(of(text, 4).await, Excerpt { head: text.to_owned(), ..Excerpt::default() });
        assert_eq!(of("", 1).await, Excerpt::default());
    }

    #[tokio::test]
    async fn a_long_output_keeps_whole_lines_at_both_ends() {
        for piece in [1, 3, 4, 50, 400] {
            let excerpt = of(&numbers(50), piece).await;
            assert_eq!(excerpt.head, "001\n002\n");
            assert_eq!(excerpt.tail, "049\n050\n", "in pieces of {piece}");
            assert_eq!(excerpt.tail_line, 49);
            assert_eq!(excerpt.left_out, 46 * 4);
        }
    }

    #[tokio::test]
    async fn one_endless_line_is_cut_anywhere() {
        let excerpt = of(&"x".repeat(100), 7).await;
        assert_eq!((excerpt.head.len(), excerpt.tail.len()), (10, 12));
        assert_eq!((excerpt.left_out, excerpt.tail_line), (78, 1));
    }

    #[tokio::test]
    async fn of_a_huge_output_only_the_beginning_is_read() {
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(b"abc\n")));
        let excerpt = excerpt(endless, 1 << 40, SMALL).await.unwrap();
        assert_eq!(excerpt.head, "abc\nabc\n");
        assert_eq!((excerpt.tail.as_str(), excerpt.left_out), ("", (1 << 40) - 8));
    }
}
