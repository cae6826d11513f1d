//! What can go wrong in a call to the engine.

/// An engine call that failed. The message names the object; the cause stays in the source chain.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The object does not exist (404).
    #[error("no such {kind}: `{name}`")]
    NotFound {
        /// `container`, `image`, `network`, …
        kind: &'static str,
        /// Its name or id.
        name: String,
    },
    /// The name is taken, or the object is in a state that forbids the call (409).
    #[error("conflict on {kind} `{name}`: {message}")]
    Conflict {
        /// `container`, `image`, `network`, …
        kind: &'static str,
        /// Its name or id.
        name: String,
        /// The engine's own words.
        message: String,
    },
    /// The engine cannot be reached or the connection broke. Worth a retry.
    #[error("the engine cannot be reached while it should {action}")]
    Unreachable {
        /// What was under way, e.g. `list containers`.
        action: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine refused the call.
    #[error("the engine refused to {action}: {message}")]
    Refused {
        /// What was under way.
        action: String,
        /// HTTP status.
        status: u16,
        /// The engine's own words.
        message: String,
    },
}
