//! What the scheduler remembers: tests, pending runs, running copies, and the past of each test.

use std::{collections::VecDeque, sync::Arc};

use container_engine::{ContainerId, Lifecycle};
use jiff::Timestamp;
use test_results::Cause;

use crate::{clock::Tick, run_key::RunKey, runner_event::KillReason, spec::TestSpec};

/// A test container.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) id: ContainerId,
    pub(super) spec: Arc<TestSpec>,
    /// State of the original.
    pub(super) lifecycle: Lifecycle,
    pub(super) started_at: Option<Timestamp>,
    /// When an event last told something about the original.
    pub(super) touched: Tick,
    pub(super) created_at: Timestamp,
    /// The image as it was named.
    pub(super) image: String,
    /// The original's own image, once known.
    pub(super) image_id: Option<String>,
    /// A newer image that copies run on.
    pub(super) newer_image: Option<String>,
    pub(super) pending: VecDeque<Pending>,
    pub(super) timer: Option<Timer>,
    /// The next slot of its schedule.
    pub(super) slot: Option<Timestamp>,
}

/// A run that waits for its turn.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Order among all pending runs.
    pub(super) sequence: u64,
    pub(super) key: RunKey,
    pub(super) cause: Cause,
    /// Not before this: debounce.
    pub(super) not_before: Option<Tick>,
    /// When its first trigger fired.
    pub(super) since: Tick,
}

/// The state of a timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    /// The next slot, for the name.
    pub(super) due: Timestamp,
    /// When to fire for it, for waiting.
    pub(super) deadline: Tick,
}

/// A copy on its way to its end.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) test: String,
    pub(super) spec: Arc<TestSpec>,
    pub(super) original: Option<ContainerId>,
    /// None until the engine has made it.
    pub(super) id: Option<ContainerId>,
    pub(super) cause: Cause,
    pub(super) image: Option<String>,
    /// Whether this runner answers for it: it made it, or found it when it began to look.
    pub(super) ours: bool,
    /// Whether it is known what came of the order to start it; true for those that others made.
    pub(super) answered: bool,
    pub(super) stage: Stage,
    /// When it became known.
    pub(super) since: Tick,
    /// When something must be done about it: kill it, kill it again, take it over, order it again.
    pub(super) deadline: Option<Tick>,
    pub(super) killed: Option<KillReason>,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The engine has been asked to make it.
    Starting,
    /// It exists.
    Created,
    /// It runs since then.
    Running(Timestamp),
}

/// The past of a test.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Copies that have ended and still exist, oldest first.
    pub(super) finished: Vec<Finished>,
    /// The last slot of its timer that has a copy.
    pub(super) last_timer: Option<Timestamp>,
    /// The image of the newest copy, and when it was made.
    pub(super) newest_image: Option<(String, Timestamp)>,
}

/// A copy that has ended and still exists.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) copy: String,
    pub(super) id: ContainerId,
    /// It may be removed from then on; none until the collector confirms.
    pub(super) removable: Option<Tick>,
    /// The engine has been asked to remove it.
    pub(super) removing: bool,
}

/// What is known of a container that runs wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerState {
    /// The engine has been asked.
    Asked,
    /// It is ready.
    Ready,
    /// It is not.
    NotReady,
}

impl Test {
    /// The image that the next copy runs on, if it is not the original's own.
    pub(super) fn image_for_copy(&self) -> Option<String> {
        self.newer_image.clone()
    }
}

impl Run {
    /// Which attempt this is, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.cause.attempt.max(1)
    }
}
