//! What every handler shares. Holds handles only; decides nothing.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{http::access::WrongKeys, metrics::Metrics, settings::ServiceSettings, store::Store};

/// State of the router: cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    settings: ServiceSettings,
    metrics: Metrics,
    wrong_keys: WrongKeys,
    large_uploads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl App {
    pub(crate) fn new(store: Store, settings: ServiceSettings) -> Self {
        let shared = Shared {
            store,
            metrics: Metrics::new(),
            wrong_keys: WrongKeys::default(),
            large_uploads: Arc::new(Semaphore::new(settings.limits.large_uploads)),
            streams: Arc::new(Semaphore::new(settings.limits.streams)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            settings,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The store that the handlers read.
    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(crate) fn settings(&self) -> &ServiceSettings {
        &self.shared.settings
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn wrong_keys(&self) -> &WrongKeys {
        &self.shared.wrong_keys
    }

    /// Places for uploads that do not fit into memory.
    pub(crate) fn large_uploads(&self) -> &Arc<Semaphore> {
        &self.shared.large_uploads
    }

    /// Places for event streams.
    pub(crate) fn streams(&self) -> &Arc<Semaphore> {
        &self.shared.streams
    }

    /// Work that must end before the service does.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.shared.tasks
    }

    /// Cancelled when the service is being stopped.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }
}
