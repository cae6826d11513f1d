//! What the collector tells its caller while it works: events for people, counters for metrics. Nothing is printed,
//! and no event or counter ever holds the API key.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use test_results::RunId;
use tokio::sync::mpsc;

/// Where a result came from. Stored beside each spooled result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// A test container that ended.
    Container {
        /// Its full id.
        id: String,
        /// Its name.
        name: String,
        /// When it ended.
        finished_at: Timestamp,
        /// Whether a runner made it as a copy of a test container.
        copy: bool,
        /// Whether the results directory is in it. The service has refused the whole otherwise.
        complete: bool,
    },
    /// A file of a watched directory.
    File {
        /// Its path; bytes that are not UTF-8 are shown as replacement characters.
        path: String,
    },
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Container { name, .. } => write!(f, "container `{name}`"),
            Self::File { path } => write!(f, "file `{path}`"),
        }
    }
}

/// Why a result was put aside instead of delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The service does not want this result (400, 413, 415, 422, …). Its place is reused when the spool is full.
    Content,
    /// The key or the address is wrong (401, 403, 404, 405, 407). The result is offered again at the next start.
    Access,
    /// What is on disk is not what was written.
    Corrupt,
}

/// Something that happened. The caller renders it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CollectorEvent {
    /// A result is safe on disk and will be delivered.
    Spooled {
        /// Where it came from.
        source: Source,
        /// Its idempotency key.
        key: String,
        /// Compressed size in bytes.
        bytes: u64,
    },
    /// The service has confirmed a result. Unlike other events, this one is never dropped while its receiver lives.
    Delivered {
        /// Where it came from.
        source: Source,
        /// Its idempotency key.
        key: String,
        /// The run at the service.
        run: RunId,
        /// The service had it already: an earlier answer got lost.
        repeated: bool,
    },
    /// A copy of a test container is still there, and its whole result was confirmed before this collector started or
    /// reconnected.
    ConfirmedBefore {
        /// The copy's full id.
        id: String,
    },
    /// A delivery failed and is tried again.
    Retrying {
        /// Where the result came from.
        source: Source,
        /// What went wrong.
        reason: String,
        /// How long this result waits.
        after: Duration,
        /// How often it was tried.
        attempts: u32,
    },
    /// The service said no for good. The result lies in the spool's `rejected` directory, beside the reason.
    Rejected {
        /// Where it came from, if that is known.
        source: Option<Source>,
        /// Why.
        kind: RefusalKind,
        /// The service's own words.
        reason: String,
        /// Where it lies now.
        path: PathBuf,
    },
    /// A rejected result was deleted because the spool was full.
    Evicted {
        /// Where it lay.
        path: PathBuf,
    },
    /// The spool is full: nothing new is read until there is room. Nothing is lost.
    SpoolFull {
        /// Bytes in use.
        used: u64,
        /// The limit.
        max: u64,
    },
    /// A test container could not be captured; it is tried again.
    CaptureFailed {
        /// The container.
        container: String,
        /// What went wrong.
        reason: String,
        /// How long until the next try.
        after: Duration,
    },
    /// Something of a container's results is missing, and why. The same words are in the upload.
    Incomplete {
        /// The container or file.
        of: String,
        /// What is missing.
        note: String,
    },
    /// A container was removed after the service had confirmed its results (`--cleanup`).
    Removed {
        /// The container's name.
        container: String,
    },
    /// A container could not be removed.
    NotRemoved {
        /// The container's name.
        container: String,
        /// What went wrong.
        reason: String,
    },
    /// The engine's event stream was cut; it reconnects by itself.
    EngineLost {
        /// What went wrong.
        reason: String,
    },
    /// Engine events may have been lost; the listing catches up with every container that still exists.
    MaybeMissed,
    /// A directory is not watched by the kernel (limit, missing, no permission); it is scanned instead.
    Unwatched {
        /// The directory.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// The kernel's queue of changes overflowed; a scan catches up.
    Overflow,
    /// A file could not be read; it is looked at again at the next scan or change.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Counters since the start of this collector. A reading of [`Status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Results written to the spool.
    pub spooled: u64,
    /// Results that the service confirmed.
    pub delivered: u64,
    /// Of those, how many the service knew already.
    pub repeated: u64,
    /// Results that were put aside.
    pub rejected: u64,
    /// Failed attempts that are tried again.
    pub retried: u64,
    /// Bytes of confirmed results.
    pub bytes: u64,
    /// Results waiting in the spool now.
    pub waiting: u64,
    /// Bytes in use in the spool now, rejected results included.
    pub spool_used: u64,
    /// Events that the receiver of [`CollectorEvent`] was too slow for.
    pub events_dropped: u64,
}

/// A handle on the counters; cheap to clone, readable while the collector runs.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    spooled: AtomicU64,
    delivered: AtomicU64,
    repeated: AtomicU64,
    rejected: AtomicU64,
    retried: AtomicU64,
    bytes: AtomicU64,
    waiting: AtomicU64,
    spool_used: AtomicU64,
    events_dropped: AtomicU64,
}

impl Status {
    /// The counters now.
    pub fn counters(&self) -> Counters {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let cells = &*self.0;
        Counters {
            spooled: read(&cells.spooled),
            delivered: read(&cells.delivered),
            repeated: read(&cells.repeated),
            rejected: read(&cells.rejected),
            retried: read(&cells.retried),
            bytes: read(&cells.bytes),
            waiting: read(&cells.waiting),
            spool_used: read(&cells.spool_used),
            events_dropped: read(&cells.events_dropped),
        }
    }
}

/// Counts and passes on what happens. Work does not wait for whoever watches it, deliveries excepted.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    events: mpsc::Sender<CollectorEvent>,
    status: Status,
}

impl Reporter {
    pub(crate) fn new(events: mpsc::Sender<CollectorEvent>) -> Self {
        Self { events, status: Status::default() }
    }

    pub(crate) fn status(&self) -> Status {
        self.status.clone()
    }

    /// Counts an event and passes it on if there is room.
    pub(crate) fn tell(&self, event: CollectorEvent) {
        self.count(&event);
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.status.0.events_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an event and passes it on, with patience: the receiver may act on a delivery.
    pub(crate) async fn tell_delivered(&self, event: CollectorEvent) {
        self.count(&event);
        // A receiver that is gone does not want to know.
        self.events.send(event).await.ok();
    }

    fn count(&self, event: &CollectorEvent) {
        let cells = &*self.status.0;
        let add = |cell: &AtomicU64, n| _ = cell.fetch_add(n, Ordering::Relaxed);
        match event {
            CollectorEvent::Spooled { .. } => add(&cells.spooled, 1),
            CollectorEvent::Delivered { repeated, .. } => {
                add(&cells.delivered, 1);
                add(&cells.repeated, u64::from(*repeated));
            }
            CollectorEvent::Retrying { .. } => add(&cells.retried, 1),
            CollectorEvent::Rejected { .. } => add(&cells.rejected, 1),
            _ => {}
        }
    }

    pub(crate) fn delivered_bytes(&self, bytes: u64) {
        self.status.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn spool_holds(&self, waiting: usize, used: u64) {
        self.status.0.waiting.store(waiting as u64, Ordering::Relaxed);
        self.status.0.spool_used.store(used, Ordering::Relaxed);
    }
}
