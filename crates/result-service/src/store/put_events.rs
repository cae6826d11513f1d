//! Stores events, each once. What a repetition says is ignored.

use jiff::Timestamp;
use sqlx::SqliteConnection;
use test_results::CloudEvent;

use super::{Store, StoreError, column, writer::Change};

/// What became of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishedEvents {
    /// How many are new.
    pub stored: u64,
    /// How many were there already, by id and source.
    pub repeated: u64,
}

/// An event and when it was received.
pub(super) struct Received {
    pub(super) event: CloudEvent,
    pub(super) at: Timestamp,
}

impl Store {
    /// Stores events and announces the new ones on the stream.
    pub async fn publish(
        &self,
        events: Vec<CloudEvent>,
        now: Timestamp,
    ) -> Result<PublishedEvents, StoreError> {
        let events = events.into_iter().map(|event| Received { event, at: now }).collect();
        self.writer.write(PutEvents(events)).await
    }
}

struct PutEvents(Vec<Received>);

impl Change for PutEvents {
    type Effect = PublishedEvents;
    const DOING: &'static str = "store events";

    async fn apply(&self, on: &mut SqliteConnection) -> Result<PublishedEvents, sqlx::Error> {
        let mut published = PublishedEvents::default();
        for event in &self.0 {
            match insert_event(on, event).await? {
                true => published.stored += 1,
                false => published.repeated += 1,
            }
        }
        Ok(published)
    }
}

/// Whether the event is new.
pub(super) async fn insert_event(
    on: &mut SqliteConnection,
    received: &Received,
) -> Result<bool, sqlx::Error> {
    let Received { event, at } = received;
    let inserted = sqlx::query(
        "INSERT INTO events (id, source, type, subject, at, document) VALUES (?, ?, ?, ?, ?, ?) \
         ON CONFLICT (id, source) DO NOTHING",
    )
    .bind(&event.id.0)
    .bind(&event.source)
    .bind(&event.kind)
    .bind(&event.subject)
    .bind(column::micros(event.time.unwrap_or(*at)))
    .bind(column::json(event)?)
    .execute(on)
    .await?;
    Ok(inserted.rows_affected() > 0)
}
