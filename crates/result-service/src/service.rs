//! Opens the service and serves it: the wiring of store, routes and limits.

use std::{
    fs::{File, TryLockError},
    io,
    path::PathBuf,
};

use axum::{Router, middleware};
use fs_err as fs;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};
use tracing::info;

use crate::{
    api,
    app::App,
    http::{connections, guard},
    settings::ServiceSettings,
    store::{OpenError, RunKey, Store, StoreError},
};

/// Why the service could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another process serves this state directory.
    #[error("another process serves `{}`: stop it, or use another state directory", state_dir.display())]
    Taken {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// The lock on the state directory cannot be taken.
    #[error("cannot lock `{}`", path.display())]
    Lock {
        /// The file of the lock.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What an earlier process left behind cannot be cleared.
    #[error("cannot clear what interrupted uploads left behind")]
    Leftovers(#[source] StoreError),
}

/// An opened service. It holds the state directory until it is dropped.
pub struct Service {
    app: App,
    _lock: File,
}

impl Service {
    /// Opens the state directory, brings its database to the present schema, and takes hold of it.
    pub async fn open(mut settings: ServiceSettings) -> Result<Self, ServiceError> {
        settings.limits.cases = settings.limits.cases.min(RunKey::MOST_CASES);
        let store = Store::open(&settings.state_dir).await?;
        let path = settings.state_dir.join("serve.lock");
        let locked = |source| ServiceError::Lock { path: path.clone(), source };
        let lock = fs::File::create(&path).map_err(locked)?.into_parts().0;
        lock.try_lock().map_err(|refused| match refused {
            TryLockError::WouldBlock => ServiceError::Taken { state_dir: settings.state_dir.clone() },
            TryLockError::Error(source) => locked(source),
        })?;
        store.remove_leftovers().await.map_err(ServiceError::Leftovers)?;
        Ok(Self { app: App::new(store, settings), _lock: lock })
    }

    /// The store, for who serves in-process: to make a key, or to read.
    pub fn store(&self) -> &Store {
        self.app.store()
    }

    /// Serves on this listener until `stop`, then ends what is in flight within the grace period and returns.
    /// Every answer that was given is durable.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "serving results");
        }
        let app = self.app.clone();
        let forward = async {
            stop.cancelled().await;
            app.stop().cancel();
        };
        let serving = connections::serve(
            listener,
            router(self.app.clone()),
            &self.app.settings().limits,
            self.app.tasks().clone(),
            stop.clone(),
        );
        tokio::join!(forward, serving);
    }
}

/// All routes behind everything that all of them share.
fn router(app: App) -> Router {
    let pages = crate::pages::router()
        .route_layer(middleware::from_fn_with_state(app.clone(), crate::http::access::readers_only));
    let shared = ServiceBuilder::new()
        .layer(middleware::from_fn(guard::safe_headers))
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn(crate::pages::problems_as_pages))
        .layer(middleware::from_fn_with_state(app.clone(), guard::worded_errors))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .layer(middleware::from_fn(guard::same_site_writes));
    api::routes(&app).0.merge(pages).layer(shared).with_state(app)
}
