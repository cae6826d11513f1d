//! Hands out the contents of a stored file, in pieces: unpacks the upload up to the file and no further. A file is
//! found by its row, never by a path on disk.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use futures_util::Stream;
use sqlx::Row;
use test_results::{
    RunId,
    upload::{self, UploadError, UploadLimits},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Packing, Store, StoreError, column, read_cases::file_row};
use crate::{blobs::BlobId, views::FileRow};

const DOING: &str = "open a file of a run";

/// Size of the pieces, and how many of them may wait for a slow reader.
const PIECE: u64 = 64 * 1024;
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
            "SELECT f.path, f.kind, f.size, f.format, f.entry, d.packing, b.id AS blob, b.content \
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
            Ok((blob, content, packing, file_row(&row)?, column::count(&row, "entry")?))
        };
        let (blob, content, packing, file, entry) = read().map_err(StoreError::reading(DOING))?;

        let (sender, pieces) = mpsc::channel(PIECES);
        let permit = self.unpacking.clone().acquire_owned().await.map_err(|_| StoreError::Stopped)?;
        let blobs = self.blobs.clone();
        tokio::task::spawn_blocking(move || {
            let _until_done = permit;
            let packed: io::Result<Box<dyn Read>> = match content {
                Some(content) => Ok(Box::new(Cursor::new(content))),
                None => blobs.open_blob(blob).map(|file| Box::new(file) as Box<dyn Read>),
            };
            let mut to = Pieces(sender);
            let outcome = packed.and_then(|mut packed| match packing {
                Packing::Plain => to.send(&mut packed),
                Packing::TarGz => send_entry(packed, entry, &mut to),
            });
            if let Err(error) = outcome {
                // The reader has gone away, or learns here why the contents end.
                let _ = to.0.blocking_send(Err(error));
            }
        });
        Ok(Some(OpenFile { file, pieces }))
    }
}

/// Bounds for an upload that was taken under those of its time.
const TAKEN: UploadLimits = UploadLimits {
    entries: u64::MAX,
    entry: u64::MAX,
    total: u64::MAX,
    ratio: u64::MAX,
    ratio_after: u64::MAX,
    path_length: 1 << 20,
    path_depth: 1 << 20,
    metadata: 1 << 24,
};

/// Sends the contents of one entry, and reads no further.
fn send_entry(packed: impl Read, wanted: u64, to: &mut Pieces) -> io::Result<()> {
    let (mut place, mut sent) = (0, None);
    let read = upload::read(packed, &TAKEN, &mut |_, content| {
        if place == wanted {
            sent = Some(to.send(content));
            return Err(io::Error::other("the rest is not wanted"));
        }
        place += 1;
        Ok(())
    });
    match (sent, read) {
        (Some(sent), Err(UploadError::Visitor { .. })) => sent,
        (_, Err(error)) => Err(io::Error::other(error)),
        (_, Ok(_)) => {
            let what = "the stored upload has fewer entries than its index says";
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, what))
        }
    }
}

/// Where contents are sent to, in pieces.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Pieces {
    /// Sends everything that there is; ends early when nobody listens any more. Blocks.
    fn send(&mut self, contents: &mut dyn Read) -> io::Result<()> {
        loop {
            let mut piece = Vec::new();
            contents.take(PIECE).read_to_end(&mut piece)?;
            if piece.is_empty() || self.0.blocking_send(Ok(piece.into())).is_err() {
                return Ok(());
            }
        }
    }
}
