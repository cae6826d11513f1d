//! What a runner is told at its start. Values only; where they come from is the binary's business.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    discovery::Discovery,
    overrides::Override,
    scheduler::{Removal, SchedulerSettings},
};

/// All settings of a runner.
#[derive(Clone, Debug)]
pub struct RunnerSettings {
    /// Exact names of the containers to look after; empty for all test containers of the engine.
    pub names: Vec<String>,
    /// Labels from the command line.
    pub overrides: Vec<Override>,
    /// The name of the host that the engine runs on. Runners of one engine must agree on it.
    pub host: String,
    /// How many copies may run at once.
    pub max_parallel: usize,
    /// How many runs of one test may wait under the policy `allow`.
    pub queue_limit: usize,
    /// How long a copy may take to end once it is asked to.
    pub stop_grace: Duration,
    /// When a finished copy beyond `tugbot.keep` may be removed.
    pub removal: Removal,
    /// Looking for newer images; none to leave it.
    pub images: Option<ImageSettings>,
    /// Where the host's file system is, for `tugbot.event.host`: `/`, or where it is mounted in a container.
    pub host_root: PathBuf,
    /// No triggers, only runs asked for by hand.
    pub by_hand_only: bool,
}

/// How to look for newer images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSettings {
    /// How often.
    pub interval: Duration,
    /// Whether registries are asked, or only the engine's own images looked at.
    pub pull: bool,
    /// Whether an old image is removed once nothing uses it.
    pub cleanup: bool,
    /// Whether all tests are meant, or only those with the label `tugbot.event.image`.
    pub all_tests: bool,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(300), pull: true, cleanup: false, all_tests: false }
    }
}

impl RunnerSettings {
    /// Defaults for an engine on `host`.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            names: Vec::new(),
            overrides: Vec::new(),
            host: host.into(),
            max_parallel: std::thread::available_parallelism().map_or(1, usize::from),
            queue_limit: 100,
            stop_grace: Duration::from_secs(10),
            removal: Removal::After(Duration::from_secs(30)),
            images: Some(ImageSettings::default()),
            host_root: PathBuf::from("/"),
            by_hand_only: false,
        }
    }

    /// The source of this runner's events: `/tugyard/run/<host>`.
    pub fn source(&self) -> String {
        format!("/tugyard/run/{}", self.host)
    }

    pub(crate) fn scheduler(&self) -> SchedulerSettings {
        SchedulerSettings {
            discovery: Arc::new(Discovery::new(self.names.clone(), self.overrides.clone())),
            source: self.source(),
            host: self.host.clone(),
            max_parallel: self.max_parallel.max(1),
            queue_limit: self.queue_limit.max(1),
            stop_grace: self.stop_grace,
            removal: self.removal,
            image_cleanup: self.images.as_ref().is_some_and(|images| images.cleanup),
            by_hand_only: self.by_hand_only,
        }
    }
}
