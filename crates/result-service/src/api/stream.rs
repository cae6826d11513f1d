//! Events as they arrive, by server-sent events. Reads the table and not a queue: a client that comes back gets
//! what it missed, and a slow one holds no memory.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::warn;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{
        access::Reader,
        extract::Params,
        problem::{Problem, chain},
    },
    store::{Store, StoreError},
    views::EventRow,
};

/// How often a silent stream shows that it lives.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// How long a client waits before it comes back.
const RETRY: Duration = Duration::from_secs(1);

/// How many events are read at a time.
const CHUNK: u32 = 64;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where the stream begins.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Behind this sequence; `0` from the first event on; with the next new event when absent.
    after: Option<u64>,
}

/// Events as they arrive: messages `cloudevent`, whose `id` is the sequence and whose `data` is the CloudEvent.
/// `Last-Event-ID` or `after` resume without a gap.
#[utoipa::path(
    get, path = "/api/v1/stream", tag = "read", operation_id = "streamEvents",
    params(StreamQuery, ("Last-Event-ID" = Option<u64>, Header, description = "As `after`; browsers send it")),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 503, description = "Too many streams", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    _: Reader,
    headers: HeaderMap,
    Params(query): Params<StreamQuery>,
) -> Result<Response, Problem> {
    let too_many = || Problem::unavailable("too many event streams are open: try again later");
    let place = app.streams().clone().try_acquire_owned().map_err(|_| too_many())?;
    let newest = app.store().newest_event();
    let present = *newest.borrow();
    let asked = last_event_id(&headers)?.or(query.after);
    // Who knows events that are not there yet has followed another store: its events are all new to him.
    let after = asked.map_or(present, |after| if after > present { 0 } else { after });
    let follower =
        Follower { _open: Open::new(app.clone(), place), store: app.store().clone(), newest, after };
    let stopped = app.stop().clone().cancelled_owned();
    let messages = stream::once(async { Ok(Event::default().retry(RETRY).comment("events follow")) })
        .chain(follower.follow())
        .take_until(stopped);
    let mut response =
        Sse::new(messages).keep_alive(KeepAlive::new().interval(COMMENT_EVERY)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let sequence = id.to_str().ok().and_then(|id| id.trim().parse().ok());
    sequence.map(Some).ok_or_else(|| Problem::bad_request("`Last-Event-ID` is not a sequence of this stream"))
}

/// An open stream: holds its place and is counted for as long as it lives.
struct Open {
    app: App,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(app: App, place: OwnedSemaphorePermit) -> Self {
        app.metrics().streams.inc();
        Self { app, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.app.metrics().streams.dec();
    }
}

/// Reads on from where it is, for as long as somebody listens.
struct Follower {
    _open: Open,
    store: Store,
    newest: watch::Receiver<u64>,
    after: u64,
}

impl Follower {
    fn follow(self) -> impl Stream<Item = Result<Event, Infallible>> + Send {
        stream::unfold(self, |mut follower| async move {
            match follower.next().await {
                Ok(events) => Some((stream::iter(events.into_iter().map(message).map(Ok)), follower)),
                Err(error) => {
                    // The stream ends; the client comes back and resumes where it was.
                    warn!(error = %chain(&error), "an event stream ends early");
                    None
                }
            }
        })
        .flatten()
    }

    /// The next events; waits until there are some.
    async fn next(&mut self) -> Result<Vec<EventRow>, StoreError> {
        loop {
            // Marked as seen before the read: what is stored meanwhile wakes the wait again.
            let newest = *self.newest.borrow_and_update();
            if newest > self.after {
                let events = self.store.events_after(self.after, CHUNK).await?;
                if let Some(last) = events.last() {
                    self.after = last.sequence;
                    return Ok(events);
                }
            }
            self.newest.changed().await.map_err(|_| StoreError::Stopped)?;
        }
    }
}

fn message(row: EventRow) -> Event {
    let message = Event::default().event("cloudevent").id(row.sequence.to_string());
    match message.json_data(&row.event) {
        Ok(message) => message,
        // An event that was read from JSON has a JSON form.
        Err(error) => Event::default().comment(error.to_string()),
    }
}
