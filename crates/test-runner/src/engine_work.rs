//! Carries out what the scheduler wants of the engine, each thing in a task of its own that answers with an input.
//! Decides nothing.

use std::{sync::Arc, time::Duration};

use container_engine::{Container, ContainerId, Engine, EngineError, Health, Lifecycle, ListFilter};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tracing::debug;

use crate::{
    clock::Tick,
    discovery::Discovery,
    originals::Originals,
    runner_event::RunnerEvent,
    scheduler::{CopyFacts, Input, OriginalFacts, StartOrder},
    start_copy::{no_document, start_copy},
    trouble::with_causes,
};

/// How long after a listing that failed the next one is tried.
const LIST_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a task answers with.
#[derive(Debug)]
pub(crate) enum Answer {
    /// News for the scheduler.
    Input(Box<Input>),
    /// Something that people should know.
    Report(RunnerEvent),
}

/// The tasks that talk to the engine.
pub(crate) struct EngineWork {
    engine: Engine,
    originals: Arc<Originals>,
    discovery: Arc<Discovery>,
    answers: mpsc::UnboundedSender<Answer>,
    /// Copies being made: a runner that stops waits for these.
    starts: JoinSet<()>,
    listing: Option<AbortHandle>,
}

impl EngineWork {
    pub(crate) fn new(
        engine: Engine,
        discovery: Arc<Discovery>,
        answers: mpsc::UnboundedSender<Answer>,
    ) -> Self {
        let originals = Arc::new(Originals::new(engine.clone()));
        Self { engine, originals, discovery, answers, starts: JoinSet::new(), listing: None }
    }

    /// Lists all containers, again and again until the engine answers.
    pub(crate) fn list(&mut self, clock: impl Fn() -> Tick + Send + 'static) {
        self.stop_listing();
        let (engine, answers) = (self.engine.clone(), self.answers.clone());
        let task = tokio::spawn(async move {
            loop {
                let begun = clock();
                match engine.list(&ListFilter { all: true, labels: Vec::new() }).await {
                    Ok(containers) => {
                        let _ = answers.send(input(Input::Listing { begun, containers }));
                        return;
                    }
                    Err(error) => {
                        let _ = answers.send(trouble("list containers", &error));
                        tokio::time::sleep(LIST_AGAIN_AFTER).await;
                    }
                }
            }
        });
        self.listing = Some(task.abort_handle());
    }

    /// The engine is gone: a listing makes no sense now.
    pub(crate) fn stop_listing(&mut self) {
        if let Some(listing) = self.listing.take() {
            listing.abort();
        }
    }

    /// Makes a copy and starts it.
    pub(crate) fn start(&mut self, order: StartOrder) {
        let (engine, originals) = (self.engine.clone(), self.originals.clone());
        let (discovery, answers) = (self.discovery.clone(), self.answers.clone());
        while self.starts.try_join_next().is_some() {}
        self.starts.spawn(async move {
            let answer = match originals.get(&order.original).await {
                Ok(original) => {
                    let additions = discovery.additions(&order.test, &original.container.labels);
                    start_copy(&engine, &original, &order, additions).await
                }
                Err(error) => no_document(&order, &error),
            };
            let _ = answers.send(input(answer));
        });
    }

    /// Waits for copies that are just being made, so that none is left between its creation and its start.
    pub(crate) async fn finish_starts(&mut self, patience: Duration) {
        let all = async { while self.starts.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            debug!("some copies are still being made; the next runner takes care of them");
        }
    }

    /// Starts a copy that was left behind, unless it was started meanwhile.
    pub(crate) fn revive(&self, copy: String, id: ContainerId) {
        let engine = self.engine.clone();
        self.spawn(async move {
            match engine.inspect(&id.0).await {
                Ok(found) if found.lifecycle == Lifecycle::Created => match engine.start(&id.0).await {
                    Ok(()) => input(Input::Started { copy, id, theirs: false }),
                    Err(error) => trouble(&format!("start {copy}"), &error),
                },
                Ok(found) => input(Input::Copy(copy_facts(&found))),
                Err(EngineError::NotFound { .. }) => input(Input::CopyGone { id }),
                Err(error) => trouble(&format!("inspect {copy}"), &error),
            }
        });
    }

    /// Ends a copy, by force if no grace is given.
    pub(crate) fn kill(&self, id: ContainerId, grace: Option<Duration>) {
        let engine = self.engine.clone();
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let ended = match grace {
                Some(grace) => engine.stop(&id.0, grace).await,
                None => engine.kill(&id.0, "SIGKILL").await,
            };
            // The end itself is told by an event; what did not work out is tried again at the next deadline.
            match ended {
                Ok(()) | Err(EngineError::NotFound { .. }) => {}
                Err(error) => drop(answers.send(trouble(&format!("end container {id}"), &error))),
            }
        });
    }

    /// Removes a finished copy. Its volumes are learnt first: they go along with it, and their events are ours.
    pub(crate) fn remove(&self, copy: String, id: ContainerId) {
        let (engine, answers) = (self.engine.clone(), self.answers.clone());
        tokio::spawn(async move {
            match engine.inspect(&id.0).await {
                Ok(found) => drop(answers.send(input(Input::Copy(copy_facts(&found))))),
                Err(EngineError::NotFound { .. }) => {
                    let _ = answers.send(input(Input::CopyGone { id }));
                    return;
                }
                // Removing is worth a try all the same.
                Err(_) => {}
            }
            if let Err(error) = engine.remove(&id.0, false).await {
                let _ = answers.send(trouble(&format!("remove finished copy {copy}"), &error));
                let _ = answers.send(input(Input::NotRemoved { id }));
            }
        });
    }

    /// Inspects an original anew and keeps its document.
    pub(crate) fn inspect_original(&self, id: ContainerId, begun: Tick) {
        self.originals.invalidate(&id);
        let (originals, answers) = (self.originals.clone(), self.answers.clone());
        tokio::spawn(async move {
            match originals.get(&id).await {
                Ok(original) => {
                    let container = &original.container;
                    let facts = OriginalFacts {
                        id,
                        begun,
                        lifecycle: container.lifecycle,
                        image: container.image.clone(),
                        image_id: container.image_id.clone(),
                        created_at: container.created_at,
                        started_at: container.started_at,
                    };
                    let _ = answers.send(input(Input::Original(facts)));
                }
                // It has gone; the event or the next listing says so.
                Err(EngineError::NotFound { .. }) => originals.forget(&id),
                // A start asks again.
                Err(error) => drop(answers.send(trouble(&format!("inspect container {id}"), &error))),
            }
        });
    }

    /// An original has gone.
    pub(crate) fn forget_original(&self, id: &ContainerId) {
        self.originals.forget(id);
    }

    /// Inspects a copy.
    pub(crate) fn inspect_copy(&self, id: ContainerId) {
        let engine = self.engine.clone();
        self.spawn(async move {
            match engine.inspect(&id.0).await {
                Ok(found) => input(Input::Copy(copy_facts(&found))),
                Err(EngineError::NotFound { .. }) => input(Input::CopyGone { id }),
                Err(error) => trouble(&format!("inspect copy {id}"), &error),
            }
        });
    }

    /// Finds out whether a container that runs wait for is ready.
    pub(crate) fn probe(&self, container: String) {
        let engine = self.engine.clone();
        self.spawn(async move {
            let ready = engine.inspect(&container).await.is_ok_and(|found| {
                found.lifecycle == Lifecycle::Running
                    && matches!(found.health, Health::None | Health::Healthy)
            });
            input(Input::Peer { container, ready })
        });
    }

    fn spawn(&self, work: impl Future<Output = Answer> + Send + 'static) {
        let answers = self.answers.clone();
        tokio::spawn(async move {
            // A runner that has stopped wants no answer.
            let _ = answers.send(work.await);
        });
    }
}

fn input(input: Input) -> Answer {
    Answer::Input(Box::new(input))
}

fn trouble(action: &str, error: &EngineError) -> Answer {
    Answer::Report(RunnerEvent::Trouble { action: action.to_owned(), reason: with_causes(error) })
}

fn copy_facts(found: &Container) -> CopyFacts {
    CopyFacts {
        id: found.id.clone(),
        name: found.name.clone(),
        lifecycle: found.lifecycle,
        exit_code: found.exit_code,
        started_at: found.started_at,
        finished_at: found.finished_at,
        volumes: found.mounts.iter().filter_map(|mount| mount.volume.clone()).collect(),
    }
}
