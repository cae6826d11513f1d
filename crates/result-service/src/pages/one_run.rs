//! `/runs/{id}`: one run with its cause, cases, console and files. Reads what the page shows; [`document`] shows it.

mod document;

use axum::{extract::State as Shared, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use test_results::{CaseStatus, RunId, Totals};

use super::{
    console::{Excerpt, Limits, excerpt},
    layout::Section,
    plot::ROW,
    reply::Wanted,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_opens_with_its_failures_and_a_passed_one_with_everything() {
        let failed = Totals { cases: 3, passed: 1, failed: 1, skipped: 1 };
        assert_eq!(Show::asked("", &failed).unwrap(), Show::Failed);
        assert_eq!(Show::asked("all", &failed).unwrap(), Show::All);
        assert_eq!(Show::asked("", &Totals { failed: 0, ..failed }).unwrap(), Show::All);
        assert!(Show::asked("purple", &failed).is_err());
    }
}
