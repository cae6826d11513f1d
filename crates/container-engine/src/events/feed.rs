//! Reads the engine's events into the queue: connects, finds out whether anything is missing, reconnects.

use std::{error::Error, sync::atomic::Ordering::Relaxed, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tracing::{debug, warn};

use super::{EngineEvent, StreamItem, queue::QueueSender, repeats::Repeats, wire};
use crate::{
    EngineError,
    api::{Api, QUICK},
    json_lines::JsonLines,
};

/// Events of one moment may stand in the engine's memory in another order than their times.
const OVERLAP: SignedDuration = SignedDuration::from_secs(1);
/// An engine that remembers an event replays it at once.
const REPLAY_BEGINS_WITHIN: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
/// An engine restarts in seconds; nobody should wait longer than it did.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Runs until nobody reads the queue any more.
pub(super) async fn run(api: Api, queue: QueueSender) {
    let mut feed = Feed::new(api, queue.clone());
    let mut pause = SHORTEST_PAUSE;
    loop {
        let connections = feed.connections;
        let reason = tokio::select! {
            reason = feed.connect_and_read() => reason,
            () = queue.abandoned() => return,
        };
        if feed.connections > connections {
            pause = SHORTEST_PAUSE;
        }
        feed.lost(&reason);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = queue.abandoned() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Up to where the engine's events are known.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// The last event seen. A replay that begins before it must bring it again.
    Event(Timestamp),
    /// None was seen yet; all after this moment are wanted.
    Moment(Timestamp),
}

struct Feed {
    api: Api,
    queue: QueueSender,
    repeats: Repeats,
    position: Option<Position>,
    connections: u64,
    /// Attempts in vain since the last connection.
    failures: u64,
}

impl Feed {
    fn new(api: Api, queue: QueueSender) -> Self {
        Self { api, queue, repeats: Repeats::default(), position: None, connections: 0, failures: 0 }
    }

    /// One connection, from its begin to its end. Returns why it ended.
    async fn connect_and_read(&mut self) -> EngineError {
        let (mut lines, first) = match self.connect().await {
            Ok(live) => live,
            Err(error) => return error,
        };
        if let Some(event) = first {
            self.deliver(event);
        }
        loop {
            match next_event(&mut lines, &self.queue).await {
                Ok(Some(event)) => self.deliver(event),
                Ok(None) => return lines.subject().unreachable("the engine has ended the stream"),
                Err(error) => return error,
            }
        }
    }

    /// Opens the stream, says whether something may be missing, and returns the replay's first event if that had
    /// to be read to know.
    async fn connect(&mut self) -> Result<(JsonLines, Option<EngineEvent>), EngineError> {
        if self.failures + self.connections > 0 {
            // The engine that comes back may be a newer one.
            crate::connect::renegotiate(&self.api).await?;
        }
        let is_first = self.connections == 0;
        let position = match self.position {
            Some(position) => position,
            None => self.begin().await?,
        };
        self.position = Some(position);
        let mut live = self.events(since(position), None).await?;
        let (maybe_missed, first) = match position {
            // Nobody can tell whether there was an event that the engine has forgotten.
            Position::Moment(_) => (!is_first || self.failures > 0, None),
            Position::Event(last) => {
                let (is_complete, first) = self.is_complete(&mut live, last).await?;
                (!is_complete || (is_first && self.failures > 0), first)
            }
        };
        self.connections += 1;
        self.failures = 0;
        self.queue.stats.reconnects.fetch_add(u64::from(!is_first), Relaxed);
        self.queue.stats.possibly_missed.fetch_add(u64::from(maybe_missed), Relaxed);
        self.queue.push(StreamItem::Connected { first: is_first, maybe_missed });
        Ok((live, first))
    }

    /// Where the stream begins: with the last event before this moment, which is remembered along with the others
    /// that the engine still has. So a cut right after the start is noticed like any other.
    ///
    /// The time is the engine's own. To begin just with the connection would lose the events between the engine's
    /// first byte and the moment when it really listens.
    async fn begin(&mut self) -> Result<Position, EngineError> {
        #[derive(Deserialize)]
        struct Info {
            #[serde(rename = "SystemTime")]
            system_time: Option<Timestamp>,
        }
        let info: Info = self.api.get(&["info"]).to("tell its time", "engine", "").json().await?;
        let now = info.system_time.unwrap_or_else(Timestamp::now);
        let mut position = Position::Moment(now);
        let mut past = self.events(Timestamp::from_second(1).expect("is in range"), Some(now)).await?;
        while let Some(event) = next_event(&mut past, &self.queue).await? {
            self.repeats.insert(&event);
            position = Position::Event(event.at);
        }
        Ok(position)
    }

    /// Whether the replay that `live` begins with reaches back to what is known. Returns its first event as well,
    /// if it had to be read.
    async fn is_complete(
        &self,
        live: &mut JsonLines,
        last: Timestamp,
    ) -> Result<(bool, Option<EngineEvent>), EngineError> {
        // Asked after the live stream was opened: an engine that still remembers the last event now did so then.
        let mut remembered = self.events(last, Some(last)).await?;
        let mut is_remembered = false;
        while let Some(event) = next_event(&mut remembered, &self.queue).await? {
            is_remembered |= self.repeats.is_known(&event);
        }
        if !is_remembered {
            return Ok((false, None));
        }
        // Only almost then: the engine opens a stream a moment before it looks into its memory.
        match tokio::time::timeout(REPLAY_BEGINS_WITHIN, next_event(live, &self.queue)).await {
            Ok(event) => {
                let event = event?;
                Ok((event.as_ref().is_some_and(|event| self.repeats.is_known(event)), event))
            }
            Err(_) => Ok((false, None)),
        }
    }

    async fn events(&self, since: Timestamp, until: Option<Timestamp>) -> Result<JsonLines, EngineError> {
        let mut call = self.api.get(&["events"]).within(QUICK).to("send events", "engine", "");
        call = call.query("since", &seconds(since));
        if let Some(until) = until {
            call = call.query("until", &seconds(until));
        }
        Ok(JsonLines::new(call.stream().await?))
    }

    fn deliver(&mut self, event: EngineEvent) {
        self.position = Some(Position::Event(event.at));
        if self.repeats.insert(&event) {
            self.queue.stats.events.fetch_add(1, Relaxed);
            self.queue.push(StreamItem::Event(event));
        } else {
            self.queue.stats.repeats.fetch_add(1, Relaxed);
        }
    }

    fn lost(&mut self, error: &EngineError) {
        if self.failures == 0 {
            self.queue.push(StreamItem::Disconnected { reason: chain(error) });
        } else {
            debug!("the engine's events still cannot be read: {}", chain(error));
        }
        self.failures += 1;
    }
}

fn since(position: Position) -> Timestamp {
    match position {
        Position::Moment(at) => at,
        Position::Event(at) => at.checked_sub(OVERLAP).unwrap_or(at),
    }
}

/// The next event that can be read; `None` at the end.
async fn next_event(lines: &mut JsonLines, queue: &QueueSender) -> Result<Option<EngineEvent>, EngineError> {
    while let Some(line) = lines.next().await {
        match wire::parse(&line?) {
            Ok(event) => return Ok(Some(event)),
            Err(error) => {
                queue.stats.unreadable.fetch_add(1, Relaxed);
                warn!("an event of the engine cannot be read and is left out: {error}");
            }
        }
    }
    Ok(None)
}

/// The engine's form of a time: seconds, a point, nine digits.
fn seconds(at: Timestamp) -> String {
    format!("{}.{:09}", at.as_second(), at.subsec_nanosecond())
}

/// An error with all its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
