//! The engine's events as one stream without gaps. What the events mean is decided elsewhere.
//!
//! *Invariant:* every event that the engine still remembers is delivered exactly once, in the order in which the
//! engine keeps them; and whenever it may have forgotten some, the stream says so before it goes on.
//!
//! The engine keeps its last 256 events in memory, replays them to a reader that names a time, and drops a reader's
//! events without a word when the reader is slow. So a task of its own reads eagerly into a queue, remembers the
//! events it has seen, and after a cut asks for a replay that begins before the last of them. If the replay begins
//! with an event already seen, nothing is missing in between. If not, the engine has restarted or the cut was too
//! long, and the reader is told ([`StreamItem::Connected`]).

mod feed;
mod queue;
mod repeats;
mod wire;

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use jiff::Timestamp;

pub use self::queue::EventStats;
pub(crate) use self::queue::StatCells;
use crate::{api::Api, container::Labels};

/// What an event happened to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    /// Id of the container, image, network, volume or plugin.
    pub id: String,
    /// Attributes as the engine sends them: `name`, `image`, `container`, `exitCode`, and all labels.
    pub attributes: Labels,
}

/// One engine event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// events may have been missed that no replay brings back. What the replay does bring follows this item.
    Connected {
        /// Whether this is the first connection.
        first: bool,
        /// Whether events may have been lost since the last one seen: the engine restarted, or it has forgotten
        /// that one because more than 256 followed.
        maybe_missed: bool,
    },
    /// The connection was lost, or the first one failed; the stream reconnects by itself. Said once per cut.
    Disconnected {
        /// The cause, for the log.
        reason: String,
    },
}

/// The gapless stream. It ends only when it is dropped.
pub type EventStream = Pin<Box<dyn Stream<Item = StreamItem> + Send>>;

/// Opens a stream that is fed by a task of its own.
pub(crate) fn open(api: Api, stats: Arc<StatCells>) -> EventStream {
    let (sender, receiver) = queue::queue(stats);
    tokio::spawn(feed::run(api, sender));
    Box::pin(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_is_the_word_before_the_colon() {
        let verb = |action: &str| {
            let actor = Actor { id: String::new(), attributes: Labels::new() };
            let kind = "container".to_owned();
            EngineEvent { kind, action: action.into(), actor, at: Timestamp::UNIX_EPOCH }.verb().to_owned()
        };
        assert_eq!(verb("exec_create: /bin/sh -c a:b"), "exec_create");
        assert_eq!(verb("health_status: unhealthy"), "health_status");
        assert_eq!(verb("die"), "die");
    }
}
