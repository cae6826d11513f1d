//! The engine's events as one stream without gaps.

use std::pin::Pin;

use futures_util::Stream;
use jiff::Timestamp;

use crate::container::Labels;

/// What an event happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Id of the container, image, network, volume or plugin.
    pub id: String,
    /// Attributes as the engine sends them: `name`, `image`, `container`, `exitCode`, and all labels.
    pub attributes: Labels,
}

/// One engine event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEvent {
    /// `container`, `image`, `network`, `volume`, `plugin`, `daemon`, …
    pub kind: String,
    /// The whole action as sent, e.g. `exec_create: /bin/sh`.
    pub action: String,
    /// What it happened to.
    pub actor: Actor,
    /// When, to the nanosecond.
    pub at: Timestamp,
}

impl EngineEvent {
    /// The action's first word: `exec_create` of `exec_create: /bin/sh`.
    pub fn verb(&self) -> &str {
        self.action.split(':').next().unwrap_or(&self.action).trim()
    }
}

/// What the gapless stream yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamItem {
    /// An event, each exactly once, in the engine's order.
    Event(EngineEvent),
    /// The stream is connected (again). The reader should now compare its picture with a listing: after a cut,
    /// events may have been missed that no replay brings back.
    Connected {
        /// Whether this is the first connection.
        first: bool,
        /// Whether events may have been lost since the last one seen: the engine restarted, or the replay
        /// was at the engine's limit of 256 events.
        maybe_missed: bool,
    },
    /// The connection was lost; the stream reconnects by itself.
    Disconnected {
        /// The cause, for the log.
        reason: String,
    },
}

/// The gapless stream. It ends only when it is dropped.
pub type EventStream = Pin<Box<dyn Stream<Item = StreamItem> + Send>>;
