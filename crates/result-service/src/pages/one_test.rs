//! `/tests/{name}`: the history of one test, and the button that asks for a run of it.

use askama::Template;
use axum::{extract::State as Shared, response::Response};
use serde::{Deserialize, Serialize};
use test_results::{State, TestName};

use super::{
    layout::{self, Frame, Section},
    plot::{self, DurationPlot},
    reply::{View, Wanted},
    state_named, wording,
};
use crate::{
    app::App,
    http::{
        extract::{At, Params},
        problem::Problem,
    },
    store::Store,
    views::{Cursor, Page, PageRequest, RunDot, RunFilter, RunSummary, TestOverview},
};

/// Runs on a page of the table.
const RUNS: u32 = 50;
/// Runs in the plot.
const PLOTTED: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    state: String,
    after: Option<Cursor>,
    /// Set on the way back from the button.
    asked: Option<String>,
}

/// A test and a page of its runs.
#[derive(Debug, Serialize)]
pub(super) struct OneTest {
    test: TestOverview,
    state: Option<State>,
    runs: Page<RunSummary>,
    /// The newest runs, newest first, whatever the filter.
    recent: Vec<RunDot>,
    #[serde(skip)]
    shown: Shown,
}

/// What only the HTML needs.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    further: bool,
    just_asked: bool,
    stream_from: u64,
}

pub(super) async fn get(
    Shared(app): Shared<App>,
    wanted: Wanted,
    At(name): At<String>,
    Params(asked): Params<Asked>,
) -> Result<Response, Problem> {
    wanted.answer(Section::Tests, read(app.store(), name, asked).await?)
}

async fn read(store: &Store, name: String, asked: Asked) -> Result<OneTest, Problem> {
    let state = state_named(&asked.state)?;
    let stream_from = *store.newest_event().borrow();
    let test = find(store, name).await?;
    let filter = RunFilter { test: Some(test.name.clone()), state, ..RunFilter::default() };
    let all = RunFilter { state: None, ..filter.clone() };
    let shown = Shown { further: asked.after.is_some(), just_asked: asked.asked.is_some(), stream_from };
    let runs = store.runs(&filter, &PageRequest { after: asked.after, limit: RUNS }).await?;
    let recent = store.runs(&all, &PageRequest::first(PLOTTED)).await?;
    let recent = recent.items.iter().map(RunDot::from).collect();
    Ok(OneTest { test, state, runs, recent, shown })
}

/// The test of this name; else, for the JSON twin, the one without `.json`.
async fn find(store: &Store, name: String) -> Result<TestOverview, Problem> {
    if let Some(test) = store.test(&TestName(name.clone())).await? {
        return Ok(test);
    }
    let Some(stem) = name.strip_suffix(".json") else { return Err(no_such_test(&name)) };
    let test = store.test(&TestName(stem.to_owned())).await?;
    test.ok_or_else(|| no_such_test(stem))
}

fn no_such_test(name: &str) -> Problem {
    Problem::not_found(format!("there is no test `{name}`: no run of that name is stored"))
}

/// A run as the table shows it.
struct Line<'a> {
    run: &'a RunSummary,
    state: &'static str,
    duration: Option<String>,
    cases: Option<String>,
}

struct Choice {
    word: &'static str,
    title: &'static str,
    link: String,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "test.html")]
struct Document<'a> {
    frame: Frame,
    view: &'a OneTest,
    shown: Shown,
    path: String,
    state: Option<&'static str>,
    plot: Option<DurationPlot>,
    passed: usize,
    percent: usize,
    median: Option<String>,
    runs: String,
    choices: Vec<Choice>,
    lines: Vec<Line<'a>>,
    next: Option<String>,
    first: String,
}

impl View for OneTest {
    fn html(&self, frame: Frame) -> askama::Result<String> {
        let path = layout::test_path(&self.test.name.0);
        let state = self.state.map_or("", State::as_str);
        let passed = plot::passed(&self.recent);
        let choice = |word, title| Choice {
            word,
            title,
            link: layout::link(&path, &[("state", word)]),
            chosen: state == word,
        };
        Document {
            frame,
            view: self,
            shown: self.shown,
            state: self.recent.first().map(|run| run.state.as_str()),
            plot: DurationPlot::new(&self.recent),
            passed,
            percent: wording::percent(passed, self.recent.len()),
            median: plot::median(&self.recent).map(wording::duration),
            runs: wording::thousands(self.test.runs),
            choices: vec![
                choice("", "All"),
                choice("passed", "Passed"),
                choice("failed", "Failed"),
                choice("timed-out", "Timed out"),
                choice("lost", "Lost"),
            ],
            lines: self.runs.items.iter().map(Line::new).collect(),
            next: self
                .runs
                .next
                .as_ref()
                .map(|next| layout::link(&path, &[("state", state), ("after", &next.0)])),
            first: layout::link(&path, &[("state", state)]),
            path,
        }
        .render()
    }
}

impl<'a> Line<'a> {
    fn new(run: &'a RunSummary) -> Self {
        let totals = &run.totals;
        let cases = (totals.cases > 0).then(|| match totals.failed {
            0 => wording::count(totals.cases, "case"),
            failed => {
                format!("{} of {} failed", wording::thousands(failed), wording::thousands(totals.cases))
            }
        });
        Self { run, state: run.state.as_str(), duration: run.seconds.map(wording::duration), cases }
    }
}

impl From<&RunSummary> for RunDot {
    fn from(run: &RunSummary) -> Self {
        Self { id: run.id, state: run.state, at: run.at, seconds: run.seconds, failed: run.totals.failed }
    }
}
