//! Runs, their outcome, and the cases inside them. Pure data; parsing and judging only.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Identifies one stored run. Time-ordered (UUID version 7), so ids sort by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The name of a test: the name of the original test container, or what an uploader called it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TestName(pub String);

impl fmt::Display for TestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for TestName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The test container exited with 0 and no case failed.
    Passed,
    /// It exited with another code, or a case failed although it exited with 0.
    Failed {
        /// The exit code of the container's main process.
        exit_code: i64,
    },
    /// It was killed because it ran longer than its `tugbot.timeout`.
    TimedOut {
        /// The limit, in seconds.
        after_seconds: f64,
    },
    /// It never ended in a way that could be observed, e.g. the engine lost it.
    Lost {
        /// What is known.
        reason: String,
    },
}

/// The word for an outcome alone, as stored, filtered and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// See [`Outcome::Passed`].
    Passed,
    /// See [`Outcome::Failed`].
    Failed,
    /// See [`Outcome::TimedOut`].
    TimedOut,
    /// See [`Outcome::Lost`].
    Lost,
}

impl State {
    /// The stable word of this state: `passed`, `failed`, `timed-out` or `lost`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Lost => "lost",
        }
    }
}

/// What is known about how a container ended, for [`Outcome::judge`].
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Exit code of the main process.
    pub exit_code: i64,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The limit from its `tugbot.timeout` label.
    pub timeout: Option<Duration>,
}

impl Outcome {
    /// Judges an ended container. One that ran as long as its time limit or longer has timed out, whatever it made of
    /// the signal; otherwise the exit code decides.
    pub fn judge(ending: &Ending) -> Self {
        let ran = match (ending.started_at, ending.finished_at) {
            (Some(from), Some(to)) => Duration::try_from(to.duration_since(from)).ok(),
            _ => None,
        };
        match (ending.exit_code, ending.timeout, ran) {
            (_, Some(limit), Some(ran)) if ran >= limit => {
                Self::TimedOut { after_seconds: limit.as_secs_f64() }
            }
            (0, _, _) => Self::Passed,
            (exit_code, _, _) => Self::Failed { exit_code },
        }
    }

    /// The word for this outcome.
    pub fn state(&self) -> State {
        match self {
            Self::Passed => State::Passed,
            Self::Failed { .. } => State::Failed,
            Self::TimedOut { .. } => State::TimedOut,
            Self::Lost { .. } => State::Lost,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed { exit_code: 0 } => f.write_str("failed: a case failed"),
            Self::Failed { exit_code } => write!(f, "failed with exit code {exit_code}"),
            Self::TimedOut { after_seconds } => write!(f, "timed out after {after_seconds} s"),
            Self::Lost { reason } => write!(f, "lost: {reason}"),
        }
    }
}

/// The result of one test case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseStatus {
    /// It did what it should.
    Passed,
    /// An assertion did not hold.
    Failed,
    /// It could not be carried out (JUnit's `<error>`).
    Error,
    /// It was not run on purpose.
    Skipped,
    /// It failed and was expected to (TAP `TODO`, subunit `xfail`).
    ExpectedFailure,
    /// It passed although a failure was expected.
    UnexpectedSuccess,
}

impl CaseStatus {
    /// Whether this status makes a run fail.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Error | Self::UnexpectedSuccess)
    }

    /// The stable word of this status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Error => "error",
            Self::Skipped => "skipped",
            Self::ExpectedFailure => "expected-failure",
            Self::UnexpectedSuccess => "unexpected-success",
        }
    }
}

/// Why a case failed, was in error, or was skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One line.
    pub message: Option<String>,
    /// The type of the exception or assertion.
    pub kind: Option<String>,
    /// Trace, diff or YAML block.
    pub text: Option<String>,
}

/// One test case of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Names of the enclosing suites, outermost first.
    pub suite: Vec<String>,
    /// JUnit's `classname`.
    pub class: Option<String>,
    /// The case's own name.
    pub name: String,
    /// Its result.
    pub status: CaseStatus,
    /// How long it took, in seconds.
    pub seconds: Option<f64>,
    /// Why, unless it passed.
    pub failure: Option<Failure>,
    /// What it wrote (standard output, then standard error), cut to a limit by the parser.
    pub output: Option<String>,
}

/// Counts of cases by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// All cases.
    pub cases: u64,
    /// Passed or failed as expected.
    pub passed: u64,
    /// Failed, in error, or passed unexpectedly.
    pub failed: u64,
    /// Skipped.
    pub skipped: u64,
}

impl Totals {
    /// Counts one more case.
    pub fn add(&mut self, status: CaseStatus) {
        self.cases += 1;
        match status {
            CaseStatus::Passed | CaseStatus::ExpectedFailure => self.passed += 1,
            CaseStatus::Failed | CaseStatus::Error | CaseStatus::UnexpectedSuccess => self.failed += 1,
            CaseStatus::Skipped => self.skipped += 1,
        }
    }
}

/// Why a run was started. A runner writes it as JSON into the label `tugbot.cause` of the copy; the result
/// service shows it beside the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What kind of trigger fired.
    pub trigger: TriggerKind,
    /// One line for people: `container web create`, `every 30s`.
    pub summary: String,
    /// When the trigger fired.
    pub at: Timestamp,
    /// The event behind it, if one was: its CloudEvents id, as also posted to the result service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<crate::EventId>,
    /// Which attempt this is, from 1; retries of a failed run count up.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
}

fn first_attempt() -> u32 {
    1
}

/// The kinds of triggers a test container can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TriggerKind {
    /// `tugbot.event.timer`
    Timer,
    /// `tugbot.event.docker`
    Docker,
    /// `tugbot.event.cron`
    Cron,
    /// `tugbot.event.image`, or a newer image found by the poll
    Image,
    /// `tugbot.event.host`
    Host,
    /// `tugbot.event.after`
    After,
    /// `tugbot.event.cd`
    Cd,
    /// By hand.
    Manual,
}

impl TriggerKind {
    /// The stable word of this kind, as in its label: `timer`, `docker`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timer => "timer",
            Self::Docker => "docker",
            Self::Cron => "cron",
            Self::Image => "image",
            Self::Host => "host",
            Self::After => "after",
            Self::Cd => "cd",
            Self::Manual => "manual",
        }
    }
}
