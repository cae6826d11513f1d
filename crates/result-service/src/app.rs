//! What every handler shares. Holds handles only; decides nothing.

use std::sync::Arc;

use crate::store::Store;

/// State of the router: cheap to clone.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
}

impl App {
    /// The store that the handlers read.
    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }
}
