//! Turns one ended container into one spooled result: inspect document, console, results directory, streamed into
//! the spool within fixed memory. Never writes a file of the container anywhere but into the archive, and never
//! changes the container.

use std::{
    io::{self, BufReader, Read},
    sync::Arc,
};

use container_engine::{Container, Engine, EngineError, EngineInfo, engine::LogSource};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::{
    io::{StreamReader, SyncIoBridge},
    sync::CancellationToken,
};

use super::{
    console::Console,
    ended::{End, Ended, tmpfs_over},
    record::{Progress, Record},
};
use crate::{
    activity::{CollectorEvent, Reporter},
    bundle::{self, Bundle, below_root},
    collector::Limits,
    spool::{
        Spool, SpoolError,
        item::Description,
        writer::{Committed, ItemWriter, Reservation},
    },
};

/// Room that is set aside for a result before its size is known.
const ESTIMATE: u64 = 1024 * 1024;
/// How many left-out entries are named one by one.
const NAMED: usize = 20;

/// Why a container could not be captured this time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error("the engine failed")]
    Engine(#[from] EngineError),
    #[error("the archive of the results broke off")]
    Archive(#[source] io::Error),
    #[error("the result could not be spooled")]
    Spool(#[source] SpoolError),
    #[error("the result could not be written")]
    Write(#[source] io::Error),
    #[error("the collector stops")]
    Stopped,
}

impl CaptureError {
    /// The engine is there and says no to this container: another try may not help.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Engine(e) => !matches!(e, EngineError::Unreachable { .. }),
            Self::Archive(_) => true,
            Self::Write(e) => e.kind() == io::ErrorKind::FileTooLarge,
            _ => false,
        }
    }
}

/// What became of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Captured {
    /// Its result is in the spool.
    Spooled,
    /// It was taken up before.
    Known,
    /// There is nothing to deliver.
    Nothing,
}

/// What a capture needs.
#[derive(Clone)]
pub(crate) struct Capture {
    pub(crate) engine: Engine,
    pub(crate) spool: Spool,
    pub(crate) record: Arc<Record>,
    pub(crate) reporter: Reporter,
    pub(crate) hostname: Arc<str>,
    pub(crate) limits: Limits,
    /// What the engine says about itself; asking costs it more than an inspection does.
    pub(crate) engine_document: Arc<Mutex<Option<Arc<[u8]>>>>,
}

/// The parts of an upload besides the results.
struct Parts {
    description: Description,
    inspect: Vec<u8>,
    engine: Arc<[u8]>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    mtime: u64,
}

impl Capture {
    /// Captures one end of one container. `given_up` leaves the results out for that reason.
    pub(crate) async fn take(&self, ended: &Ended, given_up: Option<&str>) -> Result<Captured, CaptureError> {
        let (inspected, console) = tokio::join!(self.engine.inspect(&ended.id), self.console(&ended.id));
        let container = match inspected {
            Ok(container) => Some(container),
            Err(EngineError::NotFound { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        let end = match &container {
            Some(container) => End::of(ended, container),
            None => End::of_gone(ended),
        };
        let Some(end) = end else { return Ok(Captured::Nothing) };
        let key = end.key(ended);
        if self.record.of(&ended.id).is_some_and(|(at, _)| at == end.finished_at) || self.spool.holds(&key) {
            self.note_spooled(ended, &end);
            return Ok(Captured::Known);
        }

        let mut notes = Vec::new();
        let (stdout, stderr) = self.console_parts(console, given_up, &mut notes)?;
        // First room, then the archive: the engine keeps a container locked while its archive is open.
        let reservation = self.spool.reserve(ESTIMATE).await;
        let engine = self.engine_document().await;
        let archive = match &container {
            Some(container) => self.archive(ended, container, given_up, &mut notes).await?,
            None => {
                notes.push(
                    "the container was removed before its results and console could be collected".into(),
                );
                None
            }
        };
        let parts = Parts {
            description: Description {
                key,
                query: end.query(ended, &self.hostname),
                source: end.source(ended),
                spooled_at: Timestamp::now(),
            },
            inspect: serde_json::to_vec(&end.document).map_err(|e| CaptureError::Write(e.into()))?,
            engine,
            stdout,
            stderr,
            mtime: u64::try_from(end.finished_at.as_second()).unwrap_or(0),
        };
        let notes = self.write(reservation, parts, archive, notes).await?;
        for note in notes {
            self.reporter.tell(CollectorEvent::Incomplete { of: ended.name.clone(), note });
        }
        self.note_spooled(ended, &end);
        Ok(Captured::Spooled)
    }

    /// A note that fails costs a repeat, which its key makes harmless.
    fn note_spooled(&self, ended: &Ended, end: &End) {
        let known = self.record.of(&ended.id).is_some_and(|(at, _)| at == end.finished_at);
        if !known && let Err(e) = self.record.note(&ended.id, end.finished_at, Progress::Spooled) {
            tracing::warn!(error = %e, "cannot note that container {} is spooled", ended.name);
        }
    }

    /// Empty if the engine does not say.
    async fn engine_document(&self) -> Arc<[u8]> {
        let mut known = self.engine_document.lock().await;
        if known.is_none() {
            *known = self.engine.info().await.ok().map(|info| engine_document(&info).into());
        }
        known.clone().unwrap_or_default()
    }

    /// The engine may be another version now.
    pub(crate) async fn forget_engine_document(&self) {
        *self.engine_document.lock().await = None;
    }

    async fn console(&self, id: &str) -> Result<(Console, Console), EngineError> {
        let (mut stdout, mut stderr) =
            (Console::new(self.limits.console_max), Console::new(self.limits.console_max));
        let mut logs = self.engine.logs(id, false).await?;
        while let Some(chunk) = logs.next().await {
            let chunk = chunk?;
            match chunk.source {
                LogSource::Stdout => stdout.push(&chunk.bytes),
                LogSource::Stderr => stderr.push(&chunk.bytes),
            }
        }
        Ok((stdout, stderr))
    }

    fn console_parts(
        &self,
        console: Result<(Console, Console), EngineError>,
        given_up: Option<&str>,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<u8>, Vec<u8>), CaptureError> {
        match console {
            Ok((stdout, stderr)) => {
                for (name, console) in [("stdout", &stdout), ("stderr", &stderr)] {
                    if console.left_out() > 0 {
                        notes.push(format!("{} bytes of {name} were left out", console.left_out()));
                    }
                }
                Ok((stdout.into_bytes(), stderr.into_bytes()))
            }
            // Gone, or being removed: what is left is delivered.
            Err(EngineError::NotFound { .. } | EngineError::Conflict { .. }) => Ok(Default::default()),
            // Some log drivers (`none`, `syslog`) cannot be read.
            Err(EngineError::Refused { message, .. }) => {
                notes.push(format!("the console cannot be read: {message}"));
                Ok(Default::default())
            }
            Err(e) if given_up.is_some() => {
                notes.push(format!("the console cannot be read: {e}"));
                Ok(Default::default())
            }
            Err(e) => Err(e.into()),
        }
    }

    async fn archive(
        &self,
        ended: &Ended,
        container: &Container,
        given_up: Option<&str>,
        notes: &mut Vec<String>,
    ) -> Result<Option<container_engine::engine::ByteStream>, CaptureError> {
        let path = ended.results_path();
        if let Some(reason) = given_up {
            notes.push(format!("the results in `{path}` are left out: {reason}"));
            return Ok(None);
        }
        if let Some(mount) = tmpfs_over(path, container) {
            notes.push(format!(
                "the results directory `{path}` lies on the tmpfs `{mount}`, which is empty once the container has ended: write results to a directory or a volume"
            ));
        }
        match self.engine.archive(&ended.id, path).await {
            Ok(stream) => Ok(Some(stream)),
            Err(EngineError::NotFound { kind: "path", .. }) => Ok(None),
            Err(EngineError::NotFound { .. } | EngineError::Conflict { .. }) => {
                notes.push("the container was removed before its results could be collected".into());
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Writes and commits on a blocking thread, and returns the notes.
    async fn write(
        &self,
        reservation: Reservation,
        parts: Parts,
        archive: Option<container_engine::engine::ByteStream>,
        notes: Vec<String>,
    ) -> Result<Vec<String>, CaptureError> {
        let (spool, results_max) = (self.spool.clone(), self.limits.results_max);
        // When this future is dropped, the archive ends early for the thread, which then gives up.
        let dropped = CancellationToken::new();
        let _guard = dropped.clone().drop_guard();
        let archive = archive.map(|stream| {
            let stream = stream.map_err(io::Error::other).take_until(dropped.clone().cancelled_owned());
            SyncIoBridge::new(StreamReader::new(Box::pin(stream)))
        });
        let writing = tokio::task::spawn_blocking(move || {
            let writer = spool.begin(reservation).map_err(CaptureError::Spool)?;
            let (writer, notes) = write_bundle(writer, &parts, archive, results_max, notes)?;
            if dropped.is_cancelled() {
                return Err(CaptureError::Stopped);
            }
            match writer.commit(&parts.description).map_err(CaptureError::Spool)? {
                Committed::Stored | Committed::Duplicate => Ok(notes),
            }
        });
        writing.await.unwrap_or(Err(CaptureError::Stopped))
    }
}

/// What the engine says about itself, as the upload carries it.
fn engine_document(info: &EngineInfo) -> Vec<u8> {
    json!({
        "id": info.id,
        "name": info.name,
        "server_version": info.server_version,
        "api_version": info.api_version,
        "operating_system": info.operating_system,
        "kernel_version": info.kernel_version,
    })
    .to_string()
    .into_bytes()
}

fn write_bundle(
    writer: ItemWriter,
    parts: &Parts,
    archive: Option<impl Read>,
    results_max: u64,
    mut notes: Vec<String>,
) -> Result<(ItemWriter, Vec<String>), CaptureError> {
    let write = CaptureError::Write;
    let mut bundle = Bundle::new(writer);
    bundle.add(bundle::INSPECT, parts.mtime, &parts.inspect).map_err(write)?;
    if !parts.engine.is_empty() {
        bundle.add(bundle::ENGINE, parts.mtime, &parts.engine).map_err(write)?;
    }
    bundle.add(bundle::STDOUT, parts.mtime, &parts.stdout).map_err(write)?;
    bundle.add(bundle::STDERR, parts.mtime, &parts.stderr).map_err(write)?;
    if let Some(archive) = archive {
        let mut from = Watched { from: archive, failed: None };
        let copied = copy_results(&mut from, &mut bundle, results_max, &mut notes);
        if let Some(e) = from.failed {
            return Err(CaptureError::Archive(e));
        }
        copied.map_err(write)?;
    }
    if !notes.is_empty() {
        let mut text = notes.join("\n");
        text.push('\n');
        bundle.add(bundle::NOTES, parts.mtime, text.as_bytes()).map_err(write)?;
    }
    Ok((bundle.finish().map_err(write)?, notes))
}

/// Copies the regular files of the engine's archive. Links, devices, FIFOs and sockets are left out: a link's target
/// is in the archive under its own name or is none of our business.
fn copy_results<W: io::Write>(
    archive: impl Read,
    bundle: &mut Bundle<W>,
    results_max: u64,
    notes: &mut Vec<String>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(128 * 1024, archive));
    let (mut left, mut left_out) = (results_max, 0);
    for entry in archive.entries()? {
        let entry = entry?;
        let kind = entry.header().entry_type();
        let path = entry.path_bytes().into_owned();
        if kind.is_dir() {
            continue;
        }
        let below = below_root(&path).filter(|_| kind.is_file() || kind.is_contiguous());
        let Some(below) = below else {
            left_out += 1;
            if left_out <= NAMED {
                let path = String::from_utf8_lossy(&path);
                notes.push(format!("`{path}` is left out: {}", kind_name(kind)));
            }
            continue;
        };
        let len = entry.size();
        if len > left {
            notes.push(format!(
                "the results are cut before `{}`: together they are larger than {results_max} bytes",
                String::from_utf8_lossy(&below)
            ));
            break;
        }
        left -= len;
        let mtime = entry.header().mtime().unwrap_or(0);
        bundle.add_result(&below, mtime, len, entry)?;
    }
    if left_out > NAMED {
        notes.push(format!("{} more entries are left out", left_out - NAMED));
    }
    Ok(())
}

fn kind_name(kind: tar::EntryType) -> &'static str {
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_hard_link() {
        "a second name (hard link) of a file that is included"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_block_special() || kind.is_character_special() {
        "a device"
    } else if kind.is_file() {
        "its path leaves the results directory"
    } else {
        "not a regular file"
    }
}

/// Remembers that reading failed, to tell it from a failure to write.
struct Watched<R> {
    from: R,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer).map_err(|e| {
            let same = io::Error::from(e.kind());
            self.failed = Some(e);
            same
        })
    }
}
