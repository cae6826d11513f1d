//! Remembers which ended containers were spooled and which were confirmed, so that a container that still exists is
//! neither sent twice nor forgotten by `--cleanup`. Loses nothing by being lost: idempotency keys make a repeat
//! harmless.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::append_log::AppendLog;

/// How far a container's result has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Progress {
    /// In the spool.
    Spooled,
    /// Stored by the service.
    Confirmed,
    /// The container is gone.
    Forgotten,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    id: String,
    finished_at: Timestamp,
    progress: Progress,
}

#[derive(Debug)]
pub(crate) struct Record(Mutex<Known>);

#[derive(Debug)]
struct Known {
    log: AppendLog,
    containers: HashMap<String, (Timestamp, Progress)>,
}

impl Known {
    fn learn(containers: &mut HashMap<String, (Timestamp, Progress)>, line: Line) {
        match line.progress {
            Progress::Forgotten => _ = containers.remove(&line.id),
            progress => {
                let known = containers.entry(line.id).or_insert((line.finished_at, progress));
                // The confirmation of an earlier end must not hide that a later one is still on its way.
                if line.finished_at >= known.0 {
                    *known = (line.finished_at, progress);
                }
            }
        }
    }

    fn write(&mut self, line: Line) -> io::Result<()> {
        self.log.append(&line)?;
        Self::learn(&mut self.containers, line);
        if self.log.is_mostly_history(self.containers.len()) {
            let Self { log, containers } = self;
            log.rewrite(containers.iter().map(|(id, (finished_at, progress))| Line {
                id: id.clone(),
                finished_at: *finished_at,
                progress: *progress,
            }))?;
        }
        Ok(())
    }
}

impl Record {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut containers = HashMap::new();
        let log = AppendLog::open(path, |line| Known::learn(&mut containers, line))?;
        Ok(Self(Mutex::new(Known { log, containers })))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a container: when the end that was taken up happened, and how far its result has come.
    pub(crate) fn of(&self, id: &str) -> Option<(Timestamp, Progress)> {
        self.known().containers.get(id).copied()
    }

    pub(crate) fn note(&self, id: &str, finished_at: Timestamp, progress: Progress) -> io::Result<()> {
        self.known().write(Line { id: id.to_owned(), finished_at, progress })
    }

    /// The container is gone: it can never be met again.
    pub(crate) fn forget(&self, id: &str) -> io::Result<()> {
        let mut known = self.known();
        match known.containers.get(id) {
            Some(&(finished_at, _)) => {
                known.write(Line { id: id.to_owned(), finished_at, progress: Progress::Forgotten })
            }
            None => Ok(()),
        }
    }

    /// Forgets all containers but these.
    pub(crate) fn keep_only(&self, existing: &HashSet<&str>) -> io::Result<()> {
        let gone: Vec<String> =
            self.known().containers.keys().filter(|id| !existing.contains(id.as_str())).cloned().collect();
        gone.iter().try_for_each(|id| self.forget(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_was_noted_is_known_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("containers.log");
        let record = Record::open(&path).unwrap();
        record.note("a", at(1), Progress::Spooled).unwrap();
        record.note("a", at(1), Progress::Confirmed).unwrap();
        record.note("b", at(2), Progress::Spooled).unwrap();
        record.note("c", at(3), Progress::Confirmed).unwrap();
        record.keep_only(&["a", "b"].into()).unwrap();
        drop(record);
        let record = Record::open(&path).unwrap();
        assert_eq!(record.of("a"), Some((at(1), Progress::Confirmed)));
        assert_eq!(record.of("b"), Some((at(2), Progress::Spooled)));
        assert_eq!(record.of("c"), None);
    }

    #[test]
    fn the_confirmation_of_an_earlier_end_does_not_hide_a_later_one() {
        let home = tempfile::tempdir().unwrap();
        let record = Record::open(&home.path().join("containers.log")).unwrap();
        record.note("a", at(1), Progress::Spooled).unwrap();
        record.note("a", at(5), Progress::Spooled).unwrap();
        record.note("a", at(1), Progress::Confirmed).unwrap();
        assert_eq!(record.of("a"), Some((at(5), Progress::Spooled)));
    }
}
