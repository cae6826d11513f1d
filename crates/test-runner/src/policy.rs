//! How the runs of one test behave: what happens when they meet, how long they may take, what they wait for. Values
//! only; the scheduler acts on them.

use std::{fmt, time::Duration};

use serde::Serialize;

/// What happens when a trigger fires while a run of the same test is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// One more run afterwards, however many triggers fired meanwhile.
    #[default]
    Queue,
    /// Nothing.
    Skip,
    /// The run is killed and a new one takes its place.
    Replace,
    /// Both run.
    Allow,
}

/// A number of places that the members of a group share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Concurrency {
    /// The group's name.
    pub group: String,
    /// How many of its members may run at once. If members disagree, the smallest number counts.
    pub limit: usize,
}

/// A container that must be ready before a run starts. One without a health check is ready when it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitFor {
    /// Its name.
    pub container: String,
}

/// How the runs of one test behave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// `tugbot.overlap`
    pub overlap: Overlap,
    /// `tugbot.debounce`: a run starts when no trigger has fired for this long, at the latest after ten times as
    /// long.
    pub debounce: Option<Duration>,
    /// `tugbot.timeout`
    pub timeout: Option<Duration>,
    /// `tugbot.concurrency`
    pub concurrency: Option<Concurrency>,
    /// `tugbot.retries`: how often a failed run is repeated.
    pub retries: u32,
    /// `tugbot.wait-for`
    pub wait_for: Vec<WaitFor>,
    /// `tugbot.keep`: how many finished copies stay.
    pub keep: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            overlap: Overlap::Queue,
            debounce: None,
            timeout: None,
            concurrency: None,
            retries: 0,
            wait_for: Vec::new(),
            keep: 3,
        }
    }
}

impl Overlap {
    /// The word in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Skip => "skip",
            Self::Replace => "replace",
            Self::Allow => "allow",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "overlap={}", self.overlap.as_str())?;
        if let Some(debounce) = self.debounce {
            write!(f, " debounce={debounce:?}")?;
        }
        if let Some(timeout) = self.timeout {
            write!(f, " timeout={timeout:?}")?;
        }
        if let Some(Concurrency { group, limit }) = &self.concurrency {
            write!(f, " concurrency={group}:{limit}")?;
        }
        if self.retries > 0 {
            write!(f, " retries={}", self.retries)?;
        }
        for wait in &self.wait_for {
            write!(f, " wait-for={}:healthy", wait.container)?;
        }
        write!(f, " keep={}", self.keep)
    }
}
