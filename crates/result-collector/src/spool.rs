//! The durable queue between whoever finds results and the delivery: a directory that is bounded, survives a kill at
//! any moment, and belongs to one collector at a time. It never talks to the service and never looks into a payload.
//!
//! ```text
//! spool/            0700, files 0600
//!   lock            held while a collector runs
//!   partial/        being written; emptied at start
//!   queue/          one file per result, named by its number; see `item`
//!   rejected/       put aside, with the reason
//! ```
//! The limit counts blocks of all three. A result that was begun may end, so it can be passed by what is being
//! written at that moment.

pub(crate) mod group_sync;
pub(crate) mod item;
mod queue;
mod rejected;
pub(crate) mod writer;

use std::{
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use fs_err::{File, OpenOptions, os::unix::fs::OpenOptionsExt};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    group_sync::GroupSync,
    item::{Damage, Description, Refusal, read_tail},
    queue::{Next, Queue, Seq, hash_key, room_for},
    rejected::Rejected,
    writer::{ItemWriter, Reservation},
};
use crate::activity::{CollectorEvent, RefusalKind, Reporter};

/// Payloads up to this size are read at once instead of being streamed.
const SMALL: u64 = 128 * 1024;

/// A spool operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another collector uses it.
    #[error("the spool `{}` is in use by another collector: stop that one, or choose another state directory", path.display())]
    Locked {
        /// The spool.
        path: PathBuf,
    },
    /// The disk refused.
    #[error("cannot {action} the spool `{}`", path.display())]
    Io {
        /// What was under way.
        action: &'static str,
        /// The spool.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The spool; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spool(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    home: PathBuf,
    max: u64,
    rejected: Rejected,
    directory: GroupSync,
    state: Mutex<Queue>,
    partial: AtomicU64,
    /// Something was added to the queue.
    added: Notify,
    /// Room may have become free.
    room: Notify,
    /// First come, first served among those who wait for room.
    turn: tokio::sync::Mutex<()>,
    reporter: Reporter,
    _lock: File,
    /// Cancelled when the last user is gone.
    _closed: DropGuard,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queued(&self, seq: Seq) -> PathBuf {
        self.home.join("queue").join(format!("{seq:016x}"))
    }

    fn try_reserve(&self, room: u64) -> bool {
        loop {
            let mut state = self.state();
            if state.used() + room <= self.max || state.used() == 0 {
                state.take(room);
                return true;
            }
            let Some(seq) = state.evict() else { return false };
            drop(state);
            let path = self.rejected.archive(seq);
            self.rejected.delete(seq);
            self.reporter.tell(CollectorEvent::Evicted { path });
        }
    }

    fn put_aside(&self, seq: Seq, refusal: &Refusal) -> io::Result<()> {
        self.rejected.put(seq, &self.queued(seq), refusal)?;
        let path = self.rejected.archive(seq);
        let room = room_for(fs_err::metadata(&path)?.len()) + room_for(0);
        self.state().reject(seq, room, refusal.kind == RefusalKind::Content);
        self.reporter.tell(CollectorEvent::Rejected {
            source: refusal.description.as_ref().map(|description| description.source.clone()),
            kind: refusal.kind,
            reason: refusal.reason.clone(),
            path,
        });
        Ok(())
    }
}

impl Spool {
    /// Opens or makes the spool and takes up what an earlier collector left. Blocking.
    /// `closed` is cancelled when the spool and its lock are free again.
    pub(crate) fn open(
        home: &Path,
        max: u64,
        reporter: Reporter,
        closed: CancellationToken,
    ) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Io { action: "open", path: home.to_owned(), source };
        for directory in [home.to_owned(), home.join("queue"), home.join("partial"), home.join("rejected")] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
            fs_err::set_permissions(&directory, PermissionsExt::from_mode(0o700)).map_err(failed)?;
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .mode(0o600)
            .open(home.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(SpoolError::Locked { path: home.to_owned() });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let spool = Self(Arc::new(Inner {
            home: home.to_owned(),
            max,
            rejected: Rejected::new(home.join("rejected")),
            directory: GroupSync::new(File::open(home.join("queue")).map_err(failed)?),
            state: Mutex::default(),
            partial: AtomicU64::new(0),
            added: Notify::new(),
            room: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            reporter,
            _lock: lock,
            _closed: closed.drop_guard(),
        }));
        spool.recover().map_err(failed)?;
        Ok(spool)
    }

    fn recover(&self) -> io::Result<()> {
        let spool = &*self.0;
        for entry in fs_err::read_dir(spool.home.join("partial"))? {
            fs_err::remove_file(entry?.path())?;
        }
        let mut queued = Vec::new();
        for entry in fs_err::read_dir(spool.home.join("queue"))? {
            let name = entry?.file_name();
            queued.extend(name.to_str().and_then(|name| Seq::from_str_radix(name, 16).ok()));
        }
        // What was refused for want of a right, or at a wrong address, may be welcome now.
        for found in spool.rejected.list()? {
            spool.state().saw_number(found.seq);
            if found.refusal.kind == RefusalKind::Access && found.refusal.description.is_some() {
                spool.rejected.revive(&found, &spool.queued(found.seq))?;
                queued.push(found.seq);
            } else {
                let evictable = found.refusal.kind == RefusalKind::Content;
                spool.state().reject(found.seq, room_for(found.len) + room_for(0), evictable);
            }
        }
        queued.sort_unstable();
        for seq in queued {
            spool.state().saw_number(seq);
            self.take_up(seq)?;
        }
        let state = spool.state();
        spool.reporter.spool_holds(state.len(), state.used());
        Ok(())
    }

    fn take_up(&self, seq: Seq) -> io::Result<()> {
        let spool = &*self.0;
        let path = spool.queued(seq);
        match read_tail(&path) {
            Ok((file, description, _)) => {
                let (key, room) = (hash_key(&description.key), room_for(file.metadata()?.len()));
                let mut state = spool.state();
                if !state.claim(key) {
                    drop(state);
                    return fs_err::remove_file(&path);
                }
                state.take(room);
                state.insert(seq, key, room);
                Ok(())
            }
            Err(Damage::Io(e)) if e.kind() != io::ErrorKind::UnexpectedEof => Err(e),
            Err(damage) => spool.put_aside(seq, &damaged(&damage)),
        }
    }

    /// Whether a result with this key waits here.
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.0.state().has(&hash_key(key))
    }

    /// Waits until there is room for about this many bytes. Those who wait are served in order. A result that could
    /// never fit is let in alone.
    pub(crate) async fn reserve(&self, estimate: u64) -> Reservation {
        let spool = &self.0;
        let room = room_for(estimate);
        let _turn = spool.turn.lock().await;
        let mut told = false;
        loop {
            let freed = spool.room.notified();
            if spool.try_reserve(room) {
                return Reservation { spool: Arc::clone(spool), room };
            }
            if !told {
                told = true;
                let used = spool.state().used();
                spool.reporter.tell(CollectorEvent::SpoolFull { used, max: spool.max });
            }
            freed.await;
        }
    }

    /// No room at all, for what must not wait: it is taken as it is needed.
    pub(crate) fn reserve_nothing(&self) -> Reservation {
        Reservation { spool: Arc::clone(&self.0), room: 0 }
    }

    /// Begins an item. Blocking.
    pub(crate) fn begin(&self, reservation: Reservation) -> Result<ItemWriter, SpoolError> {
        let number = self.0.partial.fetch_add(1, Ordering::Relaxed);
        let path = self.0.home.join("partial").join(format!("{number:016x}"));
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|source| {
                SpoolError::Io { action: "write a result into", path: self.0.home.clone(), source }
            })?;
        Ok(ItemWriter::new(reservation, file, path))
    }

    /// The oldest item that is due; waits for one.
    pub(crate) async fn next(&self) -> Lease {
        loop {
            let (next, more) = {
                let mut state = self.0.state();
                (state.next(Instant::now()), state.has_ready())
            };
            match next {
                Next::Item(seq, attempts) => {
                    // Two items may have been announced to one sleeper: it wakes the next.
                    if more {
                        self.0.added.notify_one();
                    }
                    return Lease { spool: Arc::clone(&self.0), seq, attempts: attempts + 1, is_open: true };
                }
                Next::At(due) => {
                    tokio::select! {
                        () = self.0.added.notified() => {}
                        () = tokio::time::sleep_until(due.into()) => {}
                    }
                }
                Next::Empty => self.0.added.notified().await,
            }
        }
    }
}

fn damaged(damage: &Damage) -> Refusal {
    Refusal {
        kind: RefusalKind::Corrupt,
        status: None,
        reason: damage.to_string(),
        at: Timestamp::now(),
        description: None,
        payload_len: 0,
    }
}

/// What is sent.
#[derive(Debug)]
pub(crate) enum Payload {
    /// All of it.
    Small(Bytes),
    /// A file to be read from its start, and how far.
    Large(File, u64),
}

impl Payload {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Small(bytes) => bytes.len() as u64,
            Self::Large(_, len) => *len,
        }
    }
}

/// An item in the hands of one worker. Dropped, it goes back to its place.
#[derive(Debug)]
pub(crate) struct Lease {
    spool: Arc<Inner>,
    seq: Seq,
    /// Which attempt this is, from 1.
    pub(crate) attempts: u32,
    is_open: bool,
}

impl Lease {
    /// Reads what is to be sent. A damaged item is put aside, one that is gone is forgotten; both give `None`.
    /// Blocking.
    pub(crate) fn load(&mut self) -> io::Result<Option<(Description, Payload)>> {
        let load = || -> Result<_, Damage> {
            let (mut file, description, len) = read_tail(&self.spool.queued(self.seq))?;
            if len > SMALL {
                return Ok((description, Payload::Large(file, len)));
            }
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            io::Read::read_exact(&mut file, &mut bytes)?;
            Ok((description, Payload::Small(bytes.into())))
        };
        match load() {
            Ok(loaded) => Ok(Some(loaded)),
            Err(Damage::Io(e)) if e.kind() == io::ErrorKind::NotFound => {
                self.forget();
                Ok(None)
            }
            Err(Damage::Io(e)) if e.kind() != io::ErrorKind::UnexpectedEof => Err(e),
            Err(damage) => {
                self.spool.put_aside(self.seq, &damaged(&damage))?;
                self.forget();
                Ok(None)
            }
        }
    }

    /// The service has it: the item goes. Blocking.
    pub(crate) fn confirm(mut self) -> io::Result<()> {
        let removed = match fs_err::remove_file(self.spool.queued(self.seq)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
        self.forget();
        removed
    }

    /// Again, after this long.
    pub(crate) fn postpone(mut self, after: Duration) {
        self.is_open = false;
        self.spool.state().postpone(self.seq, Instant::now() + after);
        // A worker that sleeps until a later item must learn of this one.
        self.spool.added.notify_one();
    }

    /// The service will not take it: it is put aside with the reason. Blocking.
    pub(crate) fn reject(mut self, refusal: &Refusal) -> Result<(), (Self, io::Error)> {
        if let Err(e) = self.spool.put_aside(self.seq, refusal) {
            return Err((self, e));
        }
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.is_open = false;
        let mut state = self.spool.state();
        state.remove(self.seq);
        self.spool.reporter.spool_holds(state.len(), state.used());
        drop(state);
        self.spool.room.notify_waiters();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_open {
            self.spool.state().put_back(self.seq);
            self.spool.added.notify_one();
        }
    }
}
