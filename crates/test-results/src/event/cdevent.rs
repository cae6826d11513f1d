//! CDEvents documents for what Tugyard does and hears, built from and read into plain values.
//!
//! Shapes follow CDEvents 0.4.1 (<https://cdevents.dev>). They are written here rather than taken from `cdevents-sdk`: its
//! types refuse every field and version that they do not know, so a document of a newer sender would be lost, and it
//! brings a second time library. What goes beyond the specification is in `customData`, where it belongs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{CloudEvent, EventId};
use crate::{Case, CaseStatus, Cause, Outcome, State, TestName, Totals, TriggerKind};

/// The version of CDEvents that ours follow.
pub const SPEC_VERSION: &str = "0.4.1";
/// A run waits for its turn.
pub const TESTSUITERUN_QUEUED: &str = "dev.cdevents.testsuiterun.queued.0.2.0";
/// A run has begun.
pub const TESTSUITERUN_STARTED: &str = "dev.cdevents.testsuiterun.started.0.2.0";
/// A run has ended.
pub const TESTSUITERUN_FINISHED: &str = "dev.cdevents.testsuiterun.finished.0.2.0";
/// A case has ended.
pub const TESTCASERUN_FINISHED: &str = "dev.cdevents.testcaserun.finished.0.2.0";
/// A case was not run on purpose.
pub const TESTCASERUN_SKIPPED: &str = "dev.cdevents.testcaserun.skipped.0.1.0";
/// Something that can be installed or started is available.
pub const ARTIFACT_PUBLISHED: &str = "dev.cdevents.artifact.published.0.2.0";
/// A person asks for a run.
pub const RUN_REQUESTED: &str = "dev.cdeventsx.tugyard-run.requested.0.1.0";

/// Who says something, when, under which id. The caller makes the id and reads the clock.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Unique within the source.
    pub id: EventId,
    /// A URI reference, e.g. `/tugyard/run/<host>`.
    pub source: String,
    /// When it happened.
    pub at: Timestamp,
}

/// What a container engine reported.
#[derive(Clone, Debug)]
pub struct EngineEvent<'a> {
    /// The type of the object: `container`, `image`, `network`, …
    pub kind: &'a str,
    /// The action as the engine says it, e.g. `health_status: unhealthy`.
    pub action: &'a str,
    /// The id of the object.
    pub id: &'a str,
    /// The engine's attributes: name, image, exit code, labels.
    pub attributes: &'a BTreeMap<String, String>,
}

/// The type of the event for an engine's `kind` and `action`.
///
/// CDEvents allow letters only in both words, so `exec_create: /bin/sh` becomes `execcreate`. The action as the
/// engine said it is in `subject.content.action`.
pub fn engine_event_type(kind: &str, action: &str) -> String {
    custom_type("docker", kind, action)
}

/// A custom type; words without a letter become `unknown`.
pub(super) fn custom_type(tool: &str, subject: &str, predicate: &str) -> String {
    format!("dev.cdeventsx.{tool}-{}.{}.0.1.0", word(subject), word(predicate))
}

fn word(text: &str) -> String {
    let before_colon = text.split(':').next().unwrap_or_default();
    let letters: String = before_colon.chars().filter(char::is_ascii_alphabetic).take(64).collect();
    if letters.is_empty() { "unknown".to_owned() } else { letters.to_ascii_lowercase() }
}

/// The event for something that a container engine reported.
pub fn engine_event(stamp: Stamp, event: &EngineEvent<'_>) -> CloudEvent {
    let content = json!({"action": event.action, "attributes": event.attributes});
    let subject = format!("docker-{}", word(event.kind));
    document(
        stamp,
        engine_event_type(event.kind, event.action),
        event.id,
        &subject,
        content,
        None,
        Value::Null,
    )
}

/// A run of a test container, for [`run_queued`], [`run_started`] and [`run_finished`].
#[derive(Clone, Debug)]
pub struct SuiteRun<'a> {
    /// Identifies the run within the source, e.g. the name of the copy.
    pub id: &'a str,
    /// The test.
    pub test: &'a TestName,
    /// Where it runs: the host.
    pub environment: &'a str,
    /// Why it runs.
    pub cause: Option<&'a Cause>,
    /// The image that it runs.
    pub image: Option<&'a str>,
    /// Where to look: name (`page`, `api`) and URL.
    pub links: &'a [(&'a str, &'a str)],
}

/// The run waits for its turn.
pub fn run_queued(stamp: Stamp, run: &SuiteRun<'_>) -> CloudEvent {
    suite_run(stamp, TESTSUITERUN_QUEUED, run, with_trigger(run), Map::new())
}

/// The run has begun.
pub fn run_started(stamp: Stamp, run: &SuiteRun<'_>) -> CloudEvent {
    suite_run(stamp, TESTSUITERUN_STARTED, run, with_trigger(run), Map::new())
}

/// The run has ended. `totals` are known once its results have been read.
///
/// CDEvents know `pass`, `fail`, `cancel` and `error`: a run that timed out or was lost is an `error`. The exact
/// [`Outcome`] is in `customData.result`.
pub fn run_finished(
    stamp: Stamp,
    run: &SuiteRun<'_>,
    outcome: &Outcome,
    totals: Option<&Totals>,
) -> CloudEvent {
    let mut content = Map::new();
    content.insert("outcome".into(), outcome_word(outcome.state()).into());
    if *outcome != Outcome::Passed {
        content.insert("reason".into(), outcome.to_string().into());
    }
    let mut custom = Map::new();
    custom.insert("result".into(), json!(outcome));
    if let Some(totals) = totals {
        custom.insert("totals".into(), json!(totals));
    }
    suite_run(stamp, TESTSUITERUN_FINISHED, run, content, custom)
}

fn outcome_word(state: State) -> &'static str {
    match state {
        State::Passed => "pass",
        State::Failed => "fail",
        State::TimedOut | State::Lost => "error",
    }
}

fn with_trigger(run: &SuiteRun<'_>) -> Map<String, Value> {
    let mut content = Map::new();
    if let Some(cause) = run.cause {
        let kind = match cause.trigger {
            TriggerKind::Timer | TriggerKind::Cron => "schedule",
            TriggerKind::Manual => "manual",
            TriggerKind::Docker
            | TriggerKind::Image
            | TriggerKind::Host
            | TriggerKind::After
            | TriggerKind::Cd => "event",
        };
        content.insert("trigger".into(), json!({"type": kind}));
    }
    content
}

fn suite_run(
    stamp: Stamp,
    kind: &str,
    run: &SuiteRun<'_>,
    mut content: Map<String, Value>,
    mut custom: Map<String, Value>,
) -> CloudEvent {
    content.insert("environment".into(), json!({"id": run.environment}));
    let mut suite = json!({"id": run.test.0, "name": run.test.0});
    if let Some((_, page)) = run.links.iter().find(|(name, _)| *name == "page") {
        suite["uri"] = json!(page);
    }
    content.insert("testSuite".into(), suite);
    if let Some(cause) = run.cause {
        custom.insert("cause".into(), json!(cause));
    }
    if let Some(image) = run.image {
        custom.insert("image".into(), image.into());
    }
    if !run.links.is_empty() {
        custom.insert(
            "links".into(),
            run.links.iter().copied().collect::<BTreeMap<_, _>>().into_iter().collect(),
        );
    }
    let trigger = run.cause.and_then(|cause| cause.event.as_ref());
    document(stamp, kind.to_owned(), run.id, "testSuiteRun", content.into(), trigger, custom.into())
}

/// One case of a run has ended, or was skipped. `id` identifies the case's run within the source.
pub fn case_finished(stamp: Stamp, run: &SuiteRun<'_>, id: &str, case: &Case) -> CloudEvent {
    let full_name =
        case.suite.iter().map(String::as_str).chain(case.class.as_deref()).chain([case.name.as_str()]);
    let full_name = full_name.collect::<Vec<_>>().join("/");
    let mut content = Map::new();
    content.insert("environment".into(), json!({"id": run.environment}));
    content.insert("testCase".into(), json!({"id": full_name, "name": case.name}));
    content.insert("testSuiteRun".into(), json!({"id": run.id, "source": stamp.source}));
    let message = case.failure.as_ref().and_then(|failure| failure.message.clone());
    if let Some(message) = message {
        content.insert("reason".into(), message.into());
    }
    let kind = if case.status == CaseStatus::Skipped {
        TESTCASERUN_SKIPPED
    } else {
        let outcome = match case.status {
            CaseStatus::Error => "error",
            status if status.is_failure() => "fail",
            _ => "pass",
        };
        content.insert("outcome".into(), outcome.into());
        TESTCASERUN_FINISHED
    };
    let custom = json!({"status": case.status, "seconds": case.seconds});
    document(stamp, kind.to_owned(), id, "testCaseRun", content.into(), None, custom)
}

/// A person, or another program on a person's behalf, asks for a run of a test.
pub fn run_requested(stamp: Stamp, test: &TestName, by: Option<&str>) -> CloudEvent {
    let content = by.map_or_else(|| json!({}), |by| json!({"by": by}));
    document(stamp, RUN_REQUESTED.to_owned(), &test.0, "tugyard-run", content, None, Value::Null)
}

/// The test that a [`RUN_REQUESTED`] event asks for; `None` for every other event.
pub fn requested_test(event: &CloudEvent) -> Option<TestName> {
    (event.kind == RUN_REQUESTED).then(|| subject_id(event).map(TestName::from)).flatten()
}

/// What a `testsuiterun.finished` event says.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedRun {
    /// The test.
    pub test: TestName,
    /// Identifies the run within the event's source.
    pub run: String,
    /// How it ended: exactly for our own events, else as far as CDEvents tell.
    pub outcome: Outcome,
    /// Counts of its cases, if the sender knew them.
    pub totals: Option<Totals>,
}

/// Reads a `testsuiterun.finished` event of any version and any sender; `None` for every other event.
pub fn finished_run(event: &CloudEvent) -> Option<FinishedRun> {
    is_type(event, TESTSUITERUN_FINISHED).then_some(())?;
    let content = event.data.pointer("/subject/content")?;
    let text = |pointer: &str| content.pointer(pointer).and_then(Value::as_str);
    let test = text("/testSuite/name").or_else(|| text("/testSuite/id")).or(subject_id(event))?;
    let custom = |key: &str| event.data.get("customData").and_then(|custom| custom.get(key)).cloned();
    let exact = custom("result").and_then(|value| serde_json::from_value(value).ok());
    let outcome = exact.or_else(|| {
        Some(match text("/outcome")? {
            "pass" | "success" => Outcome::Passed,
            "fail" | "failure" => Outcome::Failed { exit_code: 1 },
            other => Outcome::Lost { reason: text("/reason").unwrap_or(other).to_owned() },
        })
    });
    Some(FinishedRun {
        test: test.into(),
        run: subject_id(event)?.to_owned(),
        outcome: outcome?,
        totals: custom("totals").and_then(|value| serde_json::from_value(value).ok()),
    })
}

/// What an `artifact.published` event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedArtifact {
    /// A package URL, e.g. `pkg:oci/shop@sha256%3A…?repository_url=registry.example`.
    pub id: String,
    /// Where the id is valid.
    pub source: Option<String>,
    /// Who published it.
    pub user: Option<String>,
    /// Where its bill of materials is.
    pub sbom: Option<String>,
}

/// Reads an `artifact.published` event of any version; `None` for every other event.
pub fn published_artifact(event: &CloudEvent) -> Option<PublishedArtifact> {
    is_type(event, ARTIFACT_PUBLISHED).then_some(())?;
    let text = |pointer: &str| event.data.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Some(PublishedArtifact {
        id: subject_id(event)?.to_owned(),
        source: text("/subject/source"),
        user: text("/subject/content/user"),
        sbom: text("/subject/content/sbom/uri"),
    })
}

/// Whether the event has this type, whatever its version.
fn is_type(event: &CloudEvent, wanted: &str) -> bool {
    without_version(&event.kind) == without_version(wanted)
}

/// A CDEvents type without the version at its end.
pub(super) fn without_version(kind: &str) -> &str {
    let is_version = |c: char| c.is_ascii_digit() || c == '.';
    let end = kind.find('-').filter(|dash| kind[dash + 1..].contains("draft")).unwrap_or(kind.len());
    kind[..end].trim_end_matches(is_version)
}

/// The id of the subject: of the CDEvents document, else of the envelope.
pub(super) fn subject_id(event: &CloudEvent) -> Option<&str> {
    event.data.pointer("/subject/id").and_then(Value::as_str).or(event.subject.as_deref())
}

pub(super) fn document(
    stamp: Stamp,
    kind: String,
    subject: &str,
    subject_type: &str,
    content: Value,
    trigger: Option<&EventId>,
    custom: Value,
) -> CloudEvent {
    let mut context = json!({
        "version": SPEC_VERSION, "id": stamp.id, "source": stamp.source, "type": kind, "timestamp": stamp.at,
    });
    if let Some(trigger) = trigger {
        let target = json!({"contextId": trigger});
        context["links"] = json!([{"linkType": "RELATION", "linkKind": "TRIGGER", "target": target}]);
    }
    let mut data = json!({
        "context": context,
        "subject": {"id": subject, "source": stamp.source, "type": subject_type, "content": content},
    });
    if custom.as_object().is_some_and(|custom| !custom.is_empty()) {
        data["customData"] = custom;
        data["customDataContentType"] = json!("application/json");
    }
    CloudEvent {
        time: Some(stamp.at),
        subject: Some(subject.to_owned()),
        datacontenttype: Some("application/json".to_owned()),
        data,
        ..CloudEvent::new(stamp.id, stamp.source, kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventLimits;

    fn stamp() -> Stamp {
        Stamp {
            id: EventId("e-7".into()),
            source: "/tugyard/run/host-a".into(),
            at: "2026-05-01T10:00:00Z".parse().unwrap(),
        }
    }

    fn cause() -> Cause {
        Cause {
            trigger: TriggerKind::Docker,
            summary: "container web create".into(),
            at: "2026-05-01T09:59:59Z".parse().unwrap(),
            event: Some(EventId("e-6".into())),
            attempt: 1,
        }
    }

    #[test]
    fn an_engine_event_has_a_type_that_cdevents_allow() {
        for (action, kind) in [
            ("create", "dev.cdeventsx.docker-container.create.0.1.0"),
            ("exec_create: /bin/sh", "dev.cdeventsx.docker-container.execcreate.0.1.0"),
            ("health_status: unhealthy", "dev.cdeventsx.docker-container.healthstatus.0.1.0"),
            ("", "dev.cdeventsx.docker-container.unknown.0.1.0"),
        ] {
            assert_eq!(engine_event_type("container", action), kind);
        }
        let attributes = BTreeMap::from([("image".to_owned(), "busybox".to_owned())]);
        let event = EngineEvent {
            kind: "container",
            action: "health_status: unhealthy",
            id: "c1",
            attributes: &attributes,
        };
        let event = engine_event(stamp(), &event);
        assert_eq!(event.subject.as_deref(), Some("c1"));
        assert_eq!(event.data["subject"]["type"], "docker-container");
        assert_eq!(event.data["subject"]["content"]["action"], "health_status: unhealthy");
        assert_eq!(event.data["subject"]["content"]["attributes"]["image"], "busybox");
        assert!(event.check(&EventLimits::default()).is_ok());
    }

    #[test]
    fn a_finished_run_can_be_read_back() {
        let (test, cause) = (TestName::from("smoke"), cause());
        let links = [("page", "https://results.example/runs/1")];
        let run = SuiteRun {
            id: "smoke-1",
            test: &test,
            environment: "host-a",
            cause: Some(&cause),
            image: Some("shop/smoke:3"),
            links: &links,
        };
        let totals = Totals { cases: 3, passed: 2, failed: 1, skipped: 0 };
        for outcome in [
            Outcome::Passed,
            Outcome::Failed { exit_code: 3 },
            Outcome::TimedOut { after_seconds: 1.5 },
            Outcome::Lost { reason: "engine restarted".into() },
        ] {
            let event = run_finished(stamp(), &run, &outcome, Some(&totals));
            let read = finished_run(&event).unwrap();
            let expected =
                FinishedRun { test: test.clone(), run: "smoke-1".into(), outcome, totals: Some(totals) };
            assert_eq!(read, expected);
            assert_eq!(event.data["context"]["links"][0]["target"]["contextId"], "e-6");
            assert_eq!(event.data["customData"]["links"]["page"], "https://results.example/runs/1");
            assert_eq!(
                event.data["subject"]["content"]["testSuite"]["uri"],
                "https://results.example/runs/1"
            );
        }
        let queued = run_queued(stamp(), &run);
        assert_eq!(queued.data["subject"]["content"]["trigger"]["type"], "event");
        assert!(finished_run(&queued).is_none());
    }

    #[test]
    fn the_content_of_a_run_has_only_what_the_schema_knows() {
        let (test, cause) = (TestName::from("smoke"), cause());
        let run = SuiteRun {
            id: "r",
            test: &test,
            environment: "h",
            cause: Some(&cause),
            image: Some("i"),
            links: &[],
        };
        let keys = |event: &CloudEvent| {
            let content = event.data["subject"]["content"].as_object().unwrap();
            content.keys().cloned().collect::<Vec<_>>()
        };
        let failed = Outcome::Failed { exit_code: 1 };
        assert_eq!(keys(&run_started(stamp(), &run)), ["environment", "testSuite", "trigger"]);
        let finished = run_finished(stamp(), &run, &failed, None);
        assert_eq!(keys(&finished), ["environment", "outcome", "reason", "testSuite"]);
        assert_eq!(finished.data["subject"]["content"]["outcome"], "fail");
    }

    #[test]
    fn a_finished_run_of_another_sender_is_understood() {
        let mut event =
            CloudEvent::new(EventId("1".into()), "/ci", "dev.cdevents.testsuiterun.finished.0.1.1");
        event.data =
            json!({"subject": {"id": "run-9", "content": {"outcome": "fail", "testSuite": {"id": "auth"}}}});
        let read = finished_run(&event).unwrap();
        assert_eq!((read.test.0.as_str(), read.outcome), ("auth", Outcome::Failed { exit_code: 1 }));
    }

    #[test]
    fn a_case_says_whether_it_failed() {
        let test = TestName::from("smoke");
        let run = SuiteRun { id: "r", test: &test, environment: "h", cause: None, image: None, links: &[] };
        let mut case = Case {
            suite: vec!["api".into()],
            class: Some("Login".into()),
            name: "rejects".into(),
            status: CaseStatus::Failed,
            seconds: Some(0.5),
            failure: Some(crate::Failure { message: Some("boom".into()), ..Default::default() }),
            output: None,
        };
        let event = case_finished(stamp(), &run, "r/1", &case);
        assert_eq!(event.kind, TESTCASERUN_FINISHED);
        assert_eq!(event.data["subject"]["content"]["testCase"]["id"], "api/Login/rejects");
        assert_eq!(event.data["subject"]["content"]["outcome"], "fail");
        case.status = CaseStatus::Skipped;
        assert_eq!(case_finished(stamp(), &run, "r/1", &case).kind, TESTCASERUN_SKIPPED);
    }

    #[test]
    fn a_request_names_its_test() {
        let event = run_requested(stamp(), &"smoke".into(), Some("ann"));
        assert_eq!(requested_test(&event), Some("smoke".into()));
        assert_eq!(event.subject.as_deref(), Some("smoke"));
        let other = CloudEvent { kind: TESTSUITERUN_QUEUED.into(), ..event };
        assert_eq!(requested_test(&other), None);
    }

    #[test]
    fn a_published_artifact_of_any_version_is_read() {
        for version in ["0.1.1", "0.2.0", "0.3.0-draft"] {
            let kind = format!("dev.cdevents.artifact.published.{version}");
            let mut event = CloudEvent::new(EventId("1".into()), "/ci", kind);
            event.data =
                json!({"subject": {"id": "pkg:oci/shop@1", "source": "/reg", "content": {"user": "bot"}}});
            let artifact = published_artifact(&event).unwrap();
            assert_eq!((artifact.id.as_str(), artifact.user.as_deref()), ("pkg:oci/shop@1", Some("bot")));
        }
        assert!(published_artifact(&run_requested(stamp(), &"t".into(), None)).is_none());
    }
}
