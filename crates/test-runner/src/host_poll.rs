//! Keeps one watch of the host for all tests that ask for it, and begins a new one when they ask for something else.

use std::path::PathBuf;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    engine_work::Answer,
    host_watch::{HostChange, HostWatch, HostWatchSettings},
    run_key::RunKey,
    runner_event::RunnerEvent,
    scheduler::{HostWanted, Input},
    trouble::with_causes,
};

/// Changes on their way to the scheduler; a burst of packages is longer, and then waits.
const QUEUE: usize = 64;

/// The watch, if anybody wants one.
pub(crate) struct HostPoll {
    root: PathBuf,
    wanted: HostWanted,
    stop: Option<CancellationToken>,
    answers: mpsc::UnboundedSender<Answer>,
}

impl HostPoll {
    pub(crate) fn new(root: PathBuf, answers: mpsc::UnboundedSender<Answer>) -> Self {
        Self { root, wanted: HostWanted::default(), stop: None, answers }
    }

    /// Watches for what is wanted from now on.
    pub(crate) fn watch_for(&mut self, wanted: HostWanted) {
        if wanted == self.wanted {
            return;
        }
        self.wanted = wanted;
        let before = self.stop.take();
        if self.wanted.is_empty() {
            if let Some(before) = before {
                before.cancel();
            }
            return;
        }
        let stop = CancellationToken::new();
        self.stop = Some(stop.clone());
        let settings = HostWatchSettings {
            root: self.root.clone(),
            config_globs: self.wanted.config.iter().cloned().collect(),
            packages: self.wanted.packages,
            kernel: self.wanted.kernel,
        };
        tokio::spawn(watch(settings, before, stop, self.answers.clone()));
    }
}

impl Drop for HostPoll {
    fn drop(&mut self) {
        if let Some(stop) = &self.stop {
            stop.cancel();
        }
    }
}

/// The watch before ends only when this one has its first snapshot, so nothing goes unseen in between. What both see
/// has the same key.
async fn watch(
    settings: HostWatchSettings,
    before: Option<CancellationToken>,
    stop: CancellationToken,
    answers: mpsc::UnboundedSender<Answer>,
) {
    let root = settings.root.clone();
    let (out, mut changes) = mpsc::channel(QUEUE);
    let watching = async {
        let opened = HostWatch::open(settings).await;
        if let Some(before) = before {
            before.cancel();
        }
        opened?.run(out, stop).await
    };
    let handing_on = async {
        while let Some(change) = changes.recv().await {
            let key = key(&root, &change).await;
            let _ = answers.send(Answer::Input(Box::new(Input::Host { change, key })));
        }
    };
    if let (Err(error), ()) = tokio::join!(watching, handing_on) {
        let (action, reason) = ("watch the host".to_owned(), with_causes(&error));
        let _ = answers.send(Answer::Report(RunnerEvent::Trouble { action, reason }));
    }
}

/// The changed file and its version, so that every runner of the host finds the same key.
async fn key(root: &std::path::Path, change: &HostChange) -> RunKey {
    let Some(path) = &change.path else {
        return RunKey::new(change.at, format!("host:{:?}:{}", change.kind, change.detail));
    };
    let on_disk = root.join(path.strip_prefix("/").unwrap_or(path));
    let modified = tokio::fs::symlink_metadata(on_disk).await.and_then(|found| found.modified());
    let modified = modified.ok().and_then(|at| Timestamp::try_from(at).ok());
    let at = modified.unwrap_or(change.at);
    RunKey::new(at, format!("host:{:?}:{}:{at}", change.kind, path.display()))
}
