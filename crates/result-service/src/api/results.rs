//! Takes results in. Reads the head of the request; the rest is the intake's.

use std::time::Instant;

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use test_results::upload::{IDEMPOTENCY_KEY, UploadQuery};
use tracing::info;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        access::Uploader,
        extract::Params,
        problem::{self, Problem},
    },
    intake::{self, BodyLimits, Form, Sent, Taken, Told, Upload},
    metrics::UploadResult,
};

/// The parameters of the query, for the OpenAPI document; [`UploadQuery`] reads them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the query; never constructed")]
pub(super) struct ResultQuery {
    /// Name of the test.
    test: Option<String>,
    /// Upstream's name of the archive's main file; accepted and not needed.
    mainfile: Option<String>,
    /// Name of the image.
    #[param(rename = "docker.imagename")]
    image: Option<String>,
    /// Exit code of the test's main process.
    exitcode: Option<i64>,
    /// When it started, in RFC 3339.
    #[param(rename = "start-time", format = DateTime)]
    start_time: Option<String>,
    /// When it ended, in RFC 3339.
    #[param(rename = "end-time", format = DateTime)]
    end_time: Option<String>,
    /// The host it ran on.
    hostname: Option<String>,
    /// Why it ran: `{trigger, summary, at, event, attempt}` in JSON.
    cause: Option<String>,
    /// How long it might run, e.g. `30m`.
    timeout: Option<String>,
    /// `true`: a report that cannot be read is kept as a file, with a note; otherwise the upload is refused.
    lenient: Option<bool>,
}

/// A stored run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Receipt {
    /// Identifies the run.
    #[schema(format = "uuid")]
    id: String,
    /// `passed`, `failed`, `timed-out` or `lost`.
    state: String,
    /// Where people look at it.
    url: String,
}

/// Stores a result: a gzip-compressed tar, or upstream's JSON. What was answered with 201 or 200 is durable.
///
/// The archive may have `container_info/inspect.json`, `container_info/engine.json`, `console_output/stdout.log`,
/// `console_output/stderr.log` and anything under `results/`. Reports in it (JUnit, TAP, subunit) are recognised.
#[utoipa::path(
    post, path = "/results", tag = "intake", operation_id = "postResult",
    params(ResultQuery, ("Idempotency-Key" = Option<String>, Header,
        description = "A repetition with the same key stores nothing and answers 200")),
    request_body(content((super::files::Bytes = "application/gzip"), (Object = "application/json"))),
    responses(
        (status = 201, description = "Stored", body = Receipt),
        (status = 200, description = "Was stored before, with the same idempotency key", body = Receipt),
        (status = "4XX", description = "Final, except 408 and 429", body = Problem,
            content_type = "application/problem+json"),
        (status = "5XX", description = "Worth another try", body = Problem,
            content_type = "application/problem+json"),
    ),
    security(("bearer" = ["upload"]), ("header" = ["upload"]))
)]
pub(super) async fn post(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // A client that goes away must not undo half of it: what arrived whole is stored.
    let taking = app.clone();
    let task = app.tasks().spawn(async move { take(&taking, parts, body).await });
    let answer = match task.await {
        Ok(answer) => answer,
        Err(panic) => Err(Problem::internal(&panic)),
    };
    match answer {
        Ok(Taken { run, .. }) => {
            let id = run.id.to_string();
            let status = if run.repeated { StatusCode::OK } else { StatusCode::CREATED };
            let location = HeaderValue::try_from(format!("/api/v1/runs/{id}"));
            let receipt = Receipt { url: format!("/runs/{id}"), state: run.state.as_str().to_owned(), id };
            let mut response = (status, Json(receipt)).into_response();
            if let Ok(location) = location {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Takes the upload, counts it, and reads the rest of a body that was not needed: closing the connection on a
/// client that still sends would cost it the answer.
async fn take(app: &App, mut parts: Parts, body: Body) -> Result<Taken, Problem> {
    let since = Instant::now();
    let limits = &app.settings().limits;
    let bounds = |bytes| BodyLimits { bytes, stall: limits.stall_time, slowest: limits.slowest_upload };
    let bytes = match form(&parts.headers) {
        Ok(Form::Json) => limits.json_bytes as u64,
        _ => limits.upload_bytes,
    };
    let mut upload = Upload::new(body, bounds(bytes));
    let taken = match sent(app, &mut parts).await {
        Ok(sent) => match declared_too_large(&parts.headers, bytes) {
            Some(problem) => Err(problem),
            None => intake::take(app, sent, &mut upload).await,
        },
        Err(problem) => Err(problem),
    };
    let stopped = app.stop().clone();
    app.tasks().spawn(async move { stopped.run_until_cancelled(upload.linger()).await });
    let (result, bytes) = match &taken {
        Ok(taken) if taken.run.repeated => (UploadResult::Repeated, 0),
        Ok(taken) => (UploadResult::Stored, taken.bytes),
        Err(problem) if problem.status().is_server_error() => (UploadResult::Failed, 0),
        Err(_) => (UploadResult::Refused, 0),
    };
    app.metrics().uploaded(result, bytes, since.elapsed());
    match &taken {
        Ok(taken) if !taken.run.repeated => {
            info!(run.id = %taken.run.id, bytes, state = taken.run.state.as_str(), "stored a run");
        }
        Ok(_) => {}
        Err(problem) => {
            info!(status = problem.status().as_u16(), detail = problem.detail(), "did not store a result");
        }
    }
    taken
}

/// The upload as far as its head tells.
async fn sent(app: &App, parts: &mut Parts) -> Result<Sent, Problem> {
    let by = Uploader::from_request_parts(parts, app).await?;
    let Params(pairs) = Params::<Vec<(String, String)>>::from_request_parts(parts, app).await?;
    let query = UploadQuery::from_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .map_err(|error| Problem::bad_request(problem::chain(&error)))?;
    let lenient = pairs.iter().rev().find(|(name, _)| name == "lenient");
    let lenient = lenient.is_some_and(|(_, word)| !matches!(word.as_str(), "false" | "0" | "no"));
    Ok(Sent {
        form: form(&parts.headers)?,
        told: Told { query, ..Told::default() },
        lenient,
        idempotency_key: idempotency_key(&parts.headers)?,
        uploaded_by: by.key.map(|key| key.name),
    })
}

fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    match intake::media_type(headers.get(header::CONTENT_TYPE)).as_str() {
        "application/gzip"
        | "application/x-gzip"
        | "application/x-gtar"
        | "application/x-tgz"
        | "application/tar+gzip"
        | "application/x-tar+gzip" => Ok(Form::Archive),
        "application/json" => Ok(Form::Json),
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("`{other}` is not taken: send a tar as application/gzip, or application/json"),
        )),
    }
}

fn declared_too_large(headers: &HeaderMap, most: u64) -> Option<Problem> {
    let declared: u64 = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (declared > most)
        .then(|| Problem::too_large(format!("a result of {declared} bytes is not taken, at most {most} are")))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    // The draft standard writes the key as a quoted string; most clients do not.
    let key = std::str::from_utf8(key.as_bytes()).ok().map(|key| key.trim().trim_matches('"'));
    match key {
        Some(key) if !key.is_empty() && key.len() <= 1024 => Ok(Some(key.to_owned())),
        _ => Err(Problem::bad_request("`Idempotency-Key` must have 1 to 1024 bytes of UTF-8")),
    }
}
