//! The order of what waits in the spool, and how much room it takes. Pure: touches no disk and reads no clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Instant,
};

/// Names an item; items are delivered in the order of their numbers.
pub(crate) type Seq = u64;

/// Enough of a key's digest to tell keys apart, at a fixed size.
pub(crate) type KeyHash = [u8; 16];

pub(crate) fn hash_key(key: &str) -> KeyHash {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..16]);
    short
}

/// What a file of this length takes on disk: whole blocks and its inode.
pub(crate) fn room_for(len: u64) -> u64 {
    len.div_ceil(4096) * 4096 + 512
}

#[derive(Debug)]
struct Item {
    room: u64,
    key: KeyHash,
    attempts: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: HashMap<Seq, Item>,
    keys: HashSet<KeyHash>,
    ready: BTreeSet<Seq>,
    waiting: BTreeSet<(Instant, Seq)>,
    /// Room of rejected items, and whether their place may be reused.
    rejected: BTreeMap<Seq, (u64, bool)>,
    used: u64,
    last: Seq,
}

/// What a worker should do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Deliver this one.
    Item(Seq, u32),
    /// Look again then, or when something is added.
    At(Instant),
    /// Look again when something is added.
    Empty,
}

impl Queue {
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn take(&mut self, room: u64) {
        self.used += room;
    }

    pub(crate) fn give_back(&mut self, room: u64) {
        self.used = self.used.saturating_sub(room);
    }

    /// A number above all that were used.
    pub(crate) fn number(&mut self) -> Seq {
        self.last += 1;
        self.last
    }

    pub(crate) fn saw_number(&mut self, seq: Seq) {
        self.last = self.last.max(seq);
    }

    /// Whether the key was free; it is taken now.
    pub(crate) fn claim(&mut self, key: KeyHash) -> bool {
        self.keys.insert(key)
    }

    pub(crate) fn release(&mut self, key: &KeyHash) {
        self.keys.remove(key);
    }

    pub(crate) fn has(&self, key: &KeyHash) -> bool {
        self.keys.contains(key)
    }

    /// Adds an item whose key is claimed and whose room is taken.
    pub(crate) fn insert(&mut self, seq: Seq, key: KeyHash, room: u64) {
        self.items.insert(seq, Item { room, key, attempts: 0 });
        self.ready.insert(seq);
    }

    /// Leases the oldest item that is due.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        while let Some(&(due, seq)) = self.waiting.first().filter(|(due, _)| *due <= now) {
            self.waiting.remove(&(due, seq));
            self.ready.insert(seq);
        }
        match (self.ready.pop_first(), self.waiting.first()) {
            (Some(seq), _) => Next::Item(seq, self.items.get(&seq).map_or(0, |item| item.attempts)),
            (None, Some(&(due, _))) => Next::At(due),
            (None, None) => Next::Empty,
        }
    }

    /// Whether another item could be leased at once.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A leased item goes back, as if it had never been tried.
    pub(crate) fn put_back(&mut self, seq: Seq) {
        if self.items.contains_key(&seq) {
            self.ready.insert(seq);
        }
    }

    /// A leased item failed and waits until then.
    pub(crate) fn postpone(&mut self, seq: Seq, until: Instant) {
        if let Some(item) = self.items.get_mut(&seq) {
            item.attempts += 1;
            self.waiting.insert((until, seq));
        }
    }

    /// A leased item has left the queue.
    pub(crate) fn remove(&mut self, seq: Seq) {
        if let Some(item) = self.items.remove(&seq) {
            self.keys.remove(&item.key);
            self.give_back(item.room);
        }
    }

    /// An item lies in `rejected` and takes this much room there.
    pub(crate) fn reject(&mut self, seq: Seq, room: u64, may_be_evicted: bool) {
        self.rejected.insert(seq, (room, may_be_evicted));
        self.used += room;
    }

    /// The oldest rejected item whose place may be reused; its room is given back.
    pub(crate) fn evict(&mut self) -> Option<Seq> {
        let (&seq, &(room, _)) = self.rejected.iter().find(|(_, (_, may_be_evicted))| *may_be_evicted)?;
        self.rejected.remove(&seq);
        self.give_back(room);
        Some(seq)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn filled(count: u64) -> Queue {
        let mut queue = Queue::default();
        for _ in 0..count {
            let seq = queue.number();
            queue.claim(hash_key(&seq.to_string()));
            queue.take(room_for(1));
            queue.insert(seq, hash_key(&seq.to_string()), room_for(1));
        }
        queue
    }

    #[test]
    fn items_come_in_order_and_a_postponed_one_lets_the_others_pass() {
        let (mut queue, now) = (filled(3), Instant::now());
        assert_eq!(queue.next(now), Next::Item(1, 0));
        queue.postpone(1, now + Duration::from_secs(5));
        assert_eq!(queue.next(now), Next::Item(2, 0));
        assert_eq!(queue.next(now), Next::Item(3, 0));
        assert_eq!(queue.next(now), Next::At(now + Duration::from_secs(5)));
        assert_eq!(queue.next(now + Duration::from_secs(5)), Next::Item(1, 1));
        assert_eq!(queue.next(now), Next::Empty);
    }

    #[test]
    fn room_and_key_are_free_again_when_an_item_leaves() {
        let (mut queue, now) = (filled(1), Instant::now());
        assert!(!queue.claim(hash_key("1")));
        queue.next(now);
        queue.remove(1);
        assert_eq!(queue.used(), 0);
        assert!(queue.claim(hash_key("1")));
    }

    #[test]
    fn only_results_that_the_service_does_not_want_are_evicted_oldest_first() {
        let mut queue = Queue::default();
        queue.reject(1, 100, false);
        queue.reject(2, 100, true);
        queue.reject(3, 100, true);
        assert_eq!((queue.evict(), queue.evict(), queue.evict()), (Some(2), Some(3), None));
        assert_eq!(queue.used(), 100);
    }
}
