//! `/`: all tests with their last runs.

use askama::Template;
use axum::{extract::State as Shared, response::Response};
use serde::{Deserialize, Serialize};
use test_results::State;

use super::{
    layout::{self, Frame, Section},
    plot::{self, RunRow, Trend},
    reply::{View, Wanted},
    state_named, wording,
};
use crate::{
    app::App,
    http::{extract::Params, problem::Problem},
    store::Store,
    views::{Cursor, Page, PageRequest, TestFilter, TestOverview},
};

/// Tests on a page.
const TESTS: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    state: String,
    after: Option<Cursor>,
}

/// How many tests are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    tests: u64,
    passed: u64,
    failed: u64,
    timed_out: u64,
    lost: u64,
}

impl Counts {
    fn of(tests: &[TestOverview]) -> Self {
        let mut counts = Self::default();
        counts.add(tests);
        counts
    }

    fn add(&mut self, tests: &[TestOverview]) {
        for test in tests {
            self.tests += 1;
            match test.last.first().map(|run| run.state) {
                Some(State::Passed) => self.passed += 1,
                Some(State::Failed) => self.failed += 1,
                Some(State::TimedOut) => self.timed_out += 1,
                Some(State::Lost) => self.lost += 1,
                None => {}
            }
        }
    }
}

/// The tests, and how many there are in which state.
#[derive(Debug, Serialize)]
pub(super) struct TestList {
    search: String,
    state: Option<State>,
    counts: Counts,
    #[serde(flatten)]
    tests: Page<TestOverview>,
    #[serde(skip)]
    further: bool,
    #[serde(skip)]
    stream_from: u64,
}

pub(super) async fn get(
    Shared(app): Shared<App>,
    wanted: Wanted,
    Params(asked): Params<Asked>,
) -> Result<Response, Problem> {
    wanted.answer(Section::Tests, read(app.store(), asked).await?)
}

async fn read(store: &Store, asked: Asked) -> Result<TestList, Problem> {
    let search = asked.q.trim().to_owned();
    let state = state_named(&asked.state)?;
    // The stream's position is read first: what arrives meanwhile is then shown twice rather than never.
    let stream_from = *store.newest_event().borrow();
    let filter = TestFilter { search: Some(search.clone()).filter(|search| !search.is_empty()), state };
    let further = asked.after.is_some();
    let mut tests = store.tests(&filter, &PageRequest { after: asked.after, limit: TESTS }).await?;
    let all_fit = !further && tests.next.is_none();
    let counts = match state {
        None if all_fit => Counts::of(&tests.items),
        _ => count(store, &search).await?,
    };
    if all_fit {
        // What needs attention comes first.
        tests.items.sort_by_key(urgency);
    }
    Ok(TestList { search, state, counts, tests, further, stream_from })
}

async fn count(store: &Store, search: &str) -> Result<Counts, Problem> {
    let filter = TestFilter { search: Some(search.to_owned()), state: None };
    let mut counts = Counts::default();
    let mut after = None;
    loop {
        let page = store.tests(&filter, &PageRequest { after, limit: PageRequest::MOST }).await?;
        counts.add(&page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(counts),
        }
    }
}

fn urgency(test: &TestOverview) -> u8 {
    match test.last.first().map(|run| run.state) {
        Some(State::Failed | State::TimedOut) => 0,
        Some(State::Lost) => 1,
        Some(State::Passed) | None => 2,
    }
}

/// A choice among states, with its number.
struct Choice {
    word: &'static str,
    title: &'static str,
    number: String,
    link: String,
    chosen: bool,
}

/// A test as the page shows it.
struct Line<'a> {
    test: &'a TestOverview,
    link: String,
    state: Option<&'static str>,
    row: RunRow,
    trend: Option<Trend>,
    duration: Option<String>,
    passed: usize,
    percent: usize,
}

impl<'a> Line<'a> {
    fn new(test: &'a TestOverview) -> Self {
        let passed = plot::passed(&test.last);
        let newest = test.last.first();
        Self {
            test,
            link: layout::test_path(&test.name.0),
            state: newest.map(|run| run.state.as_str()),
            row: RunRow::new(&test.last),
            trend: Trend::new(&test.last),
            duration: newest.and_then(|run| run.seconds).map(wording::duration),
            passed,
            percent: wording::percent(passed, test.last.len()),
        }
    }
}

#[derive(Template)]
#[template(path = "tests.html")]
struct Document<'a> {
    frame: Frame,
    view: &'a TestList,
    choices: Vec<Choice>,
    lines: Vec<Line<'a>>,
    next: Option<String>,
    first: String,
}

impl View for TestList {
    fn html(&self, frame: Frame) -> askama::Result<String> {
        let state = self.state.map_or("", State::as_str);
        let counts = &self.counts;
        let choice = |word, title, number| Choice {
            word,
            title,
            number: wording::thousands(number),
            link: layout::link("/", &[("q", &self.search), ("state", word)]),
            chosen: state == word,
        };
        let choices = vec![
            choice("", "All", counts.tests),
            choice("passed", "Passed", counts.passed),
            choice("failed", "Failed", counts.failed),
            choice("timed-out", "Timed out", counts.timed_out),
            choice("lost", "Lost", counts.lost),
        ];
        let here =
            |after: &str| layout::link("/", &[("q", &self.search), ("state", state), ("after", after)]);
        Document {
            frame,
            view: self,
            choices,
            lines: self.tests.items.iter().map(Line::new).collect(),
            next: self.tests.next.as_ref().map(|next| here(&next.0)),
            first: here(""),
        }
        .render()
    }
}

#[cfg(test)]
mod tests {
    use test_results::{RunId, TestName};

    use super::*;
    use crate::views::RunDot;

    fn test(name: &str, states: &[State]) -> TestOverview {
        let run = |state: &State| RunDot {
            id: RunId(uuid::Uuid::nil()),
            state: *state,
            at: jiff::Timestamp::UNIX_EPOCH,
            seconds: None,
            failed: 0,
        };
        TestOverview {
            name: TestName::from(name),
            owner: None,
            runs: states.len() as u64,
            last: states.iter().map(run).collect(),
        }
    }

    #[test]
    fn the_newest_run_counts_and_failures_come_first() {
        let mut tests = [
            test("a", &[State::Passed, State::Failed]),
            test("b", &[State::Lost]),
            test("c", &[State::TimedOut]),
            test("d", &[]),
            test("e", &[State::Failed]),
        ];
        let counts = Counts { tests: 5, passed: 1, failed: 1, timed_out: 1, lost: 1 };
        assert_eq!(Counts::of(&tests), counts);
        tests.sort_by_key(urgency);
        assert_eq!(tests.map(|test| test.name.0), ["c", "e", "b", "a", "d"]);
    }
}
