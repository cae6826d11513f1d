//! A collector under test: its settings, its events, and ways to end it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use container_engine::{ConnectSettings, Engine};
use result_collector::{CollectError, Collector, CollectorEvent, CollectorSettings, Limits, Status};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) const SECRET: &str = "k3y-that-must-not-be-seen";

/// A state directory and a directory of results, both removed at the end.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("watched")).unwrap();
        std::fs::create_dir(home.path().join("state")).unwrap();
        Self(home)
    }

    /// A path in the watched directory.
    pub(crate) fn watched(&self, name: &str) -> PathBuf {
        let watched = self.0.path().join("watched");
        if name.is_empty() { watched } else { watched.join(name) }
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.0.path().join("state").join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.watched(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Settings that watch the directory and no containers.
    pub(crate) fn settings(&self, service: Url) -> CollectorSettings {
        CollectorSettings {
            service,
            key: Some(SECRET.into()),
            dirs: vec![self.watched("")],
            containers: false,
            state_dir: self.state(""),
            spool_max: 1 << 30,
            cleanup: false,
            hostname: "host1".into(),
            limits: Limits { settle: Duration::from_millis(300), ..Limits::default() },
        }
    }

    /// Settings that watch containers and no directory.
    pub(crate) fn container_settings(&self, service: Url) -> CollectorSettings {
        CollectorSettings { dirs: Vec::new(), containers: true, ..self.settings(service) }
    }

    /// How many results lie in a part of the spool.
    pub(crate) fn spool(&self, part: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.state("spool").join(part)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// A collector that runs.
pub(crate) struct Running {
    pub(crate) status: Status,
    events: mpsc::Receiver<CollectorEvent>,
    seen: Vec<CollectorEvent>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), CollectError>>,
}

impl Running {
    pub(crate) fn start(settings: CollectorSettings, engine: Option<Engine>) -> Self {
        let (send, events) = mpsc::channel(100_000);
        let collector = Collector::new(settings, engine, testkit::http_client(), send);
        let (status, stop) = (collector.status(), CancellationToken::new());
        let task = tokio::spawn(collector.run(stop.clone()));
        Self { status, events, seen: Vec::new(), stop, task }
    }

    /// Starts a collector on a state directory that an abruptly ended one may still hold for a moment.
    pub(crate) async fn start_again(settings: CollectorSettings, engine: Option<Engine>) -> Self {
        testkit::eventually("the spool's lock", Duration::from_secs(20), async || {
            let running = Self::start(settings.clone(), engine.clone());
            // A collector that is refused ends at once; one that works has begun to scan or listen.
            let started = tokio::time::timeout(Duration::from_millis(200), async {
                while !running.task.is_finished() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            started.await.is_err().then_some(running)
        })
        .await
    }

    /// Waits for an event that is wanted, and gives what `wanted` makes of it.
    pub(crate) async fn event<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&CollectorEvent) -> Option<T>,
    ) -> T {
        let waiting = async {
            while let Some(event) = self.events.recv().await {
                self.seen.push(event);
                if let Some(found) = self.seen.last().and_then(&mut wanted) {
                    return found;
                }
            }
            panic!("the collector ended before: {what}");
        };
        match tokio::time::timeout(Duration::from_secs(60), waiting).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for: {what}; saw {:#?}", self.seen),
        }
    }

    /// Waits until nothing is left in the spool and this many results were delivered.
    pub(crate) async fn delivered(&self, count: u64) {
        let what = format!("{count} deliveries");
        testkit::eventually(&what, Duration::from_secs(120), async || {
            let counters = self.status.counters();
            (counters.delivered >= count && counters.waiting == 0).then_some(())
        })
        .await;
        assert_eq!(self.status.counters().delivered, count);
    }

    /// Stops it as SIGTERM would, and gives all events.
    pub(crate) async fn stop(mut self) -> Vec<CollectorEvent> {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.task).await;
        ended.expect("a collector stops within seconds").unwrap().unwrap();
        while let Ok(event) = self.events.try_recv() {
            self.seen.push(event);
        }
        assert!(!format!("{:?}", self.seen).contains(SECRET), "no event shows the key");
        self.seen
    }

    /// How it ended by itself.
    pub(crate) async fn ended(self) -> Result<(), CollectError> {
        self.task.await.unwrap()
    }
}

/// A collector in a runtime of its own, which can be taken away from under it.
pub(crate) struct Doomed {
    runtime: Option<tokio::runtime::Runtime>,
    pub(crate) status: Status,
}

impl Doomed {
    pub(crate) fn start(settings: CollectorSettings) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (send, _) = mpsc::channel(1);
        let collector = Collector::new(settings, None, testkit::http_client(), send);
        let status = collector.status();
        let run = collector.run(CancellationToken::new());
        runtime.spawn(async { panic!("a doomed collector ended by itself: {:?}", run.await) });
        Self { runtime: Some(runtime), status }
    }

    /// Ends it without a word, wherever it is.
    pub(crate) fn end(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A client of a test engine.
pub(crate) async fn connect(host: String) -> Engine {
    Engine::connect(&ConnectSettings { host: Some(host), ..ConnectSettings::default() }).await.unwrap()
}

/// Names of the files in a directory.
pub(crate) fn listing(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
