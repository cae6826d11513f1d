//! Collects the files of watched directories: closed after writing, renamed in, or found by a scan; each version of
//! each file once. Changes nothing in those directories and follows no link in them.
//!
//! Events tell when a file is complete. A scan cannot know that: what it finds must stay the same for a while. Scans
//! run at start, when a directory appears, when the kernel's queue has overflowed, and from time to time; often while
//! a directory is missing or cannot be watched.

mod intake;
pub(crate) mod journal;
mod pending;
mod policy;
mod tree;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use inotify::Inotify;
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use self::{
    intake::{About, IntakeError, Opened, Taken},
    journal::{Digest16, Journal},
    pending::{FileRef, Pending, Settling},
    tree::{Root, Scanned, Scope, Tree},
};
use crate::{
    activity::{CollectorEvent, Reporter},
    backoff,
    collector::Limits,
    delivery::{chain, jitter},
    spool::Spool,
};

/// How many files are read at once; most of that time they wait for the disk together.
const WORKERS: usize = 16;
/// The shortest time between scans that make up for missing watches.
const SOON: Duration = Duration::from_secs(1);
/// How long files at work may still take when the collector stops.
const GRACE: Duration = Duration::from_secs(3);
/// A buffer for events of the kernel.
const BUFFER: usize = 64 * 1024;

/// Watches directories.
pub(crate) struct DirWatch {
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) spool: Spool,
    pub(crate) journal: Journal,
    pub(crate) reporter: Reporter,
    pub(crate) hostname: Arc<str>,
    pub(crate) limits: Limits,
}

struct Shared {
    tree: Tree,
    pending: Pending,
    journal: Mutex<Journal>,
    spool: Spool,
    reporter: Reporter,
    hostname: Arc<str>,
    limits: Limits,
}

/// Watches until `stop`.
pub(crate) async fn run(watch: DirWatch, stop: CancellationToken) {
    let inotify = Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; BUFFER]));
    let watches = inotify.as_ref().ok().map(inotify::EventStream::watches);
    let roots = roots(&watch.directories);
    let shared = Arc::new(Shared {
        tree: Tree::new(roots, watch.limits.settle, watches, watch.reporter.clone()),
        pending: Pending::default(),
        journal: Mutex::new(watch.journal),
        spool: watch.spool,
        reporter: watch.reporter,
        hostname: watch.hostname,
        limits: watch.limits,
    });
    let (scans, asked) = mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    if let Ok(mut events) = inotify {
        let shared = Arc::clone(&shared);
        watchers.spawn(async move {
            while let Some(event) = events.next().await {
                let scope = match event {
                    Ok(event) => shared.tree.saw(&event, &shared.pending),
                    Err(_) => Some(Scope::Everything),
                };
                if let Some(scope) = scope {
                    scans.send(scope).ok();
                }
            }
        });
    }
    watchers.spawn(scan_when_needed(Arc::clone(&shared), asked, stop.clone()));
    watchers.spawn(look_again(Arc::clone(&shared)));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work(Arc::clone(&shared), stop.clone()));
    }
    stop.cancelled().await;
    let ended = async { while workers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, ended).await;
    if let Err(e) = shared.journal.lock().unwrap_or_else(PoisonError::into_inner).sync() {
        tracing::warn!(error = %e, "cannot flush the journal of files");
    }
}

/// The directories to watch, each once: one that lies in another is seen with that one.
fn roots(directories: &[PathBuf]) -> Vec<Root> {
    let whole =
        |path: &PathBuf| path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or(path.clone());
    let mut paths: Vec<PathBuf> = directories.iter().map(whole).collect();
    paths.sort();
    let mut roots: Vec<Root> = Vec::new();
    for path in paths {
        if roots.last().is_none_or(|root| !path.starts_with(&root.path)) {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            roots.push(Root { path, name });
        }
    }
    roots
}

async fn scan_when_needed(
    shared: Arc<Shared>,
    mut asked: mpsc::UnboundedReceiver<Scope>,
    stop: CancellationToken,
) {
    let mut scopes = vec![Scope::Everything];
    let mut missing = BTreeSet::new();
    let mut everything_due = Instant::now();
    loop {
        if scopes.contains(&Scope::Everything) {
            scopes = vec![Scope::Everything];
            missing.clear();
            everything_due = Instant::now() + shared.limits.rescan;
        }
        for scope in scopes {
            let began = Instant::now();
            let (for_scan, stop) = (Arc::clone(&shared), stop.clone());
            let scanned = spawn_blocking(move || for_scan.scan(&scope, &stop)).await.unwrap_or_default();
            missing.extend(scanned.missing);
            if scanned.unwatched > 0 {
                // While the kernel does not tell, scans must; they take a tenth of the time at most.
                let soon = Instant::now() + SOON.max(began.elapsed() * 10);
                everything_due = everything_due.min(soon);
            }
        }
        scopes = loop {
            let look = everything_due.min(Instant::now() + SOON);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(scope) = asked.recv() => {
                    let mut scopes = vec![scope];
                    while let Ok(scope) = asked.try_recv() {
                        scopes.push(scope);
                    }
                    break scopes;
                }
                () = tokio::time::sleep_until(look.into()) => {
                    if Instant::now() >= everything_due || shared.pending.wants_scan() {
                        break vec![Scope::Everything];
                    }
                    if !missing.is_empty() {
                        let roots = std::mem::take(&mut missing).into_iter();
                        break roots.map(|root| Scope::Below(root, PathBuf::new())).collect();
                    }
                }
            }
        };
    }
}

async fn look_again(shared: Arc<Shared>) {
    loop {
        let settled = shared.pending.settled().await;
        let shared = Arc::clone(&shared);
        spawn_blocking(move || shared.tree.look_again(settled, &shared.pending)).await.ok();
    }
}

async fn work(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let file = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            file = shared.pending.take() => file,
        };
        let collected = tokio::select! {
            biased;
            collected = collect(&shared, &file) => collected,
            // A full spool gives way to a stop; the file is found again by the scan of the next start.
            () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => return,
        };
        match collected {
            Ok(Taken::Collected) => {}
            Ok(Taken::Changed) => {
                let due = Instant::now() + shared.limits.settle;
                shared.pending.settle(due, Settling { file: file.clone(), stamp: None });
            }
            Err(error) => shared.failed(&file, &error).await,
        }
        shared.pending.done(&file);
    }
}

async fn collect(shared: &Arc<Shared>, file: &FileRef) -> Result<Taken, IntakeError> {
    let (for_open, file_to_open) = (Arc::clone(shared), file.clone());
    let opened = spawn_blocking(move || for_open.open(&file_to_open)).await;
    // A thread without a result: the runtime goes down.
    let Some(opened) = opened.unwrap_or(Ok(None))? else { return Ok(Taken::Collected) };
    let reservation = shared.spool.reserve(opened.stamp.size.saturating_add(4096)).await;
    let (shared, file) = (Arc::clone(shared), file.clone());
    let collecting = spawn_blocking(move || {
        let root = &shared.tree.roots[file.root];
        let path = shared.tree.path(&file);
        let about =
            About { path: &path, relative: &file.relative, test: &root.name, hostname: &shared.hostname };
        let stamp = opened.stamp;
        match intake::collect(opened, &about, &shared.spool, reservation, &shared.journal) {
            Err(IntakeError::Write(e)) if e.kind() == io::ErrorKind::FileTooLarge => {
                intake::pass_over(&path, stamp, &shared.journal)?;
                Err(IntakeError::Write(e))
            }
            other => other,
        }
    });
    collecting.await.unwrap_or(Ok(Taken::Collected))
}

impl Shared {
    /// Opens a file unless it is known or too large. Blocking.
    fn open(&self, file: &FileRef) -> Result<Option<Opened>, IntakeError> {
        let path = self.tree.path(file);
        let opened =
            intake::open(&self.tree.roots[file.root].path, &file.relative).map_err(IntakeError::Read)?;
        let Some(opened) = opened else { return Ok(None) };
        let digest = Digest16::of_path(&path);
        let journal = || self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if journal().is_known(digest, &opened.stamp) {
            return Ok(None);
        }
        if opened.stamp.size > self.limits.results_max {
            intake::pass_over(&path, opened.stamp, &self.journal)?;
            return Err(IntakeError::TooLarge { limit: self.limits.results_max });
        }
        Ok(Some(opened))
    }

    /// Scans, and tidies the journal when everything was seen. Blocking.
    fn scan(&self, scope: &Scope, stop: &CancellationToken) -> Scanned {
        let (scanned, seen) = self.tree.scan(scope, &self.journal, &self.pending, stop);
        if *scope == Scope::Everything && scanned.complete && scanned.missing.is_empty() {
            let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(e) = journal.scanned(|path| seen.contains(path), Timestamp::now()) {
                tracing::warn!(error = %e, "cannot write the journal of files");
            }
        }
        scanned
    }

    /// A file that cannot be read waits for the next change or scan. When the spool fails, it is tried again soon.
    async fn failed(&self, file: &FileRef, error: &IntakeError) {
        let reason = chain(error);
        self.reporter.tell(CollectorEvent::Unreadable { path: self.tree.path(file), reason });
        let is_ours = match error {
            IntakeError::Read(_) | IntakeError::TooLarge { .. } => false,
            IntakeError::Write(e) => e.kind() != io::ErrorKind::FileTooLarge,
            IntakeError::Spool(_) | IntakeError::Journal(_) => true,
        };
        if is_ours {
            // All workers slow down when the disk is full.
            tokio::time::sleep(backoff::pause(3, jitter())).await;
            let due = Instant::now() + self.limits.settle;
            self.pending.settle(due, Settling { file: file.clone(), stamp: None });
        }
    }
}

/// Where the journal of files lies in a state directory.
pub(crate) fn journal_path(state: &Path) -> PathBuf {
    state.join("files.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_inside_another_is_watched_once() {
        let paths = ["/nowhere/b/c", "/nowhere/b", "/nowhere/bb", "/nowhere/b/d"].map(PathBuf::from);
        let roots: Vec<_> = roots(&paths).into_iter().map(|root| (root.path, root.name)).collect();
        let expected = [("/nowhere/b", "b"), ("/nowhere/bb", "bb")];
        assert_eq!(roots, expected.map(|(path, name)| (path.into(), name.to_owned())));
    }
}
