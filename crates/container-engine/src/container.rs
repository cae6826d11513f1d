//! Containers as the rest of the house sees them.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// When it last started. The engine writes this down after the fact: for a run of a few milliseconds it can
    /// be later than [`Self::finished_at`]; see [`Self::ran_for`].
    pub started_at: Option<Timestamp>,
    /// When it last ended; while it runs again, the end of the run before.
    pub finished_at: Option<Timestamp>,
    /// What is mounted.
    pub mounts: Vec<Mount>,
    /// Whether the engine removes it on exit (`--rm`).
    pub auto_remove: bool,
    /// The engine's own document, as `docker inspect` prints it.
    pub document: Value,
}

/// A row of `GET /containers/json`, with what is read of it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SummaryRow {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
    #[serde(rename = "ImageID", default)]
    image_id: String,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    created: i64,
}

impl From<SummaryRow> for ContainerSummary {
    fn from(row: SummaryRow) -> Self {
        Self {
            name: own_name(&row.names.unwrap_or_default()),
            id: ContainerId(row.id),
            image: row.image,
            image_id: row.image_id,
            labels: row.labels.unwrap_or_default(),
            lifecycle: Lifecycle::of_status(&row.state),
            created_at: Timestamp::from_second(row.created).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

/// A listing also gives the names by which other containers link to this one: `/web/db`.
fn own_name(names: &[String]) -> String {
    let bare = names.iter().map(|name| name.trim_start_matches('/'));
    bare.clone().find(|name| !name.contains('/')).or(bare.clone().next()).unwrap_or_default().to_owned()
}

impl Lifecycle {
    /// The engine's word for a state, Podman's included.
    fn of_status(status: &str) -> Self {
        match status {
            "created" | "configured" | "initialized" => Self::Created,
            "running" | "paused" | "restarting" | "stopping" => Self::Running,
            "exited" | "stopped" => Self::Exited,
            _ => Self::Gone,
        }
    }
}

impl Container {
    /// Reads the engine's document; `None` when it is not one of a container.
    pub(crate) fn from_document(document: Value) -> Option<Self> {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let time = |pointer: &str| text(pointer).parse::<Timestamp>().ok().filter(|at| at.as_second() > 0);
        let flag = |pointer: &str| document.pointer(pointer).and_then(Value::as_bool).unwrap_or_default();
        let id = document.get("Id")?.as_str()?.to_owned();
        let lifecycle = Lifecycle::of_status(text("/State/Status"));
        let has_ended = matches!(lifecycle, Lifecycle::Exited | Lifecycle::Gone);
        let mounts = document.get("Mounts").and_then(Value::as_array);
        Some(Self {
            id: ContainerId(id),
            name: text("/Name").trim_start_matches('/').to_owned(),
            image: text("/Config/Image").to_owned(),
            image_id: text("/Image").to_owned(),
            labels: labels_at(&document, "/Config/Labels"),
            lifecycle,
            exit_code: document.pointer("/State/ExitCode").and_then(Value::as_i64).filter(|_| has_ended),
            oom_killed: flag("/State/OOMKilled"),
            health: match text("/State/Health/Status") {
                "starting" => Health::Starting,
                "healthy" => Health::Healthy,
                "unhealthy" => Health::Unhealthy,
                _ => Health::None,
            },
            created_at: time("/Created").unwrap_or(Timestamp::UNIX_EPOCH),
            started_at: time("/State/StartedAt"),
            finished_at: time("/State/FinishedAt"),
            mounts: mounts.into_iter().flatten().map(Mount::from_document).collect(),
            auto_remove: flag("/HostConfig/AutoRemove"),
            document,
        })
    }

    /// How long the last run took, once it has ended; never less than nothing.
    pub fn ran_for(&self) -> Option<Duration> {
        self.exit_code?;
        let took = self.finished_at?.duration_since(self.started_at?);
        Some(Duration::try_from(took).unwrap_or_default())
    }

    /// Whether its console is a terminal: then standard output and error are one.
    pub(crate) fn has_terminal(&self) -> bool {
        self.document.pointer("/Config/Tty").and_then(Value::as_bool).unwrap_or_default()
    }
}

impl Mount {
    fn from_document(document: &Value) -> Self {
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            kind: text("Type"),
            source: text("Source"),
            destination: text("Destination"),
            volume: Some(text("Name")).filter(|name| !name.is_empty()),
        }
    }
}

/// The labels at a place of a document; `null` where there are none.
pub(crate) fn labels_at(document: &Value, pointer: &str) -> Labels {
    let labels = document.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_a_container_that_has_ended() {
        let container = Container::from_document(json!({
            "Id": "4f5e", "Name": "/t1", "Created": "2024-05-01T10:00:00.5Z", "Image": "sha256:ab",
            "State": { "Status": "exited", "ExitCode": 3, "OOMKilled": true,
                "StartedAt": "2024-05-01T10:00:01Z", "FinishedAt": "2024-05-01T12:00:02+02:00" },
            "Config": { "Image": "shop-test:1", "Labels": { "tugbot.test": "" } },
            "HostConfig": { "AutoRemove": false },
            "Mounts": [{ "Type": "volume", "Name": "data", "Source": "/var/x", "Destination": "/data" }],
        }))
        .unwrap();
        assert_eq!((container.name.as_str(), container.image.as_str()), ("t1", "shop-test:1"));
        assert_eq!((container.lifecycle, container.exit_code), (Lifecycle::Exited, Some(3)));
        assert_eq!(container.finished_at.unwrap().to_string(), "2024-05-01T10:00:02Z");
        assert_eq!(container.ran_for(), Some(Duration::from_secs(1)));
        assert_eq!(container.mounts[0].volume.as_deref(), Some("data"));
        assert!(container.oom_killed && !container.auto_remove);
    }

    #[test]
    fn a_run_that_ended_before_the_engine_wrote_down_its_start_took_no_time() {
        let container = Container::from_document(json!({
            "Id": "4f5e",
            "State": { "Status": "exited", "ExitCode": 0,
                "StartedAt": "2024-05-01T10:00:00.020Z", "FinishedAt": "2024-05-01T10:00:00.010Z" },
        }));
        assert_eq!(container.unwrap().ran_for(), Some(Duration::ZERO));
    }

    #[test]
    fn a_container_that_never_ran_has_no_exit_code_and_no_times() {
        let container = Container::from_document(json!({
            "Id": "4f5e", "Name": "/t1",
            "State": { "Status": "created", "ExitCode": 0,
                "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z" },
            "Config": { "Labels": null },
        }))
        .unwrap();
        assert_eq!((container.lifecycle, container.exit_code), (Lifecycle::Created, None));
        assert_eq!((container.started_at, container.finished_at), (None, None));
        assert_eq!(container.ran_for(), None);
        assert!(Container::from_document(json!({ "message": "no" })).is_none());
    }

    #[test]
    fn a_links_name_is_not_the_containers_own() {
        let names = |names: &[&str]| own_name(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["/web/db", "/shop-db"]), "shop-db");
        assert_eq!(names(&["/shop-db"]), "shop-db");
        assert_eq!(names(&[]), "");
    }
}
