//! The cases of an upload on their way into the store: a few in memory, the others written as they are read.

use std::ops::ControlFlow;

use test_results::Case;
use tokio::runtime::Handle;

use crate::store::{NewCase, RunKey, Store, StoreError};

/// How many cases are held before they are written. Most uploads have fewer and are stored in one transaction.
const BATCH: usize = 512;

/// How many bytes of texts are held before they are written.
const BYTES: usize = 1 << 20;

/// Takes the cases of one upload.
pub(crate) struct Cases {
    store: Store,
    run: RunKey,
    runtime: Handle,
    held: Vec<NewCase>,
    held_bytes: usize,
    number: u64,
    staged: bool,
    failure: Option<StoreError>,
}

impl Cases {
    pub(crate) fn new(store: Store, run: RunKey, runtime: Handle) -> Self {
        Self { store, run, runtime, held: Vec::new(), held_bytes: 0, number: 0, staged: false, failure: None }
    }

    /// How many cases there are so far.
    pub(crate) fn count(&self) -> u64 {
        self.number
    }

    /// Takes one more; asks for no more when it could not be written. Blocks.
    pub(crate) fn take(&mut self, case: Case, file: &str) -> ControlFlow<()> {
        self.number += 1;
        self.held_bytes += size(&case);
        self.held.push(NewCase { number: self.number, case, file: Some(file.to_owned()) });
        if self.held.len() < BATCH && self.held_bytes < BYTES {
            return ControlFlow::Continue(());
        }
        self.staged = true;
        self.held_bytes = 0;
        let cases = std::mem::take(&mut self.held);
        match self.runtime.block_on(self.store.stage_cases(self.run, cases)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Why the store took no more, if it did not.
    pub(crate) fn failure(&mut self) -> Option<StoreError> {
        self.failure.take()
    }

    /// Whether some are in the database.
    pub(crate) fn staged(&self) -> bool {
        self.staged
    }

    /// Those that are not in the database yet.
    pub(crate) fn into_rest(self) -> Vec<NewCase> {
        self.held
    }
}

fn size(case: &Case) -> usize {
    let texts = case.failure.iter().flat_map(|failure| [&failure.message, &failure.kind, &failure.text]);
    let texts = texts.chain([&case.output, &case.class]).flatten().map(String::len).sum::<usize>();
    texts + case.name.len() + case.suite.iter().map(String::len).sum::<usize>()
}
