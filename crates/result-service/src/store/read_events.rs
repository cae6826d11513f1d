//! Reads events, as a listing and as a stream.

use sqlx::{QueryBuilder, sqlite::SqliteRow};
use test_results::EventId;

use super::{Store, StoreError, column, cursor};
use crate::views::{Cursor, EventFilter, EventRow, Page, PageRequest};

const DOING: &str = "read events";

impl Store {
    /// The events, newest first.
    pub async fn events(
        &self,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<EventRow>, StoreError> {
        let mut sql = QueryBuilder::new("SELECT sequence, at, document FROM events WHERE true");
        if let Some(after) = &page.after {
            sql.push(" AND sequence < ").push_bind(cursor::number(after)?);
        }
        match filter.kind.as_deref().map(|kind| (kind, kind.strip_suffix('*'))) {
            Some((_, Some(""))) | None => {}
            Some((_, Some(prefix))) => {
                sql.push(" AND type >= ").push_bind(prefix.to_owned());
                sql.push(" AND type < ").push_bind(format!("{prefix}\u{10ffff}"));
            }
            Some((kind, None)) => {
                sql.push(" AND type = ").push_bind(kind.to_owned());
            }
        }
        if let Some(subject) = &filter.subject {
            sql.push(" AND subject = ").push_bind(subject.clone());
        }
        if let Some(source) = &filter.source {
            sql.push(" AND source = ").push_bind(source.clone());
        }
        if let Some(since) = filter.since {
            sql.push(" AND at >= ").push_bind(column::micros(since));
        }
        if let Some(until) = filter.until {
            sql.push(" AND at < ").push_bind(column::micros(until));
        }
        sql.push(" ORDER BY sequence DESC LIMIT ").push_bind(page.size() + 1);
        let rows = sql.build().fetch_all(&self.readers).await.map_err(StoreError::reading(DOING))?;
        let items = rows.iter().map(event_row).collect::<Result<Vec<_>, _>>();
        let items = items.map_err(StoreError::reading(DOING))?;
        Ok(Page::cut(items, page, |event| Cursor(event.sequence.to_string())))
    }

    /// The newest event of this id; `None` when there is none.
    pub async fn event(&self, id: &EventId) -> Result<Option<EventRow>, StoreError> {
        let row = sqlx::query(
            "SELECT sequence, at, document FROM events WHERE id = ? ORDER BY sequence DESC LIMIT 1",
        )
        .bind(&id.0)
        .fetch_optional(&self.readers)
        .await
        .map_err(StoreError::reading(DOING))?;
        row.as_ref().map(event_row).transpose().map_err(StoreError::reading(DOING))
    }

    /// The events behind a sequence in the order of their arrival, at most `limit` of them.
    pub(crate) async fn events_after(&self, sequence: u64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT sequence, at, document FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
        )
        .bind(column::integer(sequence))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(StoreError::reading(DOING))?;
        rows.iter().map(event_row).collect::<Result<_, _>>().map_err(StoreError::reading(DOING))
    }
}

fn event_row(row: &SqliteRow) -> Result<EventRow, sqlx::Error> {
    Ok(EventRow {
        sequence: column::count(row, "sequence")?,
        at: column::timestamp(row, "at")?,
        event: column::from_json(row, "document")?,
    })
}
