//! A stand-in for an engine: answers the few calls that a runner makes, and sends events as fast as asked. It loses
//! events as a real engine does: a reader that is 1,024 events behind for 100 ms misses what comes.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{
    net::UnixListener,
    sync::{Mutex, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::docker_api::now;

/// Depth of the engine's channel to each reader of events, and its patience.
const CHANNEL: usize = 1_024;
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Clone, Default)]
pub(crate) struct StandIn {
    reader: Arc<Mutex<Option<mpsc::Sender<Bytes>>>>,
    sent: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    readers: Arc<AtomicU64>,
}

impl StandIn {
    pub(crate) fn start(socket: &Path, stop: CancellationToken) -> anyhow::Result<Self> {
        let this = Self::default();
        let app = Router::new().fallback(answer).with_state(this.clone());
        let listener = UnixListener::bind(socket)?;
        tokio::spawn(async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = served.await {
                eprintln!("the stand-in engine ended: {error}");
            }
        });
        Ok(this)
    }

    /// How often a reader of events connected.
    pub(crate) fn readers(&self) -> u64 {
        self.readers.load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Events that the reader was too slow for.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Sends one event of a container that is no test.
    pub(crate) async fn send(&self, number: u64) {
        let reader = self.reader.lock().await.clone();
        let Some(reader) = reader else { return };
        let line = Bytes::from(event(number));
        match timeout(PATIENCE, reader.send(line)).await {
            Ok(Ok(())) => self.sent.fetch_add(1, Ordering::Relaxed),
            _ => self.lost.fetch_add(1, Ordering::Relaxed),
        };
    }
}

/// A step in the short life of a container that an orchestrator made.
fn event(number: u64) -> Vec<u8> {
    let at = now();
    let container = number / 4;
    let id = format!("{container:064x}");
    let action = ["create", "start", "die", "destroy"][usize::try_from(number % 4).unwrap_or(0)];
    let event = json!({
        "status": action, "id": id, "from": "registry.example.org/shop/web:1.2.3", "Type": "container", "Action": action,
        "Actor": {"ID": id, "Attributes": {
            "image": "registry.example.org/shop/web:1.2.3", "name": format!("web-{container}"), "exitCode": "0",
            "com.docker.compose.project": "shop", "com.docker.compose.service": "web",
            "com.docker.compose.version": "2.27.0", "org.opencontainers.image.revision": "0123456789abcdef"
        }},
        "scope": "local", "time": at / 1_000_000_000, "timeNano": at,
    });
    let mut line = event.to_string().into_bytes();
    line.push(b'\n');
    line
}

async fn answer(State(this): State<StandIn>, request: Request) -> Response {
    let path = request.uri().path();
    let path =
        path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
    match path {
        "/_ping" => ([("api-version", "1.41"), ("ostype", "linux"), ("server", "Docker/20.10.24 (linux)")], "OK").into_response(),
        "/version" => Json(json!({
            "Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64",
            "KernelVersion": "6.1.0", "GitCommit": "0", "GoVersion": "go1.19.8"
        }))
        .into_response(),
        "/info" => Json(json!({
            "ID": "STAND:IN", "Name": "stand-in", "ServerVersion": "20.10.24", "OperatingSystem": "Debian GNU/Linux 12",
            "KernelVersion": "6.1.0", "NCPU": 2, "MemTotal": 1_000_000_000, "Driver": "overlay2"
        }))
        .into_response(),
        "/events" => this.connect(request.uri().query().unwrap_or_default()).await,
        "/containers/json" => Json(json!([listed()])).into_response(),
        // The copy starts and never ends.
        "/containers/create" => (StatusCode::CREATED, Json(json!({"Id": "c".repeat(64), "Warnings": []}))).into_response(),
        path if path.starts_with("/containers/") && path.ends_with("/start") => StatusCode::NO_CONTENT.into_response(),
        path if path.starts_with("/containers/") && path.ends_with("/json") => Json(inspected()).into_response(),
        path if path.starts_with("/images/") && path.ends_with("/json") => {
            Json(json!({"Id": IMAGE, "RepoTags": ["probe:1"], "Config": {"Labels": {}}})).into_response()
        }
        "/images/json" | "/networks" => Json(json!([])).into_response(),
        path => (StatusCode::NOT_FOUND, Json(json!({"message": format!("no {path} here")}))).into_response(),
    }
}

impl StandIn {
    async fn connect(&self, query: &str) -> Response {
        // A question about the past (`until`) has an empty answer; a stream stays open.
        if query.contains("until=") {
            return Body::empty().into_response();
        }
        let (send, receive) = mpsc::channel(CHANNEL);
        *self.reader.lock().await = Some(send);
        self.readers.fetch_add(1, Ordering::Relaxed);
        let lines = tokio_stream::wrappers::ReceiverStream::new(receive);
        let lines = futures_util::StreamExt::map(lines, Ok::<_, std::convert::Infallible>);
        ([("content-type", "application/json")], Body::from_stream(lines)).into_response()
    }
}

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const IMAGE: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// Every event that is sent here triggers the test: the most work that an event can make.
fn labels() -> Value {
    json!({
        "tugbot.test": "true", "tugbot.event.docker": "create,start,die,destroy",
        "tugbot.event.docker.filter.container": "re2:^web-[0-9]+$"
    })
}

fn listed() -> Value {
    json!({
        "Id": ID, "Names": ["/probe"], "Image": "probe:1", "ImageID": IMAGE, "Command": "true", "Created": 1_700_000_000,
        "Ports": [], "Labels": labels(), "State": "exited", "Status": "Exited (0) 1 minute ago",
        "HostConfig": {"NetworkMode": "none"}, "NetworkSettings": {"Networks": {}}, "Mounts": []
    })
}

fn inspected() -> Value {
    json!({
        "Id": ID, "Name": "/probe", "Created": "2026-01-01T00:00:00Z", "Path": "true", "Args": [], "Image": IMAGE,
        "State": {"Status": "exited", "Running": false, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false,
            "Pid": 0, "ExitCode": 0, "Error": "", "StartedAt": "2026-01-01T00:00:01Z", "FinishedAt": "2026-01-01T00:00:02Z"},
        "RestartCount": 0, "Driver": "overlay2", "Platform": "linux",
        "Config": {"Hostname": "aaaaaaaaaaaa", "Image": "probe:1", "Cmd": ["true"], "Env": [], "Labels": labels()},
        "HostConfig": {"NetworkMode": "none"}, "NetworkSettings": {"Networks": {}}, "Mounts": []
    })
}
