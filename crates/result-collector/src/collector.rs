//! Joins the parts: watches find results, the spool keeps them, the delivery hands them over. Reads no environment
//! and prints nothing; all it needs comes in through [`CollectorSettings`].

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use container_engine::Engine;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    activity::{CollectorEvent, Reporter, Source, Status},
    container_watch::{
        self, ContainerWatch,
        capture::Capture,
        record::{Progress, Record},
    },
    delivery::{self, Delivery},
    dir_watch::{self, DirWatch, journal::Journal},
    spool::{Spool, SpoolError},
};

/// How long the end of a collector waits for the disk.
const CLOSING: Duration = Duration::from_secs(2);

/// What a collector works with.
#[derive(Clone, Debug)]
pub struct CollectorSettings {
    /// The result service; `/results` is appended to its path.
    pub service: Url,
    /// The API key, sent as `Authorization: Bearer`.
    pub key: Option<SecretString>,
    /// Directories to watch, each with all that is below.
    pub dirs: Vec<PathBuf>,
    /// Whether the containers of the engine are watched.
    pub containers: bool,
    /// Where the spool and the records lie; one collector at a time.
    pub state_dir: PathBuf,
    /// Bytes that the spool may take on disk.
    pub spool_max: u64,
    /// Whether a copy of a test container is removed once the service has confirmed its result. Originals always
    /// stay: they are what copies are made from.
    pub cleanup: bool,
    /// How this host is named in uploads and idempotency keys.
    pub hostname: String,
    /// Bounds of single results, and times.
    pub limits: Limits,
}

/// Bounds and times that rarely need to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that are kept of each of a container's outputs: the beginning and the end.
    pub console_max: usize,
    /// Uncompressed bytes of one container's results, and of one file.
    pub results_max: u64,
    /// How long a file that a scan found must stay the same.
    pub settle: Duration,
    /// Time between scans while events tell of every change.
    pub rescan: Duration,
    /// How many uploads are under way at once.
    pub in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            console_max: 8 * 1024 * 1024,
            // Of the 1 GiB that the service unpacks, the rest is for the console.
            results_max: 960 * 1024 * 1024,
            settle: Duration::from_secs(1),
            rescan: Duration::from_secs(300),
            in_flight: 16,
        }
    }
}

/// Why a collector could not start.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The address cannot take a path.
    #[error("`{service}` is not the address of a result service: write http://host:port or https://host")]
    BadService {
        /// What was given, without user and password.
        service: String,
    },
    /// The key cannot stand in a header.
    #[error("the API key contains characters that cannot be sent: check for line breaks")]
    BadKey,
    /// There is nothing to watch.
    #[error("there is nothing to collect: name a directory, or connect an engine")]
    NothingToWatch,
    /// The spool cannot be used.
    #[error("the collector cannot start")]
    Spool(#[from] SpoolError),
    /// A record of what was collected cannot be used.
    #[error("the collector cannot use its record `{}`", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A collector that has not started yet.
#[derive(Debug)]
pub struct Collector {
    settings: CollectorSettings,
    engine: Option<Engine>,
    http: reqwest::Client,
    reporter: Reporter,
}

impl Collector {
    /// Prepares a collector; touches nothing yet. `events` is waited for only with [`CollectorEvent::Delivered`]: of
    /// other events, those that its receiver has no room for are counted and dropped. The service's answer decides whether a result is stored, so `http` should follow no
    /// redirects to other hosts.
    pub fn new(
        settings: CollectorSettings,
        engine: Option<Engine>,
        http: reqwest::Client,
        events: mpsc::Sender<CollectorEvent>,
    ) -> Self {
        Self { settings, engine, http, reporter: Reporter::new(events) }
    }

    /// The counters, readable while the collector runs.
    pub fn status(&self) -> Status {
        self.reporter.status()
    }

    /// Collects and delivers until `stop`; then what is in flight is spooled and the call returns within a few
    /// seconds. Whatever was not delivered is delivered by the next collector on the same state directory.
    ///
    /// # Errors
    /// Only before anything was collected: [`CollectError`] says what to change.
    pub async fn run(self, stop: CancellationToken) -> Result<(), CollectError> {
        let Self { settings, engine, http, reporter } = self;
        let service = &settings.service;
        let target = delivery::target(service)
            .filter(|target| matches!(target.scheme(), "http" | "https"))
            .ok_or_else(|| CollectError::BadService { service: without_credentials(service) })?;
        let authorization = match &settings.key {
            Some(key) => Some(delivery::authorization(key).ok_or(CollectError::BadKey)?),
            None => None,
        };
        let engine = engine.filter(|_| settings.containers);
        if engine.is_none() && settings.dirs.is_empty() {
            return Err(CollectError::NothingToWatch);
        }
        let closed = CancellationToken::new();
        let state = open_state(&settings, &reporter, closed.clone()).await?;
        let hostname: Arc<str> = settings.hostname.as_str().into();
        let (confirm, confirmed) = mpsc::channel(1024);

        let mut parts = JoinSet::new();
        let record = Arc::clone(&state.record);
        let delivery = Delivery {
            spool: state.spool.clone(),
            http,
            target,
            authorization,
            key: settings.key.clone(),
            reporter: reporter.clone(),
            on_confirmed: Arc::new(move |source| note_confirmed(&record, source)),
            confirmed: confirm,
        };
        parts.spawn(delivery::run(delivery, settings.limits.in_flight, stop.clone()));
        match engine {
            Some(engine) => {
                let capture = Capture {
                    engine,
                    spool: state.spool.clone(),
                    record: state.record,
                    reporter: reporter.clone(),
                    hostname: Arc::clone(&hostname),
                    limits: settings.limits,
                    about_engine: Arc::default(),
                };
                let watch = ContainerWatch { capture, cleanup: settings.cleanup, confirmed };
                parts.spawn(container_watch::run(watch, stop.clone()));
            }
            None => drop(confirmed),
        }
        if settings.dirs.is_empty() {
            drop(state.spool);
        } else {
            let watch = DirWatch {
                directories: settings.dirs,
                spool: state.spool,
                journal: state.journal,
                reporter,
                hostname,
                limits: settings.limits,
            };
            parts.spawn(dir_watch::run(watch, stop.clone()));
        }
        while let Some(part) = parts.join_next().await {
            if let Err(e) = part
                && e.is_panic()
            {
                std::panic::resume_unwind(e.into_panic());
            }
        }
        // Threads that still write hold the spool's lock for a moment.
        let _ = tokio::time::timeout(CLOSING, closed.cancelled()).await;
        Ok(())
    }
}

/// What an earlier collector may have left.
struct State {
    spool: Spool,
    record: Arc<Record>,
    journal: Journal,
}

async fn open_state(
    settings: &CollectorSettings,
    reporter: &Reporter,
    closed: CancellationToken,
) -> Result<State, CollectError> {
    let (state_dir, spool_max, reporter) = (settings.state_dir.clone(), settings.spool_max, reporter.clone());
    let opening = tokio::task::spawn_blocking(move || {
        // First the spool: its lock keeps a second collector away from the records too.
        let spool = Spool::open(&state_dir.join("spool"), spool_max, reporter, closed)?;
        let failed = |path: PathBuf| move |source| CollectError::Record { path, source };
        let path = state_dir.join("containers.log");
        let record = Arc::new(Record::open(&path).map_err(failed(path))?);
        let path = dir_watch::journal_path(&state_dir);
        let journal = Journal::open(&path).map_err(failed(path))?;
        Ok(State { spool, record, journal })
    });
    opening.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

fn note_confirmed(record: &Record, source: &Source) {
    // What was refused as a whole keeps its container.
    if let Source::Container { id, finished_at, complete: true, .. } = source
        && let Err(e) = confirm(record, id, *finished_at)
    {
        tracing::warn!(error = %e, "cannot note that a container's result is confirmed");
    }
}

fn confirm(record: &Record, id: &str, finished_at: Timestamp) -> io::Result<()> {
    record.note(id, finished_at, Progress::Confirmed)
}

fn without_credentials(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for addresses that cannot hold them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}
