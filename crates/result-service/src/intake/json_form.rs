//! Upstream's JSON form of a result. Pure.

use serde::Deserialize;
use serde_json::Value;
use test_results::{Case, CaseStatus, Failure};

use super::facts::{Told, read_time};

/// A result that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonFormError {
    /// It is not JSON, or of another shape.
    #[error("the result is not JSON of the form {{ImageName, …, TestSet: {{Name, Tests}}}}")]
    Json(#[from] serde_json::Error),
    /// A time that cannot be read.
    #[error("`{member}` is `{text}`, which is not a time in RFC 3339")]
    Time {
        /// The member.
        member: &'static str,
        /// What it says.
        text: String,
    },
    /// A test without a name or with an unknown status.
    #[error("`TestSet.Tests[{index}].{member}` is `{text}`: {expected}")]
    Test {
        /// Which test, from 0.
        index: usize,
        /// The member.
        member: &'static str,
        /// What it says.
        text: String,
        /// What it should say.
        expected: &'static str,
    },
}

/// A result that was read.
#[derive(Debug)]
pub(crate) struct JsonResult {
    pub(crate) told: Told,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Document {
    image_name: Option<String>,
    container_id: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    exit_code: Option<i64>,
    host_name: Option<String>,
    test_set: Option<TestSet>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct TestSet {
    name: Option<String>,
    time: Value,
    tests: Option<Vec<Test>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Test {
    name: Option<String>,
    status: Option<String>,
    time: Value,
    failure: Value,
}

/// Reads a result. A test without a name of its own is named by its set, else by its image.
pub(crate) fn read(document: &[u8]) -> Result<JsonResult, JsonFormError> {
    let document: Document = serde_json::from_slice(document)?;
    let set = document.test_set.unwrap_or_default();
    let time = |member, text: Option<String>| {
        let text = text.unwrap_or_default();
        read_time(&text).map_err(|_| JsonFormError::Time { member, text })
    };
    let named = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let tests = set.tests.unwrap_or_default();
    let cases = tests.into_iter().enumerate().map(|(index, test)| case(index, test));
    Ok(JsonResult {
        cases: cases.collect::<Result<_, _>>()?,
        told: Told {
            test: named(set.name).or_else(|| named(document.image_name.clone())),
            image: named(document.image_name),
            exit_code: document.exit_code,
            started_at: time("StartedAt", document.started_at)?,
            finished_at: time("FinishedAt", document.finished_at)?,
            host: named(document.host_name),
            container_id: named(document.container_id),
            seconds: seconds(&set.time),
        },
    })
}

fn case(index: usize, test: Test) -> Result<Case, JsonFormError> {
    let name = test.name.filter(|name| !name.trim().is_empty()).ok_or(JsonFormError::Test {
        index,
        member: "Name",
        text: String::new(),
        expected: "every test needs a name",
    })?;
    let failure = failure(test.failure);
    let word = test.status.unwrap_or_default();
    let status = match (word.trim().to_ascii_lowercase().as_str(), &failure) {
        ("passed" | "pass" | "ok" | "success", _) => CaseStatus::Passed,
        ("failed" | "fail" | "failure" | "not ok", _) | ("", Some(_)) => CaseStatus::Failed,
        ("error" | "errored" | "broken", _) => CaseStatus::Error,
        ("skipped" | "skip" | "ignored" | "pending", _) => CaseStatus::Skipped,
        _ => {
            return Err(JsonFormError::Test {
                index,
                member: "Status",
                text: word.chars().take(64).collect(),
                expected: "use Passed, Failed, Error or Skipped",
            });
        }
    };
    Ok(Case {
        suite: Vec::new(),
        class: None,
        name,
        status,
        seconds: seconds(&test.time),
        failure,
        output: None,
    })
}

/// A text, or an object with the members of JUnit's failures.
fn failure(value: Value) -> Option<Failure> {
    let text =
        |value: Option<&Value>| value?.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    match &value {
        Value::Object(members) => {
            let member = |names: [&str; 2]| names.iter().find_map(|name| text(members.get(*name)));
            Some(Failure {
                message: member(["Message", "message"]),
                kind: member(["Type", "type"]),
                text: member(["Text", "text"]),
            })
        }
        other => {
            let text = text(Some(other))?;
            let first = text.lines().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned());
            let more = text.trim().contains('\n');
            Some(Failure { message: first, kind: None, text: more.then_some(text) })
        }
    }
}

/// Seconds as a number or as its text, e.g. `0.25` or `"0.25"`.
fn seconds(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().trim_end_matches('s').parse().ok())?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn upstreams_form_is_read() {
        let document = json!({
            "ImageName": "shop-tests:1", "ContainerId": "4f1c", "StartedAt": "2016-08-01T10:00:00Z",
            "FinishedAt": "2016-08-01T10:00:02Z", "ExitCode": 1, "HostName": "h1",
            "TestSet": {"Name": "shop", "Time": 1.5, "Tests": [
                {"Name": "a", "Status": "Passed", "Time": 0.5, "Failure": ""},
                {"Name": "b", "Status": "FAILED", "Time": "0.75", "Failure": "expected 1\nfound 2"},
                {"Name": "c", "Status": "Skipped"},
                {"Name": "d", "Failure": {"Message": "boom", "Type": "E"}},
            ]},
        });
        let result = read(document.to_string().as_bytes()).expect("reads");
        assert_eq!(result.told.test.as_deref(), Some("shop"));
        assert_eq!((result.told.exit_code, result.told.seconds), (Some(1), Some(1.5)));
        let statuses: Vec<_> = result.cases.iter().map(|case| case.status).collect();
        use CaseStatus::{Failed, Passed, Skipped};
        assert_eq!(statuses, [Passed, Failed, Skipped, Failed]);
        let failure = result.cases[1].failure.as_ref().expect("failed");
        assert_eq!(failure.message.as_deref(), Some("expected 1"));
        assert_eq!(failure.text.as_deref(), Some("expected 1\nfound 2"));
        assert_eq!(result.cases[1].seconds, Some(0.75));
    }

    #[test]
    fn what_is_missing_is_not_known() {
        let result =
            read(br#"{"ImageName":"i","TestSet":null,"StartedAt":"0001-01-01T00:00:00Z"}"#).expect("reads");
        assert_eq!(
            (result.told.test.as_deref(), result.told.started_at, result.cases.len()),
            (Some("i"), None, 0)
        );
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        let message =
            |document: Value| read(document.to_string().as_bytes()).expect_err("refused").to_string();
        assert_eq!(
            message(
                json!({"TestSet": {"Tests": [{"Name": "a", "Status": "Passed"}, {"Name": "b", "Status": "odd"}]}})
            ),
            "`TestSet.Tests[1].Status` is `odd`: use Passed, Failed, Error or Skipped"
        );
        assert_eq!(
            message(json!({"TestSet": {"Tests": [{}]}})),
            "`TestSet.Tests[0].Name` is ``: every test needs a name"
        );
        assert_eq!(
            message(json!({"FinishedAt": "soon"})),
            "`FinishedAt` is `soon`, which is not a time in RFC 3339"
        );
        assert!(matches!(read(b"7"), Err(JsonFormError::Json(_))));
    }
}
