//! Puts together what is known of a run: what the uploader says, what the engine said, what the cases say. Pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::Value;
use test_results::{
    Cause, Ending, Outcome, RunId, TestName, Totals, labels,
    upload::{self, JsonResult, UploadQuery},
};

use crate::views::{RunDetail, RunSummary};

/// What the uploader says, in the query of the URL or in the JSON form. Wins over everything else.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) query: UploadQuery,
    pub(crate) container_id: Option<String>,
    /// How long it took, when the times do not tell.
    pub(crate) seconds: Option<f64>,
}

impl Told {
    /// What this says, and where it says nothing, what the JSON form says.
    pub(crate) fn or(self, result: &JsonResult) -> Self {
        let (query, other) = (self.query, result.query());
        let named = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Self {
            query: UploadQuery {
                main_file: query.main_file,
                image: query.image.or(other.image),
                exit_code: query.exit_code.or(other.exit_code),
                started_at: query.started_at.or(other.started_at),
                finished_at: query.finished_at.or(other.finished_at),
                // A result without a suite is named by its image.
                test: query.test.or(other.test).or_else(|| named(&result.image_name).map(TestName)),
                host: query.host.or(other.host),
                cause: query.cause.or(other.cause),
                timeout: query.timeout.or(other.timeout),
            },
            container_id: self.container_id.or_else(|| named(&result.container_id)),
            seconds: self.seconds.or_else(|| result.test_set.as_ref()?.time),
        }
    }
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
        let time = |pointer: &str| text(pointer).and_then(|text| upload::parse_time(&text).ok().flatten());
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
        let told = self.told.query.test.as_ref().map(|test| test.0.as_str());
        let named = told.or(original).or(self.inspected.name.as_deref());
        named.map(str::trim).filter(|name| !name.is_empty())
    }

    /// The run.
    pub(crate) fn into_run(self, test: TestName) -> RunDetail {
        let Self { id, told, inspected, engine, totals, mut notes, uploaded_by, received_at } = self;
        let exit_code = told.query.exit_code.or(inspected.exit_code);
        let started_at = told.query.started_at.or(inspected.started_at);
        let finished_at = told.query.finished_at.or(inspected.finished_at);
        let timeout = || labels::parse_go_duration(labels::get(&inspected.labels, labels::TIMEOUT)?).ok();
        let timeout = told.query.timeout.or_else(timeout).filter(|timeout| !timeout.is_zero());
        let mut cause = told.query.cause;
        if cause.is_none()
            && let Some(text) = labels::get(&inspected.labels, labels::CAUSE)
        {
            match serde_json::from_str::<Cause>(text) {
                Ok(read) => cause = Some(read),
                Err(error) => notes.push(format!("label `{}` cannot be read: {error}", labels::CAUSE)),
            }
        }
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
                image: told.query.image.or(inspected.image),
                host: told.query.host.or_else(|| engine.get("name").cloned()),
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
        let query = UploadQuery {
            test: Some("mine".into()),
            image: Some("other".into()),
            exit_code: Some(0),
            finished_at: Some("2026-05-01T10:00:05Z".parse().expect("a time")),
            host: Some("h".into()),
            ..UploadQuery::default()
        };
        let known = known(Told { query, ..Told::default() }, &inspect());
        assert_eq!(known.test_name(), Some("mine"));
        let run = known.into_run("mine".into());
        assert_eq!((run.summary.state, run.exit_code), (State::Passed, Some(0)));
        assert_eq!((run.summary.image.as_deref(), run.summary.host.as_deref()), (Some("other"), Some("h")));
    }

    #[test]
    fn a_failed_case_fails_a_run_that_exited_with_0() {
        let mut totals = Totals::default();
        totals.add(CaseStatus::Failed);
        let run = Known { totals, ..known(Told::default(), &json!({"State": {"ExitCode": 0}})) };
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
    fn the_query_wins_over_the_json_form() {
        let result: JsonResult = serde_json::from_value(json!({
            "ImageName": "i", "ContainerId": "c", "HostName": "h", "ExitCode": 3, "TestSet": {"Time": 1.5},
        }))
        .expect("reads");
        let query = UploadQuery { host: Some("mine".into()), ..UploadQuery::default() };
        let told = Told { query, ..Told::default() }.or(&result);
        assert_eq!((told.query.host.as_deref(), told.query.exit_code), (Some("mine"), Some(3)));
        assert_eq!(told.query.test, Some("i".into()));
        assert_eq!((told.container_id.as_deref(), told.seconds), (Some("c"), Some(1.5)));
    }
}
