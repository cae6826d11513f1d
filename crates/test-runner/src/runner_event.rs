//! What the runner tells about itself while it works. Values only: the binary logs, counts and renders them.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use test_results::{Cause, Outcome, TestName};

use crate::spec::LabelProblem;

/// Something that happened in the runner.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[non_exhaustive]
pub enum RunnerEvent {
    /// The engine answers.
    Connected {
        /// Whether for the first time.
        first: bool,
    },
    /// After a gap in the connection, events may have been missed that no replay brings back.
    EventsMayBeMissed,
    /// The engine does not answer; the runner keeps trying.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// A named container does not exist.
    NoSuchContainer {
        /// Its name.
        name: String,
    },
    /// A test container was found, or its labels read anew.
    Discovered {
        /// Its name.
        test: TestName,
        /// Its triggers, in words.
        triggers: Vec<String>,
        /// Labels that make no sense.
        problems: Vec<LabelProblem>,
    },
    /// A test container has gone.
    Withdrawn {
        /// Its name.
        test: TestName,
    },
    /// A trigger fired, and a run waits for its turn.
    Queued {
        /// The test.
        test: TestName,
        /// The name of the copy to be made.
        copy: String,
        /// Why.
        cause: Cause,
    },
    /// A trigger fired, and the run that waits already stands for it too.
    Coalesced {
        /// The test.
        test: TestName,
        /// The name of the copy to be made.
        copy: String,
        /// Why.
        cause: Cause,
    },
    /// A trigger fired, and nothing will run for it.
    Skipped {
        /// The test.
        test: TestName,
        /// Why it fired.
        cause: Cause,
        /// Why nothing runs.
        reason: SkipReason,
    },
    /// Another runner of the host made the copy; it is watched like one of our own.
    Adopted {
        /// The test.
        test: TestName,
        /// The copy.
        copy: String,
    },
    /// A copy runs.
    Started {
        /// The test.
        test: TestName,
        /// The copy.
        copy: String,
        /// Its id.
        id: String,
        /// Why.
        cause: Cause,
        /// When the engine started it.
        at: Timestamp,
        /// Whether this runner answers for it: it made it, or found it when it began to look.
        ours: bool,
    },
    /// No copy could be made or started. The next trigger tries again.
    StartFailed {
        /// The test.
        test: TestName,
        /// The copy.
        copy: String,
        /// Why.
        cause: Cause,
        /// What went wrong, with its causes.
        reason: String,
    },
    /// A copy has ended.
    Finished {
        /// The test.
        test: TestName,
        /// The copy.
        copy: String,
        /// Its id, unless it never had one.
        id: Option<String>,
        /// Why it ran.
        cause: Cause,
        /// How it ended.
        outcome: Outcome,
        /// How long it ran, if both ends are known.
        took: Option<Duration>,
        /// When it ended.
        at: Timestamp,
        /// Whether a retry follows.
        retried: bool,
        /// Whether this runner answers for it.
        ours: bool,
    },
    /// A running copy is killed.
    Killed {
        /// The test.
        test: TestName,
        /// The copy.
        copy: String,
        /// Why.
        reason: KillReason,
    },
    /// A finished copy was removed, for newer ones are kept.
    Removed {
        /// The copy.
        copy: String,
    },
    /// A newer image of a test was found; its copies run on it from now on.
    NewImage {
        /// The test.
        test: TestName,
        /// The reference.
        reference: String,
        /// The newer image's id.
        id: String,
    },
    /// An image that no test uses any more was removed.
    ImageRemoved {
        /// Its id.
        id: String,
    },
    /// Something asked of the engine or the host did not work out; the runner goes on.
    Trouble {
        /// What was tried.
        action: String,
        /// What went wrong, with its causes.
        reason: String,
    },
}

/// Why nothing runs for a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// A run is on, and `tugbot.overlap` is `skip`.
    Overlap,
    /// The tests that follow each other form a circle.
    Circle,
    /// This trigger has been run already, by another runner or before a restart.
    AlreadyRun,
    /// The test container went away before its turn.
    Withdrawn,
}

/// Why a running copy is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillReason {
    /// It runs longer than its `tugbot.timeout`.
    Timeout,
    /// A new run takes its place.
    Replaced,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlap => "a run is on",
            Self::Circle => "the tests follow each other in a circle",
            Self::AlreadyRun => "it has been run already",
            Self::Withdrawn => "the test container has gone",
        })
    }
}

impl fmt::Display for KillReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "it ran longer than its timeout",
            Self::Replaced => "a new run takes its place",
        })
    }
}

impl fmt::Display for RunnerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { first: true } => f.write_str("connected to the engine"),
            Self::Connected { first: false } => f.write_str("connected to the engine again"),
            Self::EventsMayBeMissed => f.write_str("engine events may have been missed"),
            Self::Disconnected { reason } => write!(f, "lost the engine: {reason}"),
            Self::NoSuchContainer { name } => write!(f, "there is no container `{name}` yet"),
            Self::Discovered { test, triggers, .. } if triggers.is_empty() => {
                write!(f, "test container {test} has no trigger")
            }
            Self::Discovered { test, triggers, .. } => {
                write!(f, "test container {test} runs on: {}", triggers.join("; "))
            }
            Self::Withdrawn { test } => write!(f, "test container {test} has gone"),
            Self::Queued { test, cause, .. } => write!(f, "test {test} is to run: {}", cause.summary),
            Self::Coalesced { test, cause, .. } => {
                write!(f, "test {test} is to run already; also: {}", cause.summary)
            }
            Self::Skipped { test, cause, reason } => {
                write!(f, "test {test} does not run for {}: {reason}", cause.summary)
            }
            Self::Adopted { test, copy } => write!(f, "test {test} runs in {copy}, made by another runner"),
            Self::Started { test, copy, .. } => write!(f, "test {test} runs in {copy}"),
            Self::StartFailed { test, copy, reason, .. } => {
                write!(f, "test {test} cannot run in {copy}: {reason}")
            }
            Self::Finished { test, outcome, retried: false, .. } => write!(f, "test {test} {outcome}"),
            Self::Finished { test, outcome, .. } => write!(f, "test {test} {outcome}; it is tried again"),
            Self::Killed { test, copy, reason } => write!(f, "test {test} in {copy} is killed: {reason}"),
            Self::Removed { copy } => write!(f, "removed finished copy {copy}"),
            Self::NewImage { test, reference, id } => write!(f, "test {test} has a newer {reference}: {id}"),
            Self::ImageRemoved { id } => write!(f, "removed image {id}"),
            Self::Trouble { action, reason } => write!(f, "cannot {action}: {reason}"),
        }
    }
}
