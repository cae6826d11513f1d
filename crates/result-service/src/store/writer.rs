//! The one writer of the database. Gathers the changes that wait and commits them together, so that many uploads
//! share one flush to disk. Never reads for clients.
//!
//! A change is answered when its transaction is on disk: the connection runs with `synchronous=FULL`, which in WAL
//! mode flushes the log at each commit, so an answered change survives a power failure. Sharing the flush is what
//! makes that affordable.

use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, warn};

use super::StoreError;

/// How many changes share a transaction at most.
const BATCH: usize = 256;

/// How many changes may wait; further ones hold their senders back.
const QUEUE: usize = 1024;

/// Something that changes the database.
pub(super) trait Change: Send + 'static {
    /// What the sender is told when it is durable.
    type Effect: Send + 'static;

    /// Completes "cannot …".
    const DOING: &'static str;

    /// Makes the change inside an open transaction. May be called again when that transaction had to be undone.
    fn apply(
        &self,
        transaction: &mut SqliteConnection,
    ) -> impl Future<Output = Result<Self::Effect, sqlx::Error>> + Send;
}

/// A change on its way, whatever its type.
trait Job: Send {
    fn apply<'a>(&'a mut self, on: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), sqlx::Error>>;
    fn settle(self: Box<Self>, committed: Result<(), sqlx::Error>);
}

struct Pending<C: Change> {
    change: C,
    effect: Option<C::Effect>,
    reply: oneshot::Sender<Result<C::Effect, StoreError>>,
}

impl<C: Change + Sync> Job for Pending<C> {
    fn apply<'a>(&'a mut self, on: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        Box::pin(async move {
            self.effect = Some(self.change.apply(on).await?);
            Ok(())
        })
    }

    fn settle(self: Box<Self>, committed: Result<(), sqlx::Error>) {
        let answer = match (committed, self.effect) {
            (Ok(()), Some(effect)) => Ok(effect),
            (Ok(()), None) => Err(StoreError::Stopped),
            (Err(source), _) => Err(StoreError::Database { doing: C::DOING, source }),
        };
        // The sender may have gone away; the change is made all the same.
        let _ = self.reply.send(answer);
    }
}

/// The way to the writer; cheap to clone. The writer ends when the last one is dropped.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    newest_event: watch::Receiver<u64>,
}

impl Writer {
    /// Starts the writer on a connection that nothing else uses.
    pub(super) async fn start(mut connection: SqliteConnection) -> Result<Self, sqlx::Error> {
        let (announce, newest_event) = watch::channel(newest_event(&mut connection).await?);
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(run(connection, queue, announce));
        Ok(Self { jobs, newest_event })
    }

    /// Makes a change, and returns when it is durable.
    pub(super) async fn write<C: Change + Sync>(&self, change: C) -> Result<C::Effect, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Pending { change, effect: None, reply });
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// The sequence of the newest durable event; changes are announced.
    pub(super) fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest_event.clone()
    }
}

async fn run(
    mut connection: SqliteConnection,
    mut queue: mpsc::Receiver<Box<dyn Job>>,
    announce: watch::Sender<u64>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        match commit(&mut connection, &mut batch).await {
            Ok(()) => batch.drain(..).for_each(|job| job.settle(Ok(()))),
            Err(reason) => {
                // One bad change must not take the others with it: each gets a transaction of its own.
                debug!(error = %reason, changes = batch.len(), "a batch of changes is written one by one");
                for mut job in batch.drain(..) {
                    let outcome = commit(&mut connection, std::slice::from_mut(&mut job)).await;
                    job.settle(outcome);
                }
            }
        }
        match newest_event(&mut connection).await {
            Ok(newest) => {
                announce.send_if_modified(|known| {
                    let grown = newest > *known;
                    *known = newest;
                    grown
                });
            }
            Err(error) => warn!(%error, "cannot read the sequence of the newest event"),
        }
    }
    if let Err(error) = connection.close().await {
        warn!(%error, "the database was not closed in good order; it recovers when it is opened");
    }
}

async fn commit(connection: &mut SqliteConnection, jobs: &mut [Box<dyn Job>]) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for job in jobs {
        if let Err(reason) = job.apply(&mut transaction).await {
            transaction.rollback().await?;
            return Err(reason);
        }
    }
    transaction.commit().await
}

async fn newest_event(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let newest: i64 =
        sqlx::query_scalar("SELECT coalesce(max(sequence), 0) FROM events").fetch_one(connection).await?;
    Ok(u64::try_from(newest).unwrap_or(0))
}
