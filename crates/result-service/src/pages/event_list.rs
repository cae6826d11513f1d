//! `/events` and `/events/{id}`: what happened, and the runs it led to.

use askama::Template;
use axum::{extract::State as Shared, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use test_results::{CloudEvent, EventId, RunId};

use super::{
    layout::{self, Frame, Section},
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
    views::{Cursor, EventFilter, EventRow, Page, PageRequest},
};

const EVENTS: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    source: String,
    after: Option<Cursor>,
}

/// A page of events.
#[derive(Debug, Serialize)]
pub(super) struct EventList {
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    source: String,
    #[serde(flatten)]
    events: Page<EventRow>,
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
    wanted.answer(Section::Events, read(app.store(), asked).await?)
}

async fn read(store: &Store, asked: Asked) -> Result<EventList, Problem> {
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = EventFilter {
        kind: given(&asked.kind),
        subject: given(&asked.subject),
        source: given(&asked.source),
        ..EventFilter::default()
    };
    let stream_from = *store.newest_event().borrow();
    let further = asked.after.is_some();
    let events = store.events(&filter, &PageRequest { after: asked.after, limit: EVENTS }).await?;
    let EventFilter { kind, subject, source, .. } = filter;
    Ok(EventList {
        kind: kind.unwrap_or_default(),
        subject: subject.unwrap_or_default(),
        source: source.unwrap_or_default(),
        events,
        further,
        stream_from,
    })
}

/// One event.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct OneEvent {
    row: EventRow,
}

pub(super) async fn get_one(
    Shared(app): Shared<App>,
    wanted: Wanted,
    At(id): At<String>,
) -> Result<Response, Problem> {
    wanted.answer(Section::Events, read_one(app.store(), id).await?)
}

async fn read_one(store: &Store, id: String) -> Result<OneEvent, Problem> {
    if let Some(row) = store.event(&EventId(id.clone())).await? {
        return Ok(OneEvent { row });
    }
    let stem = id.strip_suffix(".json").unwrap_or(&id);
    let row = store.event(&EventId(stem.to_owned())).await?;
    let no_such_event = || Problem::not_found(format!("there is no event `{stem}`; old events are removed"));
    Ok(OneEvent { row: row.ok_or_else(no_such_event)? })
}

/// What happened, in a few words.
pub(super) fn what(event: &CloudEvent) -> String {
    let words = wording::event_words(&event.kind);
    // The engine's own word for it says more: `health_status: unhealthy`.
    let action = event.data.pointer("/subject/content/action").and_then(Value::as_str);
    match (event.kind.strip_prefix("dev.cdeventsx.docker-"), action) {
        (Some(rest), Some(action)) => {
            format!("{} {action}", rest.split('.').next().unwrap_or_default())
        }
        _ => words,
    }
}

/// The outcome that the event of a finished run announces.
fn outcome(event: &CloudEvent) -> Option<&'static str> {
    test_results::event::finished_run(event).map(|run| run.outcome.state().as_str())
}

/// The name that people know the subject by.
fn subject(event: &CloudEvent) -> Option<&str> {
    let text = |pointer: &str| event.data.pointer(pointer).and_then(Value::as_str);
    text("/subject/content/testSuite/name")
        .or_else(|| text("/subject/content/attributes/name"))
        .or(event.subject.as_deref())
}

/// The test that the event is about.
fn test(event: &CloudEvent) -> Option<String> {
    let suite = event.data.pointer("/subject/content/testSuite/name").and_then(Value::as_str);
    match suite {
        Some(name) => Some(name.to_owned()),
        None => test_results::event::requested_test(event).map(|test| test.0),
    }
}

/// The stored run that the event links to.
fn run(event: &CloudEvent) -> Option<RunId> {
    let links = ["/customData/links/page", "/customData/links/api", "/subject/content/testSuite/uri"];
    let linked = links.iter().filter_map(|pointer| event.data.pointer(pointer).and_then(Value::as_str));
    let mut ids = linked.filter_map(|link| link.rsplit_once("/runs/")?.1.parse().ok());
    ids.next()
}

/// The event that led to this one.
fn trigger(event: &CloudEvent) -> Option<&str> {
    let links = event.data.pointer("/context/links").and_then(Value::as_array)?;
    let trigger = links.iter().find(|link| link["linkKind"] == "TRIGGER")?;
    trigger.pointer("/target/contextId").and_then(Value::as_str)
}

fn event_path(id: &str) -> String {
    format!("/events/{}", layout::segment(id))
}

/// An event as a page shows it.
struct Line<'a> {
    row: &'a EventRow,
    link: String,
    what: String,
    outcome: Option<&'static str>,
    subject: Option<&'a str>,
    test_link: Option<String>,
    run: Option<RunId>,
    trigger_link: Option<String>,
}

impl<'a> Line<'a> {
    fn new(row: &'a EventRow) -> Self {
        let event = &row.event;
        Self {
            row,
            link: event_path(&event.id.0),
            what: what(event),
            outcome: outcome(event),
            subject: subject(event),
            test_link: test(event).map(|test| layout::test_path(&test)),
            run: run(event),
            trigger_link: trigger(event).map(event_path),
        }
    }
}

struct Choice {
    title: &'static str,
    link: String,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "events.html")]
struct Document<'a> {
    frame: Frame,
    view: &'a EventList,
    choices: Vec<Choice>,
    lines: Vec<Line<'a>>,
    next: Option<String>,
    first: String,
    filtered: bool,
}

impl View for EventList {
    fn html(&self, frame: Frame) -> askama::Result<String> {
        let others = [("subject", self.subject.as_str()), ("source", self.source.as_str())];
        let here = |kind: &str, after: &str| {
            layout::link("/events", &[("type", kind), others[0], others[1], ("after", after)])
        };
        let choice = |title, kind| Choice { title, link: here(kind, ""), chosen: self.kind == kind };
        Document {
            frame,
            view: self,
            choices: vec![
                choice("All", ""),
                choice("Test runs", "dev.cdevents.testsuiterun.*"),
                choice("Requests", "dev.cdeventsx.tugyard-run.*"),
                choice("Containers", "dev.cdeventsx.docker-container.*"),
                choice("Images", "dev.cdeventsx.docker-image.*"),
                choice("Artifacts", "dev.cdevents.artifact.*"),
            ],
            lines: self.events.items.iter().map(Line::new).collect(),
            next: self.events.next.as_ref().map(|next| here(&self.kind, &next.0)),
            first: here(&self.kind, ""),
            filtered: [&self.kind, &self.subject, &self.source].iter().any(|part| !part.is_empty()),
        }
        .render()
    }
}

#[derive(Template)]
#[template(path = "event.html")]
struct OneDocument<'a> {
    frame: Frame,
    line: Line<'a>,
    document: String,
}

impl View for OneEvent {
    fn html(&self, frame: Frame) -> askama::Result<String> {
        let document = serde_json::to_string_pretty(&self.row.event).unwrap_or_default();
        OneDocument { frame, line: Line::new(&self.row), document }.render()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, data: Value) -> CloudEvent {
        CloudEvent { data, ..CloudEvent::new(EventId("e-1".to_owned()), "/tugyard/run/a", kind) }
    }

    #[test]
    fn an_engine_event_is_told_in_the_words_of_the_engine() {
        let data = json!({"subject": {"id": "c1", "content": {
            "action": "health_status: unhealthy", "attributes": {"name": "web"}
        }}});
        let event = event("dev.cdeventsx.docker-container.healthstatus.0.1.0", data);
        assert_eq!(what(&event), "container health_status: unhealthy");
        assert_eq!(subject(&event), Some("web"));
        assert_eq!(run(&event), None);
    }

    #[test]
    fn a_finished_run_links_to_its_page_its_test_and_its_trigger() {
        let id = "0190b2a4-0000-7000-8000-000000000001";
        let data = json!({
            "context": {"links": [{"linkType": "RELATION", "linkKind": "TRIGGER", "target": {"contextId": "e-0"}}]},
            "subject": {"id": "smoke-1", "content": {"outcome": "fail", "testSuite": {"name": "smoke"}}},
            "customData": {"links": {"page": format!("https://results.example/runs/{id}")}},
        });
        let event = event("dev.cdevents.testsuiterun.finished.0.2.0", data);
        assert_eq!(run(&event).map(|run| run.to_string()).as_deref(), Some(id));
        assert_eq!(test(&event).as_deref(), Some("smoke"));
        assert_eq!(trigger(&event), Some("e-0"));
        assert_eq!(outcome(&event), Some("failed"));
        assert_eq!(what(&event), "test run finished");
    }
}
