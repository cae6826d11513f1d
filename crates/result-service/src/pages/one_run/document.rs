//! The HTML of one run: what is shown of each case, console and file, and in which words. Pure.

use askama::Template;
use test_results::RunId;

use super::{
    super::{
        ansi::{self, Html},
        event_list,
        layout::{self, Frame},
        plot::RunRow,
        reply::View,
        wording,
    },
    Console, OneRun, Show,
};
use crate::views::{CaseRow, FileKind, FileRow, RunDetail, RunSummary};

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
            event_words: self.event.as_ref().map(|row| event_list::what(&row.event)),
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

#[cfg(test)]
mod tests {
    use test_results::{CaseStatus, Failure};

    use super::*;

    fn case(failure: Failure) -> CaseRow {
        CaseRow {
            number: 1,
            suite: vec!["shop".to_owned(), "cart".to_owned()],
            class: Some("cart".to_owned()),
            name: "adds".to_owned(),
            status: CaseStatus::Failed,
            seconds: None,
            failure: Some(failure),
            output: None,
            file: None,
        }
    }

    fn failure(message: Option<&str>, text: Option<&str>) -> Failure {
        Failure { message: message.map(str::to_owned), kind: None, text: text.map(str::to_owned) }
    }

    #[test]
    fn a_message_is_shown_once() {
        let same = case(failure(Some("expected 1"), Some("expected 1\n")));
        let line = Line::new(&same, true);
        assert_eq!(
            (line.summary(), line.has_longer_message(), line.text.is_none()),
            ("expected 1", false, true)
        );
        let long = case(failure(Some("expected\n1"), Some("trace")));
        let line = Line::new(&long, true);
        assert_eq!((line.summary(), line.has_longer_message()), ("expected", true));
        assert_eq!(line.text.map(|text| text.to_string()).as_deref(), Some("trace"));
        let only_text = case(failure(None, Some("trace")));
        assert_eq!(Line::new(&only_text, true).summary(), "Details");
        let nothing = case(failure(Some(" "), None));
        assert!(!Line::new(&nothing, true).has_details());
    }

    #[test]
    fn a_class_that_repeats_its_suite_is_left_out() {
        assert_eq!(Line::new(&case(failure(None, None)), true).place, "shop › cart");
    }

    #[test]
    fn a_file_is_linked_to_whatever_its_name() {
        let id = RunId(uuid::Uuid::nil());
        let link = file_link(id, "results/a b/100%.txt");
        assert_eq!(link, format!("/api/v1/runs/{id}/files/results/a%20b/100%25.txt"));
    }
}
