//! Which directories the kernel watches for us, and what an event there concerns. Never reads a file.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
};

use inotify::{Event, EventMask, WatchDescriptor, WatchMask};

use super::{ConfigGlob, HostChangeKind, snapshot::Areas};

/// What about a directory is of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// One entry: its content, its coming and going.
    Entry(OsString),
    /// All entries.
    AnyEntry,
    /// All coming and going (a link may swing anywhere), and the content of files that match a pattern. Holds
    /// the host's own name of the directory.
    Config(PathBuf),
}

/// What a scan asks to be woken for, by area and real directory.
pub(super) type Cares = BTreeMap<HostChangeKind, BTreeMap<PathBuf, Vec<Care>>>;

/// What came of asking the kernel.
#[derive(Debug)]
pub(super) enum Synced {
    /// Everything was watched before.
    Same,
    /// New watches were made: what happened just before them is unknown.
    More,
    /// A directory cannot be watched.
    Refused { dir: PathBuf, source: io::Error },
}

/// The kernel's watches.
#[derive(Debug)]
pub(super) struct Watches {
    kernel: inotify::Watches,
    cares: Cares,
    by_dir: BTreeMap<PathBuf, WatchDescriptor>,
    /// Two names of one directory (a bind mount) share a watch.
    by_watch: HashMap<WatchDescriptor, Vec<PathBuf>>,
}

const ENTRIES: WatchMask = WatchMask::CREATE
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);
/// A configuration file may be held open by its writer, or be truncated by name: then nothing is ever closed.
const CONTENT: WatchMask = ENTRIES.union(WatchMask::MODIFY);

impl Watches {
    pub(super) fn new(kernel: inotify::Watches) -> Self {
        Self { kernel, cares: Cares::new(), by_dir: BTreeMap::new(), by_watch: HashMap::new() }
    }

    /// Watches what the scan of `areas` asked for, and no longer what an earlier one did.
    pub(super) fn sync(&mut self, areas: Areas, cares: Cares) -> Synced {
        for kind in areas.kinds() {
            self.cares.remove(&kind);
        }
        self.cares.extend(cares);
        let mut wanted: BTreeMap<&Path, WatchMask> = BTreeMap::new();
        for (kind, dirs) in &self.cares {
            let mask = if *kind == HostChangeKind::Config { CONTENT } else { ENTRIES };
            for dir in dirs.keys() {
                *wanted.entry(dir).or_insert(mask) |= mask;
            }
        }
        let mut outcome = Synced::Same;
        let mut by_dir = BTreeMap::new();
        for (dir, mask) in wanted {
            // Asking again is cheap, and tells whether it is still the same directory.
            match self.kernel.add(dir, mask) {
                Ok(watch) => {
                    if self.by_dir.get(dir) != Some(&watch) && matches!(outcome, Synced::Same) {
                        outcome = Synced::More;
                    }
                    by_dir.insert(dir.to_path_buf(), watch);
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    // It vanished since it was read.
                    if matches!(outcome, Synced::Same) {
                        outcome = Synced::More;
                    }
                }
                Err(source) => outcome = Synced::Refused { dir: dir.to_path_buf(), source },
            }
        }
        self.replace(by_dir);
        outcome
    }

    fn replace(&mut self, by_dir: BTreeMap<PathBuf, WatchDescriptor>) {
        let mut by_watch: HashMap<WatchDescriptor, Vec<PathBuf>> = HashMap::new();
        for (dir, watch) in &by_dir {
            by_watch.entry(watch.clone()).or_default().push(dir.clone());
        }
        for watch in std::mem::take(&mut self.by_watch).into_keys() {
            if !by_watch.contains_key(&watch) {
                // Fails when the directory is gone, and its watch with it.
                let _ = self.kernel.remove(watch);
            }
        }
        self.by_dir = by_dir;
        self.by_watch = by_watch;
    }

    /// Which areas an event concerns.
    pub(super) fn concerns<S: AsRef<OsStr>>(&self, event: &Event<S>, globs: &[ConfigGlob]) -> Areas {
        let mut areas = Areas::default();
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            // Whatever was lost, a reading of everything finds it.
            for kind in self.cares.keys() {
                areas.add(Areas::of(*kind));
            }
            return areas;
        }
        let Some(dirs) = self.by_watch.get(&event.wd) else { return areas };
        for (kind, cares) in &self.cares {
            let cares = dirs.iter().filter_map(|dir| cares.get(dir)).flatten();
            let name = event.name.as_ref().map(AsRef::as_ref);
            if cares.into_iter().any(|care| care.concerns(event.mask, name, globs)) {
                areas.add(Areas::of(*kind));
            }
        }
        areas
    }
}

impl Care {
    fn concerns(&self, mask: EventMask, name: Option<&OsStr>, globs: &[ConfigGlob]) -> bool {
        // Without a name it happened to the directory itself.
        let Some(name) = name else { return true };
        match self {
            Self::Entry(entry) => entry == name,
            Self::AnyEntry => true,
            Self::Config(dir) => {
                let content = EventMask::CLOSE_WRITE | EventMask::MODIFY;
                let path = dir.join(name);
                !mask.intersects(content) || globs.iter().any(|glob| glob.is_match(&path))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_concerns_configuration_only_when_a_pattern_matches() {
        let globs = ["/etc/app/*.conf".parse().unwrap()];
        let care = Care::Config("/etc/app".into());
        let concerns = |mask, name: &str| care.concerns(mask, Some(OsStr::new(name)), &globs);
        assert!(concerns(EventMask::CLOSE_WRITE, "a.conf"));
        assert!(concerns(EventMask::MODIFY, "a.conf"));
        assert!(!concerns(EventMask::MODIFY, "a.log"));
        assert!(concerns(EventMask::MOVED_TO, "..data"), "a link's target may have been swapped");
    }

    #[test]
    fn other_entries_of_a_databases_directory_do_not_matter() {
        let care = Care::Entry("status".into());
        assert!(care.concerns(EventMask::MOVED_TO, Some(OsStr::new("status")), &[]));
        assert!(!care.concerns(EventMask::CLOSE_WRITE, Some(OsStr::new("lock")), &[]));
        assert!(care.concerns(EventMask::DELETE_SELF, None, &[]));
    }
}
