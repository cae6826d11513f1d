//! `/runs/{id}`: one run with its cause, cases, console and files.

use askama::Template;
use axum::{extract::State as Shared, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use test_results::{CaseStatus, RunId, Totals};

use super::{
    ansi::{self, Html},
    console::{Excerpt, Limits, excerpt},
    layout::{self, Frame, Section},
    plot::{ROW, RunRow},
    reply::{View, Wanted},
    wording,
};
use crate::{
    app::App,
    http::{
        extract::{At, Params},
        problem::Problem,
    },
    store::Store,
    views::{
        CaseFilter, CaseRow, Cursor, EventRow, FileKind, FileRow, Page, PageRequest, RunDetail, RunDot,
        RunFilter, RunSummary,
    },
};

/// Cases on a page of the table.
const CASES: u32 = 100;
/// Files that are listed.
const FILES: u32 = PageRequest::MOST;
/// The longest inspect document that is shown.
const INSPECT: usize = 1 << 20;
const INSPECT_PATH: &str = "container_info/inspect.json";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    status: String,
    after: Option<Cursor>,
}

/// Which cases the table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Show {
    All,
    Failed,
    Passed,
    Skipped,
}

impl Show {
    /// Who opens a failed run wants its failures.
    fn asked(word: &str, totals: &Totals) -> Result<Self, Problem> {
        match word {
            "" if totals.failed > 0 => Ok(Self::Failed),
            "" | "all" => Ok(Self::All),
            "failed" => Ok(Self::Failed),
            "passed" => Ok(Self::Passed),
            "skipped" => Ok(Self::Skipped),
            other => Err(Problem::bad_request(format!(
                "`{other}` is not a kind of case: use all, failed, passed or skipped"
            ))),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failed => "failed",
            Self::Passed => "passed",
            Self::Skipped => "skipped",
        }
    }

    fn filter(self, search: &str) -> CaseFilter {
        let statuses = match self {
            Self::All => Vec::new(),
            Self::Failed => CaseFilter::failures().statuses,
            Self::Passed => vec![CaseStatus::Passed, CaseStatus::ExpectedFailure],
            Self::Skipped => vec![CaseStatus::Skipped],
        };
        CaseFilter { statuses, search: Some(search.to_owned()).filter(|search| !search.is_empty()) }
    }

    fn number(self, totals: &Totals) -> u64 {
        match self {
            Self::All => totals.cases,
            Self::Failed => totals.failed,
            Self::Passed => totals.passed,
            Self::Skipped => totals.skipped,
        }
    }
}

/// What a console wrote, as far as the page shows it.
#[derive(Debug, Serialize)]
struct Console {
    file: FileRow,
    #[serde(flatten)]
    excerpt: Excerpt,
}

/// A run and everything about it.
#[derive(Debug, Serialize)]
pub(super) struct OneRun {
    run: RunDetail,
    /// The event that started it.
    event: Option<EventRow>,
    /// The runs of the same test around it, newest first.
    around: Vec<RunDot>,
    show: Show,
    search: String,
    cases: Page<CaseRow>,
    console: Vec<Console>,
    files: Page<FileRow>,
    /// The engine's description of the container.
    inspect: Option<Value>,
    #[serde(skip)]
    further: bool,
}

pub(super) async fn get(
    Shared(app): Shared<App>,
    wanted: Wanted,
    At(id): At<String>,
    Params(asked): Params<Asked>,
) -> Result<Response, Problem> {
    wanted.answer(Section::Tests, read(app.store(), &id, asked).await?)
}

async fn read(store: &Store, id: &str, asked: Asked) -> Result<OneRun, Problem> {
    let id = id.strip_suffix(".json").unwrap_or(id);
    let no_such_run = || Problem::not_found(format!("there is no run `{id}`; old runs are removed"));
    let id: RunId = id.parse().map_err(|_| no_such_run())?;
    let run = store.run(id).await?.ok_or_else(no_such_run)?;
    let event = match run.started_because.as_ref().and_then(|cause| cause.event.as_ref()) {
        Some(event) => store.event(event).await?,
        None => None,
    };
    let search = asked.q.trim().to_owned();
    let show = Show::asked(&asked.status, &run.summary.totals)?;
    let further = asked.after.is_some();
    let page = PageRequest { after: asked.after, limit: CASES };
    let cases = store.cases(id, &show.filter(&search), &page).await?;
    let files = store.files(id, &PageRequest::first(FILES)).await?;
    let mut console = Vec::new();
    for file in &files.items {
        if matches!(file.kind, FileKind::Stdout | FileKind::Stderr) {
            console.extend(read_console(store, id, file).await?);
        }
    }
    // Standard output first.
    console.sort_by_key(|console| console.file.kind == FileKind::Stderr);
    let inspect = match files.items.iter().find(|file| file.path == INSPECT_PATH) {
        Some(_) => read_inspect(store, id).await?,
        None => None,
    };
    let around = runs_around(store, &run.summary).await?;
    Ok(OneRun { run, event, around, show, search, cases, console, files, inspect, further })
}

async fn read_console(store: &Store, run: RunId, file: &FileRow) -> Result<Option<Console>, Problem> {
    if file.size == 0 {
        return Ok(None);
    }
    let Some(open) = store.open_file(run, &file.path).await? else { return Ok(None) };
    let excerpt = excerpt(open.into_stream(), file.size, Limits::PAGE)
        .await
        .map_err(|error| Problem::internal(&error))?;
    Ok(Some(Console { file: file.clone(), excerpt }))
}

async fn read_inspect(store: &Store, run: RunId) -> Result<Option<Value>, Problem> {
    let Some(open) = store.open_file(run, INSPECT_PATH).await? else { return Ok(None) };
    let (document, more) = open.read_up_to(INSPECT).await.map_err(|error| Problem::internal(&error))?;
    // A document that is too long or no JSON can still be downloaded.
    Ok(if more { None } else { serde_json::from_slice(&document).ok() })
}

/// The newest runs of the test; if this one is older, those up to it.
async fn runs_around(store: &Store, run: &RunSummary) -> Result<Vec<RunDot>, Problem> {
    let mut filter = RunFilter { test: Some(run.test.clone()), ..RunFilter::default() };
    let most = PageRequest::first(u32::try_from(ROW).unwrap_or(u32::MAX));
    let mut runs = store.runs(&filter, &most).await?.items;
    if !runs.iter().any(|other| other.id == run.id) {
        filter.until = run.at.checked_add(jiff::SignedDuration::from_micros(1)).ok();
        runs = store.runs(&filter, &most).await?.items;
    }
    Ok(runs.iter().map(RunDot::from).collect())
}

/// A case as the table shows it.
struct Line<'a> {
    case: &'a CaseRow,
    status: &'static str,
    /// Suite and class, as far as the name does not repeat them.
    place: String,
    duration: Option<String>,
    message: Option<&'a str>,
    kind: Option<&'a str>,
    text: Option<Html>,
    output: Option<Html>,
    open: bool,
}

impl<'a> Line<'a> {
    fn new(case: &'a CaseRow, open: bool) -> Self {
        let mut place: Vec<&str> = case.suite.iter().map(String::as_str).collect();
        if let Some(class) = case.class.as_deref().filter(|class| place.last() != Some(class)) {
            place.push(class);
        }
        let failure = case.failure.as_ref();
        let message = failure.and_then(|failure| failure.message.as_deref());
        // Many reports repeat the message as the whole text.
        let text = failure.and_then(|failure| failure.text.as_deref());
        let text = text.filter(|text| message.is_none_or(|message| text.trim() != message.trim()));
        let filled = |text: &&str| !text.trim().is_empty();
        Self {
            case,
            status: case.status.as_str(),
            place: place.join(" › "),
            duration: case.seconds.map(wording::duration),
            message: message.filter(filled),
            kind: failure.and_then(|failure| failure.kind.as_deref()).filter(filled),
            text: text.filter(filled).map(|text| ansi::text(text.trim_end().as_bytes())),
            output: case.output.as_deref().filter(filled).map(|text| ansi::text(text.trim_end().as_bytes())),
            open,
        }
    }

    fn has_details(&self) -> bool {
        self.message.is_some() || self.text.is_some() || self.output.is_some()
    }

    /// What the closed details say.
    fn summary(&self) -> &str {
        let first_line = self.message.and_then(|message| message.trim().lines().next());
        first_line.or(self.kind).unwrap_or(if self.text.is_some() { "Details" } else { "Output" })
    }

    /// Whether the summary does not say all of the message.
    fn has_longer_message(&self) -> bool {
        self.message.is_some_and(|message| message.trim() != self.summary())
    }
}

/// A console as the page shows it.
struct Panel {
    name: &'static str,
    title: &'static str,
    size: String,
    link: String,
    head: Html,
    left_out: Option<String>,
    tail: Option<Html>,
}

impl Panel {
    fn new(id: RunId, console: &Console) -> Self {
        let Console { file, excerpt } = console;
        let (name, title) = match file.kind {
            FileKind::Stderr => ("stderr", "Standard error"),
            _ => ("stdout", "Standard output"),
        };
        Self {
            name,
            title,
            size: wording::size(file.size),
            link: file_link(id, &file.path),
            head: ansi::numbered(excerpt.head.as_bytes(), name, 1),
            left_out: (excerpt.left_out > 0).then(|| wording::size(excerpt.left_out)),
            tail: (!excerpt.tail.is_empty())
                .then(|| ansi::numbered(excerpt.tail.as_bytes(), name, excerpt.tail_line)),
        }
    }
}

struct FileLine<'a> {
    file: &'a FileRow,
    link: String,
    size: String,
    what: &'static str,
}

/// Where a file of a run can be downloaded.
fn file_link(id: RunId, path: &str) -> String {
    let segments: Vec<_> = path.split('/').map(layout::segment).collect();
    format!("/api/v1/runs/{id}/files/{}", segments.join("/"))
}

struct Choice {
    show: Show,
    title: &'static str,
    number: String,
    link: String,
}

struct Fact {
    name: &'static str,
    value: String,
    mono: bool,
}

#[derive(Template)]
#[template(path = "run.html")]
struct Document<'a> {
    frame: Frame,
    view: &'a OneRun,
    run: &'a RunSummary,
    path: String,
    test_link: String,
    state: &'static str,
    outcome: String,
    duration: Option<String>,
    facts: Vec<Fact>,
    attempt: Option<u32>,
    event_link: Option<String>,
    event_words: Option<String>,
    row: RunRow,
    choices: Vec<Choice>,
    lines: Vec<Line<'a>>,
    next: Option<String>,
    first: String,
    panels: Vec<Panel>,
    files: Vec<FileLine<'a>>,
    inspect: Option<String>,
}

impl View for OneRun {
    fn html(&self, frame: Frame) -> askama::Result<String> {
        /// So many failures are unfolded without a click.
        const UNFOLDED: u64 = 5;
        let run = &self.run.summary;
        let path = format!("/runs/{}", run.id);
        let totals = &run.totals;
        let choice = |show: Show, title| Choice {
            show,
            title,
            number: wording::thousands(show.number(totals)),
            link: layout::link(&path, &[("status", show.word()), ("q", &self.search)]) + "#cases",
        };
        let here = |after: &str| {
            let query = [("status", self.show.word()), ("q", self.search.as_str()), ("after", after)];
            layout::link(&path, &query) + "#cases"
        };
        let unfold = totals.failed <= UNFOLDED;
        let cause = self.run.started_because.as_ref();
        Document {
            view: self,
            run,
            test_link: layout::test_path(&run.test.0),
            state: run.state.as_str(),
            outcome: self.run.outcome.to_string(),
            duration: run.seconds.map(wording::duration),
            facts: facts(&self.run),
            attempt: cause.map(|cause| cause.attempt).filter(|attempt| *attempt > 1),
            event_link: self
                .event
                .as_ref()
                .map(|row| format!("/events/{}", layout::segment(&row.event.id.0))),
            event_words: self.event.as_ref().map(|row| super::event_list::what(&row.event)),
            row: RunRow::new(&self.around),
            choices: vec![
                choice(Show::All, "All"),
                choice(Show::Failed, "Failed"),
                choice(Show::Passed, "Passed"),
                choice(Show::Skipped, "Skipped"),
            ],
            lines: self
                .cases
                .items
                .iter()
                .map(|case| Line::new(case, unfold && case.status.is_failure()))
                .collect(),
            next: self.cases.next.as_ref().map(|next| here(&next.0)),
            first: here(""),
            panels: self.console.iter().map(|console| Panel::new(run.id, console)).collect(),
            files: self.files.items.iter().map(|file| FileLine::new(run.id, file)).collect(),
            inspect: self.inspect.as_ref().and_then(|document| serde_json::to_string_pretty(document).ok()),
            path,
            frame,
        }
        .render()
    }
}

impl<'a> FileLine<'a> {
    fn new(id: RunId, file: &'a FileRow) -> Self {
        let what = match (file.kind, file.format.as_deref()) {
            (FileKind::Stdout, _) => "standard output",
            (FileKind::Stderr, _) => "standard error",
            (FileKind::Info, _) => "about the container",
            (FileKind::Result, Some("junit")) => "JUnit report",
            (FileKind::Result, Some("tap")) => "TAP report",
            (FileKind::Result, Some("subunit")) => "subunit report",
            (FileKind::Result, _) => "",
        };
        Self { file, link: file_link(id, &file.path), size: wording::size(file.size), what }
    }
}

/// What is known about where and how it ran; what is unknown is left out.
fn facts(run: &RunDetail) -> Vec<Fact> {
    let engine = |key: &str| run.engine.get(key).cloned();
    let short = |id: &String| id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect();
    let version = engine("server_version").map(|version| match engine("operating_system") {
        Some(system) => format!("{version} on {system}"),
        None => version,
    });
    let facts = [
        ("Image", run.summary.image.clone(), true),
        ("Image id", run.image_id.as_ref().map(short), true),
        ("Host", run.summary.host.clone(), false),
        ("Engine", version, false),
        ("Container", run.container_id.as_ref().map(short), true),
        ("Exit code", run.exit_code.map(|code| code.to_string()), true),
        ("Time limit", run.timeout_seconds.map(wording::duration), false),
        ("Finished", run.summary.finished_at.map(wording::exact_time), false),
        ("Received", Some(wording::exact_time(run.received_at)), false),
        ("Uploaded by", run.uploaded_by.clone(), false),
    ];
    let known = facts.into_iter().filter_map(|(name, value, mono)| Some(Fact { name, value: value?, mono }));
    known.filter(|fact| !fact.value.is_empty()).collect()
}
