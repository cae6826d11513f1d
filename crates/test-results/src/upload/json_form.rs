//! Results as one JSON document, as upstream's uploaders send them. Times may be numbers or text.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{UploadQuery, parse_time};
use crate::{
    Case, CaseStatus, Limits, TestName,
    bounded::{self, Text},
};

/// `{ImageName, ContainerId, StartedAt, FinishedAt, ExitCode, HostName, TestSet}`. Every member may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JsonResult {
    /// The image of the test container.
    #[serde(deserialize_with = "text")]
    pub image_name: String,
    /// Its id.
    #[serde(alias = "ContainerID", deserialize_with = "text")]
    pub container_id: String,
    /// When it started.
    #[serde(deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The exit code of its main process.
    #[serde(deserialize_with = "integer", skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Where it ran.
    #[serde(deserialize_with = "text")]
    pub host_name: String,
    /// Its cases. Some of upstream's releases call it `TestCase`.
    #[serde(alias = "TestCase", skip_serializing_if = "Option::is_none")]
    pub test_set: Option<JsonTestSet>,
}

/// `{Name, Time, Tests}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JsonTestSet {
    /// The name of the suite.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// How long it took, in seconds.
    #[serde(deserialize_with = "seconds", skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// The cases.
    #[serde(deserialize_with = "or_default")]
    pub tests: Vec<JsonTest>,
}

/// `{Name, Status, Time, Failure}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JsonTest {
    /// The name of the case.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// `Passed`, `Failed`, `Skipped`, in any case and under their usual other names.
    #[serde(deserialize_with = "text")]
    pub status: String,
    /// How long it took, in seconds.
    #[serde(deserialize_with = "seconds", skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// Why it failed.
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    pub failure: String,
}

impl JsonResult {
    /// What the query of an upload would say.
    pub fn query(&self) -> UploadQuery {
        let filled = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        UploadQuery {
            image: filled(&self.image_name),
            exit_code: self.exit_code,
            started_at: self.started_at,
            finished_at: self.finished_at,
            test: self.test_set.as_ref().and_then(|set| filled(&set.name)).map(TestName),
            host: filled(&self.host_name),
            ..UploadQuery::default()
        }
    }

    /// The cases, at most `limits.cases`.
    pub fn cases(&self, limits: &Limits) -> impl Iterator<Item = Case> {
        let set = self.test_set.as_ref();
        let suite = set.map(|set| bounded::name(&set.name, limits)).filter(|name| !name.is_empty());
        let tests = set.map(|set| set.tests.as_slice()).unwrap_or_default();
        let most = usize::try_from(limits.cases).unwrap_or(usize::MAX);
        tests.iter().take(most).map(move |test| test.case(suite.clone(), limits))
    }
}

impl JsonTest {
    fn case(&self, suite: Option<String>, limits: &Limits) -> Case {
        let word = self.status.trim().to_ascii_lowercase();
        let (status, unknown) = match word.as_str() {
            "passed" | "pass" | "ok" | "success" | "successful" | "succeeded" => (CaseStatus::Passed, false),
            "failed" | "fail" | "failure" | "not ok" => (CaseStatus::Failed, false),
            "error" | "errored" | "broken" => (CaseStatus::Error, false),
            "skipped" | "skip" | "ignored" | "pending" | "disabled" => (CaseStatus::Skipped, false),
            "" if self.failure.trim().is_empty() => (CaseStatus::Passed, false),
            "" => (CaseStatus::Failed, false),
            // A word that we do not know must not pass in silence.
            _ => (CaseStatus::Error, true),
        };
        let mut text = Text::default();
        text.push(&self.failure, limits.text);
        let message =
            unknown.then(|| format!("the status `{}` is not known", bounded::name(&self.status, limits)));
        Case {
            suite: suite.into_iter().collect(),
            class: None,
            name: bounded::name(&self.name, limits),
            status,
            seconds: self.time,
            failure: bounded::failure(message, None, text.finish()).filter(|_| status != CaseStatus::Passed),
            output: None,
        }
    }
}

/// A string; `null` is an empty one, and any other value its JSON text.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    })
}

/// A time in RFC 3339, or milliseconds since 1970 as a number.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    use serde::de::Error;
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::String(text) => parse_time(&text).map_err(D::Error::custom),
        Value::Number(number) => {
            let milliseconds =
                number.as_i64().ok_or_else(|| D::Error::custom("a time is not a whole number"))?;
            Timestamp::from_millisecond(milliseconds).map(Some).map_err(D::Error::custom)
        }
        _ => Err(D::Error::custom("a time is neither text nor a number")),
    }
}

fn integer<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let text = text(from)?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    text.trim().parse().map(Some).map_err(serde::de::Error::custom)
}

/// Seconds, as a number or as text; text that is none is missing.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Ok(bounded::seconds(&text(from)?))
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"ImageName":"shop/smoke:3","ContainerId":"4f1c","StartedAt":"2016-08-01T10:00:00Z",
        "FinishedAt":1470045602000,"ExitCode":"1","HostName":"host-a","TestSet":{"Name":"smoke","Time":"1.5","Tests":[
        {"Name":"a","Status":"Passed","Time":0.5,"Failure":""},
        {"Name":"b","Status":"FAILED","Time":"0.25","Failure":"boom\ntrace"},
        {"Name":"c","Status":"skipped","Time":null},{"Name":"d","Failure":"x"},{"Name":"e"},
        {"Name":"f","Status":"mystery"}]}}"#;

    #[test]
    fn upstreams_document_is_read() {
        let result: JsonResult = serde_json::from_str(DOCUMENT).unwrap();
        let query = result.query();
        assert_eq!(query.finished_at, Some("2016-08-01T10:00:02Z".parse().unwrap()));
        assert_eq!((query.exit_code, query.test), (Some(1), Some("smoke".into())));
        let cases: Vec<Case> = result.cases(&Limits::default()).collect();
        use CaseStatus::*;
        let statuses: Vec<_> = cases.iter().map(|case| case.status).collect();
        assert_eq!(statuses, [Passed, Failed, Skipped, Failed, Passed, Error]);
        assert_eq!((cases[1].seconds, &cases[1].suite), (Some(0.25), &vec!["smoke".to_owned()]));
        let failure = cases[1].failure.as_ref().unwrap();
        assert_eq!(
            (failure.message.as_deref(), failure.text.as_deref()),
            (Some("boom"), Some("boom\ntrace"))
        );
        let failure = cases[5].failure.as_ref().unwrap();
        assert_eq!(failure.message.as_deref(), Some("the status `mystery` is not known"));
    }

    #[test]
    fn it_comes_back_as_it_was_sent() {
        let result: JsonResult = serde_json::from_str(DOCUMENT).unwrap();
        let again = serde_json::from_str(&serde_json::to_string(&result).unwrap()).unwrap();
        assert_eq!(result, again);
    }

    #[test]
    fn missing_members_are_taken_and_broken_ones_are_not() {
        let empty: JsonResult = serde_json::from_str("{}").unwrap();
        assert_eq!((empty.query(), empty.cases(&Limits::default()).count()), (UploadQuery::default(), 0));
        let result: JsonResult =
            serde_json::from_str(r#"{"TestCase":{"Tests":null},"ExitCode":null}"#).unwrap();
        assert_eq!(result.cases(&Limits::default()).count(), 0);
        assert!(serde_json::from_str::<JsonResult>(r#"{"ExitCode":"one"}"#).is_err());
        assert!(serde_json::from_str::<JsonResult>(r#"{"StartedAt":"noon"}"#).is_err());
        assert!(serde_json::from_str::<JsonResult>(r#"{"StartedAt":1.5}"#).is_err());
    }
}
