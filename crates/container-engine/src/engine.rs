//! The client: one method per thing the house asks of an engine.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::Stream;

use crate::{
    ConnectError, ConnectSettings, Container, ContainerId, ContainerSummary, CopyPlan, EngineError, EventStream,
    Image, ImageSummary, container::Labels,
};

/// A stream of bytes from the engine.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, EngineError>> + Send>>;

/// A connection to one engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {}

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

/// Which output a piece of log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a container's console.
#[derive(Clone, Debug)]
pub struct LogChunk {
    /// Where it was written.
    pub source: LogSource,
    /// What was written.
    pub bytes: Bytes,
}

/// A step of a pull, for a progress bar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// The layer, if the step is about one.
    pub layer: Option<String>,
    /// The engine's own words.
    pub status: String,
    /// Bytes done.
    pub done: Option<u64>,
    /// Bytes in all.
    pub total: Option<u64>,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Also those that do not run.
    pub all: bool,
    /// Each `key` or `key=value`; all must match.
    pub labels: Vec<String>,
}

#[allow(clippy::unused_async, unused_variables)]
impl Engine {
    /// Connects and negotiates the API version.
    pub async fn connect(settings: &ConnectSettings) -> Result<Self, ConnectError> {
        todo!()
    }

    /// Asks the engine about itself.
    pub async fn info(&self) -> Result<EngineInfo, EngineError> {
        todo!()
    }

    /// Lists containers.
    pub async fn list(&self, filter: &ListFilter) -> Result<Vec<ContainerSummary>, EngineError> {
        todo!()
    }

    /// Inspects a container by id or name.
    pub async fn inspect(&self, container: &str) -> Result<Container, EngineError> {
        todo!()
    }

    /// Inspects an image by id or reference.
    pub async fn image(&self, image: &str) -> Result<Image, EngineError> {
        todo!()
    }

    /// All events from now on, without gaps.
    pub fn events(&self) -> EventStream {
        todo!()
    }

    /// Makes a container as planned and connects its networks; does not start it. A copy that could not be
    /// completed is removed again.
    pub async fn create(&self, plan: &CopyPlan) -> Result<ContainerId, EngineError> {
        todo!()
    }

    /// Starts a container; one that runs already is success.
    pub async fn start(&self, container: &str) -> Result<(), EngineError> {
        todo!()
    }

    /// Sends a signal (`SIGKILL`); a container that has ended is success.
    pub async fn kill(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        todo!()
    }

    /// Asks a container to stop and kills it after the grace period.
    pub async fn stop(&self, container: &str, grace: Duration) -> Result<(), EngineError> {
        todo!()
    }

    /// Waits until a container is not running and returns its exit code.
    pub async fn wait(&self, container: &str) -> Result<i64, EngineError> {
        todo!()
    }

    /// Removes a container with its anonymous volumes; one that is gone is success.
    pub async fn remove(&self, container: &str, force: bool) -> Result<(), EngineError> {
        todo!()
    }

    /// A path of a container as a tar stream. Links in the path itself are resolved inside the container's own
    /// file system. `NotFound` when the path does not exist.
    pub async fn archive(&self, container: &str, path: &str) -> Result<ByteStream, EngineError> {
        todo!()
    }

    /// A container's console from its start; follows until it ends if asked to.
    pub async fn logs(
        &self,
        container: &str,
        follow: bool,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<LogChunk, EngineError>> + Send>>, EngineError> {
        todo!()
    }

    /// Pulls an image, with progress. The stream's error ends the pull.
    pub fn pull(
        &self,
        reference: &str,
    ) -> Pin<Box<dyn Stream<Item = Result<PullProgress, EngineError>> + Send>> {
        todo!()
    }

    /// Lists images.
    pub async fn images(&self) -> Result<Vec<ImageSummary>, EngineError> {
        todo!()
    }

    /// Removes an image; `Conflict` while a container uses it.
    pub async fn remove_image(&self, image: &str, force: bool) -> Result<(), EngineError> {
        todo!()
    }

    /// Makes a network, and returns its id.
    pub async fn create_network(&self, name: &str, labels: &Labels) -> Result<String, EngineError> {
        todo!()
    }

    /// Removes a network; one that is gone is success.
    pub async fn remove_network(&self, network: &str) -> Result<(), EngineError> {
        todo!()
    }

    /// Makes a volume.
    pub async fn create_volume(&self, name: &str, labels: &Labels) -> Result<(), EngineError> {
        todo!()
    }

    /// Removes a volume; one that is gone is success.
    pub async fn remove_volume(&self, volume: &str) -> Result<(), EngineError> {
        todo!()
    }
}
