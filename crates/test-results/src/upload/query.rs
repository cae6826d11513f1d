//! The query parameters of an upload, both ways.

use jiff::Timestamp;

use super::parse_time;
use crate::{
    Cause, TestName,
    labels::{DurationError, parse_go_duration},
};

const MAINFILE: &str = "mainfile";
const IMAGE: &str = "docker.imagename";
const EXIT_CODE: &str = "exitcode";
const STARTED_AT: &str = "start-time";
const FINISHED_AT: &str = "end-time";
const TEST: &str = "test";
const HOST: &str = "hostname";
const CAUSE: &str = "cause";
const TIMEOUT: &str = "timeout";

/// Longest value that is taken.
const VALUE: usize = 4096;

/// What the query of an upload says. What is missing there may be in the inspect document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UploadQuery {
    /// `mainfile`: the name of the uploaded archive, `results.tar` unless the sender means another.
    pub main_file: Option<String>,
    /// `docker.imagename`: the image of the test container.
    pub image: Option<String>,
    /// `exitcode`: of its main process.
    pub exit_code: Option<i64>,
    /// `start-time`: when it started.
    pub started_at: Option<Timestamp>,
    /// `end-time`: when it ended.
    pub finished_at: Option<Timestamp>,
    /// `test`: the name of the test.
    pub test: Option<TestName>,
    /// `hostname`: where it ran.
    pub host: Option<String>,
    /// `cause`: why it ran.
    pub cause: Option<Cause>,
    /// `timeout`: how long it might run.
    pub timeout: Option<std::time::Duration>,
}

/// A query that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A value is too long.
    #[error("parameter `{name}` has {size} bytes, at most {VALUE} are taken")]
    TooLong {
        /// The parameter.
        name: &'static str,
        /// Its bytes.
        size: usize,
    },
    /// A number is not one.
    #[error("parameter `{name}` is `{value}`, which is not a whole number")]
    Number {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A time is not one.
    #[error("parameter `{name}` is `{value}`, which is not a time in RFC 3339")]
    Time {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: String,
        /// Why.
        #[source]
        source: jiff::Error,
    },
    /// The cause is not one.
    #[error("parameter `cause` is not a cause in JSON")]
    Cause(#[source] serde_json::Error),
    /// The timeout is not a duration.
    #[error("parameter `timeout` is not a duration")]
    Timeout(#[source] DurationError),
}

impl UploadQuery {
    /// The parameters, in a stable order, for an encoder of forms.
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let time = |time: &Timestamp| time.to_string();
        let pairs = [
            (MAINFILE, self.main_file.clone()),
            (IMAGE, self.image.clone()),
            (EXIT_CODE, self.exit_code.map(|code| code.to_string())),
            (STARTED_AT, self.started_at.as_ref().map(time)),
            (FINISHED_AT, self.finished_at.as_ref().map(time)),
            (TEST, self.test.as_ref().map(|test| test.0.clone())),
            (HOST, self.host.clone()),
            (CAUSE, self.cause.as_ref().and_then(|cause| serde_json::to_string(cause).ok())),
            (TIMEOUT, self.timeout.map(|timeout| format!("{}ns", timeout.as_nanos()))),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Reads decoded parameters. Unknown ones are passed over, empty ones are missing, and of one that is given twice the last
    /// counts.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, QueryError> {
        let mut query = Self::default();
        for (name, value) in pairs {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            let names = [MAINFILE, IMAGE, EXIT_CODE, STARTED_AT, FINISHED_AT, TEST, HOST, CAUSE, TIMEOUT];
            let Some(name) = names.into_iter().find(|known| *known == name) else { continue };
            if value.len() > VALUE {
                return Err(QueryError::TooLong { name, size: value.len() });
            }
            let text = || Some(value.to_owned());
            let number = || value.parse().map_err(|_| QueryError::Number { name, value: value.to_owned() });
            let time = || {
                parse_time(value).map_err(|source| QueryError::Time { name, value: value.to_owned(), source })
            };
            match name {
                MAINFILE => query.main_file = text(),
                IMAGE => query.image = text(),
                EXIT_CODE => query.exit_code = Some(number()?),
                STARTED_AT => query.started_at = time()?,
                FINISHED_AT => query.finished_at = time()?,
                TEST => query.test = Some(value.into()),
                HOST => query.host = text(),
                CAUSE => query.cause = Some(serde_json::from_str(value).map_err(QueryError::Cause)?),
                _ => query.timeout = Some(parse_go_duration(value).map_err(QueryError::Timeout)?),
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TriggerKind;

    fn read(pairs: &[(&str, &str)]) -> Result<UploadQuery, QueryError> {
        UploadQuery::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn a_query_comes_back_as_it_was_sent() {
        let at: Timestamp = "2026-05-01T10:00:00.123456789Z".parse().unwrap();
        let query = UploadQuery {
            main_file: Some("results.tar".into()),
            image: Some("shop/smoke:3".into()),
            exit_code: Some(-1),
            started_at: Some(at),
            finished_at: Some(at),
            test: Some("smoke".into()),
            host: Some("host-a".into()),
            cause: Some(Cause {
                trigger: TriggerKind::Timer,
                summary: "every 30s".into(),
                at,
                event: None,
                attempt: 2,
            }),
            timeout: Some(std::time::Duration::from_millis(1500)),
        };
        let pairs = query.to_pairs();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(pairs[1], ("docker.imagename", "shop/smoke:3"));
        assert_eq!(read(&pairs).unwrap(), query);
        assert_eq!(UploadQuery::default().to_pairs(), []);
    }

    #[test]
    fn unknown_and_empty_parameters_are_passed_over() {
        let query = read(&[
            ("x", "1"),
            ("exitcode", ""),
            ("end-time", "0001-01-01T00:00:00Z"),
            ("test", "a"),
            ("test", "b"),
        ]);
        assert_eq!(query.unwrap(), UploadQuery { test: Some("b".into()), ..UploadQuery::default() });
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |name: &str, value: &str| read(&[(name, value)]).unwrap_err().to_string();
        assert_eq!(error("exitcode", "zero"), "parameter `exitcode` is `zero`, which is not a whole number");
        assert_eq!(
            error("start-time", "now"),
            "parameter `start-time` is `now`, which is not a time in RFC 3339"
        );
        assert_eq!(error("cause", "timer"), "parameter `cause` is not a cause in JSON");
        assert_eq!(error("timeout", "1d"), "parameter `timeout` is not a duration");
        assert_eq!(
            error("test", &"x".repeat(5000)),
            "parameter `test` has 5000 bytes, at most 4096 are taken"
        );
    }
}
