//! Keeps a container's output within a limit: the beginning and the end, and a line that says what was left out.
//! Pure: bytes in, bytes out.

use std::collections::VecDeque;

/// One output of a container.
#[derive(Debug)]
pub(crate) struct Console {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_max: usize,
    tail_max: usize,
    left_out: u64,
}

impl Console {
    /// Keeps about this many bytes: half from the beginning, half from the end, where failures stand.
    pub(crate) fn new(max: usize) -> Self {
        let tail_max = max / 2;
        Self { head: Vec::new(), tail: VecDeque::new(), head_max: max - tail_max, tail_max, left_out: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_max - self.head.len()));
        self.head.extend_from_slice(head);
        let (skipped, rest) = rest.split_at(rest.len().saturating_sub(self.tail_max));
        self.tail.extend(rest);
        let too_many = self.tail.len().saturating_sub(self.tail_max);
        self.tail.drain(..too_many);
        self.left_out += (skipped.len() + too_many) as u64;
    }

    /// How many bytes were left out.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        if self.left_out > 0 {
            let note = format!("\n[... {} bytes of output left out by the collector ...]\n", self.left_out);
            self.head.extend_from_slice(note.as_bytes());
        }
        self.head.extend(self.tail);
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(max: usize, pieces: &[&str]) -> String {
        let mut console = Console::new(max);
        pieces.iter().for_each(|piece| console.push(piece.as_bytes()));
        String::from_utf8(console.into_bytes()).unwrap()
    }

    #[test]
    fn what_fits_is_kept_as_it_is() {
        assert_eq!(kept(8, &["ab", "cdef", "gh"]), "abcdefgh");
        assert_eq!(kept(8, &["abcdefgh"]), "abcdefgh");
        assert_eq!(kept(8, &[]), "");
    }

    #[test]
    fn of_too_much_the_beginning_and_the_end_are_kept() {
        let cut = |n| format!("abcd\n[... {n} bytes of output left out by the collector ...]\n");
        assert_eq!(kept(8, &["abcdefghij"]), cut(2) + "ghij");
        assert_eq!(kept(8, &["abc", "def", "ghi", "j"]), cut(2) + "ghij");
        assert_eq!(kept(8, &["abcd", "0123456789"]), cut(6) + "6789");
    }
}
