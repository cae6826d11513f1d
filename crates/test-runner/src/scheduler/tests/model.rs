//! A model of an engine: containers, their events, and what the real one does when a copy is made, ends or goes.
//! Any number of schedulers work on it, each with its own place in the stream of events.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use container_engine::{Actor, ContainerId, ContainerSummary, EngineEvent, Lifecycle};
use jiff::Timestamp;
use test_results::labels;

use super::super::{
    CopyFacts, Input, OriginalFacts, Output, Removal, Scheduler, SchedulerSettings, StartOrder,
};
use crate::{
    clock::{Now, Tick, later},
    discovery::Discovery,
    runner_event::RunnerEvent,
};

/// A container of the model.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) summary: ContainerSummary,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) exit_code: Option<i64>,
    pub(super) volume: Option<String>,
}

/// One runner on the model.
pub(super) struct Runner {
    pub(super) scheduler: Scheduler,
    /// How much of the log it has seen.
    pub(super) seen: usize,
    pub(super) connected: bool,
    /// What it wants done and is not done yet.
    pub(super) tasks: VecDeque<Task>,
    pub(super) reports: Vec<RunnerEvent>,
}

/// Something a runner wants done.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Output(Output),
    /// A listing, and when it was begun.
    List(Tick),
}

/// The engine and its runners.
pub(super) struct Model {
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) log: Vec<EngineEvent>,
    pub(super) runners: Vec<Runner>,
    pub(super) tick: Tick,
    pub(super) skew: Duration,
    /// Every copy that was ever made, in order.
    pub(super) made: Vec<StartOrder>,
    /// The greatest number of copies that ran at once.
    pub(super) most_running: usize,
    /// Whether containers have an anonymous volume each.
    pub(super) volumes: bool,
    ids: u64,
}

pub(super) fn start_of_time() -> Timestamp {
    "2026-05-01T00:00:00Z".parse().expect("a time")
}

pub(super) fn settings() -> SchedulerSettings {
    SchedulerSettings {
        discovery: Arc::new(Discovery::default()),
        source: "/tugyard/run/h".to_owned(),
        host: "h".to_owned(),
        max_parallel: 4,
        queue_limit: 5,
        stop_grace: Duration::from_secs(10),
        removal: Removal::After(Duration::from_secs(30)),
        image_cleanup: false,
        by_hand_only: false,
    }
}

impl Model {
    pub(super) fn new(settings: SchedulerSettings) -> Self {
        Self::with_runners(vec![settings])
    }

    pub(super) fn with_runners(settings: Vec<SchedulerSettings>) -> Self {
        let mut model = Self {
            containers: BTreeMap::new(),
            log: Vec::new(),
            runners: Vec::new(),
            tick: Tick::default(),
            skew: Duration::ZERO,
            made: Vec::new(),
            most_running: 0,
            volumes: false,
            ids: 0,
        };
        for settings in settings {
            model.join(settings);
        }
        model
    }

    /// One more runner starts.
    pub(super) fn join(&mut self, settings: SchedulerSettings) -> usize {
        self.runners.push(Runner {
            scheduler: Scheduler::new(settings),
            seen: self.log.len(),
            connected: false,
            tasks: VecDeque::new(),
            reports: Vec::new(),
        });
        self.connect(self.runners.len() - 1, true);
        self.runners.len() - 1
    }

    pub(super) fn connect(&mut self, runner: usize, first: bool) {
        self.runners[runner].connected = true;
        self.feed(runner, Input::Connected { first, maybe_missed: false });
        let tick = self.tick;
        self.runners[runner].tasks.push_back(Task::List(tick));
    }

    pub(super) fn cut(&mut self, runner: usize) {
        self.runners[runner].connected = false;
        self.runners[runner].tasks.retain(|task| !matches!(task, Task::List(_)));
        self.feed(runner, Input::Disconnected { reason: "cut".to_owned() });
    }

    pub(super) fn now(&self) -> Now {
        Now { tick: self.tick, wall: later(start_of_time(), self.tick.0 + self.skew) }
    }

    pub(super) fn feed(&mut self, runner: usize, input: Input) {
        let now = self.now();
        let outputs = self.runners[runner].scheduler.step(now, input);
        self.take(runner, outputs);
    }

    pub(super) fn take(&mut self, runner: usize, outputs: Vec<Output>) {
        let runner = &mut self.runners[runner];
        for output in outputs {
            match output {
                Output::Report(event) => runner.reports.push(event),
                other => runner.tasks.push_back(Task::Output(other)),
            }
        }
    }

    /// Time passes, and everybody notices.
    pub(super) fn pass(&mut self, duration: Duration) {
        self.tick = self.tick + duration;
        for runner in 0..self.runners.len() {
            self.feed(runner, Input::Tick);
        }
    }

    /// Hands the next event of the log to a runner that listens.
    pub(super) fn deliver(&mut self, runner: usize) -> bool {
        let place = &mut self.runners[runner];
        let Some(event) = self.log.get(place.seen).filter(|_| place.connected).cloned() else { return false };
        place.seen += 1;
        self.feed(runner, Input::Event(event));
        true
    }

    /// Everything that can happen without time passing and without a copy ending.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for runner in 0..self.runners.len() {
                while self.deliver(runner) {
                    moved = true;
                }
                moved |= self.work(runner, 0);
            }
            if !moved {
                return;
            }
        }
        panic!("the runners never come to rest");
    }

    fn at(&mut self) -> Timestamp {
        // Every event has a moment of its own, as the engine's nanoseconds give it.
        self.ids += 1;
        later(self.now().wall, Duration::from_nanos(self.ids))
    }

    pub(super) fn emit(&mut self, kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let at = self.at();
        let actor = Actor { id: id.to_owned(), attributes };
        self.log.push(EngineEvent { kind: kind.to_owned(), action: action.to_owned(), actor, at });
    }

    fn emit_container(&mut self, action: &str, name: &str, extra: &[(&str, &str)]) {
        let found = self.containers[name].summary.clone();
        let mut attributes: Vec<(&str, &str)> =
            found.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        attributes.extend([("name", name), ("image", found.image.as_str())]);
        attributes.extend(extra);
        self.emit("container", action, &found.id.0, &attributes);
    }

    /// Somebody makes a container.
    pub(super) fn create(&mut self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.create_with(name, labels, "sha256:1");
    }

    fn create_with(&mut self, name: &str, labels: BTreeMap<String, String>, image_id: &str) {
        self.ids += 1;
        let id = format!("{:064x}", self.ids);
        let volume = self.volumes.then(|| format!("{:064x}", self.ids + (1 << 40)));
        if let Some(volume) = &volume {
            self.emit("volume", "create", volume, &[("driver", "local")]);
        }
        let summary = ContainerSummary {
            id: ContainerId(id),
            name: name.to_owned(),
            image: "img:1".to_owned(),
            image_id: image_id.to_owned(),
            labels,
            lifecycle: Lifecycle::Created,
            created_at: self.now().wall,
        };
        let made = Container { summary, started_at: None, finished_at: None, exit_code: None, volume };
        self.containers.insert(name.to_owned(), made);
        self.emit_container("create", name, &[]);
    }

    /// A container starts.
    pub(super) fn start(&mut self, name: &str) {
        let at = self.now().wall;
        let found = self.containers.get_mut(name).expect("it exists");
        found.summary.lifecycle = Lifecycle::Running;
        found.started_at = Some(at);
        let (id, volume) = (found.summary.id.0.clone(), found.volume.clone());
        self.emit("network", "connect", "net", &[("container", &id), ("name", "bridge")]);
        if let Some(volume) = volume {
            self.emit("volume", "mount", &volume, &[("container", &id)]);
        }
        self.emit_container("start", name, &[]);
        self.most_running = self.most_running.max(self.running_copies().len());
    }

    /// A container ends.
    pub(super) fn end(&mut self, name: &str, exit_code: i64) {
        let at = self.now().wall;
        let Some(found) = self.containers.get_mut(name) else { return };
        if found.summary.lifecycle != Lifecycle::Running {
            return;
        }
        found.summary.lifecycle = Lifecycle::Exited;
        found.finished_at = Some(at);
        found.exit_code = Some(exit_code);
        let (id, volume) = (found.summary.id.0.clone(), found.volume.clone());
        self.emit_container("die", name, &[("exitCode", &exit_code.to_string())]);
        self.emit("network", "disconnect", "net", &[("container", &id), ("name", "bridge")]);
        if let Some(volume) = volume {
            self.emit("volume", "unmount", &volume, &[("container", &id)]);
        }
    }

    /// A container is removed.
    pub(super) fn remove(&mut self, name: &str) {
        if !self.containers.contains_key(name) {
            return;
        }
        self.emit_container("destroy", name, &[]);
        let gone = self.containers.remove(name).expect("it exists");
        if let Some(volume) = gone.volume {
            self.emit("volume", "destroy", &volume, &[("driver", "local")]);
        }
    }

    /// A test container that has had its first run.
    pub(super) fn test(&mut self, name: &str, labels: &[(&str, &str)]) {
        let labels: Vec<(&str, &str)> =
            [("tugbot.test", "")].into_iter().chain(labels.iter().copied()).collect();
        self.create(name, &labels);
        self.start(name);
        self.end(name, 0);
        self.settle();
    }

    pub(super) fn copies_of(&self, test: &str) -> Vec<&Container> {
        self.containers
            .values()
            .filter(|found| labels::get(&found.summary.labels, labels::CREATED_FROM) == Some(test))
            .collect()
    }

    pub(super) fn running_copies(&self) -> Vec<String> {
        self.containers
            .values()
            .filter(|found| labels::is_copy(&found.summary.labels))
            .filter(|found| found.summary.lifecycle == Lifecycle::Running)
            .map(|found| found.summary.name.clone())
            .collect()
    }

    /// How many copies of a test were ever made.
    pub(super) fn made_of(&self, test: &str) -> usize {
        self.made.iter().filter(|order| order.test == test).count()
    }

    /// Ends all running copies.
    pub(super) fn end_all(&mut self, exit_code: i64) {
        for copy in self.running_copies() {
            self.end(&copy, exit_code);
        }
        self.settle();
    }

    fn by_id(&self, id: &ContainerId) -> Option<&Container> {
        self.containers.values().find(|found| found.summary.id == *id)
    }

    /// Carries out one of the things that a runner wants done. Returns false if there is none.
    pub(super) fn work(&mut self, runner: usize, which: usize) -> bool {
        let count = self.runners[runner].tasks.len();
        if count == 0 {
            return false;
        }
        let task = self.runners[runner].tasks.remove(which % count).expect("it is there");
        let input = match task {
            Task::List(begun) => {
                let containers = self.containers.values().map(|found| found.summary.clone()).collect();
                Some(Input::Listing { begun, containers })
            }
            Task::Output(output) => self.carry_out(runner, output),
        };
        if let Some(input) = input {
            self.feed(runner, input);
        }
        true
    }

    fn carry_out(&mut self, runner: usize, output: Output) -> Option<Input> {
        match output {
            Output::Start(order) => Some(self.start_copy(order)),
            Output::Revive { copy, id } => {
                let state = self.containers.get(&copy).map(|found| found.summary.lifecycle);
                match state {
                    Some(Lifecycle::Created) => {
                        self.start(&copy);
                        Some(Input::Started { copy, id, theirs: false })
                    }
                    Some(_) => self.copy_facts(&id),
                    None => Some(Input::CopyGone { id }),
                }
            }
            Output::Kill { id, .. } => {
                if let Some(name) = self.by_id(&id).map(|found| found.summary.name.clone()) {
                    self.end(&name, 137);
                }
                None
            }
            Output::Remove { copy, id } => {
                if let Some(facts) = self.copy_facts(&id) {
                    self.feed(runner, facts);
                }
                self.remove(&copy);
                None
            }
            Output::InspectOriginal { id } => self.by_id(&id).map(|found| {
                Input::Original(OriginalFacts {
                    id: id.clone(),
                    begun: self.tick,
                    lifecycle: found.summary.lifecycle,
                    image: found.summary.image.clone(),
                    image_id: found.summary.image_id.clone(),
                    created_at: found.summary.created_at,
                    started_at: found.started_at,
                })
            }),
            Output::InspectCopy { id } => Some(self.copy_facts(&id).unwrap_or(Input::CopyGone { id })),
            Output::Probe { container } => {
                let ready = self
                    .containers
                    .get(&container)
                    .is_some_and(|found| found.summary.lifecycle == Lifecycle::Running);
                Some(Input::Peer { container, ready })
            }
            Output::RemoveImage { id } => {
                let used = self.containers.values().any(|found| found.summary.image_id == id);
                Some(Input::ImageRemoved { id, gone: !used })
            }
            Output::ForgetOriginal { .. } | Output::Report(_) => None,
        }
    }

    fn copy_facts(&self, id: &ContainerId) -> Option<Input> {
        self.by_id(id).map(|found| {
            Input::Copy(CopyFacts {
                id: id.clone(),
                name: found.summary.name.clone(),
                lifecycle: found.summary.lifecycle,
                exit_code: found.exit_code,
                started_at: found.started_at,
                finished_at: found.finished_at,
                volumes: found.volume.iter().cloned().collect(),
            })
        })
    }

    /// The next start that a runner wants goes wrong: before or after the copy was made, for good or for want of a
    /// connection.
    pub(super) fn fail_start(&mut self, runner: usize, made: bool, unreachable: bool) {
        let start = |task: &Task| matches!(task, Task::Output(Output::Start(_)));
        let Some(place) = self.runners[runner].tasks.iter().position(start) else { return };
        let Some(Task::Output(Output::Start(order))) = self.runners[runner].tasks.remove(place) else {
            return;
        };
        let copy = order.copy.clone();
        let taken = self.containers.contains_key(&copy);
        if made && unreachable {
            self.start_copy(order);
        } else if made && !taken && self.by_id(&order.original).is_some() {
            self.make_copy(&order);
            self.remove(&copy);
        }
        let reason = "it went wrong".to_owned();
        self.feed(runner, Input::StartFailed { copy, reason, unreachable });
    }

    fn start_copy(&mut self, order: StartOrder) -> Input {
        if let Some(existing) = self.containers.get(&order.copy) {
            let id = existing.summary.id.clone();
            if order.again && existing.summary.lifecycle == Lifecycle::Created {
                self.start(&order.copy);
                return Input::Started { copy: order.copy, id, theirs: false };
            }
            return Input::Started { copy: order.copy, id, theirs: true };
        }
        if self.by_id(&order.original).is_none() {
            return Input::StartFailed { copy: order.copy, reason: "gone".to_owned(), unreachable: false };
        }
        self.make_copy(&order);
        self.made.push(order.clone());
        self.start(&order.copy);
        let id = self.containers[&order.copy].summary.id.clone();
        Input::Started { copy: order.copy, id, theirs: false }
    }

    fn make_copy(&mut self, order: &StartOrder) {
        let Some(original) = self.by_id(&order.original).cloned() else { return };
        let mut labels = original.summary.labels;
        labels.insert(labels::CREATED_FROM.to_owned(), order.test.clone());
        labels.insert(labels::CAUSE.to_owned(), serde_json::to_string(&order.cause).expect("JSON"));
        let image = order.image.clone().unwrap_or(original.summary.image_id);
        self.create_with(&order.copy, labels, &image);
    }
}
