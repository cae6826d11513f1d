//! Writes one item into the spool: streaming, counted, durable at the end. Blocking: call it from a blocking thread.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::Arc,
};

use fs_err::File;

use super::{
    Inner, SpoolError,
    item::{Description, write_tail},
    queue::{hash_key, room_for},
};
use crate::activity::CollectorEvent;

/// Room in the spool that was set aside before anything was read.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(super) spool: Arc<Inner>,
    pub(super) room: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.room > 0 {
            self.spool.state().give_back(self.room);
            self.spool.room.notify_waiters();
        }
    }
}

/// What became of a committed item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is durable and will be delivered.
    Stored,
    /// An item with this key waits already.
    Duplicate,
}

/// An item that is being written. Dropped without a commit, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct ItemWriter {
    reservation: Reservation,
    file: BufWriter<File>,
    path: PathBuf,
    len: u64,
    committed: bool,
}

impl ItemWriter {
    pub(super) fn new(reservation: Reservation, file: File, path: PathBuf) -> Self {
        Self { reservation, file: BufWriter::with_capacity(64 * 1024, file), path, len: 0, committed: false }
    }

    /// Makes the item durable under its key and hands it to the delivery.
    pub(crate) fn commit(mut self, description: &Description) -> Result<Committed, SpoolError> {
        let spool = Arc::clone(&self.reservation.spool);
        let key = hash_key(&description.key);
        if spool.state().has(&key) {
            return Ok(Committed::Duplicate);
        }
        let failed =
            |source| SpoolError::Io { action: "write a result into", path: spool.home.clone(), source };
        let payload_len = self.len;
        write_tail(&mut self.file, description, payload_len).map_err(failed)?;
        self.file.flush().map_err(failed)?;
        self.file.get_ref().sync_data().map_err(failed)?;
        let seq = {
            let mut state = spool.state();
            if !state.claim(key) {
                return Ok(Committed::Duplicate);
            }
            state.number()
        };
        let target = spool.queued(seq);
        if let Err(source) = fs_err::rename(&self.path, &target).and_then(|()| spool.directory.sync()) {
            fs_err::remove_file(&target).ok();
            spool.state().release(&key);
            return Err(failed(source));
        }
        self.committed = true;
        spool.reporter.tell(CollectorEvent::Spooled {
            source: description.source.clone(),
            key: description.key.clone(),
            bytes: payload_len,
        });
        let room = room_for(self.len);
        let mut state = spool.state();
        state.give_back(std::mem::take(&mut self.reservation.room));
        state.take(room);
        state.insert(seq, key, room);
        spool.reporter.spool_holds(state.len(), state.used());
        drop(state);
        spool.added.notify_one();
        spool.room.notify_waiters();
        Ok(Committed::Stored)
    }
}

impl Write for ItemWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.len += written as u64;
        let needed = room_for(self.len);
        if needed > self.reservation.spool.max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "the result alone is larger than the spool",
            ));
        }
        if needed > self.reservation.room {
            // Room is set aside by an estimate; what was begun may end, so that two half-written results
            // never wait for each other.
            self.reservation.spool.state().take(needed - self.reservation.room);
            self.reservation.room = needed;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for ItemWriter {
    fn drop(&mut self) {
        if !self.committed {
            fs_err::remove_file(&self.path).ok();
        }
    }
}
