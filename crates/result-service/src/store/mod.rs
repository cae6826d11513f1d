//! The store: runs, cases, files, events and keys, durable once a write has returned. Hands out domain types
//! only; no SQL and no row leaves this module.
//!
//! SQLite in WAL mode: one connection writes (see [`writer`]), several read beside it without waiting. Uploads are
//! kept whole, as they came, with an index of the files in them: the least work at intake, one object per upload.

mod bulk;
mod column;
mod cursor;
mod keys;
mod open_file;
mod put_events;
mod put_run;
mod read_cases;
mod read_events;
mod read_runs;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use fs_err as fs;
use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Semaphore, watch};

use self::writer::Writer;
pub(crate) use self::{
    keys::SecretShape,
    put_run::{Contents, NewCase, NewFile, NewRun, Packing, RunKey, StoredRun},
};
pub use self::{
    keys::{NewKey, Presented},
    open_file::OpenFile,
    put_events::PublishedEvents,
};
use crate::blobs::Blobs;

/// The name of the database in the state directory.
const DATABASE: &str = "results.sqlite";

/// How many files of runs are unpacked at a time.
const READS_AT_A_TIME: usize = 64;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state directory cannot be used.
    #[error("cannot use the state directory `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error("cannot open the database `{}`", path.display())]
    Database {
        /// The file of the database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The database cannot be brought to the present schema.
    #[error("cannot bring the database `{}` to the schema of this version", path.display())]
    Migrate {
        /// The file of the database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
}

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A cursor that this listing never gave out.
    #[error("`{0}` is not a position in this listing: start again without one")]
    BadCursor(String),
    /// The database did not do as it was told.
    #[error("cannot {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The disk, or the source of randomness, did not do as it was told.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The writer has ended.
    #[error("the store is being closed: try again")]
    Stopped,
}

impl StoreError {
    fn reading(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}

/// A handle on the store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    readers: SqlitePool,
    writer: Writer,
    blobs: Blobs,
    next_run: Arc<AtomicI64>,
    unpacking: Arc<Semaphore>,
}

impl Store {
    /// Opens the store in this directory, and makes it when it is missing.
    ///
    /// A second process may do this while one serves, to make or revoke keys.
    pub async fn open(state_dir: &Path) -> Result<Self, OpenError> {
        let in_directory = |source| OpenError::Directory { path: state_dir.to_owned(), source };
        private_directory(state_dir).map_err(in_directory)?;
        let blobs = Blobs::open(&state_dir.join("blobs")).map_err(in_directory)?;
        let path = state_dir.join(DATABASE);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An answered write survives a power failure; the writer makes many share one flush.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true)
            .pragma("journal_size_limit", "67108864")
            .disable_statement_logging();
        let in_database = |source| OpenError::Database { path: path.clone(), source };
        let mut connection = options.connect().await.map_err(in_database)?;
        migrate(&mut connection, state_dir).await.map_err(|failed| match failed {
            MigrateFailure::Lock(source) => OpenError::Directory { path: state_dir.to_owned(), source },
            MigrateFailure::Migrate(source) => OpenError::Migrate { path: path.clone(), source },
        })?;
        let newest_run: i64 = sqlx::query_scalar(
            "SELECT max(coalesce((SELECT max(key) FROM runs), 0), coalesce((SELECT max(key) >> 24 FROM cases), 0))",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(in_database)?;
        let writer = Writer::start(connection).await.map_err(in_database)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options.read_only(true))
            .await
            .map_err(in_database)?;
        Ok(Self {
            readers,
            writer,
            blobs,
            next_run: Arc::new(AtomicI64::new(newest_run + 1)),
            unpacking: Arc::new(Semaphore::new(READS_AT_A_TIME)),
        })
    }

    /// The sequence of the newest durable event; changes are announced.
    pub(crate) fn newest_event(&self) -> watch::Receiver<u64> {
        self.writer.newest_event()
    }

    /// The directory of large uploads.
    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// A key for a run that is about to be received.
    pub(crate) fn next_run_key(&self) -> RunKey {
        RunKey(self.next_run.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the database answers.
    pub async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT key FROM runs LIMIT 1")
            .fetch_optional(&self.readers)
            .await
            .map(|_| ())
            .map_err(StoreError::reading("read the database"))
    }

    /// Removes what interrupted uploads left behind. Only for the one process that receives uploads.
    pub(crate) async fn remove_leftovers(&self) -> Result<(), StoreError> {
        self.blobs
            .remove_leftovers()
            .map_err(|source| StoreError::Io { doing: "remove half received uploads", source })?;
        self.writer.write(put_run::RemoveOrphans).await
    }
}

enum MigrateFailure {
    Lock(io::Error),
    Migrate(sqlx::migrate::MigrateError),
}

/// Two processes that start together must not both migrate: the second waits for the first.
async fn migrate(connection: &mut sqlx::SqliteConnection, state_dir: &Path) -> Result<(), MigrateFailure> {
    let path = state_dir.join("migrate.lock");
    let lock = tokio::task::spawn_blocking(move || {
        let lock = fs::File::create(path)?.into_parts().0;
        lock.lock()?;
        Ok(lock)
    });
    let _held_until_return = lock.await.map_err(io::Error::other).flatten().map_err(MigrateFailure::Lock)?;
    sqlx::migrate!("migrations/sqlite").run(connection).await.map_err(MigrateFailure::Migrate)
}

/// Results can hold secrets of the tested product: nobody else on the machine reads them.
fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if !path.is_dir() => Err(error),
        _ => Ok(()),
    }
}
