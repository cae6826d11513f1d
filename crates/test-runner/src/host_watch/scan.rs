//! Reads a host's packages, kernels and configuration files from disk, and says which directories would have
//! to be watched to notice a change. Blocking; reads only; opens nothing but regular files.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs::{File, Metadata, OpenOptions},
    io::{self, BufReader},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::OFlags;
use tracing::warn;
use walkdir::WalkDir;

use super::{
    ConfigGlob, HostChangeKind,
    databases::{self, Packages},
    rooted,
    snapshot::{Areas, Kernel, Snapshot},
    watches::{Care, Cares},
};

type ReadDatabase = fn(BufReader<File>) -> io::Result<Packages>;

/// Databases that are read, package by package.
const READ: [(&str, ReadDatabase); 3] = [
    ("/var/lib/dpkg/status", databases::read_dpkg),
    ("/lib/apk/db/installed", databases::read_apk),
    ("/usr/lib/apk/db/installed", databases::read_apk),
];
/// Databases that are digested: sqlite, Berkeley DB and NDB, in the old place and the new.
const DIGESTED: [&str; 6] = [
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages",
    "/var/lib/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages",
    "/usr/lib/sysimage/rpm/Packages.db",
];
/// A package manager writes a new file beside the old one and renames it.
const UNFINISHED: [&str; 7] =
    [".dpkg-new", ".dpkg-tmp", ".dpkg-old", ".dpkg-bak", ".rpmnew", ".rpmsave", ".old"];
/// So that a pattern like `/**` cannot eat the memory.
const MOST_FILES: usize = 100_000;
/// See [`MOST_FILES`]; the kernel's own limit on watches is often lower.
const MOST_DIRS: usize = 50_000;
/// A file that changed this recently may change again without a new time stamp.
const STAMPS_SETTLE_IN: Duration = Duration::from_secs(2);

/// Reads from disk; remembers digests by time stamp, so that what was not touched is not read again.
#[derive(Debug)]
pub(super) struct Scanner {
    root: PathBuf,
    globs: Vec<ConfigGlob>,
    known: HashMap<PathBuf, Known>,
    round: u64,
    told_too_many: bool,
}

#[derive(Clone, Debug)]
struct Known {
    /// `None` when the file is too young for its stamp to be trusted.
    stamp: Option<Stamp>,
    digest: blake3::Hash,
    round: u64,
    told_unreadable: bool,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata, now: SystemTime) -> Option<Self> {
        let changed = (meta.ctime(), meta.ctime_nsec());
        let since = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let settled =
            changed.0.checked_add_unsigned(STAMPS_SETTLE_IN.as_secs())? < i64::try_from(since).ok()?;
        settled.then(|| Self {
            file: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed,
        })
    }
}

/// What one area's scan asks to be woken for.
#[derive(Debug, Default)]
struct Wishes(BTreeMap<PathBuf, Vec<Care>>);

impl Wishes {
    fn add(&mut self, dir: PathBuf, care: Care) {
        let cares = self.0.entry(dir).or_default();
        if !cares.contains(&care) {
            cares.push(care);
        }
    }

    fn hinges(&mut self, hinges: Vec<(PathBuf, OsString)>) {
        for (dir, entry) in hinges {
            self.add(dir, Care::Entry(entry));
        }
    }
}

impl Scanner {
    pub(super) fn new(root: PathBuf, globs: Vec<ConfigGlob>) -> Self {
        Self { root, globs, known: HashMap::new(), round: 0, told_too_many: false }
    }

    pub(super) fn globs(&self) -> &[ConfigGlob] {
        &self.globs
    }

    /// Reads the given areas into the snapshot and says what to watch for them.
    pub(super) fn scan(&mut self, areas: Areas, snapshot: &mut Snapshot) -> Cares {
        self.round += 1;
        let mut cares = Cares::new();
        for kind in areas.kinds() {
            let mut wishes = Wishes::default();
            match kind {
                HostChangeKind::Package => self.packages(snapshot, &mut wishes),
                HostChangeKind::Kernel => snapshot.kernels = self.kernels(&mut wishes),
                HostChangeKind::Config => snapshot.config = self.config(&mut wishes),
            }
            cares.insert(kind, wishes.0);
        }
        cares
    }

    /// Where a path of the host really is. What cannot be looked up counts as missing.
    fn find(&self, path: &Path, wishes: &mut Wishes) -> Option<PathBuf> {
        let found = rooted::find(&self.root, path).ok()?;
        wishes.hinges(found.hinges);
        found.real
    }

    fn packages(&mut self, snapshot: &mut Snapshot, wishes: &mut Wishes) {
        let mut packages: BTreeMap<PathBuf, Packages> = BTreeMap::new();
        let mut seen = Vec::new();
        for (path, read) in READ {
            let path = Path::new(path);
            let Some(real) = self.find(path, wishes).filter(|real| !seen.contains(real)) else { continue };
            let before = snapshot.packages.get(path);
            match open_regular(&real).and_then(|(file, _)| read(BufReader::new(file))) {
                Ok(read) => drop(packages.insert(path.to_path_buf(), read.settle(before))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    warn!(error = %e, "cannot read the package database `{}`", real.display());
                    packages.extend(before.map(|before| (path.to_path_buf(), before.clone())));
                }
            }
            seen.push(real);
        }
        snapshot.packages = packages;
        snapshot.rpm.clear();
        for path in DIGESTED.map(Path::new) {
            // One of the places is often a link to the other.
            let Some(real) = self.find(path, wishes).filter(|real| !seen.contains(real)) else { continue };
            if let Some(digest) = self.digest(&real) {
                snapshot.rpm.insert(path.to_path_buf(), digest);
                seen.push(real);
            }
        }
    }

    fn kernels(&mut self, wishes: &mut Wishes) -> BTreeMap<String, Kernel> {
        let mut kernels: BTreeMap<String, Kernel> = BTreeMap::new();
        let boot = Path::new("/boot");
        for name in self.entries(boot, wishes) {
            let Some(version) = name.to_str().and_then(|name| name.strip_prefix("vmlinuz-")) else {
                continue;
            };
            // rpm's own temporary names end in `;` and a number.
            let finished = !version.contains(';') && !UNFINISHED.iter().any(|end| version.ends_with(end));
            let path = boot.join(&name);
            let Some(real) = self.find(&path, wishes).filter(|_| finished) else { continue };
            if let Some(digest) = self.digest(&real) {
                kernels.entry(version.to_owned()).or_default().image = Some((path, digest));
            }
        }
        let modules = Path::new("/lib/modules");
        for name in self.entries(modules, wishes) {
            let path = modules.join(&name);
            let is_dir = self.find(&path, wishes).is_some_and(|real| real.is_dir());
            if let (true, Ok(version)) = (is_dir, name.into_string()) {
                kernels.entry(version).or_default().modules = Some(path);
            }
        }
        kernels
    }

    /// Names in a directory of the host; none when it is missing.
    fn entries(&self, dir: &Path, wishes: &mut Wishes) -> Vec<OsString> {
        let Some(real) = self.find(dir, wishes) else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(&real) else { return Vec::new() };
        wishes.add(real, Care::AnyEntry);
        entries.flatten().map(|entry| entry.file_name()).take(MOST_FILES).collect()
    }

    fn config(&mut self, wishes: &mut Wishes) -> BTreeMap<PathBuf, blake3::Hash> {
        let mut files = BTreeMap::new();
        for glob in self.globs.clone() {
            let Some(base) = self.find(glob.base(), wishes) else { continue };
            let walk = WalkDir::new(&base).max_depth(glob.depth().unwrap_or(usize::MAX)).sort_by_file_name();
            // What vanished or may not be read is not there.
            for entry in walk.into_iter().flatten() {
                let below = entry.path().strip_prefix(&base).unwrap_or(Path::new(""));
                let path = if below.as_os_str().is_empty() {
                    glob.base().to_owned()
                } else {
                    glob.base().join(below)
                };
                if entry.file_type().is_dir() {
                    if glob.depth().is_none_or(|depth| entry.depth() < depth) {
                        if wishes.0.len() == MOST_DIRS {
                            self.tell_too_many(&glob);
                            return self.finish(files);
                        }
                        wishes.add(entry.into_path(), Care::Config(path));
                    }
                    continue;
                }
                if !glob.is_match(&path) || files.contains_key(&path) {
                    continue;
                }
                if files.len() == MOST_FILES {
                    self.tell_too_many(&glob);
                    return self.finish(files);
                }
                // The host's own name of what the walk met: links in front of `base` are resolved by now.
                let real =
                    if entry.path_is_symlink() { self.find(&path, wishes) } else { Some(entry.into_path()) };
                if let Some(digest) = real.and_then(|real| self.digest(&real)) {
                    files.insert(path, digest);
                }
            }
        }
        self.finish(files)
    }

    fn finish(&mut self, files: BTreeMap<PathBuf, blake3::Hash>) -> BTreeMap<PathBuf, blake3::Hash> {
        // Digests of kernels and databases are few; those of configuration files that are gone are dropped
        // here.
        let (round, few) = (self.round, 1000);
        if self.known.len() > files.len() + few {
            self.known.retain(|_, known| known.round == round);
        }
        files
    }

    fn tell_too_many(&mut self, glob: &ConfigGlob) {
        if !std::mem::replace(&mut self.told_too_many, true) {
            warn!(
                "more than {MOST_FILES} files or {MOST_DIRS} directories; `{}` is watched in part",
                glob.as_str(),
            );
        }
    }

    /// The digest of a regular file; `None` for anything else. A file that cannot be read keeps its last
    /// digest: that it is unreadable says nothing about its content.
    fn digest(&mut self, real: &Path) -> Option<blake3::Hash> {
        let round = self.round;
        let known = self.known.get_mut(real);
        let read = open_regular(real).and_then(|(file, meta)| {
            let stamp = Stamp::of(&meta, SystemTime::now());
            if let Some(known) = known.as_ref().filter(|known| stamp.is_some() && known.stamp == stamp) {
                return Ok((stamp, known.digest));
            }
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file)?;
            Ok((stamp, hasher.finalize()))
        });
        match (read, known) {
            (Ok((stamp, digest)), _) => {
                let known = Known { stamp, digest, round, told_unreadable: false };
                self.known.insert(real.to_path_buf(), known);
                Some(digest)
            }
            (Err(e), Some(known)) if !is_no_file(&e) => {
                if !std::mem::replace(&mut known.told_unreadable, true) {
                    warn!(error = %e, "cannot read `{}`; it counts as unchanged", real.display());
                }
                known.round = round;
                Some(known.digest)
            }
            (Err(_), _) => {
                self.known.remove(real);
                None
            }
        }
    }
}

fn is_no_file(e: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    matches!(e.kind(), NotFound | NotADirectory | InvalidInput)
}

/// Opens a regular file; a device or FIFO is neither opened nor waited for.
fn open_regular(real: &Path) -> io::Result<(File, Metadata)> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    if !real.symlink_metadata()?.is_file() {
        return Err(no_file());
    }
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(real)?;
    let meta = file.metadata()?;
    if meta.is_file() { Ok((file, meta)) } else { Err(no_file()) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const CONFIG: Areas = Areas { packages: false, kernel: false, config: true };

    struct Host {
        dir: tempfile::TempDir,
        scanner: Scanner,
    }

    impl Host {
        fn new(globs: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let globs = globs.iter().map(|glob| glob.parse().unwrap()).collect();
            let scanner = Scanner::new(dir.path().to_path_buf(), globs);
            Self { dir, scanner }
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.real(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn link(&self, target: &str, path: &str) {
            fs::create_dir_all(self.real(path).parent().unwrap()).unwrap();
            symlink(target, self.real(path)).unwrap();
        }

        fn real(&self, path: &str) -> PathBuf {
            self.dir.path().join(path.trim_start_matches('/'))
        }

        fn scan(&mut self, areas: Areas) -> (Snapshot, Cares) {
            let mut snapshot = Snapshot::default();
            let cares = self.scanner.scan(areas, &mut snapshot);
            (snapshot, cares)
        }

        fn config(&mut self) -> Vec<String> {
            let (snapshot, _) = self.scan(CONFIG);
            snapshot.config.keys().map(|path| path.display().to_string()).collect()
        }
    }

    #[test]
    fn finds_the_files_that_match_and_no_others() {
        let mut host = Host::new(&["/etc/app/*.conf", "/etc/deep/**/*.ini"]);
        for path in
            ["/etc/app/a.conf", "/etc/app/b.txt", "/etc/app/sub/c.conf", "/etc/deep/x/y/z.ini", "/etc/z.ini"]
        {
            host.write(path, "x");
        }
        assert_eq!(host.config(), ["/etc/app/a.conf", "/etc/deep/x/y/z.ini"]);
    }

    #[test]
    fn follows_links_to_files_inside_the_root_only() {
        let mut host = Host::new(&["/etc/app/*"]);
        host.write("/data/v1/app.conf", "one");
        host.write("/data/v2/app.conf", "two");
        host.link("/data/current/app.conf", "/etc/app/app.conf");
        host.link("v1", "/data/current");
        host.link("/etc/passwd-of-another-root", "/etc/app/dangling");
        let (first, cares) = host.scan(CONFIG);
        assert_eq!(first.config.keys().collect::<Vec<_>>(), [Path::new("/etc/app/app.conf")]);
        let watched = &cares[&HostChangeKind::Config];
        assert!(watched[&host.real("/data")].contains(&Care::Entry("current".into())));
        assert!(watched[&host.real("/data/v1")].contains(&Care::Entry("app.conf".into())));
        fs::remove_file(host.real("/data/current")).unwrap();
        host.link("v2", "/data/current");
        assert_ne!(host.scan(CONFIG).0.config, first.config);
    }

    #[test]
    fn a_directory_that_is_missing_is_watched_for_at_its_nearest_ancestor() {
        let mut host = Host::new(&["/etc/app/conf.d/*.conf"]);
        fs::create_dir(host.real("/etc")).unwrap();
        let (_, cares) = host.scan(CONFIG);
        assert_eq!(cares[&HostChangeKind::Config][&host.real("/etc")], [Care::Entry("app".into())]);
    }

    #[test]
    fn fifos_and_directories_are_no_files() {
        let mut host = Host::new(&["/etc/*"]);
        fs::create_dir_all(host.real("/etc/dir")).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, host.real("/etc/fifo"), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        assert!(host.config().is_empty());
    }

    #[test]
    fn a_young_file_is_read_again_although_its_stamp_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "x").unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!(Stamp::of(&meta, SystemTime::now()), None);
        assert!(Stamp::of(&meta, SystemTime::now() + Duration::from_secs(10)).is_some());
    }

    #[test]
    fn finds_databases_in_both_places_and_each_only_once() {
        let mut host = Host::new(&[]);
        host.write("/usr/lib/sysimage/rpm/rpmdb.sqlite", "db");
        host.link("../../usr/lib/sysimage/rpm", "/var/lib/rpm");
        host.write("/usr/lib/apk/db/installed", "P:musl\nV:1\n");
        host.link("usr/lib", "/lib");
        let (snapshot, _) = host.scan(Areas { packages: true, ..Areas::default() });
        assert_eq!(snapshot.rpm.keys().collect::<Vec<_>>(), [Path::new("/var/lib/rpm/rpmdb.sqlite")]);
        assert_eq!(snapshot.packages.keys().collect::<Vec<_>>(), [Path::new("/lib/apk/db/installed")]);
    }

    #[test]
    fn finds_kernels_and_leaves_half_unpacked_ones_alone() {
        let mut host = Host::new(&[]);
        for path in [
            "/boot/vmlinuz-6.1",
            "/boot/vmlinuz-6.2.dpkg-new",
            "/boot/vmlinuz-6.3;65f0",
            "/boot/initrd.img-6.1",
        ] {
            host.write(path, "x");
        }
        fs::create_dir_all(host.real("/usr/lib/modules/6.4")).unwrap();
        host.link("usr/lib", "/lib");
        let (snapshot, _) = host.scan(Areas { kernel: true, ..Areas::default() });
        assert_eq!(snapshot.kernels.keys().collect::<Vec<_>>(), ["6.1", "6.4"]);
    }
}
