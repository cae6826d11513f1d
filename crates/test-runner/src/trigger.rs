//! The triggers that a test container can ask for, as values. Whether one fires now is the scheduler's business.

use std::{fmt, time::Duration};

use test_results::{Outcome, TestName, TriggerKind, event::CdFilter};

use crate::{
    cron_schedule::CronSchedule,
    docker_filter::DockerFilter,
    host_watch::{ConfigGlob, HostChange, HostChangeKind},
};

/// One trigger of one test.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// `tugbot.event.timer`
    Timer(Duration),
    /// `tugbot.event.docker` and its filters.
    Docker(DockerFilter),
    /// `tugbot.event.cron`
    Cron(CronSchedule),
    /// `tugbot.event.image`
    Image,
    /// `tugbot.event.host`
    Host(HostFilter),
    /// `tugbot.event.after`
    After(Vec<AfterTest>),
    /// `tugbot.event.cd`, with the label's text.
    Cd(CdFilter, String),
}

/// Which changes of the host a test asks for.
#[derive(Clone, Debug, Default)]
pub struct HostFilter {
    /// Packages installed, removed, updated.
    pub packages: bool,
    /// New kernels.
    pub kernel: bool,
    /// Configuration files.
    pub config: Vec<ConfigGlob>,
}

/// A test whose end starts another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfterTest {
    /// The test that must have ended.
    pub test: TestName,
    /// How; `None` for any end.
    pub ended: Option<Ended>,
}

/// The ways a test can end, as `tugbot.event.after` tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It passed.
    Passed,
    /// It failed, timed out or was lost, and no retry follows.
    Failed,
}

impl Trigger {
    /// The word for this kind of trigger.
    pub fn kind(&self) -> TriggerKind {
        match self {
            Self::Timer(_) => TriggerKind::Timer,
            Self::Docker(_) => TriggerKind::Docker,
            Self::Cron(_) => TriggerKind::Cron,
            Self::Image => TriggerKind::Image,
            Self::Host(_) => TriggerKind::Host,
            Self::After(_) => TriggerKind::After,
            Self::Cd(..) => TriggerKind::Cd,
        }
    }
}

impl HostFilter {
    /// Whether the change is asked for.
    pub fn matches(&self, change: &HostChange) -> bool {
        match change.kind {
            HostChangeKind::Package => self.packages,
            HostChangeKind::Kernel => self.kernel,
            HostChangeKind::Config => {
                change.path.as_deref().is_some_and(|path| self.config.iter().any(|glob| glob.is_match(path)))
            }
        }
    }
}

impl AfterTest {
    /// Whether this end of this test is meant.
    pub fn matches(&self, test: &str, outcome: &Outcome) -> bool {
        self.test.0 == test
            && match self.ended {
                None => true,
                Some(Ended::Passed) => *outcome == Outcome::Passed,
                Some(Ended::Failed) => *outcome != Outcome::Passed,
            }
    }
}

impl fmt::Display for HostFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.packages, "package"), (self.kernel, "kernel")];
        let words = words.iter().filter(|(on, _)| *on).map(|(_, word)| (*word).to_owned());
        let config = self.config.iter().map(|glob| format!("config:{}", glob.as_str()));
        f.write_str(&words.chain(config).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for AfterTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ended {
            None => write!(f, "{}", self.test),
            Some(Ended::Passed) => write!(f, "{}:passed", self.test),
            Some(Ended::Failed) => write!(f, "{}:failed", self.test),
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timer(interval) => write!(f, "every {interval:?}"),
            Self::Docker(filter) => filter.fmt(f),
            Self::Cron(schedule) => schedule.fmt(f),
            Self::Image => f.write_str("newer image"),
            Self::Host(filter) => write!(f, "host {filter}"),
            Self::After(tests) => {
                let tests: Vec<String> = tests.iter().map(ToString::to_string).collect();
                write!(f, "after {}", tests.join(","))
            }
            Self::Cd(_, text) => write!(f, "event {text}"),
        }
    }
}
