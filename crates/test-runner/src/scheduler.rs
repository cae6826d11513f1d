//! Decides what runs when: a state machine that is told what happens and answers with what to do. Pure: no engine,
//! no clock, no randomness; time comes with each input.
//!
//! Every run goes the same way. A trigger *fires* with a [`RunKey`]; the firing becomes a *pending* run of its test or
//! joins the one that waits; *dispatch* starts what may start, oldest first; the engine's events move the run to its
//! *ending*, from which retries, followers (`after`) and clean-up come. What other runners of the host do arrives by
//! the same events, so two runners agree without talking to each other.

mod dispatch;
mod endings;
mod events;
mod firing;
mod images;
mod peers;
mod snapshot;
mod state;
mod timers;
mod view;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use container_engine::{ContainerId, ContainerSummary, EngineEvent, Lifecycle};
use jiff::Timestamp;
use test_results::{Cause, CloudEvent};

use self::state::{History, PeerState, Run, Test};
pub use self::{
    firing::{RunNowError, Ticket},
    view::{HostWanted, RunnerStatus, RunningCopy, WaitingRun},
};
use crate::{
    clock::{Now, Tick},
    discovery::Discovery,
    host_watch::HostChange,
    run_key::RunKey,
    runner_event::RunnerEvent,
    traces::{Bounded, OwnTraces},
};

/// How long a volume event waits for the container that tells whose it is.
const UNCLEAR_FOR: Duration = Duration::from_secs(2);
/// And how long at most, while a copy is being made.
const UNCLEAR_AT_MOST: Duration = Duration::from_secs(30);
/// After this long a copy that nobody has started is taken over: its maker has died.
const ABANDONED_AFTER: Duration = Duration::from_secs(10);
/// How long to wait before something that the engine refused is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A clock that is set, and a host that wakes up, are noticed after this long when there are schedules.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// After a cut, nothing starts for this long: the replay may bring what another runner has done meanwhile.
const REPLAY_TAKES: Duration = Duration::from_secs(1);
/// Names of copies remembered after they have gone, so that none is made twice.
const REMEMBERED_COPIES: usize = 1024;

/// What bounds a scheduler.
#[derive(Clone, Debug)]
pub struct SchedulerSettings {
    /// What it looks after.
    pub discovery: Arc<Discovery>,
    /// The source of this host's own events: what comes from there triggers nothing.
    pub source: String,
    /// The host's name, as in the events' environment.
    pub host: String,
    /// How many copies may run at once.
    pub max_parallel: usize,
    /// How many runs of one test may wait under the policy `allow`; all other policies have one.
    pub queue_limit: usize,
    /// How long a copy may take to end once it is asked to.
    pub stop_grace: Duration,
    /// When a finished copy may be removed.
    pub removal: Removal,
    /// Whether old images are removed.
    pub image_cleanup: bool,
    /// Only runs asked for by hand.
    pub by_hand_only: bool,
}

/// When a finished copy beyond `tugbot.keep` may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// This long after its end, which gives a collector in another process time to read it.
    After(Duration),
    /// When the collector of this process has confirmed it.
    WhenCollected,
}

/// What the scheduler is told.
#[derive(Debug)]
pub enum Input {
    /// Nothing but the time.
    Tick,
    /// The event stream is connected (again). A [`Input::Listing`] should follow.
    Connected {
        /// For the first time.
        first: bool,
        /// Whether events may have been lost.
        maybe_missed: bool,
    },
    /// The event stream is cut.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// All containers of the engine.
    Listing {
        /// When the engine was asked; what is known since then is newer than the listing.
        begun: Tick,
        /// The answer.
        containers: Vec<ContainerSummary>,
    },
    /// An engine event.
    Event(EngineEvent),
    /// An original was inspected.
    Original(OriginalFacts),
    /// A copy was inspected.
    Copy(CopyFacts),
    /// A copy that should be inspected does not exist.
    CopyGone {
        /// Its id.
        id: ContainerId,
    },
    /// A copy was made and started, or found to have been made by another runner.
    Started {
        /// Its name.
        copy: String,
        /// Its id.
        id: ContainerId,
        /// Whether another runner made it.
        theirs: bool,
    },
    /// A copy could not be made or started.
    StartFailed {
        /// Its name.
        copy: String,
        /// What went wrong, with its causes.
        reason: String,
        /// Whether the engine could not be reached: then it is tried again, under the same name.
        unreachable: bool,
    },
    /// A copy could not be removed or killed; it is tried again later.
    NotRemoved {
        /// Its id.
        id: ContainerId,
    },
    /// Whether a container that runs wait for is ready.
    Peer {
        /// Its name.
        container: String,
        /// It runs and is healthy.
        ready: bool,
    },
    /// The host changed.
    Host {
        /// How.
        change: HostChange,
        /// Equal on every runner that sees the change.
        key: RunKey,
    },
    /// A newer image of a test.
    NewImage {
        /// The test's name.
        test: String,
        /// The reference that names the image.
        reference: String,
        /// The newer image's id.
        id: String,
        /// When the engine had it; equal on every runner.
        at: Timestamp,
    },
    /// Whether an old image could be removed.
    ImageRemoved {
        /// Its id.
        id: String,
        /// Whether it is gone.
        gone: bool,
    },
    /// An event from the result service or a webhook.
    Cloud(Box<CloudEvent>),
    /// The collector has what it wants of this copy.
    Collected {
        /// Its id.
        id: ContainerId,
    },
}

/// What an inspection tells about an original.
#[derive(Clone, Debug)]
pub struct OriginalFacts {
    /// Its id.
    pub id: ContainerId,
    /// When it was asked for.
    pub begun: Tick,
    /// Its state then.
    pub lifecycle: Lifecycle,
    /// The image as it was named.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last started.
    pub started_at: Option<Timestamp>,
}

/// What an inspection tells about a copy.
#[derive(Clone, Debug)]
pub struct CopyFacts {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub lifecycle: Lifecycle,
    /// Its exit code, once it has ended.
    pub exit_code: Option<i64>,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Names of its volumes.
    pub volumes: Vec<String>,
}

/// What the scheduler wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Make a copy and start it.
    Start(StartOrder),
    /// Start a copy that exists and was never started, unless it was meanwhile.
    Revive {
        /// Its name.
        copy: String,
        /// Its id.
        id: ContainerId,
    },
    /// End a copy: ask it to stop, and kill it after `grace`.
    Kill {
        /// Its id.
        id: ContainerId,
        /// How long it may take; none to kill it at once.
        grace: Option<Duration>,
    },
    /// Remove a finished copy.
    Remove {
        /// Its name.
        copy: String,
        /// Its id.
        id: ContainerId,
    },
    /// Remove an image unless something uses it.
    RemoveImage {
        /// Its id.
        id: String,
    },
    /// Inspect an original (again), keep the document for its copies, and tell the facts.
    InspectOriginal {
        /// Its id.
        id: ContainerId,
    },
    /// An original has gone: its document is of no use.
    ForgetOriginal {
        /// Its id.
        id: ContainerId,
    },
    /// Inspect a copy and tell the facts.
    InspectCopy {
        /// Its id.
        id: ContainerId,
    },
    /// Find out whether a container is ready.
    Probe {
        /// Its name.
        container: String,
    },
    /// Tell people and other programs.
    Report(RunnerEvent),
}

/// A copy to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct StartOrder {
    /// The original's id.
    pub original: ContainerId,
    /// The test's name.
    pub test: String,
    /// The copy's name.
    pub copy: String,
    /// Why; goes into the copy's label.
    pub cause: Cause,
    /// An image other than the original's own.
    pub image: Option<String>,
    /// This name was tried before and the engine went away in between: what exists under it may be our own.
    pub again: bool,
}

/// An event whose origin is unclear: a volume, before the container that it is made for.
#[derive(Debug)]
struct Unclear {
    event: EngineEvent,
    /// When it was heard.
    since: Tick,
    /// When it is taken for somebody else's.
    until: Tick,
    /// Copies that were made just after.
    copies: Vec<ContainerId>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Scheduler {
    settings: SchedulerSettings,
    tests: BTreeMap<ContainerId, Test>,
    by_name: HashMap<String, ContainerId>,
    /// Copies that wait for their end, by name.
    runs: BTreeMap<String, Run>,
    /// What is known of the past, by the test's name.
    history: HashMap<String, History>,
    traces: OwnTraces,
    /// Names of all containers, for events that carry only an id.
    names: HashMap<String, (String, Tick)>,
    /// Names of copies that have gone.
    past_copies: Bounded<String>,
    /// Copies of which the collector has what it wants.
    collected: Bounded<ContainerId>,
    peers: HashMap<String, PeerState>,
    unclear: VecDeque<Unclear>,
    /// Images to be removed once nothing uses them.
    old_images: Vec<String>,
    /// Counts pending runs, for their order.
    sequence: u64,
    /// Whether the engine answers and has been listed.
    synced: bool,
    ever_synced: bool,
    /// Nothing starts before.
    replayed: Option<Tick>,
    last: Option<Now>,
}

impl Scheduler {
    /// A scheduler that knows nothing yet.
    pub fn new(settings: SchedulerSettings) -> Self {
        Self {
            settings,
            tests: BTreeMap::new(),
            by_name: HashMap::new(),
            runs: BTreeMap::new(),
            history: HashMap::new(),
            traces: OwnTraces::default(),
            names: HashMap::new(),
            past_copies: Bounded::default(),
            collected: Bounded::default(),
            peers: HashMap::new(),
            unclear: VecDeque::new(),
            old_images: Vec::new(),
            sequence: 0,
            synced: false,
            ever_synced: false,
            replayed: None,
            last: None,
        }
    }

    /// Takes an input and says what to do, in order.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.notice_set_clock(now);
        match input {
            Input::Tick => {}
            Input::Connected { first, maybe_missed } => {
                self.synced = false;
                self.replayed = (!first).then(|| now.tick + REPLAY_TAKES);
                out.push(Output::Report(RunnerEvent::Connected { first }));
                if maybe_missed {
                    out.push(Output::Report(RunnerEvent::EventsMayBeMissed));
                }
            }
            Input::Disconnected { reason } => {
                self.synced = false;
                out.push(Output::Report(RunnerEvent::Disconnected { reason }));
            }
            Input::Listing { begun, containers } => self.on_listing(now, begun, containers, &mut out),
            Input::Event(event) => {
                if !self.on_engine_event(now, event, &mut out) {
                    return out;
                }
            }
            Input::Original(facts) => self.on_original(now, facts, &mut out),
            Input::Copy(facts) => self.on_copy_facts(now, facts, &mut out),
            Input::CopyGone { id } => self.on_copy_gone(now, &id, &mut out),
            Input::Started { copy, id, theirs } => self.on_started(now, &copy, id, theirs, &mut out),
            Input::StartFailed { copy, reason, unreachable } => {
                self.on_start_failed(now, &copy, reason, unreachable, &mut out);
            }
            Input::NotRemoved { id } => self.on_not_removed(now, &id),
            Input::Peer { container, ready } => self.on_peer(container, ready),
            Input::Host { change, key } => self.on_host(now, &change, &key, &mut out),
            Input::NewImage { test, reference, id, at } => {
                self.on_new_image(now, &test, &reference, &id, at, &mut out);
            }
            Input::ImageRemoved { id, gone } => self.on_image_removed(id, gone, &mut out),
            Input::Cloud(event) => self.on_cloud(now, &event, &mut out),
            Input::Collected { id } => self.on_collected(now, &id),
        }
        self.advance(now, &mut out);
        out
    }

    /// A run asked for by hand. Like every other it may have to wait.
    pub fn run_now(&mut self, now: Now, test: &str, key: &RunKey, by: &str) -> (RunNowAnswer, Vec<Output>) {
        let mut out = Vec::new();
        let answer = self.fire_by_hand(now, test, key, by, &mut out);
        self.advance(now, &mut out);
        (answer, out)
    }

    /// When to come back with a [`Input::Tick`] if nothing happens before.
    pub fn next_wake(&self, now: Now) -> Option<Tick> {
        let unclear = self.unclear.iter().map(|unclear| unclear.until).min();
        let replayed = self.replayed.filter(|at| *at > now.tick);
        let pending = self.next_pending(now);
        [self.next_timer(now), pending, self.next_deadline(), self.next_removal(), unclear, replayed]
            .into_iter()
            .flatten()
            .min()
    }

    /// Everything that only the passing of time brings, then whatever may start.
    fn advance(&mut self, now: Now, out: &mut Vec<Output>) {
        self.settle_unclear(now, out);
        self.fire_timers(now, out);
        self.meet_deadlines(now, out);
        self.remove_old_copies(now, out);
        self.dispatch(now, out);
        self.last = Some(now);
    }
}

/// The answer to a request by hand.
pub type RunNowAnswer = Result<Ticket, RunNowError>;
