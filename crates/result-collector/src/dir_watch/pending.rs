//! Files that wait to be collected: each once however often it changes, bounded, and never two at work on one file.
//! What does not fit is left to the next scan. Touches no disk.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::journal::Stamp;

/// How many files may wait.
const MOST: usize = 65_536;

/// A file below a watched directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileRef {
    /// Which watched directory.
    pub(crate) root: usize,
    /// Its path below that.
    pub(crate) relative: Arc<Path>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Queued,
    AtWork,
    /// It changed while it was read.
    AtWorkAndAgain,
}

/// A file that is looked at again after a while: collected if it is still the same.
#[derive(Clone, Debug)]
pub(crate) struct Settling {
    pub(crate) file: FileRef,
    pub(crate) stamp: Option<Stamp>,
}

#[derive(Debug, Default)]
pub(crate) struct Pending {
    state: Mutex<State>,
    /// A file may be taken.
    queued: Notify,
    /// A file has begun to settle.
    settling: Notify,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    order: VecDeque<FileRef>,
    slots: HashMap<FileRef, Slot>,
    settling: VecDeque<(Instant, Settling)>,
    left_to_scan: bool,
}

impl State {
    fn len(&self) -> usize {
        self.slots.len() + self.settling.len()
    }
}

impl Pending {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file is complete and should be collected.
    pub(crate) fn push(&self, file: FileRef) {
        let mut state = self.state();
        if let Some(slot) = state.slots.get_mut(&file) {
            if *slot == Slot::AtWork {
                *slot = Slot::AtWorkAndAgain;
            }
            return;
        }
        if state.len() >= MOST {
            state.left_to_scan = true;
            return;
        }
        state.slots.insert(file.clone(), Slot::Queued);
        state.order.push_back(file);
        drop(state);
        self.queued.notify_one();
    }

    /// A file should be looked at again then. Times must not go back from one call to the next.
    pub(crate) fn settle(&self, due: Instant, settling: Settling) {
        let mut state = self.state();
        if state.len() >= MOST {
            state.left_to_scan = true;
            return;
        }
        state.settling.push_back((due, settling));
        drop(state);
        self.settling.notify_one();
    }

    /// Waits until less than half of the places are taken, or this long. For a scan, which could fill them all.
    pub(crate) fn wait_for_room(&self, longest: Duration) {
        let state = self.state();
        let _ = self.room.wait_timeout_while(state, longest, |state| state.len() >= MOST / 2);
    }

    /// Whether half of the places are taken.
    pub(crate) fn is_crowded(&self) -> bool {
        self.state().len() >= MOST / 2
    }

    /// The next file to collect; waits for one. [`Pending::done`] must follow.
    pub(crate) async fn take(&self) -> FileRef {
        loop {
            {
                let mut state = self.state();
                if let Some(file) = state.order.pop_front() {
                    state.slots.insert(file.clone(), Slot::AtWork);
                    if !state.order.is_empty() {
                        self.queued.notify_one();
                    }
                    return file;
                }
            }
            self.queued.notified().await;
        }
    }

    /// A file was worked on. If it changed meanwhile it is queued again.
    pub(crate) fn done(&self, file: &FileRef) {
        let mut state = self.state();
        if state.slots.remove(file) == Some(Slot::AtWorkAndAgain) {
            state.slots.insert(file.clone(), Slot::Queued);
            state.order.push_back(file.clone());
            self.queued.notify_one();
        }
        self.room.notify_all();
    }

    /// Waits until files have settled for long enough, and takes them.
    pub(crate) async fn settled(&self) -> Vec<Settling> {
        loop {
            let next = {
                let mut state = self.state();
                let now = Instant::now();
                let due = state.settling.partition_point(|(due, _)| *due <= now);
                if due > 0 {
                    self.room.notify_all();
                    return state.settling.drain(..due).map(|(_, settling)| settling).collect();
                }
                state.settling.front().map(|(due, _)| *due)
            };
            match next {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => self.settling.notified().await,
            }
        }
    }

    /// Whether files were left to a scan since the last call, and there is room again.
    pub(crate) fn wants_scan(&self) -> bool {
        let mut state = self.state();
        let wants = state.left_to_scan && state.len() < MOST / 2;
        if wants {
            state.left_to_scan = false;
        }
        wants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> FileRef {
        FileRef { root: 0, relative: Path::new(name).into() }
    }

    #[tokio::test]
    async fn a_file_is_queued_once_and_again_when_it_changes_at_work() {
        let pending = Pending::default();
        pending.push(file("a"));
        pending.push(file("a"));
        pending.push(file("b"));
        assert_eq!(pending.take().await, file("a"));
        assert_eq!(pending.take().await, file("b"));
        pending.push(file("a"));
        pending.done(&file("b"));
        pending.done(&file("a"));
        assert_eq!(pending.take().await, file("a"));
        pending.done(&file("a"));
        assert!(tokio::time::timeout(Duration::from_millis(5), pending.take()).await.is_err());
    }

    #[tokio::test]
    async fn what_does_not_fit_is_left_to_a_scan() {
        let pending = Pending::default();
        (0..=MOST).for_each(|n| pending.push(file(&n.to_string())));
        assert!(!pending.wants_scan());
        for _ in 0..MOST {
            let file = pending.take().await;
            pending.done(&file);
        }
        assert!(pending.wants_scan());
        assert!(!pending.wants_scan());
    }
}
