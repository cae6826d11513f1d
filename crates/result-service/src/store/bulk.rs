//! Inserts many rows with few statements. Knows no table.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection, query_builder::Separated};

/// Rows per statement. Few sizes, so that each statement is prepared once and found again in the cache.
const SIZES: [usize; 3] = [64, 8, 1];

/// Runs `head VALUES (…), (…)` over all rows; `bind` pushes the values of one row.
pub(super) async fn insert<T>(
    on: &mut SqliteConnection,
    head: &'static str,
    mut rows: &[T],
    mut bind: impl FnMut(&mut Separated<'_, Sqlite, &'static str>, &T),
) -> Result<(), sqlx::Error> {
    for size in SIZES {
        while rows.len() >= size {
            let (chunk, rest) = rows.split_at(size);
            let mut statement = QueryBuilder::new(head);
            statement.push_values(chunk, |mut values, row| bind(&mut values, row));
            statement.build().execute(&mut *on).await?;
            rows = rest;
        }
    }
    Ok(())
}
