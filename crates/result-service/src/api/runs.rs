//! Runs, their cases, and the list of their files.

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::Deserialize;
use test_results::{CaseStatus, RunId, State as RunState, TestName};
use utoipa::IntoParams;

use super::listing::Paging;
use crate::{
    app::App,
    http::{
        access::Reader,
        extract::{At, Params},
        problem::Problem,
    },
    views::{CaseFilter, CaseRow, FileRow, Page, RunDetail, RunFilter, RunSummary},
};

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RunsQuery {
    /// Exact name of the test.
    test: Option<String>,
    /// `passed`, `failed`, `timed-out` or `lost`.
    #[param(value_type = Option<String>)]
    state: Option<RunState>,
    /// Exact name of the image.
    image: Option<String>,
    /// Exact name of the host.
    host: Option<String>,
    /// Started at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Started before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// Runs, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "read", operation_id = "listRuns", params(RunsQuery, Paging), responses(
    (status = 200, body = Page<RunSummary>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<App>,
    _: Reader,
    Params(query): Params<RunsQuery>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<RunSummary>>, Problem> {
    let filter = RunFilter {
        test: query.test.map(TestName),
        state: query.state,
        image: query.image,
        host: query.host,
        since: query.since,
        until: query.until,
    };
    Ok(Json(app.store().runs(&filter, &paging.into()).await?))
}

/// One run.
#[utoipa::path(get, path = "/api/v1/runs/{id}", tag = "read", operation_id = "showRun", params(("id" = String, Path)), responses(
    (status = 200, body = RunDetail),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(app): State<App>,
    _: Reader,
    At(id): At<RunId>,
) -> Result<Json<RunDetail>, Problem> {
    Ok(Json(existing(&app, id).await?))
}

async fn existing(app: &App, id: RunId) -> Result<RunDetail, Problem> {
    app.store().run(id).await?.ok_or_else(|| Problem::not_found(format!("there is no run `{id}`")))
}

/// Which cases.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CasesQuery {
    /// One or more of `passed`, `failed`, `error`, `skipped`, `expected-failure`, `unexpected-success`, separated
    /// by commas.
    status: Option<String>,
    /// Part of the suite, class or name, ignoring case.
    search: Option<String>,
}

impl CasesQuery {
    fn filter(self) -> Result<CaseFilter, Problem> {
        let words = self.status.iter().flat_map(|words| words.split(','));
        let statuses = words.map(str::trim).filter(|word| !word.is_empty()).map(|word| {
            serde_json::from_value::<CaseStatus>(word.into())
                .map_err(|_| Problem::bad_request(format!("`{word}` is no status of a case")))
        });
        Ok(CaseFilter { statuses: statuses.collect::<Result<_, _>>()?, search: self.search })
    }
}

/// The cases of a run, in the order in which they were reported.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/cases", tag = "read", operation_id = "listCases",
    params(("id" = String, Path), CasesQuery, Paging),
    responses(
        (status = 200, body = Page<CaseRow>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cases(
    State(app): State<App>,
    _: Reader,
    At(id): At<RunId>,
    Params(query): Params<CasesQuery>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<CaseRow>>, Problem> {
    let filter = query.filter()?;
    existing(&app, id).await?;
    Ok(Json(app.store().cases(id, &filter, &paging.into()).await?))
}

/// The files of a run, by path.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/files", tag = "read", operation_id = "listFiles",
    params(("id" = String, Path), Paging),
    responses(
        (status = 200, body = Page<FileRow>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn files(
    State(app): State<App>,
    _: Reader,
    At(id): At<RunId>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<FileRow>>, Problem> {
    existing(&app, id).await?;
    Ok(Json(app.store().files(id, &paging.into()).await?))
}
