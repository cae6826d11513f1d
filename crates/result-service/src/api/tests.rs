//! Tests with their newest runs, and the wish for another run.

use axum::{Json, extract::State, http::StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use test_results::{
    EventId, State as RunState, TestName,
    event::{Stamp, run_requested},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::listing::Paging;
use crate::{
    app::App,
    http::{
        access::{Reader, Uploader},
        extract::{At, Params},
        problem::Problem,
    },
    intake::{SOURCE, test_name},
    views::{Page, TestFilter, TestOverview},
};

/// Which tests.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TestsQuery {
    /// Part of the name, ignoring case.
    search: Option<String>,
    /// State of the newest run: `passed`, `failed`, `timed-out` or `lost`.
    #[param(value_type = Option<String>)]
    state: Option<RunState>,
}

/// Tests by name, each with its newest runs.
#[utoipa::path(get, path = "/api/v1/tests", tag = "read", operation_id = "listTests", params(TestsQuery, Paging), responses(
    (status = 200, body = Page<TestOverview>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<App>,
    _: Reader,
    Params(query): Params<TestsQuery>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<TestOverview>>, Problem> {
    let filter = TestFilter { search: query.search, state: query.state };
    Ok(Json(app.store().tests(&filter, &paging.into()).await?))
}

/// One test with its newest runs.
#[utoipa::path(get, path = "/api/v1/tests/{name}", tag = "read", operation_id = "showTest", params(("name" = String, Path)), responses(
    (status = 200, body = TestOverview),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(app): State<App>,
    _: Reader,
    At(name): At<String>,
) -> Result<Json<TestOverview>, Problem> {
    let missing = || Problem::not_found(format!("no run of test `{name}` is stored"));
    app.store().test(&TestName(name.clone())).await?.map(Json).ok_or_else(missing)
}

/// The event that asks for a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Requested {
    /// Id of the event; the run's cause will name it.
    event: String,
}

/// Asks every runner that listens for a run of this test.
#[utoipa::path(
    post, path = "/api/v1/tests/{name}/run", tag = "intake", operation_id = "requestRun", params(("name" = String, Path)),
    responses(
        (status = 202, body = Requested),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["upload"]), ("header" = ["upload"]))
)]
pub(crate) async fn request_run(
    State(app): State<App>,
    by: Uploader,
    At(name): At<String>,
) -> Result<(StatusCode, Json<Requested>), Problem> {
    let name = test_name(&name)?;
    let now = Timestamp::now();
    let id = EventId(Uuid::now_v7().to_string());
    let stamp = Stamp { id: id.clone(), source: SOURCE.to_owned(), at: now };
    let by = by.key.map(|key| key.name);
    let stored = app.store().publish(vec![run_requested(stamp, &name, by.as_deref())], now).await?;
    app.metrics().events.inc_by(stored.stored);
    Ok((StatusCode::ACCEPTED, Json(Requested { event: id.0 })))
}
