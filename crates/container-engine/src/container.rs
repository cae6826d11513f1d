//! Containers as the rest of the house sees them.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A full container id (64 hex digits).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Labels, sorted.
pub type Labels = BTreeMap<String, String>;

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// Made, never started.
    Created,
    /// Running, paused or restarting.
    Running,
    /// Ended.
    Exited,
    /// Being removed, or dead.
    Gone,
}

/// The verdict of a container's health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It has none.
    None,
    /// Not yet known.
    Starting,
    /// Passing.
    Healthy,
    /// Failing.
    Unhealthy,
}

/// A row of a container listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSummary {
    /// Full id.
    pub id: ContainerId,
    /// Name without the leading slash.
    pub name: String,
    /// The image as it was named when the container was made.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// The container's labels; the engine has already merged in those of its image.
    pub labels: Labels,
    /// Its state.
    pub lifecycle: Lifecycle,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, …
    pub kind: String,
    /// Path or volume on the host's side.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// The volume's name, if it is one.
    pub volume: Option<String>,
}

/// An inspected container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Full id.
    pub id: ContainerId,
    /// Name without the leading slash.
    pub name: String,
    /// The image as it was named when the container was made (`Config.Image`).
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Labels, with those of the image merged in by the engine.
    pub labels: Labels,
    /// Its state.
    pub lifecycle: Lifecycle,
    /// Exit code, once it has ended.
    pub exit_code: Option<i64>,
    /// Killed for want of memory.
    pub oom_killed: bool,
    /// The health check's verdict.
    pub health: Health,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// What is mounted.
    pub mounts: Vec<Mount>,
    /// Whether the engine removes it on exit (`--rm`).
    pub auto_remove: bool,
    /// The engine's own document, as `docker inspect` prints it.
    pub document: serde_json::Value,
}
