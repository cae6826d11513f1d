//! The runner's own small HTTP address: health, metrics, events from elsewhere, runs by hand. Knows nothing of
//! results; those are the result service's.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use test_results::CloudEvent;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{RunNowError, RunnerHandle, metrics::RunnerMetrics};

/// Bytes of a posted event.
const LARGEST_EVENT: usize = 1 << 20;
/// Connections at a time; more wait.
const CONNECTIONS: usize = 64;
/// How long a client may take over a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the address offers.
#[derive(Clone, Debug)]
pub struct Control {
    /// The runner that is asked.
    pub runner: RunnerHandle,
    /// Its counters.
    pub metrics: Arc<RunnerMetrics>,
    /// The key that writing needs; without one, anybody who reaches the address may write.
    pub key: Option<SecretString>,
}

type Answer = Response<Full<Bytes>>;

impl Control {
    /// Serves until `stop`.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let control = Arc::new(self);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let tasks = TaskTracker::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            // Out of file descriptors, or the client has gone already: the next one may do better.
            let Ok((stream, _)) = accepted else { continue };
            let (control, stopped) = (Arc::clone(&control), stop.clone());
            tasks.spawn(async move {
                let service = hyper::service::service_fn(|request| {
                    let control = Arc::clone(&control);
                    async move { Ok::<_, Infallible>(control.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(PATIENCE)
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    _ = connection => (),
                    () = stopped.cancelled() => (),
                }
                drop(place);
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/healthz") => text(StatusCode::OK, "ok\n"),
            (&Method::GET, "/readyz") if self.metrics.is_connected() => text(StatusCode::OK, "ok\n"),
            (&Method::GET, "/readyz") => {
                text(StatusCode::SERVICE_UNAVAILABLE, "the engine does not answer\n")
            }
            (&Method::GET, "/metrics") => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                with_type(StatusCode::OK, kind, self.metrics.encode())
            }
            (&Method::GET, "/status") => json_answer(StatusCode::OK, &json!(self.runner.status().await)),
            (&Method::POST, _) if !self.may_write(&request) => {
                problem(StatusCode::UNAUTHORIZED, "this needs the runner's API key, from no web page")
            }
            (&Method::POST, "/events") => self.take_event(request).await,
            (&Method::POST, path) => match path.strip_prefix("/run/").filter(|name| !name.is_empty()) {
                Some(name) => self.run_now(name).await,
                None => problem(StatusCode::NOT_FOUND, "POST goes to /events or /run/NAME"),
            },
            _ => problem(StatusCode::NOT_FOUND, "known: /healthz /readyz /metrics /status /events /run/NAME"),
        }
    }

    /// A web page of another site must not start tests on the reader's machine: browsers send an origin.
    fn may_write(&self, request: &Request<Incoming>) -> bool {
        if request.headers().contains_key(header::ORIGIN) {
            return false;
        }
        let Some(key) = &self.key else { return true };
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        subtle::ConstantTimeEq::ct_eq(given.as_bytes(), key.expose_secret().as_bytes()).into()
    }

    async fn take_event(&self, request: Request<Incoming>) -> Answer {
        let body = Limited::new(request.into_body(), LARGEST_EVENT).collect();
        let body = match tokio::time::timeout(PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => {
                return problem(StatusCode::PAYLOAD_TOO_LARGE, "an event may have 1 MiB");
            }
            _ => return problem(StatusCode::REQUEST_TIMEOUT, "the event did not arrive in time"),
        };
        match serde_json::from_slice::<CloudEvent>(&body) {
            Ok(event) => {
                self.runner.event(event).await;
                json_answer(StatusCode::ACCEPTED, &json!({}))
            }
            Err(e) => problem(StatusCode::BAD_REQUEST, &format!("not a CloudEvent in structured JSON: {e}")),
        }
    }

    async fn run_now(&self, name: &str) -> Answer {
        match self.runner.run_now(name, "asked for over HTTP").await {
            Ok(ticket) => json_answer(StatusCode::ACCEPTED, &json!(ticket)),
            Err(e) => {
                let status = match e {
                    RunNowError::NoSuchTest { .. } => StatusCode::NOT_FOUND,
                    RunNowError::Overlap { .. } => StatusCode::CONFLICT,
                    RunNowError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
                };
                problem(status, &e.to_string())
            }
        }
    }
}

fn text(status: StatusCode, body: &str) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Answer {
    with_type(status, "application/json", body.to_string())
}

/// An error as RFC 9457 has it.
fn problem(status: StatusCode, detail: &str) -> Answer {
    let body = json!({ "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    with_type(status, "application/problem+json", body.to_string())
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    answer
}
