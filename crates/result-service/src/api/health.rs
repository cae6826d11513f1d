//! What monitors ask.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{app::App, http::problem::Problem};

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether it can answer: the database does, and it is not being stopped.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, body = String),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    if app.stop().is_cancelled() {
        return Err(Problem::unavailable("the service is being stopped"));
    }
    app.store().check().await?;
    Ok("ready\n")
}

/// What the service counts, as OpenMetrics.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn metrics(State(app): State<App>) -> Response {
    match app.metrics().text() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
