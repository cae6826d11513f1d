//! Puts together what is known of a run: what the uploader says, what the engine said, what the cases say. Pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::Value;
use test_results::{Cause, Ending, Outcome, RunId, TestName, Totals, labels};

use crate::views::{RunDetail, RunSummary};

/// What the uploader says, in the query of the URL or in the JSON form. Wins over everything else.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) test: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) exit_code: Option<i64>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) host: Option<String>,
    pub(crate) container_id: Option<String>,
    /// How long it took, when the times do not tell.
    pub(crate) seconds: Option<f64>,
}

/// What the engine said of the container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Inspected {
    name: Option<String>,
    container_id: Option<String>,
    image: Option<String>,
    image_id: Option<String>,
    exit_code: Option<i64>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    out_of_memory: bool,
    labels: BTreeMap<String, String>,
}

impl Inspected {
    /// Reads the engine's inspect document. What is missing or of another shape is not known.
    pub(crate) fn read(document: &Value) -> Self {
        let text = |pointer: &str| {
            document
                .pointer(pointer)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let time = |pointer: &str| text(pointer).and_then(|text| read_time(&text).ok().flatten());
        let labels = document.pointer("/Config/Labels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        Self {
            name: text("/Name").map(|name| name.trim_start_matches('/').to_owned()),
            container_id: text("/Id"),
            image: text("/Config/Image"),
            image_id: text("/Image"),
            exit_code: document.pointer("/State/ExitCode").and_then(Value::as_i64),
            started_at: time("/State/StartedAt"),
            finished_at: time("/State/FinishedAt"),
            out_of_memory: document.pointer("/State/OOMKilled").and_then(Value::as_bool).unwrap_or(false),
            labels: labels
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
        }
    }
}

/// Reads a time in RFC 3339. Go's zero time and the empty text are no time; a `+` that became a space on its way
/// through a URL is a `+`.
pub(crate) fn read_time(text: &str) -> Result<Option<Timestamp>, jiff::Error> {
    let text = text.trim().replace(' ', "+");
    if text.is_empty() || text.starts_with("0001-01-01") {
        return Ok(None);
    }
    text.parse().map(Some)
}

/// What is known when an upload has been read.
pub(crate) struct Known {
    pub(crate) id: RunId,
    pub(crate) told: Told,
    pub(crate) inspected: Inspected,
    pub(crate) engine: BTreeMap<String, String>,
    pub(crate) totals: Totals,
    pub(crate) notes: Vec<String>,
    pub(crate) uploaded_by: Option<String>,
    pub(crate) received_at: Timestamp,
}

impl Known {
    /// The name of the test, as far as anybody says.
    pub(crate) fn test_name(&self) -> Option<&str> {
        let original = labels::get(&self.inspected.labels, labels::CREATED_FROM);
        let named = self.told.test.as_deref().or(original).or(self.inspected.name.as_deref());
        named.map(str::trim).filter(|name| !name.is_empty())
    }

    /// The run.
    pub(crate) fn into_run(self, test: TestName) -> RunDetail {
        let Self { id, told, inspected, engine, totals, mut notes, uploaded_by, received_at } = self;
        let exit_code = told.exit_code.or(inspected.exit_code);
        let started_at = told.started_at.or(inspected.started_at);
        let finished_at = told.finished_at.or(inspected.finished_at);
        let timeout = labels::get(&inspected.labels, labels::TIMEOUT)
            .and_then(|text| labels::parse_go_duration(text).ok())
            .filter(|timeout| !timeout.is_zero());
        let cause = labels::get(&inspected.labels, labels::CAUSE).and_then(|text| {
            serde_json::from_str::<Cause>(text)
                .map_err(|error| notes.push(format!("label `{}` cannot be read: {error}", labels::CAUSE)))
                .ok()
        });
        if inspected.out_of_memory {
            notes.push("the engine ended the container for want of memory".to_owned());
        }
        let ending = Ending { exit_code: exit_code.unwrap_or(0), started_at, finished_at, timeout };
        let outcome = judge(&ending, &totals);
        let seconds = match (started_at, finished_at) {
            (Some(from), Some(to)) => Some(to.duration_since(from).as_secs_f64()).filter(|ran| *ran >= 0.0),
            _ => told.seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0),
        };
        RunDetail {
            summary: RunSummary {
                id,
                test,
                state: outcome.state(),
                at: started_at.unwrap_or(received_at),
                started_at,
                finished_at,
                seconds,
                image: told.image.or(inspected.image),
                host: told.host.or_else(|| engine.get("name").cloned()),
                totals,
                trigger: cause.as_ref().map(|cause| cause.trigger),
                cause: cause.as_ref().map(|cause| cause.summary.clone()),
            },
            outcome,
            started_because: cause,
            received_at,
            exit_code,
            timeout_seconds: timeout.as_ref().map(Duration::as_secs_f64),
            container_id: told.container_id.or(inspected.container_id),
            image_id: inspected.image_id,
            labels: inspected.labels,
            engine,
            notes,
            uploaded_by,
        }
    }
}

/// How a run ended: by its container, and by its cases when the container says that all is well.
fn judge(ending: &Ending, totals: &Totals) -> Outcome {
    match Outcome::judge(ending) {
        Outcome::Passed if totals.failed > 0 => Outcome::Failed { exit_code: ending.exit_code },
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use test_results::{CaseStatus, State};
    use uuid::Uuid;

    use super::*;

    fn inspect() -> Value {
        json!({
            "Id": "4f1c", "Name": "/tugbot_t1_x", "Image": "sha256:aa",
            "State": {"ExitCode": 137, "StartedAt": "2026-05-01T10:00:00Z", "FinishedAt": "2026-05-01T10:00:30.5Z"},
            "Config": {"Image": "shop:2", "Labels": {
                "tugbot-created-from": "t1", "tugbot.timeout": "30s", "tugbot.owner": "web",
                "tugbot.cause": r#"{"trigger":"docker","summary":"container web create","at":"2026-05-01T09:59:59Z"}"#,
            }},
        })
    }

    fn known(told: Told, inspected: &Value) -> Known {
        Known {
            id: RunId(Uuid::nil()),
            told,
            inspected: Inspected::read(inspected),
            engine: BTreeMap::from([("name".to_owned(), "host-1".to_owned())]),
            totals: Totals::default(),
            notes: Vec::new(),
            uploaded_by: None,
            received_at: "2026-05-01T10:01:00Z".parse().expect("a time"),
        }
    }

    #[test]
    fn a_copy_is_a_run_of_its_original() {
        let known = known(Told::default(), &inspect());
        assert_eq!(known.test_name(), Some("t1"));
        let run = known.into_run("t1".into());
        assert_eq!(run.outcome, Outcome::TimedOut { after_seconds: 30.0 });
        assert_eq!(run.summary.seconds, Some(30.5));
        assert_eq!(
            (run.summary.image.as_deref(), run.summary.host.as_deref()),
            (Some("shop:2"), Some("host-1"))
        );
        assert_eq!(run.summary.cause.as_deref(), Some("container web create"));
        assert!(run.notes.is_empty());
    }

    #[test]
    fn the_uploader_knows_better_than_the_engine() {
        let told = Told {
            test: Some("mine".into()),
            image: Some("other".into()),
            exit_code: Some(0),
            host: Some("h".into()),
            ..Told::default()
        };
        let known = known(told, &inspect());
        assert_eq!(known.test_name(), Some("mine"));
        let run = known.into_run("mine".into());
        assert_eq!((run.summary.state, run.exit_code), (State::Passed, Some(0)));
        assert_eq!((run.summary.image.as_deref(), run.summary.host.as_deref()), (Some("other"), Some("h")));
    }

    #[test]
    fn a_failed_case_fails_a_run_that_exited_with_0() {
        let mut totals = Totals::default();
        totals.add(CaseStatus::Failed);
        let run = Known { totals, ..known(Told { exit_code: Some(0), ..Told::default() }, &json!({})) };
        assert_eq!(run.into_run("t".into()).outcome, Outcome::Failed { exit_code: 0 });
    }

    #[test]
    fn an_unknown_container_has_no_name_and_starts_when_it_is_received() {
        let known = known(Told::default(), &json!({"State": "gone", "Config": {"Labels": null}}));
        assert_eq!(known.test_name(), None);
        let run = known.into_run("t".into());
        assert_eq!((run.summary.at, run.summary.started_at), (run.received_at, None));
        assert_eq!(run.outcome, Outcome::Passed);
    }

    #[test]
    fn a_cause_that_cannot_be_read_is_remarked() {
        let document = json!({"Config": {"Labels": {"tugbot.cause": "because"}}});
        let run = known(Told::default(), &document).into_run("t".into());
        assert!(run.notes[0].starts_with("label `tugbot.cause` cannot be read"), "{:?}", run.notes);
    }

    #[test]
    fn times_survive_urls_and_go() {
        let time = "2026-05-01T08:00:00Z".parse().expect("a time");
        assert_eq!(read_time("2026-05-01T10:00:00 02:00").ok(), Some(Some(time)));
        assert_eq!(read_time("0001-01-01T00:00:00Z").ok(), Some(None));
        assert_eq!(read_time("").ok(), Some(None));
        assert!(read_time("yesterday").is_err());
    }
}
