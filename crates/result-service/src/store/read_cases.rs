//! Reads the cases and the list of files of a run.

use sqlx::{QueryBuilder, Row, sqlite::SqliteRow};
use test_results::{CaseStatus, Failure, RunId};

use super::{RunKey, Store, StoreError, column, cursor};
use crate::views::{CaseFilter, CaseRow, Cursor, FileRow, Page, PageRequest};

const DOING: &str = "read the cases of a run";

impl Store {
    /// The cases of a run in the order of their reports; empty when there is no such run.
    pub async fn cases(
        &self,
        run: RunId,
        filter: &CaseFilter,
        page: &PageRequest,
    ) -> Result<Page<CaseRow>, StoreError> {
        let Some(key) = self.key_of(run).await? else { return Ok(Page::default()) };
        let (first, last) = key.cases();
        let after = match &page.after {
            Some(after) => key.case(u64::try_from(cursor::number(after)?).unwrap_or(0)),
            None => first,
        };
        let mut sql = QueryBuilder::new(
            "SELECT key, suite, class, name, status, seconds, message, kind, text, output, file FROM cases \
             WHERE key > ",
        );
        sql.push_bind(after).push(" AND key <= ").push_bind(last);
        if !filter.statuses.is_empty() {
            if !filter.statuses.contains(&CaseStatus::Passed) {
                // Lets the partial index be used: few cases do not pass.
                sql.push(" AND status <> 'passed'");
            }
            sql.push(" AND status IN (");
            let mut list = sql.separated(", ");
            for status in &filter.statuses {
                list.push_bind(status.as_str());
            }
            sql.push(")");
        }
        if let Some(search) = filter.search.as_deref().filter(|search| !search.is_empty()) {
            // Both sides fold ASCII only, as SQLite does.
            let search = search.to_ascii_lowercase();
            sql.push(" AND (instr(lower(name), ").push_bind(search.clone());
            sql.push(") > 0 OR instr(lower(class), ").push_bind(search.clone());
            sql.push(") > 0 OR instr(lower(suite), ").push_bind(search);
            sql.push(") > 0)");
        }
        sql.push(" ORDER BY key LIMIT ").push_bind(page.size() + 1);
        let rows = sql.build().fetch_all(&self.readers).await.map_err(StoreError::reading(DOING))?;
        let items = rows.iter().map(case_row).collect::<Result<Vec<_>, _>>();
        let items = items.map_err(StoreError::reading(DOING))?;
        Ok(Page::cut(items, page, |case| Cursor(case.number.to_string())))
    }

    /// The files of a run by path; empty when there is no such run.
    pub async fn files(&self, run: RunId, page: &PageRequest) -> Result<Page<FileRow>, StoreError> {
        let Some(key) = self.key_of(run).await? else { return Ok(Page::default()) };
        let after = page.after.as_ref().map_or("", |cursor| cursor.0.as_str());
        let rows = sqlx::query(
            "SELECT path, kind, size, format FROM files WHERE run = ? AND path > ? \
             ORDER BY path LIMIT ?",
        )
        .bind(key.0)
        .bind(after)
        .bind(page.size() + 1)
        .fetch_all(&self.readers)
        .await
        .map_err(StoreError::reading(DOING))?;
        let items = rows.iter().map(file_row).collect::<Result<Vec<_>, _>>();
        let items = items.map_err(StoreError::reading(DOING))?;
        Ok(Page::cut(items, page, |file| Cursor(file.path.clone())))
    }

    /// The store's own number of a run.
    pub(super) async fn key_of(&self, run: RunId) -> Result<Option<RunKey>, StoreError> {
        let key: Option<i64> = sqlx::query_scalar("SELECT key FROM runs WHERE id = ?")
            .bind(&run.0.as_bytes()[..])
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::reading("look for a run"))?;
        Ok(key.map(RunKey))
    }
}

fn case_row(row: &SqliteRow) -> Result<CaseRow, sqlx::Error> {
    let failure =
        Failure { message: row.try_get("message")?, kind: row.try_get("kind")?, text: row.try_get("text")? };
    let status: CaseStatus = column::from_word(row, "status")?;
    Ok(CaseRow {
        number: RunKey::number(row.try_get("key")?),
        suite: column::from_optional_json(row, "suite")?.unwrap_or_default(),
        class: row.try_get("class")?,
        name: row.try_get("name")?,
        status,
        seconds: row.try_get("seconds")?,
        failure: (status.is_failure() || failure != Failure::default()).then_some(failure),
        output: row.try_get("output")?,
        file: row.try_get("file")?,
    })
}

pub(super) fn file_row(row: &SqliteRow) -> Result<FileRow, sqlx::Error> {
    Ok(FileRow {
        path: row.try_get("path")?,
        kind: column::from_word(row, "kind")?,
        size: column::count(row, "size")?,
        format: row.try_get("format")?,
    })
}
