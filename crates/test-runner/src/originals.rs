//! Keeps the documents of test containers and their images, so that a copy costs one call. Refreshed when the
//! scheduler says so; never asks on its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use container_engine::{Container, ContainerId, Engine, EngineError, Image};
use tokio::sync::{OnceCell, Semaphore};

/// Inspections at a time, so that a first look at many tests does not keep the engine from other work.
const AT_A_TIME: usize = 8;

/// A test container as the engine describes it.
#[derive(Debug)]
pub(crate) struct Original {
    /// The container.
    pub(crate) container: Container,
    /// The image it was made from, if that is still there.
    pub(crate) image: Option<Arc<Image>>,
}

type Cell = Arc<OnceCell<Arc<Original>>>;

/// The documents, by container.
#[derive(Debug)]
pub(crate) struct Originals {
    engine: Engine,
    cells: Mutex<HashMap<ContainerId, Cell>>,
    images: Mutex<HashMap<String, Weak<Image>>>,
    places: Semaphore,
}

impl Originals {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, cells: Mutex::default(), images: Mutex::default(), places: Semaphore::new(AT_A_TIME) }
    }

    /// What is known is out of date: the next [`Originals::get`] asks the engine.
    pub(crate) fn invalidate(&self, id: &ContainerId) {
        lock(&self.cells).insert(id.clone(), Cell::default());
    }

    /// The container has gone.
    pub(crate) fn forget(&self, id: &ContainerId) {
        lock(&self.cells).remove(id);
        lock(&self.images).retain(|_, image| image.strong_count() > 0);
    }

    /// The document: known, or asked for once, however many want it.
    pub(crate) async fn get(&self, id: &ContainerId) -> Result<Arc<Original>, EngineError> {
        let cell = lock(&self.cells).entry(id.clone()).or_default().clone();
        cell.get_or_try_init(|| self.inspect(id)).await.cloned()
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Arc<Original>, EngineError> {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        let container = self.engine.inspect(&id.0).await?;
        let image = self.image(&container.image_id).await?;
        Ok(Arc::new(Original { container, image }))
    }

    async fn image(&self, id: &str) -> Result<Option<Arc<Image>>, EngineError> {
        if let Some(known) = lock(&self.images).get(id).and_then(Weak::upgrade) {
            return Ok(Some(known));
        }
        match self.engine.image(id).await {
            Ok(image) => {
                let image = Arc::new(image);
                lock(&self.images).insert(id.to_owned(), Arc::downgrade(&image));
                Ok(Some(image))
            }
            // A container outlives its image; the copy then takes everything from the container.
            Err(EngineError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The maps stay sound whatever happens while they are locked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
