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
use test_results::upload::{self, Appended, EntryKind, FileMetadata, UploadLimits, UploadWriter, layout};
use tokio::sync::Mutex;
use tokio_util::{
    io::{StreamReader, SyncIoBridge},
    sync::CancellationToken,
};

use super::{
    console::Console,
    ended::{End, Ended, tmpfs_over},
    record::{Progress, Record},
    redact,
};
use crate::{
    activity::{CollectorEvent, Reporter},
    bundle::{self, below_root},
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
const NAMED: u64 = 20;
/// The service takes 100,000 entries.
const MOST_ENTRIES: u64 = 99_000;

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
    pub(crate) about_engine: Arc<Mutex<Option<Arc<[u8]>>>>,
}

/// The parts of an upload besides the results.
struct Parts {
    description: Description,
    inspect: Vec<u8>,
    engine: Arc<[u8]>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended_at: Timestamp,
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
        let mut document = end.document.clone();
        redact::hide_secrets(&mut document);
        let parts = Parts {
            description: Description::new(key, &end.query(ended, &self.hostname), end.source(ended)),
            inspect: serde_json::to_vec(&document).map_err(|e| CaptureError::Write(e.into()))?,
            engine,
            stdout,
            stderr,
            ended_at: end.finished_at,
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
    pub(crate) async fn engine_document(&self) -> Arc<[u8]> {
        let mut known = self.about_engine.lock().await;
        if known.is_none() {
            *known = self.engine.info().await.ok().map(|info| engine_document(info).into());
        }
        known.clone().unwrap_or_default()
    }

    /// The engine may be another version now.
    pub(crate) async fn forget_engine_document(&self) {
        *self.about_engine.lock().await = None;
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
fn engine_document(info: EngineInfo) -> Vec<u8> {
    let document = upload::EngineInfo {
        id: info.id,
        name: info.name,
        server_version: info.server_version,
        api_version: info.api_version,
        operating_system: info.operating_system,
        kernel_version: info.kernel_version,
    };
    // Texts always have a JSON form.
    serde_json::to_vec(&document).unwrap_or_default()
}

fn write_bundle(
    writer: ItemWriter,
    parts: &Parts,
    archive: Option<impl Read>,
    results_max: u64,
    mut notes: Vec<String>,
) -> Result<(ItemWriter, Vec<String>), CaptureError> {
    let mut bundle = bundle::begin(writer);
    let add = |bundle: &mut UploadWriter<_>, path: &str, content: &[u8]| {
        let metadata = FileMetadata { size: content.len() as u64, modified: Some(parts.ended_at) };
        bundle.file(path, metadata, content).map(|_| ()).map_err(CaptureError::Write)
    };
    add(&mut bundle, layout::INSPECT, &parts.inspect)?;
    if !parts.engine.is_empty() {
        add(&mut bundle, layout::ENGINE, &parts.engine)?;
    }
    add(&mut bundle, layout::STDOUT, &parts.stdout)?;
    add(&mut bundle, layout::STDERR, &parts.stderr)?;
    if let Some(archive) = archive {
        let mut from = Watched { from: archive, failed: None };
        let copied = copy_results(&mut from, &mut bundle, results_max, &mut notes);
        if let Some(e) = from.failed {
            return Err(CaptureError::Archive(e));
        }
        copied.map_err(CaptureError::Write)?;
    }
    if !notes.is_empty() {
        let mut text = notes.join("\n");
        text.push('\n');
        add(&mut bundle, bundle::NOTES, text.as_bytes())?;
    }
    Ok((bundle.finish().map_err(CaptureError::Write)?, notes))
}

/// Copies the engine's archive. Of links, devices and FIFOs there is only a note in the archive that they were there:
/// a link's target is in it under its own name or is none of our business.
fn copy_results<W: io::Write>(
    archive: impl Read,
    bundle: &mut UploadWriter<W>,
    results_max: u64,
    notes: &mut Vec<String>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(128 * 1024, archive));
    let taken = UploadLimits::default();
    let (mut left, mut entries, mut left_out) = (results_max, 0, 0);
    for entry in archive.entries()? {
        let entry = entry?;
        let header = entry.header();
        let modified =
            header.mtime().ok().and_then(|at| Timestamp::from_second(i64::try_from(at).ok()?).ok());
        let path = entry.path_bytes().into_owned();
        let shown = || String::from_utf8_lossy(&path).into_owned();
        let Some(below) = below_root(&path) else {
            notes.push(format!("`{}` is left out: its path leaves the results directory", shown()));
            continue;
        };
        let path = [layout::RESULTS.as_bytes(), &below].concat();
        let kind = match header.entry_type() {
            kind if kind.is_dir() => continue,
            kind if kind.is_file() || kind.is_contiguous() => EntryKind::File,
            kind if kind.is_symlink() => EntryKind::Symlink { target: target(&entry) },
            kind if kind.is_hard_link() => EntryKind::HardLink { target: hard_target(&entry) },
            kind if kind.is_character_special() => EntryKind::Skipped { what: "character device" },
            kind if kind.is_block_special() => EntryKind::Skipped { what: "block device" },
            _ => EntryKind::Skipped { what: "FIFO" },
        };
        entries += 1;
        let len = entry.size();
        // One such entry would make the service refuse all of them.
        let depth = path.split(|b| *b == b'/').count();
        if depth > taken.path_depth || path.len() > taken.path_length || len > taken.entry {
            left_out += 1;
            if left_out <= NAMED {
                notes
                    .push(format!("`{}` is left out: it is too large, too deep or too long a name", shown()));
            }
            continue;
        }
        if entries > MOST_ENTRIES || len > left {
            notes.push(format!(
                "the results are cut before `{}`: together they are more than {MOST_ENTRIES} entries or {results_max} bytes",
                shown()
            ));
            break;
        }
        if kind != EntryKind::File {
            bundle.note(&path, &kind, modified)?;
            continue;
        }
        left -= len;
        let whole = bundle.file(&path, FileMetadata { size: len, modified }, entry)?;
        if whole != Appended::Whole {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if left_out > NAMED {
        notes.push(format!("{} more entries are left out for the same reasons", left_out - NAMED));
    }
    Ok(())
}

fn target<R: Read>(entry: &tar::Entry<'_, R>) -> Vec<u8> {
    entry.link_name_bytes().unwrap_or_default().into_owned()
}

/// A hard link names its first name as the engine's archive has it.
fn hard_target<R: Read>(entry: &tar::Entry<'_, R>) -> Vec<u8> {
    below_root(&target(entry)).map_or_else(Vec::new, |below| [layout::RESULTS.as_bytes(), &below].concat())
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
