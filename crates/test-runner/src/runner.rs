//! The runner: feeds the scheduler with what happens, and carries out what it answers. The only place of this crate
//! that reads the clock. Prints and logs nothing itself: it tells an [`Outlet`].

use std::{sync::Arc, time::Duration};

use container_engine::{ContainerId, Engine, EventStream, StreamItem};
use futures_util::StreamExt;
use jiff::Timestamp;
use test_results::CloudEvent;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    announce::Announcer,
    clock::{Now, Tick},
    engine_work::{Answer, EngineWork},
    host_poll::HostPoll,
    image_poll::{self, ImageWork},
    run_key::RunKey,
    runner_event::RunnerEvent,
    scheduler::{Input, Output, RunNowAnswer, RunNowError, RunnerStatus, Scheduler},
    settings::{ImageSettings, RunnerSettings},
};

/// How long a runner that is told to stop waits for copies that are just being made.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Requests by hand and events from outside that may wait to be taken.
const COMMANDS: usize = 256;

/// Takes what the runner tells. Must return at once: the runner waits meanwhile.
pub trait Outlet: Send + Sync + 'static {
    /// For people: logs, metrics, the terminal.
    fn report(&self, event: &RunnerEvent);

    /// For other programs: each engine event, and runs that wait, start and end.
    fn announce(&self, event: CloudEvent);

    /// Whether anybody takes announcements; otherwise they are not made.
    fn takes_announcements(&self) -> bool {
        true
    }
}

/// Decides which test containers run when, and runs faithful copies of them.
pub struct Runner {
    engine: Engine,
    settings: RunnerSettings,
    outlet: Arc<dyn Outlet>,
    commands: mpsc::Receiver<Command>,
    handle: RunnerHandle,
}

/// Talks to a runner while it works; cheap to clone.
#[derive(Clone, Debug)]
pub struct RunnerHandle {
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
enum Command {
    RunNow { test: String, by: String, answer: oneshot::Sender<RunNowAnswer> },
    Status { answer: oneshot::Sender<RunnerStatus> },
    Cloud(Box<CloudEvent>),
    Collected(ContainerId),
}

impl RunnerHandle {
    /// Asks for a run. `by` says who asks, in a few words: `by hand`. Waits until the engine has been listed.
    pub async fn run_now(&self, test: &str, by: &str) -> RunNowAnswer {
        let (answer, answered) = oneshot::channel();
        let command = Command::RunNow { test: test.to_owned(), by: by.to_owned(), answer };
        self.commands.send(command).await.map_err(|_| RunNowError::Stopped)?;
        answered.await.map_err(|_| RunNowError::Stopped)?
    }

    /// What the runner does at the moment; nothing once it has stopped.
    pub async fn status(&self) -> RunnerStatus {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(Command::Status { answer }).await;
        answered.await.unwrap_or_default()
    }

    /// Hands over an event from the result service or a webhook: tests may have asked for it, or it asks for a run.
    pub async fn event(&self, event: CloudEvent) {
        let _ = self.commands.send(Command::Cloud(Box::new(event))).await;
    }

    /// Says that the collector has what it wants of a copy; see [`crate::Removal::WhenCollected`].
    pub async fn collected(&self, copy: ContainerId) {
        let _ = self.commands.send(Command::Collected(copy)).await;
    }
}

impl Runner {
    /// A runner that does nothing yet.
    pub fn new(engine: Engine, settings: RunnerSettings, outlet: impl Outlet) -> Self {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let handle = RunnerHandle { commands: sender };
        Self { engine, settings, outlet: Arc::new(outlet), commands, handle }
    }

    /// A handle on this runner.
    pub fn handle(&self) -> RunnerHandle {
        self.handle.clone()
    }

    /// Works until it is told to stop. Copies that run then go on running; the next runner follows them.
    pub async fn run(self, stop: CancellationToken) {
        let Self { engine, settings, outlet, mut commands, handle: _handle } = self;
        let (answers, mut answered) = mpsc::unbounded_channel();
        let mut polls = settings.images.clone().map(|images| Polls::start(&engine, images, answers.clone()));
        let mut events = engine.events();
        let mut work = Work::new(engine, &settings, outlet, answers);
        loop {
            let wake = work.wake();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep_until(wake) => work.step(Input::Tick),
                Some(answer) = answered.recv() => work.answer(answer),
                Some(command) = commands.recv() => work.command(command),
                () = due(&mut polls) => {
                    if let Some(polls) = &mut polls {
                        polls.poll(&mut work.scheduler);
                    }
                }
                Some(item) = next(&mut events) => work.stream_item(item),
            }
            work.settle(polls.as_ref());
        }
        drop(events);
        work.engine.finish_starts(STOP_PATIENCE).await;
    }
}

async fn next(events: &mut EventStream) -> Option<StreamItem> {
    events.next().await
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn due(polls: &mut Option<Polls>) {
    match polls {
        Some(polls) => tokio::time::sleep_until(polls.next).await,
        None => std::future::pending().await,
    }
}

/// The polls for newer images.
struct Polls {
    settings: ImageSettings,
    next: Instant,
    work: mpsc::UnboundedSender<ImageWork>,
}

impl Polls {
    fn start(engine: &Engine, settings: ImageSettings, answers: mpsc::UnboundedSender<Answer>) -> Self {
        let (work, asked) = mpsc::unbounded_channel();
        tokio::spawn(image_poll::work(engine.clone(), settings.pull, asked, answers));
        let next = Instant::now() + settings.interval;
        Self { settings, next, work }
    }

    fn poll(&mut self, scheduler: &mut Scheduler) {
        self.next = Instant::now() + self.settings.interval;
        let watched = scheduler.watched_images(self.settings.all_tests);
        if self.settings.pull {
            scheduler.pulls(watched.iter().map(|image| image.reference.clone()));
        }
        if !watched.is_empty() {
            let _ = self.work.send(ImageWork::Poll(watched));
        }
    }
}

/// The scheduler and those who carry out what it wants.
struct Work {
    scheduler: Scheduler,
    engine: EngineWork,
    host: HostPoll,
    outlet: Arc<dyn Outlet>,
    announcer: Announcer,
    started: Instant,
    /// What the last inputs came to, not yet carried out.
    outputs: Vec<Output>,
    /// Requests that came before the engine was listed.
    early: Vec<Command>,
}

impl Work {
    fn new(
        engine: Engine,
        settings: &RunnerSettings,
        outlet: Arc<dyn Outlet>,
        answers: mpsc::UnboundedSender<Answer>,
    ) -> Self {
        let bounds = settings.scheduler();
        let announcer = Announcer { source: settings.source(), host: settings.host.clone() };
        Self {
            engine: EngineWork::new(engine, bounds.discovery.clone(), answers.clone()),
            host: HostPoll::new(settings.host_root.clone(), answers),
            scheduler: Scheduler::new(bounds),
            outlet,
            announcer,
            started: Instant::now(),
            outputs: Vec::new(),
            early: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now { tick: Tick(self.started.elapsed()), wall: Timestamp::now() }
    }

    fn wake(&self) -> Option<Instant> {
        self.scheduler.next_wake(self.now()).and_then(|tick| self.started.checked_add(tick.0))
    }

    fn step(&mut self, input: Input) {
        let now = self.now();
        self.outputs.extend(self.scheduler.step(now, input));
    }

    fn stream_item(&mut self, item: StreamItem) {
        match item {
            StreamItem::Event(event) => {
                let announced = self.outlet.takes_announcements().then(|| event.clone());
                self.step(Input::Event(event));
                if let Some(event) = announced {
                    let own = self.scheduler.is_own_trace(&event);
                    self.outlet.announce(self.announcer.engine_event(&event, own));
                }
            }
            StreamItem::Connected { first, maybe_missed } => {
                self.step(Input::Connected { first, maybe_missed });
                let started = self.started;
                self.engine.list(move || Tick(started.elapsed()));
            }
            StreamItem::Disconnected { reason } => {
                self.engine.stop_listing();
                self.step(Input::Disconnected { reason });
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Input(input) => self.step(*input),
            Answer::Report(event) => self.report(&event),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Status { answer } => drop(answer.send(self.scheduler.status())),
            Command::Collected(id) => self.step(Input::Collected { id }),
            // Which tests there are is known only then.
            waits if !self.scheduler.is_synced() => self.early.push(waits),
            Command::RunNow { test, by, answer } => {
                let now = self.now();
                let key = RunKey::new(now.wall, format!("hand:{}", Uuid::now_v7()));
                let (answered, outputs) = self.scheduler.run_now(now, &test, &key, &by);
                self.outputs.extend(outputs);
                let _ = answer.send(answered);
            }
            Command::Cloud(event) => self.step(Input::Cloud(event)),
        }
    }

    /// Carries out what the scheduler wants.
    fn settle(&mut self, polls: Option<&Polls>) {
        if !self.early.is_empty() && self.scheduler.is_synced() {
            for command in std::mem::take(&mut self.early) {
                self.command(command);
            }
        }
        for output in std::mem::take(&mut self.outputs) {
            self.carry_out(output, polls);
        }
    }

    fn carry_out(&mut self, output: Output, polls: Option<&Polls>) {
        match output {
            Output::Start(order) => self.engine.start(order),
            Output::Revive { copy, id } => self.engine.revive(copy, id),
            Output::Kill { id, grace } => self.engine.kill(id, grace),
            Output::Remove { copy, id } => self.engine.remove(copy, id),
            Output::InspectOriginal { id } => self.engine.inspect_original(id, self.now().tick),
            Output::ForgetOriginal { id } => self.engine.forget_original(&id),
            Output::InspectCopy { id } => self.engine.inspect_copy(id),
            Output::Probe { container } => self.engine.probe(container),
            Output::RemoveImage { id } => {
                if let Some(polls) = polls {
                    let _ = polls.work.send(ImageWork::Remove(id));
                }
            }
            Output::Report(event) => {
                if matches!(event, RunnerEvent::Discovered { .. } | RunnerEvent::Withdrawn { .. }) {
                    self.host.watch_for(self.scheduler.host_wanted());
                }
                self.report(&event);
            }
        }
    }

    fn report(&self, event: &RunnerEvent) {
        if self.outlet.takes_announcements()
            && let Some(announced) = self.announcer.run(event, Timestamp::now())
        {
            self.outlet.announce(announced);
        }
        self.outlet.report(event);
    }
}
