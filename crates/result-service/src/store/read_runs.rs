//! Reads tests and runs.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Row, sqlite::SqliteRow};
use test_results::{RunId, State, TestName};

use super::{Store, StoreError, column, cursor, put_run::Document};
use crate::views::{
    Cursor, Page, PageRequest, RunDetail, RunDot, RunFilter, RunSummary, TestFilter, TestOverview,
};

const DOING: &str = "read runs";

/// How many of its newest runs a test is listed with.
const LAST_RUNS: i64 = 30;

/// The columns of a summary; `t` are the tests and `r` the runs.
const SUMMARY: &str = "r.key, r.id, t.name AS test, r.state, r.at, r.started_at, r.finished_at, r.seconds, \
                       r.image, r.host, r.cases, r.passed, r.failed, r.skipped, r.trigger_kind, r.cause";

impl Store {
    /// The tests by name, each with its newest runs.
    pub async fn tests(
        &self,
        filter: &TestFilter,
        page: &PageRequest,
    ) -> Result<Page<TestOverview>, StoreError> {
        let mut sql = QueryBuilder::new("SELECT t.key, t.name, t.owner, t.runs FROM tests t WHERE t.name > ");
        sql.push_bind(page.after.as_ref().map_or(String::new(), |cursor| cursor.0.clone()));
        if let Some(search) = filter.search.as_deref().filter(|search| !search.is_empty()) {
            sql.push(" AND instr(lower(t.name), ").push_bind(search.to_ascii_lowercase()).push(") > 0");
        }
        if let Some(state) = filter.state {
            sql.push(
                " AND (SELECT state FROM runs WHERE test = t.key ORDER BY at DESC, key DESC LIMIT 1) = ",
            )
            .push_bind(state.as_str());
        }
        sql.push(" ORDER BY t.name LIMIT ").push_bind(page.size() + 1);
        let rows = sql.build().fetch_all(&self.readers).await.map_err(StoreError::reading(DOING))?;
        let tests = rows.iter().map(test_row).collect::<Result<Vec<_>, _>>();
        let tests = Page::cut(tests.map_err(StoreError::reading(DOING))?, page, |(_, test)| {
            Cursor(test.name.0.clone())
        });
        let keys: Vec<i64> = tests.items.iter().map(|(key, _)| *key).collect();
        let mut last = self.last_runs(&keys).await.map_err(StoreError::reading(DOING))?;
        let items = tests
            .items
            .into_iter()
            .map(|(key, test)| TestOverview { last: last.remove(&key).unwrap_or_default(), ..test });
        Ok(Page { items: items.collect(), next: tests.next })
    }

    /// One test with its newest runs; `None` when no run of it is stored.
    pub async fn test(&self, name: &TestName) -> Result<Option<TestOverview>, StoreError> {
        let row = sqlx::query("SELECT t.key, t.name, t.owner, t.runs FROM tests t WHERE t.name = ?")
            .bind(&name.0)
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::reading(DOING))?;
        let Some(row) = row else { return Ok(None) };
        let (key, test) = test_row(&row).map_err(StoreError::reading(DOING))?;
        let mut last = self.last_runs(&[key]).await.map_err(StoreError::reading(DOING))?;
        Ok(Some(TestOverview { last: last.remove(&key).unwrap_or_default(), ..test }))
    }

    /// The runs, newest first.
    pub async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(SUMMARY).push(" FROM runs r JOIN tests t ON t.key = r.test WHERE true");
        if let Some(after) = &page.after {
            let (at, key) = cursor::time_and_key(after)?;
            sql.push(" AND (r.at, r.key) < (").push_bind(at).push(", ").push_bind(key).push(")");
        }
        if let Some(test) = &filter.test {
            sql.push(" AND r.test = (SELECT key FROM tests WHERE name = ")
                .push_bind(test.0.clone())
                .push(")");
        }
        if let Some(state) = filter.state {
            sql.push(" AND r.state = ").push_bind(state.as_str());
            if state != State::Passed {
                // Says the condition of the partial index of runs that did not pass, so that it is used.
                sql.push(" AND r.state <> 'passed'");
            }
        }
        if let Some(image) = &filter.image {
            sql.push(" AND r.image = ").push_bind(image.clone());
        }
        if let Some(host) = &filter.host {
            sql.push(" AND r.host = ").push_bind(host.clone());
        }
        if let Some(since) = filter.since {
            sql.push(" AND r.at >= ").push_bind(column::micros(since));
        }
        if let Some(until) = filter.until {
            sql.push(" AND r.at < ").push_bind(column::micros(until));
        }
        sql.push(" ORDER BY r.at DESC, r.key DESC LIMIT ").push_bind(page.size() + 1);
        let rows = sql.build().fetch_all(&self.readers).await.map_err(StoreError::reading(DOING))?;
        let items = rows
            .iter()
            .map(|row| Ok((cursor::by_time(row.try_get("at")?, row.try_get("key")?), summary(row)?)))
            .collect::<Result<Vec<_>, _>>();
        let page =
            Page::cut(items.map_err(StoreError::reading(DOING))?, page, |(position, _)| position.clone());
        Ok(Page { items: page.items.into_iter().map(|(_, run)| run).collect(), next: page.next })
    }

    /// One run; `None` when there is none of this id.
    pub async fn run(&self, id: RunId) -> Result<Option<RunDetail>, StoreError> {
        let mut sql = QueryBuilder::new("SELECT d.document, ");
        sql.push(SUMMARY).push(
            " FROM runs r JOIN tests t ON t.key = r.test JOIN run_details d ON d.run = r.key WHERE r.id = ",
        );
        sql.push_bind(id.0.as_bytes().to_vec());
        let row =
            sql.build().fetch_optional(&self.readers).await.map_err(StoreError::reading("read a run"))?;
        row.as_ref().map(detail).transpose().map_err(StoreError::reading("read a run"))
    }

    async fn last_runs(&self, tests: &[i64]) -> Result<HashMap<i64, Vec<RunDot>>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT r.test, r.id, r.state, r.at, r.seconds, r.failed FROM json_each(?) wanted JOIN runs r \
             ON r.key IN (SELECT key FROM runs WHERE test = wanted.value ORDER BY at DESC, key DESC LIMIT ?) \
             ORDER BY r.test, r.at DESC, r.key DESC",
        )
        .bind(column::json(&tests)?)
        .bind(LAST_RUNS)
        .fetch_all(&self.readers)
        .await?;
        let mut last: HashMap<i64, Vec<RunDot>> = HashMap::new();
        for row in rows {
            last.entry(row.try_get("test")?).or_default().push(RunDot {
                id: column::run_id(&row, "id")?,
                state: column::from_word(&row, "state")?,
                at: column::timestamp(&row, "at")?,
                seconds: row.try_get("seconds")?,
                failed: column::count(&row, "failed")?,
            });
        }
        Ok(last)
    }
}

fn test_row(row: &SqliteRow) -> Result<(i64, TestOverview), sqlx::Error> {
    let test = TestOverview {
        name: TestName(row.try_get("name")?),
        owner: row.try_get("owner")?,
        runs: column::count(row, "runs")?,
        last: Vec::new(),
    };
    Ok((row.try_get("key")?, test))
}

fn summary(row: &SqliteRow) -> Result<RunSummary, sqlx::Error> {
    Ok(RunSummary {
        id: column::run_id(row, "id")?,
        test: TestName(row.try_get("test")?),
        state: column::from_word(row, "state")?,
        at: column::timestamp(row, "at")?,
        started_at: column::optional_timestamp(row, "started_at")?,
        finished_at: column::optional_timestamp(row, "finished_at")?,
        seconds: row.try_get("seconds")?,
        image: row.try_get("image")?,
        host: row.try_get("host")?,
        totals: column::totals(row)?,
        trigger: column::from_optional_word(row, "trigger_kind")?,
        cause: row.try_get("cause")?,
    })
}

fn detail(row: &SqliteRow) -> Result<RunDetail, sqlx::Error> {
    let document: Document = column::from_json(row, "document")?;
    Ok(RunDetail {
        summary: summary(row)?,
        outcome: document.outcome,
        started_because: document.cause,
        received_at: document.received_at,
        exit_code: document.exit_code,
        timeout_seconds: document.timeout_seconds,
        container_id: document.container_id,
        image_id: document.image_id,
        labels: document.labels,
        engine: document.engine,
        notes: document.notes,
        uploaded_by: document.uploaded_by,
    })
}
