//! What a reader of the store sees: domain types for the API and the pages. Never a database row, never SQL.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use test_results::{
    CaseStatus, Cause, CloudEvent, Failure, Outcome, RunId, State, TestName, Totals, TriggerKind,
};
use utoipa::ToSchema;

/// A position in a listing. Opaque to clients: they hand back what they were given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Cursor(pub String);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which part of a listing to read.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Continue behind this position; from the start when absent.
    pub after: Option<Cursor>,
    /// How many items at most; the store never returns more than [`PageRequest::MOST`].
    pub limit: u32,
}

impl PageRequest {
    /// The largest page.
    pub const MOST: u32 = 500;

    /// The first page, `limit` items long.
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// The page behind `after`.
    pub fn after(after: Cursor, limit: u32) -> Self {
        Self { after: Some(after), limit }
    }

    pub(crate) fn size(&self) -> i64 {
        i64::from(self.limit.clamp(1, Self::MOST))
    }
}

/// One page of a listing.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the listing's order.
    pub items: Vec<T>,
    /// Where the next page starts; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Cuts what was read, one item more than asked for, to a page.
    pub(crate) fn cut(mut items: Vec<T>, asked: &PageRequest, position: impl Fn(&T) -> Cursor) -> Self {
        let size = usize::try_from(asked.size()).unwrap_or(usize::MAX);
        let more = items.len() > size;
        items.truncate(size);
        let next = if more { items.last().map(position) } else { None };
        Self { items, next }
    }
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { items: Vec::new(), next: None }
    }
}

/// Which tests to list.
#[derive(Clone, Debug, Default)]
pub struct TestFilter {
    /// Part of the name, ignoring case.
    pub search: Option<String>,
    /// The state of the newest run.
    pub state: Option<State>,
}

/// A test with its newest runs. Tests are listed by name.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TestOverview {
    /// Name of the test.
    #[schema(value_type = String)]
    pub name: TestName,
    /// From the label `tugbot.owner` of its newest run.
    pub owner: Option<String>,
    /// How many runs are stored in all.
    pub runs: u64,
    /// The newest runs (at most 30), newest first.
    pub last: Vec<RunDot>,
}

/// A run as one mark in a row of runs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunDot {
    /// Identifies the run.
    #[schema(value_type = String, format = "uuid")]
    pub id: RunId,
    /// How it ended.
    #[schema(value_type = String)]
    pub state: State,
    /// When it started, or was received when that is unknown.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How long it took, in seconds.
    pub seconds: Option<f64>,
    /// How many cases failed.
    pub failed: u64,
}

/// Which runs to list. Every field that is set must match.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Exact name of the test.
    pub test: Option<TestName>,
    /// How the run ended.
    pub state: Option<State>,
    /// Exact name of the image.
    pub image: Option<String>,
    /// Exact name of the host.
    pub host: Option<String>,
    /// Started (or was received) at this time or later.
    pub since: Option<Timestamp>,
    /// Started (or was received) before this time.
    pub until: Option<Timestamp>,
}

/// A run in a listing. Runs are listed by [`RunSummary::at`], newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunSummary {
    /// Identifies the run.
    #[schema(value_type = String, format = "uuid")]
    pub id: RunId,
    /// Name of the test.
    #[schema(value_type = String)]
    pub test: TestName,
    /// How it ended, in one word.
    #[schema(value_type = String)]
    pub state: State,
    /// When it started, or was received when that is unknown.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// When it started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// How long it took, in seconds.
    pub seconds: Option<f64>,
    /// Name of the image it ran from.
    pub image: Option<String>,
    /// The host it ran on.
    pub host: Option<String>,
    /// Counts of its cases.
    #[schema(value_type = TotalsSchema)]
    pub totals: Totals,
    /// What kind of trigger started it.
    #[schema(value_type = Option<String>)]
    pub trigger: Option<TriggerKind>,
    /// Why it was started, in one line.
    pub cause: Option<String>,
}

/// Everything about one run except its cases and the contents of its files.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunDetail {
    /// What a listing shows.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// How it ended, with exit code, limit or reason.
    #[schema(value_type = Object)]
    pub outcome: Outcome,
    /// Why it was started.
    #[schema(value_type = Option<Object>)]
    pub started_because: Option<Cause>,
    /// When the service received it.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// Exit code of the test's main process, if one is known.
    pub exit_code: Option<i64>,
    /// The container's time limit, in seconds.
    pub timeout_seconds: Option<f64>,
    /// Id of the container.
    pub container_id: Option<String>,
    /// Id (digest) of the image.
    pub image_id: Option<String>,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
    /// The engine it ran on: `id`, `name`, `server_version`, `operating_system`, …
    pub engine: BTreeMap<String, String>,
    /// What the intake remarks, e.g. `results/junit.xml: line 3: …` of a file it kept but could not read.
    pub notes: Vec<String>,
    /// Name of the key it was uploaded with.
    pub uploaded_by: Option<String>,
}

/// Which cases of a run to list.
#[derive(Clone, Debug, Default)]
pub struct CaseFilter {
    /// Only these statuses; all when empty.
    pub statuses: Vec<CaseStatus>,
    /// Part of the suite, class or name, ignoring case.
    pub search: Option<String>,
}

impl CaseFilter {
    /// Only cases that make the run fail.
    pub fn failures() -> Self {
        Self {
            statuses: vec![CaseStatus::Failed, CaseStatus::Error, CaseStatus::UnexpectedSuccess],
            search: None,
        }
    }
}

/// One case of a run. Cases are listed in the order in which they were reported.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CaseRow {
    /// Its place in the run, from 1.
    pub number: u64,
    /// Names of the enclosing suites, outermost first.
    pub suite: Vec<String>,
    /// JUnit's `classname`.
    pub class: Option<String>,
    /// Its own name.
    pub name: String,
    /// Its result.
    #[schema(value_type = String)]
    pub status: CaseStatus,
    /// How long it took, in seconds.
    pub seconds: Option<f64>,
    /// Why, unless it passed.
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Failure>,
    /// What it wrote.
    pub output: Option<String>,
    /// The file it was read from.
    pub file: Option<String>,
}

/// What a stored file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// The container's standard output.
    Stdout,
    /// The container's standard error.
    Stderr,
    /// Facts about the container or the engine (`container_info/`).
    Info,
    /// A file that the test wrote.
    Result,
}

impl FileKind {
    /// The kind of the file at this path of an upload.
    pub fn of(path: &str) -> Self {
        match path {
            "console_output/stdout.log" => Self::Stdout,
            "console_output/stderr.log" => Self::Stderr,
            _ if path.starts_with("container_info/") => Self::Info,
            _ => Self::Result,
        }
    }
}

/// One stored file of a run. Files are listed by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FileRow {
    /// Path within the upload, `/`-separated, never absolute, never with `..`.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes.
    pub size: u64,
    /// The format its cases were read from: `junit`, `tap`, `subunit`.
    pub format: Option<String>,
}

/// Which events to list.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Exact type, or a prefix that ends in `*`.
    pub kind: Option<String>,
    /// Exact subject.
    pub subject: Option<String>,
    /// Exact source.
    pub source: Option<String>,
    /// Happened at this time or later.
    pub since: Option<Timestamp>,
    /// Happened before this time.
    pub until: Option<Timestamp>,
}

/// A stored event. Events are listed by sequence, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventRow {
    /// Its place in the stream; grows with arrival.
    pub sequence: u64,
    /// When it happened, or was received when it does not say.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The event as it was received.
    #[schema(value_type = Object)]
    pub event: CloudEvent,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Store results and events, ask for runs.
    Upload,
    /// Read everything but keys.
    Read,
    /// Everything, keys included.
    Admin,
}

impl Scope {
    /// The stable word of this scope.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no scope.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a scope: use upload, read or admin")]
pub struct NotAScope(String);

impl FromStr for Scope {
    type Err = NotAScope;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "upload" => Ok(Self::Upload),
            "read" => Ok(Self::Read),
            "admin" => Ok(Self::Admin),
            _ => Err(NotAScope(word.to_owned())),
        }
    }
}

/// A key without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct KeyRow {
    /// Identifies the key; the first characters of the key itself.
    pub id: String,
    /// What its maker called it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// The shape of [`Totals`] in the OpenAPI document.
#[derive(ToSchema)]
#[schema(as = Totals)]
#[allow(dead_code, reason = "describes a foreign type to utoipa; never constructed")]
pub(crate) struct TotalsSchema {
    /// All cases.
    cases: u64,
    /// Passed or failed as expected.
    passed: u64,
    /// Failed, in error, or passed unexpectedly.
    failed: u64,
    /// Skipped.
    skipped: u64,
}
