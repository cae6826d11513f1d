//! Makes a smaller upload of a container's result that the service refused: the same without the results directory, and
//! a note that says why. So the run, its exit code and its console can still be seen. Blocking.

use std::io::{self, Read};

use flate2::read::GzDecoder;
use test_results::upload::{FileMetadata, layout};

use crate::{
    activity::Source,
    bundle,
    spool::{Payload, Spool, SpoolError, item::Description, writer::Reservation},
};

/// Why there is no smaller upload.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReduceError {
    #[error("the refused result cannot be read")]
    Read(#[from] io::Error),
    #[error("the smaller result cannot be spooled")]
    Spool(#[from] SpoolError),
}

/// The description of the smaller upload. `None` for what has no results directory to leave out.
pub(super) fn describe(refused: &Description) -> Option<Description> {
    let mut smaller = refused.clone();
    match &mut smaller.source {
        Source::Container { complete, .. } if *complete => *complete = false,
        _ => return None,
    }
    smaller.key.push_str("/without-results");
    Some(smaller)
}

/// Writes and commits the smaller upload.
pub(super) fn spool_without_results(
    spool: &Spool,
    reservation: Reservation,
    description: &Description,
    refused: Payload,
    reason: &str,
) -> Result<(), ReduceError> {
    let payload: Box<dyn Read> = match refused {
        Payload::Small(bytes) => Box::new(io::Cursor::new(bytes)),
        Payload::Large(file, len) => Box::new(file.take(len)),
    };
    let mut archive = tar::Archive::new(GzDecoder::new(io::BufReader::with_capacity(128 * 1024, payload)));
    let mut smaller = bundle::begin(spool.begin(reservation)?);
    let mut notes = String::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        if path == bundle::NOTES.as_bytes() {
            entry.read_to_string(&mut notes)?;
        } else if !path.starts_with(layout::RESULTS.as_bytes()) {
            smaller.file(&path, FileMetadata { size: entry.size(), modified: None }, entry)?;
        }
    }
    notes.push_str(&format!("the results are left out, because the service refused them: {reason}\n"));
    smaller.bytes(bundle::NOTES, notes.as_bytes())?;
    smaller.finish()?.commit(description)?;
    Ok(())
}
