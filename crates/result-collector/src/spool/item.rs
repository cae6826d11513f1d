//! The form of one spooled result on disk: the payload as it will be sent, then what must be known to send it, then
//! a fixed tail that shows whether both are whole. Reads and writes single files; knows no queue.
//!
//! ```text
//! payload (tar.gz) | description (JSON) | length of the description u32 | length of the payload u64
//!                  | first 16 bytes of BLAKE3 over description and lengths | "TYSPOOL1"
//! ```
//! One file, so that one `fsync` and one rename make an item durable. Numbers are little-endian.

use std::{
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use fs_err::File;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use test_results::upload::UploadQuery;

use crate::activity::{RefusalKind, Source};

const MAGIC: &[u8; 8] = b"TYSPOOL1";
const TAIL: usize = 4 + 8 + 16 + 8;
/// Far more than any description of ours; keeps a damaged length from asking for gigabytes.
const LONGEST_DESCRIPTION: u32 = 1024 * 1024;

/// What must be known to send an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The idempotency key.
    pub(crate) key: String,
    /// Query parameters, in order.
    pub(crate) query: Vec<(String, String)>,
    /// Where it came from.
    pub(crate) source: Source,
    /// When it was spooled.
    pub(crate) spooled_at: Timestamp,
}

impl Description {
    pub(crate) fn new(key: String, query: &UploadQuery, source: Source) -> Self {
        let mut query: Vec<_> =
            query.to_pairs().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // A report that a test left half-written is a note on its run, no reason to refuse the run.
        query.push(("lenient".to_owned(), "true".to_owned()));
        Self { key, query, source, spooled_at: Timestamp::now() }
    }
}

/// Why an item was put aside; lies beside it in `rejected`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    /// HTTP status, if the service answered.
    pub(crate) status: Option<u16>,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
    /// Absent when it could not be read.
    pub(crate) description: Option<Description>,
    pub(crate) payload_len: u64,
}

/// Why a file is not an item.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("it was cut off or is not a spooled result")]
    NoTail,
    #[error("its description does not match its digest")]
    BadDescription,
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

/// Writes what follows the payload.
pub(crate) fn write_tail(to: &mut impl Write, description: &Description, payload_len: u64) -> io::Result<()> {
    let json = serde_json::to_vec(description)?;
    let json_len = u32::try_from(json.len()).map_err(io::Error::other)?;
    to.write_all(&json)?;
    to.write_all(&json_len.to_le_bytes())?;
    to.write_all(&payload_len.to_le_bytes())?;
    to.write_all(&digest(&json, json_len, payload_len))?;
    to.write_all(MAGIC)
}

/// Reads the description and the length of the payload, which begins at 0.
pub(crate) fn read_tail(path: &Path) -> Result<(File, Description, u64), Damage> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let at = len.checked_sub(TAIL as u64).ok_or(Damage::NoTail)?;
    let mut tail = [0; TAIL];
    file.file().read_exact_at(&mut tail, at)?;
    let (numbers, rest) = tail.split_at(12);
    let (sum, magic) = rest.split_at(16);
    let json_len = u32::from_le_bytes(numbers[..4].try_into().expect("four bytes"));
    let payload_len = u64::from_le_bytes(numbers[4..].try_into().expect("eight bytes"));
    let whole = payload_len.checked_add(u64::from(json_len)).and_then(|n| n.checked_add(TAIL as u64));
    if magic != MAGIC || whole != Some(len) || json_len > LONGEST_DESCRIPTION {
        return Err(Damage::NoTail);
    }
    let mut json = vec![0; json_len as usize];
    file.file().read_exact_at(&mut json, payload_len)?;
    if sum != digest(&json, json_len, payload_len) {
        return Err(Damage::BadDescription);
    }
    let description = serde_json::from_slice(&json).map_err(|_| Damage::BadDescription)?;
    Ok((file, description, payload_len))
}

fn digest(json: &[u8], json_len: u32, payload_len: u64) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(json).update(&json_len.to_le_bytes()).update(&payload_len.to_le_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            key: "container/abc/1".into(),
            query: vec![("exitcode".into(), "0".into())],
            source: Source::File { path: "/a".into() },
            spooled_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("item");
        let mut bytes = b"payload".to_vec();
        write_tail(&mut bytes, &description(), 7).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let (_, read, len) = read_tail(&path).unwrap();
        assert_eq!((read, len), (description(), 7));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_behind_the_payload_is_found() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("item");
        let mut bytes = b"payload".to_vec();
        write_tail(&mut bytes, &description(), 7).unwrap();
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(read_tail(&path).is_err(), "cut to {len}");
        }
        for at in 7..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(read_tail(&path).is_err(), "flipped at {at}");
        }
    }
}
