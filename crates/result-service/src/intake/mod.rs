//! Takes a result in: from the body of a request to a durable run. Holds no more of it in memory than a few
//! pieces, and leaves nothing behind of what it refuses.

mod archive;
mod body;
mod cases;
mod facts;

use std::io::{Cursor, Read, Write};

use axum::http::HeaderValue;
use jiff::Timestamp;
use test_results::{
    EventId, RunId, TestName,
    event::{Stamp, SuiteRun, run_finished},
    upload::JsonResult,
};
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit, task::spawn_blocking};
use uuid::Uuid;

use self::{
    archive::Unpacked,
    cases::Cases,
    facts::{Inspected, Known},
};
pub(crate) use self::{
    body::{BodyLimits, Upload},
    facts::Told,
};
use crate::{
    app::App,
    blobs::SMALL,
    http::problem::Problem,
    store::{Contents, NewFile, NewRun, Packing, RunKey, StoredRun},
    views::{FileKind, FileRow, RunDetail},
};

/// The source of the events that the service makes.
pub(crate) const SOURCE: &str = "/tugyard/serve";

/// Where a result in the JSON form is found among the files of its run.
const JSON_FILE: &str = "results/upload.json";

/// The forms in which a result can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A gzip-compressed tar.
    Archive,
    /// Upstream's JSON.
    Json,
}

/// An upload without its body.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) form: Form,
    pub(crate) told: Told,
    /// Whether a file that looks like a report and cannot be read is kept with a note; otherwise it is refused.
    pub(crate) lenient: bool,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) uploaded_by: Option<String>,
}

/// An upload that is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) run: StoredRun,
    /// Bytes that were stored.
    pub(crate) bytes: u64,
}

/// Takes an upload.
pub(crate) async fn take(app: &App, sent: Sent, upload: &mut Upload) -> Result<Taken, Problem> {
    if let Some(key) = &sent.idempotency_key
        && let Some(run) = app.store().run_with_key(key).await?
    {
        return Ok(Taken { run, bytes: 0 });
    }
    let incoming = match sent.form {
        Form::Archive => archive(app, &sent, upload).await?,
        Form::Json => json(app, &sent, upload).await?,
    };
    let (key, staged) = (incoming.key, incoming.staged);
    let taken = store(app, sent, incoming).await;
    if staged && taken.is_err() {
        app.store().discard_cases(key).await?;
    }
    taken
}

/// An upload that was received whole and can be read, but is not stored.
struct Incoming {
    key: RunKey,
    told: Told,
    unpacked: Unpacked,
    contents: Contents,
    /// Whether some of its cases are in the database already.
    staged: bool,
}

async fn archive(app: &App, sent: &Sent, upload: &mut Upload) -> Result<Incoming, Problem> {
    let (start, whole) = upload.start().await?;
    if whole {
        return unpack(app, sent, Cursor::new(start), None).await;
    }
    let place = app.large_uploads().clone().acquire_owned().await;
    let place = place.map_err(|_| Problem::unavailable("the service is being stopped: try again"))?;
    let (sender, rest) = body::way();
    let unpacking = unpack(app, sent, Cursor::new(start).chain(rest), Some(place));
    let (passed_on, unpacked) = tokio::join!(upload.pass_on(sender), unpacking);
    // A body that did not arrive whole cannot be read either; that it did not arrive is the better answer.
    passed_on?;
    unpacked
}

/// Reads an archive on a thread of its own, keeps it as a blob, and leaves no cases behind when it is refused.
async fn unpack(
    app: &App,
    sent: &Sent,
    source: impl Read + Send + 'static,
    place: Option<OwnedSemaphorePermit>,
) -> Result<Incoming, Problem> {
    let (app, sent, runtime) = (app.clone(), sent.clone(), Handle::current());
    let thread = spawn_blocking(move || {
        let _until_done = place;
        let store = app.store();
        let key = store.next_run_key();
        let mut cases = Cases::new(store.clone(), key, runtime.clone());
        let limits = &app.settings().limits;
        let unpacked = archive::unpack(source, store.blobs(), limits, sent.lenient, &mut cases);
        match unpacked {
            Ok((mut unpacked, blob)) => {
                let staged = cases.staged();
                unpacked.cases = cases.into_rest();
                let contents = Contents { blob, packing: Packing::TarGz };
                Ok(Incoming { key, told: sent.told, unpacked, contents, staged })
            }
            Err(problem) => {
                if cases.staged() {
                    runtime.block_on(store.discard_cases(key))?;
                }
                Err(problem)
            }
        }
    });
    thread.await.map_err(|panic| Problem::internal(&panic))?
}

async fn json(app: &App, sent: &Sent, upload: &mut Upload) -> Result<Incoming, Problem> {
    let body = upload.whole().await?;
    let large = body.len() > SMALL;
    let _place = if large { app.large_uploads().clone().acquire_owned().await.ok() } else { None };
    let result: JsonResult = serde_json::from_slice(&body).map_err(|error| {
        let detail = format!("the result is not JSON in the form of upstream: {error}");
        if error.is_data() { Problem::unprocessable(detail) } else { Problem::bad_request(detail) }
    })?;
    let limit = app.settings().limits.cases;
    if result.test_set.as_ref().is_some_and(|set| set.tests.len() as u64 > limit) {
        return Err(Problem::too_large(format!("a result of more than {limit} cases is not taken")));
    }
    let store = app.store();
    let key = store.next_run_key();
    let size = body.len() as u64;
    let blobs = store.blobs().clone();
    let kept = spawn_blocking(move || {
        let mut incoming = blobs.receive();
        incoming.write_all(&body)?;
        blobs.keep(incoming)
    });
    let blob =
        kept.await.map_err(std::io::Error::other).flatten().map_err(|error| Problem::internal(&error))?;
    let mut unpacked = Unpacked::default();
    let limits = test_results::Limits { cases: limit, ..test_results::Limits::default() };
    for (number, case) in (1..).zip(result.cases(&limits)) {
        unpacked.totals.add(case.status);
        unpacked.cases.push(crate::store::NewCase { number, case, file: Some(JSON_FILE.to_owned()) });
    }
    let row =
        FileRow { path: JSON_FILE.to_owned(), kind: FileKind::Result, size, format: Some("json".to_owned()) };
    unpacked.files.push(NewFile { row, entry: 0 });
    let told = sent.told.clone().or(&result);
    Ok(Incoming { key, told, unpacked, contents: Contents { blob, packing: Packing::Plain }, staged: false })
}

async fn store(app: &App, sent: Sent, incoming: Incoming) -> Result<Taken, Problem> {
    let Incoming { key, told, unpacked, contents, .. } = incoming;
    let now = Timestamp::now();
    let known = Known {
        id: RunId(Uuid::now_v7()),
        told,
        inspected: unpacked.inspect.as_ref().map(Inspected::read).unwrap_or_default(),
        engine: unpacked.engine,
        totals: unpacked.totals,
        notes: unpacked.notes,
        uploaded_by: sent.uploaded_by,
        received_at: now,
    };
    let nameless = "the result does not say which test it is of: add `?test=NAME`";
    let test = test_name(known.test_name().ok_or_else(|| Problem::unprocessable(nameless))?)?;
    let detail = known.into_run(test);
    let bytes = contents.blob.size;
    let event = finished(&detail, app.settings().public_url.as_deref());
    let run = NewRun {
        key,
        detail,
        idempotency_key: sent.idempotency_key,
        contents: Some(contents),
        files: unpacked.files,
        cases: unpacked.cases,
        event,
    };
    let run = app.store().put_run(run).await?;
    Ok(Taken { run, bytes: if run.repeated { 0 } else { bytes } })
}

/// The event that announces a stored run.
fn finished(run: &RunDetail, public_url: Option<&str>) -> test_results::CloudEvent {
    let summary = &run.summary;
    let id = summary.id.to_string();
    let base = public_url.unwrap_or_default().trim_end_matches('/');
    let (page, api) = (format!("{base}/runs/{id}"), format!("{base}/api/v1/runs/{id}"));
    let suite = SuiteRun {
        id: &id,
        test: &summary.test,
        environment: summary.host.as_deref().unwrap_or("unknown"),
        cause: run.started_because.as_ref(),
        image: summary.image.as_deref(),
        links: &[("page", &page), ("api", &api)],
    };
    let at = summary.finished_at.unwrap_or(run.received_at);
    let stamp = Stamp { id: EventId(id.clone()), source: SOURCE.to_owned(), at };
    run_finished(stamp, &suite, &run.outcome, Some(&summary.totals))
}

/// A name that can stand in a URL and on a page.
pub(crate) fn test_name(name: &str) -> Result<TestName, Problem> {
    let name = name.trim();
    let sound = !name.is_empty() && name.chars().count() <= 256 && !name.chars().any(char::is_control);
    let what = "the name of a test must have 1 to 256 characters, all printable";
    sound.then(|| TestName::from(name)).ok_or_else(|| Problem::unprocessable(what))
}

/// The media type of a body without its parameters, in lower case; empty when there is none.
pub(crate) fn media_type(header: Option<&HeaderValue>) -> String {
    let value = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
