//! Sees every test container of the host end, originals and copies, the first run included, and those that ended
//! while nobody watched; has each end captured once. Starts, stops and re-runs nothing; with `--cleanup` it removes
//! copies whose result the service has confirmed. Originals stay: they are what copies are made from.

pub(crate) mod capture;
mod console;
mod ended;
pub(crate) mod record;
mod redact;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use container_engine::{
    ContainerSummary, EngineError, EngineEvent, Lifecycle, StreamItem, engine::ListFilter,
};
use futures_util::StreamExt;
use jiff::Timestamp;
use test_results::labels;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{
    capture::{Capture, Captured},
    ended::Ended,
    record::Progress,
};
use crate::{
    activity::{CollectorEvent, Source},
    backoff,
    delivery::{chain, jitter},
};

/// How many containers are captured at once.
const CAPTURES: usize = 4;
/// How many containers are removed at once.
const REMOVALS: usize = 4;
/// After this many tries a result is delivered without what the engine refuses to give.
const TRIES: u32 = 5;
/// How long captures under way may still take when the collector stops. The next start repeats what did not end.
const GRACE: Duration = Duration::from_secs(3);

/// Watches the containers of one engine.
pub(crate) struct ContainerWatch {
    pub(crate) capture: Capture,
    pub(crate) cleanup: bool,
    /// Containers whose results have left the spool.
    pub(crate) confirmed: mpsc::Receiver<Source>,
}

/// What the watch knows while it runs.
struct Watching {
    capture: Arc<Capture>,
    cleanup: bool,
    places: Arc<Semaphore>,
    /// Ids of the containers whose capture ended.
    captures: JoinSet<String>,
    /// Ends that wait until an earlier one of the same container is captured.
    under_way: HashMap<String, Vec<Ended>>,
    /// When running test containers started, by id.
    started: HashMap<String, Timestamp>,
    removing: HashSet<String>,
    removals: JoinSet<(String, bool)>,
    removal_places: Arc<Semaphore>,
    listing: JoinSet<Result<Vec<ContainerSummary>, EngineError>>,
}

/// Watches until `stop`.
pub(crate) async fn run(watch: ContainerWatch, stop: CancellationToken) {
    let ContainerWatch { capture, cleanup, mut confirmed } = watch;
    let mut events = capture.engine.events();
    let mut watching = Watching {
        capture: Arc::new(capture),
        cleanup,
        places: Arc::new(Semaphore::new(CAPTURES)),
        captures: JoinSet::new(),
        under_way: HashMap::new(),
        started: HashMap::new(),
        removing: HashSet::new(),
        removals: JoinSet::new(),
        removal_places: Arc::new(Semaphore::new(REMOVALS)),
        listing: JoinSet::new(),
    };
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            item = events.next() => match item {
                Some(item) => watching.saw(item).await,
                None => break,
            },
            Some(ended) = watching.captures.join_next() => watching.captured(ended.ok()),
            Some(listed) = watching.listing.join_next() => watching.listed(listed.ok()),
            Some(removed) = watching.removals.join_next() => watching.removed(removed.ok()),
            Some(source) = confirmed.recv() => {
                if let Source::Container { id, name, copy: true, complete: true, .. } = source {
                    watching.remove(id, name);
                }
            }
        }
    }
    let ended = async { while watching.captures.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, ended).await;
}

impl Watching {
    async fn saw(&mut self, item: StreamItem) {
        match item {
            StreamItem::Event(event) if event.kind == "container" => self.saw_event(&event),
            StreamItem::Event(_) => {}
            StreamItem::Connected { maybe_missed, .. } => {
                if maybe_missed {
                    self.capture.reporter.tell(CollectorEvent::MaybeMissed);
                }
                self.capture.forget_engine_document().await;
                self.list(Duration::ZERO);
            }
            StreamItem::Disconnected { reason } => {
                self.capture.reporter.tell(CollectorEvent::EngineLost { reason });
            }
        }
    }

    fn saw_event(&mut self, event: &EngineEvent) {
        let id = &event.actor.id;
        match event.verb() {
            "start" if labels::is_test(&event.actor.attributes) => {
                self.started.insert(id.clone(), event.at);
            }
            "die" if labels::is_test(&event.actor.attributes) => {
                let started_at = self.started.remove(id);
                self.take(Ended::from_event(event, started_at));
            }
            "destroy" => {
                self.started.remove(id);
                if !self.under_way.contains_key(id) {
                    self.forget(id);
                }
            }
            _ => {}
        }
    }

    fn forget(&self, id: &str) {
        if let Err(e) = self.capture.record.forget(id) {
            tracing::warn!(error = %e, "cannot note that a container is gone");
        }
    }

    /// Has one end captured, after those of the same container that wait already.
    fn take(&mut self, ended: Ended) {
        if let Some(waiting) = self.under_way.get_mut(&ended.id) {
            waiting.push(ended);
            return;
        }
        self.under_way.insert(ended.id.clone(), Vec::new());
        let (capture, places) = (Arc::clone(&self.capture), Arc::clone(&self.places));
        self.captures.spawn(async move {
            until_captured(&capture, &places, &ended).await;
            ended.id
        });
    }

    fn captured(&mut self, id: Option<String>) {
        let Some(mut waiting) = id.and_then(|id| self.under_way.remove(&id)) else { return };
        if !waiting.is_empty() {
            let next = waiting.remove(0);
            let id = next.id.clone();
            self.take(next);
            self.under_way.insert(id, waiting);
        }
    }

    fn list(&mut self, after: Duration) {
        let capture = Arc::clone(&self.capture);
        self.listing.spawn(async move {
            tokio::time::sleep(after).await;
            let everything = ListFilter { all: true, labels: Vec::new() };
            // The first capture should not have to wait for what the engine says about itself.
            tokio::join!(capture.engine.list(&everything), capture.engine_document()).0
        });
    }

    /// Takes up what ended while nobody watched, and removes what was confirmed but not removed.
    fn listed(&mut self, listed: Option<Result<Vec<ContainerSummary>, EngineError>>) {
        let containers = match listed {
            Some(Ok(containers)) => containers,
            Some(Err(e)) => {
                let after = backoff::pause(3, jitter());
                tracing::warn!(error = chain(&e), "cannot list containers; trying again");
                self.list(after);
                return;
            }
            None => return,
        };
        let existing: HashSet<&str> = containers.iter().map(|c| c.id.0.as_str()).collect();
        if let Err(e) = self.capture.record.keep_only(&existing) {
            tracing::warn!(error = %e, "cannot forget containers that are gone");
        }
        self.started.retain(|id, _| existing.contains(id.as_str()));
        for container in containers.iter().filter(|c| labels::is_test(&c.labels)) {
            if container.lifecycle != Lifecycle::Exited || self.under_way.contains_key(&container.id.0) {
                continue;
            }
            let ended = Ended::from_listing(container);
            match self.capture.record.of(&ended.id) {
                // A copy runs once: what was taken up is all there is.
                Some((_, Progress::Confirmed)) if ended.is_copy() => {
                    self.capture.reporter.tell(CollectorEvent::ConfirmedBefore { id: ended.id.clone() });
                    self.remove(ended.id, ended.name);
                }
                Some(_) if ended.is_copy() => {}
                _ => self.take(ended),
            }
        }
    }

    fn remove(&mut self, id: String, name: String) {
        if !self.cleanup || !self.removing.insert(id.clone()) {
            return;
        }
        let (capture, places) = (Arc::clone(&self.capture), Arc::clone(&self.removal_places));
        self.removals.spawn(async move {
            let _place = places.acquire_owned().await;
            let removed = capture.engine.remove(&id, false).await;
            let is_gone = matches!(removed, Ok(()) | Err(EngineError::NotFound { .. }));
            capture.reporter.tell(match removed {
                Ok(()) | Err(EngineError::NotFound { .. }) => CollectorEvent::Removed { container: name },
                Err(e) => CollectorEvent::NotRemoved { container: name, reason: chain(&e) },
            });
            (id, is_gone)
        });
    }

    /// What could not be removed is tried again after the next reconnection or start.
    fn removed(&mut self, removed: Option<(String, bool)>) {
        let Some((id, is_gone)) = removed else { return };
        self.removing.remove(&id);
        if is_gone {
            self.forget(&id);
        }
    }
}

/// Tries until the container is captured, or has nothing to tell.
async fn until_captured(capture: &Capture, places: &Semaphore, ended: &Ended) {
    let (mut tries, mut given_up) = (0u32, None);
    loop {
        let taken = {
            // The semaphore is never closed.
            let _place = places.acquire().await;
            capture.take(ended, given_up.as_deref()).await
        };
        let error = match taken {
            Ok(Captured::Spooled | Captured::Known) => return,
            Ok(Captured::Nothing) => {
                tracing::debug!("container {} has no end that could be delivered", ended.name);
                return;
            }
            Err(error) => error,
        };
        tries += 1;
        let reason = chain(&error);
        if error.is_refusal() && tries >= TRIES {
            given_up = Some(reason.clone());
        }
        let after = backoff::pause(tries, jitter());
        capture.reporter.tell(CollectorEvent::CaptureFailed { container: ended.name.clone(), reason, after });
        tokio::time::sleep(after).await;
    }
}
