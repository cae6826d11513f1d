//! The form in which results travel from a collector to the result service, written and read. Never touches a file
//! system or a network: it works on any reader and writer.
//!
//! `POST {service}/results?…` with the parameters of [`UploadQuery`], the header [`IDEMPOTENCY_KEY`], and as the body a
//! gzipped tar with the paths in [`layout`]: written by [`UploadWriter`], read by [`read`]. Small results may come
//! as JSON instead, see [`JsonResult`].

mod error;
mod gunzip;
mod headers;
mod json_form;
mod path;
mod query;
mod reader;
mod sparse;
mod writer;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    error::UploadError,
    json_form::{JsonResult, JsonTest, JsonTestSet},
    path::sanitised,
    query::{QueryError, UploadQuery},
    reader::{Entry, EntryKind, UploadLimits, UploadSummary, Visit, read},
    writer::{Appended, FileMetadata, UploadWriter},
};
use crate::{RunId, State};

/// The header whose value makes a repeated upload the same upload.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that carries the API key for those who cannot send `Authorization: Bearer`.
pub const API_KEY: &str = "x-api-key";
/// The media type of a gzipped tar.
pub const GZIP: &str = "application/gzip";
/// The media type of the JSON form.
pub const JSON: &str = "application/json";

/// Where things are in the tar.
pub mod layout {
    /// The engine's inspect document of the container.
    pub const INSPECT: &str = "container_info/inspect.json";
    /// Which engine it ran on, see [`super::EngineInfo`].
    pub const ENGINE: &str = "container_info/engine.json";
    /// What the container wrote to its standard output.
    pub const STDOUT: &str = "console_output/stdout.log";
    /// What the container wrote to its standard error.
    pub const STDERR: &str = "console_output/stderr.log";
    /// The folder of its results.
    pub const RESULTS: &str = "results/";
}

/// Which engine a container ran on: [`layout::ENGINE`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineInfo {
    /// Identifies the engine.
    pub id: String,
    /// The host's name.
    pub name: String,
    /// The engine's version.
    pub server_version: String,
    /// The version of its API.
    pub api_version: String,
    /// The host's operating system.
    pub operating_system: String,
    /// The host's kernel.
    pub kernel_version: String,
}

/// What the service answers when it has stored an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The stored run.
    pub id: RunId,
    /// How it ended.
    pub state: State,
    /// Its page, relative to the service.
    pub url: String,
}

/// The idempotency key of the results that a container left when it finished at this time.
pub fn container_key(container: &str, finished_at: Timestamp) -> String {
    format!("container/{container}/{}", finished_at.as_nanosecond())
}

/// The idempotency key of one version of a file.
pub fn file_key(host: &str, path: &str, version: &str) -> String {
    // A header's value has visible ASCII only.
    let mut key = format!("file/{host}/{path}/{version}");
    if !key.bytes().all(|b| b.is_ascii_graphic()) {
        let escape = |b: u8| {
            if b.is_ascii_graphic() && b != b'%' { char::from(b).to_string() } else { format!("%{b:02X}") }
        };
        key = key.bytes().map(escape).collect();
    }
    key
}

/// Reads a time as RFC 3339. The zero time of Go, with which Docker says «never», is `None`. A plus sign that a form
/// decoder took for a space is restored.
pub fn parse_time(text: &str) -> Result<Option<Timestamp>, jiff::Error> {
    let text = text.trim();
    if text.is_empty() || text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    match text.rsplit_once(' ') {
        Some((time, zone)) if time.contains('T') => format!("{time}+{zone}").parse().map(Some),
        _ => text.parse().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_docker_and_forms_write_them() {
        let at = |text: &str| parse_time(text).unwrap().map(|time| time.to_string());
        assert_eq!(at("2026-05-01T10:00:00.123456789Z").as_deref(), Some("2026-05-01T10:00:00.123456789Z"));
        assert_eq!(at("2026-05-01T12:00:00+02:00").as_deref(), Some("2026-05-01T10:00:00Z"));
        assert_eq!(at("2026-05-01T12:00:00 02:00").as_deref(), Some("2026-05-01T10:00:00Z"));
        assert_eq!(at("2026-05-01 10:00:00Z").as_deref(), Some("2026-05-01T10:00:00Z"));
        assert_eq!(at("0001-01-01T00:00:00Z"), None);
        assert_eq!(at(" "), None);
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn keys_fit_into_a_header() {
        let at = "2026-05-01T10:00:00.000000001Z".parse().unwrap();
        assert_eq!(container_key("4f1c", at), "container/4f1c/1777629600000000001");
        assert_eq!(file_key("h", "a/b.xml", "7"), "file/h/a/b.xml/7");
        assert_eq!(file_key("h", "é%\n", "7"), "file/h/%C3%A9%25%0A/7");
    }
}
