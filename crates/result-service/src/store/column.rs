//! How domain values lie in columns: the one place that knows. Pure.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, sqlite::SqliteRow};
use test_results::{RunId, Totals};
use uuid::Uuid;

/// A stored value that does not read back: the database was changed by something else.
fn unreadable<E>(column: &str, source: E) -> sqlx::Error
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: source.into() }
}

/// Microseconds since 1970.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

pub(super) fn timestamp(row: &SqliteRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_microsecond(row.try_get(column)?).map_err(|source| unreadable(column, source))
}

pub(super) fn optional_timestamp(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    let stored: Option<i64> = row.try_get(column)?;
    stored.map(|at| Timestamp::from_microsecond(at).map_err(|source| unreadable(column, source))).transpose()
}

pub(super) fn run_id(row: &SqliteRow, column: &str) -> Result<RunId, sqlx::Error> {
    let stored: &[u8] = row.try_get(column)?;
    Uuid::from_slice(stored).map(RunId).map_err(|source| unreadable(column, source))
}

/// The word of an enum whose variants serde writes as plain words.
pub(super) fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// An enum back from its word.
pub(super) fn from_word<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error> {
    parse_word(row.try_get(column)?, column)
}

pub(super) fn from_optional_word<T: DeserializeOwned>(
    row: &SqliteRow,
    column: &str,
) -> Result<Option<T>, sqlx::Error> {
    let stored: Option<String> = row.try_get(column)?;
    stored.map(|word| parse_word(word, column)).transpose()
}

fn parse_word<T: DeserializeOwned>(word: String, column: &str) -> Result<T, sqlx::Error> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|source| unreadable(column, source))
}

pub(super) fn from_json<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error> {
    let stored: &str = row.try_get(column)?;
    serde_json::from_str(stored).map_err(|source| unreadable(column, source))
}

pub(super) fn from_optional_json<T: DeserializeOwned>(
    row: &SqliteRow,
    column: &str,
) -> Result<Option<T>, sqlx::Error> {
    let stored: Option<&str> = row.try_get(column)?;
    stored.map(serde_json::from_str).transpose().map_err(|source| unreadable(column, source))
}

/// A document of ours as JSON. The types that are stored this way always have a JSON form.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|source| sqlx::Error::Encode(Box::new(source)))
}

/// A count or size; SQLite has no unsigned integers.
pub(super) fn count(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    let stored: i64 = row.try_get(column)?;
    u64::try_from(stored).map_err(|source| unreadable(column, source))
}

/// The integer of a count; counts beyond 2^63 do not exist.
pub(super) fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn totals(row: &SqliteRow) -> Result<Totals, sqlx::Error> {
    Ok(Totals {
        cases: count(row, "cases")?,
        passed: count(row, "passed")?,
        failed: count(row, "failed")?,
        skipped: count(row, "skipped")?,
    })
}

/// Words separated by commas.
pub(super) fn words<T: FromStr>(row: &SqliteRow, column: &str) -> Result<Vec<T>, sqlx::Error>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let stored: &str = row.try_get(column)?;
    stored
        .split(',')
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|source| unreadable(column, source)))
        .collect()
}
