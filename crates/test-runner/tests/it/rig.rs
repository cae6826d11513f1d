//! A runner on a real engine, and what it told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]
#![allow(clippy::print_stderr, reason = "what the runner said explains a test that failed")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use container_engine::{ConnectSettings, Container, Engine, ListFilter};
use test_results::{CloudEvent, labels};
use test_runner::{Outlet, Removal, Runner, RunnerEvent, RunnerHandle, RunnerSettings};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps what a runner tells.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    reports: Arc<Mutex<Vec<RunnerEvent>>>,
    announced: Arc<Mutex<Vec<CloudEvent>>>,
}

impl Outlet for Heard {
    fn report(&self, event: &RunnerEvent) {
        self.reports.lock().unwrap().push(event.clone());
    }

    fn announce(&self, event: CloudEvent) {
        self.announced.lock().unwrap().push(event);
    }
}

impl Heard {
    pub(crate) fn reports(&self) -> Vec<RunnerEvent> {
        self.reports.lock().unwrap().clone()
    }

    pub(crate) fn announced(&self) -> Vec<CloudEvent> {
        self.announced.lock().unwrap().clone()
    }

    /// Names of copies that ended, in order, with the outcome's word.
    pub(crate) fn finished(&self, of: &str) -> Vec<(String, String)> {
        let finished = |event| match event {
            RunnerEvent::Finished { test, copy, outcome, .. } if test.0 == of => {
                Some((copy, outcome.state().as_str().to_owned()))
            }
            _ => None,
        };
        self.reports().into_iter().filter_map(finished).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        if std::thread::panicking() {
            for event in self.heard.reports() {
                eprintln!("the runner said: {event} {event:?}");
            }
        }
    }
}

/// A runner in the background.
pub(crate) struct Running {
    pub(crate) heard: Heard,
    pub(crate) handle: RunnerHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Stops the runner and waits for it.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, &mut self.task).await;
        ended.expect("the runner stops").expect("without a panic");
    }

    /// Waits for a report for which `pick` gives a value.
    pub(crate) async fn hears<T>(&self, what: &str, pick: impl Fn(&RunnerEvent) -> Option<T>) -> T {
        let found = || std::future::ready(self.heard.reports().iter().find_map(&pick));
        testkit::eventually(what, PATIENCE, found).await
    }

    /// Waits until so many copies of a test have ended.
    pub(crate) async fn finishes(&self, test: &str, count: usize) -> Vec<(String, String)> {
        let what = format!("{count} ended copies of {test}");
        let found = || std::future::ready(Some(self.heard.finished(test)).filter(|all| all.len() >= count));
        testkit::eventually(&what, PATIENCE, found).await
    }

    /// Waits until the runner has seen the engine event on an object of this name.
    pub(crate) async fn sees(&self, action: &str, name: &str) {
        let is_it = |event: &CloudEvent| {
            let content = event.data.pointer("/subject/content");
            let text = |place: &str| content.and_then(|c| c.pointer(place)).and_then(|v| v.as_str());
            text("/action") == Some(action)
                && (text("/attributes/name") == Some(name)
                    || event.data.pointer("/subject/id").and_then(|id| id.as_str()) == Some(name))
        };
        let found = || std::future::ready(self.heard.announced().iter().any(is_it).then_some(()));
        testkit::eventually(&format!("{action} of {name}"), PATIENCE, found).await;
    }
}

/// Settings for tests: many at once, finished copies may go at once, no image polls.
pub(crate) fn settings() -> RunnerSettings {
    RunnerSettings {
        max_parallel: 8,
        removal: Removal::After(Duration::ZERO),
        stop_grace: Duration::from_secs(1),
        images: None,
        ..RunnerSettings::new("test-host")
    }
}

/// A connection over a socket.
pub(crate) async fn connect(socket: &Path) -> Engine {
    let host = format!("unix://{}", socket.display());
    let settings = ConnectSettings { host: Some(host), ..ConnectSettings::default() };
    Engine::connect(&settings).await.expect("the engine answers")
}

/// Starts a runner and waits until it knows the engine.
pub(crate) async fn start(socket: &Path, settings: RunnerSettings) -> Running {
    let heard = Heard::default();
    let runner = Runner::new(connect(socket).await, settings, heard.clone());
    let handle = runner.handle();
    let stop = CancellationToken::new();
    let task = tokio::spawn(runner.run(stop.clone()));
    let running = Running { heard, handle, stop, task };
    synced(&running).await;
    running
}

/// Waits until the runner has listed the engine.
pub(crate) async fn synced(running: &Running) {
    let handle = &running.handle;
    let connected = || async { handle.status().await.connected.then_some(()) };
    testkit::eventually("a listing", PATIENCE, connected).await;
}

/// All copies of a test on the engine, oldest first.
pub(crate) async fn copies(engine: &Engine, test: &str) -> Vec<Container> {
    let all = engine.list(&ListFilter { all: true, labels: Vec::new() }).await.expect("a listing");
    let mut copies = Vec::new();
    for found in all {
        if labels::get(&found.labels, labels::CREATED_FROM) == Some(test)
            && let Ok(copy) = engine.inspect(&found.id.0).await
        {
            copies.push(copy);
        }
    }
    copies.sort_by_key(|copy| copy.created_at);
    copies
}

/// Runs a test container to its end, as whoever owns it does the first time.
pub(crate) fn first_run(engine: &testkit::Engine, name: &str, given: &[&str], script: &str) {
    let image = engine.busybox();
    let mut arguments = vec!["run", "--name", name, "--network", "none", "--label", "tugbot.test"];
    for label in given {
        arguments.extend(["--label", label]);
    }
    arguments.extend([image.as_str(), "sh", "-c", script]);
    // The test may fail, but it must have run.
    let _ = engine.try_docker(&arguments);
    assert_eq!(engine.docker(&["inspect", "--format", "{{.State.Status}}", name]), "exited");
}

/// Creates a container that is no test, and so triggers whoever listens.
pub(crate) fn product(engine: &testkit::Engine, name: &str) {
    engine.docker(&["create", "--name", name, "--network", "none", &engine.busybox(), "true"]);
}

/// How often each test's copies were created, by what the engine reported.
pub(crate) fn created(heard: &Heard) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for event in heard.announced() {
        let content = |place: &str| {
            let value = event.data.pointer(&format!("/subject/content/{place}"));
            value.and_then(|value| value.as_str()).map(str::to_owned)
        };
        if event.kind.starts_with("dev.cdeventsx.docker-container.create.")
            && let Some(test) = content("attributes/tugbot.created.from")
        {
            *count.entry(test).or_default() += 1;
        }
    }
    count
}

/// Waits until everything that has happened so far has had its consequences: the runner has seen an event that came
/// after all of it, and nothing runs or waits. (The event is an image's `tag`, a trigger for whoever hears everything.)
pub(crate) async fn settled(engine: &testkit::Engine, runner: &Running) {
    idle(runner).await;
    let marker = format!("{}:latest", testkit::unique("marker"));
    engine.docker(&["tag", &engine.busybox(), &marker]);
    runner.sees("tag", &marker).await;
    idle(runner).await;
}

/// Waits until nothing runs or waits.
pub(crate) async fn idle(runner: &Running) {
    let handle = &runner.handle;
    let is_idle = || async {
        let status = handle.status().await;
        (status.connected && status.running.is_empty() && status.waiting.is_empty()).then_some(())
    };
    testkit::eventually("an idle runner", PATIENCE, is_idle).await;
}
