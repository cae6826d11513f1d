//! Stores a run: everything about it becomes visible in one transaction. Judges nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection};
use test_results::{Case, Cause, CloudEvent, Outcome, RunId, State, labels};

use super::{
    Store, StoreError, bulk, column,
    put_events::{self, insert_event},
    writer::Change,
};
use crate::{
    blobs::KeptBlob,
    views::{FileRow, RunDetail},
};

/// The label that names who answers for a test.
const OWNER: &str = "tugbot.owner";

/// The store's own number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunKey(pub(super) i64);

impl RunKey {
    /// How many bits of a case's key number it within its run.
    const NUMBER_BITS: u32 = 24;

    /// How many cases a run can have.
    pub(crate) const MOST_CASES: u64 = (1 << Self::NUMBER_BITS) - 1;

    /// The key of a case of this run.
    pub(super) fn case(self, number: u64) -> i64 {
        (self.0 << Self::NUMBER_BITS) | column::integer(number)
    }

    /// The number that a case's key gives it.
    pub(super) fn number(case: i64) -> u64 {
        u64::try_from(case & ((1 << Self::NUMBER_BITS) - 1)).unwrap_or(0)
    }

    /// The keys of all cases of this run.
    pub(super) fn cases(self) -> (i64, i64) {
        (self.case(0), self.case((1 << Self::NUMBER_BITS) - 1))
    }
}

/// A case on its way into the store.
#[derive(Clone, Debug)]
pub(crate) struct NewCase {
    /// Its place in the run, from 1.
    pub(crate) number: u64,
    pub(crate) case: Case,
    /// The file it was read from.
    pub(crate) file: Option<String>,
}

/// A file of an upload.
#[derive(Clone, Debug)]
pub(crate) struct NewFile {
    pub(crate) row: FileRow,
    /// Which entry of the upload it is, from 0.
    pub(crate) entry: u64,
}

/// How files lie in a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Packing {
    /// A gzip-compressed tar.
    #[serde(rename = "tar.gz")]
    TarGz,
    /// The blob is the one file.
    #[serde(rename = "plain")]
    Plain,
}

/// The upload that holds the files of a run.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub(crate) blob: KeptBlob,
    pub(crate) packing: Packing,
}

/// A run on its way into the store.
#[derive(Clone, Debug)]
pub(crate) struct NewRun {
    pub(crate) key: RunKey,
    pub(crate) detail: RunDetail,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) contents: Option<Contents>,
    pub(crate) files: Vec<NewFile>,
    /// The cases that were not staged before.
    pub(crate) cases: Vec<NewCase>,
    /// Announced on the stream when the run is stored.
    pub(crate) event: CloudEvent,
}

/// What became of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredRun {
    pub(crate) id: RunId,
    pub(crate) state: State,
    /// Whether a run with the same idempotency key was there already.
    pub(crate) repeated: bool,
}

/// What only the page of one run shows.
#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) outcome: Outcome,
    pub(super) cause: Option<Cause>,
    pub(super) received_at: Timestamp,
    pub(super) exit_code: Option<i64>,
    pub(super) timeout_seconds: Option<f64>,
    pub(super) container_id: Option<String>,
    pub(super) image_id: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) engine: BTreeMap<String, String>,
    pub(super) notes: Vec<String>,
    pub(super) uploaded_by: Option<String>,
}

impl Store {
    /// Stores a run, unless one with its idempotency key is there.
    pub(crate) async fn put_run(&self, run: NewRun) -> Result<StoredRun, StoreError> {
        self.writer.write(PutRun(run)).await
    }

    /// Stores cases of a run that is still being received; nobody sees them until [`Store::put_run`].
    pub(crate) async fn stage_cases(&self, run: RunKey, cases: Vec<NewCase>) -> Result<(), StoreError> {
        self.writer.write(StageCases { run, cases }).await
    }

    /// Forgets the staged cases of a run that was not received.
    pub(crate) async fn discard_cases(&self, run: RunKey) -> Result<(), StoreError> {
        self.writer.write(DiscardCases(run)).await
    }

    /// The run with this idempotency key.
    pub(crate) async fn run_with_key(&self, idempotency_key: &str) -> Result<Option<StoredRun>, StoreError> {
        let mut connection =
            self.readers.acquire().await.map_err(StoreError::reading("look for a repetition"))?;
        repetition(&mut connection, idempotency_key)
            .await
            .map_err(StoreError::reading("look for a repetition"))
    }
}

async fn repetition(on: &mut SqliteConnection, key: &str) -> Result<Option<StoredRun>, sqlx::Error> {
    let row = sqlx::query("SELECT id, state FROM runs WHERE idempotency_key = ?")
        .bind(key)
        .fetch_optional(on)
        .await?;
    row.map(|row| {
        Ok(StoredRun {
            id: column::run_id(&row, "id")?,
            state: column::from_word(&row, "state")?,
            repeated: true,
        })
    })
    .transpose()
}

struct PutRun(NewRun);

impl Change for PutRun {
    type Effect = StoredRun;
    const DOING: &'static str = "store a run";

    async fn apply(&self, on: &mut SqliteConnection) -> Result<StoredRun, sqlx::Error> {
        let run = &self.0;
        if let Some(key) = &run.idempotency_key
            && let Some(earlier) = repetition(on, key).await?
        {
            delete_cases(on, run.key).await?;
            return Ok(earlier);
        }
        let summary = &run.detail.summary;
        let test: i64 = sqlx::query_scalar(
            "INSERT INTO tests (name, owner, runs) VALUES (?, ?, 1) ON CONFLICT (name) DO UPDATE \
             SET runs = runs + 1, owner = coalesce(excluded.owner, owner) RETURNING key",
        )
        .bind(&summary.test.0)
        .bind(labels::get(&run.detail.labels, OWNER))
        .fetch_one(&mut *on)
        .await?;
        sqlx::query(
            "INSERT INTO runs (key, id, test, state, at, started_at, finished_at, seconds, image, host, \
             cases, passed, failed, skipped, trigger_kind, cause, idempotency_key) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(run.key.0)
        .bind(&summary.id.0.as_bytes()[..])
        .bind(test)
        .bind(summary.state.as_str())
        .bind(column::micros(summary.at))
        .bind(summary.started_at.map(column::micros))
        .bind(summary.finished_at.map(column::micros))
        .bind(summary.seconds)
        .bind(&summary.image)
        .bind(&summary.host)
        .bind(column::integer(summary.totals.cases))
        .bind(column::integer(summary.totals.passed))
        .bind(column::integer(summary.totals.failed))
        .bind(column::integer(summary.totals.skipped))
        .bind(summary.trigger.map(column::word))
        .bind(&summary.cause)
        .bind(&run.idempotency_key)
        .execute(&mut *on)
        .await?;
        insert_details(on, run).await?;
        insert_cases(on, run.key, &run.cases).await?;
        bulk::insert(
            on,
            "INSERT INTO files (run, path, kind, size, format, entry) ",
            &run.files,
            |values, file| {
                values
                    .push_bind(run.key.0)
                    .push_bind(file.row.path.clone())
                    .push_bind(column::word(file.row.kind))
                    .push_bind(column::integer(file.row.size))
                    .push_bind(file.row.format.clone())
                    .push_bind(column::integer(file.entry));
            },
        )
        .await?;
        insert_event(on, &put_events::Received { event: run.event.clone(), at: run.detail.received_at })
            .await?;
        Ok(StoredRun { id: summary.id, state: summary.state, repeated: false })
    }
}

async fn insert_details(on: &mut SqliteConnection, run: &NewRun) -> Result<(), sqlx::Error> {
    let detail = &run.detail;
    let document = Document {
        outcome: detail.outcome.clone(),
        cause: detail.started_because.clone(),
        received_at: detail.received_at,
        exit_code: detail.exit_code,
        timeout_seconds: detail.timeout_seconds,
        container_id: detail.container_id.clone(),
        image_id: detail.image_id.clone(),
        labels: detail.labels.clone(),
        engine: detail.engine.clone(),
        notes: detail.notes.clone(),
        uploaded_by: detail.uploaded_by.clone(),
    };
    if let Some(Contents { blob, .. }) = &run.contents {
        sqlx::query("INSERT INTO blobs (id, size, content) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING")
            .bind(blob.id.as_bytes())
            .bind(column::integer(blob.size))
            .bind(blob.content.as_deref())
            .execute(&mut *on)
            .await?;
    }
    sqlx::query("INSERT INTO run_details (run, blob, packing, document) VALUES (?, ?, ?, ?)")
        .bind(run.key.0)
        .bind(run.contents.as_ref().map(|contents| contents.blob.id.as_bytes()))
        .bind(run.contents.as_ref().map(|contents| column::word(contents.packing)))
        .bind(column::json(&document)?)
        .execute(on)
        .await?;
    Ok(())
}

async fn insert_cases(on: &mut SqliteConnection, run: RunKey, cases: &[NewCase]) -> Result<(), sqlx::Error> {
    bulk::insert(
        on,
        "INSERT INTO cases (key, suite, class, name, status, seconds, message, kind, text, output, file) ",
        cases,
        |values, new| {
            let case = &new.case;
            let failure = case.failure.as_ref();
            let suite =
                (!case.suite.is_empty()).then(|| serde_json::Value::from(case.suite.clone()).to_string());
            values
                .push_bind(run.case(new.number))
                .push_bind(suite)
                .push_bind(case.class.clone())
                .push_bind(case.name.clone())
                .push_bind(case.status.as_str())
                .push_bind(case.seconds.filter(|seconds| seconds.is_finite()))
                .push_bind(failure.and_then(|failure| failure.message.clone()))
                .push_bind(failure.and_then(|failure| failure.kind.clone()))
                .push_bind(failure.and_then(|failure| failure.text.clone()))
                .push_bind(case.output.clone())
                .push_bind(new.file.clone());
        },
    )
    .await
}

async fn delete_cases(on: &mut SqliteConnection, run: RunKey) -> Result<(), sqlx::Error> {
    let (first, last) = run.cases();
    sqlx::query("DELETE FROM cases WHERE key BETWEEN ? AND ?").bind(first).bind(last).execute(on).await?;
    Ok(())
}

struct StageCases {
    run: RunKey,
    cases: Vec<NewCase>,
}

impl Change for StageCases {
    type Effect = ();
    const DOING: &'static str = "store the cases of a run";

    async fn apply(&self, on: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        insert_cases(on, self.run, &self.cases).await
    }
}

struct DiscardCases(RunKey);

impl Change for DiscardCases {
    type Effect = ();
    const DOING: &'static str = "forget the cases of a refused upload";

    async fn apply(&self, on: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        delete_cases(on, self.0).await
    }
}

/// Deletes cases whose run never came.
pub(super) struct RemoveOrphans;

impl Change for RemoveOrphans {
    type Effect = ();
    const DOING: &'static str = "remove the cases of interrupted uploads";

    async fn apply(&self, on: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        // Steps from run to run by key, so that it reads one case per run and not all of them.
        let mut after = 0_i64;
        loop {
            let row = sqlx::query("SELECT key FROM cases WHERE key >= ? ORDER BY key LIMIT 1")
                .bind(after)
                .fetch_optional(&mut *on)
                .await?;
            let Some(row) = row else { return Ok(()) };
            let case: i64 = row.try_get("key")?;
            let run = RunKey(case >> RunKey::NUMBER_BITS);
            let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM runs WHERE key = ?)")
                .bind(run.0)
                .fetch_one(&mut *on)
                .await?;
            if !known {
                delete_cases(on, run).await?;
            }
            after = run.cases().1 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_key_holds_its_run_and_its_number() {
        let run = RunKey(5);
        assert_eq!(RunKey::number(run.case(77)), 77);
        let (first, last) = run.cases();
        assert!(first < run.case(1) && run.case(1) < last && last < RunKey(6).case(0));
    }
}
