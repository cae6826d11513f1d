//! The store: runs, cases, files, events and keys, durable once a write has returned. Hands out domain types
//! only; no SQL and no row leaves this module.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::Stream;
use test_results::{EventId, RunId};
use tokio::sync::mpsc;

use crate::views::{
    CaseFilter, CaseRow, EventFilter, EventRow, FileRow, Page, PageRequest, RunDetail, RunFilter, RunSummary,
    TestFilter, TestOverview,
};

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
}

/// A handle on the store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {}

/// A stored file that is being read.
pub struct OpenFile {
    /// What it is.
    pub file: FileRow,
    chunks: mpsc::Receiver<io::Result<Bytes>>,
}

impl OpenFile {
    /// The contents in pieces; never more than a few of them are in memory.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        tokio_stream::wrappers::ReceiverStream::new(self.chunks)
    }

    /// The first `limit` bytes, and whether there are more.
    pub async fn read_up_to(mut self, limit: usize) -> io::Result<(Vec<u8>, bool)> {
        let mut head = Vec::new();
        while let Some(chunk) = self.chunks.recv().await {
            let chunk = chunk?;
            let room = limit - head.len();
            if chunk.len() > room {
                head.extend_from_slice(&chunk[..room]);
                return Ok((head, true));
            }
            head.extend_from_slice(&chunk);
        }
        Ok((head, false))
    }
}

impl Store {
    /// The tests by name, each with its newest runs.
    pub async fn tests(&self, _: &TestFilter, _: &PageRequest) -> Result<Page<TestOverview>, StoreError> {
        let _ = &self.inner;
        Ok(Page::default())
    }

    /// The runs, newest first.
    pub async fn runs(&self, _: &RunFilter, _: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        Ok(Page::default())
    }

    /// One run; `None` when there is none of this id.
    pub async fn run(&self, _: RunId) -> Result<Option<RunDetail>, StoreError> {
        Ok(None)
    }

    /// The cases of a run in the order of their reports; empty when there is no such run.
    pub async fn cases(
        &self,
        _: RunId,
        _: &CaseFilter,
        _: &PageRequest,
    ) -> Result<Page<CaseRow>, StoreError> {
        Ok(Page::default())
    }

    /// All files of a run by path.
    pub async fn files(&self, _: RunId, _: &PageRequest) -> Result<Page<FileRow>, StoreError> {
        Ok(Page::default())
    }

    /// Opens a file of a run; `None` when there is none at this path.
    pub async fn open_file(&self, _: RunId, _: &str) -> Result<Option<OpenFile>, StoreError> {
        Ok(None)
    }

    /// The events, newest first.
    pub async fn events(&self, _: &EventFilter, _: &PageRequest) -> Result<Page<EventRow>, StoreError> {
        Ok(Page::default())
    }

    /// The newest event of this id; `None` when there is none.
    pub async fn event(&self, _: &EventId) -> Result<Option<EventRow>, StoreError> {
        Ok(None)
    }
}
