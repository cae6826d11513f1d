//! Files with holes, as GNU tar stores them: in old headers, or in extended ones of the forms 0.0, 0.1 and 1.0.
//! Computes where data and holes are; reads nothing.

/// Pieces that one file may have.
const PIECES: usize = 16 * 1024;

/// The data pieces of a file with holes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SparseMap {
    /// Where each piece begins and how long it is, in the file.
    pieces: Vec<(u64, u64)>,
}

impl SparseMap {
    /// Adds a piece. False if it does not come after those before, or if there are too many.
    pub(super) fn push(&mut self, offset: u64, length: u64) -> bool {
        let end = self.pieces.last().map_or(0, |(offset, length)| offset + length);
        if offset < end || offset.checked_add(length).is_none() || self.pieces.len() >= PIECES {
            return false;
        }
        if length > 0 {
            self.pieces.push((offset, length));
        }
        true
    }

    /// Stored bytes of all pieces.
    pub(super) fn stored(&self) -> u64 {
        self.pieces.iter().map(|(_, length)| length).sum()
    }

    /// Whether all pieces are inside a file of this size.
    pub(super) fn fits(&self, size: u64) -> bool {
        self.pieces.last().is_none_or(|(offset, length)| offset + length <= size)
    }

    pub(super) fn into_pieces(self) -> Vec<(u64, u64)> {
        self.pieces
    }

    /// Form 0.1: `offset,length,offset,length`.
    pub(super) fn from_list(text: &[u8]) -> Option<Self> {
        let mut numbers = text.split(|b| *b == b',').map(decimal);
        let mut map = Self::default();
        while let Some(offset) = numbers.next() {
            if !map.push(offset?, numbers.next()??) {
                return None;
            }
        }
        Some(map)
    }
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_each_other() {
        let map = SparseMap::from_list(b"0,3,10,5,20,0").unwrap();
        assert_eq!((map.stored(), map.fits(15), map.fits(14)), (8, true, false));
        assert_eq!(map.into_pieces(), [(0, 3), (10, 5)]);
        for bad in [&b"5,3,6,1"[..], b"1", b"x,1", b"18446744073709551615,1"] {
            assert_eq!(SparseMap::from_list(bad), None);
        }
    }
}
