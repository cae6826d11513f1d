//! Results that were put aside: `<number>.tar.gz`, a plain archive for whoever looks into it, and `<number>.json`
//! with the reason and all that is needed to offer it again. Decides nothing about what is put aside.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use fs_err::{OpenOptions, os::unix::fs::OpenOptionsExt};

use super::{
    item::{Refusal, write_tail},
    queue::Seq,
};

/// One rejected result as found on disk.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) seq: Seq,
    pub(super) refusal: Refusal,
    pub(super) len: u64,
}

#[derive(Debug)]
pub(super) struct Rejected {
    home: PathBuf,
}

impl Rejected {
    pub(super) fn new(home: PathBuf) -> Self {
        Self { home }
    }

    pub(super) fn archive(&self, seq: Seq) -> PathBuf {
        self.home.join(format!("{seq:016x}.tar.gz"))
    }

    fn reason(&self, seq: Seq) -> PathBuf {
        self.home.join(format!("{seq:016x}.json"))
    }

    /// Moves an item here. The reason is written first: a crash in between is finished by the next start.
    pub(super) fn put(&self, seq: Seq, item: &Path, refusal: &Refusal) -> io::Result<()> {
        let (reason, fresh) = (self.reason(seq), self.home.join(format!("{seq:016x}.new")));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(refusal)?)?;
        file.sync_all()?;
        fs_err::rename(&fresh, &reason)?;
        let archive = self.archive(seq);
        fs_err::rename(item, &archive)?;
        if refusal.description.is_some() {
            OpenOptions::new().write(true).open(&archive)?.set_len(refusal.payload_len)?;
        }
        Ok(())
    }

    /// Makes an item of a rejected result again.
    pub(super) fn revive(&self, found: &Found, item: &Path) -> io::Result<()> {
        let Some(description) = &found.refusal.description else { return Ok(()) };
        let archive = self.archive(found.seq);
        let file = OpenOptions::new().append(true).open(&archive)?;
        file.set_len(found.refusal.payload_len)?;
        let mut writer = BufWriter::new(file);
        write_tail(&mut writer, description, found.refusal.payload_len)?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs_err::rename(&archive, item)?;
        fs_err::remove_file(self.reason(found.seq))
    }

    pub(super) fn delete(&self, seq: Seq) {
        fs_err::remove_file(self.archive(seq)).ok();
        fs_err::remove_file(self.reason(seq)).ok();
    }

    /// All that lies here, oldest first. A reason whose result is gone is removed.
    pub(super) fn list(&self) -> io::Result<Vec<Found>> {
        let mut all = Vec::new();
        for entry in fs_err::read_dir(&self.home)? {
            let path = entry?.path();
            let Some(seq) = path.file_stem().and_then(|stem| Seq::from_str_radix(stem.to_str()?, 16).ok())
            else {
                continue;
            };
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let refusal = fs_err::read(&path).and_then(|json| Ok(serde_json::from_slice::<Refusal>(&json)?));
            match (refusal, fs_err::metadata(self.archive(seq))) {
                (Ok(refusal), Ok(archive)) => all.push(Found { seq, refusal, len: archive.len() }),
                (_, Err(e)) if e.kind() == io::ErrorKind::NotFound => fs_err::remove_file(&path)?,
                _ => {}
            }
        }
        all.sort_by_key(|found| found.seq);
        Ok(all)
    }
}
