//! Lets many threads share one `fsync` of a directory: whoever arrives while one is under way is served together by
//! the next. Knows nothing of what is in the directory.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
};

use fs_err::File;

#[derive(Debug)]
pub(crate) struct GroupSync {
    directory: File,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Those who wait for the next round share this cell for its outcome.
    next: Arc<OnceLock<Result<(), io::ErrorKind>>>,
    under_way: bool,
}

impl GroupSync {
    pub(crate) fn new(directory: File) -> Self {
        Self { directory, state: Mutex::default(), ended: Condvar::new() }
    }

    /// Returns when every rename that this thread did before the call is on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = Arc::clone(&state.next);
        loop {
            if let Some(outcome) = mine.get() {
                return outcome.map_err(io::Error::from);
            }
            if !state.under_way {
                break;
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.under_way = true;
        state.next = Arc::default();
        drop(state);
        let outcome = self.directory.sync_all();
        mine.set(outcome.as_ref().copied().map_err(io::Error::kind)).ok();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).under_way = false;
        self.ended.notify_all();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_threads_are_all_served() {
        let home = tempfile::tempdir().unwrap();
        let group = GroupSync::new(File::open(home.path()).unwrap());
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| (0..50).for_each(|_| group.sync().unwrap()));
            }
        });
    }
}
