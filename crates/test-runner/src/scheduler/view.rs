//! What others may see of the scheduler's state. Changes nothing.

use std::collections::BTreeSet;

use container_engine::{ContainerId, EngineEvent};
use jiff::Timestamp;
use serde::Serialize;
use test_results::{Cause, TestName};

use super::{Scheduler, state::Stage};
use crate::{
    spec::TestSpec,
    traces::Origin,
    trigger::{HostFilter, Trigger},
};

/// What a runner does at the moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunnerStatus {
    /// Whether the engine answers and has been listed.
    pub connected: bool,
    /// The test containers it looks after.
    pub tests: Vec<TestName>,
    /// Copies that run or are about to.
    pub running: Vec<RunningCopy>,
    /// Runs that wait for their turn.
    pub waiting: Vec<WaitingRun>,
}

/// A copy on its way to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunningCopy {
    /// The test.
    pub test: TestName,
    /// The copy's name.
    pub copy: String,
    /// The copy's id, once the engine has made it.
    pub id: Option<ContainerId>,
    /// Why it runs.
    pub cause: Cause,
    /// When the engine started it.
    pub started_at: Option<Timestamp>,
    /// Whether this runner answers for it: it made it, or found it when it began to look.
    pub ours: bool,
}

/// A run that waits for its turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WaitingRun {
    /// The test.
    pub test: TestName,
    /// The name of the copy to be made.
    pub copy: String,
    /// Why it will run.
    pub cause: Cause,
}

/// What the tests want to know of the host, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostWanted {
    /// Packages.
    pub packages: bool,
    /// Kernels.
    pub kernel: bool,
    /// Configuration files.
    pub config: BTreeSet<String>,
}

impl HostWanted {
    /// Whether nobody wants anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Scheduler {
    /// What it does at the moment.
    pub fn status(&self) -> RunnerStatus {
        let running = self.runs.iter().map(|(copy, run)| RunningCopy {
            test: run.spec.name.clone(),
            copy: copy.clone(),
            id: run.id.clone(),
            cause: run.cause.clone(),
            started_at: match run.stage {
                Stage::Running(at) => Some(at),
                Stage::Starting | Stage::Created => None,
            },
            ours: run.ours,
        });
        let waiting = self.tests.values().flat_map(|test| {
            test.pending.iter().map(|pending| WaitingRun {
                test: test.spec.name.clone(),
                copy: pending.key.copy_name(&test.spec.name.0),
                cause: pending.cause.clone(),
            })
        });
        RunnerStatus {
            connected: self.synced,
            tests: self.by_name.keys().cloned().map(TestName).collect::<BTreeSet<_>>().into_iter().collect(),
            running: running.collect(),
            waiting: waiting.collect(),
        }
    }

    /// Whether the engine has been listed since it was last connected.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// What the tests want to know of the host, together.
    pub fn host_wanted(&self) -> HostWanted {
        let mut wanted = HostWanted::default();
        for trigger in self.tests.values().flat_map(|test| &test.spec.triggers) {
            let Trigger::Host(HostFilter { packages, kernel, config }) = trigger else { continue };
            wanted.packages |= packages;
            wanted.kernel |= kernel;
            wanted.config.extend(config.iter().map(|glob| glob.as_str().to_owned()));
        }
        wanted
    }

    /// Whether a copy caused this event.
    pub(crate) fn is_own_trace(&mut self, event: &EngineEvent) -> bool {
        self.traces.origin(event) == Origin::Ours
    }

    /// What the labels of a test container say.
    pub(crate) fn spec(&self, id: &ContainerId) -> Option<&TestSpec> {
        self.tests.get(id).map(|test| &*test.spec)
    }

    /// Tests that the test follows in a circle, so that they never start each other.
    pub(crate) fn circles(&self, spec: &TestSpec) -> Vec<TestName> {
        let after = spec.triggers.iter().filter_map(|trigger| match trigger {
            Trigger::After(tests) => Some(tests),
            _ => None,
        });
        let before = after.flatten().map(|after| after.test.clone());
        before.filter(|test| self.comes_after(&test.0, &spec.name.0)).collect()
    }
}
