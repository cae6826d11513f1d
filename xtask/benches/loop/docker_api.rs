//! The few calls to an engine that the measurements make themselves, without any of the product's code.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Names an API version that every engine from 20.10 on has.
const BASE: &str = "http://engine/v1.41";

#[derive(Clone)]
pub(crate) struct DockerApi {
    http: reqwest::Client,
}

/// An event as the engine sent it, and when it was read here.
pub(crate) struct Seen {
    pub(crate) action: String,
    pub(crate) id: String,
    /// Nanoseconds since 1970, by the engine's clock.
    pub(crate) happened: u64,
    pub(crate) read: u64,
}

impl DockerApi {
    pub(crate) fn new(socket: &Path) -> anyhow::Result<Self> {
        // `testkit` installs the TLS provider that a client asks for even when it speaks to a socket.
        let _ = testkit::http_client();
        Ok(Self { http: reqwest::Client::builder().no_proxy().unix_socket(socket.to_owned()).build()? })
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
        let answer = request.send().await?;
        let status = answer.status();
        if !status.is_success() && status != reqwest::StatusCode::NOT_MODIFIED {
            let url = answer.url().clone();
            bail!("{url} answered {status}: {}", answer.text().await?);
        }
        Ok(answer)
    }

    pub(crate) async fn create(&self, name: &str, body: &Value) -> anyhow::Result<String> {
        let url = format!("{BASE}/containers/create?name={name}");
        let answer: Value = self.send(self.http.post(url).json(body)).await?.json().await?;
        Ok(answer["Id"].as_str().context("a created container has an id")?.to_owned())
    }

    pub(crate) async fn post(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.http.post(format!("{BASE}{path}"))).await.map(drop)
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.http.delete(format!("{BASE}{path}"))).await.map(drop)
    }

    /// The archive of a path in a container, as it streams.
    pub(crate) async fn archive(&self, id: &str, path: &str) -> anyhow::Result<reqwest::Response> {
        self.send(self.http.get(format!("{BASE}/containers/{id}/archive?path={path}"))).await
    }

    /// Creates many containers that are never started.
    pub(crate) async fn crowd(&self, count: usize, body: &Value) -> anyhow::Result<()> {
        let mut created = stream::iter(0..count)
            .map(|number| async move { self.create(&format!("bystander-{number}"), body).await })
            .buffer_unordered(8);
        while let Some(one) = created.next().await {
            one?;
        }
        Ok(())
    }

    /// Reads the engine's events from now on.
    pub(crate) async fn events(&self) -> anyhow::Result<mpsc::UnboundedReceiver<Seen>> {
        let mut answer = self.send(self.http.get(format!("{BASE}/events"))).await?;
        let (send, receive) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut rest = Vec::new();
            while let Ok(Some(piece)) = answer.chunk().await {
                let read = now();
                rest.extend_from_slice(&piece);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let seen = Seen {
                        action: text(&event["Action"]),
                        id: text(&event["Actor"]["ID"]),
                        happened: event["timeNano"].as_u64().unwrap_or_default(),
                        read,
                    };
                    if send.send(seen).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(receive)
    }
}

/// A container that does one thing and ends.
pub(crate) fn container(image: &str, command: &[&str], labels: &Value) -> Value {
    json!({"Image": image, "Cmd": command, "Labels": labels, "HostConfig": {"NetworkMode": "none"}})
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn between(from: u64, to: u64) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}
