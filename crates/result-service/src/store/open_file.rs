//! Hands out the contents of a stored file, in pieces: unpacks the upload up to the file and no further. A file is
//! found by its row, never by a path on disk.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures_util::Stream;
use sqlx::Row;
use test_results::RunId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Packing, Store, StoreError, column, read_cases::file_row};
use crate::{blobs::BlobId, views::FileRow};

const DOING: &str = "open a file of a run";

/// Size of the pieces, and how many of them may wait for a slow reader.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 2;

/// A stored file that is being read.
pub struct OpenFile {
    /// What it is.
    pub file: FileRow,
    pieces: mpsc::Receiver<io::Result<Bytes>>,
}

impl OpenFile {
    /// The contents in pieces; never more than a few of them are in memory.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        ReceiverStream::new(self.pieces)
    }

    /// The first `limit` bytes, and whether there are more.
    pub async fn read_up_to(mut self, limit: usize) -> io::Result<(Vec<u8>, bool)> {
        let mut head = Vec::new();
        while let Some(piece) = self.pieces.recv().await {
            let piece = piece?;
            let room = limit - head.len();
            if piece.len() > room {
                head.extend_from_slice(&piece[..room]);
                return Ok((head, true));
            }
            head.extend_from_slice(&piece);
        }
        Ok((head, false))
    }
}

impl Store {
    /// Opens a file of a run; `None` when there is none at this path.
    pub async fn open_file(&self, run: RunId, path: &str) -> Result<Option<OpenFile>, StoreError> {
        let row = sqlx::query(
            "SELECT f.path, f.kind, f.size, f.format, f.position, d.packing, b.id AS blob, b.content \
             FROM runs r JOIN files f ON f.run = r.key JOIN run_details d ON d.run = r.key \
             JOIN blobs b ON b.id = d.blob WHERE r.id = ? AND f.path = ?",
        )
        .bind(&run.0.as_bytes()[..])
        .bind(path)
        .fetch_optional(&self.readers)
        .await
        .map_err(StoreError::reading(DOING))?;
        let Some(row) = row else { return Ok(None) };
        let read = || {
            let blob = BlobId::from_bytes(row.try_get("blob")?)
                .ok_or_else(|| sqlx::Error::Decode("a blob's id is not a digest".into()))?;
            let content: Option<Vec<u8>> = row.try_get("content")?;
            let packing: Packing = column::from_word(&row, "packing")?;
            Ok((blob, content, packing, file_row(&row)?, column::count(&row, "position")?))
        };
        let (blob, content, packing, file, position) = read().map_err(StoreError::reading(DOING))?;

        let (sender, pieces) = mpsc::channel(PIECES);
        let size = file.size;
        let permit = self.unpacking.clone().acquire_owned().await.map_err(|_| StoreError::Stopped)?;
        let blobs = self.blobs.clone();
        tokio::task::spawn_blocking(move || {
            let _until_done = permit;
            let packed: io::Result<Box<dyn Read>> = match content {
                Some(content) => Ok(Box::new(Cursor::new(content))),
                None => blobs.open_blob(blob).map(|file| Box::new(file) as Box<dyn Read>),
            };
            let unpacked = packed.map(|packed| match packing {
                Packing::TarGz => Box::new(GzDecoder::new(packed)) as Box<dyn Read>,
                Packing::Plain => packed,
            });
            let outcome = unpacked.and_then(|unpacked| send(unpacked, position, size, &sender));
            if let Err(error) = outcome {
                // The reader has gone away, or learns here why the contents end.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(Some(OpenFile { file, pieces }))
    }
}

/// Sends `size` bytes from `position` on; ends early when nobody listens any more.
fn send(
    mut unpacked: Box<dyn Read>,
    position: u64,
    size: u64,
    to: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    io::copy(&mut unpacked.by_ref().take(position), &mut io::sink())?;
    let mut left = size;
    while left > 0 {
        let mut piece = Vec::new();
        let wanted = left.min(PIECE as u64);
        unpacked.by_ref().take(wanted).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the stored upload is shorter than its index says",
            ));
        }
        left -= piece.len() as u64;
        if to.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
