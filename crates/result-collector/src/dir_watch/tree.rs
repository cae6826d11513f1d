//! The watched directories as the kernel sees them: one inotify watch for each directory, kept right while
//! directories come, move and go, and scans that find what no event told. Never follows a link, reads no file.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use inotify::{EventMask, EventOwned, WatchDescriptor, WatchMask, Watches};
use tokio_util::sync::CancellationToken;

use super::{
    journal::{Digest16, Journal, Stamp},
    pending::{FileRef, Pending, Settling},
    policy,
};
use crate::activity::{CollectorEvent, Reporter};

/// A file that was made this recently and never closed is still being written.
const LONGEST_WRITE: Duration = Duration::from_secs(600);

/// A directory that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    /// What its files are a test of.
    pub(crate) name: String,
}

/// What should be scanned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every watched directory.
    Everything,
    /// One directory and what is below.
    Below(usize, PathBuf),
}

/// What a scan found out about the watches.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// Directories that the kernel does not watch although they can be read.
    pub(crate) unwatched: usize,
    /// Watched directories that do not exist.
    pub(crate) missing: Vec<usize>,
    /// It went through everything.
    pub(crate) complete: bool,
}

pub(crate) struct Tree {
    pub(crate) roots: Vec<Root>,
    pub(crate) settle: Duration,
    reporter: Reporter,
    state: Mutex<State>,
}

struct State {
    /// Absent when the kernel gives no inotify instance: then there are only scans.
    inotify: Option<Watches>,
    directories: HashMap<i32, Directory>,
    /// Files that were made and not closed yet.
    unfinished: HashMap<FileRef, Instant>,
    /// Directories that were reported as unwatched.
    reported: HashSet<PathBuf>,
}

struct Directory {
    watch: WatchDescriptor,
    root: usize,
    relative: PathBuf,
}

impl Tree {
    pub(crate) fn new(
        roots: Vec<Root>,
        settle: Duration,
        inotify: Option<Watches>,
        reporter: Reporter,
    ) -> Self {
        let state = State {
            inotify,
            directories: HashMap::new(),
            unfinished: HashMap::new(),
            reported: HashSet::new(),
        };
        Self { roots, settle, reporter, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole path of a file.
    pub(crate) fn path(&self, file: &FileRef) -> PathBuf {
        self.roots[file.root].path.join(&file.relative)
    }

    /// Takes note of a change. Gives what should be scanned now.
    pub(crate) fn saw(&self, event: &EventOwned, pending: &Pending) -> Option<Scope> {
        let mask = event.mask;
        if mask.contains(EventMask::Q_OVERFLOW) {
            self.state().unfinished.clear();
            self.reporter.tell(CollectorEvent::Overflow);
            return Some(Scope::Everything);
        }
        let mut state = self.state();
        let id = event.wd.get_watch_descriptor_id();
        if mask.contains(EventMask::IGNORED) {
            let gone = state.directories.remove(&id)?;
            // A watched directory itself went away: scans wait for it to come back.
            let is_root = gone.relative.as_os_str().is_empty();
            return is_root.then_some(Scope::Below(gone.root, gone.relative));
        }
        let directory = state.directories.get(&id)?;
        let name: &OsStr = event.name.as_deref()?;
        if !policy::is_wanted(name) {
            return None;
        }
        let (root, relative) = (directory.root, directory.relative.join(name));
        if mask.contains(EventMask::ISDIR) {
            if mask.contains(EventMask::MOVED_FROM) {
                state.unwatch(root, &relative);
                return None;
            }
            return mask
                .intersects(EventMask::CREATE | EventMask::MOVED_TO)
                .then_some(Scope::Below(root, relative));
        }
        let file = FileRef { root, relative: relative.into() };
        if mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO) {
            state.unfinished.remove(&file);
            drop(state);
            pending.push(file);
        } else if mask.contains(EventMask::MOVED_FROM) {
            state.unfinished.remove(&file);
        } else if mask.contains(EventMask::CREATE) {
            drop(state);
            self.saw_new_file(file, pending);
        }
        None
    }

    /// A new name is either a file that somebody writes now and will close, or another name for a file that is there.
    fn saw_new_file(&self, file: FileRef, pending: &Pending) {
        match self.path(&file).symlink_metadata() {
            Ok(found) if found.is_file() && found.nlink() > 1 => {
                pending.settle(Instant::now() + self.settle, Settling { file, stamp: Some(stamp(&found)) });
            }
            Ok(found) if found.is_file() => _ = self.state().unfinished.insert(file, Instant::now()),
            _ => {}
        }
    }

    /// Watches and lists directories; whatever is not known to the journal begins to settle. Blocking.
    pub(crate) fn scan(
        &self,
        scope: &Scope,
        journal: &Mutex<Journal>,
        pending: &Pending,
        stop: &CancellationToken,
    ) -> (Scanned, HashSet<Digest16>) {
        let mut scanned = Scanned { complete: true, ..Scanned::default() };
        let mut seen = HashSet::new();
        let mut open: Vec<(usize, PathBuf)> = match scope {
            Scope::Everything => {
                self.state().unfinished.retain(|_, made| made.elapsed() < LONGEST_WRITE);
                (0..self.roots.len()).map(|root| (root, PathBuf::new())).collect()
            }
            Scope::Below(root, relative) => vec![(*root, relative.clone())],
        };
        while let Some((root, relative)) = open.pop() {
            while pending.is_crowded() && !stop.is_cancelled() {
                pending.wait_for_room(Duration::from_millis(200));
            }
            if stop.is_cancelled() {
                scanned.complete = false;
                break;
            }
            let path = if relative.as_os_str().is_empty() {
                self.roots[root].path.clone()
            } else {
                self.roots[root].path.join(&relative)
            };
            // First the watch, then the listing: what comes in between is seen twice rather than never.
            match self.watch(root, &relative, &path) {
                Ok(()) => _ = self.state().reported.remove(&path),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    if relative.as_os_str().is_empty() {
                        scanned.missing.push(root);
                        self.report_unwatched(&path, &e);
                    }
                    continue;
                }
                Err(e) => {
                    // What may not be read, no scan can read either.
                    scanned.unwatched += usize::from(e.kind() != io::ErrorKind::PermissionDenied);
                    self.report_unwatched(&path, &e);
                }
            }
            let Ok(entries) = std::fs::read_dir(&path) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                if !policy::is_wanted(&name) {
                    continue;
                }
                let below = relative.join(&name);
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    open.push((root, below));
                } else if kind.is_file()
                    && let Ok(found) = entry.metadata()
                {
                    let file = FileRef { root, relative: below.into() };
                    seen.insert(self.look_at(file, &found, journal, pending));
                }
            }
        }
        (scanned, seen)
    }

    fn look_at(
        &self,
        file: FileRef,
        found: &Metadata,
        journal: &Mutex<Journal>,
        pending: &Pending,
    ) -> Digest16 {
        let path = Digest16::of_path(&self.path(&file));
        let stamp = stamp(found);
        let is_known = journal.lock().unwrap_or_else(PoisonError::into_inner).is_known(path, &stamp);
        let is_unfinished =
            self.state().unfinished.get(&file).is_some_and(|made| made.elapsed() < LONGEST_WRITE);
        if stamp.size > 0 && !is_known && !is_unfinished {
            pending.settle(Instant::now() + self.settle, Settling { file, stamp: Some(stamp) });
        }
        path
    }

    /// Looks again at files that were left to settle: what is still the same is queued. Blocking.
    pub(crate) fn look_again(&self, settled: Vec<Settling>, pending: &Pending) {
        for Settling { file, stamp: before } in settled {
            let Ok(found) = self.path(&file).symlink_metadata() else { continue };
            let now = stamp(&found);
            if !found.is_file() {
                continue;
            }
            if before.is_none_or(|before| before == now) {
                pending.push(file);
            } else {
                pending.settle(Instant::now() + self.settle, Settling { file, stamp: Some(now) });
            }
        }
    }

    fn watch(&self, root: usize, relative: &Path, path: &Path) -> io::Result<()> {
        let mut mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::ONLYDIR
            | WatchMask::EXCL_UNLINK;
        if !relative.as_os_str().is_empty() {
            // Only the directory that was asked for may be named by a link.
            mask |= WatchMask::DONT_FOLLOW;
        }
        let mut state = self.state();
        let inotify = state.inotify.as_mut().ok_or_else(|| io::Error::other("inotify is not available"))?;
        let watch = inotify.add(path, mask)?;
        let directory = Directory { watch: watch.clone(), root, relative: relative.to_owned() };
        state.directories.insert(watch.get_watch_descriptor_id(), directory);
        Ok(())
    }

    fn report_unwatched(&self, path: &Path, error: &io::Error) {
        let mut state = self.state();
        // One word for many directories: at the limit of watches there may be thousands.
        if state.reported.len() < 100 && state.reported.insert(path.to_owned()) {
            let reason = match error.raw_os_error() {
                Some(28) => {
                    "the limit of inotify watches is reached (fs.inotify.max_user_watches)".to_owned()
                }
                _ => error.to_string(),
            };
            self.reporter.tell(CollectorEvent::Unwatched { directory: path.to_owned(), reason });
        }
    }
}

impl State {
    /// A directory was moved away: what happens in it is not ours any more, unless it comes back.
    fn unwatch(&mut self, root: usize, relative: &Path) {
        let Self { inotify: Some(inotify), directories, .. } = self else { return };
        directories.retain(|_, directory| {
            let moved = directory.root == root && directory.relative.starts_with(relative);
            if moved {
                // The directory may have gone meanwhile, and its watch with it.
                inotify.remove(directory.watch.clone()).ok();
            }
            !moved
        });
    }
}

/// The stamp of a file's present state.
pub(crate) fn stamp(found: &Metadata) -> Stamp {
    let mtime = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
    Stamp { device: found.dev(), inode: found.ino(), size: found.size(), mtime }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn without_a_watch_scans_find_what_stays_the_same() {
        let home = tempfile::tempdir().unwrap();
        let (root, below) = (home.path().join("root"), home.path().join("root/below"));
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join("a"), "1").unwrap();
        let (events, mut told) = mpsc::channel(10);
        let roots = vec![Root { path: root, name: "root".into() }];
        let tree = Tree::new(roots, Duration::from_millis(1), None, Reporter::new(events));
        let journal = Mutex::new(Journal::open(&home.path().join("log")).unwrap());
        let (pending, stop) = (Pending::default(), CancellationToken::new());
        let (scanned, seen) = tree.scan(&Scope::Everything, &journal, &pending, &stop);
        assert!(scanned.complete);
        assert_eq!((scanned.unwatched, seen.len()), (2, 1));
        assert!(matches!(told.try_recv(), Ok(CollectorEvent::Unwatched { .. })));
        // It changes while it settles: it settles again.
        let settled = pending.settled().await;
        std::fs::write(below.join("a"), "12").unwrap();
        tree.look_again(settled, &pending);
        tree.look_again(pending.settled().await, &pending);
        assert_eq!(&*pending.take().await.relative, Path::new("below/a"));
    }
}
