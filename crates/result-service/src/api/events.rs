//! Events in and out: CloudEvents alone and in batches, and upstream's form.

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use test_results::{
    CloudEvent, EventId,
    event::{BATCH_CONTENT_TYPE, CONTENT_TYPE, EventError, EventLimits, Stamp, UpstreamEvent},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::listing::Paging;
use crate::{
    app::App,
    http::{
        access::{Reader, Uploader},
        extract::Params,
        problem::{self, Problem},
    },
    intake::media_type,
    views::{EventFilter, EventRow, Page},
};

/// Who says what upstream's form does not tell.
const UPSTREAM_SOURCE: &str = "/tugbot";

/// What became of the events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Taken {
    /// How many are new.
    stored: u64,
    /// How many were there already, by id and source.
    repeated: u64,
}

/// Takes events: a CloudEvent, a batch of them, or one in upstream's form.
#[utoipa::path(
    post, path = "/events", tag = "intake", operation_id = "postEvents",
    request_body(
        content((Object = "application/cloudevents+json"), (Vec<Object> = "application/cloudevents-batch+json"),
            (Object = "application/json")),
        description = "A CloudEvent 1.0 (also as `application/json`, when it has `specversion`), a batch, or \
                       `{Type, ID, StartedAt, FinishedAt, Tag, From, Action, Status}`",
    ),
    responses(
        (status = 202, body = Taken),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = ["upload"]), ("header" = ["upload"]))
)]
pub(super) async fn post(
    State(app): State<App>,
    _: Uploader,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Taken>), Problem> {
    let limits = &app.settings().limits;
    let body = body.map_err(|refused| match refused.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::too_large(format!("events of more than {} bytes are not taken", limits.events_bytes))
        }
        _ => Problem::bad_request("the body did not arrive whole"),
    })?;
    let now = Timestamp::now();
    let kind = media_type(headers.get(header::CONTENT_TYPE));
    let events = read(&kind, &body, &limits.event, now)?;
    let taken = app.store().publish(events, now).await?;
    app.metrics().events.inc_by(taken.stored);
    Ok((StatusCode::ACCEPTED, Json(Taken { stored: taken.stored, repeated: taken.repeated })))
}

/// The events in a body of this media type.
fn read(kind: &str, body: &[u8], limits: &EventLimits, now: Timestamp) -> Result<Vec<CloudEvent>, Problem> {
    match kind {
        CONTENT_TYPE => Ok(vec![CloudEvent::from_json(body, limits).map_err(refused)?]),
        BATCH_CONTENT_TYPE => CloudEvent::batch_from_json(body, limits).map_err(refused),
        "application/json" => {
            #[derive(Deserialize)]
            struct Envelope {
                specversion: Option<serde::de::IgnoredAny>,
            }
            let not_json = |error: serde_json::Error| refused(EventError::Json(error));
            if body.trim_ascii_start().starts_with(b"[") {
                return CloudEvent::batch_from_json(body, limits).map_err(refused);
            }
            let envelope: Envelope = serde_json::from_slice(body).map_err(not_json)?;
            if envelope.specversion.is_some() {
                return Ok(vec![CloudEvent::from_json(body, limits).map_err(refused)?]);
            }
            let event: UpstreamEvent = serde_json::from_slice(body).map_err(not_json)?;
            if event.r#type.is_empty() && event.action.is_empty() && event.status.is_empty() {
                return Err(Problem::unprocessable(
                    "the event has neither `specversion` nor `Type` and `Action`",
                ));
            }
            let id = EventId(Uuid::now_v7().to_string());
            let event = event.into_cloud_event(Stamp { id, source: UPSTREAM_SOURCE.to_owned(), at: now });
            event.check(limits).map_err(refused)?;
            Ok(vec![event])
        }
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("`{other}` is not taken: send {CONTENT_TYPE}, {BATCH_CONTENT_TYPE} or application/json"),
        )),
    }
}

fn refused(error: EventError) -> Problem {
    let status = match &error {
        EventError::Size { .. } | EventError::Batch { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        EventError::Json(json) if !json.is_data() => StatusCode::BAD_REQUEST,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(status, problem::chain(&error))
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Exact type, or its beginning and `*`.
    r#type: Option<String>,
    /// Exact subject.
    subject: Option<String>,
    /// Exact source.
    source: Option<String>,
    /// Happened at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Happened before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// Events, the newest first.
#[utoipa::path(get, path = "/api/v1/events", tag = "read", operation_id = "listEvents", params(EventsQuery, Paging), responses(
    (status = 200, body = Page<EventRow>),
    (status = "4XX", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<App>,
    _: Reader,
    Params(query): Params<EventsQuery>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<EventRow>>, Problem> {
    let filter = EventFilter {
        kind: query.r#type,
        subject: query.subject,
        source: query.source,
        since: query.since,
        until: query.until,
    };
    Ok(Json(app.store().events(&filter, &paging.into()).await?))
}
