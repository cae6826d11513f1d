//! The client: one method per thing the house asks of an engine. Each is one call of the engine's API, with the
//! answers that mean success sorted out from those that do not.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use crate::{
    ConnectError, ConnectSettings, Container, ContainerId, ContainerSummary, CopyPlan, EngineError,
    EventStream, Image, ImageSummary,
    api::{Api, SLOW},
    archive, connect, console,
    console::LogStream,
    container::{self, Labels},
    events::{self, EventStats, StatCells},
    image, pull,
    pull::PullStream,
};
pub use crate::{
    api::ByteStream,
    console::{LogChunk, LogSource},
    pull::PullProgress,
};

/// A connection to one engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    api: Api,
    config_dir: Option<PathBuf>,
    event_stats: Arc<StatCells>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("api", &self.api).finish_non_exhaustive()
    }
}

/// What an engine says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// The engine's id, stable over restarts.
    pub id: String,
    /// Its host name.
    pub name: String,
    /// E.g. `20.10.24`.
    pub server_version: String,
    /// The negotiated API version, e.g. `1.41`.
    pub api_version: String,
    /// E.g. `Debian GNU/Linux 12`.
    pub operating_system: String,
    /// E.g. `6.1.0`.
    pub kernel_version: String,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Also those that do not run.
    pub all: bool,
    /// Each `key` or `key=value`; all must match.
    pub labels: Vec<String>,
}

impl Engine {
    /// Connects and negotiates the API version.
    pub async fn connect(settings: &ConnectSettings) -> Result<Self, ConnectError> {
        let api = connect::connect(settings).await?;
        Ok(Self { api, config_dir: settings.docker_config_dir.clone(), event_stats: Arc::default() })
    }

    /// Asks the engine about itself.
    pub async fn info(&self) -> Result<EngineInfo, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        #[derive(Default)]
        struct Wire {
            #[serde(rename = "ID")]
            id: String,
            name: String,
            server_version: String,
            operating_system: String,
            kernel_version: String,
        }
        let wire: Wire = self.api.get(&["info"]).to("describe itself", "engine", "").json().await?;
        Ok(EngineInfo {
            id: wire.id,
            name: wire.name,
            server_version: wire.server_version,
            api_version: self.api.version().map(|version| version.to_string()).unwrap_or_default(),
            operating_system: wire.operating_system,
            kernel_version: wire.kernel_version,
        })
    }

    /// Lists containers.
    pub async fn list(&self, filter: &ListFilter) -> Result<Vec<ContainerSummary>, EngineError> {
        let mut call = self.api.get(&["containers", "json"]).to("list containers", "container", "");
        if filter.all {
            call = call.query("all", "1");
        }
        if !filter.labels.is_empty() {
            call = call.query("filters", &json!({ "label": filter.labels }).to_string());
        }
        let rows: Vec<container::SummaryRow> = call.json().await?;
        Ok(rows.into_iter().map(ContainerSummary::from).collect())
    }

    /// Inspects a container by id or name.
    pub async fn inspect(&self, container: &str) -> Result<Container, EngineError> {
        let call = self.api.get(&["containers", container, "json"]).to("inspect", "container", container);
        let document: Value = call.json().await?;
        Container::from_document(document).ok_or_else(|| EngineError::Garbled {
            action: format!("inspect container `{container}`"),
            source: "its document has no id".into(),
        })
    }

    /// Inspects an image by id or reference.
    pub async fn image(&self, image: &str) -> Result<Image, EngineError> {
        let path: Vec<&str> = ["images"].into_iter().chain(image.split('/')).chain(["json"]).collect();
        let document: Value = self.api.get(&path).to("inspect", "image", image).json().await?;
        Image::from_document(document).ok_or_else(|| EngineError::Garbled {
            action: format!("inspect image `{image}`"),
            source: "its document has no id".into(),
        })
    }

    /// All events from now on, without gaps. The stream is read from the moment of this call, in a task of its
    /// own that ends when the stream is dropped; so this must be called within a Tokio runtime.
    pub fn events(&self) -> EventStream {
        events::open(self.api.clone(), Arc::clone(&self.event_stats))
    }

    /// What happened to all event streams of this connection so far.
    pub fn event_stats(&self) -> EventStats {
        self.event_stats.read()
    }

    /// Makes a container as planned and connects its networks; does not start it. A copy that could not be
    /// completed is removed again.
    pub async fn create(&self, plan: &CopyPlan) -> Result<ContainerId, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Created {
            id: String,
            #[serde(default)]
            warnings: Option<Vec<String>>,
        }
        let call = self.api.post(&["containers", "create"]).query("name", &plan.name);
        let created: Created =
            call.to("create", "container", &plan.name).json_body(&plan.create).json().await?;
        for warning in created.warnings.unwrap_or_default() {
            warn!(container.name = plan.name, "the engine warns about container {}: {warning}", plan.name);
        }
        for (network, settings) in &plan.connect {
            if let Err(error) = self.connect_network(network, &created.id, settings).await {
                if let Err(second) = self.remove(&created.id, true).await {
                    warn!(container.id = created.id, "an unfinished container stays behind: {second}");
                }
                return Err(error);
            }
        }
        Ok(ContainerId(created.id))
    }

    async fn connect_network(
        &self,
        network: &str,
        container: &str,
        settings: &Value,
    ) -> Result<(), EngineError> {
        let body = json!({ "Container": container, "EndpointConfig": settings });
        let call = self.api.post(&["networks", network, "connect"]).json_body(&body);
        call.to("connect a container to", "network", network).done().await
    }

    /// Starts a container; one that runs already is success.
    pub async fn start(&self, container: &str) -> Result<(), EngineError> {
        // The engine answers 304 when it runs already.
        self.api.post(&["containers", container, "start"]).to("start", "container", container).done().await
    }

    /// Sends a signal (`SIGKILL`); a container that has ended is success.
    pub async fn kill(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        let call = self.api.post(&["containers", container, "kill"]).query("signal", signal);
        match call.to("kill", "container", container).done().await {
            Err(EngineError::Conflict { message, .. }) if message.contains("is not running") => Ok(()),
            // Podman's words for the same.
            Err(EngineError::Conflict { message, .. }) if message.contains("container state improper") => {
                Ok(())
            }
            other => other,
        }
    }

    /// Asks a container to stop and kills it after the grace period. One that has ended is success.
    pub async fn stop(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        // Whole seconds are all the engine knows; a grace of 0.5 s is no reason to kill at once.
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let call = self.api.post(&["containers", container, "stop"]).query("t", &seconds.to_string());
        // The engine answers 304 when it has ended by itself meanwhile.
        call.within(Duration::from_secs(seconds) + SLOW).to("stop", "container", container).done().await
    }

    /// Waits until a container is not running and returns its exit code. One that was never started is not
    /// running.
    pub async fn wait(&self, container: &str) -> Result<i64, EngineError> {
        #[derive(Deserialize)]
        struct Ended {
            #[serde(rename = "StatusCode")]
            status_code: i64,
            #[serde(rename = "Error", default)]
            error: Option<Complaint>,
        }
        #[derive(Deserialize)]
        struct Complaint {
            #[serde(rename = "Message", default)]
            message: String,
        }
        let call = self.api.post(&["containers", container, "wait"]).unlimited();
        let ended: Ended = call.to("wait for", "container", container).json().await?;
        match ended.error {
            Some(Complaint { message }) if !message.is_empty() => Err(EngineError::Refused {
                action: format!("wait for container `{container}`"),
                status: StatusCode::OK.as_u16(),
                message,
            }),
            _ => Ok(ended.status_code),
        }
    }

    /// Removes a container with its anonymous volumes; one that is gone, or just going, is success.
    pub async fn remove(&self, container: &str, force: bool) -> Result<(), EngineError> {
        let call = self.api.delete(&["containers", container]).query("v", "1");
        let call = if force { call.query("force", "1") } else { call };
        match call.to("remove", "container", container).done().await {
            Err(EngineError::NotFound { .. }) => Ok(()),
            Err(EngineError::Conflict { message, .. }) if message.contains("already in progress") => Ok(()),
            other => other,
        }
    }

    /// A path of a container as a tar stream. Links in the path itself are resolved inside the container's own
    /// file system. `NotFound` of kind `path` when the path does not exist.
    ///
    /// All entries lie under one first component, the last one of the resolved path, as `docker cp` has them.
    pub async fn archive(&self, container: &str, path: &str) -> Result<ByteStream, EngineError> {
        archive::archive(&self.api, container, path).await
    }

    /// A container's console from its start; follows until it ends if asked to. What a terminal shows is all
    /// standard output.
    pub async fn logs(&self, container: &str, follow: bool) -> Result<LogStream, EngineError> {
        // Before API 1.42 the answer does not say whether it comes in frames.
        let has_terminal = self.inspect(container).await?.has_terminal();
        let mut call =
            self.api.get(&["containers", container, "logs"]).query("stdout", "1").query("stderr", "1");
        if follow {
            call = call.query("follow", "1");
        }
        let (bytes, subject) = call.to("read the console of", "container", container).stream().await?;
        Ok(if has_terminal { console::terminal(bytes) } else { console::multiplexed(bytes, subject) })
    }

    /// Pulls an image, with progress and with the credentials of the Docker configuration. The stream's error
    /// ends the pull; so does dropping it.
    pub fn pull(&self, reference: &str) -> PullStream {
        pull::pull(self.api.clone(), self.config_dir.clone(), reference.to_owned())
    }

    /// Lists images.
    pub async fn images(&self) -> Result<Vec<ImageSummary>, EngineError> {
        let call = self.api.get(&["images", "json"]).to("list images", "image", "");
        let rows: Vec<image::SummaryRow> = call.json().await?;
        Ok(rows.into_iter().map(ImageSummary::from).collect())
    }

    /// Removes an image; `Conflict` while a container uses it.
    pub async fn remove_image(&self, image: &str, force: bool) -> Result<(), EngineError> {
        let path: Vec<&str> = ["images"].into_iter().chain(image.split('/')).collect();
        let call = self.api.delete(&path).to("remove", "image", image);
        if force { call.query("force", "1") } else { call }.done().await
    }

    /// Makes a network, and returns its id.
    pub async fn create_network(&self, name: &str, labels: &Labels) -> Result<String, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Created {
            id: String,
        }
        // Without the check, older engines make a second network of the same name.
        let body = json!({ "Name": name, "Labels": labels, "CheckDuplicate": true });
        let call = self.api.post(&["networks", "create"]).to("create", "network", name);
        Ok(call.json_body(&body).json::<Created>().await?.id)
    }

    /// Removes a network; one that is gone is success.
    pub async fn remove_network(&self, network: &str) -> Result<(), EngineError> {
        gone_is_fine(self.api.delete(&["networks", network]).to("remove", "network", network).done().await)
    }

    /// Makes a volume; one of that name that is there already is success.
    pub async fn create_volume(&self, name: &str, labels: &Labels) -> Result<(), EngineError> {
        let call = self.api.post(&["volumes", "create"]);
        call.to("create", "volume", name).json_body(&json!({ "Name": name, "Labels": labels })).done().await
    }

    /// Removes a volume; one that is gone is success.
    pub async fn remove_volume(&self, volume: &str) -> Result<(), EngineError> {
        gone_is_fine(self.api.delete(&["volumes", volume]).to("remove", "volume", volume).done().await)
    }
}

fn gone_is_fine(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(EngineError::NotFound { .. }) => Ok(()),
        other => other,
    }
}
