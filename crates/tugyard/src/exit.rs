//! Exit codes: part of the interface, documented in `docs/reference/exit-codes.md`.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It did what was asked.
    Success,
    /// It worked, and its finding is negative: a test failed, a digest was wrong.
    Negative,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Success => Self::from(0),
            Verdict::Negative => Self::from(1),
        }
    }
}

/// Marks an error as the caller's: wrong arguments, settings or files. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Marks an error as an outside system's: engine or service cannot be reached. Exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(pub(crate) String);

/// The exit code of a failed command: 2 unless something outside is to blame.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    let unreachable = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(container_engine::EngineError::Unreachable { .. }))
    };
    // A context is found by the error itself, not in its chain.
    let outside = error.downcast_ref::<Unavailable>().is_some() || error.chain().any(unreachable);
    if outside { 3 } else { 2 }
}
