//! Remembers the last events, to tell a replayed one from a new one. Pure.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
};

use super::EngineEvent;

/// Four times what the engine replays, so that nothing in a replay has been forgotten here.
const REMEMBERED: usize = 1024;

/// The last events by their digests. Two different events of the same nanosecond with the same digest will not
/// happen: the digest covers time, type, action, id and all attributes, and is 64 bits wide.
#[derive(Default)]
pub(super) struct Repeats {
    order: VecDeque<u64>,
    known: HashSet<u64>,
    hasher: RandomState,
}

impl Repeats {
    pub(super) fn is_known(&self, event: &EngineEvent) -> bool {
        self.known.contains(&self.hasher.hash_one(event))
    }

    /// Returns whether the event is new, and remembers it.
    pub(super) fn insert(&mut self, event: &EngineEvent) -> bool {
        let digest = self.hasher.hash_one(event);
        if !self.known.insert(digest) {
            return false;
        }
        self.order.push_back(digest);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::events::Actor;

    fn event(nanosecond: i128, action: &str, id: &str) -> EngineEvent {
        EngineEvent {
            kind: "container".into(),
            action: action.into(),
            actor: Actor { id: id.into(), attributes: [("name".into(), id.into())].into() },
            at: Timestamp::from_nanosecond(nanosecond).unwrap(),
        }
    }

    #[test]
    fn a_repeat_is_the_same_in_everything() {
        let mut repeats = Repeats::default();
        assert!(repeats.insert(&event(7, "start", "a")));
        assert!(!repeats.insert(&event(7, "start", "a")));
        assert!(repeats.insert(&event(8, "start", "a")), "another time");
        assert!(repeats.insert(&event(7, "die", "a")), "another action");
        assert!(repeats.insert(&event(7, "start", "b")), "another object");
    }

    #[test]
    fn remembers_more_than_the_engine_replays_but_not_all() {
        let mut repeats = Repeats::default();
        for n in 0..10_000 {
            assert!(repeats.insert(&event(n, "start", "a")));
        }
        assert!((10_000 - 256..10_000).all(|n| repeats.is_known(&event(n, "start", "a"))));
        assert!(repeats.known.len() <= REMEMBERED && repeats.order.len() == repeats.known.len());
    }
}
