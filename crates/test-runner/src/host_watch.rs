//! Tells what changed on a host: packages, kernels, configuration files.
//!
//! Reads one snapshot, waits for inotify to say that something moved, waits until it is quiet again, reads
//! the next snapshot and reports the difference. Never runs a package manager, never writes, never follows a
//! link out of the root that it was given (`/host` in a container), and never decides which test a change
//! concerns.

mod config_glob;
mod databases;
mod quiet;
mod rooted;
mod scan;
mod snapshot;
mod watches;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt;
use inotify::{EventStream, Inotify};
use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinError, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub use config_glob::{BadConfigGlob, ConfigGlob};
use quiet::Quiet;
use scan::Scanner;
use snapshot::{Areas, Snapshot};
use watches::{Synced, Watches};

/// How long nothing may have moved before a snapshot is taken: a package manager writes and renames in
/// bursts.
const QUIET_FOR: Duration = Duration::from_millis(500);
/// How long a burst may last before a snapshot is taken in its midst.
const AT_THE_LATEST: Duration = Duration::from_secs(5);
/// How often to look when the kernel grants no (more) watches.
const WITHOUT_WATCHES: Duration = Duration::from_secs(60);
/// How long a change may wait for its reader after the end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often new directories may appear under our hands before the scan goes on without them.
const ROUNDS: usize = 16;
/// inotify hands out whole events only; this holds some hundreds.
const BUFFER: usize = 32 * 1024;

/// What to watch.
#[derive(Clone, Debug)]
pub struct HostWatchSettings {
    /// Where the host's file system is: `/`, or the place where it is mounted in a container.
    pub root: PathBuf,
    /// Absolute paths on the host, as [`ConfigGlob`] understands them.
    pub config_globs: Vec<String>,
    /// Whether to watch the databases of dpkg, rpm and apk.
    pub packages: bool,
    /// Whether to watch for kernels.
    pub kernel: bool,
}

/// What kind of thing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostChangeKind {
    /// A package was installed, removed or updated.
    Package,
    /// A kernel came, went or was replaced.
    Kernel,
    /// A configuration file's content changed, or it came or went.
    Config,
}

/// One change on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostChange {
    /// Its kind.
    pub kind: HostChangeKind,
    /// One line for people: `updated libc6:amd64 from 2.36-9 to 2.36-10`.
    pub detail: String,
    /// The file behind it, as the host names it (without [`HostWatchSettings::root`]).
    pub path: Option<PathBuf>,
    /// When it was noticed.
    pub at: Timestamp,
}

/// Why a host cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum HostWatchError {
    /// A pattern makes no sense.
    #[error(transparent)]
    Glob(#[from] BadConfigGlob),
    /// The root is not a directory that can be read.
    #[error("cannot watch `{}`: is the host's file system mounted there?", root.display())]
    Root {
        /// The root.
        root: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel refuses inotify.
    #[error("cannot watch files; the sysctl fs.inotify.max_user_instances may be too low")]
    Inotify(#[source] io::Error),
    /// A scan panicked.
    #[error("a scan of the host ended before its time")]
    Scan(#[source] JoinError),
}

/// A watch whose first snapshot has been taken: whatever happens from here on is reported.
pub struct HostWatch {
    events: EventStream<Vec<u8>>,
    eyes: Eyes,
}

/// Watches a host until it is told to stop or nobody listens any more.
pub async fn watch(
    settings: HostWatchSettings,
    out: mpsc::Sender<HostChange>,
    stop: CancellationToken,
) -> Result<(), HostWatchError> {
    HostWatch::open(settings).await?.run(out, stop).await
}

impl HostWatch {
    /// Takes the first snapshot, against which all changes are measured.
    pub async fn open(settings: HostWatchSettings) -> Result<Self, HostWatchError> {
        let globs =
            settings.config_globs.iter().map(|glob| glob.parse()).collect::<Result<Vec<ConfigGlob>, _>>()?;
        let root = settings.root;
        if let Err(source) = std::fs::read_dir(&root) {
            return Err(HostWatchError::Root { root, source });
        }
        let inotify = Inotify::init().map_err(HostWatchError::Inotify)?;
        let watches = Watches::new(inotify.watches());
        let events = inotify.into_event_stream(vec![0; BUFFER]).map_err(HostWatchError::Inotify)?;
        let wanted =
            Areas { packages: settings.packages, kernel: settings.kernel, config: !globs.is_empty() };
        let scanner = Scanner::new(root, globs);
        let mut eyes = Eyes { scanner, watches, wanted, snapshot: Snapshot::default(), blind: false };
        eyes = off_thread(move || {
            eyes.look(wanted);
            eyes
        })
        .await?;
        Ok(Self { events, eyes })
    }

    /// Reports changes until it is told to stop or nobody listens any more. Before it stops it looks once more, so
    /// that a watch which takes over from this one misses nothing.
    pub async fn run(
        self,
        out: mpsc::Sender<HostChange>,
        stop: CancellationToken,
    ) -> Result<(), HostWatchError> {
        let Self { mut events, mut eyes } = self;
        let mut dirty = Areas::default();
        let mut quiet = Quiet::new(QUIET_FOR, AT_THE_LATEST);
        let mut next_round = eyes.next_round();
        loop {
            let due = [quiet.due(), next_round].into_iter().flatten().min();
            let last = tokio::select! {
                biased;
                () = out.closed() => return Ok(()),
                () = stop.cancelled() => true,
                () = sleep_until(due) => false,
                event = events.next() => {
                    let event = event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
                    let event = event.map_err(HostWatchError::Inotify)?;
                    let hit = eyes.watches.concerns(&event, eyes.scanner.globs());
                    if hit.any() {
                        dirty.add(hit);
                        quiet.moved(Instant::now());
                    }
                    continue;
                }
            };
            if last || next_round.is_some_and(|round| round <= Instant::now()) {
                dirty = eyes.wanted;
            }
            quiet.reset();
            let areas = std::mem::take(&mut dirty);
            let changes;
            (eyes, changes) = off_thread(move || {
                let before = eyes.snapshot.clone();
                eyes.look(areas);
                let changes = snapshot::diff(&before, &eyes.snapshot, Timestamp::now());
                (eyes, changes)
            })
            .await?;
            report(changes, &out, &stop).await;
            if last {
                return Ok(());
            }
            next_round = eyes.next_round();
        }
    }
}

/// Hands on changes. Once the watch has been told to stop, it does not wait long for a reader.
async fn report(changes: Vec<HostChange>, out: &mpsc::Sender<HostChange>, stop: &CancellationToken) {
    for change in changes {
        debug!(kind = ?change.kind, "host: {}", change.detail);
        let patience = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            biased;
            sent = out.send(change) => if sent.is_err() { return },
            () = patience => return,
        }
    }
}

/// What sees: the scanner, the watches it asks for, and the picture so far.
struct Eyes {
    scanner: Scanner,
    watches: Watches,
    wanted: Areas,
    snapshot: Snapshot,
    /// Whether some directory has no watch, so that only a regular look can tell.
    blind: bool,
}

impl Eyes {
    /// Reads the given areas anew. A directory is watched *before* the last reading of it, so nothing that
    /// happens in between is lost: the loop ends with a reading that asked for no new watch.
    fn look(&mut self, areas: Areas) {
        for _ in 0..ROUNDS {
            let cares = self.scanner.scan(areas, &mut self.snapshot);
            match self.watches.sync(areas, cares) {
                Synced::Same => {
                    self.blind = false;
                    return;
                }
                Synced::More => {}
                Synced::Refused { dir, source } => {
                    if !self.blind {
                        warn!(
                            error = %source,
                            "no watch on `{}`; looking every {} s instead (sysctl fs.inotify.max_user_watches)",
                            dir.display(), WITHOUT_WATCHES.as_secs(),
                        );
                    }
                    self.blind = true;
                    return;
                }
            }
        }
        // Directories appear faster than they can be read: come back.
        self.blind = true;
    }

    fn next_round(&self) -> Option<Instant> {
        self.blind.then(|| Instant::now() + WITHOUT_WATCHES)
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HostWatchError> {
    tokio::task::spawn_blocking(work).await.map_err(HostWatchError::Scan)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// A path for a sentence: names on a disk may hold line breaks.
fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
